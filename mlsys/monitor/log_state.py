"""The state of a log between runs of the monitor, so that each row is read once.

::

    <store>/monitor/<name>/log/<key>/
      state.json              rows that were read, counts of what was left out, and the names of the two below
      windows-<id>.json.gz    statistics of every window so far
      rows-<id>.parquet       index of the rows, a file for the new rows of each run

``state.json`` is replaced as a whole when all else is on disk: a run that is killed has read nothing. The state is a
cache: without it, or where it cannot be read, all that the log holds is read again. Its key is the digest of all that
its content depends on: bundle, windows, slices and code.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlsys import locks
from mlsys.deploy.prediction_log import RowSpans
from mlsys.monitor.log_rows import IDENTITY, REASON, LogRows
from mlsys.monitor.log_scan import LogScan, index_types
from mlsys.monitor.windows import Window, WindowKey
from mlsys.statistics.arrays import UInt64
from mlsys.store import write_atomic, write_json

MAX_PARTS, PART_ROWS = 24, 1_000_000
"""Files of the index from which on small ones are put together, and the rows of a file that is left as it is."""

MAX_STATES = 8
"""States of one model that are kept; what an older one knew is read again."""

EXAMPLES = 20
"""Rows of each reason that are shown."""


@dataclass
class LogState:
    """Windows, and an index of the rows, of all that was read of a log for one bundle.

    Attributes
    ----------
    folder
        Where it is kept; None keeps it in memory.
    types
        Columns of the index with their types.
    seen
        Rows of the log that were read.
    num_rows, num_duplicates
        Rows in windows, and repeats of the same prediction.
    rejected
        Reason → rows that cannot be judged; `examples` has some of them.
    others, other_types, misread
        As in `LogRows`, of all that was read.
    faults
        Files that were passed over now, with the reason.
    num_new
        Rows that this run read.
    frames
        Parts of the index that are in memory alone.
    """

    folder: Path | None = None
    types: dict[str, Any] = field(default_factory=lambda: index_types(0))
    windows: dict[WindowKey, Window] = field(default_factory=dict)
    seen: RowSpans = field(default_factory=RowSpans)
    num_rows: int = 0
    num_duplicates: int = 0
    num_new: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    other_types: dict[str, str] = field(default_factory=dict)
    misread: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)
    frames: list[pl.DataFrame] = field(default_factory=list)
    _other_keys: UInt64 = field(default_factory=lambda: np.empty(0, np.uint64))

    def take(self, log: LogRows, scan: LogScan) -> None:
        """Read what is new in the log, count each prediction once, and keep the result."""
        log.seen = self.seen
        known = _SeenIdentities([frame[IDENTITY].to_numpy() for frame in self.index([IDENTITY])])
        new: list[pl.DataFrame] = []
        for batch in log.batches():
            fresh = batch.filter(known.first(batch))
            self.num_duplicates += batch.height - fresh.height
            new.append(scan.add(fresh))
        for key, window in scan.windows.items():
            if key in self.windows:
                self.windows[key].merge(window)
            else:
                self.windows[key] = window
        self._count(log, pl.concat(new, how="vertical_relaxed") if new else None)
        is_new = bool(new or log.others)
        if self.folder is None or not is_new:
            self.frames += new
        else:
            self._save(pl.concat(new, how="vertical_relaxed") if new else None)

    def _count(self, log: LogRows, rows: pl.DataFrame | None) -> None:
        self.faults = log.faults
        self.others.update(log.others)
        self.other_types |= log.other_types
        self.misread.update(log.misread)
        self._other_keys = np.unique(np.concatenate([self._other_keys, *log.other_keys]))
        if rows is None:
            return
        left_out = rows.filter(pl.col(REASON).is_not_null())
        self.num_new = rows.height
        self.num_rows += rows.height - left_out.height
        for reason, part in left_out.group_by(REASON):
            self.rejected[str(reason[0])] += part.height
        shown = left_out.group_by(REASON, maintain_order=True).head(EXAMPLES)
        columns = shown.select("prediction_id", pl.col("event_at", "logged_at").cast(pl.String), reason=REASON)
        counted = Counter(example["reason"] for example in self.examples)
        self.examples += [row for row in columns.to_dicts() if counted[row["reason"]] < EXAMPLES]

    @property
    def _home(self) -> Path:
        return self.folder or Path()

    def index(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of the index, file by file."""
        for name in self._parts:
            yield pl.read_parquet(self._home / name, columns=list(columns))
        yield from (frame.select(columns) for frame in self.frames)

    def is_of_others(self, keys: UInt64) -> NDArray[np.bool_]:
        """Mark hashes of ids that a row of another bundle has."""
        return np.isin(keys, self._other_keys)

    def _save(self, rows: pl.DataFrame | None) -> None:
        """Write the new index rows and all windows, then the state that names them; then remove what none names."""
        if rows is not None:
            self._parts.append(self._write_rows(rows))
        if len(self._parts) > MAX_PARTS:
            self._merge_parts()
        windows, others = f"windows-{uuid.uuid4().hex}.json.gz", f"others-{uuid.uuid4().hex}.npy"
        text = json.dumps([window.to_json() for window in self.windows.values()])
        write_atomic(self._home / windows, gzip.compress(text.encode(), 1, mtime=0))
        keys = io.BytesIO()
        np.save(keys, self._other_keys)
        write_atomic(self._home / others, keys.getvalue())
        named = {"windows": windows, "others": others, "rows": self._parts}
        write_json(self._home / "state.json", {"files": named, **self._counts()})
        for path in self._home.iterdir():
            if path.name not in {"state.json", ".lock", windows, others, *self._parts}:
                path.unlink(missing_ok=True)

    def _counts(self) -> dict[str, Any]:
        return {
            "seen": self.seen.to_json(),
            "num_rows": self.num_rows,
            "num_duplicates": self.num_duplicates,
            "rejected": dict(self.rejected),
            "examples": self.examples,
            "others": dict(self.others),
            "other_types": self.other_types,
            "misread": dict(self.misread),
        }

    def _write_rows(self, rows: pl.DataFrame) -> str:
        name, sink = f"rows-{uuid.uuid4().hex}.parquet", io.BytesIO()
        rows.write_parquet(sink)
        write_atomic(self._home / name, sink.getvalue())
        return name

    def _merge_parts(self) -> None:
        """Put small files of the index together; the old ones go when the state no longer names them."""
        heights = {name: pl.scan_parquet(self._home / name).select(pl.len()).collect().item() for name in self._parts}
        small = [name for name, height in heights.items() if height < PART_ROWS]
        merged = pl.concat([pl.read_parquet(self._home / name) for name in small], how="vertical_relaxed")
        self._parts = [name for name in self._parts if name not in small] + [self._write_rows(merged)]


class _SeenIdentities:
    """Identities so far, in sorted runs; runs of similar length are merged, so that there are few."""

    def __init__(self, runs: Sequence[UInt64]) -> None:
        self.runs: list[UInt64] = []
        for run in runs:
            self._add(np.unique(run))

    def first(self, rows: pl.DataFrame) -> pl.Series:
        """Mark the rows whose identity did not occur before; rows without an id always count."""
        hashes = rows[IDENTITY].to_numpy()
        fresh = rows[IDENTITY].is_first_distinct().to_numpy().copy()
        for run in self.runs:
            position = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            fresh &= run[position] != hashes
        null = rows["prediction_id"].is_null().to_numpy()
        self._add(np.sort(hashes[fresh & ~null]))
        return pl.Series(fresh | null, dtype=pl.Boolean)

    def _add(self, run: UInt64) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) <= 2 * len(self.runs[-1]):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([before, last])))


def prune(folder: Path) -> None:
    """Remove the states beside this one that were not changed for longest: of other bundles, windows or code."""
    states = sorted(folder.parent.glob("*/state.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for state in states[MAX_STATES:]:
        with locks.hold_if_free(state.parent / ".lock", "removing an old state") as is_free:
            if is_free:
                shutil.rmtree(state.parent, ignore_errors=True)


@contextlib.contextmanager
def opened(folder: Path | None, num_slices: int, *, has_groups: bool = False) -> Iterator[LogState]:
    """Open the state in a folder, for one process at a time; an empty one where there is none that can be read."""
    types = index_types(num_slices, has_groups=has_groups)
    if folder is None:
        yield LogState(None, types)
        return
    with locks.hold(folder / ".lock", "reading the prediction log"):
        yield _loaded(folder, types)
        prune(folder)


def _loaded(folder: Path, types: dict[str, Any]) -> LogState:
    """Read the state in a folder; what is damaged is as if it were not there."""
    try:
        value = json.loads((folder / "state.json").read_bytes())
        names: Mapping[str, Any] = value["files"]
        stored = json.loads(gzip.decompress((folder / names["windows"]).read_bytes()))
        windows = [Window.from_json(window) for window in stored]
        others = np.load(folder / names["others"], allow_pickle=False)
        for name in names["rows"]:
            pl.read_parquet_schema(folder / name)
        state = LogState(folder, types, {window.key: window for window in windows})
        state.seen, state.examples = RowSpans.from_json(value["seen"]), list(value["examples"])
        state.num_rows, state.num_duplicates = int(value["num_rows"]), int(value["num_duplicates"])
        state.rejected, state.others, state.misread = (
            Counter(value[name]) for name in ("rejected", "others", "misread")
        )
        state.other_types = dict(value["other_types"])
        state._parts, state._other_keys = list(names["rows"]), others  # noqa: SLF001  (a constructor of its module)
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, pl.exceptions.PolarsError):
        return LogState(folder, types)
    return state

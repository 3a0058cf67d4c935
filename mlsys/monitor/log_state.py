"""The state of a log between runs of the monitor, so that each row is read once.

::

    <store>/monitor/<name>/log/<key>/
      state.json              rows that were read, counts of what was left out, and the names of all below
      windows-<id>.json.gz    statistics of a window and its slices, written again where rows came
      results.jsonl           what was computed from single windows (`mlsys.monitor.window_results`)
      profile.parquet         tables of the last run (`mlsys.monitor.stored_tables`), as drift.parquet
      rows-<id>.parquet       index of the rows, a file for the new rows of each run
      identities-<id>.npy     hashes of the rows' identities (`mlsys.monitor.seen_identities`)

``state.json`` is replaced as a whole when all else is on disk: a run that is killed has read nothing. The state is a
cache: without it, or where it cannot be read, all that the log holds is read again. Its key is the digest of all that
its content depends on: bundle, windows, slices, columns that the index keeps, and code. What a run reads and writes
goes with the rows that are new and the windows that they are in; of the other windows it reads the statistics only if
something has to be computed from them again (`mlsys.monitor.window_files`).
"""

from __future__ import annotations

import contextlib
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
from mlsys.limits import EPOCH
from mlsys.monitor import stored_tables, window_results
from mlsys.monitor.log_rows import IDENTITY, REASON, LogRows
from mlsys.monitor.log_scan import BLOCK, NO_COLUMNS, START, IndexedColumns, LogScan, index_types
from mlsys.monitor.seen_identities import SeenIdentities
from mlsys.monitor.window_files import WindowFile
from mlsys.monitor.windows import Calendar, Window, WindowKey
from mlsys.statistics.arrays import UInt64
from mlsys.store import digest_json, write_atomic, write_json

MAX_PARTS, PART_ROWS = 24, 1_000_000
"""Small files of the index beyond which they are put together, and the rows of a file that is left as it is."""

MAX_STATES = 8
"""States of one model that are kept; what an older one knew is read again."""

EXAMPLES = 20
"""Rows of each reason that are shown."""

DIGEST = "digest"
"""Key of ``state.json`` with the digest of the rest."""


@dataclass
class LogState:
    """Windows, and an index of the rows, of all that was read of a log for one bundle.

    Attributes
    ----------
    calendar
        Windows in which the index places its rows when it is read; None where they are those that it was written with.
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
    files_read
        Files of the log whose rows were all read: they are not opened again.
    faults
        Files that were passed over now, with the reason.
    touched
        Keys of the windows that rows came into now.
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
    files_read: set[str] = field(default_factory=set)
    touched: set[WindowKey] = field(default_factory=set)
    frames: list[pl.DataFrame] = field(default_factory=list)
    calendar: Calendar | None = None
    _parts: list[str] = field(default_factory=list)
    _window_files: dict[str, str] = field(default_factory=dict)
    _identity_files: list[str] = field(default_factory=list)
    _other_keys: UInt64 = field(default_factory=lambda: np.empty(0, np.uint64))

    def take(self, log: LogRows, scan: LogScan) -> None:
        """Read what is new in the log, count each prediction once, and keep the result."""
        log.seen, log.files_read = self.seen, self.files_read
        in_memory = [frame[IDENTITY].to_numpy() for frame in self.frames]
        known = SeenIdentities(self.folder, self._identity_files, in_memory)
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
        self.touched = set(scan.windows)
        self._count(log, pl.concat(new, how="vertical_relaxed") if new else None)
        is_new = bool(new or log.others)
        if self.folder is None or not is_new:
            self.frames += new
        else:
            self._save(pl.concat(new, how="vertical_relaxed") if new else None, known)

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
    def window_files(self) -> dict[str, str]:
        """Name of the file of each window, by its start: another one as soon as rows come into it."""
        return dict(self._window_files)

    @property
    def _home(self) -> Path:
        return self.folder or Path()

    def index(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of the index, file by file."""
        is_placed = self.calendar is not None and not {START, BLOCK}.isdisjoint(columns)
        needed = list(dict.fromkeys([*columns, *((START, "event_at") if is_placed else ())]))
        for name in self._parts:
            yield self._placed(pl.read_parquet(self._home / name, columns=needed)).select(columns)
        yield from (self._placed(frame.select(needed)).select(columns) for frame in self.frames)

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with windows and blocks of the calendar, if there is one; those without a window have none."""
        if self.calendar is None or START not in rows.columns:
            return rows
        has_window = pl.col(START).is_not_null()
        times = rows.select(pl.when(has_window).then("event_at").otherwise(pl.lit(EPOCH)).alias("event_at"))
        starts, block = self.calendar.place(times["event_at"].cast(pl.Datetime("us", "UTC")))
        placed = rows.with_columns(has_window.alias("__has_window"))
        placed = placed.with_columns(starts.alias(START), pl.Series(BLOCK, block, pl.Int16))
        return placed.with_columns(pl.when("__has_window").then(pl.col(name)).alias(name) for name in (START, BLOCK))

    def is_of_others(self, keys: UInt64) -> NDArray[np.bool_]:
        """Mark hashes of ids that a row of another bundle has."""
        return np.isin(keys, self._other_keys)

    def _save(self, rows: pl.DataFrame | None, identities: SeenIdentities) -> None:
        """Write what is new and the windows with new rows, then the state that names all; remove what none names."""
        if rows is not None:
            self._parts.append(self._write_rows(rows))
        self._merge_parts()
        others, keys = f"others-{uuid.uuid4().hex}.npy", io.BytesIO()
        np.save(keys, self._other_keys)
        write_atomic(self._home / others, keys.getvalue())
        self._identity_files = identities.save()
        self._write_windows()
        named = {
            "windows": self._named_windows(), "others": others, "rows": self._parts, "identities": self._identity_files
        }  # fmt: skip
        value = {"files": named, **self._counts()}
        write_json(self._home / "state.json", {**value, DIGEST: digest_json(value)}, indent=None)
        used = {"state.json", ".lock", *stored_tables.FILES, window_results.FILE, others}
        used |= {*self._parts, *self._identity_files, *self._window_files.values()}
        for path in self._home.iterdir():
            if path.name not in used:
                path.unlink(missing_ok=True)

    def _write_windows(self) -> None:
        """Write each window that rows came into, with its slices, into a file of its own."""
        starts = {start for start, _, _ in self.touched}
        for name_of_start, windows in self._by_start().items():
            if windows[0].start in starts:
                name = self._window_files[name_of_start] = WindowFile.write(self._home, windows)
                for window in windows:
                    window.stamp = name

    def _by_start(self) -> dict[str, list[Window]]:
        """Each window with its slices."""
        grouped: dict[str, list[Window]] = {}
        for window in self.windows.values():
            grouped.setdefault(window.start.isoformat(), []).append(window)
        return grouped

    def _named_windows(self) -> dict[str, list[Any]]:
        """Name of the file of each window, and the heads of all windows in it."""
        heads = {name: [window.head() for window in windows] for name, windows in self._by_start().items()}
        return {name: [self._window_files[name], some] for name, some in heads.items()}

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
            "files_read": sorted(self.files_read),
        }

    def _write_rows(self, rows: pl.DataFrame) -> str:
        name, sink = f"rows-{uuid.uuid4().hex}.parquet", io.BytesIO()
        rows.write_parquet(sink)
        write_atomic(self._home / name, sink.getvalue())
        return name

    def _merge_parts(self) -> None:
        """Put small files of the index together, once they are many or make a whole one.

        The old ones go when the state no longer names them.
        """
        heights = {name: pl.scan_parquet(self._home / name).select(pl.len()).collect().item() for name in self._parts}
        small = [name for name, height in heights.items() if height < PART_ROWS]
        if len(small) < 2 or (len(small) <= MAX_PARTS and sum(heights[name] for name in small) < PART_ROWS):
            return
        merged = pl.concat([pl.read_parquet(self._home / name) for name in small], how="vertical_relaxed")
        self._parts = [name for name in self._parts if name not in small] + [self._write_rows(merged)]


def prune(folder: Path) -> None:
    """Remove the states beside this one that were not changed for longest: of other bundles, windows or code."""
    states = sorted(folder.parent.glob("*/state.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for state in states[MAX_STATES:]:
        with locks.hold_if_free(state.parent / ".lock", "removing an old state") as is_free:
            if is_free:
                shutil.rmtree(state.parent, ignore_errors=True)


@contextlib.contextmanager
def opened(
    folder: Path | None, num_slices: int, *, has_groups: bool = False, indexed: IndexedColumns = NO_COLUMNS
) -> Iterator[LogState]:
    """Open the state in a folder, for one process at a time; an empty one where there is none that can be read."""
    types = index_types(num_slices, has_groups=has_groups, indexed=indexed)
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
        if value.pop(DIGEST) != digest_json(value):
            return LogState(folder, types)
        names: Mapping[str, Any] = value["files"]
        stored = names["windows"]
        windows = [each for name, heads in stored.values() for each in WindowFile(folder / name).windows(heads)]
        others = np.load(folder / names["others"], allow_pickle=False)
        for name in names["rows"]:
            pl.read_parquet_schema(folder / name)
        for name in names["identities"]:
            np.load(folder / name, mmap_mode="r", allow_pickle=False)
        state = LogState(folder, types, {window.key: window for window in windows})
        state.seen, state.examples = RowSpans.from_json(value["seen"]), list(value["examples"])
        state.num_rows, state.num_duplicates = int(value["num_rows"]), int(value["num_duplicates"])
        state.rejected, state.others, state.misread = (
            Counter(value[name]) for name in ("rejected", "others", "misread")
        )
        state.other_types = dict(value["other_types"])
        state.files_read = set(value["files_read"])
        state._parts, state._other_keys = list(names["rows"]), others  # noqa: SLF001  (a constructor of its module)
        state._window_files = {start: name for start, (name, _) in stored.items()}  # noqa: SLF001
        state._identity_files = list(names["identities"])  # noqa: SLF001
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, pl.exceptions.PolarsError):
        return LogState(folder, types)
    return state

"""One pass over the prediction log: statistics, counts and labelled rows of every window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors, expressions
from mlsys.deploy.prediction_log import OWN, logged_name
from mlsys.monitor.labels import KNOWN_AT, LABEL, UNKNOWN, VOID, Labels, class_codes
from mlsys.monitor.reference import PREDICTION, SCORE, ReferenceRows
from mlsys.monitor.windows import Calendar, Window
from mlsys.schema import Schema, Task
from mlsys.statistics import TableStatistics

BATCH_ROWS, BATCH_BYTES = 100_000, 1 << 28
"""Small files are read together up to these limits: an update of statistics has a fixed cost, pictures are large."""


def files_of(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """List the Parquet files of a path, or of several, folders with everything below them; sorted.

    Raises
    ------
    SourceError
        A path does not exist.
    """
    files: set[Path] = set()
    for path in map(Path, [source] if isinstance(source, str | Path) else source):
        if not path.exists():
            raise errors.SourceError.build(
                f"monitor: prediction log '{path}'", got="nothing there", expected="Parquet files or a folder of them",
                hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
            )  # fmt: skip
        files.update(path.rglob("*.parquet") if path.is_dir() else [path])
    return sorted(files)


class _SeenIds:
    """Hashes of the ids so far, in sorted runs; runs of similar length are merged, so that there are few."""

    def __init__(self) -> None:
        self.runs: list[NDArray[np.uint64]] = []

    def first(self, ids: pl.Series) -> pl.Series:
        """Mark the ids that did not occur before; null ids always count."""
        hashes = ids.hash(seed=0).to_numpy()
        fresh = ids.is_first_distinct().to_numpy().copy()
        for run in self.runs:
            position = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            fresh &= run[position] != hashes
        null = ids.is_null().to_numpy()
        self._add(np.sort(hashes[fresh & ~null]))
        return pl.Series(fresh | null)

    def _add(self, run: NDArray[np.uint64]) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) <= 2 * len(self.runs[-1]):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([before, last])))


@dataclass
class LoggedFiles:
    """Rows of the log that one bundle answered, read in batches.

    `num_rows` counts those so far. Left out were `num_duplicates` that repeat a prediction_id (a
    client's retry), `num_other` that another bundle answered, and `num_without_time`.
    """

    files: Sequence[Path]
    schema: Schema
    bundle: str
    num_rows: int = 0
    num_duplicates: int = 0
    num_other: int = 0
    num_without_time: int = 0
    _seen: _SeenIds = field(default_factory=_SeenIds)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the rows in the order of the files; ``event_at`` falls back to ``logged_at``.

        Raises
        ------
        StoreError
            A file is damaged or is no prediction log.
        """
        frames: list[pl.DataFrame] = []
        for file in self.files:
            frames.append(self._own(self._read(file)))
            num_rows, size = sum(f.height for f in frames), sum(f.estimated_size() for f in frames)
            if num_rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pl.concat(frames, how="vertical_relaxed")
                frames = []
        if any(frame.height for frame in frames):
            yield pl.concat(frames, how="vertical_relaxed")

    def _read(self, file: Path) -> pl.DataFrame:
        try:
            table = pq.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            raise errors.StoreError.build(
                f"monitor: prediction log '{file}'", got=str(error).splitlines()[0], expected="a Parquet file",
                hint="move the file away and run again; its rows are lost to the monitor",
            ) from error  # fmt: skip
        missing = sorted({"prediction_id", "logged_at", "bundle", "prediction", "score"} - set(table.column_names))
        if missing:
            raise errors.StoreError.build(
                f"monitor: prediction log '{file}'", got=f"no column {', '.join(missing)}",
                expected="the columns that the endpoint logs", hint="give the folder of the endpoint's own log",
            )  # fmt: skip
        return _completed(table, self.schema)

    def _own(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of this bundle, each prediction_id once, each with a time; count the others."""
        own = frame.filter(pl.col("bundle") == self.bundle)
        self.num_other += frame.height - own.height
        first = own.filter(self._seen.first(own["prediction_id"]))
        self.num_duplicates += own.height - first.height
        timed = first.with_columns(pl.coalesce("event_at", "logged_at").alias("event_at"))
        complete = timed.filter(pl.col("event_at").is_not_null())
        self.num_without_time += timed.height - complete.height
        self.num_rows += complete.height
        return complete


def _completed(table: pa.Table, schema: Schema) -> pl.DataFrame:
    """The log's own columns and the features, cast to their types; missing columns are null."""
    own = {name: kind for name, kind in OWN.items() if kind is not None}
    types = {**own, **{logged_name(field.name): field.type for field in schema.arrow()}}
    arrays = {"prediction": table["prediction"]}
    for name, kind in types.items():
        present = name in table.column_names
        arrays[name] = table[name].cast(kind, safe=False) if present else pa.nulls(table.num_rows, kind)
    return cast("pl.DataFrame", pl.from_arrow(pa.table(arrays)))


MAX_SLICE_VALUES = 20
"""Values of a slicing column that get windows of their own: the most frequent of the reference."""


@dataclass(frozen=True)
class LogScan:
    """Windows and slices of a log, each in order of time.

    Attributes
    ----------
    delays
        Seconds from event to label, of rows whose labels say when they became known.
    """

    windows: list[Window]
    slices: list[Window]
    delays: NDArray[np.float64]


def read(
    log: LoggedFiles, reference: ReferenceRows, calendar: Calendar, labels: Labels | None, slices: Sequence[str]
) -> LogScan:
    """Read the log once; memory holds the statistics of each window, and the output of labelled rows."""
    windows: dict[tuple[dt.datetime, str | None, str | None], Window] = {}
    delays: list[NDArray[np.float64]] = []

    def window(start: dt.datetime, key: str | None, value: str | None) -> Window:
        if (start, key, value) not in windows:
            statistics = TableStatistics.empty(reference.schema, reference.task)
            windows[start, key, value] = Window(
                start, calendar.end(start), calendar.label(start), statistics, key, value
            )
        return windows[start, key, value]

    for frame in map(reference.measured, log.batches()):
        labelled = labels.join(frame) if labels is not None else _unlabelled(frame)
        known = labelled.filter(pl.col(KNOWN_AT).is_not_null())
        delays.append((known[KNOWN_AT] - known["event_at"]).dt.total_microseconds().to_numpy() / 1e6)
        starts, block = calendar.place(labelled["event_at"])
        placed = labelled.with_columns(starts.alias("__start"), pl.Series("__block", block))
        for (start,), rows in placed.group_by("__start", maintain_order=True):
            for key, value, part in [(None, None, rows), *_sliced(rows, reference, slices)]:
                _fill(window(cast("dt.datetime", start), key, value), part, reference, calendar)
    ordered = sorted(windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
    whole = [w for w in ordered if w.slice_key is None]
    if whole:  # the first and the last window are partial unless the log reaches their ends
        first, last = whole[0], whole[-1]
        first.partial = min(first.blocks_seen) > 0
        last.partial |= max(last.blocks_seen) < calendar.num_blocks(last.start) - 1
    return LogScan(whole, [w for w in ordered if w.slice_key is not None], np.concatenate([np.empty(0), *delays]))


def _fill(window: Window, rows: pl.DataFrame, reference: ReferenceRows, calendar: Calendar) -> None:
    block = rows["__block"].to_numpy()
    task = reference.task
    truth = rows[LABEL].to_numpy().astype(np.float64)
    window.unknown_labels += int((truth == UNKNOWN).sum())
    window.num_void += int(rows[VOID].sum())
    window.num_unseen += int(rows["unseen"].sum())
    window.num_rare += int(rows["rare"].sum())
    known = np.isfinite(truth) & (truth != UNKNOWN)
    window.num_resolved += int(known.sum())
    table = _typed(rows, reference, truth, known)
    counted = {name: bins for name, bins in reference.bins.items() if name != task.target}
    window.update(table, counted, block, calendar.max_blocks)
    if known.any():
        window.labelled.y.append(truth[known])
        window.labelled.output.append(_output(rows, task)[known])
        window.labelled.block.append(block[known])


def _typed(
    rows: pl.DataFrame, reference: ReferenceRows, truth: NDArray[np.float64], known: NDArray[np.bool_]
) -> pa.Table:
    """The rows in the types of the statistics: classes as values, the label under the target's name."""
    task = reference.task
    table = rows.select(*[name for name in reference.schema.names if name != PREDICTION], "model_version").to_arrow()
    if task.is_classification:
        prediction = _values(class_codes(rows[PREDICTION], task), task.class_names)
    else:
        prediction = rows[PREDICTION].cast(pl.Float64).to_arrow()
    table = table.append_column(PREDICTION, prediction)
    if not known.any() or task.target in table.column_names:
        return table
    if not task.is_classification:
        return table.append_column(task.target, pa.array(truth, mask=~known))
    return table.append_column(task.target, _values(np.where(known, truth, np.nan), task.classes))


def _values(codes: NDArray[np.float64], names: Sequence[Any]) -> pa.Array:
    index = pa.array(np.where(codes >= 0, codes, 0).astype(np.int64), mask=~(codes >= 0))
    return pa.array(list(names)).take(index)


def _output(rows: pl.DataFrame, task: Task) -> NDArray[np.float64]:
    """The model's output: probabilities of shape (n, classes), or values (n,)."""
    if not task.is_classification:
        return rows[SCORE].to_numpy().astype(np.float64)
    return rows["probabilities"].cast(pl.Array(pl.Float64, len(task.classes))).to_numpy().astype(np.float64)


def _unlabelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(None, pl.Float64).alias(LABEL),
        pl.lit(value=False).alias(VOID),
        pl.lit(None, pl.Datetime("us", "UTC")).alias(KNOWN_AT),
    )


def _sliced(
    rows: pl.DataFrame, reference: ReferenceRows, slices: Sequence[str]
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Rows of each value of a column, or of both outcomes of a condition."""
    for key in slices:
        if key in reference.bins:
            bins = reference.bins[key]
            index = bins.group[bins.index(rows[key].to_arrow())]
            num_values = len(bins.labels) if bins.ordered else len(bins.labels) - 2  # neither other nor null
            groups = range(min(num_values, MAX_SLICE_VALUES))
            parts: Mapping[str, NDArray[np.bool_]] = {bins.labels[group]: index == group for group in groups}
        else:
            holds = _condition(rows, key, reference)
            parts = {"true": holds, "false": ~holds}
        yield from ((key, value, rows.filter(pl.Series(mask))) for value, mask in parts.items() if mask.any())


def _condition(rows: pl.DataFrame, sql: str, reference: ReferenceRows) -> NDArray[np.bool_]:
    names = [name for name in reference.schema.names if name in rows.columns]
    table = rows.select(names).to_arrow()
    holds = expressions.add(table, {"__slice": sql}, where="recipe: monitor.slices")["__slice"]
    if not pa.types.is_boolean(holds.type):
        raise errors.RecipeError.build(
            f"recipe: monitor.slices '{sql}'", got=f"an expression of type {holds.type}",
            expected="a column, or a condition such as distance > 1000",
        )  # fmt: skip
    return np.asarray(holds.fill_null(False)).astype(np.bool_)

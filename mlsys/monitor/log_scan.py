"""The prediction log as it is on disk: Parquet files read one after another, each prediction once.

One pass over the prediction log: every window with its statistics, counts and labelled rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors, expressions
from mlsys.bundle import Bundle
from mlsys.deploy.prediction_log import OWN
from mlsys.monitor.labels import KNOWN_AT, LABEL, UNKNOWN, VOID, Labels, class_codes
from mlsys.monitor.reference_bins import ReferenceBins
from mlsys.monitor.windows import Calendar, Window
from mlsys.predict import class_names, image_measures
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.statistics import ColumnStatistics, TableStatistics

__all__ = ["PREDICTION", "SCORE", "LogScan", "LoggedFiles", "ReferenceRows", "files_of", "logged_name", "read"]

BATCH_ROWS, BATCH_BYTES = 100_000, 1 << 28
"""Small files are read together up to so much: the statistics cost a fixed time an update, and pictures are large."""

_OWN = {
    "prediction_id": pa.string(),
    "logged_at": pa.timestamp("us", "UTC"),
    "event_at": pa.timestamp("us", "UTC"),
    "model_version": pa.string(),
    "bundle": pa.string(),
    "score": pa.float64(),
    "probabilities": pa.list_(pa.float64()),
    "latency_ms": pa.float64(),
    "unseen": pa.int32(),
    "rare": pa.int32(),
}


def files_of(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Parquet files of a folder with everything below it, of one path or of a list; sorted.

    Raises
    ------
    SourceError
        A path does not exist.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise errors.SourceError.build(
                f"monitor: prediction log '{path}'", got="nothing there", expected="Parquet files or a folder of them",
                hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
            )  # fmt: skip
        found.update(path.rglob("*.parquet") if path.is_dir() else [path])
    return sorted(found)


class _Seen:
    """Hashes of the ids met so far, in sorted runs that are merged when they have grown alike."""

    def __init__(self) -> None:
        self.runs: list[NDArray[np.uint64]] = []

    def first(self, ids: pl.Series) -> pl.Series:
        """Which of these ids were not there before; an id that is null always counts."""
        hashes = ids.hash(seed=0).to_numpy()
        fresh = ids.is_first_distinct().to_numpy().copy()
        for run in self.runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            fresh &= run[at] != hashes
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
    """Rows that one bundle answered, read in batches.

    Attributes
    ----------
    num_rows, num_duplicates, num_other
        Rows read so far that count, that repeat a prediction_id (a client's retry) and that
        another bundle answered.
    """

    files: Sequence[Path]
    schema: Schema
    bundle: str
    num_rows: int = 0
    num_duplicates: int = 0
    num_other: int = 0
    num_without_time: int = 0
    _seen: _Seen = field(default_factory=_Seen)

    def batches(self) -> Iterator[pl.DataFrame]:
        """The rows, in the order of the files; ``event_at`` falls back to ``logged_at``.

        Raises
        ------
        StoreError
            A file is damaged or no prediction log.
        """
        held: list[pl.DataFrame] = []
        for file in self.files:
            held.append(self._own(self._read(file)))
            rows, size = (sum(found) for found in zip(*((f.height, f.estimated_size()) for f in held), strict=True))
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pl.concat(held, how="vertical_relaxed")
                held = []
        if any(frame.height for frame in held):
            yield pl.concat(held, how="vertical_relaxed")

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
        """Rows of this bundle, each prediction_id once, each with a time."""
        own = frame.filter(pl.col("bundle") == self.bundle)
        self.num_other += frame.height - own.height
        first = own.filter(self._seen.first(own["prediction_id"]))
        self.num_duplicates += own.height - first.height
        timed = first.with_columns(pl.coalesce("event_at", "logged_at").alias("event_at"))
        kept = timed.filter(pl.col("event_at").is_not_null())
        self.num_without_time += timed.height - kept.height
        self.num_rows += kept.height
        return kept


def logged_name(feature: str) -> str:
    """Name of a feature's column in the log, which keeps some names for itself."""
    return f"input.{feature}" if feature in OWN else feature


def _completed(table: pa.Table, schema: Schema) -> pl.DataFrame:
    """The log's own columns and the features in their types; a column that is missing is null."""
    types = {**_OWN, **{logged_name(field.name): field.type for field in schema.arrow()}}
    arrays = {"prediction": table["prediction"]}
    for name, kind in types.items():
        present = name in table.column_names
        arrays[name] = table[name].cast(kind, safe=False) if present else pa.nulls(table.num_rows, kind)
    return cast("pl.DataFrame", pl.from_arrow(pa.table(arrays)))


PREDICTION, SCORE = "prediction", "score"
"""Columns of the log that are judged beside the features."""

MAX_SLICE_VALUES = 20
"""Values of a slicing column that are followed, the most frequent of the reference."""


@dataclass(frozen=True)
class ReferenceRows:
    """What windows are compared with.

    Attributes
    ----------
    columns
        Column of the log → statistics of it in the reference; the target under its own name.
    bins
        The same columns cut into bins; without the target where a feature has its name.
    watched
        Columns whose drift is judged. Points in time are not: they move by nature.
    pictures
        Columns of the log whose pictures are measured (`mlsys.predict.image_measures`), a column a measure.
        Of their bytes only the lengths are kept.
    """

    task: Task
    schema: Schema
    columns: dict[str, ColumnStatistics]
    bins: dict[str, ReferenceBins]
    watched: tuple[str, ...]
    pictures: tuple[str, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle) -> ReferenceRows:
        """Of a bundle's training rows and of its predictions on rows that it was not fitted on."""
        task, inputs = bundle.task, bundle.reference.inputs
        features = [column for column in bundle.schema.features if column.name in inputs.columns]
        named = [column.model_copy(update={"name": logged_name(column.name)}) for column in features]
        columns = {new.name: inputs.columns[old.name] for new, old in zip(named, features, strict=True)}
        said = bundle.reference.predictions
        own = {name: said.columns[name] for name in (PREDICTION, SCORE) if said and name in said.columns}
        columns |= {**own, task.target: inputs.target}
        bins = {name: ReferenceBins.of(name, column) for name, column in columns.items()}
        seen = _looks(bundle, columns)
        columns |= seen
        bins |= {name: ReferenceBins.of(name, column).of_present() for name, column in seen.items()}
        pseudo = PREDICTION if task.kind is TaskKind.MULTICLASS else SCORE
        moving = {column.name for column in named if column.kind is Kind.DATETIME}
        watched = tuple(name for name in columns if name not in moving and name not in {PREDICTION, SCORE, task.target})
        watched += (pseudo,) if pseudo in own else ()
        pictures = tuple(column.name for column in named if column.kind is Kind.IMAGE)
        measures = [column for name in pictures for column in image_measures.columns(name) if column.name in seen]
        schema = Schema(columns=(*map(_as_bytes, named), *measures, *_prediction_columns(task)))
        return cls(task, schema, columns, bins, watched, pictures if seen else ())

    def measured(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with what their pictures look like beside them."""
        if not self.pictures:
            return rows
        found = image_measures.measured(rows.select(self.pictures).to_arrow(), self.pictures)
        wanted = [name for name in found.column_names if name in self.columns]
        return rows.hstack(cast("pl.DataFrame", pl.from_arrow(found.select(wanted))))


def _looks(bundle: Bundle, others: Container[str]) -> dict[str, ColumnStatistics]:
    """Measure of a picture, as the log's column is called → statistics of it; none of a name that is taken."""
    known = bundle.reference.looks.columns if bundle.reference.looks else {}
    return {
        new.name: known[old.name]
        for name in image_measures.pictures(bundle.schema)
        for old, new in zip(image_measures.columns(name), image_measures.columns(logged_name(name)), strict=True)
        if old.name in known and new.name not in others
    }


def _as_bytes(column: Column) -> Column:
    """A picture as its bytes: it is decoded once, to be measured."""
    return column.model_copy(update={"kind": Kind.BYTES}) if column.kind is Kind.IMAGE else column


def _prediction_columns(task: Task) -> tuple[Column, ...]:
    kind, name = (Kind.CATEGORICAL, "string") if task.is_classification else (Kind.NUMERIC, "double")
    return (Column(name=PREDICTION, type=name, kind=kind), Column(name=SCORE, type="double", kind=Kind.NUMERIC))


@dataclass
class LogScan:
    """What one pass found.

    Attributes
    ----------
    windows
        All rows of each window, in order of time.
    slices
        The same rows by the slices of the recipe.
    delays
        Seconds from event to label, of rows whose labels say when they came.
    """

    windows: list[Window] = field(default_factory=list)
    slices: list[Window] = field(default_factory=list)
    delays: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


Place = Callable[[dt.datetime, str | None, str | None], Window]


def read(
    log: LoggedFiles,
    reference: ReferenceRows,
    calendar: Calendar,
    labels: Labels | None,
    *,
    slices: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> LogScan:
    """Read the log once; memory holds the statistics of each window, and the score of labelled rows."""
    windows: dict[tuple[dt.datetime, str | None, str | None], Window] = {}
    delays: list[NDArray[np.float64]] = []

    def window(start: dt.datetime, key: str | None, value: str | None) -> Window:
        if (start, key, value) not in windows:
            statistics = TableStatistics.empty(reference.schema, reference.task)
            windows[start, key, value] = Window(start, calendar.end(start), statistics, key, value)
        return windows[start, key, value]

    for frame in map(reference.measured, log.batches()):
        labelled = labels.join(frame) if labels is not None else _unlabelled(frame)
        delays.append(_delays(labelled))
        _take(labelled, reference, calendar, slices, window)
        progress(f"{log.num_rows:,} predictions read")
    ordered = sorted(windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
    whole = [w for w in ordered if w.slice_key is None]
    _mark_partial(whole, calendar)
    return LogScan(whole, [w for w in ordered if w.slice_key is not None], np.concatenate([np.empty(0), *delays]))


def _take(
    frame: pl.DataFrame, reference: ReferenceRows, calendar: Calendar, slices: Sequence[str], window: Place
) -> None:
    starts, block = calendar.place(frame["event_at"])
    frame = frame.with_columns(starts.alias("__start"), pl.Series("__block", block))
    for (start,), rows in frame.group_by("__start", maintain_order=True):
        for key, value, part in [(None, None, rows), *_sliced(rows, reference, slices)]:
            _fill(window(cast("dt.datetime", start), key, value), part, reference, calendar)


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
        window.performance.y.append(truth[known])
        window.performance.output.append(_output(rows, task)[known])
        window.performance.block.append(block[known])


def _typed(
    rows: pl.DataFrame, reference: ReferenceRows, truth: NDArray[np.float64], known: NDArray[np.bool_]
) -> pa.Table:
    """The rows as the statistics take them: classes as values, the label under the target's name."""
    task = reference.task
    table = rows.select(*[name for name in reference.schema.names if name != PREDICTION], "model_version").to_arrow()
    if task.is_classification:
        said = _values(class_codes(rows[PREDICTION], task), class_names(task))
    else:
        said = rows[PREDICTION].cast(pl.Float64).to_arrow()
    table = table.append_column(PREDICTION, said)
    if not known.any() or task.target in table.column_names:
        return table
    if not task.is_classification:
        return table.append_column(task.target, pa.array(truth, mask=~known))
    return table.append_column(task.target, _values(np.where(known, truth, np.nan), task.classes))


def _values(codes: NDArray[np.float64], names: Sequence[Any]) -> pa.Array:
    classes = pa.array(list(names))
    index = pa.array(np.where(codes >= 0, codes, 0).astype(np.int64), mask=~(codes >= 0))
    return classes.take(index)


def _output(rows: pl.DataFrame, task: Task) -> NDArray[np.float64]:
    """What the model gave: probabilities (n, classes) or values (n,)."""
    if not task.is_classification:
        return rows[SCORE].to_numpy().astype(np.float64)
    width = len(task.classes)
    return rows["probabilities"].cast(pl.Array(pl.Float64, width)).to_numpy().astype(np.float64)


def _unlabelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(None, pl.Float64).alias(LABEL),
        pl.lit(value=False).alias(VOID),
        pl.lit(None, pl.Datetime("us", "UTC")).alias(KNOWN_AT),
    )


def _delays(frame: pl.DataFrame) -> NDArray[np.float64]:
    known = frame.filter(pl.col(KNOWN_AT).is_not_null())
    seconds: NDArray[np.float64] = (known[KNOWN_AT] - known["event_at"]).dt.total_microseconds().to_numpy() / 1e6
    return seconds


def _sliced(
    rows: pl.DataFrame, reference: ReferenceRows, slices: Sequence[str]
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Each value of a column, or both sides of a predicate."""
    for key in slices:
        if key in reference.bins:
            bins = reference.bins[key]
            index = bins.group[bins.index(rows[key].to_arrow())]
            wanted = range(min(len(bins.labels), MAX_SLICE_VALUES)) if bins.ordered else _frequent(bins)
            parts: Mapping[str, NDArray[np.bool_]] = {bins.labels[group]: index == group for group in wanted}
        else:
            holds = _predicate(rows, key, reference)
            parts = {"true": holds, "false": ~holds}
        yield from ((key, value, rows.filter(pl.Series(mask))) for value, mask in parts.items() if mask.any())


def _frequent(bins: ReferenceBins) -> Sequence[int]:
    return [*range(min(len(bins.labels) - 2, MAX_SLICE_VALUES))]


def _predicate(rows: pl.DataFrame, sql: str, reference: ReferenceRows) -> NDArray[np.bool_]:
    names = [name for name in reference.schema.names if name in rows.columns]
    found = expressions.add(rows.select(names).to_arrow(), {"__slice": sql}, where="recipe: monitor.slices")["__slice"]
    if not pa.types.is_boolean(found.type):
        raise errors.RecipeError.build(
            f"recipe: monitor.slices '{sql}'", got=f"an expression of type {found.type}",
            expected="a column, or a condition such as distance > 1000",
        )  # fmt: skip
    return np.asarray(found.fill_null(False)).astype(np.bool_)


def _mark_partial(windows: Sequence[Window], calendar: Calendar) -> None:
    """The first and the last window are partial unless the log reaches their ends."""
    if windows:
        windows[0].partial |= min(windows[0].blocks_seen) > 0
        last = windows[-1]
        last.partial |= max(last.blocks_seen) < calendar.num_blocks(last.start) - 1

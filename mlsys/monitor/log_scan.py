"""One pass over new rows of the prediction log: statistics and counts of every window, and an index of the rows.

What a window keeps merges with what it kept before, so rows are read once. Of each row the *index* keeps what a
label that comes later needs: ids, time, window, block, slices, the model's output and columns that a utility reads.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors, expressions
from mlsys import label_sets as labels
from mlsys.deploy.prediction_log import logged_name
from mlsys.evaluate.recalibration import score_counts
from mlsys.monitor.log_rows import ENTITY, IDENTITY, REASON
from mlsys.monitor.reference import PREDICTION, SCORE, ReferenceRows, label_columns
from mlsys.monitor.row_sample import RowSample
from mlsys.monitor.windows import Calendar, Window, WindowKey
from mlsys.predict.class_labels import class_codes
from mlsys.schema import Task
from mlsys.statistics import TableStatistics
from mlsys.statistics.hashing import hash_exactly

MAX_SLICE_VALUES = 20
"""Values of a slicing column that get windows of their own: the most frequent of the reference."""

MAX_WINDOWS = 5_000
"""Windows that the rows of one batch may open; more come from times that nobody meant."""

TOO_MANY = f"its window is beyond the {MAX_WINDOWS:,} fullest of a batch"
"""Reason for which a row is left out whose time makes windows without end."""

START, BLOCK, GROUP = "__start", "__block", "__group"
"""Columns of the index: the start of a row's window, the number of its block, and a hash of the group of a ranking."""


IndexedColumns: TypeAlias = Mapping[str, tuple[str, Any]]
"""Columns of the index beside its own: name there → column of the log that it is, and its type in Polars."""

NO_COLUMNS: IndexedColumns = {}


def slice_column(number: int) -> str:
    """Column of the index that holds a row's value of a slice."""
    return f"__slice{number}"


def index_types(num_slices: int, *, has_groups: bool = False, indexed: IndexedColumns = NO_COLUMNS) -> dict[str, Any]:
    """Columns of the index with their types in Polars; a ranking's has the group of each row."""
    time = pl.Datetime("us", "UTC")
    return {
        "prediction_id": pl.String(), ENTITY: pl.String(), "event_at": time, "logged_at": time, IDENTITY: pl.UInt64(),
        REASON: pl.String(), START: time, BLOCK: pl.Int16(), SCORE: pl.Float64(),
        "probabilities": pl.List(pl.Float64), **{slice_column(number): pl.String() for number in range(num_slices)},
        **({GROUP: pl.UInt64()} if has_groups else {}), **{name: kind for name, (_, kind) in indexed.items()},
    }  # fmt: skip


class LogScan:
    """Windows and slices that rows fall into, by their keys; rows are added batch by batch."""

    def __init__(
        self, reference: ReferenceRows, calendar: Calendar, slices: Sequence[str], indexed: IndexedColumns = NO_COLUMNS
    ) -> None:
        self.reference, self.calendar, self.slices, self.indexed = reference, calendar, slices, indexed
        self.windows: dict[WindowKey, Window] = {}

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add rows of `mlsys.monitor.log_rows` to their windows; returns their index.

        Rows with a reason to be left out are in the index alone.
        """
        usable = self.reference.measured(rows.filter(pl.col(REASON).is_null()))
        starts, block = self.calendar.place(usable["event_at"])
        placed = usable.with_columns(starts.alias(START), pl.Series(BLOCK, block, pl.Int16))
        fullest = placed.group_by(START).len().top_k(MAX_WINDOWS, by="len")[START]
        is_fullest = pl.col(START).is_in(fullest.implode())
        scattered = placed.filter(~is_fullest).with_columns(pl.lit(TOO_MANY).alias(REASON))
        placed = _grouped(self._sliced(placed.filter(is_fullest)), self.reference.task)
        for (start,), own in placed.group_by(START, maintain_order=True):
            self._fill((cast("dt.datetime", start), None, None), own)
            for number, key in enumerate(self.slices):
                for (value,), part in own.group_by(slice_column(number), maintain_order=True):
                    if value is not None:
                        self._fill((cast("dt.datetime", start), key, str(value)), part)
        left_out = pl.concat([rows.filter(pl.col(REASON).is_not_null()), scattered], how="diagonal_relaxed")
        return pl.concat([self._index(placed), self._index(left_out)], how="vertical_relaxed")

    def _sliced(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add each row's value of each slice; null where it has none of its own."""
        values = [
            pl.Series(slice_column(number), slice_values(rows, key, self.reference), pl.String)
            for number, key in enumerate(self.slices)
        ]
        return rows.with_columns(values)

    def _index(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those columns of the rows that a label may need later."""
        types = index_types(len(self.slices), has_groups=self.reference.task.is_ranking, indexed=self.indexed)
        source = {name: self.indexed[name][0] if name in self.indexed else name for name in types}
        present = {name: pl.col(of) if of in rows.columns else pl.lit(None) for name, of in source.items()}
        return rows.select(present[name].cast(kind).alias(name) for name, kind in types.items())

    def _fill(self, key: WindowKey, rows: pl.DataFrame) -> None:
        if key not in self.windows:
            start, name, value = key
            statistics = TableStatistics.empty(self.reference.schema, self.reference.task)
            end, label = self.calendar.end(start), self.calendar.label(start)
            self.windows[key] = Window(start, end, label, statistics, name, value)
        window, reference = self.windows[key], self.reference
        window.num_unseen += int(rows["unseen"].sum())
        window.num_rare += int(rows["rare"].sum())
        if key[1] is None:
            window.add_scores(score_counts(model_output(rows, reference.task), reference.task, reference.threshold))
        counted = {name: bins for name, bins in reference.bins.items() if name != reference.task.target}
        typed, block = _typed(rows, reference), rows[BLOCK].to_numpy().astype(np.int64)
        window.update(typed, counted, block, self.calendar.max_blocks)
        if key[1] is None:
            sampled = [reference.bins[name] for name in reference.sampled]
            window.add_sample(RowSample.of(typed, sampled, rows[IDENTITY].to_numpy(), block))


def _grouped(rows: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Add a hash of the group that a row is ranked in; null where the client did not send it."""
    if task.group is None:
        return rows
    groups = rows[logged_name(task.group)]
    hashes = pl.Series(GROUP, hash_exactly(groups.to_arrow()), pl.UInt64)
    return rows.with_columns(pl.when(groups.is_not_null()).then(hashes).alias(GROUP))


def _typed(rows: pl.DataFrame, reference: ReferenceRows) -> pa.Table:
    """The rows in the types of the statistics: classes as values."""
    task = reference.task
    own = {PREDICTION, *label_columns(task)}
    table = rows.select(*[name for name in reference.schema.names if name not in own], "model_version").to_arrow()
    for name, probability in zip(label_columns(task), model_output(rows, task).T, strict=True) if task.labels else ():
        table = table.append_column(name, pa.array(probability))
    if task.labels:
        prediction = labels.texts(class_codes(rows[PREDICTION], task), task.labels)
    elif task.is_classification:
        prediction = class_values(class_codes(rows[PREDICTION], task), task.class_names)
    else:
        prediction = rows[PREDICTION].cast(pl.Float64).to_arrow()
    return table.append_column(PREDICTION, prediction)


def class_values(codes: NDArray[np.float64], names: Sequence[Any]) -> pa.Array:
    """Name the classes of these indices; null where an index is negative or NaN."""
    index = pa.array(np.where(codes >= 0, codes, 0).astype(np.int64), mask=~(codes >= 0))
    return pa.array(list(names)).take(index)


def model_output(rows: pl.DataFrame, task: Task) -> NDArray[np.float64]:
    """The model's output: probabilities of shape (n, classes) or (n, labels), or values (n,)."""
    if not task.is_classification:
        return rows[SCORE].to_numpy().astype(np.float64)
    return rows["probabilities"].cast(pl.Array(pl.Float64, len(task.output_names))).to_numpy().astype(np.float64)


def slice_values(
    rows: pl.DataFrame, key: str, reference: ReferenceRows, where: str = "recipe: monitor.slices"
) -> list[str | None]:
    """The name of a column's value in each row, if it is a frequent one; of a condition ``true`` or ``false``."""
    if key not in reference.bins:
        return ["true" if holds else "false" for holds in _condition(rows, key, reference, where)]
    bins = reference.bins[key]
    num_values = len(bins.labels) if bins.ordered else len(bins.labels) - 2  # neither other nor null
    names = [name if place < min(num_values, MAX_SLICE_VALUES) else None for place, name in enumerate(bins.labels)]
    return [names[group] for group in bins.group[bins.index(rows[key].to_arrow())].tolist()]


def _condition(rows: pl.DataFrame, sql: str, reference: ReferenceRows, where: str) -> NDArray[np.bool_]:
    names = [name for name in reference.schema.names if name in rows.columns]
    table = rows.select(names).to_arrow()
    holds = expressions.add(table, {"__slice": sql}, where)["__slice"]
    if not pa.types.is_boolean(holds.type):
        raise errors.RecipeError.build(
            f"{where} '{sql}'", got=f"an expression of type {holds.type}",
            expected="a column, or a condition such as distance > 1000",
        )  # fmt: skip
    return np.asarray(holds.fill_null(False)).astype(np.bool_)

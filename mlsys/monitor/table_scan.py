"""Read any table into windows of time, without a model: the rows once for its statistics, once more for its windows.

The first pass over the typed rows gives the statistics of all columns, from which the bins are cut; the second counts
the rows of every window in them. Both go through the files in batches, so that memory depends on columns and windows,
not on rows.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors, expressions
from mlsys.collect import survey
from mlsys.expressions import Expression
from mlsys.monitor.log_scan import START, slice_column, slice_values
from mlsys.monitor.reference import ReferenceBins, ReferenceRows
from mlsys.monitor.windows import Calendar, Counts, Window, WindowKey
from mlsys.readers.base import BATCH_ROWS
from mlsys.readers.folders import IMAGE_ROWS
from mlsys.recipe import ReadOptions
from mlsys.schema import Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics

NO_TARGET = Task(kind=TaskKind.REGRESSION, target="__no_target")
"""The task of rows that nothing is predicted of: no row has its target."""

BINNED = frozenset({Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT})
"""Kinds of columns whose distributions are compared; times always move."""

MAX_PROFILED = 5_000
"""Windows and slices of a table at most: each holds statistics of all columns."""

WHERE = "profile: time"


@dataclass(frozen=True)
class TypedTable:
    """A source as typed Parquet files in a folder of scratch.

    Attributes
    ----------
    messages
        Sentences about what reading it has met: changed types, rows that do not fit.
    """

    paths: tuple[Path, ...]
    schema: Schema
    num_rows: int
    messages: tuple[str, ...]

    @classmethod
    def read(cls, source: str, options: ReadOptions, folder: Path, time: str | None) -> TypedTable:
        """Collect a source as a run would, into a folder; raises as `survey.take_whole`."""
        try:
            taken = survey.take_whole(source, options, folder, time=time)
        except errors.MlsysError as error:
            raise error.reworded((r"recipe: 'data\.time'", WHERE), (r"\bdata\.time\b", "the time")) from None
        report = taken.report
        rejected = [
            f"{each['rows']:,} of {report['num_read']:,} rows do not fit and are left out: {rule}"
            for rule, each in report["quarantine"].items()
        ]
        columns = (column.model_copy(update={"role": Role.FEATURE}) for column in taken.snapshot.schema)
        messages = (*report["notes"], *report["warnings"], *rejected)
        rows = taken.snapshot
        return cls(tuple(rows.paths), Schema(columns=tuple(columns)), rows.num_rows, messages)

    def batches(self) -> Iterator[pa.Table]:
        """Read the rows in batches, of few rows where they hold pictures or other bytes."""
        size = IMAGE_ROWS if any(column.kind in (Kind.IMAGE, Kind.BYTES) for column in self.schema) else BATCH_ROWS
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(size, columns=self.schema.names):
                    yield pa.Table.from_batches([batch])

    def statistics(self) -> TableStatistics:
        """Statistics of all columns and rows."""
        statistics = TableStatistics.empty(self.schema, NO_TARGET)
        for rows in self.batches():
            statistics.update(rows)
        return statistics

    def alike(self, other: TypedTable) -> TypedTable:
        """The same rows, with the kinds that columns of the same type have in another table."""
        kinds = {column.name: column.kind for column in other.schema if self._has(column.name, column.type)}
        columns = (column.model_copy(update={"kind": kinds.get(column.name, column.kind)}) for column in self.schema)
        return replace(self, schema=Schema(columns=tuple(columns)))

    def _has(self, name: str, kind: str) -> bool:
        return name in self.schema and self.schema[name].type == kind


def reference_of(statistics: TableStatistics, time: str | None) -> ReferenceRows:
    """Cut the bins of all columns but the `time` of the windows, and choose the columns that are watched."""
    columns = {name: column for name, column in statistics.columns.items() if column.num_rows}
    bins = {
        name: ReferenceBins.of(name, column)
        for name, column in columns.items()
        if column.kind in BINNED and name != time
    }
    watched = tuple(name for name in bins if not is_identifier(statistics, name))
    return ReferenceRows(NO_TARGET, statistics.schema, columns, bins, watched)


def is_identifier(statistics: TableStatistics, name: str) -> bool:
    """Tell columns that name rows, which are new in every table: texts that seldom repeat, and running numbers.

    A running number is whole, differs from row to row (within the error of the estimate), and its range is at most
    twice the number of its values.
    """
    column = statistics.columns[name]
    count, distinct = column.num_rows - column.num_nulls, column.num_distinct or 0
    if column.numbers is None:
        return distinct > count / 2
    numbers = column.numbers
    is_dense = numbers.maximum - numbers.minimum <= 2 * count
    return numbers.integral and count >= 100 and distinct >= 0.95 * count and is_dense


class TableScan:
    """Windows and slices of a table, by their keys; rows are added batch by batch.

    Attributes
    ----------
    schema
        Columns that are profiled; of these, the reference has bins for those that are compared.
    calendar, time
        Windows of time and the column that they are cut by; None puts all rows into one window.
    read_at
        Start and end of that window.
    num_untimed
        Rows that have no time and so no window.
    """

    def __init__(
        self,
        schema: Schema,
        reference: ReferenceRows,
        calendar: Calendar | None,
        time: str | None,
        slices: Sequence[str],
        read_at: dt.datetime,
    ) -> None:
        self.schema, self.reference, self.slices = schema, reference, slices
        self.calendar, self.time, self.read_at = calendar, time, read_at
        self.num_untimed = 0
        self.windows: dict[WindowKey, Window] = {}

    def add(self, rows: pa.Table) -> tuple[pa.Table, pl.DataFrame]:
        """Add rows to their windows; returns those that have a window, and the window and the slices of each."""
        # 1. The window and the block of each row
        if self.calendar is not None:
            self.num_untimed += rows[self.time].null_count
            rows = rows.filter(rows[self.time].is_valid())
        starts, block = self._placed(rows)
        # 2. Its value of each slice
        frame = cast("pl.DataFrame", pl.from_arrow(rows))
        values = [
            pl.Series(slice_column(number), slice_values(frame, key, self.reference, "profile: slice"), pl.String)
            for number, key in enumerate(self.slices)
        ]
        index = pl.DataFrame([starts.alias(START), *values])
        # 3. The rows of each
        for (start,), own in _grouped(index, [START]):
            self._fill((cast("dt.datetime", start), None, None), rows, own, block)
        for number, key in enumerate(self.slices):
            for (start, value), own in _grouped(index, [START, slice_column(number)]):
                if value is not None:
                    self._fill((cast("dt.datetime", start), key, str(value)), rows, own, block)
        return rows, index

    def _placed(self, rows: pa.Table) -> tuple[pl.Series, Counts]:
        if self.calendar is None:
            start = pl.Series([self.read_at], dtype=pl.Datetime("us", "UTC"))
            return start.new_from_index(0, rows.num_rows), np.zeros(rows.num_rows, np.int64)
        times = pl.Series(pl.from_arrow(rows[self.time])).cast(pl.Datetime("us", "UTC"))
        return self.calendar.place(times)

    def _fill(self, key: WindowKey, rows: pa.Table, own: Counts, block: Counts) -> None:
        if key not in self.windows:
            if len(self.windows) >= MAX_PROFILED:
                hint = "take a longer granularity or fewer slices; look at the times, of which some may be wrong"
                got = f"more than {MAX_PROFILED:,} windows and slices"
                raise errors.RecipeError.build(WHERE, got=got, expected="fewer", hint=hint)
            self.windows[key] = self._empty(key)
        max_blocks = 1 if self.calendar is None else self.calendar.max_blocks
        part = rows if len(own) == rows.num_rows else rows.take(pa.array(own))
        self.windows[key].update(part, self.reference.bins, block[own], max_blocks)

    def _empty(self, key: WindowKey) -> Window:
        start, name, value = key
        statistics = TableStatistics.empty(self.schema, NO_TARGET)
        if self.calendar is None:
            return Window(start, start, "all rows", statistics, name, value)
        return Window(start, self.calendar.end(start), self.calendar.label(start), statistics, name, value)

    def ordered(self) -> list[Window]:
        """Windows and slices in order of time."""
        return sorted(self.windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))


def _grouped(index: pl.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[object, ...], Counts]]:
    """Numbers of the rows of each group, in the order in which the groups come."""
    numbered = index.select(keys).with_row_index("__number")
    for names, group in numbered.group_by(keys, maintain_order=True):
        yield names, group["__number"].to_numpy().astype(np.int64)


class CustomMetrics:
    """Numbers that a user defines as SQL over the rows of a window, such as ``avg(price) / avg(cost)``.

    The columns that they read go into a file beside the window of each row, and Polars computes them from there: a
    ratio of sums in bounded memory, a median from the rows of each window.
    """

    def __init__(self, metrics: Mapping[str, str], schema: Schema, folder: Path) -> None:
        types = schema.arrow()
        self.metrics = [expressions.aggregate(name, sql, types, "profile: metric") for name, sql in metrics.items()]
        self.inputs = sorted({name for metric in self.metrics for name in metric.inputs})
        self.folder, self.num_files = folder, 0

    def add(self, rows: pa.Table, index: pl.DataFrame) -> None:
        """Keep the columns that are read of some rows, with their windows and slices."""
        if not self.metrics:
            return
        columns = [pl.Series(name, pl.from_arrow(rows[name])) for name in self.inputs]
        self.folder.mkdir(parents=True, exist_ok=True)
        index.hstack(columns).write_parquet(self.folder / f"{self.num_files:06d}.parquet")
        self.num_files += 1

    def values(self, slices: Sequence[str]) -> dict[WindowKey, dict[str, float | None]]:
        """Value of each metric by window and by slice; None where it is not finite or has no rows."""
        if not self.num_files:
            return {}
        rows = pl.scan_parquet(self.folder / "*.parquet").cast(dict(expressions.WIDE))
        computed = [_number(metric) for metric in self.metrics]
        values = {}
        for number, key in itertools.chain([(-1, None)], enumerate(slices)):
            by = [START] if key is None else [START, slice_column(number)]
            table = rows.drop_nulls(by).group_by(by).agg(computed).collect(engine="streaming")
            for row in table.to_dicts():
                value = None if key is None else str(row[slice_column(number)])
                values[row[START], key, value] = {metric.name: row[metric.name] for metric in self.metrics}
        return values


def _number(metric: Expression) -> pl.Expr:
    value = metric.expr.cast(pl.Float64)
    return pl.when(value.is_finite()).then(value).alias(metric.name)

"""All pairwise statistics of a layout, and the target over time in bins that grow with the span of the data.

The widths of the bins form a ladder in which each is a multiple of the one before: powers of ten of a microsecond up
to a second, then 1, 10 minutes, 1, 6 hours, a day, and 1, 4, 52 weeks. A bin of one width is a union of bins of the
one below, so parts merge whatever widths they have, and the width at the end depends on the first and last row alone.
Days begin at midnight UTC, weeks on Monday; bins of whole weeks do not alias with the days of the week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.limits import DAY_US
from mlsys.statistics.arrays import Bools, Floats, Ints, plain
from mlsys.statistics.encoding import EncodedColumn
from mlsys.statistics.frequencies import label_sums
from mlsys.statistics.pairwise.association_measures import (
    ContingencyTables,
    CrossProducts,
    GroupedMoments,
    Information,
    cramers_v,
    information,
)
from mlsys.statistics.pairwise.layout import PairLayout, blocks
from mlsys.statistics.pairwise.missingness import MissingPatterns, missing

MOST_BINS = 200

SECOND_US = 1_000_000
WIDTHS = (
    *(10**power for power in range(6)),
    *(factor * SECOND_US for factor in (1, 10, 60, 600, 3_600, 21_600)),
    DAY_US,
    *(factor * 7 * DAY_US for factor in (1, 4, 52, 520, 5_200, 52_000, 520_000, 5_200_000)),
)
MONDAY = 3 * DAY_US
"""Microseconds from the Monday before 1970, which began on a Thursday."""


@dataclass(frozen=True)
class Timeline:
    """Exact rows and sums of the target in bins of time; an update costs a count a row.

    Attributes
    ----------
    rung
        Position of the width of the bins in `WIDTHS`.
    first
        Number of the first bin, counted from the one that holds 1970.
    rows, sums
        Rows of each bin, and sums of their target, ``(bins, classes)`` or ``(bins, 3)``, see `label_sums`.
    num_missing
        Rows without a time.
    """

    rung: int
    first: int
    rows: Ints
    sums: Floats
    num_missing: int

    @classmethod
    def empty(cls, classes: int | None) -> Self:
        return cls(0, 0, np.empty(0, np.int64), np.empty((0, classes or 3)), 0)

    @classmethod
    def of(cls, times: Ints, known: Bools, y: npt.NDArray[Any], classes: int | None) -> Self:
        """Timeline of microseconds since 1970, where they are `known`."""
        when, label = (times, y) if known.all() else (times[known], y[known])
        if len(when) == 0:
            return cls(0, 0, np.empty(0, np.int64), np.empty((0, classes or 3)), len(times))
        rung = _rung(int(when.min()), int(when.max()), 0)
        first, last = _bin(int(when.min()), rung), _bin(int(when.max()), rung)
        where = _bin(when, rung) - first
        size = last - first + 1
        rows = np.bincount(where, minlength=size)
        return cls(rung, first, rows, label_sums(where, size, label, classes), len(times) - len(when))

    def merge(self, other: Timeline) -> Timeline:
        missing = self.num_missing + other.num_missing
        parts = [part for part in (self, other) if len(part.rows)]
        if len(parts) < 2:
            part = parts[0] if parts else self
            return Timeline(part.rung, part.first, part.rows, part.sums, missing)
        starts, ends = [part.start(0) for part in parts], [part.start(len(part.rows)) - 1 for part in parts]
        rung = _rung(min(starts), max(ends), max(part.rung for part in parts))
        first, last = _bin(min(starts), rung), _bin(max(ends), rung)
        rows, sums = np.zeros(last - first + 1, np.int64), np.zeros((last - first + 1, self.sums.shape[1]))
        for part in parts:
            where = [_bin(part.start(number), rung) - first for number in range(len(part.rows))]
            np.add.at(rows, where, part.rows)
            np.add.at(sums, where, part.sums)
        return Timeline(rung, first, rows, sums, missing)

    @property
    def width_s(self) -> float:
        return float(WIDTHS[self.rung] / SECOND_US)

    def start(self, number: int) -> int:
        """Begin of a bin, in microseconds since 1970."""
        width = WIDTHS[self.rung]
        return int((self.first + number) * width - (MONDAY if width > DAY_US else 0))


def _bin(when: Any, rung: int) -> Any:
    width = WIDTHS[rung]
    return (when + (MONDAY if width > DAY_US else 0)) // width


def _rung(low: int, high: int, least: int) -> int:
    """Position of the finest width, from `least` on, that needs at most `MOST_BINS` bins."""
    for rung in range(least, len(WIDTHS)):
        if _bin(high, rung) - _bin(low, rung) < MOST_BINS:
            return rung
    return len(WIDTHS) - 1


@dataclass(frozen=True, eq=False)
class PairwiseStatistics:
    """Mergeable statistics of pairs of columns, of missing values and of time; parts of one layout add up.

    They serve the report alone and are not stored: the report is.

    Attributes
    ----------
    products, groups, tables
        Sums of two numbers, of a number within categories, and counts of two categories or with the target.
    curves
        Rows, sum and sum of squares of a target that is a number, in each bin of each number.
    missing, timeline
        Missing values; rows and the target over time (None without a time column).
    """

    layout: PairLayout
    products: CrossProducts
    groups: GroupedMoments
    tables: ContingencyTables
    curves: list[Floats]
    missing: MissingPatterns
    timeline: Timeline | None

    @classmethod
    def of(cls, columns: Mapping[str, EncodedColumn], table: pa.Table, layout: PairLayout, y: npt.NDArray[Any]) -> Self:
        """Statistics of a table whose columns, but for the time, are encoded already."""
        size = len(layout.numbers)
        products, groups = CrossProducts.empty(size), GroupedMoments.empty(layout)
        tables = ContingencyTables.empty(layout)
        curved = () if layout.task.is_classification else layout.numbers[:-1]
        curves = [np.zeros((len(column.edges) + 2, 3)) for column in curved]
        for start, block in blocks(columns, layout, y):
            products.update(block)
            groups.update(block)
            tables.update(block, layout)
            label = y[start : start + len(block.numbers)]
            for curve, bins in zip(curves, block.bins, strict=False):
                np.add(curve, label_sums(bins, len(curve), label, None), out=curve)
        patterns = MissingPatterns.of([missing(columns[name]) for name in layout.nullable], table.num_rows)
        return cls(layout, products, groups, tables, curves, patterns, _timeline(table, layout, y))

    def merge(self, other: PairwiseStatistics) -> PairwiseStatistics:
        if self.layout is not other.layout and self.layout != other.layout:
            raise ValueError("statistics of two layouts do not add up")
        times = (self.timeline, other.timeline)
        return PairwiseStatistics(
            self.layout,
            self.products.merge(other.products),
            self.groups.merge(other.groups),
            self.tables.merge(other.tables),
            [a + b for a, b in zip(self.curves, other.curves, strict=True)],
            self.missing.merge(other.missing),
            None if times[0] is None or times[1] is None else times[0].merge(times[1]),
        )

    def associations(self) -> tuple[list[str], Floats]:
        """Names of all columns compared, numbers first, and the strength of each pair.

        Pearson's r for two numbers, η for a number and a category, Cramér's V for two
        categories; over the rows where both have a value, NaN where one does not vary.
        """
        names = [column.name for column in self.layout.numbers]
        size = len(names)
        names += [column.name for column in self.layout.categories]
        whole = np.full((len(names), len(names)), np.nan)
        whole[:size, :size] = self.products.correlations()
        whole[size:, :size] = self.groups.ratios()
        whole[:size, size:] = whole[size:, :size].T
        for (i, j), table in self.tables.pairs.items():
            whole[size + i, size + j] = whole[size + j, size + i] = cramers_v(table[:-1, :-1])
        return names, whole

    def information(self) -> dict[str, Information]:
        """Information of each column about the target; a missing value is a value like any other."""
        tables = self.tables.with_target(self.layout)
        values = {name: information(table[:, :-1]) for name, table in tables.items()}
        return {name: value for name, value in values.items() if value is not None}


def _timeline(table: pa.Table, layout: PairLayout, y: npt.NDArray[Any]) -> Timeline | None:
    if layout.time is None:
        return None
    classes = len(layout.task.classes) if layout.task.is_classification else None
    array = plain(table[layout.time])
    known = np.asarray(array.is_valid())
    times = np.asarray(array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(0))
    return Timeline.of(times, known, y, classes)

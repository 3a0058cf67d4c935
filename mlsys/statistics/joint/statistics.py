"""All that columns say of each other, from the rows of one layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics.encoded import Encoded, encode
from mlsys.statistics.frequencies import label_sums
from mlsys.statistics.joint.block import blocks
from mlsys.statistics.joint.gaps import Gaps, missing
from mlsys.statistics.joint.groups import Groups
from mlsys.statistics.joint.layout import Layout
from mlsys.statistics.joint.products import Products
from mlsys.statistics.joint.tables import Information, Tables, cramers_v, information
from mlsys.statistics.joint.timeline import Timeline
from mlsys.statistics.values import plain

__all__ = ["JointStatistics"]

Floats = npt.NDArray[np.float64]


class JointStatistics:
    """Mergeable statistics of pairs of columns, of gaps and of time; parts of one layout add up.

    They serve the report alone and are not stored: the report is.

    Attributes
    ----------
    products, groups, tables
        Pairs of numbers, numbers within categories, pairs of categories and each column with the target.
    curves
        Where the target is a number: its rows, sum and sum of squares in each bin of each number.
    gaps, timeline
        Missing values; rows and the target over time (None without a time column).
    """

    def __init__(
        self,
        layout: Layout,
        products: Products,
        groups: Groups,
        tables: Tables,
        curves: list[Floats],
        gaps: Gaps,
        timeline: Timeline | None,
    ) -> None:
        self.layout, self.products, self.groups, self.tables = layout, products, groups, tables
        self.curves, self.gaps, self.timeline = curves, gaps, timeline

    @classmethod
    def of(cls, table: pa.Table, layout: Layout, y: npt.NDArray[Any]) -> Self:
        """Of rows; `y` is their target as `encode_target` gives it."""
        kinds = dict.fromkeys(layout.gaps, Kind.BYTES)
        kinds |= {column.name: Kind.CATEGORICAL for column in layout.categories}
        kinds |= {column.name: Kind.NUMERIC for column in layout.numbers}
        return cls.of_columns({name: encode(table[name], kind) for name, kind in kinds.items()}, table, layout, y)

    @classmethod
    def of_columns(cls, columns: Mapping[str, Encoded], table: pa.Table, layout: Layout, y: npt.NDArray[Any]) -> Self:
        """The same of a table whose columns, but for the time, are encoded already."""
        size = len(layout.numbers)
        products, groups, tables = Products.empty(size), Groups.empty(layout), Tables.empty(layout)
        bins = [] if layout.task.is_classification else [len(column.edges) + 2 for column in layout.numbers[:-1]]
        curves = [np.zeros((number, 3)) for number in bins]
        for start, block in blocks(columns, layout, y):
            products.update(block)
            groups.update(block)
            tables.update(block, layout)
            label = y[start : start + len(block.numbers)]
            for curve, at in zip(curves, block.bins, strict=False):
                np.add(curve, label_sums(at, len(curve), label, None), out=curve)
        gaps = Gaps.of([missing(columns[name]) for name in layout.gaps], table.num_rows)
        return cls(layout, products, groups, tables, curves, gaps, _timeline(table, layout, y))

    def merge(self, other: JointStatistics) -> JointStatistics:
        if self.layout is not other.layout and self.layout != other.layout:
            raise ValueError("statistics of two layouts do not add up")
        times = (self.timeline, other.timeline)
        return JointStatistics(
            self.layout,
            self.products.merge(other.products),
            self.groups.merge(other.groups),
            self.tables.merge(other.tables),
            [a + b for a, b in zip(self.curves, other.curves, strict=True)],
            self.gaps.merge(other.gaps),
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
        """What each column tells about the target; a missing value tells as any other does."""
        found = {name: information(table[:, :-1]) for name, table in self.tables.with_target(self.layout).items()}
        return {name: value for name, value in found.items() if value is not None}


def _timeline(table: pa.Table, layout: Layout, y: npt.NDArray[Any]) -> Timeline | None:
    if layout.time is None:
        return None
    classes = len(layout.task.classes) if layout.task.is_classification else None
    array = plain(table[layout.time])
    known = np.asarray(array.is_valid())
    times = np.asarray(array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(0))
    return Timeline.of(times, known, y, classes)

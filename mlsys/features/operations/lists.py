"""Operation ``list`` on lists of numbers: how many, their mean, range and spread; and the elements one by one.

Both executors add the elements in their order, one after another, so that their sums have the
same bits. An element that is missing, NaN or beyond float32 counts for the length alone; -0.0 is 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.features.operations.operation import Matrix, Operation, OperationSpec, Writer
from mlsys.limits import FLOAT32_MAX
from mlsys.recipe.columns import NumbersOptions
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import Floats

MAX_ELEMENTS = 64
"""Elements of lists taken one by one: a sensor's readings or a small embedding."""

TITLES = ("length", "mean", "min", "max", "std")


@dataclass(frozen=True)
class NumberList(Operation):
    """Take length, mean, minimum, maximum and standard deviation (with the number of elements as the divisor).

    Attributes
    ----------
    elements
        So many elements follow, from the first; missing where a list is shorter.
    dense
        A missing number is 0 and not NaN, and one more column says where there was no list at all.
    """

    elements: int = 0
    dense: bool = False

    name = "list"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: {title}" for title in TITLES]
        names += [f"{self.column} #{k}" for k in range(self.elements)]
        return self._with_indicator(names, indicator=self.dense)

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        lists: pa.LargeListArray = raw[0].to_arrow(compat_level=pl.CompatLevel.oldest())
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.intp)
        values = np.asarray(lists.flatten().cast(pa.float64()), np.float64) + 0.0
        values[~(np.abs(values) <= FLOAT32_MAX)] = math.nan
        out[:] = 0.0 if self.dense else math.nan
        null = raw[0].is_null().to_numpy()
        out[~null, 0] = lengths[~null]
        _put_statistics(values, lengths, out)
        starts = np.cumsum(lengths) - lengths
        for k in range(self.elements):
            (longer,) = np.nonzero(lengths > k)
            _put(out[:, len(TITLES) + k], longer, values[starts[longer] + k])
        if self.dense:
            out[:, -1] = null

    def writer(self, start: int) -> Writer:
        read, elements, dense = self.domain.reader(self.column), self.elements, self.dense
        first, width = start + len(TITLES), len(self.outputs)
        empty = np.full(width, 0.0 if dense else math.nan, np.float32)

        def write(value: Any, out: Matrix) -> None:
            values = read(value)
            out[start : start + width] = empty
            if values is None:
                if dense:
                    out[start + width - 1] = 1.0
                return
            out[start] = len(values)
            present = [number + 0.0 for number in values if number is not None]
            if present:
                out[start + 1 : first] = _statistics(present)
            for at, number in enumerate(values[:elements], start=first):
                if number is not None:
                    out[at] = number + 0.0

        return write


def _statistics(values: list[float]) -> tuple[float, float, float, float]:
    total, squares = 0.0, 0.0
    for value in values:
        total += value
    mean = total / len(values)
    for value in values:
        squares += (value - mean) * (value - mean)
    return mean, min(values), max(values), math.sqrt(squares / len(values))


def _put_statistics(values: Floats, lengths: npt.NDArray[np.intp], out: Matrix) -> None:
    """Write the statistics of the lists that have a number; `bincount` adds in the order of the elements."""
    rows = len(lengths)
    owner = np.repeat(np.arange(rows), lengths)
    is_number = ~np.isnan(values)
    owner, values = owner[is_number], values[is_number]
    if not len(values):
        return
    count = np.bincount(owner, minlength=rows)
    (full,) = np.nonzero(count)
    n = count[full]
    mean = np.bincount(owner, values, rows)[full] / n
    away = values - np.repeat(mean, n)
    begins = np.cumsum(n) - n
    out[full, 1] = mean
    out[full, 2] = np.minimum.reduceat(values, begins)
    out[full, 3] = np.maximum.reduceat(values, begins)
    out[full, 4] = np.sqrt(np.bincount(owner, away * away, rows)[full] / n)


def _put(out: npt.NDArray[np.float32], rows: npt.NDArray[np.intp], values: Floats) -> None:
    """Write numbers into their rows; a missing one changes nothing."""
    is_number = ~np.isnan(values)
    out[rows[is_number]] = values[is_number]


def num_elements(statistics: ColumnStatistics) -> int:
    """Number of elements that are taken one by one: all of them where all lists have the same few, else none."""
    lengths = statistics.lengths
    return lengths.maximum if lengths.minimum == lengths.maximum <= MAX_ELEMENTS else 0


LIST = OperationSpec(
    NumbersOptions,
    ("numbers",),
    (NumberList,),
    lambda inputs: NumberList(inputs.column, inputs.domain, inputs.params["elements"], inputs.dense),
    params=lambda inputs: {"elements": num_elements(inputs.statistics)},
    num_coordinates=lambda params: int(params.get("elements", 0)),
)

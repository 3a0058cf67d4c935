"""Numbers within the classes of the target: for the histograms of the report, and not stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlsys.statistics.cells import SHARED
from mlsys.statistics.encoded import Encoded, EncodedNumbers
from mlsys.statistics.frequencies import label_sums
from mlsys.statistics.quantiles import QuantileSketch

__all__ = ["MOST_CLASSES", "Distributions"]

Floats = npt.NDArray[np.float64]

SKETCH_K = 200
"""1.65 % rank error, and at most 0.4 % of cells that several values share: enough to draw."""

MOST_CLASSES = 6
"""More classes than these are not drawn over each other."""


class Distributions:
    """A sketch a class, of each column of numbers; parts merge.

    Attributes
    ----------
    columns
        Name → sketches; empty where the target is a number or has too many classes.
    """

    def __init__(self, columns: Mapping[str, list[QuantileSketch]]) -> None:
        self.columns = dict(columns)

    @classmethod
    def of(cls, columns: Mapping[str, Encoded], y: npt.NDArray[Any], classes: int | None) -> Self:
        """Of rows; `y` is their target as `encode_target` gives it, of so many classes."""
        if classes is None or classes > MOST_CLASSES:
            return cls({})
        numbers = {name: column for name, column in columns.items() if isinstance(column, EncodedNumbers)}
        return cls({name: _by_class(column, y, classes) for name, column in numbers.items()})

    def merge(self, *others: Distributions) -> Distributions:
        parts = [other.columns for other in others]
        return Distributions(
            {
                name: [one.merge(*same) for one, *same in zip(sketches, *(part[name] for part in parts), strict=True)]
                for name, sketches in self.columns.items()
            }
        )

    def counts(self, name: str, edges: Floats) -> Floats | None:
        """``(classes, len(edges) - 1)``: finite values of each class between two edges; None if they are not kept."""
        if name not in self.columns:
            return None
        return np.stack([np.diff(np.nan_to_num(sketch.cdf(edges))) * sketch.n for sketch in self.columns[name]])


def _by_class(column: EncodedNumbers, y: npt.NDArray[Any], classes: int) -> list[QuantileSketch]:
    times = label_sums(column.codes, len(column.keys) + 1, y, classes)[:-1].astype(np.int64)
    return [_sketch(column, times[:, index], y == index) for index in range(classes)]


def _sketch(column: EncodedNumbers, times: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]) -> QuantileSketch:
    """Of some rows, of which each cell has `times`; a cell stands for its values unless they are too many."""
    sketch = QuantileSketch(SKETCH_K)
    if column.shared is not None and np.max(times, where=column.shared, initial=0) > 4 * SHARED * times.sum():
        sketch.update(column.floats[rows if column.finite is None else rows & column.finite])
    else:
        there = np.flatnonzero(times)
        sketch.update(column.keys[there], times[there])
    return sketch

"""A number within the categories of another column: the correlation ratio.

References
----------
Kelley (1935), "An unbiased correlation ratio measure", Proceedings of the National Academy
of Sciences 21(9), doi:10.1073/pnas.21.9.554: what chance adds to η² is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mlsys.statistics.joint.block import Block
from mlsys.statistics.joint.layout import Layout
from mlsys.statistics.joint.products import ROUNDING

__all__ = ["Groups", "correlation_ratio"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Sums of every number within every category.

    Attributes
    ----------
    rows, sums
        One array a category column: ``(levels, numbers)``.
    squares
        ``(categories, numbers)``: sum of squares of the number over the rows that have a category.
    """

    rows: list[Floats]
    sums: list[Floats]
    squares: Floats

    @classmethod
    def empty(cls, layout: Layout) -> Self:
        shapes = [(column.size, len(layout.numbers)) for column in layout.categories]
        squares = np.zeros((len(shapes), len(layout.numbers)))
        return cls([np.zeros(shape) for shape in shapes], [np.zeros(shape) for shape in shapes], squares)

    def update(self, block: Block) -> None:
        num_rows, size = block.numbers.shape
        if size == 0:
            return
        ends, ones = np.arange(num_rows + 1), np.ones(num_rows)
        for at, levels in enumerate(block.levels):
            # One row a level: adding rows of a matrix into groups is the product with this sparse one.
            member = sparse.csc_matrix((ones, levels, ends), shape=(len(self.rows[at]), num_rows))
            has_level = (levels < len(self.rows[at]) - 1).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                total = member @ block.both
                self.sums[at] += total[:, :size]
                self.squares[at] += has_level @ block.squares
            self.rows[at] += total[:, size:][:, block.known_of]

    def merge(self, other: Groups) -> Groups:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
            rows = [a + b for a, b in zip(self.rows, other.rows, strict=True)]
            return Groups(rows, sums, self.squares + other.squares)

    def ratios(self) -> Floats:
        """``(categories, numbers)``: η of each pair, see `correlation_ratio`."""
        found = np.full(self.squares.shape, np.nan)
        for at, (rows, sums) in enumerate(zip(self.rows, self.sums, strict=True)):
            for number, square in enumerate(self.squares[at]):
                found[at, number] = correlation_ratio(rows[:-1, number], sums[:-1, number], float(square))
        return found


def correlation_ratio(rows: Floats, sums: Floats, square: float) -> float:
    """η of a number in groups, without what chance adds: the root of 1 - (n - 1)/(n - k) (1 - η²), at least 0.

    Parameters
    ----------
    rows, sums
        Rows and sum of the number in each group; empty groups do not count.
    square
        Sum of the squares of the number over all groups.

    Returns
    -------
    0 … 1, or NaN where the number does not vary or no group has two rows.

    >>> rows, sums = np.array([2.0, 2.0]), np.array([1.0, 5.0])  # 0, 1 and 2, 3
    >>> round(correlation_ratio(rows, sums, 14.0) ** 2, 4)  # η² = 0.8
    0.7
    """
    rows, sums = rows[rows > 0], sums[rows > 0]
    n, k = float(rows.sum()), len(rows)
    if n <= k or k == 0:
        return float("nan")
    with np.errstate(all="ignore"):
        mean_part = sums.sum() ** 2 / n
        total, within = square - mean_part, square - float((sums**2 / rows).sum())
        if not np.isfinite(total) or total <= ROUNDING * square:
            return float("nan")
        corrected = 1 - (n - 1) / (n - k) * max(within, 0.0) / total
    return float(np.sqrt(min(1.0, max(0.0, corrected))))

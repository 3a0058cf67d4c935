"""Pearson's correlation of two numbers, and the correlation ratio of a number and a category.

Every number is taken less a constant that lies among its values, the same for all parts.
The sums then merge by addition, and do not cancel as those of the raw values would.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American
Statistician 37(3), section 3 (shifted data), doi:10.1080/00031305.1983.10483115.
Kelley (1935), "An unbiased correlation ratio measure", Proceedings of the National Academy
of Sciences 21(9), doi:10.1073/pnas.21.9.554: what chance adds to η² is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from mlsys.statistics.arrays import Floats
from mlsys.statistics.pairwise.layout import Block, PairLayout

ROUNDING = 1e-12
"""A variance below this fraction of the mean square is what rounding leaves of a constant."""


@dataclass(frozen=True)
class CrossProducts:
    """Sums of products of each pair of numbers over the rows where both have a value.

    Exact up to rounding; an update is a few products of matrices. Each sum is a square matrix,
    whose entry (i, j) is about the rows where numbers i and j have a value.

    Attributes
    ----------
    rows
        Number of these rows.
    sums, squares
        Sums of number i, and of its square.
    products
        Sums of number i times number j.
    """

    rows: Floats
    sums: Floats
    squares: Floats
    products: Floats

    @classmethod
    def empty(cls, size: int) -> Self:
        return cls(*(np.zeros((size, size)) for _ in range(4)))

    def update(self, block: Block) -> None:
        x, known, column = block.numbers, block.known, block.known_column
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            np.add(self.rows, (known.T @ known)[np.ix_(column, column)], out=self.rows)
            np.add(self.sums, (x.T @ known)[:, column], out=self.sums)
            np.add(self.squares, (block.squares.T @ known)[:, column], out=self.squares)
            np.add(self.products, x.T @ x, out=self.products)

    def merge(self, other: CrossProducts) -> CrossProducts:
        with np.errstate(over="ignore", invalid="ignore"):
            return CrossProducts(*map(np.add, vars(self).values(), vars(other).values()))

    def correlations(self) -> Floats:
        """Pearson's r of each pair; NaN where one of the two does not vary or the sums overflow."""
        with np.errstate(all="ignore"):
            variance = self.squares - self.sums * self.sums / self.rows
            variance = np.where(variance > ROUNDING * self.squares, variance, np.nan)
            covariance = self.products - self.sums * self.sums.T / self.rows
            r = covariance / (np.sqrt(variance) * np.sqrt(variance.T))
        correlations: Floats = np.where((self.rows >= 2) & np.isfinite(r), np.clip(r, -1, 1), np.nan)
        return correlations


@dataclass(frozen=True)
class GroupedMoments:
    """Sums of every number within every category: the correlation ratio of each pair.

    Exact up to rounding; an update is a product with a sparse matrix a category column.

    Attributes
    ----------
    rows, sums
        Rows with a value and their sum, an array ``(levels, numbers)`` a category column.
    squares
        Sums of squares over the rows that have a category, ``(categories, numbers)``.
    """

    rows: list[Floats]
    sums: list[Floats]
    squares: Floats

    @classmethod
    def empty(cls, layout: PairLayout) -> Self:
        shapes = [(column.size, len(layout.numbers)) for column in layout.categories]
        squares = np.zeros((len(shapes), len(layout.numbers)))
        return cls([np.zeros(shape) for shape in shapes], [np.zeros(shape) for shape in shapes], squares)

    def update(self, block: Block) -> None:
        num_rows, size = block.numbers.shape
        if size == 0:
            return
        ends, ones = np.arange(num_rows + 1), np.ones(num_rows)
        for column, levels in enumerate(block.levels):
            # Adding the rows of a matrix into groups is the product with this sparse one, a row a level.
            member = sparse.csc_matrix((ones, levels, ends), shape=(len(self.rows[column]), num_rows))
            has_level = (levels < len(self.rows[column]) - 1).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                total = member @ block.both
                self.sums[column] += total[:, :size]
                self.squares[column] += has_level @ block.squares
            self.rows[column] += total[:, size:][:, block.known_column]

    def merge(self, other: GroupedMoments) -> GroupedMoments:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
            rows = [a + b for a, b in zip(self.rows, other.rows, strict=True)]
            return GroupedMoments(rows, sums, self.squares + other.squares)

    def ratios(self) -> Floats:
        """Correlation ratio η of each pair, ``(categories, numbers)``."""
        ratios = np.full(self.squares.shape, np.nan)
        for column, (rows, sums) in enumerate(zip(self.rows, self.sums, strict=True)):
            for number, square in enumerate(self.squares[column]):
                ratios[column, number] = correlation_ratio(rows[:-1, number], sums[:-1, number], float(square))
        return ratios


def correlation_ratio(rows: Floats, sums: Floats, square: float) -> float:
    """Correlation ratio η of a number in groups, corrected for chance (Kelley 1935).

    It is the root of 1 - (n - 1)/(n - k) (1 - η²), at least 0, for n rows in k groups.

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

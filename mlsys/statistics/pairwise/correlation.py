"""Pairs of numbers: sums of products over the rows where both have a value.

Every number is taken less a constant that lies among its values, the same for all parts.
The sums then merge by addition, and do not cancel as those of the raw values would.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American
Statistician 37(3), section 3 (shifted data), doi:10.1080/00031305.1983.10483115.

A number within the categories of another column: the correlation ratio.

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

from mlsys.statistics.pairwise.layout import Block, PairLayout

__all__ = ["CrossProducts", "GroupedMoments", "correlation_ratio"]

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""A variance below this fraction of the mean square is what rounding leaves of a constant."""


@dataclass(frozen=True)
class CrossProducts:
    """Sums over pairs: entry (i, j) covers the rows where both numbers have a value.

    Attributes
    ----------
    rows
        How many rows.
    sums, squares
        Of number i, and of its square.
    products
        Of number i times number j.
    """

    rows: Floats
    sums: Floats
    squares: Floats
    products: Floats

    @classmethod
    def empty(cls, size: int) -> Self:
        return cls(*(np.zeros((size, size)) for _ in range(4)))

    def update(self, block: Block) -> None:
        x, known, of = block.numbers, block.known, block.known_of
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            np.add(self.rows, (known.T @ known)[np.ix_(of, of)], out=self.rows)
            np.add(self.sums, (x.T @ known)[:, of], out=self.sums)
            np.add(self.squares, (block.squares.T @ known)[:, of], out=self.squares)
            np.add(self.products, x.T @ x, out=self.products)

    def merge(self, other: CrossProducts) -> CrossProducts:
        with np.errstate(over="ignore", invalid="ignore"):
            return CrossProducts(
                self.rows + other.rows,
                self.sums + other.sums,
                self.squares + other.squares,
                self.products + other.products,
            )

    def correlations(self) -> Floats:
        """Pearson's r of each pair; NaN where one of the two does not vary or the sums overflow."""
        with np.errstate(all="ignore"):
            variance = self.squares - self.sums * self.sums / self.rows
            variance = np.where(variance > ROUNDING * self.squares, variance, np.nan)
            covariance = self.products - self.sums * self.sums.T / self.rows
            r = covariance / (np.sqrt(variance) * np.sqrt(variance.T))
        found: Floats = np.where((self.rows >= 2) & np.isfinite(r), np.clip(r, -1, 1), np.nan)
        return found


@dataclass(frozen=True)
class GroupedMoments:
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
    def empty(cls, layout: PairLayout) -> Self:
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

    def merge(self, other: GroupedMoments) -> GroupedMoments:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
            rows = [a + b for a, b in zip(self.rows, other.rows, strict=True)]
            return GroupedMoments(rows, sums, self.squares + other.squares)

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

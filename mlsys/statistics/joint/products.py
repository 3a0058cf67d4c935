"""Pairs of numbers: sums of products over the rows where both have a value.

Every number is taken less a constant that lies among its values, the same for all parts.
The sums then merge by addition, and do not cancel as those of the raw values would.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American
Statistician 37(3), section 3 (shifted data), doi:10.1080/00031305.1983.10483115.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from mlsys.statistics.joint.block import Block

__all__ = ["Products"]

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""A variance below this fraction of the mean square is what rounding leaves of a constant."""


@dataclass(frozen=True)
class Products:
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

    def merge(self, other: Products) -> Products:
        with np.errstate(over="ignore", invalid="ignore"):
            return Products(
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

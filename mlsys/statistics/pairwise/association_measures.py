"""Measures of association between two columns: correlation, correlation ratio, Cramér's V, mutual information.

Every number is taken less a constant that lies among its values, the same for all parts.
The sums then merge by addition, and do not cancel as those of the raw values would.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American
Statistician 37(3), section 3 (shifted data), doi:10.1080/00031305.1983.10483115.
Kelley (1935), "An unbiased correlation ratio measure", Proceedings of the National Academy
of Sciences 21(9), doi:10.1073/pnas.21.9.554: what chance adds to η² is subtracted.
Bergsma (2013), "A bias-correction for Cramér's V and Tschuprow's T", Journal of the Korean
Statistical Society 42(3), doi:10.1016/j.jkss.2012.10.002.
Miller (1955), "Note on the bias of information estimates", in: Information Theory in
Psychology; Roulston (1999), "Estimating the errors on measured entropy and mutual
information", Physica D 125(3-4), doi:10.1016/S0167-2789(98)00269-3: chance adds about
(cells - rows - columns + 1) / 2n to the information, empty ones not counted.
Theil (1970), "On the estimation of relationships involving qualitative variables",
American Journal of Sociology 76(1), doi:10.1086/224909: the share of the target's entropy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from mlsys.statistics.arrays import Floats, Ints
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


@dataclass(frozen=True)
class ContingencyTables:
    """Rows in each cell of two columns: exact counts of the levels and bins of a layout.

    An update costs a count a row and table.

    Attributes
    ----------
    pairs
        Table of the levels of category columns i and j by ``(i, j)``, i < j.
    numbers
        Table of each number with the target: its bins, the last for missing ones, in the rows.
    categories
        Table of each category column with a target that is a number; other targets are in `pairs`.
    """

    pairs: dict[tuple[int, int], Ints]
    numbers: list[Ints]
    categories: list[Ints]

    @classmethod
    def empty(cls, layout: PairLayout) -> Self:
        is_class = layout.task.is_classification
        sizes = [column.size for column in layout.categories]
        both = itertools.combinations(range(len(sizes)), 2)
        pairs = {(i, j): np.zeros((sizes[i], sizes[j]), np.int64) for i, j in both}
        bins = [len(column.edges) + 2 for column in layout.numbers]
        target = sizes[-1] if is_class else bins.pop()
        numbers = [np.zeros((size, target), np.int64) for size in bins]
        return cls(pairs, numbers, [] if is_class else [np.zeros((size, target), np.int64) for size in sizes])

    def update(self, block: Block, layout: PairLayout) -> None:
        for (i, j), table in self.pairs.items():
            _count(table, block.levels[i], block.levels[j])
        is_class = layout.task.is_classification
        target = block.levels[-1] if is_class else block.bins[-1]
        for table, bins in zip(self.numbers, block.bins, strict=False):
            _count(table, bins, target)
        for table, levels in zip(self.categories, block.levels, strict=True) if not is_class else ():
            _count(table, levels, target)

    def merge(self, other: ContingencyTables) -> ContingencyTables:
        return ContingencyTables(
            {pair: table + other.pairs[pair] for pair, table in self.pairs.items()},
            [a + b for a, b in zip(self.numbers, other.numbers, strict=True)],
            [a + b for a, b in zip(self.categories, other.categories, strict=True)],
        )

    def with_target(self, layout: PairLayout) -> dict[str, Ints]:
        """Table of each column with the target, by name; its last column is for rows without a target."""
        last = len(layout.categories) - 1
        tables = {column.name: table for column, table in zip(layout.numbers, self.numbers, strict=False)}
        for index, column in enumerate(layout.categories):
            if not layout.task.is_classification:
                tables[column.name] = self.categories[index]
            elif index != last:
                tables[column.name] = self.pairs[index, last]
        return tables


def _count(table: Ints, rows: Ints, columns: Ints) -> None:
    cells = rows.astype(np.int64) * table.shape[1] + columns  # levels come in as few bytes as hold them
    table += np.bincount(cells, minlength=table.size).reshape(table.shape)


def cramers_v(table: Ints) -> float:
    """Cramér's V of a table of counts, corrected for bias (Bergsma 2013); NaN with a single row or column.

    >>> round(cramers_v(np.array([[30, 10], [10, 30]])), 4)  # φ² = 0.25, less 1 / 79
    0.4903
    """
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    n, (r, c) = int(table.sum()), table.shape
    if n < 2 or min(r, c) < 2:
        return float("nan")
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi - (r - 1) * (c - 1) / (n - 1))
    size = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, corrected / size) ** 0.5) if size > 0 else float("nan")


@dataclass(frozen=True)
class Information:
    """Mutual information of one column about another.

    Attributes
    ----------
    bits
        Mutual information in bits, less `chance`; at least 0.
    chance
        Bits that chance adds and that were subtracted; at least 0.
    share
        Share of the entropy of the other column: 0 nothing, 1 everything.
    """

    bits: float
    chance: float
    share: float


def information(table: Ints) -> Information | None:
    """Mutual information of the rows of a table of counts about its columns; None where those do not vary.

    >>> found = information(np.array([[30, 20], [20, 30]]))  # 1 - H(0.6) = 0.0290, less 1 / 200 ln 2
    >>> round(found.bits + found.chance, 4), round(found.chance, 4)
    (0.029, 0.0072)
    """
    counts = table[table.sum(1) > 0][:, table.sum(0) > 0].astype(np.float64)
    if min(counts.shape) == 0 or counts.shape[1] < 2:
        return None
    n = counts.sum()
    entropy = {axis: _entropy(counts.sum(axis) / n) for axis in (0, 1)}
    raw = entropy[0] + entropy[1] - _entropy(counts.ravel() / n)
    cells = int((counts > 0).sum()) - counts.shape[0] - counts.shape[1] + 1
    chance = max(0.0, cells / (2 * n * np.log(2)))
    bits = max(0.0, float(raw - chance))
    return Information(bits, float(min(chance, max(raw, 0.0))), min(1.0, bits / entropy[0]))


def _entropy(shares: Floats) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())

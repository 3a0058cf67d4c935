"""Contingency tables of two columns: Cramér's V, and mutual information with the target.

References
----------
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

from mlsys.statistics.arrays import Floats, Ints
from mlsys.statistics.pairwise.layout import Block, PairLayout


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
    table += np.bincount(rows * table.shape[1] + columns, minlength=table.size).reshape(table.shape)


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

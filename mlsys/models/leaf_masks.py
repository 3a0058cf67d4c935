"""Boosted trees for single rows: the leaf of each tree by the intersection of bit masks, in a few calls of NumPy.

The leaves of a tree, from left to right, are the bits of a word. A split that sends a row to the right rules out the
leaves on its left; the row ends in the first leaf that no split rules out. So a row needs no walk: for each feature
the words of all trees that its splits leave are in one table, by the number of thresholds that the value reaches. One
row of each feature's table is taken, their words are intersected, and the lowest bit of each word is the leaf. A
library that walks the trees needs less for that, and several times as much for being called.

Source: Lucchese, Nardini, Orlando, Perego, Tonellotto & Venturini (2015), "QuickScorer: a fast algorithm to rank
documents with additive ensembles of regression trees", SIGIR, doi:10.1145/2766462.2767733. There the words of a
document's false splits are looked up one after another; here those of a feature are intersected beforehand.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

MAX_LEAVES = 64
"""Leaves that a tree may have: the bits of a word."""

MAX_TABLE_BYTES = 1 << 25
"""Size of the tables at most, 32 MiB; a larger ensemble is left to its library."""

_EXPONENT_BITS, _EXPONENT_BIAS = 52, 1023
"""Where a double keeps the exponent of a power of two (IEEE 754, binary64)."""


@dataclass(frozen=True)
class InnerNode:
    """An inner node: it sends a row to the right, or leaves it among the leaves on its left.

    Attributes
    ----------
    feature
        Position of the feature.
    threshold
        The least number that goes right, infinite if none does; None for a split by categories.
    categories
        The codes that go right.
    missing_right
        True if a missing value goes right.
    """

    feature: int
    threshold: float | None
    categories: frozenset[int]
    missing_right: bool


@dataclass(frozen=True)
class Tree:
    """The splits of a tree, each with the leaves that it keeps of a row that goes right, and the leaves' values.

    Leaves are numbered from left to right; those that a split keeps are the bits of a word.
    """

    splits: Sequence[tuple[InnerNode, int]]
    leaves: Sequence[float]


def tree_of(
    left: Sequence[int], right: Sequence[int], splits: Mapping[int, InnerNode], values: Sequence[float]
) -> Tree:
    """Number the leaves of a tree from left to right and find which of them each split keeps.

    Parameters
    ----------
    left, right
        Children of each node, the root first; -1 for those of a leaf.
    splits
        Inner node → its split.
    values
        Value of each node, of which those of leaves count.
    """
    order: list[int] = []
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    waiting = [(0, False)]
    while waiting:
        node, is_left_done = waiting.pop()
        if node not in splits:
            order.append(node)
        elif is_left_done:
            ends[node] = len(order)
            waiting.append((right[node], False))
        else:
            begins[node] = len(order)
            waiting += [(node, True), (left[node], False)]
    whole = (1 << len(order)) - 1
    made = [(split, whole & ~((1 << ends[node]) - (1 << begins[node]))) for node, split in splits.items()]
    return Tree(made, [values[node] for node in order])


Placed = Sequence[tuple[int, InnerNode, int]]
"""Splits, each with the number of its tree before it and the word of the leaves that it keeps after it."""


@dataclass(frozen=True)
class _Places:
    """The rows of the table with the words of a feature: by rank, by code, and for a missing value.

    Of a feature with codes the first place is that of values which are no code of any split.
    """

    feature: int
    first: int
    missing: int
    thresholds: list[float]
    codes: dict[float, int]


class LeafMasks:
    """The sums of the leaves' values that a row ends in, in the order of the trees, in float32.

    Parameters
    ----------
    trees
        Trees in their order, those of all outputs in turn.
    base
        What each output begins with, ``(outputs,)``; tree ``i`` belongs to output ``i % outputs``.

    Raises
    ------
    ValueError
        The trees are of a form, or so many, that they are better left to their library.
    """

    def __init__(self, trees: Sequence[Tree], base: NDArray[np.float32]) -> None:
        self.base = base
        if not trees or len(trees) % len(base) or max(len(tree.leaves) for tree in trees) > MAX_LEAVES:
            raise ValueError(f"no trees, trees of more than {MAX_LEAVES} leaves, or not as many for each output")
        self._table, places = _tables(trees)
        self._numbers = [(p.feature, p.first, p.thresholds, p.missing) for p in places if not p.codes]
        self._codes = [(p.feature, p.first, p.codes, p.missing) for p in places if p.codes]
        leaves = np.zeros((len(trees), MAX_LEAVES), np.float32)
        for number, tree in enumerate(trees):
            leaves[number, : len(tree.leaves)] = tree.leaves
        self._leaves = leaves.reshape(-1)
        self._offsets = np.arange(len(trees), dtype=np.int64) * MAX_LEAVES - _EXPONENT_BIAS

    def __call__(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum the leaves of one row of features, ``(outputs,)``."""
        values = row.tolist()
        places = [
            missing if isnan(value := values[feature]) else first + bisect_right(thresholds, value)
            for feature, first, thresholds, missing in self._numbers
        ]
        for feature, first, codes, missing in self._codes:
            value = values[feature]
            places.append(missing if isnan(value) else first + codes.get(value // 1, 0))
        words = np.bitwise_and.reduce(self._table.take(places, axis=0), axis=0)
        lowest = (words & -words).astype(np.float64).view(np.int64)
        leaves = self._leaves.take((lowest >> _EXPONENT_BITS) + self._offsets)
        terms = np.concatenate([self.base, leaves]).reshape(-1, len(self.base))
        return np.asarray(np.add.accumulate(terms, axis=0)[-1])


def _tables(trees: Sequence[Tree]) -> tuple[Words, list[_Places]]:
    """The words of all trees for each feature and each rank, code or missing value of it, one table below another."""
    by_feature: dict[int, list[tuple[int, InnerNode, int]]] = {}
    for number, tree in enumerate(trees):
        for split, word in tree.splits:
            by_feature.setdefault(split.feature, []).append((number, split, word))
    if not by_feature:
        raise ValueError("trees without a split")
    tables, places, first = [], [], 0
    for feature, splits in sorted(by_feature.items()):
        kinds = {split.threshold is None for _, split, _ in splits}
        if len(kinds) == 2:
            raise ValueError(f"feature {feature} has splits by numbers and by categories")
        table, made = (_of_codes if kinds.pop() else _of_numbers)(feature, first, splits, len(trees))
        tables.append(table)
        places.append(made)
        first += len(table)
        if first * len(trees) * table.itemsize > MAX_TABLE_BYTES:
            raise ValueError(f"tables of more than {MAX_TABLE_BYTES:,} bytes")
    return np.concatenate(tables), places


def _of_numbers(feature: int, first: int, splits: Placed, num_trees: int) -> tuple[Words, _Places]:
    """Rank ``k`` has what the splits with the ``k`` least thresholds keep; the last place is that of missing values."""
    limits = sorted({limit for _, split, _ in splits if (limit := split.threshold) is not None and limit < math.inf})
    table = _all_leaves(len(limits) + 2, num_trees)
    rank_of = {limit: rank for rank, limit in enumerate(limits, 1)}
    for number, split, word in splits:
        if split.threshold in rank_of:
            table[rank_of[split.threshold], number] &= np.uint64(word)
    table[:-1] = np.bitwise_and.accumulate(table[:-1], axis=0)
    _rule_out_missing(table, splits)
    return table, _Places(feature, first, first + len(table) - 1, limits, {})


def _of_codes(feature: int, first: int, splits: Placed, num_trees: int) -> tuple[Words, _Places]:
    """Place 0 is that of values that are no code of any split, and so go left; the last one that of missing values."""
    known = sorted(set().union(*(split.categories for _, split, _ in splits)))
    codes = {float(code): place for place, code in enumerate(known, 1)}
    table = _all_leaves(len(known) + 2, num_trees)
    for number, split, word in splits:
        table[[codes[code] for code in split.categories], number] &= np.uint64(word)
    _rule_out_missing(table, splits)
    return table, _Places(feature, first, first + len(table) - 1, [], codes)


def _all_leaves(num_places: int, num_trees: int) -> Words:
    return np.full((num_places, num_trees), np.uint64((1 << MAX_LEAVES) - 1))


def _rule_out_missing(table: Words, splits: Placed) -> None:
    for number, split, word in splits:
        if split.missing_right:
            table[-1, number] &= np.uint64(word)

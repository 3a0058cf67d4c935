"""Draw bins (parts or folds) of rows by chance, by group or by time.

`shuffled`, `stratified`, `by_group` and `by_time` return the number of a bin, 0 … len(shares) - 1, of each row, as
int8. Chance is a hash of the seed and the row's number, not a stream of random numbers: a row keeps its place however
the rows are spread over files, and each class or group is drawn alike.

Rows of one group of `groups` share a bin in `shuffled` and `stratified`, too, and the shares are kept as well as that
allows: the largest groups are drawn first, those of one size like rows of a class, and each level makes up for what
the ones before it left uneven. Rows that are alone come last, so that with enough of them shares are exact to a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlsys.statistics.hashing import GOLDEN, mix

Bins = NDArray[np.int8]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def order(keys: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number that looks random, of each key alone: SplitMix64 of the key, moved by a hash of the seed."""
    offset = mix(np.array([seed], np.int64).view(np.uint64) - GOLDEN)  # 0 for seed 0
    return mix(keys.astype(np.uint64) + offset)


def shuffled(keys: Integers, shares: list[float], seed: int, groups: Integers | None = None) -> Bins:
    """Draw bins of exact shares (to one row), by `order`; to one group where there are groups."""
    first, group_of_row, sizes = _groups(groups, len(keys))
    lacks = _sizes(len(keys), shares).astype(np.float64)
    return _spread(keys[first], sizes, lacks, np.zeros(len(shares)), seed)[group_of_row]


def stratified(
    keys: Integers, classes: Integers, shares: list[float], seed: int, groups: Integers | None = None
) -> Bins:
    """Draw bins in which every class has its share, to one row, and at least one row where it has enough.

    What rounding leaves over goes from class to class to the bins that are furthest behind, so
    that the bins as a whole have their shares too. Groups with rows of several classes are drawn
    first, and the rows of each class make up for them.
    """
    first, group_of_row, sizes = _groups(groups, len(keys))
    labels, codes = np.unique(classes, return_inverse=True)
    lowest, highest = np.full(len(first), len(labels)), np.full(len(first), -1)
    np.minimum.at(lowest, group_of_row, codes)
    np.maximum.at(highest, group_of_row, codes)
    lacks = np.outer(np.bincount(codes), shares)
    bins, behind = np.empty(len(first), np.int8), np.zeros(len(shares))
    # 1. Groups of several classes
    is_mixed = lowest < highest
    mixed = np.flatnonzero(is_mixed)
    if len(mixed):
        quota = np.asarray(shares) * sizes[mixed].sum()
        bins[mixed] = _spread(keys[first[mixed]], sizes[mixed], quota, np.zeros(len(shares)), seed)
        rows = np.flatnonzero(is_mixed[group_of_row])
        np.subtract.at(lacks, (codes[rows], bins[group_of_row[rows]]), 1)
    # 2. Class by class
    for label in range(len(labels)):
        alone = np.flatnonzero((lowest == label) & ~is_mixed)
        if len(alone):
            bins[alone] = _spread(keys[first[alone]], sizes[alone], lacks[label], behind, seed)
    return bins[group_of_row]


def by_group(keys: NDArray[np.int64], groups: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Draw bins that no group straddles: groups in random order, each to the bin that lacks most rows.

    The last groups go to bins that are still empty.
    """
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    lacks = np.asarray(shares) * len(keys)
    empty = set(range(len(shares)))
    bin_of = np.empty(len(sizes), np.int8)
    drawn = np.argsort(order(keys[first], seed), kind="stable")
    for num_placed, group in enumerate(drawn.tolist()):
        must = sorted(empty) if len(drawn) - num_placed <= len(empty) else range(len(shares))
        chosen = max(must, key=lambda number: lacks[number])
        bin_of[group] = chosen
        lacks[chosen] -= sizes[group]
        empty.discard(chosen)
    return bin_of[inverse]


def edges(times: NDArray[np.int64], shares: list[float]) -> list[int] | None:
    """Find the times at which the next bin begins: nearest to the shares, with equal times in one bin.

    None if there are fewer distinct times than bins.
    """
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) < len(shares):
        return None
    before = np.concatenate([[0], np.cumsum(counts)])  # rows before each distinct time
    begins, last = [], 0
    for bin_, share in enumerate(np.cumsum(shares)[:-1]):
        most = len(distinct) - (len(shares) - 1 - bin_)  # leaves a time for each later bin
        nearest = int(np.argmin(np.abs(before - share * len(times))))
        last = min(max(nearest, last + 1), most)
        begins.append(int(distinct[last]))
    return begins


def by_time(times: NDArray[np.int64], begins: list[int]) -> Bins:
    """The bin of each time, where bin k + 1 begins at ``begins[k]``."""
    return np.searchsorted(np.asarray(begins), times, side="right").astype(np.int8)


def _groups(groups: Integers | None, num_rows: int) -> tuple[Integers, Integers, Integers]:
    """First row of each group, group of each row, and rows of each group; each row by itself without groups."""
    if groups is None:
        rows = np.arange(num_rows)
        return rows, rows, np.ones(num_rows, np.int64)
    _, first, group_of_row, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    return first, group_of_row, sizes


def _spread(keys: Integers, sizes: Integers, quota: Floats, behind: Floats, seed: int) -> Bins:
    """Draw a bin for each group so that the bins get the rows that are its quota, the largest groups first.

    `behind` are the rows that each bin lacks from draws before this one; what this one leaves is added to it.
    """
    bins, lacks, rows_left = np.empty(len(sizes), np.int8), quota.astype(np.float64), int(sizes.sum())
    has_rows, levels = np.zeros(len(quota), bool), np.unique(sizes)[::-1].tolist()
    for size in levels:
        groups, is_last = np.flatnonzero(sizes == size), size == levels[-1]
        exact = _exact(lacks, len(groups), size, rows_left)
        counts = np.floor(exact + 1e-9).astype(np.int64)
        missing = behind if is_last else behind.copy()
        missing += lacks * (size * len(groups) / rows_left) - size * counts
        for _ in range(len(groups) - int(counts.sum())):
            most = int(np.argmax(missing))
            counts[most] += 1
            missing[most] -= size
        if is_last:
            _fill(counts, missing, has_rows, size)
        drawn = groups[np.argsort(order(keys[groups], seed), kind="stable")]
        bins[drawn] = np.repeat(np.arange(len(quota)), counts)
        lacks -= size * counts
        has_rows |= counts > 0
        rows_left -= size * len(groups)
    return bins


def _exact(lacks: Floats, num_groups: int, size: int, rows_left: int) -> Floats:
    """Groups of one size for each bin, as fractions: as many as its part of the rows that are still lacking."""
    if lacks.min() >= 0:
        return lacks * (size * num_groups / rows_left) / size
    quota = np.maximum(lacks, 0)
    return np.asarray(quota * (num_groups / quota.sum()))


def _sizes(count: int, shares: list[float]) -> Integers:
    ends = np.rint(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.asarray(np.diff(ends, prepend=0), np.int64)


def _fill(counts: Integers, behind: Floats, has_rows: NDArray[np.bool_], size: int) -> None:
    """Give each bin without a row a group of the bin that has most, if that keeps two."""
    for empty in np.flatnonzero((counts == 0) & ~has_rows):
        largest = int(np.argmax(counts))
        if counts[largest] > 2:
            counts[empty], counts[largest] = 1, counts[largest] - 1
            behind[empty], behind[largest] = behind[empty] - size, behind[largest] + size

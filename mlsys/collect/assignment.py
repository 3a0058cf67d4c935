"""Which row goes into which part and fold: arithmetic on small arrays, one entry a row.

Chance is a hash of the seed and the row's number, not a stream of random numbers: a row keeps
its place however the rows are spread over files, and each class or group is drawn alike.

Functions return numbers of bins (parts or folds), 0 … len(shares) - 1, as int8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_group", "by_time", "edges", "order", "shuffled", "stratified"]

Bins = NDArray[np.int8]


def order(keys: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number a key that looks random and depends on nothing else than key and seed.

    SplitMix64's mixing function: Steele, Lea and Flood (2014), Fast splittable pseudorandom
    number generators, OOPSLA, doi:10.1145/2660193.2660195.

    >>> int(order(np.array([0]), 0)[0]) == 0xE220A8397B1DCDAF  # its first output for seed 0
    True
    """
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64) + _mixed(np.array([seed], np.int64).view(np.uint64)) * np.uint64(seed != 0)
        return _mixed(z + np.uint64(0x9E3779B97F4A7C15))


def shuffled(keys: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Bins of exact shares (to one row), drawn by `order`."""
    bins = np.empty(len(keys), np.int8)
    bins[np.argsort(order(keys, seed), kind="stable")] = np.repeat(np.arange(len(shares)), _sizes(len(keys), shares))
    return bins


def stratified(keys: NDArray[np.int64], classes: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Bins in which every class has its share, to one row, and at least one row where it has enough.

    What rounding leaves over goes from class to class to the bins that are furthest behind, so
    that the bins as a whole have their shares too.
    """
    bins = np.empty(len(keys), np.int8)
    behind = np.zeros(len(shares))
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        wanted = np.asarray(shares) * len(rows)
        sizes = np.floor(wanted + 1e-9).astype(np.int64)
        behind += wanted - sizes
        for _ in range(len(rows) - int(sizes.sum())):
            most = int(np.argmax(behind))
            sizes[most] += 1
            behind[most] -= 1
        _fill(sizes, behind)
        drawn = rows[np.argsort(order(keys[rows], seed), kind="stable")]
        bins[drawn] = np.repeat(np.arange(len(shares)), sizes)
    return bins


def by_group(keys: NDArray[np.int64], groups: NDArray[np.int64], shares: list[float], seed: int) -> Bins:
    """Bins that no group straddles: groups in random order, each to the bin that lacks most rows.

    `groups` are numbers of groups. The last groups go to bins that are still empty.
    """
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    lacks = np.asarray(shares) * len(keys)
    empty = set(range(len(shares)))
    bin_of = np.empty(len(sizes), np.int8)
    drawn = np.argsort(order(keys[first], seed), kind="stable")
    for done, group in enumerate(drawn.tolist()):
        must = sorted(empty) if len(drawn) - done <= len(empty) else range(len(shares))
        chosen = max(must, key=lambda at: lacks[at])
        bin_of[group] = chosen
        lacks[chosen] -= sizes[group]
        empty.discard(chosen)
    return bin_of[inverse]


def edges(times: NDArray[np.int64], shares: list[float]) -> list[int] | None:
    """Times at which the next bin begins: the nearest to the shares that parts no equal times.

    None if there are fewer distinct times than bins.
    """
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) < len(shares):
        return None
    before = np.concatenate([[0], np.cumsum(counts)])  # rows before each distinct time
    found, last = [], 0
    for bin_, share in enumerate(np.cumsum(shares)[:-1]):
        most = len(distinct) - (len(shares) - 1 - bin_)  # leaves a time for each later bin
        at = int(np.argmin(np.abs(before - share * len(times))))
        last = min(max(at, last + 1), most)
        found.append(int(distinct[last]))
    return found


def by_time(times: NDArray[np.int64], begins: list[int]) -> Bins:
    """Bin of each time, where bin k + 1 begins at ``begins[k]``."""
    return np.searchsorted(np.asarray(begins), times, side="right").astype(np.int8)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _sizes(count: int, shares: list[float]) -> NDArray[np.int64]:
    ends = np.rint(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.asarray(np.diff(ends, prepend=0), np.int64)


def _fill(sizes: NDArray[np.int64], behind: NDArray[np.float64]) -> None:
    """Give each bin without a row one of the largest bin, if that keeps two."""
    for at in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        if sizes[largest] > 2:
            sizes[at], sizes[largest] = 1, sizes[largest] - 1
            behind[at], behind[largest] = behind[at] - 1, behind[largest] + 1

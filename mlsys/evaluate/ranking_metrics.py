"""Metrics of rankings: a value for each group of rows, such as the results of a query, and the mean over the groups.

A grade g gains ``2^g - 1``, and the row at rank r of its group is discounted by ``1 / log2(1 + r)``: the sum over the
ranks is the discounted cumulative gain (Järvelin & Kekäläinen 2002, ACM TOIS 20(4), 422-446), with the gain of Burges
et al. 2005 (ICML, 89-96) that LightGBM, XGBoost and CatBoost have, too. Divided by that of the best order it is the
normalised one, NDCG. A reciprocal rank is one over the rank of the first row with a grade above 0.

Rows of equal score have no order, so their value is the *expected* one over all orders of them that are equally likely
(McSherry & Najork 2008, ECIR, "Computing Information Retrieval Performance Measures Efficiently in the Presence of
Tied Scores"): no accident of a file decides, and a model that says the same of every row has the value of chance.

A group without a grade above 0 has no best order. It is left out of the mean, where others count it as 0 or as 1.

>>> grades, group = np.array([2.0, 0.0, 1.0]), np.zeros(3, np.int64)
>>> ndcg_by_group(grades, np.array([3.0, 2.0, 1.0]), group).round(4).tolist()
[0.9639]
>>> reciprocal_rank_by_group(grades, np.array([1.0, 3.0, 2.0]), group).tolist()
[0.5]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys.evaluate.weighted_metrics import Prepare, Statistic
from mlsys.statistics.arrays import Floats

Groups = NDArray[np.int64]
"""The number of each row's group, counted from 0."""

CUTOFFS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Ranks at which reports show NDCG."""


def of_groups(value: Callable[[Floats, Floats, Groups], Floats]) -> Prepare:
    """Turn a function of (grades, scores, groups) to a value a group into a statistic: the mean over the groups.

    Of the prediction, the first column is the score and the second the number of the group. A group weighs as its rows
    do on average, so one whose rows are all left out is left out.
    """

    def prepare(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
        group = np.unique(prediction[:, 1], return_inverse=True)[1].astype(np.int64)
        values = value(np.asarray(y, np.float64), np.asarray(prediction[:, 0], np.float64), group)
        is_known, sizes = np.isfinite(values), np.bincount(group)

        def statistic(weight: Floats | None) -> float:
            own = np.ones(len(values)) if weight is None else np.bincount(group, weight, len(values)) / sizes
            total = own[is_known].sum()
            return float(own[is_known] @ values[is_known] / total) if total > 0 else float("nan")

        return statistic

    return prepare


def ndcg(k: int | None = None) -> Prepare:
    """Make the statistic of NDCG over the first `k` ranks, or over all of them."""
    return of_groups(lambda grades, score, group: ndcg_by_group(grades, score, group, k))


def ndcg_by_group(grades: Floats, score: Floats, group: Groups, k: int | None = None) -> Floats:
    """Compute NDCG of each group over its first `k` ranks, expected over ties; NaN without a grade above 0."""
    gain = np.exp2(grades) - 1
    best = _discounted(gain, gain, group, k)
    own = _discounted(gain, score, group, k)
    return np.asarray(np.divide(own, best, out=np.full(len(best), np.nan), where=best > 0), np.float64)


def _discounted(gain: Floats, score: Floats, group: Groups, k: int | None) -> Floats:
    """Discounted cumulative gain of each group in the order of falling score; ties share the mean of their gains."""
    if not len(gain):
        return np.empty(0)
    order, first, place = _ties(score, group)
    discount = 1 / np.log2(place + 2.0)
    if k is not None:
        discount[place >= k] = 0
    sizes = np.diff(np.append(first, len(order)))
    of_ties = np.add.reduceat(gain[order], first) / sizes * np.add.reduceat(discount, first)
    return np.asarray(np.bincount(group[order[first]], of_ties, int(group.max()) + 1), np.float64)


def _ties(score: Floats, group: Groups) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows by group and falling score, the positions among them at which ties begin, and their places in the group."""
    order = np.lexsort((-score, group))
    begins = np.diff(group[order], prepend=-1) != 0
    place = np.arange(len(order)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    ordered = score[order]
    begins[1:] |= ordered[1:] != ordered[:-1]
    return order, np.flatnonzero(begins), place


def reciprocal_rank_by_group(grades: Floats, score: Floats, group: Groups) -> Floats:
    """Compute the reciprocal rank of each group, expected over ties; NaN without a grade above 0."""
    if not len(grades):
        return np.empty(0)
    order, first, place = _ties(score, group)
    sizes = np.diff(np.append(first, len(order)))
    relevant = np.add.reduceat((grades[order] > 0).astype(np.int64), first)
    hits = np.flatnonzero(relevant)
    own, which = np.unique(group[order[first[hits]]], return_index=True)
    values = np.full(int(group.max()) + 1, np.nan)
    for number, tie in zip(own, hits[which], strict=True):
        values[number] = _expected_reciprocal(int(place[first[tie]]), int(sizes[tie]), int(relevant[tie]))
    return values


def _expected_reciprocal(before: int, size: int, relevant: int) -> float:
    """Expected reciprocal rank of the first relevant row of a tie that begins after so many others.

    The first of r relevant rows among n stands at place i with probability ``C(n - i, r - 1) / C(n, r)``.

    >>> _expected_reciprocal(0, 2, 1), _expected_reciprocal(3, 1, 1)
    (0.75, 0.25)
    """
    place = np.arange(size - relevant + 1)
    misses = (size - relevant - place[:-1]) / (size - place[:-1])
    reached = np.cumprod(np.append(1.0, misses))
    return float(reached * relevant / (size - place) @ (1 / (before + place + 1.0)))


def described(y: Floats, output: Floats, dummy: Floats, groups: NDArray[Any]) -> dict[str, Any]:
    """Describe a ranking for a report: NDCG by rank beside that of chance, and how it is spread over the groups."""
    group = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    sizes = np.bincount(group)
    cutoffs = [k for k in CUTOFFS if k <= sizes.max()]
    whole = ndcg_by_group(y, output, group)
    is_known = np.isfinite(whole)
    edges = np.linspace(0, 1, 21)
    return {
        "num_groups": len(sizes),
        "num_left_out": int((~is_known).sum()),
        "median_rows": float(np.median(sizes)),
        "cutoffs": cutoffs,
        "ndcg": [_mean(ndcg_by_group(y, output, group, k)) for k in cutoffs],
        "dummy": [_mean(ndcg_by_group(y, dummy, group, k)) for k in cutoffs],
        "histogram": {"edges": edges, "counts": np.histogram(np.clip(whole[is_known], 0, 1), edges)[0]},
    }


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")

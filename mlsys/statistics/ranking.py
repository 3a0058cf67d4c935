"""Order statistics: quantiles and ranks of weighted values, ROC AUC, average precision, intervals of rates.

Scores are sorted once; every weighting of the rows after that (a bootstrap resample is one)
costs one pass. Rows of equal score are one step: no order among them is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlsys.statistics.arrays import Bools, Floats


def weighted_cdf(rising: Floats, running: NDArray[Any], points: ArrayLike) -> Floats:
    """Fraction of the weight at or below each point; `running` is the weight up to and with each of the rising values.

    >>> weighted_cdf(np.array([1.0, 2.0]), np.array([3, 4]), [0, 1, 9]).tolist()
    [0.0, 0.75, 1.0]
    """
    fractions: Floats = np.concatenate([[0.0], running])[np.searchsorted(rising, points, side="right")] / running[-1]
    return fractions


def weighted_quantiles(rising: Floats, running: NDArray[Any], probabilities: ArrayLike) -> Floats:
    """Smallest value whose CDF reaches each probability; `running` as in `weighted_cdf`.

    Type 1 of Hyndman & Fan (1996), The American Statistician 50(4), doi:10.1080/00031305.1996.10473566;
    a probability that rounding alone has put above a step stays on it.

    >>> weighted_quantiles(np.array([1.0, 2.0]), np.array([3, 4]), [0.75, 0.8]).tolist()
    [1.0, 2.0]
    """
    weights = np.asarray(probabilities, dtype=float) * running[-1]
    places = np.searchsorted(running, weights * (1 - 1e-12), side="left")
    values: Floats = rising[np.minimum(places, len(rising) - 1)]
    return values


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs.

    >>> mean_ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


@dataclass(frozen=True)
class Ranked:
    """Rows sorted by descending score, with the end of each group of equal scores.

    Attributes
    ----------
    order
        Row numbers by descending score, shape (n,).
    ends
        Position in `order` of the last row of each distinct score, shape (m,).
    thresholds
        The distinct scores, descending, shape (m,).
    positive
        1.0 where the row at that position is positive, shape (n,).
    """

    order: NDArray[np.intp]
    ends: NDArray[np.intp]
    thresholds: Floats
    positive: Floats

    @classmethod
    def of(cls, positive: Bools, score: Floats) -> Ranked:
        order = np.argsort(-score, kind="stable")
        sorted_score = score[order]
        ends = np.append(np.flatnonzero(np.diff(sorted_score)), len(score) - 1) if len(score) else np.empty(0, np.intp)
        return cls(order, ends, sorted_score[ends], positive[order].astype(np.float64))

    def counts(self, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """True and false positives when all rows with a score of at least each threshold are called positive."""
        if weight is None:
            true = np.cumsum(self.positive)[self.ends]
            return true, (self.ends + 1.0) - true
        sorted_weight = weight[self.order]
        true = np.cumsum(sorted_weight * self.positive)[self.ends]
        return true, np.cumsum(sorted_weight)[self.ends] - true


def roc_auc(true: NDArray[Any], false: NDArray[Any]) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half.

    `true` and `false` are the positives and negatives at or above each distinct score, falling. The trapezoid over
    the groups of equal score equals the Mann-Whitney statistic divided by the number of pairs (Hanley & McNeil 1982,
    Radiology 143(1), 29-36). NaN if one of the two classes has no rows.
    """
    if not len(true) or true[-1] <= 0 or false[-1] <= 0:
        return float("nan")
    new_false = np.diff(false, prepend=0.0)
    middle = (true + np.append(0.0, true[:-1])) / 2
    return float(new_false @ middle / (true[-1] * false[-1]))


def average_precision(true: Floats, false: Floats) -> float:
    """Area under the precision-recall curve as a sum of steps, ``∑ (R_k - R_{k-1}) P_k``.

    Not the trapezoid, which is too optimistic there (Davis & Goadrich 2006, ICML, 233-240).
    NaN without a positive row; 1 if there is no negative one.
    """
    if not len(true) or true[-1] <= 0:
        return float("nan")
    called = true + false
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    return float(np.diff(true, prepend=0.0) @ precision / true[-1])


Z_95_LOWER, Z_95 = 1.645, 1.96
"""Standard errors of a one-sided and of a two-sided 95 % interval: quantiles of the normal distribution."""


def wilson_interval(successes: float, count: float, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a rate, `z` standard errors to either side; NaN without trials.

    It holds for small counts and for rates near 0 or 1, where the normal approximation does not:
    Wilson (1927), JASA 22, 209-212, doi:10.1080/01621459.1927.10502953.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if count <= 0:
        return math.nan, math.nan
    rate = successes / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def auc_standard_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an area under the ROC curve; 0 where the classes are parted perfectly.

    Hanley & McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology 143(1),
    equation 1, doi:10.1148/radiology.143.1.7063747.
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(spread / (positives * negatives))

"""Scores against thresholds: curves of bounded size, calibration, and the threshold that a bundle keeps.

Calibration in bins of equal mass, ROC and precision-recall curves, score histograms, confusion matrix, and the
densities of a regression are what reports draw, from the scores of any number of rows. The decision threshold
of a binary model is chosen on validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsys.statistics.arrays import Floats
from mlsys.statistics.ranking import Ranked, wilson_interval

Rule = Literal["f1", "cost", "half"]
Cost = Mapping[Literal["false_positive", "false_negative"], float]

RULES = {
    "f1": "best F1 on validation",
    "cost": "least cost on validation",
    "utility": "greatest mean utility on validation",
    "half": "fixed",
}
"""What a decision threshold is, in words, by the rule of the recipe that chose it."""


@dataclass(frozen=True)
class ThresholdCurve:
    """The outcome of each threshold, descending: rows called positive rightly (`true`) and wrongly (`false`)."""

    thresholds: Floats
    true: Floats
    false: Floats
    positives: float
    negatives: float

    @property
    def f1(self) -> Floats:
        """F1 at each threshold; 0 where nothing is called positive."""
        below = self.true + self.false + self.positives
        return np.asarray(np.divide(2 * self.true, below, out=np.zeros_like(below), where=below > 0), np.float64)

    @property
    def precision(self) -> Floats:
        """Precision at each threshold; NaN where nothing is called positive."""
        called = self.true + self.false
        return np.asarray(np.divide(self.true, called, out=np.full(len(called), np.nan), where=called > 0), np.float64)

    @property
    def recall(self) -> Floats:
        """Recall at each threshold; NaN without positive rows."""
        return self.true / self.positives if self.positives else np.full(len(self.true), np.nan)

    def cost(self, cost: Cost) -> Floats:
        """Compute the mean cost a row, ``(FP c_FP + FN c_FN) / n``, at each threshold."""
        missed = (self.positives - self.true) * cost.get("false_negative", 1.0)
        wrong = self.false * cost.get("false_positive", 1.0) + missed
        return np.asarray(wrong / max(self.positives + self.negatives, 1), np.float64)


def threshold_curve(y: NDArray[Any], score: NDArray[Any], weight: Floats | None = None) -> ThresholdCurve:
    """Find every threshold that divides the rows differently, "none positive" first; rows count by their weight."""
    positive = np.asarray(y) == 1
    ranked = Ranked.of(positive, np.asarray(score, np.float64))
    true, false = ranked.counts(weight)
    own = np.ones(len(positive)) if weight is None else weight
    totals = float(own[positive].sum()), float(own[~positive].sum())
    return ThresholdCurve(_between(ranked.thresholds), np.append(0.0, true), np.append(0.0, false), *totals)


def _between(cuts: Floats) -> Floats:
    """The thresholds that divide rows of these falling scores differently, beginning with "none positive".

    A threshold lies halfway between two neighbouring scores, so that scores that differ by
    rounding from one machine to another fall on the same side.
    """
    none = (cuts[0] + 1) / 2 if len(cuts) and cuts[0] < 1 else np.nextafter(cuts[0] if len(cuts) else 1.0, np.inf)
    return np.concatenate([[none], (cuts[:-1] + cuts[1:]) / 2, cuts[-1:]])


def choose(
    y: NDArray[Any],
    score: NDArray[Any],
    rule: Rule = "f1",
    cost: Cost | None = None,
    weight: Floats | None = None,
) -> float:
    """Choose the threshold that is best by `rule` on these rows; a row is positive if ``score >= threshold``.

    Parameters
    ----------
    y
        Class indices, 1 is positive. Use validation rows: a threshold chosen on training rows
        is too sure of itself, and on test rows it spoils the test.
    score
        Probability of the positive class.
    rule
        ``half`` is 0.5; ``f1`` maximises F1 (Lipton, Elkan & Narayanaswamy 2014, ECML, 225-239);
        ``cost`` minimises what wrong answers cost by `cost`, which may mean calling none or all
        rows positive.
    weight
        How much each row counts; all alike by default.

    Notes
    -----
    Among equals the threshold nearest to 0.5 is taken, and of two as near the greater. With one
    class only, or no rows, nothing can be learned and it is 0.5.

    >>> choose(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9]))
    0.25
    """
    if rule == "half" or len(np.unique(np.asarray(y) == 1)) < 2:
        return 0.5
    outcomes = threshold_curve(y, score, weight)
    loss = outcomes.cost(cost or {}) if rule == "cost" else -outcomes.f1
    return _nearest_to_half(outcomes.thresholds[loss <= loss.min() + 1e-12])


def choose_by_gain(y: NDArray[Any], score: NDArray[Any], gain: NDArray[Any], weight: Floats | None = None) -> float:
    """Choose the threshold with the greatest sum of `gain`, what a row is worth more if it is called positive.

    Ties and rows of one class are as in `choose`, which has the other arguments: it may be best to call none or all.

    >>> choose_by_gain(np.array([0, 1, 1]), np.array([0.25, 0.5, 0.75]), np.array([-5.0, 1.0, 40.0]))
    0.375
    """
    if len(np.unique(np.asarray(y) == 1)) < 2:
        return 0.5
    own = np.asarray(gain, np.float64) if weight is None else gain * weight
    ranked = Ranked.of(np.ones(len(own), bool), np.asarray(score, np.float64))
    total = np.append(0.0, np.cumsum(own[ranked.order])[ranked.ends])
    rounding = 1e-12 * float(np.abs(own).sum())
    return _nearest_to_half(_between(ranked.thresholds)[total >= total.max() - rounding])


def _nearest_to_half(thresholds: Floats) -> float:
    """The threshold nearest to 0.5 of falling ones, and of two as near the greater."""
    return float(thresholds[np.argmin(np.abs(thresholds - 0.5))])


NUM_BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017), ICML, 1321-1330."""
MAX_POINTS = 160
"""Points of a curve."""
MAX_CLASSES = 12
"""Classes of a confusion matrix that are shown; the others become one."""
NUM_CELLS = 36
"""Bins along each side of a density."""


@dataclass(frozen=True)
class Bin:
    """A bin of rows of similar prediction: number, mean prediction, observed rate and its interval."""

    count: int
    predicted: float
    observed: float
    low: float
    high: float


def equal_mass(p: Floats, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Divide rows into bins of about the same number; equal values share a bin, so there may be fewer bins.

    Equal mass rather than equal width, which leaves most bins nearly empty when probabilities
    crowd at one end (Nguyen & O'Connor 2015, EMNLP, 1587-1598).
    """
    if not len(p):
        return np.empty(0, np.int64)
    cuts = np.unique(np.quantile(p, np.arange(1, num_bins) / num_bins, method="inverted_cdf"))
    _, index = np.unique(np.searchsorted(cuts, p, side="left"), return_inverse=True)
    return index.astype(np.int64)


def expected_error(index: NDArray[np.int64], p: Floats, hit: Floats, weight: Floats | None = None) -> float:
    """Compute the expected calibration error, ``∑ n_b / n |mean hit - mean p|`` over bins; NaN without rows.

    Naeini, Cooper & Hauskrecht (2015), AAAI, 2901-2907.
    """
    gap = hit - p
    sums = np.bincount(index, weights=gap if weight is None else gap * weight)
    total = len(p) if weight is None else weight.sum()
    return float(np.abs(sums).sum() / total) if total > 0 else float("nan")


def reliability(
    p: Floats, hit: Floats, num_bins: int = 10, confidence: float = 0.95, units: NDArray[np.int64] | None = None
) -> list[Bin]:
    """Compute mean prediction and observed rate of each bin, ascending, with Wilson intervals.

    Where rows come in `units`, a bin is worth fewer rows than it has: its rows divided by the design effect
    (Korn & Graubard 1998, Survey Methodology 24, 193-201).
    """
    index = equal_mass(p, num_bins)
    count = np.bincount(index)
    predicted, observed = np.bincount(index, weights=p) / count, np.bincount(index, weights=hit)
    effect = 1.0 if units is None else _design_effect(index, hit, units)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return [
        Bin(int(n), float(m), float(k / n), *wilson_interval(float(k) / effect, float(n) / effect, z))
        for n, m, k in zip(count, predicted, observed, strict=True)
    ]


def _design_effect(index: NDArray[np.int64], hit: Floats, units: NDArray[np.int64]) -> float:
    """Variance of the rates of the bins between units, over that of independent rows; 1 or more, pooled over bins.

    The variance between units is that of the linearised rate: sums over units of the residuals ``hit - rate``
    (Kish & Frankel 1974, JRSS B 36, 1-37).
    """
    count = np.bincount(index)
    rate = np.bincount(index, weights=hit) / count
    num_units = int(units.max()) + 1
    if num_units < 2:
        return 1.0
    cell = index * num_units + units
    sums = np.bincount(cell, weights=hit - rate[index], minlength=len(count) * num_units).reshape(len(count), num_units)
    between = (sums**2).sum(axis=1) / count**2 * num_units / (num_units - 1)
    alone = float((rate * (1 - rate) / count).sum())
    return max(float(between.sum()) / alone, 1.0) if alone > 0 else 1.0


def _thin(count: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.intp))


def roc(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats] | None:
    """Draw false against true positive rates from (0, 0) to (1, 1); None with one class only."""
    true, false = Ranked.of(positive, score).counts()
    if not len(true) or not true[-1] or not false[-1]:
        return None
    x, y = np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
    points = _thin(len(x))
    return x[points], y[points]


def precision_recall(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats] | None:
    """Draw recall against precision by falling threshold; None without positive rows."""
    true, false = Ranked.of(positive, score).counts()
    if not len(true) or not true[-1]:
        return None
    points = _thin(len(true))
    return true[points] / true[-1], (true / (true + false))[points]


def thresholds(y: NDArray[Any], score: Floats, cost: Cost) -> dict[str, Floats]:
    """Compute precision, recall, F1 and mean cost at evenly spaced thresholds from 0 to 1."""
    curve = threshold_curve(y, score)
    grid = np.linspace(0, 1, 101)
    distinct = np.unique(score)
    # the curve's first entry calls none, the next the highest score, and so on
    index = len(distinct) - np.searchsorted(distinct, grid)
    return {
        "threshold": grid,
        "precision": curve.precision[index],
        "recall": curve.recall[index],
        "f1": curve.f1[index],
        "cost": curve.cost(cost)[index],
    }


def scores(y: NDArray[Any], score: Floats, names: list[str]) -> dict[str, Any]:
    """Count scores a class over twenty-five bins of the range they take, within 0 … 1."""
    low, high = (float(score.min()), float(score.max())) if len(score) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1e-6, 26)
    return {"edges": edges, "counts": {name: np.histogram(score[y == k], edges)[0] for k, name in enumerate(names)}}


def confusion_shown(counts: Floats, names: list[str]) -> dict[str, Any]:
    """Label a confusion matrix and put its rarest classes together if there are many."""
    if len(names) > MAX_CLASSES:
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        place = np.empty(len(names), np.intp)
        place[order] = np.minimum(np.arange(len(names)), MAX_CLASSES - 1)
        merged = np.zeros((MAX_CLASSES, MAX_CLASSES))
        np.add.at(merged, (place[:, None], place[None, :]), counts)
        rest = len(names) - MAX_CLASSES + 1
        return {"labels": [names[i] for i in order[: MAX_CLASSES - 1]] + [f"{rest} others"], "counts": merged}
    return {"labels": names, "counts": counts}


def regression(y: Floats, predicted: Floats) -> dict[str, Any]:
    """Count actual and residual against prediction, the residuals, and means by tenths of the prediction.

    Values beyond the 0.1 and 99.9 percentiles are counted in the outermost bins.
    """
    residual = y - predicted
    x, ends = _edges(predicted), _edges(np.concatenate([y, predicted]))
    spread = _edges(residual)
    return {
        "actual": {"x_edges": ends, "y_edges": ends, "counts": _count(predicted, y, ends, ends)},
        "residual": {"x_edges": x, "y_edges": spread, "counts": _count(predicted, residual, x, spread)},
        "histogram": {"edges": spread, "counts": np.histogram(np.clip(residual, spread[0], spread[-1]), spread)[0]},
        "tenths": _tenths(y, predicted),
    }


def _edges(values: Floats) -> Floats:
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + max(abs(low), 1) * 1e-6, NUM_CELLS + 1)


def _count(x: Floats, y: Floats, x_edges: Floats, y_edges: Floats) -> NDArray[np.int64]:
    inside = np.clip(x, x_edges[0], x_edges[-1]), np.clip(y, y_edges[0], y_edges[-1])
    return np.histogram2d(*inside, bins=(x_edges, y_edges))[0].astype(np.int64)


def _tenths(y: Floats, predicted: Floats) -> list[dict[str, float]]:
    """Compute mean prediction, mean actual and RMSE in ten parts of the rows, ordered by prediction."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(10, max(len(y), 1)))
    return [
        {
            "num_rows": len(rows),
            "predicted": float(predicted[rows].mean()),
            "actual": float(y[rows].mean()),
            "rmse": float(np.sqrt(np.mean((y[rows] - predicted[rows]) ** 2))),
        }
        for rows in parts
        if len(rows)
    ]

"""The decision threshold of a binary model: chosen on validation rows, kept in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsys.statistics.ranking import Ranked

Floats = NDArray[np.float64]
Rule = Literal["f1", "cost", "half"]
Cost = Mapping[Literal["false_positive", "false_negative"], float]


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


def curve(y: NDArray[Any], score: NDArray[Any]) -> ThresholdCurve:
    """Find every threshold that divides the rows differently, "none positive" first.

    A threshold lies halfway between two neighbouring scores, so that scores that differ by
    rounding from one machine to another fall on the same side.
    """
    positive = np.asarray(y) == 1
    ranked = Ranked.of(positive, np.asarray(score, np.float64))
    true, false = ranked.counts()
    cuts = ranked.thresholds
    none = (cuts[0] + 1) / 2 if len(cuts) and cuts[0] < 1 else np.nextafter(cuts[0] if len(cuts) else 1.0, np.inf)
    between = np.concatenate([[none], (cuts[:-1] + cuts[1:]) / 2, cuts[-1:]])
    return ThresholdCurve(
        between, np.append(0.0, true), np.append(0.0, false), float(positive.sum()), float((~positive).sum())
    )


def choose(y: NDArray[Any], score: NDArray[Any], rule: Rule = "f1", cost: Cost | None = None) -> float:
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

    Notes
    -----
    Among equals the threshold nearest to 0.5 is taken, and of two as near the greater. With one
    class only, or no rows, nothing can be learned and it is 0.5.

    >>> choose(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9]))
    0.25
    """
    if rule == "half" or len(np.unique(np.asarray(y) == 1)) < 2:
        return 0.5
    outcomes = curve(y, score)
    loss = outcomes.cost(cost or {}) if rule == "cost" else -outcomes.f1
    best = outcomes.thresholds[loss <= loss.min() + 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])

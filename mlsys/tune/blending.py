"""Means of trials and their weights: greedy ensemble selection on rows that no trial was fitted on.

The mean begins empty. Step by step, the trial joins whose addition is best by the metric; one may join again, which is
how weights arise. The mean is cut back to its best step. It is taken in place of the best single trial only where the
gain is larger than one standard error of the paired difference: the jackknife over parts of the judged rows.

References
----------
Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble Selection from Libraries of Models, ICML 2004,
doi:10.1145/1015330.1015432.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlsys.evaluate import metrics
from mlsys.statistics import jackknife

STEPS = 20
"""Steps of the selection."""

ROWS = 50_000
"""Judged rows that the selection looks at, of more every k-th: a step measures every candidate once."""

PARTS = 20
"""Parts of the judged rows whose absence gives the standard error."""


@dataclass(frozen=True)
class Blend:
    """A mean of trials: their positions with their weights, and its score beside the best single one's.

    `error` is the standard error of the gain; NaN where the metric is not defined on some part of the rows. Where it is
    not defined on the rows, there are no weights.
    """

    weights: dict[int, float]
    score: float
    gain: float
    error: float

    @property
    def is_better(self) -> bool:
        return len(self.weights) > 1 and self.gain > self.error


@dataclass(frozen=True)
class _Scorer:
    """A metric of predictions of the judged rows, of their targets and of how much each counts; more is better."""

    metric: metrics.Metric
    y: np.ndarray
    weight: np.ndarray | None

    def score(self, output: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
        """Measure predictions of all rows on some of them, with the sign that makes more the better."""
        weight = None if self.weight is None else self.weight[rows]
        name = self.metric.name
        return self.metric.sign * metrics.measure(name, self.y[rows], output[rows], weight=weight)


def select(
    metric: str, y: np.ndarray, outputs: Sequence[np.ndarray], members: int, weight: np.ndarray | None = None
) -> Blend:
    """Select a mean of at most so many different predictions, (rows,) or (rows, classes) each, by a metric."""
    step = -(-len(y) // ROWS)
    outputs = [output[::step].astype(np.float64) for output in outputs]
    scorer = _Scorer(metrics.METRICS[metric], y[::step], None if weight is None else weight[::step])
    singles = [scorer.score(output) for output in outputs]
    order = _greedy(scorer, outputs, members)
    if not order:
        return Blend({}, math.nan, 0.0, math.nan)
    weights = {number: count / len(order) for number, count in sorted(Counter(order).items())}
    mean, best = _mean(outputs, order), outputs[int(np.nanargmax(singles))]
    score = scorer.score(mean)
    gain = score - singles[int(np.nanargmax(singles))]
    part = np.arange(len(scorer.y)) % PARTS
    without = np.array([scorer.score(mean, part != k) - scorer.score(best, part != k) for k in range(PARTS)])
    error = jackknife.standard_error(float(gain), without)
    return Blend(weights, float(scorer.metric.sign * score), float(gain), error)


def _mean(outputs: Sequence[np.ndarray], order: Sequence[int]) -> np.ndarray:
    return np.asarray(sum(outputs[number] for number in order) / len(order))


def _greedy(scorer: _Scorer, outputs: Sequence[np.ndarray], members: int) -> list[int]:
    """Positions in the order in which they join, up to the best step; of equal ones a member is taken again."""
    order, reached = list[int](), list[float]()
    total = np.zeros_like(outputs[0])
    for step in range(1, STEPS + 1):
        able = set(order) if len(set(order)) == members else range(len(outputs))
        scores = {k: scorer.score((total + outputs[k]) / step) for k in able}
        defined = {k: score for k, score in scores.items() if np.isfinite(score)}
        if not defined:
            return []
        joining = max(defined, key=lambda k: (defined[k], k in order, -k))
        total = total + outputs[joining]
        order.append(joining)
        reached.append(defined[joining])
    return order[: int(np.argmax(reached)) + 1]

"""Performance of a window against the test rows, with intervals that know of clustered rows.

Rows of one day are alike, so resampling single rows calls each snowstorm a change of the
model. The intervals here leave out one *block* of time after another (the days of a week)
and see how much the metric moves: the delete-a-group jackknife. It needs no random numbers
and, unlike a bootstrap of seven days, does not understate a variance known from seven.

References
----------
Busing, Meijer & van der Leeden (1999), Delete-m jackknife for unequal m, Statistics and
Computing 9:3. Shao & Tu (1995), The Jackknife and Bootstrap, section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys.evaluate.metrics import Metric, Predicted
from mlsys.schema import Task, TaskKind

__all__ = ["Baseline", "PerformanceEstimate", "gap_statistic", "jackknife", "measured"]

Floats = NDArray[np.float64]
Statistic = Callable[[Floats | None], float]

MIN_BLOCKS = 5
"""Blocks below which rows are taken for independent; the interval of 4 or fewer would be useless."""

NUM_GROUPS = 20
"""Groups of rows where there are too few blocks."""


@dataclass(frozen=True)
class PerformanceEstimate:
    """A number with its interval.

    Attributes
    ----------
    error
        Standard error; NaN where it cannot be had.
    freedom
        Groups that it was measured from, less one.
    clustered
        The groups were blocks of time, not random rows.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    freedom: int = 0
    clustered: bool = False

    def widened(self, factor: float) -> PerformanceEstimate:
        """With an interval `factor` times as wide, unless it comes from blocks of time already."""
        if self.clustered or math.isnan(self.error):
            return self
        low, high = (self.value + factor * (end - self.value) for end in (self.low, self.high))
        return replace(self, low=low, high=high, error=factor * self.error)

    def to_json(self) -> dict[str, Any]:
        shown = {"value": self.value, "low": self.low, "high": self.high, "error": self.error}
        return {name: None if math.isnan(number) else number for name, number in shown.items()}


def jackknife(statistic: Statistic, groups: NDArray[np.int64], confidence: float) -> PerformanceEstimate:
    """A statistic of weighted rows with the t interval of the delete-a-group jackknife.

    With h = n / m for a group of m rows, pseudo-values ``h * T - (h - 1) * T_without`` and
    their weighted spread about the jackknife estimate.

    Parameters
    ----------
    statistic
        Value under weights of shape (n,), or unweighted for None.
    groups
        Group of each row.
    """
    value = statistic(None)
    labels, sizes = np.unique(groups, return_counts=True)
    number = len(labels)
    if number < 2 or math.isnan(value):
        return PerformanceEstimate(value)
    without = np.array([statistic((groups != label).astype(np.float64)) for label in labels])
    if np.isnan(without).any():
        return PerformanceEstimate(value)
    h = sizes.sum() / sizes
    pseudo = h * value - (h - 1) * without
    centre = number * value - float(((1 - 1 / h) * without).sum())
    error = math.sqrt(float(((pseudo - centre) ** 2 / (h - 1)).mean()))
    reach = quantile(number - 1, confidence) * error
    return PerformanceEstimate(value, value - reach, value + reach, error, number - 1)


def quantile(freedom: float, confidence: float) -> float:
    """Half-width of a two-sided t interval in standard errors."""
    return float(special.stdtrit(freedom, 0.5 + confidence / 2))


def measured(statistic: Statistic, block: NDArray[np.int64], confidence: float) -> PerformanceEstimate:
    """Estimate by blocks of time where there are enough, else by groups of rows."""
    if len(np.unique(block)) < MIN_BLOCKS:
        return by_rows(statistic, len(block), confidence)
    estimate = jackknife(statistic, block, confidence)
    return replace(estimate, clustered=True)


def by_rows(statistic: Statistic, num_rows: int, confidence: float) -> PerformanceEstimate:
    """Estimate as if rows were independent, in groups of every twentieth row."""
    return jackknife(statistic, np.arange(num_rows) % NUM_GROUPS, confidence)


def metric_statistic(metric: Metric, y: Floats, output: Floats, threshold: float | None) -> Statistic:
    """A metric of evaluate on these rows, as a function of their weights."""
    truth = y if metric.needs == "value" else y.astype(np.int64)
    return metric.prepare(truth, Predicted(output, 0.5 if threshold is None else threshold).of(metric.needs))


def gap_statistic(y: Floats, output: Floats, task: Task, index: int) -> Statistic:
    """Mean prediction less what came: of a class's probability, or of the value.

    Calibration in the large (Cox 1958, Biometrika 45:562): 0 for probabilities that are
    right on the whole.
    """
    difference = output - y if task.kind is TaskKind.REGRESSION else output[:, index] - (y == index)

    def statistic(weight: Floats | None) -> float:
        if weight is None:
            return float(difference.mean()) if len(difference) else math.nan
        return float(weight @ difference / weight.sum()) if weight.sum() else math.nan

    return statistic


@dataclass(frozen=True)
class Baseline:
    """What the test rows showed.

    Attributes
    ----------
    metrics
        Name → value, interval and standard error (NaN where unknown).
    gaps
        Class index → mean predicted less observed fraction; known for binary tasks.
    observed, predicted
        Rate of the positive class as it came and as predicted.
    """

    metrics: dict[str, PerformanceEstimate] = field(default_factory=dict)
    gaps: dict[int, PerformanceEstimate] = field(default_factory=dict)
    observed: float | None = None
    predicted: float | None = None

    @classmethod
    def of(cls, evaluation: Mapping[str, Any] | None, task: Task) -> Baseline:
        """Of the JSON of an evaluation, or of a mapping from metric to value."""
        if not evaluation:
            return cls()
        entries = evaluation.get("metrics", evaluation)
        values = {name: _value(entry) for name, entry in entries.items()}
        metrics = {name: _estimate(value, entries[name]) for name, value in values.items() if value is not None}
        bins = evaluation.get("calibration", {}).get("bins") if task.kind is TaskKind.BINARY else None
        if not bins:
            return cls(metrics)
        count = np.array([entry["count"] for entry in bins], np.float64)
        rates = np.array([[entry["predicted"], entry["observed"]] for entry in bins], np.float64)
        predicted, observed = (count @ rates / count.sum()).tolist()
        error = math.sqrt(observed * (1 - observed) / count.sum())
        return cls(metrics, {1: PerformanceEstimate(predicted - observed, error=error)}, observed, predicted)


def _value(entry: Any) -> float | None:
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _estimate(value: float, entry: Any) -> PerformanceEstimate:
    ends = entry if isinstance(entry, Mapping) else {}
    low, high, error = (math.nan if ends.get(key) is None else float(ends[key]) for key in ("low", "high", "error"))
    return PerformanceEstimate(value, low, high, error)

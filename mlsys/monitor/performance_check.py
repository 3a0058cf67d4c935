"""Whether a window's performance is worse than that of the test rows, beyond the noise of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mlsys.evaluate.metrics import Metric
from mlsys.monitor import performance
from mlsys.monitor.performance import Baseline, PerformanceEstimate
from mlsys.monitor.windows import Window
from mlsys.predict import class_names
from mlsys.reports import formats
from mlsys.schema import Task, TaskKind

__all__ = ["Health", "Limits", "Loss", "judge", "measure"]

IN_TARGET_UNIT = frozenset({"rmse", "mae", "median_absolute_error"})
"""Metrics whose loss is counted as a fraction of the test rows' value: they have no scale of their own."""


@dataclass(frozen=True)
class Limits:
    """From where performance counts as degraded.

    Attributes
    ----------
    max_loss
        Of the chosen metric, in its unit.
    max_gap
        Of calibration in the large: mean predicted less observed, without its sign.
    """

    metric: Metric
    max_loss: float
    max_gap: float
    confidence: float
    threshold: float | None = None


@dataclass(frozen=True)
class Loss:
    """How much worse one number is than it should be.

    Attributes
    ----------
    what
        Name of the metric, or ``calibration``.
    value, limit
        Of the metric, what it lost against the test rows; of calibration, mean predicted
        less observed without its sign. The limit is what is allowed.
    certain
        The interval of the change since the test rows excludes zero.
    allowed
        Of calibration, between which mean predicted less observed counts as kept: within
        the limit, or no farther from that of the test rows than noise. None where noise
        is not known, and of a metric.
    """

    what: str
    value: float
    limit: float
    certain: bool
    detail: str
    allowed: tuple[float, float] | None = None

    @property
    def degraded(self) -> bool:
        return self.value > self.limit and self.certain

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "degraded": self.degraded}


@dataclass
class Health:
    """Measured performance of one window.

    Attributes
    ----------
    metrics
        The chosen metric first.
    gaps
        Class index → mean predicted less observed; for regression under 0, of the value.
    by_rows
        Errors of the same under the assumption that rows are independent.
    observed, predicted
        Rate of the positive class, or mean of the target, as it came and as predicted.
    """

    num_rows: int
    metrics: dict[str, PerformanceEstimate] = field(default_factory=dict)
    gaps: dict[int, PerformanceEstimate] = field(default_factory=dict)
    by_rows: dict[str, float] = field(default_factory=dict)
    observed: float | None = None
    predicted: float | None = None
    losses: list[Loss] = field(default_factory=list)


def measure(window: Window, task: Task, metrics: Sequence[Metric], limits: Limits) -> Health:
    """Metrics, calibration and their intervals of a window's labelled rows."""
    y, output, block = window.performance.arrays()
    health = Health(len(y))
    if not len(y):
        return health
    for metric in metrics:
        statistic = performance.metric_statistic(metric, y, output, limits.threshold)
        if metric.name == limits.metric.name:
            health.metrics[metric.name] = performance.measured(statistic, block, limits.confidence)
            health.by_rows[metric.name] = performance.by_rows(statistic, len(y), limits.confidence).error
        else:
            health.metrics[metric.name] = PerformanceEstimate(statistic(None))
    for index in _gap_indices(task):
        statistic = performance.gap_statistic(y, output, task, index)
        health.gaps[index] = performance.measured(statistic, block, limits.confidence)
        health.by_rows[f"gap {index}"] = performance.by_rows(statistic, len(y), limits.confidence).error
    if task.kind is TaskKind.BINARY:
        health.observed, health.predicted = float((y == 1).mean()), float(output[:, 1].mean())
    elif task.kind is TaskKind.REGRESSION:
        health.observed, health.predicted = float(y.mean()), float(output.mean())
    return health


def _gap_indices(task: Task) -> Sequence[int]:
    if task.kind is TaskKind.BINARY:
        return (1,)
    return range(len(task.classes)) if task.is_classification else (0,)


def inflation(healths: Sequence[Health], name: str) -> float:
    """How much larger errors by blocks are than by rows (1 or more), over all windows together.

    The test rows' interval comes from resampling single rows; this brings it to the same
    footing as the windows'.
    """
    squares = []
    for health in healths:
        estimate = health.metrics.get(name) if not name.startswith("gap ") else health.gaps.get(int(name[4:]))
        if estimate is not None and estimate.clustered and health.by_rows.get(name, 0) > 0:
            squares.append((estimate.error**2, health.by_rows[name] ** 2))
    if not squares:
        return 1.0
    blocks, rows = np.sum(squares, axis=0)
    return max(math.sqrt(blocks / rows), 1.0)


def judge(healths: Sequence[Health], baseline: Baseline, task: Task, limits: Limits) -> None:
    """Widen the intervals that took rows for independent, and fill in each window's losses against the baseline."""
    wider = {name: inflation(healths, name) for name in _names(task, limits)}
    for health in healths:
        _widen(health, wider, limits)
        estimate = health.metrics.get(limits.metric.name)
        base = baseline.metrics.get(limits.metric.name)
        if estimate is not None and base is not None and not math.isnan(estimate.value):
            health.losses.append(_metric_loss(estimate, base, wider[limits.metric.name], limits))
        if task.is_classification and health.gaps:
            health.losses.append(_gap_loss(health, baseline, wider, task, limits))


def _widen(health: Health, wider: Mapping[str, float], limits: Limits) -> None:
    chosen = limits.metric.name
    if chosen in health.metrics:
        health.metrics[chosen] = health.metrics[chosen].widened(wider[chosen])
    health.gaps = {index: gap.widened(wider[f"gap {index}"]) for index, gap in health.gaps.items()}


def _names(task: Task, limits: Limits) -> list[str]:
    return [limits.metric.name, *(f"gap {index}" for index in _gap_indices(task))]


def _metric_loss(estimate: PerformanceEstimate, base: PerformanceEstimate, wider: float, limits: Limits) -> Loss:
    metric = limits.metric
    lost = metric.sign * (base.value - estimate.value)
    reach = _reach(estimate, base, wider, limits.confidence)
    limit = limits.max_loss * (abs(base.value) if metric.name in IN_TARGET_UNIT else 1)
    span = f"{formats.number(estimate.low, 3)} to {formats.number(estimate.high, 3)}"
    detail = (
        f"{metric.title} {formats.number(estimate.value, 3)} ({span}), {formats.number(base.value, 3)} on the test "
        f"rows: {formats.number(abs(lost), 2)} {'worse' if lost > 0 else 'better'}"
    )
    return _loss(metric.name, lost, limit, lost - reach > 0, reach, detail)


def _gap_loss(health: Health, baseline: Baseline, wider: Mapping[str, float], task: Task, limits: Limits) -> Loss:
    """The class whose calibration is worst, at a confidence shared among the classes.

    What is allowed is the stated gap, or that of the test rows where it is larger: a model
    is not asked for more than its gate asked for, and a gap that shrinks is no loss.
    """
    confidence = 1 - (1 - limits.confidence) / len(health.gaps)
    losses = []
    for index, estimate in health.gaps.items():
        base = baseline.gaps.get(index, PerformanceEstimate(0.0, error=0.0))
        reach = _reach(estimate, base, wider[f"gap {index}"], confidence)
        certain = abs(estimate.value - base.value) - reach > 0
        detail = _gap_detail(health, task, index, estimate.value, base.value)
        limit = max(limits.max_gap, abs(base.value))
        loss = _loss("calibration", abs(estimate.value), limit, certain, reach, detail)
        losses.append(replace(loss, allowed=_allowed(base.value, limit, reach)))
    return max(losses, key=lambda loss: (loss.degraded, loss.value))


def _allowed(base: float, limit: float, reach: float) -> tuple[float, float] | None:
    """Gaps that are no loss: one interval, for the gap of the test rows is itself within the limit."""
    return (min(-limit, base - reach), max(limit, base + reach)) if math.isfinite(reach) else None


def _loss(what: str, value: float, limit: float, certain: bool, reach: float, detail: str) -> Loss:  # noqa: FBT001
    """The loss, with a remark where noise alone keeps it from counting."""
    noise = value > limit and not certain and math.isfinite(reach)
    remark = f"; the change is within the noise of the two (± {formats.number(reach, 2)})" if noise else ""
    return Loss(what, value, limit, certain, detail + remark)


def _gap_detail(health: Health, task: Task, index: int, gap: float, base: float) -> str:
    """``late=true: predicted 28.2%, observed 39.5%: 11.3 points too low (4.8 too high on the test rows)``."""
    name = f"{task.target}={class_names(task)[index]}"
    rates = f"predicted {formats.percent(health.predicted)}, observed {formats.percent(health.observed)}: "
    points = f"{100 * abs(gap):.1f} points too {_side(gap)}"
    tested = f" ({100 * abs(base):.1f} too {_side(base)} on the test rows)" if base else ""
    return f"{name}: {rates if health.predicted is not None else 'probabilities '}{points}{tested}"


def _side(gap: float) -> str:
    return "high" if gap > 0 else "low"


def _reach(estimate: PerformanceEstimate, base: PerformanceEstimate, wider: float, confidence: float) -> float:
    """Half-width of the interval of a difference; infinite where the window's error is unknown."""
    if math.isnan(estimate.error) or estimate.freedom < 1:
        return math.inf
    error = 0.0 if math.isnan(base.error) else base.error * wider
    return performance.quantile(estimate.freedom, confidence) * math.hypot(estimate.error, error)

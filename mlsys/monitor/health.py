"""Whether a window's performance is worse than that of the test rows, beyond the noise of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys.evaluate.metrics import Metric
from mlsys.monitor import performance
from mlsys.monitor.performance import Baseline, Estimate
from mlsys.monitor.windows import Window
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
        Of calibration in the large: mean predicted less observed, against the test rows'.
    """

    metric: Metric
    max_loss: float
    max_gap: float
    confidence: float
    threshold: float | None = None


@dataclass(frozen=True)
class Loss:
    """How much worse a number is than on the test rows: positive is worse.

    `degraded` when the loss exceeds its limit and its interval excludes zero.
    """

    what: str
    value: float
    low: float
    high: float
    limit: float
    degraded: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        numbers = {"value": self.value, "low": self.low, "high": self.high, "limit": self.limit}
        shown = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {"what": self.what, **shown, "degraded": self.degraded, "detail": self.detail}


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
    metrics: dict[str, Estimate] = field(default_factory=dict)
    gaps: dict[int, Estimate] = field(default_factory=dict)
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
            health.metrics[metric.name] = Estimate(statistic(None))
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
    """Fill in the losses of each window against the baseline."""
    wider = {name: inflation(healths, name) for name in _names(task, limits)}
    for health in healths:
        estimate = health.metrics.get(limits.metric.name)
        base = baseline.metrics.get(limits.metric.name)
        if estimate is not None and base is not None and not math.isnan(estimate.value):
            health.losses.append(_metric_loss(estimate, base, wider[limits.metric.name], limits))
        if task.is_classification and health.gaps:
            health.losses.append(_gap_loss(health, baseline, wider, task, limits))


def _names(task: Task, limits: Limits) -> list[str]:
    return [limits.metric.name, *(f"gap {index}" for index in _gap_indices(task))]


def _metric_loss(estimate: Estimate, base: Estimate, wider: float, limits: Limits) -> Loss:
    loss = limits.metric.sign * (base.value - estimate.value)
    reach = _reach(estimate, base, wider, limits.confidence)
    limit = limits.max_loss * (abs(base.value) if limits.metric.name in IN_TARGET_UNIT else 1)
    degraded = loss > limit and loss - reach > 0
    word = "worse" if loss > 0 else "better"
    span = formats.interval(estimate.low, estimate.high)
    detail = (
        f"{limits.metric.title} {formats.number(estimate.value)} ({span}), on the test rows {formats.number(base.value)}: "
        f"{formats.number(abs(loss))} {word}"
        + ("" if degraded else _why_not(loss, reach, limit))
    )
    return Loss(limits.metric.name, loss, loss - reach, loss + reach, limit, degraded, detail)


def _gap_loss(health: Health, baseline: Baseline, wider: Mapping[str, float], task: Task, limits: Limits) -> Loss:
    """The class whose calibration moved most, at a confidence shared among the classes."""
    confidence = 1 - (1 - limits.confidence) / len(health.gaps)
    losses = []
    for index, estimate in health.gaps.items():
        base = baseline.gaps.get(index, Estimate(0.0, error=0.0))
        moved = estimate.value - base.value
        reach = _reach(estimate, base, wider[f"gap {index}"], confidence)
        loss = abs(moved)
        degraded = loss > limits.max_gap and loss - reach > 0
        detail = _gap_detail(health, task, index, estimate.value, base.value) + (
            "" if degraded else _why_not(loss, reach, limits.max_gap)
        )
        losses.append(Loss("calibration", loss, loss - reach, loss + reach, limits.max_gap, degraded, detail))
    return max(losses, key=lambda loss: (loss.degraded, loss.value))


def _gap_detail(health: Health, task: Task, index: int, gap: float, base: float) -> str:
    name = task.classes[index]
    points = f"{100 * abs(gap):.1f} points too {'high' if gap > 0 else 'low'}"
    said = (
        f"{task.target}={str(name).lower() if isinstance(name, bool) else name}: "
        + (f"{formats.percent(health.predicted)} predicted, {formats.percent(health.observed)} came, " if task.kind is TaskKind.BINARY else "probabilities ")
        + points
    )
    return said + (f" (on the test rows {100 * abs(base):.1f} too {'high' if base > 0 else 'low'})" if base else "")


def _why_not(loss: float, reach: float, limit: float) -> str:
    if loss <= limit:
        return ""
    return f" (within the noise of the two, ± {formats.number(reach)})" if loss - reach <= 0 else ""


def _reach(estimate: Estimate, base: Estimate, wider: float, confidence: float) -> float:
    """Half-width of the interval of a difference; infinite where the window's error is unknown."""
    if math.isnan(estimate.error) or estimate.freedom < 1:
        return math.inf
    error = 0.0 if math.isnan(base.error) else base.error * wider
    return performance.quantile(estimate.freedom, confidence) * math.hypot(estimate.error, error)

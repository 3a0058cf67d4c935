"""Performance of a window before its labels are there: estimated, checked against labels that came, and doubted.

The estimate holds if rows of one score keep their rate (`mlsys.evaluate.recalibration`); no data without labels can
tell whether they do. So it is reconciled: where labels come, the value that they give is set against the estimate of
the same window, and an estimate is doubted after earlier ones have missed. It is doubted, too, where rows are not like
those that it was fitted on: values that training never saw, and scores or values outside of their range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mlsys.evaluate.metrics import Metric
from mlsys.evaluate.recalibration import Recalibration
from mlsys.monitor import expected_metrics
from mlsys.monitor.drift_alarms import Shift
from mlsys.monitor.expected_metrics import EXPECTED, ExpectedValue, ScoreCells
from mlsys.monitor.loss_estimate import LossEstimator
from mlsys.monitor.performance import Performance, PerformanceEstimate, PerformanceLimits, PerformanceLoss
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.windows import Window, rows_beside
from mlsys.reports import formats
from mlsys.schema import Task, TaskKind
from mlsys.statistics.jackknife import t_quantile

MAX_UNSEEN = 0.05
"""Values that training never saw, a row, beyond those of the test rows, from which on an estimate is doubted."""

MAX_OUTSIDE, MAX_VALUES_OUTSIDE = 0.05, 0.2
"""Shares of scores outside of those of the test rows, and of values outside of training, that are doubted."""

MISSES, RECENT = 2, 3
"""An estimate is doubted after so many of so many labelled windows before it have missed."""

NO_CALIBRATION = "the evaluation of this version holds too few test rows for it, or none was noted"
NO_SCALE = "the scores of a ranking order the rows of a group and say nothing of their grades"


@dataclass
class EstimatedPerformance:
    """Metrics that a window is estimated to have, and what is to be said of them.

    Attributes
    ----------
    rate
        Share of rows of the positive class, for a binary task.
    doubts
        Sentences that say why the estimate is not to be trusted.
    loss
        Loss of the chosen metric since the test rows; None where either is not known. Its interval reaches to `margin`
        on both sides.
    realised
        The chosen metric from labels, once they are mature.
    """

    metrics: dict[str, PerformanceEstimate] = field(default_factory=dict)
    rate: PerformanceEstimate | None = None
    doubts: list[str] = field(default_factory=list)
    loss: PerformanceLoss | None = None
    margin: float = math.inf
    chosen: PerformanceEstimate | None = None
    realised: float | None = None

    @property
    def is_trusted(self) -> bool:
        return self.chosen is not None and not self.doubts

    @property
    def has_fallen(self) -> bool:
        """A trusted estimate is worse than the test rows by more than the limit, and certainly so."""
        return self.is_trusted and self.loss is not None and self.loss.degraded

    @property
    def holds(self) -> bool:
        """The estimate is within the limit of the test rows, and so is the worse end of its interval."""
        return self.loss is not None and self.loss.value + self.margin <= self.loss.limit

    @property
    def held(self) -> bool | None:
        """The interval holds what the labels gave; None where either is not known."""
        chosen = self.chosen
        if chosen is None or self.realised is None or math.isnan(chosen.low):
            return None
        return chosen.low <= self.realised <= chosen.high

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
            "rate": self.rate and self.rate.to_json(),
            "trusted": self.is_trusted,
            "doubts": self.doubts,
            "loss": self.loss and self.loss.to_json(),
            "realised": self.realised,
            "held": self.held,
        }


@dataclass(frozen=True)
class RowsEstimate:
    """Estimates from the rows of one window alone, whatever other windows hold: metrics, rate, and reasons to doubt."""

    metrics: dict[str, PerformanceEstimate]
    rate: PerformanceEstimate | None
    doubts: list[str]


class Estimator(Protocol):
    """A way to estimate metrics of a window from what it keeps of its rows."""

    def estimates(self, window: Window, names: Sequence[str], confidence: float) -> dict[str, PerformanceEstimate]:
        """Those of the named metrics that can be estimated."""

    def rate(self, window: Window, confidence: float) -> PerformanceEstimate | None:
        """Share of the positive class, where there is one."""

    def doubts(self, window: Window) -> list[str]:
        """Reasons to doubt its estimates of a window, as sentences."""


@dataclass(frozen=True)
class ScoreEstimator:
    """Estimates of a classification from counts of its scores, by the rates that the test rows had at each score.

    Attributes
    ----------
    freedom
        Degrees of freedom of the rates' covariance; infinite for rows that stand alone.
    """

    kind: TaskKind
    calibrations: tuple[Recalibration, ...]
    freedom: float

    @classmethod
    def of(cls, facts: Mapping[str, Any], task: Task) -> ScoreEstimator:
        """Read what `recalibration.facts` noted."""
        freedom = math.inf if facts["freedom"] is None else float(facts["freedom"])
        return cls(task.kind, tuple(map(Recalibration.from_json, facts["classes"])), freedom)

    def estimates(self, window: Window, names: Sequence[str], confidence: float) -> dict[str, PerformanceEstimate]:
        """Those of the named metrics that follow from scores."""
        if len(window.scores) != len(self.calibrations):
            return {}
        cells, beside = self._cells(window), rows_beside(window)
        known = [name for name in names if name in EXPECTED[self.kind]]
        expected = {name: expected_metrics.expect(self.kind, name, cells, self.calibrations, beside) for name in known}
        return {name: self._with_interval(value, confidence) for name, value in expected.items()}

    def rate(self, window: Window, confidence: float) -> PerformanceEstimate | None:
        """Share of the positive class of a binary task."""
        if self.kind is not TaskKind.BINARY or len(window.scores) != 1:
            return None
        (cells,) = self._cells(window)
        expected = expected_metrics.expected_rate(cells, self.calibrations[0], rows_beside(window))
        return self._with_interval(expected, confidence)

    def doubts(self, window: Window) -> list[str]:
        """Say so where scores lie outside of those of the test rows."""
        shares = [_outside(counts, each) for counts, each in zip(window.scores, self.calibrations, strict=False)]
        most = max(shares, default=0.0)
        if most <= MAX_OUTSIDE:
            return []
        return [f"{most:.0%} of the scores lie outside of the range that they had on the test rows"]

    def _cells(self, window: Window) -> list[ScoreCells]:
        return [ScoreCells.of(counts, each) for counts, each in zip(window.scores, self.calibrations, strict=True)]

    def _with_interval(self, expected: ExpectedValue, confidence: float) -> PerformanceEstimate:
        variance = expected.noise + expected.calibration
        if not math.isfinite(variance):
            return PerformanceEstimate(expected.value)
        # Welch (1947): the variance of the labels' noise is known, that of the rates has few degrees of freedom
        freedom = self.freedom * (variance / expected.calibration) ** 2 if expected.calibration > 0 else math.inf
        error = math.sqrt(variance)
        margin = t_quantile(freedom, confidence) * error
        return PerformanceEstimate(expected.value, expected.value - margin, expected.value + margin, error)


def _outside(counts: Any, calibration: Recalibration) -> float:
    """Share of the rows of a class's counts whose score is beyond those of the test rows."""
    bins = np.arange(len(counts)) // 2
    is_outside = (bins < calibration.ends[0]) | (bins > calibration.ends[1])
    return float(counts[is_outside].sum() / max(counts.sum(), 1))


@dataclass
class Estimation:
    """Estimates of windows in order of time, each doubted by what labels said of the ones before.

    Attributes
    ----------
    estimator
        None where there is nothing to estimate from.
    reason
        Why there is no estimator.
    usual_unseen
        Values of the test rows that training never saw, a row.
    errors
        Realised less estimated value of the chosen metric, in the windows whose labels are mature.
    misses
        Whether the interval missed, of the same windows; the second number is true for a miss beyond the limit.
    """

    estimator: Estimator | None = None
    usual_unseen: float = 0.0
    reason: str = NO_CALIBRATION
    errors: list[float] = field(default_factory=list)
    misses: list[tuple[bool, bool]] = field(default_factory=list)

    @classmethod
    def of(
        cls, evaluation: Mapping[str, Any] | None, task: Task, bins: Mapping[str, ReferenceBins] | None = None
    ) -> Estimation:
        """Read what an evaluation holds; an older one, or one of few rows, has nothing to estimate from.

        `bins` are those that the columns of windows are counted in, which estimates of numbers need.
        """
        if task.is_ranking:
            return cls(reason=NO_SCALE)
        facts = (evaluation or {}).get("estimation")
        if not evaluation or not facts:
            return cls()
        unseen = sum((evaluation.get("unseen") or {}).values()) / max(evaluation.get("num_rows") or 1, 1)
        if task.is_classification:
            return cls(ScoreEstimator.of(facts, task), unseen)
        return cls(LossEstimator.of(facts, bins or {}), unseen)

    def of_rows(self, window: Window, metrics: Sequence[Metric], confidence: float) -> RowsEstimate | None:
        """Estimate these metrics of a window from its rows alone; None without an estimator."""
        if self.estimator is None:
            return None
        estimates = self.estimator.estimates(window, [metric.name for metric in metrics], confidence)
        bounds = {metric.name: metric.bounds for metric in metrics}
        within = {name: _within(estimate, *bounds[name]) for name, estimate in estimates.items()}
        return RowsEstimate(within, self.estimator.rate(window, confidence), self.estimator.doubts(window))

    def take(
        self,
        window: Window,
        own: RowsEstimate | None,
        shifts: Sequence[Shift],
        realised: Performance | None,
        baseline: Performance,
        limits: PerformanceLimits,
    ) -> EstimatedPerformance | None:
        """Judge the estimate of the next window in time, and take in what its mature labels say; None without one."""
        if own is None:
            return None
        chosen = limits.metric
        estimate = EstimatedPerformance(own.metrics, own.rate)
        estimate.chosen = own.metrics.get(chosen.name)
        estimate.doubts = [*self._doubts_of_rows(window, shifts), *own.doubts, *self._doubts_of_past(limits)]
        if estimate.chosen is not None and chosen.name in baseline.metrics:
            estimate.loss, estimate.margin = _loss(estimate.chosen, baseline.metrics[chosen.name], limits)
        if realised is not None and chosen.name in realised.metrics:
            self._reconcile(estimate, realised.metrics[chosen.name].value, limits)
        return estimate

    def _doubts_of_rows(self, window: Window, shifts: Sequence[Shift]) -> list[str]:
        doubts = []
        unseen = window.num_unseen / max(window.num_rows, 1)
        if unseen > self.usual_unseen + MAX_UNSEEN:
            doubts.append(f"{unseen:.2f} values a row are new to the model, {self.usual_unseen:.2f} of the test rows")
        beyond = [shift for shift in shifts if shift.matters and shift.outside > MAX_VALUES_OUTSIDE]
        doubts += [f"{shift.outside:.0%} of '{shift.column}' lie outside of its range in training" for shift in beyond]
        return doubts

    def _doubts_of_past(self, limits: PerformanceLimits) -> list[str]:
        recent = self.misses[-RECENT:]
        count = sum(is_miss for is_miss, _ in recent)
        if count < MISSES and not any(is_far for _, is_far in recent[-1:]):
            return []
        windows = formats.count(len(recent), "window")
        interval = f"{limits.metric.title} was outside of its estimated interval"
        return [f"in {count} of the last {windows} with labels {interval}: the same scores no longer mean the same"]

    def _reconcile(self, estimate: EstimatedPerformance, value: float, limits: PerformanceLimits) -> None:
        if math.isnan(value):
            return
        estimate.realised = value
        if estimate.chosen is None or estimate.held is None:
            return
        error = value - estimate.chosen.value
        limit = limits.max_loss * (abs(value) if limits.metric.in_target_unit else 1)
        self.errors.append(error)
        self.misses.append((not estimate.held, not estimate.held and abs(error) > limit))

    def to_json(self) -> dict[str, Any]:
        """Compare the estimates with labels: windows with both, intervals that held, and means of the errors."""
        return {
            "reason": None if self.estimator is not None else self.reason,
            "num_compared": len(self.errors),
            "num_held": sum(not is_miss for is_miss, _ in self.misses),
            "mean_error": float(np.mean(self.errors)) if self.errors else None,
            "mean_absolute_error": float(np.mean(np.abs(self.errors))) if self.errors else None,
        }


def _within(estimate: PerformanceEstimate, lowest: float, highest: float) -> PerformanceEstimate:
    low, high = (float(np.clip(end, lowest, highest)) for end in (estimate.low, estimate.high))
    return PerformanceEstimate(estimate.value, low, high, estimate.error)


def _loss(
    estimate: PerformanceEstimate, base: PerformanceEstimate, limits: PerformanceLimits
) -> tuple[PerformanceLoss, float]:
    """Loss since the test rows, and half of its interval, from the errors of both sides."""
    metric = limits.metric
    lost = metric.sign * (base.value - estimate.value)
    errors = [0.0 if math.isnan(side.error) else side.error for side in (estimate, base)]
    margin = math.inf if math.isnan(estimate.error) else t_quantile(math.inf, limits.confidence) * math.hypot(*errors)
    limit = limits.max_loss * (abs(base.value) if metric.in_target_unit else 1)
    span = f"{formats.number(estimate.low, 3)} to {formats.number(estimate.high, 3)}"
    detail = (
        f"{metric.title} is estimated at {formats.number(estimate.value, 3)} ({span}) without labels, "
        f"{formats.number(base.value, 3)} on the test rows"
    )
    return PerformanceLoss(metric.name, lost, limit, lost - margin > 0, detail), margin

"""Check a window's performance against that of the test rows, beyond the noise of both.

Rows of one day are alike, so intervals from resampling single rows would call each snowstorm a
change of the model. The intervals here leave out one *block* of time after another (the days
of a week) and measure how far the metric moves: the delete-a-group jackknife, which, unlike a
bootstrap of seven days, does not understate a variance that is estimated from seven.

References
----------
Bell & McCaffrey (2002), Survey Methodology 28:169. Shao & Tu (1995), The Jackknife and Bootstrap, section 2.3.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys import label_sets as labels
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.metrics import UTILITY, Metric, Predicted
from mlsys.monitor.windows import Window
from mlsys.reports import formats
from mlsys.schema import Task, TaskKind
from mlsys.statistics import jackknife as delete_a_group
from mlsys.statistics.arrays import Floats

Statistic = Callable[[Floats | None], float]
"""Value of some rows under weights of shape (n,), or unweighted for None."""

MIN_BLOCKS = 5
"""Blocks that an interval needs; from fewer, rows are taken as independent, for it would be too wide to be of use."""

NUM_GROUPS = 20
"""Groups, of every twentieth row, where there are too few blocks."""


REALISED = Metric(
    UTILITY, "Utility", frozenset(TaskKind), "value", "higher", weighted.mean_of(lambda _, utility: utility),
    "mean of what the predictions of the rows were worth; NaN where that of one is not known", in_target_unit=True,
)  # fmt: skip
"""The metric of rows whose utility stands in place of their prediction. Its unit is the user's: a loss of it is held
against its value on the test rows."""


@dataclass(frozen=True)
class PerformanceEstimate:
    """A value with its confidence interval.

    Attributes
    ----------
    error
        Standard error; NaN where it cannot be estimated.
    freedom
        Degrees of freedom: the groups that it was estimated from, less one.
    clustered
        The groups were blocks of time, not arbitrary rows.
    row_error
        Standard error if rows were independent.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    freedom: int = 0
    clustered: bool = False
    row_error: float = math.nan

    def widened(self, factor: float) -> PerformanceEstimate:
        """The same with an interval `factor` times as wide, unless it comes from blocks of time already."""
        if self.clustered or math.isnan(self.error):
            return self
        low, high = (self.value + factor * (end - self.value) for end in (self.low, self.high))
        return replace(self, low=low, high=high, error=factor * self.error)

    def to_json(self) -> dict[str, Any]:
        numbers = {"value": self.value, "low": self.low, "high": self.high, "error": self.error}
        return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def jackknife(statistic: Statistic, groups: NDArray[np.int64], confidence: float) -> PerformanceEstimate:
    """Estimate a statistic with the t interval of the delete-a-group jackknife."""
    value = statistic(None)
    labels = np.unique(groups)
    number = len(labels)
    if number < 2 or math.isnan(value):
        return PerformanceEstimate(value)
    without = np.array([statistic((groups != label).astype(np.float64)) for label in labels])
    if np.isnan(without).any():
        return PerformanceEstimate(value)
    error = delete_a_group.standard_error(value, without)
    margin = delete_a_group.t_quantile(number - 1, confidence) * error
    return PerformanceEstimate(value, value - margin, value + margin, error, number - 1)


def estimate_by_blocks(
    statistic: Statistic, block: NDArray[np.int64], confidence: float, groups: NDArray[Any] | None = None
) -> PerformanceEstimate:
    """Estimate a statistic by blocks of time where there are enough of them, otherwise as if rows were independent.

    With the `groups` of a ranking, these are taken as independent and not their rows.
    """
    number = np.arange(len(block)) if groups is None else np.unique(groups, return_inverse=True)[1]
    by_rows = jackknife(statistic, number % NUM_GROUPS, confidence)
    if len(np.unique(block)) < MIN_BLOCKS:
        return by_rows
    return replace(jackknife(statistic, block, confidence), clustered=True, row_error=by_rows.error)


def weighted_metric(
    metric: Metric,
    y: Floats,
    output: Floats,
    threshold: float | Sequence[float] | None,
    groups: NDArray[Any] | None = None,
    weight: Floats | None = None,
) -> Statistic:
    """A metric of these rows as a function of further weights."""
    truth = y if metric.needs in ("value", "ranked") else y.astype(np.int64)
    predicted = Predicted(output, 0.5 if threshold is None else threshold, groups)
    return metric.under(truth, predicted.of(metric.needs), weight)


def calibration_gap(y: Floats, output: Floats, task: Task, index: int, own: Floats | None = None) -> Statistic:
    """Mean prediction less mean outcome as a function of weights beside the rows' `own`: of a class, or of the value.

    Calibration in the large (Cox 1958, Biometrika 45:562), 0 for probabilities that are right
    on average.
    """
    if task.labels:
        difference = output[:, index] - labels.table(y, len(task.labels))[:, index]
    else:
        difference = output - y if task.kind is TaskKind.REGRESSION else output[:, index] - (y == index)

    def statistic(weight: Floats | None) -> float:
        if weight is None:
            return float(difference.mean()) if len(difference) else math.nan
        return float(weight @ difference / weight.sum()) if weight.sum() else math.nan

    return statistic if own is None else lambda more: statistic(own if more is None else own * more)


def _estimate(entry: Any, *, clustered: bool = False) -> PerformanceEstimate | None:
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    value = entry.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    low, high, error = (math.nan if entry.get(key) is None else float(entry[key]) for key in ("low", "high", "error"))
    return PerformanceEstimate(float(value), low, high, error, clustered=clustered)


@dataclass(frozen=True)
class PerformanceLimits:
    """Largest loss of a metric, in its unit, and largest calibration gap, without its sign, that are not degraded."""

    metric: Metric
    max_loss: float
    max_gap: float
    confidence: float
    threshold: float | Sequence[float] | None = None


@dataclass(frozen=True)
class PerformanceLoss:
    """Loss of a metric or of calibration since the test rows.

    Attributes
    ----------
    what
        Name of the metric, or ``calibration``.
    value
        For the metric, its loss against the test rows; for calibration, the gap without its sign.
    certain
        The interval of the change since the test rows excludes zero.
    allowed
        Calibration gaps that are no loss: within the limit, or no farther from that of the
        test rows than noise. None for a metric, and where the noise is not known.
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
        return {**vars(self), "degraded": self.degraded}


@dataclass
class Performance:
    """Measured performance of a window, or of the test rows as the baseline, in which unknown parts are missing.

    Attributes
    ----------
    metrics
        Name → estimate, the chosen metric first.
    gaps
        Class index → calibration gap, mean predicted less observed; for regression that of the value, under 0.
    observed, predicted
        Rate of the positive class, or mean of the target, observed and predicted.
    losses
        What the window lost since the test rows.
    """

    metrics: dict[str, PerformanceEstimate] = field(default_factory=dict)
    gaps: dict[int, PerformanceEstimate] = field(default_factory=dict)
    observed: float | None = None
    predicted: float | None = None
    losses: list[PerformanceLoss] = field(default_factory=list)

    @classmethod
    def of(cls, evaluation: Mapping[str, Any] | None, task: Task) -> Performance:
        """Read the JSON of an evaluation, or a mapping from metric to value."""
        if not evaluation:
            return cls()
        clustered = evaluation.get("resampling", {}).get("unit", "rows") != "rows"
        entries = evaluation.get("metrics", evaluation).items()
        estimates = {name: _estimate(entry, clustered=clustered) for name, entry in entries}
        metrics = {name: estimate for name, estimate in estimates.items() if estimate is not None}
        if task.labels:
            return cls(metrics, _label_gaps(evaluation))
        bins = evaluation.get("calibration", {}).get("bins") if task.kind is TaskKind.BINARY else None
        if not bins:
            return cls(metrics)
        count = np.array([entry["count"] for entry in bins], np.float64)
        rates = np.array([[entry["predicted"], entry["observed"]] for entry in bins], np.float64)
        predicted, observed = (count @ rates / count.sum()).tolist()
        error = math.sqrt(observed * (1 - observed) / count.sum())
        return cls(metrics, {1: PerformanceEstimate(predicted - observed, error=error)}, observed, predicted)


def _label_gaps(evaluation: Mapping[str, Any]) -> dict[int, PerformanceEstimate]:
    """Calibration gap of each of several labels on the test rows, with the error of its observed rate."""
    gaps, num_rows = {}, evaluation.get("num_rows") or math.nan
    for index, each in enumerate(evaluation.get("labels", ())):
        error = math.sqrt(each["rate"] * (1 - each["rate"]) / num_rows)
        gaps[index] = PerformanceEstimate(each["mean_probability"] - each["rate"], error=error)
    return gaps


def measure(window: Window, task: Task, metrics: Sequence[Metric], limits: PerformanceLimits) -> Performance:
    """Measure metrics and calibration of a window's labelled rows, as they are weighted, with intervals."""
    rows = window.measured_rows
    (y, output, block), groups, weight = rows.arrays(), rows.groups, rows.weight
    performance = Performance()
    if not len(y):
        return performance
    for metric in metrics:
        statistic = weighted_metric(metric, y, output, limits.threshold, groups, weight)
        with contextlib.suppress(errors.RecipeError):  # a metric that is computed row by row takes whole weights alone
            if metric.name == limits.metric.name:
                estimate = estimate_by_blocks(statistic, block, limits.confidence, groups)
            else:
                estimate = PerformanceEstimate(statistic(None))
            performance.metrics[metric.name] = estimate
    if rows.utilities is not None:
        statistic = REALISED.under(y, rows.utilities, weight)
        performance.metrics[REALISED.name] = estimate_by_blocks(statistic, block, limits.confidence)
    for index in _gap_indices(task):
        statistic = calibration_gap(y, output, task, index, weight)
        performance.gaps[index] = estimate_by_blocks(statistic, block, limits.confidence)
    if task.kind is TaskKind.BINARY:
        sides = (y == 1, output[:, 1])
    elif task.kind is TaskKind.REGRESSION:
        sides = (y, output)
    else:
        return performance
    performance.observed, performance.predicted = (float(np.average(side, weights=weight)) for side in sides)
    return performance


def _gap_indices(task: Task) -> Sequence[int]:
    if task.is_ranking:  # whose scores are on no scale
        return ()
    if task.kind in (TaskKind.MULTICLASS, TaskKind.MULTILABEL):
        return range(len(task.output_names))
    return (1,) if task.kind is TaskKind.BINARY else (0,)


def check(windows: Sequence[Performance], baseline: Performance, task: Task, limits: PerformanceLimits) -> None:
    """Widen the intervals that took rows as independent, and fill in each window's losses against the baseline."""
    gap_inflation = {
        index: _inflation([window.gaps[index] for window in windows if index in window.gaps])
        for index in _gap_indices(task)
    }
    for metric in (limits.metric, REALISED):
        _check_metric(metric, windows, baseline, limits)
    for window in windows:
        window.gaps = {index: gap.widened(gap_inflation[index]) for index, gap in window.gaps.items()}
        if task.is_classification and window.gaps:
            window.losses.append(_gap_loss(window, baseline, gap_inflation, task, limits))


def _check_metric(
    metric: Metric, windows: Sequence[Performance], baseline: Performance, limits: PerformanceLimits
) -> None:
    """Widen the intervals of one metric, and fill in its losses."""
    known = [window for window in windows if metric.name in window.metrics]
    inflation, base = _inflation([window.metrics[metric.name] for window in known]), baseline.metrics.get(metric.name)
    for window in known:
        estimate = window.metrics[metric.name] = window.metrics[metric.name].widened(inflation)
        if base is not None and not math.isnan(estimate.value):
            window.losses.append(_metric_loss(metric, estimate, base, inflation, limits))


def _inflation(estimates: Sequence[PerformanceEstimate]) -> float:
    """Ratio of the errors by blocks to those by rows, 1 or more, over all windows together.

    ``sqrt(sum(block error^2) / sum(row error^2))``. Where the interval of the test rows comes from
    resampling single rows, this factor makes it comparable with those of the windows.
    """
    squares = [(e.error**2, e.row_error**2) for e in estimates if e.clustered and e.row_error > 0]
    if not squares:
        return 1.0
    blocks, rows = np.sum(squares, axis=0)
    return max(math.sqrt(blocks / rows), 1.0)


def _metric_loss(
    metric: Metric,
    estimate: PerformanceEstimate,
    base: PerformanceEstimate,
    inflation: float,
    limits: PerformanceLimits,
) -> PerformanceLoss:
    lost = metric.sign * (base.value - estimate.value)
    margin = _margin(estimate, base, inflation, limits.confidence)
    limit = limits.max_loss * (abs(base.value) if metric.in_target_unit else 1)
    span = f"{formats.number(estimate.low, 3)} to {formats.number(estimate.high, 3)}"
    detail = (
        f"{metric.title} {formats.number(estimate.value, 3)} ({span}), {formats.number(base.value, 3)} on the test "
        f"rows: {formats.number(abs(lost), 2)} {'worse' if lost > 0 else 'better'}"
    )
    return _loss(metric.name, lost, limit, lost - margin > 0, margin, detail)


def _gap_loss(
    window: Performance, baseline: Performance, inflation: Mapping[int, float], task: Task, limits: PerformanceLimits
) -> PerformanceLoss:
    """Loss of the class whose calibration is worst, at a confidence shared among the classes (Bonferroni).

    The stated gap is allowed, or that of the test rows where it is larger: the model passed its gate
    with it, and a gap that shrinks is no loss.
    """
    confidence = 1 - (1 - limits.confidence) / len(window.gaps)
    losses = []
    for index, estimate in window.gaps.items():
        base = baseline.gaps.get(index, PerformanceEstimate(0.0, error=0.0))
        margin = _margin(estimate, base, inflation[index], confidence)
        certain = abs(estimate.value - base.value) - margin > 0
        detail = _gap_detail(window, task, index, estimate.value, base.value)
        limit = max(limits.max_gap, abs(base.value))
        loss = _loss("calibration", abs(estimate.value), limit, certain, margin, detail)
        if math.isfinite(margin):
            loss = replace(loss, allowed=(min(-limit, base.value - margin), max(limit, base.value + margin)))
        losses.append(loss)
    return max(losses, key=lambda loss: (loss.degraded, loss.value))


def _loss(what: str, value: float, limit: float, certain: bool, margin: float, detail: str) -> PerformanceLoss:  # noqa: FBT001
    """The loss, with a remark where only noise keeps it from counting."""
    is_noise = value > limit and not certain and math.isfinite(margin)
    remark = f"; the change is within the noise of both (± {formats.number(margin, 2)})" if is_noise else ""
    return PerformanceLoss(what, value, limit, certain, detail + remark)


def _gap_detail(performance: Performance, task: Task, index: int, gap: float, base: float) -> str:
    """A sentence such as ``late=true: predicted 28.2%, observed 39.5%: 11.3 points too low``."""
    name = task.labels[index] if task.labels else f"{task.target}={task.class_names[index]}"
    rates = f"predicted {formats.percent(performance.predicted)}, observed {formats.percent(performance.observed)}: "
    points = f"{100 * abs(gap):.1f} points too {'high' if gap > 0 else 'low'}"
    tested = f" ({100 * abs(base):.1f} too {'high' if base > 0 else 'low'} on the test rows)" if base else ""
    return f"{name}: {rates if performance.predicted is not None else 'probabilities '}{points}{tested}"


def _margin(estimate: PerformanceEstimate, base: PerformanceEstimate, inflation: float, confidence: float) -> float:
    """Half-width of the interval of a change since the test rows; infinite where the window's error is unknown."""
    if math.isnan(estimate.error) or estimate.freedom < 1:
        return math.inf
    error = 0.0 if math.isnan(base.error) else base.error * (1.0 if base.clustered else inflation)
    return delete_a_group.t_quantile(estimate.freedom, confidence) * math.hypot(estimate.error, error)

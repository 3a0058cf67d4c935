"""Facts of one window, whatever the others hold, from which it is judged: those of its rows, and of its labels.

It is small, so that it can be kept (`mlsys.monitor.window_results`): a run looks at the sketches of those windows alone
that have changed, and `mlsys.monitor.decision` judges all windows from their facts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import label_sets
from mlsys.evaluate.metrics import METRICS, Metric
from mlsys.monitor import drift_alarms, performance, two_sample
from mlsys.monitor.drift_alarms import AlarmRule, ColumnChange, Shift
from mlsys.monitor.estimate import Estimation, RowsEstimate
from mlsys.monitor.performance import Performance, PerformanceEstimate, PerformanceLimits, weighted_metric
from mlsys.monitor.reference import SCORE, ReferenceBins, ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.row_sample import Codes, RowSample
from mlsys.monitor.significance import BlockSpread
from mlsys.monitor.two_sample import JointShift, JointTest
from mlsys.monitor.window_results import WindowResults
from mlsys.monitor.windows import Counts, Window
from mlsys.schema import Task, TaskKind


@dataclass(frozen=True)
class RowFacts:
    """Facts of the rows of a window, labelled or not.

    Attributes
    ----------
    changes, spreads
        Column that is watched → its change since the reference, and the spread between the blocks of the window.
    fractions
        The same columns → fractions of the rows in the coarse bins, for people.
    mean_score
        Mean of the score; None without one.
    is_testable
        It has a sample of rows that `two_sample` can test.
    estimate
        Its performance as estimated from its rows; None where nothing is to estimate from.
    """

    changes: dict[str, ColumnChange] = field(default_factory=dict)
    spreads: dict[str, BlockSpread | None] = field(default_factory=dict)
    fractions: dict[str, list[float]] = field(default_factory=dict)
    mean_score: float | None = None
    is_testable: bool = False
    estimate: RowsEstimate | None = None

    def to_json(self) -> dict[str, Any]:
        estimate = self.estimate
        return {
            "changes": {name: list(vars(change).values()) for name, change in self.changes.items()},
            "spreads": {name: spread and spread.to_json() for name, spread in self.spreads.items()},
            "fractions": self.fractions,
            "mean_score": self.mean_score,
            "is_testable": self.is_testable,
            "estimate": estimate and [_values(estimate.metrics), _value(estimate.rate), estimate.doubts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        estimate = None
        if value["estimate"] is not None:
            metrics, rate, doubts = value["estimate"]
            estimate = RowsEstimate(_estimates(metrics), rate and PerformanceEstimate(*rate), doubts)
        return cls(
            {name: ColumnChange(*change) for name, change in value["changes"].items()},
            {name: spread and BlockSpread.from_json(spread) for name, spread in value["spreads"].items()},
            value["fractions"],
            value["mean_score"],
            value["is_testable"],
            estimate,
        )


@dataclass(frozen=True)
class LabelledFacts:
    """Facts of the labels of a window.

    Attributes
    ----------
    performance
        Measured on its mature labels, before the noise of all windows is known; None where they are not mature.
    change, spread
        Of the target, as those of other columns; None where labels are not mature.
    early
        The chosen metric by the labels that have come alone, NaN where it is not known, and the share of the positive
        class among them; None where no label is awaited.
    """

    performance: Performance | None = None
    change: ColumnChange | None = None
    spread: BlockSpread | None = None
    early: tuple[float, float | None] | None = None

    def to_json(self) -> dict[str, Any]:
        own = self.performance
        gaps = own and [[index, _value(gap)] for index, gap in own.gaps.items()]
        return {
            "performance": own and [_values(own.metrics), gaps, own.observed, own.predicted],
            "change": self.change and list(vars(self.change).values()),
            "spread": self.spread and self.spread.to_json(),
            "early": self.early and list(self.early),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        own = None
        if value["performance"] is not None:
            metrics, gaps, *rates = value["performance"]
            own = Performance(_estimates(metrics), {index: PerformanceEstimate(*gap) for index, gap in gaps}, *rates)
        change, spread, early = value["change"], value["spread"], value["early"]
        return cls(
            own, change and ColumnChange(*change), spread and BlockSpread.from_json(spread), early and tuple(early)
        )


def _value(estimate: PerformanceEstimate | None) -> list[Any] | None:
    return None if estimate is None else list(vars(estimate).values())


def _values(estimates: Mapping[str, PerformanceEstimate]) -> dict[str, Any]:
    return {name: _value(estimate) for name, estimate in estimates.items()}


def _estimates(values: Mapping[str, Any]) -> dict[str, PerformanceEstimate]:
    return {name: PerformanceEstimate(*value) for name, value in values.items()}


@dataclass(frozen=True)
class FactSource:
    """All that facts of windows are taken with, the same for every window.

    Attributes
    ----------
    metrics
        Metrics that are shown, the one that is judged first.
    trained
        Training rows, beside which the rows of a window are held.
    results
        Facts that are known from the last run.
    """

    reference: ReferenceRows
    response: ModelResponse
    estimation: Estimation
    metrics: Sequence[Metric]
    limits: PerformanceLimits
    trained: Codes | None = None
    results: WindowResults = field(default_factory=WindowResults)

    def of_rows(self, window: Window) -> RowFacts:
        """Facts of the rows of a window, known or made."""
        return RowFacts.from_json(self.results.of(window, "rows", lambda: self._rows(window).to_json()))

    def of_labels(self, window: Window, *, is_mature: bool) -> LabelledFacts:
        """Facts of the labels of a window, known or made."""
        if not is_mature and not window.labels_stamp:
            return LabelledFacts()
        matured = window.matured.digest() if is_mature and window.matured is not None else None
        inputs = [window.labels_stamp, matured, is_mature, window.ready_fraction is not None]
        known = self.results.of(window, "labels", lambda: self._labels(window, is_mature=is_mature).to_json(), inputs)
        return LabelledFacts.from_json(known)

    def joint(self, window: Window, shifts: Sequence[Shift], rule: AlarmRule) -> JointShift | None:
        """Test the columns of a window that have no alarm of their own, known or made; None with fewer than two."""
        names, trained = self.reference.sampled, self.trained
        tested = two_sample.still(names, shifts)
        if trained is None or not tested:
            return None
        none = RowSample.empty(len(names))
        compared = functools.cache(lambda: two_sample.compare(trained, window.sample or none, names, tested))
        numbers = self.results.of(window, "joint", lambda: [compared().auc, compared().pvalue], tested)

        def telling() -> list[str]:
            return list(self.results.of(window, "telling", lambda: list(compared().telling()), tested))

        return two_sample.conclude(JointTest(numbers[0], numbers[1], telling), shifts, rule)

    def _rows(self, window: Window) -> RowFacts:
        watched = {name: self.reference.bins[name] for name in self.reference.watched}
        totals = {name: window.total(name) for name in watched}
        filled = [name for name in watched if totals[name].any()]  # a window may have no picture to measure
        score = window.statistics.columns[SCORE].numbers
        return RowFacts(
            {name: self._change(window, name, totals[name]) for name in filled},
            {name: BlockSpread.of(bins.coarse(window.counts[name])) for name, bins in watched.items()},
            {name: fractions(watched[name], total) for name, total in totals.items()},
            score.moments.mean if score is not None and score.moments.n else None,
            two_sample.is_testable(self.trained, window.sample),
            self.estimation.of_rows(window, self.metrics, self.limits.confidence),
        )

    def _change(self, window: Window, name: str, counts: Counts) -> ColumnChange:
        """The change of an input, of the predictions, or of the labels."""
        bins, reference = self.reference.bins[name], self.reference
        effect = None if name == reference.task.target else self.response.moved(bins, counts)
        detail = drift_alarms.describe(bins, counts, reference.columns[name], window.statistics.columns[name])
        return ColumnChange.of(bins, counts, effect, detail)

    def _labels(self, window: Window, *, is_mature: bool) -> LabelledFacts:
        early = self._early(window)
        if not is_mature:
            return LabelledFacts(early=early)
        target, counts = self.reference.task.target, label_counts(window, self.reference)
        return LabelledFacts(
            performance.measure(window, self.reference.task, self.metrics, self.limits),
            self._change(window, target, counts.sum(axis=0)),
            BlockSpread.of(self.reference.bins[target].coarse(counts)),
            early,
        )

    def _early(self, window: Window) -> tuple[float, float | None] | None:
        metric, (y, output, _) = self.limits.metric, window.labelled.arrays()
        if window.ready_fraction is None or not len(y):
            return None
        is_binary = TaskKind.BINARY in metric.tasks and output.shape[1:] == (2,)
        value = weighted_metric(metric, y, output, self.limits.threshold)(None)
        return value, float((y == 1).mean()) if is_binary else None


def shown_metrics(task: Task, chosen: Metric) -> list[Metric]:
    """Metrics that the monitor shows of a task, the one that is judged first."""
    monitored = [metric for metric in METRICS.values() if task.kind in metric.monitored_for]
    return [chosen, *(metric for metric in monitored if metric.name != chosen.name)]


def fractions(bins: ReferenceBins, counts: NDArray[np.int64]) -> list[float]:
    """Fractions of rows in the coarse bins, for people."""
    shares: list[float] = (bins.coarse(counts) / max(counts.sum(), 1)).round(6).tolist()
    return shares


def label_counts(window: Window, reference: ReferenceRows) -> NDArray[np.int64]:
    """Count a window's labels in the reference's bins of the target, shape (blocks, bins)."""
    y, _, block = window.measured_rows.arrays()
    bins, task = reference.bins[reference.task.target], reference.task
    if task.labels:
        index = bins.index(label_sets.texts(y, task.labels))
    else:
        index = bins.index(pa.array(list(task.classes) if task.is_classification else y))
        index = index[y.astype(np.int64)] if task.is_classification else index
    counts = np.bincount(block * bins.size + index, minlength=(int(block.max(initial=0)) + 1) * bins.size)
    return counts.reshape(-1, bins.size)

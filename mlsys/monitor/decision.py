"""Judge every window, and decide over all of them whether to keep the model, watch it or train it again.

===========  ====================================================================
verdict      meaning for a window
===========  ====================================================================
too_few      fewer rows than ``monitor.min_rows``: reported, not judged
degraded     its labels are known, and the metric or the calibration is worse than on
             the test rows by more than the limit, beyond the noise of both
drift        the predictions moved, or an input with which they move; performance did not
             suffer, or is not known yet
ok           none of these; inputs that hardly move the predictions may have moved
===========  ====================================================================

===========  ====  ===============================================================
decision     exit  when
===========  ====  ===============================================================
keep         0     nothing calls for work
watch        3     some windows are degraded, but fewer than k; or the predictions moved
                   and no labels say how well they hold; or performance is estimated to have
                   fallen in a window without labels; or no window could be judged
retrain      4     k of the last m judged windows are degraded (``retrain_after``)
===========  ====  ===============================================================

Exit codes 1 and 2 are for failures and for wrong use. Drift alone never asks for a new model:
seasons move inputs every year, and a model that still performs well is not replaced for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import label_sets
from mlsys.evaluate import metrics
from mlsys.monitor import drift_alarms, label_delay, performance, significance, two_sample
from mlsys.monitor.drift_alarms import AlarmRule, Shift
from mlsys.monitor.estimate import EstimatedPerformance, Estimation
from mlsys.monitor.label_delay import LabelDelays
from mlsys.monitor.performance import Performance, PerformanceLimits, PerformanceLoss
from mlsys.monitor.reference import PREDICTION, SCORE, ReferenceRows, label_columns
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.row_sample import Codes
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.two_sample import JointShift
from mlsys.monitor.windows import Window
from mlsys.recipe import MonitorSection
from mlsys.reports import formats

Verdict = Literal["ok", "drift", "degraded", "too_few"]
DecisionWord = Literal["keep", "watch", "retrain"]

EXIT_CODES: dict[DecisionWord, int] = {"keep": 0, "watch": 3, "retrain": 4}
"""Process exit code of each decision, as in the table above."""


@dataclass
class JudgedWindow:
    """A window with its shifts, its performance (None without mature labels) and the verdict from both.

    Attributes
    ----------
    reasons
        Sentences that explain the verdict, the decisive one first.
    estimate
        Its performance as estimated without labels; None where nothing is to estimate from.
    joint
        Whether columns go together as in training; None where that was not tested.
    """

    window: Window
    shifts: list[Shift] = field(default_factory=list)
    performance: Performance | None = None
    verdict: Verdict = "ok"
    reasons: list[str] = field(default_factory=list)
    estimate: EstimatedPerformance | None = None
    joint: JointShift | None = None

    @property
    def has_drift(self) -> bool:
        """Any column raises an alarm, or all together do."""
        return bool(self.alarms) or (self.joint is not None and self.joint.alarmed)

    @property
    def alarms(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.alarmed]

    @property
    def losses(self) -> list[PerformanceLoss]:
        return self.performance.losses if self.performance else []

    @property
    def moved(self) -> list[str]:
        """Columns with a drift alarm that matters, those first that move the predictions most."""
        return [shift.column for shift in self.alarms if shift.matters]

    @property
    def harmless(self) -> list[str]:
        """Columns with a drift alarm that does not matter."""
        return [shift.column for shift in self.alarms if not shift.matters]

    @property
    def measured(self) -> bool:
        """Performance is known: labels are mature, and there are test rows to compare with."""
        return bool(self.losses)

    @property
    def has_fallen(self) -> bool:
        """No labels say how well it performs, and a trusted estimate says that it is worse than on the test rows."""
        return not self.measured and self.estimate is not None and self.estimate.has_fallen

    @property
    def holds(self) -> bool:
        """A trusted estimate says that it is no worse than on the test rows by more than the limit, at its worst."""
        return self.estimate is not None and self.estimate.is_trusted and self.estimate.holds

    @property
    def estimated(self) -> list[str]:
        """Sentences on the estimate of a window whose performance is not known from labels."""
        if self.measured or self.estimate is None or self.estimate.loss is None:
            return []
        doubts = "; ".join(self.estimate.doubts)
        remark = [f"The estimate is not to be trusted: {doubts}."] if doubts else []
        return [f"{self.estimate.loss.detail}.", *remark]

    def conclude(self, section: MonitorSection) -> None:
        """Set the verdict and its reasons, the decisive one first."""
        window = self.window
        if window.num_rows < section.min_rows:
            self.verdict = "too_few"
            self.reasons = [f"{window.num_rows:,} rows; {section.min_rows:,} are needed to judge."]
            return
        losses = sorted(self.losses, key=lambda loss: not loss.degraded)
        self.reasons = [f"{loss.detail}." for loss in losses]
        if self.performance is None and window.num_resolved:
            self.reasons.append(_immature(window, section))
        if window.unknown_labels:
            self.reasons.append(f"{window.unknown_labels:,} labels are no class of the model and are left out.")
        if window.num_divided:
            self.reasons.append(
                f"{window.num_divided:,} labels are left out: some rows of their groups have none, or none was sent."
            )
        self.reasons += self.estimated
        if self.moved:
            self.reasons.append(f"Drift of {', '.join(self.moved)}.")
        if self.harmless:
            self.reasons.append(f"Drift of {', '.join(self.harmless)} hardly moves the predictions.")
        if self.joint is not None and self.joint.alarmed:
            self.reasons.append(f"{_list(self.joint.columns)} no longer go together as in training.")
        degraded = any(loss.degraded for loss in losses)
        self.verdict = "degraded" if degraded else "drift" if self.moved else "ok"


def _immature(window: Window, section: MonitorSection) -> str:
    """A sentence on why the labels of a window do not measure it."""
    has = f"{window.coverage:.0%} of the predictions have labels"
    if window.ready_fraction is None:
        return f"{has}; performance is measured from {section.min_label_coverage:.0%} on."
    share, needed = f"{label_delay.MIN_ARRIVED:.0%}", f"{label_delay.MIN_READY:.0%}"
    return (
        f"{has}, and {window.ready_fraction:.0%} of them are so old that {share} of the labels of every class have "
        f"arrived, by the delays of earlier ones; performance is measured from {needed} on."
    )


def judge_windows(
    windows: Sequence[Window],
    reference: ReferenceRows,
    baseline: Performance,
    section: MonitorSection,
    limits: PerformanceLimits,
    response: ModelResponse,
    *,
    estimation: Estimation | None = None,
    delays: LabelDelays | None = None,
    trained: Codes | None = None,
) -> tuple[list[JudgedWindow], dict[str, Dispersion]]:
    """Judge all windows, given in order of time, and take them into the `estimation` of performance without labels.

    `delays` say which labels are still to come, and `trained` are training rows, beside which the rows of the last
    `drift_alarms.MAX_JOINT` windows are held. Also return the dispersion of each column, estimated over all windows
    together.
    """
    judged = [JudgedWindow(window) for window in windows]
    large = [each for each in judged if each.window.num_rows >= section.min_rows]
    # 1. Performance of the windows whose labels are mature
    mature = [each for each in large if label_delay.mature(each.window, delays, section)]
    monitored = [metric for metric in metrics.METRICS.values() if reference.task.kind in metric.monitored_for]
    shown = [limits.metric, *(metric for metric in monitored if metric.name != limits.metric.name)]
    for each in mature:
        each.performance = performance.measure(each.window, reference.task, shown, limits)
    performance.check([each.performance for each in mature if each.performance], baseline, reference.task, limits)
    # 2. Noise of the inputs, the predictions and the labels
    target = reference.task.target
    large_windows = [each.window for each in large]
    watched = {name: reference.bins[name] for name in reference.watched}
    dispersion = drift_alarms.dispersions(large_windows, watched)
    labels = {id(each): _label_counts(each.window, reference) for each in mature}
    target_counts = [reference.bins[target].coarse(counts) for counts in labels.values()]
    dispersion[target] = significance.design_effect(target_counts)
    # 3. Shifts and verdicts
    rule = AlarmRule(section.false_alarm_rate, section.min_js_distance, section.min_effect)
    for number, each in enumerate(large):
        known, num_left = labels.get(id(each)), len(large) - number
        is_tested = num_left <= drift_alarms.MAX_JOINT and two_sample.is_testable(trained, each.window.sample)
        each.shifts = _shifts(
            each.window, reference, known, response, dispersion=dispersion, rule=rule, num_others=int(is_tested)
        )
        if is_tested:
            each.joint = two_sample.find(trained, each.window.sample, reference.sampled, each.shifts, rule)
        if estimation is not None:
            each.estimate = estimation.take(each.window, each.shifts, each.performance, shown, baseline, limits)
    for each in judged:
        each.conclude(section)
    return judged, dispersion


def _label_counts(window: Window, reference: ReferenceRows) -> NDArray[np.int64]:
    """Count a window's labels in the reference's bins of the target, shape (blocks, bins)."""
    y, _, block = window.measured_rows.arrays()
    bins, task = reference.bins[reference.task.target], reference.task
    if task.labels:
        index = bins.index(label_sets.texts(y, task.labels))
        counts = np.bincount(block * bins.size + index, minlength=(int(block.max(initial=0)) + 1) * bins.size)
        return counts.reshape(-1, bins.size)
    index = bins.index(pa.array(list(task.classes) if task.is_classification else y))
    if task.is_classification:
        index = index[y.astype(np.int64)]
    counts = np.bincount(block * bins.size + index, minlength=(int(block.max(initial=0)) + 1) * bins.size)
    return counts.reshape(-1, bins.size)


def _shifts(
    window: Window,
    reference: ReferenceRows,
    labels: NDArray[np.int64] | None,
    response: ModelResponse,
    *,
    dispersion: Mapping[str, Dispersion],
    rule: AlarmRule,
    num_others: int,
) -> list[Shift]:
    """Shifts of a window's columns, and of its labels where they are known."""
    columns = {name: (reference.bins[name], window.total(name)) for name in reference.watched}
    columns = {name: pair for name, pair in columns.items() if pair[1].any()}  # a window may have no picture to measure
    effects = {name: response.moved(*pair) for name, pair in columns.items()}
    if labels is not None:
        columns[reference.task.target] = (reference.bins[reference.task.target], labels.sum(axis=0))
    details = {
        name: drift_alarms.describe(*pair, reference.columns[name], window.statistics.columns[name])
        for name, pair in columns.items()
    }
    target = reference.task.target
    outputs = (SCORE, PREDICTION, *label_columns(reference.task))
    return drift_alarms.find(
        columns, dispersion, rule, effects, details, outputs=outputs, target=target, num_others=num_others
    )


@dataclass(frozen=True)
class Decision:
    """Recommendation for the model, with its reasons."""

    word: DecisionWord
    headline: str
    reasons: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.word]

    def to_json(self) -> dict[str, Any]:
        return {"word": self.word, "exit_code": self.exit_code, "headline": self.headline, "reasons": self.reasons}


def decide(
    windows: Sequence[JudgedWindow], retrain_after: tuple[int, int], metric: str, watch_after: tuple[int, int] = (1, 3)
) -> Decision:
    """Decide over all windows, given in order of time.

    Partial windows count only where there is no complete one.

    Parameters
    ----------
    retrain_after
        k and m: retrain when k of the last m windows whose performance is known are degraded.
    metric
        Title of the chosen metric.
    watch_after
        k and m: watch when k of the last m windows ask for it whose performance is not known.
    """
    complete = [each for each in windows if not each.window.partial]
    judged = [window for window in (complete or windows) if window.verdict != "too_few"]
    if not judged:
        reason = "Every window has too few rows." if windows else "No prediction of this model is in the log."
        return Decision("watch", "Nothing could be judged yet.", [reason])
    k, m = retrain_after
    recent = [window for window in judged if window.measured][-m:]
    degraded = [window for window in recent if window.verdict == "degraded"]
    if len(degraded) >= k:
        return _retrain(recent, degraded, metric)
    if degraded:
        return _watch_degraded(recent, degraded, k)
    least, span = watch_after
    last = judged[-span:]
    restless = [window for window in last if (window.moved and not window.measured) or window.has_fallen]
    if len(restless) >= least:
        return _watch_unlabelled(restless, metric)
    return _keep(last, recent, passing=restless, least=least)


def _retrain(recent: Sequence[JudgedWindow], degraded: Sequence[JudgedWindow], metric: str) -> Decision:
    reasons = _decisive(degraded)
    if all([loss.what for loss in each.losses if loss.degraded] == ["calibration"] for each in degraded):
        reasons.append(
            f"{metric} is not measurably worse than on the test rows: the model still ranks rows as well as it did. "
            "Its probabilities are off, and so is every decision that compares them with a threshold or a cost."
        )
    beyond = sorted({shift.column for each in degraded for shift in each.alarms if shift.outside >= 0.5})
    if beyond:
        reasons.append(
            f"Training never saw values of {_list(beyond)} like these: the model extrapolates, as it will in every "
            "season that its training rows do not cover."
        )
    reasons.append(
        "Train on rows that include these windows, and let the gate compare the new model with this one on the latest."
    )
    headline = f"Retrain: {len(degraded)} of the last {len(recent)} measured windows are degraded."
    return Decision("retrain", headline, reasons)


def _watch_degraded(recent: Sequence[JudgedWindow], degraded: Sequence[JudgedWindow], k: int) -> Decision:
    verb = "is" if len(degraded) == 1 else "are"
    headline = f"Watch: {len(degraded)} of the last {len(recent)} measured windows {verb} degraded; retrain at {k}."
    return Decision("watch", headline, _decisive(degraded))


def _decisive(degraded: Sequence[JudgedWindow]) -> list[str]:
    return [f"{each.window.label}: {reason}" for each in degraded for reason in each.reasons[:1]]


def _watch_unlabelled(unlabelled: Sequence[JudgedWindow], metric: str) -> Decision:
    reasons = []
    for each in unlabelled:
        drift = [f"drift of {_list(each.moved)}."] if each.moved else []
        reasons.append(f"{each.window.label}: {' '.join([*drift, *each.estimated])}")
    reasons.append("Give labels (--labels) to measure performance.")
    fallen = sum(window.has_fallen for window in unlabelled)
    if fallen:
        windows = formats.count(fallen, "window")
        return Decision("watch", f"Watch: {metric} is estimated to have fallen in {windows} without labels.", reasons)
    if all(window.holds for window in unlabelled):
        holds = f"the predictions move with the traffic, and {metric} is estimated to hold; no labels say so yet"
        return Decision("watch", f"Watch: {holds}.", reasons)
    differs = "the predictions move with the traffic, and without labels it is not known how well they hold"
    return Decision("watch", f"Watch: {differs}.", reasons)


def _keep(
    last: Sequence[JudgedWindow], recent: Sequence[JudgedWindow], passing: Sequence[JudgedWindow], least: int
) -> Decision:
    """Keep the model; `passing` windows ask to be watched, and are fewer than the `least` number that counts."""
    reasons = ["No labels yet: performance is not known; predictions, and inputs that move them, are as in training."]
    if recent:
        reasons = [f"Performance holds in the last {formats.count(len(recent), 'measured window')}."]
    elif passing:
        reasons = ["No labels yet: performance is not known."]
    for each in passing:
        drift = [f"drift of {_list(each.moved)}."] if each.moved else []
        reasons.append(f"{each.window.label}: {' '.join([*drift, *each.estimated])}")
    if passing:
        reasons.append(f"{len(passing)} of the last {len(last)} windows; from {least} on they are watched.")
    settled = [window for window in last if all(window is not each for each in passing)]
    moved = sorted({name for window in settled for name in window.moved})
    if moved:
        reasons.append(f"The drift of {_list(moved)} did not cost performance.")
    harmless = sorted({name for window in last for name in window.harmless} - set(moved))
    if harmless:
        reasons.append(f"The drift of {_list(harmless)} hardly moves the predictions.")
    return Decision("keep", "Keep: nothing calls for a new model.", reasons)


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

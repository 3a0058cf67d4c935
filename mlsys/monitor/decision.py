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

from mlsys.monitor import drift_alarms, label_delay, performance, significance
from mlsys.monitor.drift_alarms import AlarmRule, Shift
from mlsys.monitor.estimate import EstimatedPerformance
from mlsys.monitor.label_delay import LabelDelays
from mlsys.monitor.performance import Performance, PerformanceLoss
from mlsys.monitor.reference import PREDICTION, SCORE, label_columns
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.two_sample import JointShift
from mlsys.monitor.window_facts import FactSource, LabelledFacts, RowFacts
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
    facts, labels
        What its rows and its labels say by themselves.
    """

    window: Window
    shifts: list[Shift] = field(default_factory=list)
    performance: Performance | None = None
    verdict: Verdict = "ok"
    reasons: list[str] = field(default_factory=list)
    estimate: EstimatedPerformance | None = None
    joint: JointShift | None = None
    facts: RowFacts = field(default_factory=RowFacts)
    labels: LabelledFacts = field(default_factory=LabelledFacts)

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
    source: FactSource,
    baseline: Performance,
    section: MonitorSection,
    delays: LabelDelays | None = None,
) -> tuple[list[JudgedWindow], dict[str, Dispersion]]:
    """Judge all windows, given in order of time, and take them into the estimation of performance without labels.

    `source` has the facts of each window, and `delays` say which labels are still to come. The rows of the last
    `drift_alarms.MAX_JOINT` windows are held beside training rows. Also return the dispersion of each column, estimated
    over all windows together.
    """
    judged = [JudgedWindow(window, facts=source.of_rows(window)) for window in windows]
    large = [each for each in judged if each.window.num_rows >= section.min_rows]
    task, limits = source.reference.task, source.limits
    # 1. Performance of the windows whose labels are mature
    for each in large:
        is_mature = label_delay.mature(each.window, delays, section, source.results)
        each.labels = source.of_labels(each.window, is_mature=is_mature)
        each.performance = each.labels.performance
    performance.check([each.performance for each in large if each.performance], baseline, task, limits)
    # 2. Noise of the inputs, the predictions and the labels
    dispersion = {
        name: significance.pool(each.facts.spreads[name] for each in large) for name in source.reference.watched
    }
    dispersion[task.target] = significance.pool(each.labels.spread for each in large)
    # 3. Shifts and verdicts
    rule = AlarmRule(section.false_alarm_rate, section.min_js_distance, section.min_effect)
    for number, each in enumerate(large):
        is_tested = each.facts.is_testable and len(large) - number <= drift_alarms.MAX_JOINT
        each.shifts = _shifts(each, source, dispersion, rule, num_others=int(is_tested))
        if is_tested:
            each.joint = source.joint(each.window, each.shifts, rule)
        each.estimate = source.estimation.take(
            each.window, each.facts.estimate, each.shifts, each.performance, baseline, limits
        )
    for each in judged:
        each.conclude(section)
    return judged, dispersion


def _shifts(
    judged: JudgedWindow, source: FactSource, dispersion: Mapping[str, Dispersion], rule: AlarmRule, *, num_others: int
) -> list[Shift]:
    """Shifts of a window's columns, and of its labels where they are known."""
    task, changes = source.reference.task, dict(judged.facts.changes)
    if judged.labels.change is not None:
        changes[task.target] = judged.labels.change
    outputs = (SCORE, PREDICTION, *label_columns(task))
    return drift_alarms.alarms(changes, dispersion, rule, outputs=outputs, target=task.target, num_others=num_others)


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

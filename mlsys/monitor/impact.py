"""Rank the drift alarms of a window by what they do to the predictions and to the performance, and say it.

A column that moved is news if the predictions moved with it, and bad news if the performance suffers. So an alarm is
ranked by its *effect*, the drift weighed with what the model makes of the column (`mlsys.monitor.relevance`), and said
with what became of the predictions as a whole and of the chosen metric: from labels where they are there, else as
estimated without them (`mlsys.monitor.estimate`). Between windows those come first in which the metric fell.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from mlsys.evaluate.metrics import Metric
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.drift_alarms import Shift
from mlsys.monitor.estimate import EstimatedPerformance
from mlsys.monitor.performance import PerformanceLoss
from mlsys.monitor.reference import PREDICTION, SCORE, label_columns
from mlsys.monitor.two_sample import JointShift
from mlsys.schema import Task

Outcome = Literal["fell", "unknown", "holds"]
"""What became of the chosen metric; unknown, too, where neither is certain."""


@dataclass(frozen=True)
class AlarmImpact:
    """An alarm with what it does.

    Attributes
    ----------
    columns
        The column that moved, or those that moved together and not by themselves.
    effect
        Standard deviations of the predictions by which the column's shift moves them; None where that is not known, as
        of the predictions themselves.
    moved
        The predictions as a whole raise an alarm.
    outcome, loss
        What became of the chosen metric, and its loss since the test rows, measured or estimated; None if not known.
    words
        The same as a sentence without its full stop.
    """

    columns: tuple[str, ...]
    effect: float | None
    matters: bool
    moved: bool
    outcome: Outcome
    loss: float | None
    words: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "columns": list(self.columns)}


def impacts(judged: JudgedWindow, task: Task, metric: Metric) -> list[AlarmImpact]:
    """The alarms of a window, those first that do most to the predictions.

    The predictions themselves come first, then inputs that matter by their effect (an effect that is not known counts
    as the largest), then columns that moved together alone, then the others, and drift of the labels last.
    """
    outputs = {SCORE, PREDICTION, *label_columns(task)}
    moved = any(shift.column in outputs for shift in judged.alarms)
    outcome, loss, clause = _performance(judged, metric)
    alarms = []
    for shift in judged.alarms:
        words = f"{_shift_words(shift, outputs, task.target, moved=moved)}; {clause}"
        alarm = AlarmImpact((shift.column,), shift.effect, shift.matters, moved, outcome, loss, words)
        alarms.append((_rank(shift, outputs, task.target), alarm))
    if judged.joint is not None and judged.joint.alarmed:
        words = f"{_joint_words(judged.joint, moved=moved)}; {clause}"
        alarm = AlarmImpact(judged.joint.columns, None, False, moved, outcome, loss, words)
        alarms.append(((_JOINT, 0.0, 0.0), alarm))
    return [alarm for _, alarm in sorted(alarms, key=lambda each: each[0])]


_JOINT = 2
"""Place of columns that moved together: after those that matter, before those that do not."""


def _rank(shift: Shift, outputs: Collection[str], target: str | None) -> tuple[int, float, float]:
    place = 0 if shift.column in outputs else 4 if shift.column == target else 1 if shift.matters else 3
    return place, -(math.inf if shift.effect is None else shift.effect), -shift.excess


def _shift_words(shift: Shift, outputs: Collection[str], target: str | None, *, moved: bool) -> str:
    """Say what a shift does to the predictions, of which `moved` says whether they raise an alarm of their own."""
    name = f"'{shift.column}' moved"
    if shift.column in outputs:
        return f"{name}: the predictions themselves"
    if shift.column == target:
        return f"{name}: the labels; the predictions {'did, too' if moved else 'did not'}"
    return f"{name}{_with_it(shift) if moved else _without_it(shift)}"


def _joint_words(joint: JointShift, *, moved: bool) -> str:
    """Say which columns no longer go together as in training, and whether the predictions moved."""
    names = " and ".join(f"'{name}'" for name in joint.columns) or "columns"
    return f"{names} moved together, none by itself{_PERHAPS if moved else _NOT}"


_PERHAPS, _NOT = ", and so did the predictions, perhaps with it", ", the predictions did not"


def _brief(value: float) -> str:
    return f"{round(value, 4):.2g}"


def _with_it(shift: Shift) -> str:
    """Tell how far the predictions, which moved, moved with a column."""
    if shift.effect is None:
        return _PERHAPS
    by = f"{_brief(shift.effect)} sd"
    if shift.matters:
        return f", and the predictions with it, by {by}"
    return f"; the predictions did, too, and hardly with it ({by})"


def _without_it(shift: Shift) -> str:
    """Tell that the predictions did not move, though the shift of a column alone would move them."""
    if shift.effect is None or not shift.matters:
        return _NOT
    return f", which moves predictions by {_brief(shift.effect)} sd by itself; as a whole they did not move"


def _performance(judged: JudgedWindow, metric: Metric) -> tuple[Outcome, float | None, str]:
    """Say what became of the chosen metric: the outcome, its loss, and both in words."""
    own = next((loss for loss in judged.losses if loss.what == metric.name), None)
    if judged.measured:
        return _measured(judged.losses, own, metric.title)
    estimate = judged.estimate
    if estimate is None or estimate.loss is None:
        return "unknown", None, "the performance is not known"
    return _estimated(estimate, estimate.loss, metric.title)


def _measured(
    losses: list[PerformanceLoss], own: PerformanceLoss | None, title: str
) -> tuple[Outcome, float | None, str]:
    value = None if own is None else own.value
    if own is not None and own.degraded:
        return "fell", value, f"{title} is worse than on the test rows by {_brief(own.value)}"
    if any(loss.degraded for loss in losses):
        return "fell", value, "the probabilities no longer fit what is observed"
    if own is None:
        return "unknown", None, f"{title} is not known"
    if own.value > own.limit:
        by = _brief(own.value)
        return "unknown", value, f"{title} is worse than on the test rows by {by}, which may be chance"
    return "holds", value, f"{title} holds, by the labels"


def _estimated(estimate: EstimatedPerformance, loss: PerformanceLoss, title: str) -> tuple[Outcome, float | None, str]:
    if not estimate.is_trusted:
        return "unknown", None, f"the estimate of {title} is not to be trusted"
    if estimate.has_fallen:
        by = _brief(loss.value)
        return "fell", loss.value, f"{title} is estimated to be worse than on the test rows by {by}"
    if estimate.holds:
        return "holds", loss.value, f"{title} is estimated to hold"
    return "unknown", loss.value, f"the estimate of {title} is too uncertain to say what it costs"

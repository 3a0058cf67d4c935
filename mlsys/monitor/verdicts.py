"""Every window judged: what moved, how the model performed, and the verdict from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys.evaluate import metrics
from mlsys.monitor import drift_alarms, log_scan, performance_check
from mlsys.monitor.decision import Verdict, WindowVerdict
from mlsys.monitor.drift_alarms import AlarmRule, Shift
from mlsys.monitor.log_scan import ReferenceRows
from mlsys.monitor.performance import Baseline
from mlsys.monitor.performance_check import Health, Limits
from mlsys.monitor.reference_bins import ReferenceBins
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.windows import Window
from mlsys.recipe import Monitor
from mlsys.schema import Task

__all__ = ["Judged", "judge_windows", "verdict_of"]

_SHOWN = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""Metrics that are measured beside the chosen one."""


@dataclass
class Judged:
    """One window with all that was found out about it; `health` is None without mature labels."""

    window: Window
    shifts: list[Shift] = field(default_factory=list)
    health: Health | None = None
    verdict: Verdict = "ok"
    reasons: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.alarmed]


def judge_windows(
    windows: Sequence[Window], reference: ReferenceRows, base: Baseline, section: Monitor, limits: Limits
) -> tuple[list[Judged], dict[str, Dispersion]]:
    """All windows judged, and how alike the rows of a block are by column.

    What concerns the noise is measured over all windows together: one week says little
    about how much weeks differ inside.
    """
    large = [window for window in windows if window.num_rows >= section.min_rows]
    watched = {name: reference.bins[name] for name in reference.watched}
    spread = drift_alarms.dispersions(large, watched)
    judged = [Judged(window) for window in windows]
    ripe = [one for one in judged if one.window in large and one.window.coverage >= section.min_label_coverage]
    for one in ripe:
        one.health = performance_check.measure(one.window, reference.task, _shown(reference.task, limits), limits)
    performance_check.judge([one.health for one in ripe if one.health], base, reference.task, limits)
    labels = {id(one): _label_counts(one.window, reference) for one in ripe}
    target = reference.task.target
    spread[target] = drift_alarms.design_effect_of(labels.values(), reference.bins[target])
    rule = AlarmRule(section.false_alarm_rate, section.min_js_distance)
    for one in judged:
        if one.window in large:
            one.shifts = _shifts(one.window, large, reference, labels.get(id(one)), spread=spread, rule=rule)
        _conclude(one, section)
    return judged, spread


def _shown(task: Task, limits: Limits) -> list[metrics.Metric]:
    return [metrics.METRICS[name] for name in dict.fromkeys([limits.metric.name, *_SHOWN[task.kind.value]])]


def _label_counts(window: Window, reference: ReferenceRows) -> NDArray[np.int64]:
    """Labels of a window in the reference's bins of the target, shape (blocks, bins)."""
    y, _, block = window.performance.arrays()
    bins = reference.bins[reference.task.target]
    index = bins.index(pa.array(y))
    if reference.task.is_classification:
        index = bins.index(pa.array(list(reference.task.classes)))[y.astype(np.int64)]
    counts = np.bincount(block * bins.size + index, minlength=(int(block.max(initial=0)) + 1) * bins.size)
    return counts.reshape(-1, bins.size)


def _shifts(
    window: Window,
    large: Sequence[Window],
    reference: ReferenceRows,
    labels: NDArray[np.int64] | None,
    *,
    spread: Mapping[str, Dispersion],
    rule: AlarmRule,
) -> list[Shift]:
    """Shifts of a window, the label among the columns where it is known."""
    found = {name: (reference.bins[name], window.total(name)) for name in reference.watched}
    found = {name: (bins, counts) for name, (bins, counts) in found.items() if counts.any()}  # no picture, no look
    effects: dict[str, float | None] = {
        name: drift_alarms.effect_on_prediction(large, name, bins, counts, reference.task.kind)
        for name, (bins, counts) in found.items()
        if name not in {log_scan.SCORE, log_scan.PREDICTION}
    }
    details = {name: _describe(window, reference, name, bins, counts) for name, (bins, counts) in found.items()}
    if labels is not None:
        target = reference.task.target
        found[target] = (reference.bins[target], labels.sum(axis=0))
        details[target] = _describe(window, reference, target, *found[target])
    return drift_alarms.find(found, spread, rule, effects, details)


def _describe(
    window: Window, reference: ReferenceRows, name: str, bins: ReferenceBins, counts: NDArray[np.int64]
) -> str:
    return drift_alarms.describe(bins, counts, reference.columns[name], window.statistics.columns[name])


def _conclude(one: Judged, section: Monitor) -> None:
    """Verdict and reasons, the one that decided first."""
    window = one.window
    if window.num_rows < section.min_rows:
        one.verdict = "too_few"
        one.reasons = [f"{window.num_rows:,} rows; {section.min_rows:,} are needed to judge."]
        return
    losses = sorted(one.health.losses if one.health else [], key=lambda loss: not loss.degraded)
    one.reasons = [f"{loss.detail}." for loss in losses]
    if one.health is None and window.num_resolved:
        one.reasons.append(
            f"{window.coverage:.0%} of the predictions have labels; performance is measured from "
            f"{section.min_label_coverage:.0%}."
        )
    if window.unknown_labels:
        one.reasons.append(f"{window.unknown_labels:,} labels are no class of the model and are left out.")
    if one.alarms:
        one.reasons.append(f"Moved: {', '.join(shift.column for shift in one.alarms)}.")
    degraded = any(loss.degraded for loss in losses)
    one.verdict = "degraded" if degraded else "drift" if one.alarms else "ok"


def verdict_of(one: Judged, label: str) -> WindowVerdict:
    """A judged window as the decision sees it."""
    losses = one.health.losses if one.health else []
    return WindowVerdict(
        label,
        one.verdict,
        one.window.partial,
        one.health is not None and bool(losses),
        moved=tuple(shift.column for shift in one.alarms),
        beyond=tuple(shift.column for shift in one.alarms if shift.outside >= 0.5),
        worse=tuple(loss.what for loss in losses if loss.degraded),
        reasons=tuple(one.reasons),
    )

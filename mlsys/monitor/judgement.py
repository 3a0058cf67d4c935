"""Step 9: the log is read, every window is judged, and a decision is drawn from them."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys.bundle import Bundle
from mlsys.evaluate import metrics
from mlsys.monitor import health, maintain, scan, shifts, tables
from mlsys.monitor.delayed import Labels
from mlsys.monitor.drift import INDEPENDENT, Dispersion
from mlsys.monitor.health import Health, Limits
from mlsys.monitor.log import Log, files_of
from mlsys.monitor.maintain import Decision, Verdict, WindowVerdict
from mlsys.monitor.performance import Baseline, Estimate
from mlsys.monitor.scan import Reference, Scan
from mlsys.monitor.shifts import Rule, Shift
from mlsys.monitor.windows import Calendar, Window
from mlsys.recipe import Monitor, Recipe
from mlsys.schema import Task
from mlsys.store import Store, write_json

__all__ = ["Judgement", "LabelSource", "LogSource", "judge"]

LABEL = "label"
"""Name of the target among judged columns."""

LogSource = str | Path | Sequence[str | Path]
LabelSource = str | Path | pa.Table | None


@dataclass(frozen=True)
class Judgement:
    """What the monitor says, as plain JSON values, and where its tables are.

    Attributes
    ----------
    value
        Everything a report needs; `to_json` returns it.
    digest
        Of ``objects/monitor/<digest>/``: judgement.json, profile.parquet, drift.parquet, report.html.
    """

    value: dict[str, Any]
    digest: str
    folder: Path

    @property
    def decision(self) -> str:
        """``keep``, ``watch`` or ``retrain``."""
        return str(self.value["decision"]["word"])

    @property
    def exit_code(self) -> int:
        return int(self.value["decision"]["exit_code"])

    @property
    def headline(self) -> str:
        return str(self.value["decision"]["headline"])

    @property
    def summary(self) -> str:
        """One line: windows by verdict, and the decision."""
        verdicts = [window["verdict"] for window in self.value["windows"]]
        counts = ", ".join(
            f"{verdicts.count(word)} {word.replace('_', ' ')}"
            for word in ("ok", "drift", "degraded", "too_few")
            if word in verdicts
        )
        num_rows, number = self.value["log"]["num_rows"], len(verdicts)
        return f"{num_rows:,} predictions in {number} window{'' if number == 1 else 's'} ({counts or 'none'}); {self.headline}"

    def to_json(self) -> dict[str, Any]:
        return self.value


@dataclass
class Judged:
    """One window with all that was found out about it."""

    window: Window
    shifts: list[Shift] = field(default_factory=list)
    health: Health | None = None
    verdict: Verdict = "ok"
    reasons: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.alarmed]

    @property
    def measured(self) -> bool:
        return self.health is not None


def judge(
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Read, judge, decide and store; in this process.

    See Also
    --------
    mlsys.monitor.compare : the same as one task of the cluster.
    """
    section = recipe.monitor
    reference = Reference.of(bundle)
    calendar = Calendar(section.granularity, recipe.data.timezone)
    reading = Log(files_of(log), bundle.schema, bundle.digest)
    truth = None if labels is None else Labels.read(labels, bundle.task, recipe.data.id, as_of)
    found = scan.read(reading, reference, calendar, truth, section.slices, progress)
    progress(f"judging {len(found.windows)} windows")
    limits = Limits(
        metrics.find(recipe.selection.metric, bundle.task.kind), section.max_metric_loss, section.max_calibration_gap,
        recipe.evaluate.confidence, bundle.threshold,
    )  # fmt: skip
    base = Baseline.of(baseline, bundle.task)
    judged, spread = _judge_windows(found, reference, base, section, limits)
    decision = _decide(judged, section, calendar)
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": bundle.task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), "metric": limits.metric.name, "timezone": calendar.timezone,
                  "confidence": limits.confidence},
        "decision": decision.to_json(),
        "log": {"num_rows": reading.num_rows, "num_duplicates": reading.num_duplicates, "num_other": reading.num_other,
                "num_without_time": reading.num_without_time, "num_files": len(reading.files)},
        "labels": None if truth is None else {"num_rows": truth.frame.height, "num_repeated": truth.num_repeated,
                                              "delay_s": _delays(found.delays)},
        "baseline": _baseline_json(base, limits),
        "windows": [_window_json(one, calendar, limits) for one in judged],
        "columns": _columns_json(judged, reference, spread, found.windows),
    }  # fmt: skip
    return _store(store, value, found, reference, section, bundle)


def _judge_windows(
    found: Scan, reference: Reference, base: Baseline, section: Monitor, limits: Limits
) -> tuple[list[Judged], dict[str, Dispersion]]:
    rule = Rule(section.false_alarm_rate, section.min_js_distance)
    task = reference.task
    large = [window for window in found.windows if window.num_rows >= section.min_rows]
    watched = {name: reference.bins[name] for name in reference.watched}
    spread = shifts.dispersions(large, watched)
    judged = [Judged(window) for window in found.windows]
    ripe = [one for one in judged if one.window in large and one.window.coverage >= section.min_label_coverage]
    for one in ripe:
        one.health = health.measure(one.window, task, _shown_metrics(task, limits), limits)
    health.judge([one.health for one in ripe if one.health], base, task, limits)
    label_counts = {id(one): _label_counts(one.window, reference) for one in ripe}
    spread[LABEL] = shifts.design_effect_of(label_counts.values(), reference.bins[task.target])
    for one in judged:
        if one.window in large:
            one.shifts = _shifts(one, large, watched, spread, rule, reference, label_counts.get(id(one)))
        _conclude(one, section)
    return judged, spread


def _shown_metrics(task: Task, limits: Limits) -> list[metrics.Metric]:
    wanted = {"binary": ("roc_auc", "log_loss", "brier"), "multiclass": ("log_loss", "accuracy"), "regression": ("rmse", "mae", "r2")}
    names = dict.fromkeys([limits.metric.name, *wanted[task.kind.value]])
    return [metrics.METRICS[name] for name in names]


def _label_counts(window: Window, reference: Reference) -> NDArray[np.int64]:
    """Labels of a window by block in the reference's bins of the target."""
    y, _, block = window.performance.arrays()
    bins = reference.bins[reference.task.target]
    if reference.task.is_classification:
        classes = np.array([bins.index(pa.array([value]))[0] for value in _as_keys(reference)])
        index = classes[y.astype(np.int64)]
    else:
        index = bins.index(pa.array(y))
    size = bins.size
    counts = np.bincount(block * size + index, minlength=(int(block.max(initial=0)) + 1) * size)
    return counts.reshape(-1, size)


def _as_keys(reference: Reference) -> list[Any]:
    return list(reference.task.classes)


def _shifts(
    one: Judged,
    large: Sequence[Window],
    watched: Mapping[str, Any],
    spread: Mapping[str, Dispersion],
    rule: Rule,
    reference: Reference,
    label_counts: NDArray[np.int64] | None,
) -> list[Shift]:
    window, kind = one.window, reference.task.kind
    totals = {name: window.total(name) for name in watched}
    effects = {name: shifts.effect_on_prediction(large, name, watched[name], totals[name], kind) for name in watched if name != scan.SCORE}
    details = {
        name: shifts.describe(bins, totals[name], reference.columns[name], window.statistics.columns[name])
        for name, bins in watched.items()
    }
    bins = dict(watched)
    if label_counts is not None:
        target = reference.task.target
        totals[LABEL], bins[LABEL] = label_counts.sum(axis=0), reference.bins[target]
        details[LABEL] = shifts.describe(bins[LABEL], totals[LABEL], reference.columns[target], window.statistics.columns[target])
    return shifts.find(totals, bins, spread, rule, effects, details)


def _conclude(one: Judged, section: Monitor) -> None:
    """Verdict and reasons, the one that decided first."""
    window = one.window
    if window.num_rows < section.min_rows:
        one.verdict = "too_few"
        one.reasons = [f"{window.num_rows:,} rows; {section.min_rows:,} are needed to judge."]
        return
    losses = one.health.losses if one.health else []
    bad = [loss for loss in losses if loss.degraded]
    one.reasons = [f"{loss.detail}." for loss in sorted(losses, key=lambda loss: not loss.degraded)]
    if not one.measured and window.num_resolved + window.num_pending and window.num_resolved:
        one.reasons.append(
            f"Labels for {window.coverage:.0%} of the predictions; measured from {section.min_label_coverage:.0%}."
        )
    if one.alarms:
        names = ", ".join(f"{shift.column} ({shift.detail})" for shift in one.alarms[:3])
        more = f" and {len(one.alarms) - 3} more" if len(one.alarms) > 3 else ""
        one.reasons.append(f"Moved: {names}{more}.")
    one.verdict = "degraded" if bad else "drift" if one.alarms else "ok"


def _decide(judged: Sequence[Judged], section: Monitor, calendar: Calendar) -> Decision:
    verdicts = [
        WindowVerdict(
            _label(one.window, calendar),
            one.verdict,
            one.window.partial,
            one.measured,
            tuple(shift.column for shift in one.alarms),
            tuple(one.reasons),
        )
        for one in judged
    ]
    return maintain.decide(verdicts, section.retrain_after)


def _label(window: Window, calendar: Calendar) -> str:
    """A window in words: the hour, the day, the week from its Monday, or the month."""
    local = window.start.astimezone(zoneinfo.ZoneInfo(calendar.timezone))
    forms = {"1 hour": "%Y-%m-%d %H:%M", "1 day": "%Y-%m-%d", "1 week": "week of %Y-%m-%d", "1 month": "%B %Y"}
    return local.strftime(forms[calendar.granularity])


def _delays(seconds: NDArray[np.float64]) -> dict[str, float] | None:
    """How long labels take: median and 95 % quantile, in seconds after the event."""
    if not len(seconds):
        return None
    half, most = np.quantile(seconds, [0.5, 0.95])
    return {"median": float(half), "p95": float(most)}


def _baseline_json(base: Baseline, limits: Limits) -> dict[str, Any]:
    return {
        "metrics": {name: estimate.to_json() for name, estimate in base.metrics.items()},
        "gap": base.gaps[1].value if 1 in base.gaps else None,
        "observed": base.observed,
        "predicted": base.predicted,
        "metric": limits.metric.name,
        "title": limits.metric.title,
        "greater_is_better": limits.metric.greater_is_better,
    }


def _window_json(one: Judged, calendar: Calendar, limits: Limits) -> dict[str, Any]:
    window, measured = one.window, one.health
    return {
        "label": _label(window, calendar),
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "partial": window.partial,
        "num_rows": window.num_rows,
        "model_versions": sorted(window.versions),
        "verdict": one.verdict,
        "reasons": one.reasons,
        "labels": {
            "num_resolved": window.num_resolved,
            "num_pending": window.num_pending,
            "num_void": window.num_void,
            "num_unknown": window.unknown_labels,
            "coverage": window.coverage,
            "mature": one.measured,
        },
        "metrics": {} if measured is None else {name: e.to_json() for name, e in measured.metrics.items()},
        "observed": measured and measured.observed,
        "predicted": _mean_score(window) if measured is None else measured.predicted,
        "gap": None if measured is None else _gap_json(measured.gaps.get(1) or measured.gaps.get(0)),
        "losses": [] if measured is None else [loss.to_json() for loss in measured.losses],
        "shifts": [shift.to_json() for shift in one.shifts],
    }


def _gap_json(gap: Estimate | None) -> dict[str, Any] | None:
    return None if gap is None else gap.to_json()


def _mean_score(window: Window) -> float | None:
    column = window.statistics.columns[scan.SCORE]
    return column.numbers.moments.mean if column.numbers is not None and column.numbers.moments.n else None


def _columns_json(
    judged: Sequence[Judged], reference: Reference, spread: Mapping[str, Dispersion], windows: Sequence[Window]
) -> list[dict[str, Any]]:
    """Judged columns, the one that moved most first, with their distributions by window."""
    largest: dict[str, float] = {}
    for one in judged:
        for shift in one.shifts:
            largest[shift.column] = max(largest.get(shift.column, 0.0), shift.excess)
    rows = []
    for name in sorted(largest, key=lambda column: -largest[column]):
        bins = reference.bins[reference.task.target if name == LABEL else name]
        dispersion = spread.get(name, INDEPENDENT)
        counted = [] if name == LABEL else [bins.coarse(window.total(name)) for window in windows]
        rows.append(
            {
                "column": name,
                "kind": bins.kind.value,
                "largest": largest[name],
                "design_effect": dispersion.effect,
                "labels": list(bins.labels),
                "reference": _fractions(bins.coarse(bins.reference)),
                "windows": [_fractions(counts) for counts in counted],
            }
        )
    return rows


def _fractions(counts: NDArray[np.int64]) -> list[float]:
    shares: list[float] = (counts / max(counts.sum(), 1)).round(6).tolist()
    return shares


def _store(
    store: Store, value: dict[str, Any], found: Scan, reference: Reference, section: Monitor, bundle: Bundle
) -> Judgement:
    from mlsys.monitor import render

    windows = [*found.windows, *found.slices]

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value)
        profile = tables.profile_table(windows, reference, section.granularity, bundle.threshold)
        pq.write_table(profile, folder / "profile.parquet")
        pq.write_table(tables.drift_table(windows, reference, section.granularity), folder / "drift.parquet")
        (folder / "report.html").write_text(render.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    digest = store.put("monitor", fill)
    return Judgement(value, digest, store.path("monitor", digest))

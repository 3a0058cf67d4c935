"""Step 9 as one function: read the log, judge every window, decide, store.

A judgement as plain JSON values: what the report draws and what programs read.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys.bundle import Bundle
from mlsys.evaluate import metrics
from mlsys.monitor import decision as monitor_decision
from mlsys.monitor import log_scan, metric_tables, report, verdicts
from mlsys.monitor.labels import Labels
from mlsys.monitor.log_scan import LoggedFiles, LogScan, ReferenceRows, files_of
from mlsys.monitor.performance import Baseline
from mlsys.monitor.performance_check import Limits
from mlsys.monitor.significance import INDEPENDENT, Dispersion
from mlsys.monitor.verdicts import Judged
from mlsys.monitor.windows import Calendar, Window
from mlsys.recipe import Recipe
from mlsys.store import Store, write_json

__all__ = [
    "Judgement",
    "LabelSource",
    "LogSource",
    "baseline_json",
    "columns_json",
    "counted",
    "counts_json",
    "judge",
    "labels_json",
    "log_json",
    "name_json",
    "window_json",
]

_NAMES = {"1 hour": "%Y-%m-%d %H:%M", "1 day": "%Y-%m-%d", "1 week": "week of %Y-%m-%d", "1 month": "%B %Y"}


def name_json(of: Window, calendar: Calendar) -> str:
    """A window in words: the hour, the day, the week from its Monday, or the month."""
    return of.start.astimezone(zoneinfo.ZoneInfo(calendar.timezone)).strftime(_NAMES[calendar.granularity])


def log_json(reading: LoggedFiles) -> dict[str, Any]:
    """What was read and what was left out."""
    return {
        "num_files": len(reading.files),
        "num_rows": reading.num_rows,
        "num_duplicates": reading.num_duplicates,
        "num_other": reading.num_other,
        "num_without_time": reading.num_without_time,
    }


def labels_json(truth: Labels | None, delays: NDArray[np.float64]) -> dict[str, Any] | None:
    """Labels that were given, and how long they take: median and 95 % quantile in seconds after the event."""
    if truth is None:
        return None
    delay = None
    if len(delays):
        half, most = np.quantile(delays, [0.5, 0.95])
        delay = {"median": float(half), "p95": float(most)}
    return {"num_rows": truth.frame.height, "num_repeated": truth.num_repeated, "delay_s": delay}


def baseline_json(base: Baseline, limits: Limits) -> dict[str, Any]:
    """The test rows' numbers, and the metric that is judged."""
    return {
        "metrics": {metric: estimate.to_json() for metric, estimate in base.metrics.items()},
        "gap": base.gaps[1].value if 1 in base.gaps else None,
        "observed": base.observed,
        "predicted": base.predicted,
        "metric": limits.metric.name,
        "title": limits.metric.title,
        "greater_is_better": limits.metric.greater_is_better,
    }


def counts_json(judged: Sequence[Judged]) -> dict[str, int]:
    """Windows by what was found in them; a degraded one may have drift alarms, too, so these overlap by `both`."""
    moved = [one for one in judged if one.alarms]
    return {
        "windows": len(judged),
        "judged": sum(one.verdict != "too_few" for one in judged),
        "measured": sum(one.health is not None for one in judged),
        "ok": sum(one.verdict == "ok" for one in judged),
        "moved": len(moved),
        "degraded": sum(one.verdict == "degraded" for one in judged),
        "both": sum(one.verdict == "degraded" for one in moved),
        "too_few": sum(one.verdict == "too_few" for one in judged),
    }


def counted(found: Mapping[str, int]) -> str:
    """Those numbers in words.

    Examples
    --------
    >>> counted({"ok": 1, "moved": 9, "degraded": 3, "both": 2, "too_few": 0})
    '1 ok, 9 with drift alarms, 3 degraded, 2 both'
    >>> counted({"ok": 0, "moved": 0, "degraded": 0, "both": 0, "too_few": 0})
    'none'
    """
    words = {"ok": "ok", "moved": "with drift alarms", "degraded": "degraded", "both": "both", "too_few": "too few"}
    return ", ".join(f"{found[key]} {text}" for key, text in words.items() if found[key]) or "none"


def window_json(one: Judged, calendar: Calendar) -> dict[str, Any]:
    """One judged window."""
    of, measured = one.window, one.health
    gap = None if measured is None else measured.gaps.get(1, measured.gaps.get(0))
    return {
        "label": name_json(of, calendar),
        "start": of.start.isoformat(),
        "end": of.end.isoformat(),
        "partial": of.partial,
        "num_rows": of.num_rows,
        "num_unseen": of.num_unseen,
        "num_rare": of.num_rare,
        "model_versions": sorted(of.versions),
        "verdict": one.verdict,
        "reasons": one.reasons,
        "labels": {
            "num_resolved": of.num_resolved,
            "num_pending": of.num_pending,
            "num_void": of.num_void,
            "num_unknown": of.unknown_labels,
            "coverage": of.coverage,
            "mature": measured is not None,
        },
        "metrics": {} if measured is None else {metric: e.to_json() for metric, e in measured.metrics.items()},
        "observed": measured and measured.observed,
        "predicted": _mean_score(of) if measured is None else measured.predicted,
        "gap": gap and gap.to_json(),
        "losses": [] if measured is None else [loss.to_json() for loss in measured.losses],
        "shifts": [shift.to_json() for shift in one.shifts],
    }


def _mean_score(of: Window) -> float | None:
    column = of.statistics.columns[log_scan.SCORE]
    return column.numbers.moments.mean if column.numbers is not None and column.numbers.moments.n else None


def columns_json(
    judged: Sequence[Judged], reference: ReferenceRows, spread: Mapping[str, Dispersion]
) -> list[dict[str, Any]]:
    """Judged columns, the one that moved most first, with their distribution in each window."""
    largest: dict[str, float] = {}
    for one in judged:
        for shift in one.shifts:
            largest[shift.column] = max(largest.get(shift.column, 0.0), shift.excess)
    return [
        _column(column, largest[column], judged, reference, spread) for column in sorted(largest, key=_down(largest))
    ]


def _down(largest: Mapping[str, float]) -> Any:
    return lambda column: (-largest[column], column)


def _column(
    column: str, largest: float, judged: Sequence[Judged], reference: ReferenceRows, spread: Mapping[str, Dispersion]
) -> dict[str, Any]:
    bins = reference.bins[column]
    counted = [] if column == reference.task.target else [bins.coarse(one.window.total(column)) for one in judged]
    return {
        "column": column,
        "kind": bins.kind.value,
        "largest": largest,
        "design_effect": spread.get(column, INDEPENDENT).effect,
        "labels": list(bins.labels),
        "reference": _fractions(bins.coarse(bins.reference)),
        "windows": [_fractions(counts) for counts in counted],
    }


def _fractions(counts: NDArray[np.int64]) -> list[float]:
    shares: list[float] = (counts / max(counts.sum(), 1)).round(6).tolist()
    return shares


LogSource: TypeAlias = str | Path | Sequence[str | Path]
LabelSource: TypeAlias = str | Path | pa.Table | None


@dataclass(frozen=True)
class Judgement:
    """What the monitor says, as plain JSON values, and where its tables are.

    Attributes
    ----------
    value
        Everything that a report needs.
    folder
        ``objects/monitor/<digest>/``: judgement.json, profile.parquet, drift.parquet, report.html.
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
        """One line: windows by what was found in them, and the decision."""
        found = self.value["counts"]
        many = f"{found['windows']} window{'' if found['windows'] == 1 else 's'}"
        return f"{self.value['log']['num_rows']:,} predictions in {many} ({counted(found)}); {self.headline}"

    def to_json(self) -> dict[str, Any]:
        return self.value


def judge(
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource,
    *,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Judge the traffic of a bundle, in this process; see `mlsys.monitor.compare`."""
    section, task = recipe.monitor, bundle.task
    reference = ReferenceRows.of(bundle)
    calendar = Calendar(section.granularity, recipe.data.timezone)
    reading = LoggedFiles(files_of(log), bundle.schema, bundle.digest)
    truth = None if labels is None else Labels.read(labels, task, recipe.data.id, as_of)
    found = log_scan.read(reading, reference, calendar, truth, slices=section.slices, progress=progress)
    progress(f"judging {len(found.windows)} windows")
    metric = metrics.find(recipe.selection.metric, task.kind)
    limits = Limits(
        metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
    )
    base = Baseline.of(baseline, task)
    judged, spread = verdicts.judge_windows(found.windows, reference, base, section, limits)
    named = [verdicts.verdict_of(one, name_json(one.window, calendar)) for one in judged]
    decision = monitor_decision.decide(named, section.retrain_after, metric.title)
    rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), **rules},
        "decision": decision.to_json(),
        "log": log_json(reading),
        "labels": labels_json(truth, found.delays),
        "baseline": baseline_json(base, limits),
        "counts": counts_json(judged),
        "windows": [window_json(one, calendar) for one in judged],
        "columns": columns_json(judged, reference, spread),
    }
    return _store(store, value, found, reference, bundle.threshold)


def _store(
    store: Store, value: dict[str, Any], found: LogScan, reference: ReferenceRows, threshold: float | None
) -> Judgement:
    windows, granularity = [*found.windows, *found.slices], value["rules"]["granularity"]

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value)
        profile = metric_tables.profile_table(windows, reference, granularity, threshold)
        pq.write_table(profile, folder / "profile.parquet")
        pq.write_table(metric_tables.drift_table(windows, reference, granularity), folder / "drift.parquet")
        (folder / "report.html").write_text(report.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    digest = store.put("monitor", fill)
    return Judgement(value, digest, store.path("monitor", digest))

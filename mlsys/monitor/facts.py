"""A judgement as plain JSON values: what the report draws and what programs read."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys.monitor import scan
from mlsys.monitor.delayed import Labels
from mlsys.monitor.health import Limits
from mlsys.monitor.log import Log
from mlsys.monitor.noise import INDEPENDENT, Dispersion
from mlsys.monitor.performance import Baseline
from mlsys.monitor.scan import Reference
from mlsys.monitor.verdicts import Judged
from mlsys.monitor.windows import Calendar, Window

__all__ = ["baseline", "columns", "counted", "counts", "labels", "log", "name", "window"]

_NAMES = {"1 hour": "%Y-%m-%d %H:%M", "1 day": "%Y-%m-%d", "1 week": "week of %Y-%m-%d", "1 month": "%B %Y"}


def name(of: Window, calendar: Calendar) -> str:
    """A window in words: the hour, the day, the week from its Monday, or the month."""
    return of.start.astimezone(zoneinfo.ZoneInfo(calendar.timezone)).strftime(_NAMES[calendar.granularity])


def log(reading: Log) -> dict[str, Any]:
    """What was read and what was left out."""
    return {
        "num_files": len(reading.files),
        "num_rows": reading.num_rows,
        "num_duplicates": reading.num_duplicates,
        "num_other": reading.num_other,
        "num_without_time": reading.num_without_time,
    }


def labels(truth: Labels | None, delays: NDArray[np.float64]) -> dict[str, Any] | None:
    """Labels that were given, and how long they take: median and 95 % quantile in seconds after the event."""
    if truth is None:
        return None
    delay = None
    if len(delays):
        half, most = np.quantile(delays, [0.5, 0.95])
        delay = {"median": float(half), "p95": float(most)}
    return {"num_rows": truth.frame.height, "num_repeated": truth.num_repeated, "delay_s": delay}


def baseline(base: Baseline, limits: Limits) -> dict[str, Any]:
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


def counts(judged: Sequence[Judged]) -> dict[str, int]:
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


def window(one: Judged, calendar: Calendar) -> dict[str, Any]:
    """One judged window."""
    of, measured = one.window, one.health
    gap = None if measured is None else measured.gaps.get(1, measured.gaps.get(0))
    return {
        "label": name(of, calendar),
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
    column = of.statistics.columns[scan.SCORE]
    return column.numbers.moments.mean if column.numbers is not None and column.numbers.moments.n else None


def columns(judged: Sequence[Judged], reference: Reference, spread: Mapping[str, Dispersion]) -> list[dict[str, Any]]:
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
    column: str, largest: float, judged: Sequence[Judged], reference: Reference, spread: Mapping[str, Dispersion]
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

"""JSON values of a judgement: what was read, what was left out, every window and every column."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys.monitor import impact, regions
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.label_delay import LabelDelays
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.log_state import LogState
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.regions import RegionLoss
from mlsys.monitor.significance import INDEPENDENT, Dispersion
from mlsys.monitor.window_facts import fractions
from mlsys.reports import formats
from mlsys.schema import Task

MAX_FAULTS = 5
"""Files of the log that cannot be read and are named one by one."""


def log_json(state: LogState) -> dict[str, Any]:
    """Count the rows of the log that were judged and those that were left out, with the reasons."""
    return {
        "num_rows": state.num_rows,
        "num_duplicates": state.num_duplicates,
        "num_other": state.others.total(),
        "others": dict(sorted(state.others.items())),
        "num_rejected": state.rejected.total(),
        "rejected": dict(sorted(state.rejected.items())),
        "examples": state.examples,
        "misread": dict(sorted(state.misread.items())),
        "other_types": dict(sorted(state.other_types.items())),
        "faults": dict(sorted(state.faults.items())),
    }


def messages(state: LogState, counts: LabelCounts | None) -> list[str]:
    """Sentences about what was left out of the log and of the labels."""
    lines = [] if counts is None else counts.messages
    for reason, number in sorted(state.rejected.items()):
        lines.append(f"{formats.count(number, 'row')} of the log left out: {reason}.")
    for column, number in sorted(state.misread.items()):
        count = formats.count(number, "value")
        lines.append(f"{count} of '{column}' in the log are not of its type and count as null.")
    for file, reason in sorted(state.faults.items())[:MAX_FAULTS]:
        lines.append(f"File '{file}' of the log is passed over: {reason}.")
    if len(state.faults) > MAX_FAULTS:
        lines.append(f"{len(state.faults) - MAX_FAULTS:,} more files of the log are passed over.")
    if state.others:
        versions = ", ".join(f"{count:,} of version {version}" for version, count in sorted(state.others.items()))
        lines.append(f"Predictions of other versions are judged under their own names: {versions}.")
    for column, kind in sorted(state.other_types.items()):
        lines.append(f"Column '{column}' is of type {kind} in another version; it is compared within its own.")
    return lines


def labels_json(
    counts: LabelCounts | None, delays: NDArray[np.float64], learned: LabelDelays | None
) -> dict[str, Any] | None:
    """Counts of the labels by what became of them, and their delays in seconds after the event.

    ``delay_s`` has quantiles of the labels that came; ``delays`` those of all, by class, with labels that are still to
    come.
    """
    if counts is None:
        return None
    quantiles = np.quantile(delays, [0.5, 0.95]).tolist() if len(delays) else None
    came = quantiles and {"median": quantiles[0], "p95": quantiles[1]}
    return {**asdict(counts), "delay_s": came, "delays": learned and learned.to_json()}


def baseline_json(base: Performance, limits: PerformanceLimits) -> dict[str, Any]:
    """Performance on the test rows, and the metric that is judged."""
    return {
        "metrics": {metric: estimate.to_json() for metric, estimate in base.metrics.items()},
        "gap": base.gaps[1].value if 1 in base.gaps else None,
        "observed": base.observed,
        "predicted": base.predicted,
        "metric": limits.metric.name,
        "title": limits.metric.title,
        "greater_is_better": limits.metric.greater_is_better,
    }


def counts_json(judged: Sequence[JudgedWindow]) -> dict[str, int]:
    """Count windows by result; ``moved`` have drift, ``matter`` drift that matters, ``both`` that and are degraded."""
    verdicts = [each.verdict for each in judged]
    matter = [each.verdict for each in judged if each.moved]
    return {
        "windows": len(judged),
        "judged": len(judged) - verdicts.count("too_few"),
        "measured": sum(each.performance is not None for each in judged),
        "ok": verdicts.count("ok"),
        "moved": sum(each.has_drift for each in judged),
        "matter": len(matter),
        "degraded": verdicts.count("degraded"),
        "both": matter.count("degraded"),
        "too_few": verdicts.count("too_few"),
    }


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Those counts that are not zero, in words.

    >>> counts_in_words({"ok": 1, "moved": 9, "matter": 2, "degraded": 3, "both": 2, "too_few": 0})
    '1 ok, 9 with drift, 2 that matter, 3 degraded, 2 both'
    >>> counts_in_words({"ok": 5, "moved": 1, "matter": 0, "degraded": 0, "both": 0, "too_few": 0})
    '5 ok, 1 with drift, 0 that matter'
    """
    words = {
        "ok": "ok", "moved": "with drift", "matter": "that matter", "degraded": "degraded", "both": "both",
        "too_few": "too few rows",
    }  # fmt: skip
    shown = {key for key in words if counts[key]} | ({"matter"} if counts["moved"] else set())
    return ", ".join(f"{counts[key]} {text}" for key, text in words.items() if key in shown) or "none"


def estimate_in_words(value: Mapping[str, Any]) -> list[str]:
    """One sentence on the last window whose performance is estimated and not known from labels; none without one."""
    metric, title = value["baseline"]["metric"], value["baseline"]["title"]
    unknown = [window for window in value["windows"] if window["estimate"] and not window["losses"]]
    shown = [window for window in unknown if (window["estimate"]["metrics"].get(metric) or {}).get("low") is not None]
    if not shown:
        return []
    estimate, label = shown[-1]["estimate"]["metrics"][metric], shown[-1]["label"]
    span = f"{formats.number(estimate['value'], 3)} ({formats.interval(estimate['low'], estimate['high'])})"
    doubt = "" if shown[-1]["estimate"]["trusted"] else ", not to be trusted"
    return [f"Estimated without labels: {title} {span}, {label}{doubt}."]


def alarms_in_words(windows: Sequence[Mapping[str, Any]], title: str, most: int = 5) -> list[str]:
    """A line for each alarm of the last window that was judged and is complete, if any is, in their order.

    Before them come the regions in which the metric, `title`, is worse than on the test rows.
    """
    judged = [window for window in windows if window["verdict"] != "too_few"]
    complete = [window for window in judged if not window["partial"]]
    last = (complete or judged)[-1:]
    worse = [regions.in_words(region, title) for window in last for region in window["regions"] if region["worse"]]
    words = worse + [alarm["words"] for window in last for alarm in window["alarms"]]
    lines = [f"{window['label']}: {each}." for window in last for each in words]
    return lines[:most] + ([f"{len(lines) - most} more alarms are in the report."] if len(lines) > most else [])


def early_json(judged: JudgedWindow, limits: PerformanceLimits) -> dict[str, Any] | None:
    """Performance by the labels that have come alone, and its bias; None where no label is awaited.

    ``bias`` is the metric of these labels less the weighted one, known where the window is measured.
    """
    if judged.labels.early is None:
        return None
    (value, observed), measured, name = judged.labels.early, judged.performance, limits.metric.name
    bias = value - measured.metrics[name].value if measured and name in measured.metrics else math.nan
    return {
        "value": None if math.isnan(value) else value,
        "bias": None if math.isnan(bias) else bias,
        "observed": observed,
    }


def window_json(
    judged: JudgedWindow,
    limits: PerformanceLimits,
    task: Task,
    by_region: Mapping[dt.datetime, Sequence[RegionLoss]],
) -> dict[str, Any]:
    """A window's rows, labels, verdict, performance and shifts, and its alarms in the order of what they do."""
    window, measured = judged.window, judged.performance
    gap = None if measured is None else measured.gaps.get(1, measured.gaps.get(0))
    return {
        "label": window.label,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "partial": window.partial,
        "num_rows": window.num_rows,
        "num_unseen": window.num_unseen,
        "num_rare": window.num_rare,
        "model_versions": sorted(window.versions),
        "verdict": judged.verdict,
        "reasons": judged.reasons,
        "labels": {
            "num_resolved": window.num_resolved,
            "num_pending": window.num_pending,
            "num_void": window.num_void,
            "num_unknown": window.unknown_labels,
            "coverage": window.coverage,
            "ready": window.ready_fraction,
            "mature": measured is not None,
            "early": early_json(judged, limits),
        },
        "metrics": {} if measured is None else {metric: e.to_json() for metric, e in measured.metrics.items()},
        "observed": measured and measured.observed,
        "predicted": judged.facts.mean_score if measured is None else measured.predicted,
        "gap": gap and gap.to_json(),
        "estimate": judged.estimate and judged.estimate.to_json(),
        "losses": [] if measured is None else [loss.to_json() for loss in measured.losses],
        "shifts": [shift.to_json() for shift in judged.shifts],
        "regions": [region.to_json() for region in by_region.get(window.start, ())],
        "joint": judged.joint and judged.joint.to_json(),
        "alarms": [alarm.to_json() for alarm in impact.impacts(judged, task, limits.metric)],
    }


def columns_json(
    judged: Sequence[JudgedWindow], reference: ReferenceRows, dispersion: Mapping[str, Dispersion]
) -> list[dict[str, Any]]:
    """Judged columns with their distribution in each window; the one with the largest shift comes first."""
    largest: dict[str, float] = {}
    for shift in (shift for each in judged for shift in each.shifts):
        largest[shift.column] = max(largest.get(shift.column, 0.0), shift.excess)
    columns = []
    for column, excess in sorted(largest.items(), key=lambda item: (-item[1], item[0])):
        bins = reference.bins[column]
        windows = judged if column != reference.task.target else []
        columns.append(
            {
                "column": column,
                "kind": bins.kind.value,
                "largest": excess,
                "design_effect": dispersion.get(column, INDEPENDENT).effect,
                "labels": list(bins.labels),
                "reference": fractions(bins, bins.reference),
                "windows": [each.facts.fractions[column] for each in windows],
            }
        )
    return columns

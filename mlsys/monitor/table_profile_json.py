"""JSON values of a table's profile: what was read, every window with its shifts, every column with its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.significance import INDEPENDENT
from mlsys.monitor.table_comparison import ComparedTable, Counted, ProfiledWindow, ProfileRequest
from mlsys.monitor.windows import Counts, Window
from mlsys.personal_data import masked
from mlsys.recipe.secrets import shown
from mlsys.reports import formats
from mlsys.statistics import ColumnSummary

ALARMED = 3
"""Exit code of a profile with alarms: that of the monitor's ``watch``."""

MOST_NAMED = 5
"""Columns with alarms that the line for people names."""


def value_of(request: ProfileRequest, counted: Counted, judged: ComparedTable) -> dict[str, Any]:
    """The content of ``profile.json``."""
    alarms = [
        {"window": each.window.label, **_plain(shift.to_json())}
        for each in judged.windows
        if each.counts
        for shift in each.alarms
    ]
    alarms += [{"window": None, **change} for change in counted.changes]
    rules, calendar = request.rules, request.calendar
    return {
        "source": shown(request.source),
        "baseline": None if request.baseline is None else shown(request.baseline),
        "kind": "snapshot" if calendar is None else "time series",
        "rules": {
            "time": request.time,
            "granularity": calendar and calendar.granularity,
            "timezone": request.options.timezone,
            "against": "baseline" if request.baseline is not None else request.against,
            "slices": list(request.slices),
            "metrics": dict(request.metrics),
            "false_alarm_rate": rules.false_alarm_rate,
            "min_js_distance": rules.min_js_distance,
            "min_rows": rules.min_rows,
        },
        "num_rows": counted.table.num_rows,
        "num_baseline": counted.baseline and counted.baseline.num_rows,
        "summary": _summary(counted, judged.windows, alarms, is_series=calendar is not None),
        "exit_code": ALARMED if alarms else 0,
        "alarms": alarms,
        "messages": [*counted.messages, *_left_out(judged.windows, rules.min_rows)],
        "windows": [_window(each, counted) for each in judged.windows],
        "slices": [_slice(window, counted) for window in counted.slices],
        "metrics_of_baseline": counted.metrics.get(None),
        "columns": _columns(counted, judged),
        "summaries": _summaries(counted),
    }


def _summary(
    counted: Counted, windows: Sequence[ProfiledWindow], alarms: Sequence[dict[str, Any]], *, is_series: bool
) -> str:
    """The line for people: rows, columns, windows, and the columns with alarms."""
    rows = formats.count(counted.table.num_rows, "row")
    columns = formats.count(len(counted.table.schema), "column")
    where = f" in {formats.count(len(windows), 'window')}" if is_series else ""
    names = list(dict.fromkeys(alarm["column"] for alarm in alarms))
    if not names:
        is_compared = any(each.compared is not None for each in windows)
        return f"{rows}, {columns}{where}; {'no alarm' if is_compared else 'nothing to compare with'}"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    moved = ", ".join(names[:MOST_NAMED]) + more
    return f"{rows}, {columns}{where}; {formats.count(len(alarms), 'alarm')}: {moved}"


def _left_out(windows: Sequence[ProfiledWindow], min_rows: int) -> list[str]:
    small = sum(each.window.num_rows < min_rows for each in windows)
    if not small:
        return []
    return [f"{formats.count(small, 'window')} with fewer than {min_rows:,} rows: profiled and not judged."]


def _window(judged: ProfiledWindow, counted: Counted) -> dict[str, Any]:
    window = judged.window
    return {
        "label": window.label,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "partial": window.partial,
        "num_rows": window.num_rows,
        "compared_with": _name(judged.compared, counted),
        "metrics": counted.metrics.get(window.key, {}),
        "shifts": [_plain(shift.to_json()) for shift in judged.shifts],
    }


def _name(window: Window | None, counted: Counted) -> str | None:
    if window is None:
        return None
    return "the baseline" if window is counted.baseline else window.label


def _slice(window: Window, counted: Counted) -> dict[str, Any]:
    return {
        "label": window.label,
        "key": window.slice_key,
        "value": window.slice_value,
        "num_rows": window.num_rows,
        "metrics": counted.metrics.get(window.key, {}),
    }


def _plain(shift: dict[str, Any]) -> dict[str, Any]:
    """A shift without what is said of predictions alone, and without personal data."""
    left_out = {"effect", "matters"}
    return {name: each for name, each in shift.items() if name not in left_out} | {"detail": masked(shift["detail"])}


def _columns(counted: Counted, judged: ComparedTable) -> list[dict[str, Any]]:
    """Compared columns with their distribution in each window, beside that of the largest shift's other side."""
    largest: dict[str, tuple[float, bool, Window]] = {}
    for each in judged.windows:
        for shift in each.shifts:
            rank = (shift.alarmed, shift.excess)
            known = largest.get(shift.column)
            if each.compared is not None and (known is None or rank > (known[1], known[0])):
                largest[shift.column] = (shift.excess, shift.alarmed, each.compared)
    columns = []
    for name, (excess, _, other) in sorted(largest.items(), key=lambda item: (-item[1][0], item[0])):
        bins = counted.reference.bins[name]
        columns.append(
            {
                "column": name,
                "kind": bins.kind.value,
                "largest": excess,
                "design_effect": judged.dispersion.get(name, INDEPENDENT).effect,
                "labels": [masked(label) for label in bins.labels],
                "reference": _fractions(bins, other.total(name)),
                "windows": [_fractions(bins, each.window.total(name)) for each in judged.windows],
            }
        )
    return columns


def _fractions(bins: ReferenceBins, counts: Counts) -> list[float]:
    fractions: list[float] = (bins.coarse(counts) / max(counts.sum(), 1)).round(6).tolist()
    return fractions


def _summaries(counted: Counted) -> dict[str, dict[str, Any]]:
    """Summary of each column over all rows of the table."""
    columns = ((name, counted.statistics.columns[name]) for name in counted.table.schema.names)
    return {name: _summary_of(column.result()) for name, column in columns}


def _summary_of(summary: ColumnSummary) -> dict[str, Any]:
    items = [(masked(item) if isinstance(item, str) else item, count) for item, count in summary.frequent_items]
    value = {**asdict(summary), "frequent_items": items, "texts": None}
    if summary.images is not None:
        value["images"] = {name: each for name, each in summary.images.items() if name != "thumbnails"}
    return value

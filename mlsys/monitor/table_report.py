"""The page of a table's profile: alarms first, then drift by column and window, metrics, and a card for each column.

It is drawn from the JSON of the profile alone.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.explore import report_columns
from mlsys.monitor import drift_charts
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Html

Json = Mapping[str, Any]

MAX_COLUMNS, MAX_DRAWN, MAX_CARDS, MAX_OPEN = 30, 6, 60, 6
"""Columns in the heat map; distributions that are drawn; columns with a card; cards that are open at first."""

_FORMS = {"1 hour": "%d %b %H:%M", "1 day": "%d %b", "1 week": "%d %b", "1 month": "%b %Y"}


def page(value: Json) -> str:
    """The profile of a table as one HTML document."""
    has_alarms = bool(value["alarms"])
    mark = html.badge("warn" if has_alarms else "good", "alarms" if has_alarms else "no alarm")
    report = html.Page(f"Profile: {value['source']}", _subtitle(value), mark=mark)
    notes = html.alert("info", html.bullets(value["messages"]), "Left out") if value["messages"] else ""
    report.section("Alarms", *_alarms(value), notes)
    _drift(report, value)
    _metrics(report, value)
    report.section("Columns", *_columns(value), note="All rows of the table; a number from a sketch has its bound.")
    if value["kind"] == "time series" or value["slices"]:
        report.section("Windows", *_windows(value))
    report.section("How it is judged", html.bullets(_method(value)))
    return report.html()


def _subtitle(value: Json) -> str:
    rules = value["rules"]
    rows = formats.count(value["num_rows"], "row")
    if value["kind"] == "time series":
        windows = formats.count(len(value["windows"]), "window")
        rows += f" in {windows} of {rules['granularity']} of {rules['time']}, {rules['timezone']}"
    return rows + (f"; baseline {value['baseline']}" if value["baseline"] else "")


def _alarms(value: Json) -> list[Html]:
    if not value["alarms"]:
        is_compared = any(window["compared_with"] for window in value["windows"])
        text = "No column drifted." if is_compared else "There was nothing to compare the rows with."
        return [html.alert("good" if is_compared else "info", text)]
    rows = [
        [
            alarm["window"],
            html.code(alarm["column"]),
            alarm["detail"],
            alarm.get("js_distance"),
            alarm.get("noise"),
            None if "adjusted" not in alarm else _chance(alarm["adjusted"]),
        ]
        for alarm in value["alarms"]
    ]
    head = ["window", "column", "change", "distance", "noise stays below", "adjusted p"]
    return [
        html.alert("warn", value["summary"], "Columns drifted"),
        html.table(rows, head, align="llwrrr", sortable=True),
    ]


def _chance(pvalue: float) -> str:
    return f"{pvalue:.2g}" if pvalue >= 1e-4 else "< 0.0001"


def _drift(report: html.Page, value: Json) -> None:
    columns = value["columns"][:MAX_COLUMNS]
    if not columns:
        return
    windows = value["windows"]
    shifts = [{shift["column"]: shift for shift in window["shifts"]} for window in windows]
    floor, names = value["rules"]["min_js_distance"], [column["column"] for column in columns]
    map_of_drift = html.figure(
        drift_charts.heat_map(names, _times(value), shifts, floor),
        f"Jensen-Shannon distance beyond the mean that noise gives. A dot is an alarm: {floor:g} or more, and certain.",
    )
    drawn = [drift_charts.largest_shift(column, windows, shifts) for column in columns]
    shown = [drawing for drawing in drawn if drawing][:MAX_DRAWN]
    against = {"baseline": "the baseline", "first": "the first window", "previous": "the window before it"}
    note = f"Each window is compared with {against[value['rules']['against']]}."
    report.section("Drift", map_of_drift, html.grid(*shown) if shown else "", note=note)


def _times(value: Json) -> list[str]:
    """Short names of the windows."""
    rules = value["rules"]
    if rules["granularity"] is None:
        return ["all rows"]
    zone, form = zoneinfo.ZoneInfo(rules["timezone"]), _FORMS[rules["granularity"]]
    return [dt.datetime.fromisoformat(window["start"]).astimezone(zone).strftime(form) for window in value["windows"]]


def _metrics(report: html.Page, value: Json) -> None:
    names = list(value["rules"]["metrics"])
    if not names:
        return
    windows, of_baseline = value["windows"], value["metrics_of_baseline"] or {}
    blocks: list[object] = []
    for name in names:
        values = [window["metrics"].get(name) for window in windows]
        sql = html.code(value["rules"]["metrics"][name])
        base = of_baseline.get(name)
        if len(windows) > 1:
            level = None if base is None else ("baseline", base)
            drawing = charts.lines(_times(value), {name: values}, title=name, y_label=name, level=level)
            blocks.append(html.figure(drawing, sql))
        else:
            facts = [(name, values[0] if values else None, sql)]
            blocks.append(html.facts([*facts, *([] if base is None else [("baseline", base)])]))
    report.section("Metrics", *blocks)


def _columns(value: Json) -> list[Html]:
    summaries = value["summaries"]
    rows = [_row(name, summary) for name, summary in summaries.items()]
    head = ["column", "kind", "values", "missing", "distinct", "mean", "min", "max"]
    blocks = [html.table(rows, head, align="lllrrrrr", sortable=True)]
    for place, (name, summary) in enumerate(list(summaries.items())[:MAX_CARDS]):
        drawing = report_columns.histogram(summary, name, {})
        numbers = report_columns.numbers(summary)
        card = html.grid(drawing, numbers) if drawing else numbers
        heading = html.join(html.code(name), html.tag("small", summary["kind"]))
        blocks.append(html.details(heading, card, is_open=place < MAX_OPEN))
    return blocks


def _row(name: str, summary: Json) -> list[object]:
    kind, missing = summary["kind"], report_columns.missing_fraction(summary)
    counts = summary["histogram_counts"] or [rows for _, rows in summary["frequent_items"]]
    spark = charts.spark_bars(counts, title=f"distribution of {name}") if counts else ""
    ends = [report_columns.point_in_time(summary[each], kind) for each in ("mean", "min", "max")]
    shown = [html.Cell(formats.label(end) if end is not None else "", summary[each]) for end, each in
             zip(ends, ("mean", "min", "max"), strict=True)]  # fmt: skip
    return [
        html.Cell(html.code(name), name),
        kind,
        html.Cell(spark, None),
        html.Cell(formats.percent(missing) if missing else "0", missing),
        summary["distinct_count"],
        *shown,
    ]


def _windows(value: Json) -> list[Html]:
    names = list(value["rules"]["metrics"])
    rows = [
        [
            window["label"] + (" (partial)" if window["partial"] else ""),
            window["num_rows"],
            window["compared_with"],
            ", ".join(shift["column"] for shift in window["shifts"] if shift["alarmed"]) or None,
            *(window["metrics"].get(name) for name in names),
        ]
        for window in value["windows"]
    ]
    blocks = [html.table(rows, ["window", "rows", "compared with", "drift", *names])]
    slices = [
        [part["label"], part["key"], part["value"], part["num_rows"], *(part["metrics"].get(name) for name in names)]
        for part in value["slices"]
    ]
    if slices:
        table = html.table(slices, ["window", "slice", "value", "rows", *names], sortable=True)
        blocks.append(html.details(formats.count(len(slices), "slice"), table, is_open=len(slices) <= 20))
    return blocks


def _method(value: Json) -> Sequence[str]:
    rules = value["rules"]
    rate = rules["false_alarm_rate"]
    alarm = (
        f"A column raises an alarm when its Jensen-Shannon distance, less the mean that noise gives, reaches "
        f"{rules['min_js_distance']:g}, and a test of equal distributions is significant at {rate:g} after the "
        f"Benjamini-Hochberg adjustment for all columns of the window. Where nothing drifts, a window raises any alarm "
        f"with a probability of at most {rate:.0%}. Numbers are compared in the deciles of "
        f"{'the baseline' if value['baseline'] else 'all rows'}, categories one by one."
    )
    noise = (
        "Rows of the same block of time inside a window are alike; the tests are divided by the number of rows that "
        "are worth one independent row, which is estimated from those blocks."
        if value["kind"] == "time series"
        else "Rows are taken as independent: a snapshot has no blocks of time that could tell how alike they are."
    )
    small = f"Windows of fewer than {rules['min_rows']:,} rows are profiled and not judged."
    changed = "A column of the baseline that is gone, or holds values of another kind, is an alarm, too."
    return [alarm, noise, small, *([changed] if value["baseline"] else [])]

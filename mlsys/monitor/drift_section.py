"""The report's section on drift: what moved, when, how far and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.monitor import drawings
from mlsys.reports import page as html

__all__ = ["section"]

Json = Mapping[str, Any]

MAX_COLUMNS, MAX_DRAWN, MAX_BARS = 30, 6, 14


def section(report: html.Page, value: Json, times: Sequence[str]) -> None:
    """Distances of all columns in all windows, the alarms with their reasons, and what moved most."""
    windows = value["windows"]
    columns = value["columns"][:MAX_COLUMNS]
    if not columns:
        return
    by = [{shift["column"]: shift for shift in window["shifts"]} for window in windows]
    names = [column["column"] for column in columns]
    excess = [[found[name]["excess"] if name in found else None for found in by] for name in names]
    alarms = [[name in found and found[name]["alarmed"] for found in by] for name in names]
    floor = value["rules"]["min_js_distance"]
    chart = drawings.heat(
        names, times, excess, alarms, title="Distance from the reference, noise taken off", floor=floor
    )
    report.section(
        "Drift",
        html.figure(
            chart,
            f"Jensen-Shannon distance beyond the mean that noise gives. A dot is an alarm: at least {floor:g}, and "
            "certain. Dark without a dot: far, but blocks of time inside one window are as far from each other.",
        ),
        _alarm_table(windows),
        note="Inputs and labels against the training rows, predictions against those on the validation rows.",
    )
    drawn = [_beside(column, windows, by) for column in columns if column["windows"]]
    shown = [block for block in drawn if block][:MAX_DRAWN]
    if shown:
        report.section(
            "What moved most",
            html.grid(*shown),
            note="The reference's deciles or categories, in the window where the column moved most.",
        )


def _alarm_table(windows: Sequence[Json]) -> html.Html:
    rows = [
        [
            window["label"],
            shift["column"],
            shift["detail"],
            shift["js_distance"],
            shift["noise"],
            _p(shift["adjusted"]),
            shift["effect"],
        ]
        for window in windows
        for shift in window["shifts"]
        if shift["alarmed"]
    ]
    if not rows:
        return html.paragraph("No drift alarm.")
    table = html.table(
        rows, ["window", "column", "what moved", "distance", "noise below", "p adjusted", "moves the prediction by"],
        align="llwrrrr", sortable=True,
    )  # fmt: skip
    return html.details(f"{len(rows)} drift alarms, with their reasons", table, is_open=len(rows) <= 20)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _beside(column: Json, windows: Sequence[Json], by: Sequence[Mapping[str, Json]]) -> html.Html | None:
    """The column's distribution where it moved most, if that is an alarm."""
    name = column["column"]
    moved = [(found[name]["excess"], i) for i, found in enumerate(by) if name in found and found[name]["alarmed"]]
    if not moved:
        return None
    at = max(moved)[1]
    labels, reference, window = column["labels"], column["reference"], column["windows"][at]
    kept = [i for i in range(len(labels)) if reference[i] or window[i]]
    if len(kept) > MAX_BARS:
        kept = sorted(sorted(kept, key=lambda i: -max(reference[i], window[i]))[:MAX_BARS])
    chart = drawings.beside(
        [labels[i] for i in kept],
        [reference[i] for i in kept],
        [window[i] for i in kept],
        title=name,
        name=windows[at]["label"],
    )
    return html.figure(chart, by[at][name]["detail"])

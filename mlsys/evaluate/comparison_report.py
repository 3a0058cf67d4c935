"""The page of champion and challenger: the decision first, then all that a person compares them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.evaluate.report import how_resampled, interval_or_reason
from mlsys.reports import charts, formats
from mlsys.reports.page import Html, Page, badge, code, details, facts, figure, grid, paragraph, table

MOST_SLICES = 14
"""Slices in the drawing: those where the challenger loses most; the table has all."""

TITLES = {"challenger": "New model", "champion": "Champion"}


def page(name: str, comparison: Mapping[str, Any]) -> str:
    """Draw the comparison with the champion, as `champion.compare` made it, as one self-contained HTML file."""
    promotes = comparison["promotes"]
    mark = badge("good", "promoted") if promotes else badge("bad", "not promoted")
    document = Page(f"{name} against its champion", comparison["reason"], mark=mark)
    document.section("Decision", _tiles(comparison), *(paragraph(line) for line in comparison["advice"]))
    beside = comparison.get("beside") or {}
    if beside:
        note = (
            "Gains are paired, on the same rows; above 0 the new model is better. The decision is by one of them alone."
        )
        document.section("Metrics", *_metrics(beside["metrics"], comparison["metric"]), note=note)
        document.section("Slices", *_slices(beside["slices"]))
        if beside["calibration"]:
            document.section("Calibration", _calibration(beside["calibration"]))
        document.section("Serving", _serving(beside["serving"]))
    rows = [["new model", code(comparison["challenger"])], ["champion", code(comparison["champion"])]]
    if comparison["resampling"]:
        rows.append(["interval", how_resampled(comparison["resampling"])])
    document.section("About this comparison", table(rows, ["", ""], align="lw"))
    return document.html()


def _tiles(comparison: Mapping[str, Any]) -> Html:
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        ("Test rows", comparison["num_rows"]),
        ("Left out", comparison["num_left_out"], "rows that the champion has seen"),
    ]
    if comparison["gain"]:
        title, gain = comparison["title"], comparison["gain"]
        tiles = [
            (f"{title}, new", formats.number(comparison["challenger_value"])),
            (f"{title}, champion", formats.number(comparison["champion_value"])),
            ("Gain", formats.number(gain["value"]), interval_or_reason(gain)),
            ("Margin", formats.number(comparison["margin"])),
            *tiles,
        ]
    return facts(tiles)


def _metrics(listed: list[Mapping[str, Any]], asked: str) -> list[Html]:
    rows = [
        [each["title"] + (", by which is decided" if each["name"] == asked else ""), each["challenger"],
         each["champion"], each["gain"]["value"], interval_or_reason(each["gain"]), each["better"]]
        for each in listed
    ]  # fmt: skip
    columns = ["metric", "new model", "champion", "gain", "interval of the gain", "better"]
    return [table(rows, columns, align="lrrrrl")]


def _slices(compared: Mapping[str, Any]) -> list[Html]:
    if not compared["rows"]:
        return [paragraph("No slice has enough rows.")]
    dots = [
        charts.Interval(f"{row['column']}: {row['slice']}", row["gain"]["value"], row["gain"]["low"],
                        row["gain"]["high"], _mark(row["certain"]),
                        f"{formats.number(row['gain']['value'])} ({row['num_rows']:,})")
        for row in compared["rows"][:MOST_SLICES]
    ]  # fmt: skip
    level = formats.percent(compared["confidence"], 0)
    slices = formats.count(compared["num_slices"], "slice")
    note = (
        f"{slices}, those where the new model loses most first; in brackets the rows. Marked are gains and losses "
        f"beyond chance at {level} for all slices together (Bonferroni); whiskers are not corrected."
    )
    title = f"Gain in {compared['metric']} by slice"
    words = {"better": badge("good", "better"), "worse": badge("bad", "worse")}
    rows = [
        [row["column"], row["slice"], row["num_rows"], row["challenger"], row["champion"], row["gain"]["value"],
         formats.interval(row["gain"]["low"], row["gain"]["high"]), words.get(row["certain"], "")]
        for row in compared["rows"]
    ]  # fmt: skip
    columns = ["column", "slice", "rows", "new model", "champion", "gain", "interval", ""]
    listed = table(rows, columns, align="llrrrrrl", sortable=True)
    return [figure(charts.intervals(dots, title=title, reference=0.0), note), details("All slices", listed)]


def _mark(certain: str) -> Any:
    return {"better": "accent", "worse": "bad"}.get(certain, "plain")


def _calibration(of: Mapping[str, Any]) -> Html:
    keys = ("predicted", "observed", "low", "high", "count")
    drawn = []
    for name, bins in of.items():
        predicted, observed, low, high, counts = ([each[key] for each in bins] for key in keys)
        how: Any = {"low": low, "high": high, "counts": counts, "title": TITLES[name]}
        drawn.append(figure(charts.calibration(predicted, observed, **how), "In bins of equal size; Wilson intervals."))
    return grid(*drawn)


def _serving(of: Mapping[str, Any]) -> Html:
    rows = [[TITLES[name].lower(), each["bytes"], each["us_per_row"]] for name, each in of.items()]
    caption = (
        "Microseconds of features and prediction, many rows at once, the quickest of a few times, as it was busy then"
    )
    return table(rows, ["", "bytes of the model", "µs a row"], align="lrr", caption=caption)

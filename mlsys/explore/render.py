"""The profile's JSON as one HTML page. Draws what is there; computes nothing about the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.explore import cards
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Html, Page

__all__ = ["page"]

Json = Mapping[str, Any]

FINDINGS = {
    "twins": "copies in two parts",
    "identical": "equals the target",
    "proxy": "stands in for the target",
    "after_event": "known after the event",
    "group": "group in two parts",
    "time": "order of time",
}


def page(profile: Json) -> str:
    """The report as HTML.

    Parameters
    ----------
    profile
        What `mlsys.explore.describe` returned.
    """
    overview = profile["overview"]
    size = f"{overview['num_rows']:,} training rows × {overview['num_features']} features"
    subtitle = f"{size}; target {profile['target']['name']}"
    report = Page(f"Exploration: {profile['title']}", subtitle, mark=_mark(profile))
    report.section("Leakage", *_findings(profile["findings"]))
    report.section("Alerts", *_alerts(profile["alerts"]))
    report.section("Overview", *_overview(profile))
    report.section("Target", *_target(profile))
    report.section("Relation with the target", *_relations(profile), note=_measure_note(profile))
    report.section("Missing values", *_missing(profile))
    report.section("Columns", *cards.columns(profile))
    report.section("What is exact", *_exactness(profile))
    return report.html()


def _mark(profile: Json) -> Html:
    blocking = sum(finding["blocking"] for finding in profile["findings"])
    if blocking:
        return html.badge("bad", f"{blocking} blocking")
    others = len(profile["findings"])
    return html.badge("warn", f"{others} to be looked at") if others else html.badge("good", "no leak found")


def _findings(findings: list[Json]) -> list[Html]:
    if not findings:
        return [html.alert("good", "No copies between the parts, no column that knows the answer, order of time kept.")]
    return [
        html.alert("bad" if finding["blocking"] else "warn", finding["detail"], title=_finding_title(finding))
        for finding in findings
    ]


def _finding_title(finding: Json) -> str:
    stops = "stops the run" if finding["blocking"] else "to be looked at"
    return f"{FINDINGS.get(finding['kind'], finding['kind'])}: {stops}"


def _alerts(alerts: list[Json]) -> list[Html]:
    if not alerts:
        return [html.paragraph("Nothing odd about any column.")]
    rows = [
        [
            html.code(alert["column"]) if alert["column"] else "table",
            html.badge("warn", alert["kind"].replace("_", " ")),
            alert["detail"],
            alert["action"],
        ]
        for alert in alerts
    ]
    return [html.table(rows, ["column", "alert", "what", "what is done"], align="llww", sortable=True)]


def _overview(profile: Json) -> list[Html]:
    overview = profile["overview"]
    kinds = ", ".join(f"{number} {kind}" for kind, number in overview["kinds"].items())
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        ("training rows", overview["num_rows"]),
        ("features", overview["num_features"], kinds),
        ("missing", formats.percent(overview["null_fraction"]), "of all cells of the features"),
        ("repeated rows", overview["num_duplicates"], "equal to an earlier one, target included"),
        ("folds", len(profile["folds"])),
    ]
    parts = ", ".join(f"{part} {rows:,}" for part, rows in profile["parts"].items() if rows)
    return [html.facts(tiles), html.paragraph(f"Rows by part: {parts}.")]


def _target(profile: Json) -> list[Html]:
    target = profile["target"]
    if not target["classes"]:
        return [html.grid(cards.histogram(target["summary"], target["name"], {}), cards.numbers(target["summary"]))]
    labels = [str(value) for value, _ in target["classes"]]
    rows = [count for _, count in target["classes"]]
    total = sum(rows) or 1
    table = [[label, count, formats.percent(count / total)] for label, count in zip(labels, rows, strict=True)]
    shown = html.figure(charts.bars(labels[:20], rows[:20], title=f"Classes of {target['name']}"))
    return [html.grid(shown, html.table(table, ["class", "rows", "share"], align="lrr"))]


def _relations(profile: Json) -> list[Html]:
    known = [column for column in profile["columns"] if column["relation"]]
    if not known:
        return [html.paragraph("Too few labelled rows to say anything.")]
    is_auc = known[0]["relation"]["measure"] == "auc"
    rows = [charts.Interval(column["name"], column["relation"]["value"]) for column in known[:30]]
    drawing = charts.intervals(
        rows,
        title="Each column alone",
        x_label="area under the ROC curve" if is_auc else "R²",
        reference=0.5 if is_auc else 0.0,
        reference_label="nothing",
    )
    left = len(known) - len(rows)
    return [html.figure(drawing), html.paragraph(f"{left} columns that tell less are not drawn.") if left else Html("")]


def _measure_note(profile: Json) -> str:
    if profile["task"]["kind"] == "regression":
        return (
            "R² of the target from one column alone, 0 to 1; from means in categories or twentieths that no row's own"
            " target has influenced, or from the order of the values, whichever is better."
        )
    return (
        "Area under the ROC curve of one column alone, 0.5 (nothing) to 1 (everything), one class against the rest and"
        " averaged; from rates in categories or twentieths that no row's own target has influenced, or from the order"
        " of the values, whichever is better."
    )


def _missing(profile: Json) -> list[Html]:
    found = [(column["name"], cards.missing_fraction(column["summary"])) for column in profile["columns"]]
    shown = sorted((item for item in found if item[1] > 0), key=lambda item: -item[1])[:30]
    if not shown:
        return [html.paragraph("No feature has missing values.")]
    shares = [100 * fraction for _, fraction in shown]
    drawing = charts.bars([name for name, _ in shown], shares, title="Missing by column", value_label="% of rows")
    return [html.figure(drawing, "Nulls, NaN and infinities.")]


def _exactness(profile: Json) -> list[Html]:
    sketched = [column for column in profile["columns"] if column["summary"]["notes"]]
    text = (
        "Counts, nulls, minimum, maximum, mean, standard deviation, skewness and kurtosis are exact, from all training"
        " rows, and so is everything else of a column that is not listed here."
    )
    sample = (
        f"Relations with the target and copies of rows are judged on a fixed random sample of"
        f" {profile['overview']['num_sampled']:,} training rows."
    )
    blocks = [html.paragraph(text), html.paragraph(sample)]
    rows = [
        [html.code(column["name"]), name.replace("_", " "), how]
        for column in sketched
        for name, how in column["summary"]["notes"].items()
    ]
    return (
        [*blocks, html.table(rows, ["column", "number", "how, and how far it can be off"], align="llw")]
        if rows
        else blocks
    )

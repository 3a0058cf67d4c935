"""The profile's JSON as one HTML page. Draws what is there; computes nothing about the data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.markup import join
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

MOST_CARDS = 60
"""Columns drawn; of a wider table, those that tell most about the target."""


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
    report.section("Columns", *_columns(profile))
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
        return [html.grid(_numeric_card(target["summary"], target["name"], {}), _numbers(target["summary"]))]
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
    found = [(column["name"], _missing_fraction(column["summary"])) for column in profile["columns"]]
    shown = sorted((item for item in found if item[1] > 0), key=lambda item: -item[1])[:30]
    if not shown:
        return [html.paragraph("No feature has missing values.")]
    shares = [100 * fraction for _, fraction in shown]
    drawing = charts.bars([name for name, _ in shown], shares, title="Missing by column", value_label="% of rows")
    return [html.figure(drawing, "Nulls, NaN and infinities.")]


def _missing_fraction(summary: Json) -> float:
    rows = summary["num_rows"] or 1
    missing: float = (summary["num_nulls"] + (summary["num_nan"] or 0) + (summary["num_inf"] or 0)) / rows
    return missing


def _columns(profile: Json) -> list[Html]:
    columns = profile["columns"]
    rows = [_row(column) for column in columns]
    measure = "R²" if profile["task"]["kind"] == "regression" else "AUC"
    heads = ["column", "kind", "missing", "distinct", "mean", "median", "min", "max", measure]
    blocks = [html.table(rows, heads, align="llrrrrrrr", sortable=True)]
    cards = [_card(column, profile) for column in columns[:MOST_CARDS]]
    blocks += [
        html.details(f"{column['name']}: {column['kind']}", card, is_open=number < 8)
        for number, (column, card) in enumerate(zip(columns, cards, strict=False))
    ]
    if len(columns) > MOST_CARDS:
        blocks.append(html.paragraph(f"{len(columns) - MOST_CARDS} columns that tell less are in the table alone."))
    return blocks


def _row(column: Json) -> list[object]:
    summary = column["summary"]
    numbers = [_value(summary[name], column["kind"]) for name in ("mean", "median", "min", "max")]
    relation = column["relation"]
    missing = formats.percent(_missing_fraction(summary))
    return [
        html.code(column["name"]),
        column["kind"],
        missing,
        summary["distinct_count"],
        *numbers,
        relation and relation["value"],
    ]


def _card(column: Json, profile: Json) -> Html:
    """Drawings side by side; the numbers beside a single one, folded away below two."""
    drawings = _drawings(column, profile) or [html.paragraph("No values to draw.")]
    numbers = _numbers(column["summary"])
    if len(drawings) == 1:
        return html.grid(*drawings, numbers)
    return join(html.grid(*drawings), html.details("Numbers", numbers))


def _drawings(column: Json, profile: Json) -> list[Html]:
    if column["categories"]:
        return [_categories(column, profile)]
    drawings = [_numeric_card(column["summary"], column["name"], column["by_class"] or {})]
    if column["curve"] and len(column["curve"]) > 1:
        drawings.append(_curve(column, profile))
    return [drawing for drawing in drawings if drawing]


def _categories(column: Json, profile: Json) -> Html:
    shown = column["categories"]
    classes = profile["task"]["classes"]
    labels = [formats.label(item["value"]) for item in shown]
    rates, label, baseline = [item["mean"] for item in shown], "mean target", profile["target"]["summary"]["mean"]
    if classes:
        # Of two classes the positive one; of more, the most frequent.
        counts = [count for _, count in profile["target"]["classes"]]
        index = 1 if len(classes) == 2 else counts.index(max(counts))
        rates = [item["shares"][index] if item["shares"] else None for item in shown]
        label, baseline = f"share of {classes[index]}", counts[index] / (sum(counts) or 1)
    drawing = charts.bars(
        labels, [item["rows"] for item in shown], title=column["name"], rates=rates, rate_label=label, baseline=baseline
    )
    return html.figure(drawing, "Rows, and the target within each category; the broken line is that of all rows.")


def _numeric_card(summary: Json, name: str, by_class: Mapping[str, list[float]]) -> Html:
    edges, counts = summary["histogram_edges"], summary["histogram_counts"]
    if not edges:
        return Html("")
    caption = _tails(summary)
    if summary["kind"] == "datetime":
        return html.figure(_over_time(summary, name, by_class), f"By time, in bins of equal length. {caption}")
    if by_class:
        drawing = charts.histogram_by_class(edges, by_class, title=f"{name} by class")
        return html.figure(drawing, f"Share of each class. {caption}")
    return html.figure(charts.histogram(edges, counts, title=name, marks={"median": summary["median"]}), caption)


def _over_time(summary: Json, name: str, by_class: Mapping[str, list[float]]) -> Html:
    edges = summary["histogram_edges"]
    x: list[Any] = [_value((a + b) / 2, "datetime") for a, b in itertools.pairwise(edges)]
    series = by_class or {"rows": summary["histogram_counts"]}
    return charts.lines(x, series, title=name, y_label="rows", wide=False)


def _tails(summary: Json) -> str:
    below, above = summary["histogram_below"], summary["histogram_above"]
    words = [f"{rows:,} rows lie {side}" for rows, side in ((below, "below"), (above, "above")) if rows]
    return f"{' and '.join(words)} what is drawn." if words else ""


def _curve(column: Json, profile: Json) -> Html:
    points = column["curve"]
    x: list[Any] = [_value(point["x"], column["kind"]) for point in points]
    band = charts.Series(
        [point["mean"] for point in points], [point["low"] for point in points], [point["high"] for point in points]
    )
    classes = profile["task"]["classes"]
    label = f"rate of {classes[1]}" if classes else f"mean {profile['target']['name']}"
    drawing = charts.lines(x, {label: band}, title=f"{label} by {column['name']}", y_label=label, wide=False)
    return html.figure(drawing, "Bins of equally many rows at their medians, with 95 % intervals; from the sample.")


def _numbers(summary: Json) -> Html:
    kind = summary["kind"]
    rows: list[list[object]] = [
        ["values", summary["count"]],
        ["null", summary["num_nulls"]],
        ["NaN", summary["num_nan"] or None],
        ["infinite", summary["num_inf"] or None],
        ["zero", summary["num_zeros"] if kind == "numeric" else None],
        ["distinct", summary["distinct_count"]],
        ["mean", _value(summary["mean"], kind)],
        ["standard deviation", summary["stddev"] if kind == "numeric" else None],
        ["skewness", summary["skewness"]],
        ["excess kurtosis", summary["kurtosis"]],
        ["minimum", _value(summary["min"], kind)],
        ["quartiles", _quartiles(summary)],
        ["maximum", _value(summary["max"], kind)],
        ["length", _lengths(summary)],
        ["most frequent", _frequent(summary)],
    ]
    return html.table([row for row in rows if row[1] is not None and row[1] != ""], ["", ""], align="lr")


def _value(value: float | None, kind: str) -> object:
    """A number, or the point in time that it stands for."""
    if value is None or kind != "datetime":
        return value
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    except OverflowError:
        return value


def _quartiles(summary: Json) -> str:
    if not summary["quantiles"]:
        return ""
    return ", ".join(formats.label(_value(summary["quantiles"][at], summary["kind"])) for at in (3, 4, 5))


def _lengths(summary: Json) -> str:
    if summary["min_length"] is None:
        return ""
    ends = f"{summary['min_length']} to {summary['max_length']}"
    return f"{ends}, mean {formats.number(summary['mean_length'])}"


def _frequent(summary: Json) -> str:
    items = summary["frequent_items"][:4]
    return ", ".join(f"{formats.label(_value(value, summary['kind']))} ({rows:,})" for value, rows in items)


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

"""A table of all columns, and a card for each: its distribution, the target in it, its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.markup import join
from mlsys.reports.page import Html

__all__ = ["columns", "histogram", "missing_fraction", "numbers"]

Json = Mapping[str, Any]

MOST_CARDS = 60
"""Columns drawn; of a wider table, those that tell most about the target."""


def missing_fraction(summary: Json) -> float:
    """Nulls, NaN and infinities, as a fraction of the rows."""
    rows = summary["num_rows"] or 1
    missing: float = (summary["num_nulls"] + (summary["num_nan"] or 0) + (summary["num_inf"] or 0)) / rows
    return missing


def columns(profile: Json) -> list[Html]:
    """The table, then the cards, those of the columns that tell most first."""
    shown = profile["columns"]
    rows = [_row(column) for column in shown]
    measure = "R²" if profile["task"]["kind"] == "regression" else "AUC"
    heads = ["column", "kind", "missing", "distinct", "mean", "median", "min", "max", measure]
    blocks = [html.table(rows, heads, align="llrrrrrrr", sortable=True)]
    cards = [_card(column, profile) for column in shown[:MOST_CARDS]]
    blocks += [
        html.details(f"{column['name']}: {column['kind']}", card, is_open=number < 8)
        for number, (column, card) in enumerate(zip(shown, cards, strict=False))
    ]
    if len(shown) > MOST_CARDS:
        blocks.append(html.paragraph(f"{len(shown) - MOST_CARDS} columns that tell less are in the table alone."))
    return blocks


def _row(column: Json) -> list[object]:
    summary = column["summary"]
    numbers = [_value(summary[name], column["kind"]) for name in ("mean", "median", "min", "max")]
    relation = column["relation"]
    missing = formats.percent(missing_fraction(summary))
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
    table = numbers(column["summary"])
    if len(drawings) == 1:
        return html.grid(*drawings, table)
    return join(html.grid(*drawings), html.details("Numbers", table))


def _drawings(column: Json, profile: Json) -> list[Html]:
    if column["categories"]:
        return [_categories(column, profile)]
    drawings = [histogram(column["summary"], column["name"], column["by_class"] or {})]
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


def histogram(summary: Json, name: str, by_class: Mapping[str, list[float]]) -> Html:
    """The distribution of a number, by class if given; a time is drawn over time."""
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


def numbers(summary: Json) -> Html:
    """The summary as a table, without what does not apply."""
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

"""A table of all columns, and a card for each: its distribution, the target in it, its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from mlsys.explore import contents, listing
from mlsys.explore.listing import point_in_time, sketched
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.markup import join, tag
from mlsys.reports.page import Html

__all__ = ["columns", "histogram", "numbers"]

Json = Mapping[str, Any]

MOST_CARDS = 60
"""Columns drawn; of a wider table, those that tell most about the target."""

MOST_CLASSES = 6
"""Classes with a colour of their own."""

MOST_OPEN = 8
"""Cards that need no click."""


def columns(profile: Json) -> list[Html]:
    """The table, then the cards, those of the columns that tell most first."""
    shown = profile["columns"]
    blocks = listing.listing(profile, MOST_CARDS)
    cards = [_card(column, profile) for column in shown[:MOST_CARDS]]
    blocks += [
        html.details(_heading(column), card, is_open=place < MOST_OPEN, anchor=listing.anchor(place))
        for place, (column, card) in enumerate(zip(shown, cards, strict=False))
    ]
    if len(shown) > MOST_CARDS:
        blocks.append(html.paragraph(f"{len(shown) - MOST_CARDS} columns that tell less are in the table alone."))
    return blocks


def _heading(column: Json) -> Html:
    unit = f" in {column['unit']}" if column["unit"] else ""
    return join(html.code(column["name"]), tag("small", f"{column['kind']}{unit}"))


def _card(column: Json, profile: Json) -> Html:
    """Drawings side by side; the numbers beside a single one, folded away below two."""
    table = numbers(column["summary"])
    if column["texts"]:
        return join(contents.texts(column, profile), html.details("Numbers", table))
    if column["summary"]["images"]:
        return join(contents.pictures(column), html.details("Numbers", table))
    drawings = _drawings(column, profile) or [html.paragraph("No values to draw.")]
    if len(drawings) == 1:
        return html.grid(*drawings, table)
    return join(html.grid(*drawings), html.details("Numbers", table))


def _drawings(column: Json, profile: Json) -> list[Html]:
    if column["categories"]:
        return [_categories(column, profile)]
    drawings = [histogram(column["summary"], column["name"], column["by_class"] or {})]
    if column["curve"]:
        drawings.append(_curve(column, profile))
    return [drawing for drawing in drawings if drawing]


def _categories(column: Json, profile: Json) -> Html:
    shown = column["categories"]
    classes = profile["task"]["classes"]
    labels = [formats.value(item["value"]) for item in shown]
    target = profile["target"]["name"]
    if 2 < len(classes) <= MOST_CLASSES:
        parts = {
            formats.value(name): [item["shares"] and item["shares"][at] for item in shown]
            for at, name in enumerate(classes)
        }
        made = charts.shares(labels, [item["rows"] for item in shown], parts, title=column["name"])
        return html.figure(made, "Rows, and the shares of the classes within each category.")
    rates, label, baseline = [item["mean"] for item in shown], f"mean {target}", profile["target"]["summary"]["mean"]
    if classes:
        # Of two classes the positive one; of more, the most frequent.
        counts = [count for _, count in profile["target"]["classes"]]
        index = 1 if len(classes) == 2 else counts.index(max(counts))
        rates = [item["shares"][index] if item["shares"] else None for item in shown]
        label, baseline = f"share of {target} = {formats.value(classes[index])}", counts[index] / (sum(counts) or 1)
    drawing = charts.bars(
        labels,
        [item["rows"] for item in shown],
        title=column["name"],
        rates=rates,
        rate_label=label,
        baseline=baseline,
        quiet=listing.OTHERS,
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
    x: list[Any] = [point_in_time((a + b) / 2, "datetime") for a, b in itertools.pairwise(edges)]
    series = by_class or {"rows": summary["histogram_counts"]}
    return charts.lines(x, series, title=name, y_label="rows", wide=False)


def _tails(summary: Json) -> str:
    below, above = summary["histogram_below"], summary["histogram_above"]
    words = [f"{rows:,} rows lie {side}" for rows, side in ((below, "below"), (above, "above")) if rows]
    return f"{' and '.join(words)} what is drawn." if words else ""


def _curve(column: Json, profile: Json) -> Html:
    points, missing = column["curve"]["points"], column["curve"]["missing"]
    x: list[Any] = [point_in_time(point["x"], column["kind"]) for point in points]
    band = charts.Series(*([point[name] for point in points] for name in ("mean", "low", "high")))
    classes = profile["task"]["classes"]
    target = profile["target"]["name"]
    label = f"share of {target} = {formats.value(classes[1])}" if classes else f"mean {target}"
    level = _share(profile) if classes else profile["target"]["summary"]["mean"]
    drawing = charts.lines(
        x, {label: band}, title=f"{target} by {column['name']}", y_label=label, level=("all rows", level), wide=False
    )
    told = (
        ""
        if missing is None
        else f" Where it is missing: {formats.number(missing['mean'])} ({missing['rows']:,} rows)."
    )
    return html.figure(drawing, f"Bins of about equally many rows at their medians, with 95 % intervals.{told}")


def _share(profile: Json) -> float:
    """Share of the positive class of two."""
    counts = [count for _, count in profile["target"]["classes"]]
    return float(counts[1] / (sum(counts) or 1))


def numbers(summary: Json) -> Html:
    """The summary as a table, without what does not apply; a sketched number says so."""
    kind = summary["kind"]
    rows: list[tuple[str, str, object]] = [
        ("values", "count", summary["count"]),
        ("null", "num_nulls", summary["num_nulls"]),
        ("NaN", "num_nan", summary["num_nan"] or None),
        ("infinite", "num_inf", summary["num_inf"] or None),
        ("zero", "num_zeros", summary["num_zeros"] if kind == "numeric" else None),
        ("negative", "num_negative", summary["num_negative"] if kind == "numeric" else None),
        ("distinct", "distinct_count", summary["distinct_count"]),
        ("mean", "mean", point_in_time(summary["mean"], kind)),
        ("standard deviation", "stddev", summary["stddev"] if kind == "numeric" else None),
        ("skewness", "skewness", summary["skewness"]),
        ("excess kurtosis", "kurtosis", summary["kurtosis"]),
        ("minimum", "min", point_in_time(summary["min"], kind)),
        ("quartiles", "quantiles", _quartiles(summary)),
        ("maximum", "max", point_in_time(summary["max"], kind)),
        ("length", "mean_length", _lengths(summary)),
        ("most frequent", "frequent_items", _frequent(summary)),
    ]
    shown = [(name, key, value) for name, key, value in rows if value is not None and value != ""]
    write = {key: listing.label if key in {"mean", "min", "max"} else formats.label for _, key, _ in shown}
    cells = [[name, sketched(summary, key, write[key](value))] for name, key, value in shown]
    return html.table(cells, ["", ""], align="lr")


def _quartiles(summary: Json) -> str:
    if not summary["quantiles"]:
        return ""
    return ", ".join(listing.label(point_in_time(summary["quantiles"][at], summary["kind"])) for at in (3, 4, 5))


def _lengths(summary: Json) -> str:
    if summary["min_length"] is None:
        return ""
    ends = f"{summary['min_length']} to {summary['max_length']}"
    return f"{ends}, mean {formats.number(summary['mean_length'])}"


def _frequent(summary: Json) -> str:
    items = summary["frequent_items"][:4]
    return ", ".join(f"{listing.label(point_in_time(value, summary['kind']))} ({rows:,})" for value, rows in items)

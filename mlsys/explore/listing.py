"""All columns in one table that sorts and filters: each a small drawing, its numbers, what it tells of the target."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.markup import tag
from mlsys.reports.page import Cell, Html

__all__ = ["OTHERS", "anchor", "label", "listing", "missing_fraction", "point_in_time", "sketched"]

Json = Mapping[str, Any]

TABLE = "column-list"

OTHERS = ("(others)", "(null)")
"""Bars that stand for more than one value, or for none."""

MOST_ROWS = 1_000
"""Columns in the table, those that tell most; of a thousand columns a page has 1.4 MB."""

LEAST_SEARCHED = 12
"""Columns from which a field to search them is worth its place."""


def anchor(place: int) -> str:
    """Where the card of a column is, by the place of the column in the profile."""
    return f"column-{place}"


def listing(profile: Json, num_cards: int) -> list[Html]:
    """The table; names of the first `num_cards` columns are links to their cards."""
    measure = "R²" if profile["task"]["kind"] == "regression" else "AUC"
    heads = ["column", "kind", "values", measure, "tells", "missing", "distinct", "mean", "min", "max"]
    rows = [_row(place, column, num_cards) for place, column in enumerate(profile["columns"][:MOST_ROWS])]
    table = html.table(rows, heads, align="lllrrrrrrr", sortable=True, anchor=TABLE)
    if len(rows) < LEAST_SEARCHED:
        return [table]
    field = html.search("Search columns", f"#{TABLE} tbody tr, #columns details[id]")
    left = len(profile["columns"]) - len(rows)
    return [field, table, html.paragraph(f"{left:,} columns that tell less are in explore.json.") if left else Html("")]


def _row(place: int, column: Json, num_cards: int) -> list[object]:
    summary, kind = column["summary"], column["kind"]
    name = html.code(column["name"])
    linked = tag("a", name, href=f"#{anchor(place)}") if place < num_cards else name
    missing = missing_fraction(summary)
    told, relation = column["information"], column["relation"]
    return [
        Cell(linked, column["name"]),
        kind,
        Cell(_spark(column), None),
        Cell(f"{relation['value']:.3f}", relation["value"]) if relation else None,
        Cell(formats.percent(told["share"]), told["share"]) if told else None,
        Cell(formats.percent(missing) if missing else "0", missing),
        _number(summary, "distinct_count", "count"),
        *(_number(summary, name, kind) for name in ("mean", "min", "max")),
    ]


def _number(summary: Json, name: str, kind: str) -> Cell:
    value = point_in_time(summary[name], kind)
    day = value.date() if isinstance(value, datetime) else value  # the hour is in the card
    shown = formats.label(value) if kind == "count" else label(day)
    return Cell(sketched(summary, name, shown), str(value) if isinstance(value, datetime) else value)


def _spark(column: Json) -> Html:
    summary = column["summary"]
    named = [item["rows"] for item in column["categories"] or () if item["value"] not in OTHERS]
    counts = named or summary["histogram_counts"]
    return charts.spark_bars(counts, title=f"distribution of {column['name']}") if counts else Html("")


def label(value: object) -> str:
    """A value as text; a number of four digits, which may be a year, without a comma, and one of few digits in full.

    >>> label(2004), label(20040.0), label(0.02), label(0.020004), label("x")
    ('2004', '20,040', '0.02', '0.02000', 'x')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return formats.value(value)
    short = f"{value:.4g}"
    return short if "e" not in short and float(short) == value else formats.label(value)


def missing_fraction(summary: Json) -> float:
    """Nulls, NaN and infinities, as a fraction of the rows."""
    rows = summary["num_rows"] or 1
    missing: float = (summary["num_nulls"] + (summary["num_nan"] or 0) + (summary["num_inf"] or 0)) / rows
    return missing


def point_in_time(value: float | None, kind: str) -> float | datetime | None:
    """A number, or the point in time that it stands for."""
    if value is None or kind != "datetime":
        return value
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    except OverflowError:
        return value


def sketched(summary: Json, name: str, shown: object) -> object:
    """A number as it is if it is exact; with a sign and its bound in a hint if a sketch gave it."""
    note = summary["notes"].get(name)
    return shown if note is None or shown == "" else tag("abbr", "≈ ", shown, title=note)

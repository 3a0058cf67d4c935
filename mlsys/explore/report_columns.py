"""Section of the report about columns: a table of all that sorts and filters, and a card for each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mlsys.limits import EPOCH
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Cell, Html, join, tag

Json = Mapping[str, Any]

MOST_CARDS = 60
"""Columns with a card; of a wider table, those that predict the target best."""

MOST_CLASSES = 6
"""Classes with a colour of their own."""

MOST_OPEN = 8
"""Cards that are open at first."""

TABLE = "column-list"

OTHERS = ("(others)", "(null)")
"""Names of the bars of all other values and of none."""

MOST_ROWS = 1_000
"""Columns in the table, those that predict the target best: with a thousand columns a page has 1.4 MB."""

LEAST_SEARCHED = 12
"""Columns from which there is a field to search them."""


def column_cards(profile: Json) -> list[Html]:
    """Write the table, then the cards, those of the strongest columns first."""
    shown = profile["columns"]
    blocks = _column_table(profile, MOST_CARDS)
    for place, column in enumerate(shown[:MOST_CARDS]):
        unit = f" in {column['unit']}" if column["unit"] else ""
        heading = join(html.code(column["name"]), tag("small", f"{column['kind']}{unit}"))
        card = _card(column, profile)
        blocks.append(html.details(heading, card, is_open=place < MOST_OPEN, anchor=_anchor(place)))
    if len(shown) > MOST_CARDS:
        blocks.append(html.paragraph(f"{len(shown) - MOST_CARDS} weaker columns are in the table alone."))
    return blocks


def _card(column: Json, profile: Json) -> Html:
    """Put drawings side by side; the numbers stand beside a single one, and folded below two."""
    table = numbers(column["summary"])
    if column["texts"]:
        return join(_texts(column, profile), html.details("Numbers", table))
    if column["summary"]["images"]:
        return join(_images(column), html.details("Numbers", table))
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
    rows = [item["rows"] for item in shown]
    if 2 < len(classes) <= MOST_CLASSES:
        by_class = [[item["shares"] and item["shares"][index] for item in shown] for index in range(len(classes))]
        parts = dict(zip(map(formats.value, classes), by_class, strict=True))
        made = charts.shares(labels, rows, parts, title=column["name"])
        return html.figure(made, "Rows, and the shares of the classes within each category.")
    rates, label, baseline = [item["mean"] for item in shown], f"mean {target}", profile["target"]["summary"]["mean"]
    if classes:
        # Of two classes the positive one; of more, the most frequent.
        counts = [count for _, count in profile["target"]["classes"]]
        index = 1 if len(classes) == 2 else counts.index(max(counts))
        rates = [item["shares"][index] if item["shares"] else None for item in shown]
        label, baseline = f"share of {target} = {formats.value(classes[index])}", counts[index] / (sum(counts) or 1)
    drawing = charts.bars(
        labels, rows, title=column["name"], rates=rates, rate_label=label, baseline=baseline, quiet=OTHERS
    )
    return html.figure(drawing, "Rows, and the target within each category; the broken line is that of all rows.")


def histogram(summary: Json, name: str, by_class: Mapping[str, list[float]]) -> Html:
    """Draw the distribution of a number, by class if given; a time is drawn over time."""
    edges, counts = summary["histogram_edges"], summary["histogram_counts"]
    if not edges:
        return Html("")
    tails = {"below": summary["histogram_below"], "above": summary["histogram_above"]}
    words = [f"{rows:,} rows lie {side}" for side, rows in tails.items() if rows]
    caption = f"{' and '.join(words)} what is drawn." if words else ""
    if summary["kind"] == "datetime":
        x: list[Any] = [point_in_time((a + b) / 2, "datetime") for a, b in itertools.pairwise(edges)]
        drawing = charts.lines(x, by_class or {"rows": counts}, title=name, y_label="rows", wide=False)
        return html.figure(drawing, f"By time, in bins of equal length. {caption}")
    if by_class:
        drawing = charts.histogram_by_class(edges, by_class, title=f"{name} by class")
        return html.figure(drawing, f"Share of each class. {caption}")
    return html.figure(charts.histogram(edges, counts, title=name, marks={"median": summary["median"]}), caption)


def _curve(column: Json, profile: Json) -> Html:
    points, missing = column["curve"]["points"], column["curve"]["missing"]
    x: list[Any] = [point_in_time(point["x"], column["kind"]) for point in points]
    band = charts.Series(*([point[name] for point in points] for name in ("mean", "low", "high")))
    classes = profile["task"]["classes"]
    target = profile["target"]["name"]
    label = f"share of {target} = {formats.value(classes[1])}" if classes else f"mean {target}"
    rows = [count for _, count in profile["target"]["classes"]]
    level = "all rows", rows[1] / (sum(rows) or 1) if classes else profile["target"]["summary"]["mean"]
    title = f"{target} by {column['name']}"
    drawing = charts.lines(x, {label: band}, title=title, y_label=label, level=level, wide=False)
    caption = "Bins of about equally many rows at their medians, with 95 % intervals."
    if missing is not None:
        caption += f" Where it is missing: {formats.number(missing['mean'])} ({missing['rows']:,} rows)."
    return html.figure(drawing, caption)


def numbers(summary: Json) -> Html:
    """Write the summary as a table, without what does not apply; a sketched number says so."""
    kind = summary["kind"]
    quartiles = [_label(point_in_time(value, kind)) for value in (summary["quantiles"] or ())[3:6]]
    lengths = None
    if summary["min_length"] is not None:
        ends = f"{summary['min_length']} to {summary['max_length']}"
        lengths = f"{ends}, mean {formats.number(summary['mean_length'])}"
    frequent = [f"{_label(point_in_time(value, kind))} ({count:,})" for value, count in summary["frequent_items"][:4]]
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
        ("quartiles", "quantiles", ", ".join(quartiles)),
        ("maximum", "max", point_in_time(summary["max"], kind)),
        ("length", "mean_length", lengths),
        ("most frequent", "frequent_items", ", ".join(frequent)),
    ]
    shown = [(name, key, value) for name, key, value in rows if value is not None and value != ""]
    write = {key: _label if key in {"mean", "min", "max"} else formats.label for _, key, _ in shown}
    cells = [[name, _sketched(summary, key, write[key](value))] for name, key, value in shown]
    return html.table(cells, ["", ""], align="lr")


def _anchor(place: int) -> str:
    """Anchor of the card of a column, by the place of the column in the profile."""
    return f"column-{place}"


def _column_table(profile: Json, num_cards: int) -> list[Html]:
    """Write the table; names of the first `num_cards` columns are links to their cards."""
    measure = "R²" if profile["task"]["kind"] in ("regression", "ranking") else "AUC"
    heads = ["column", "kind", "values", measure, "information", "missing", "distinct", "mean", "min", "max"]
    rows = [_row(place, column, num_cards) for place, column in enumerate(profile["columns"][:MOST_ROWS])]
    table = html.table(rows, heads, align="lllrrrrrrr", sortable=True, anchor=TABLE)
    if len(rows) < LEAST_SEARCHED:
        return [table]
    field = html.search("Search columns", f"#{TABLE} tbody tr, #columns details[id]")
    left = len(profile["columns"]) - len(rows)
    return [field, table, html.paragraph(f"{left:,} weaker columns are in explore.json.") if left else Html("")]


def _row(place: int, column: Json, num_cards: int) -> list[object]:
    summary, kind = column["summary"], column["kind"]
    name = html.code(column["name"])
    linked = tag("a", name, href=f"#{_anchor(place)}") if place < num_cards else name
    missing = missing_fraction(summary)
    information, relation = column["information"], column["relation"]
    return [
        Cell(linked, column["name"]),
        kind,
        Cell(_spark(column), None),
        Cell(f"{relation['value']:.3f}", relation["value"]) if relation else None,
        Cell(formats.percent(information["share"]), information["share"]) if information else None,
        Cell(formats.percent(missing) if missing else "0", missing),
        _number(summary, "distinct_count", "count"),
        *(_number(summary, name, kind) for name in ("mean", "min", "max")),
    ]


def _number(summary: Json, name: str, kind: str) -> Cell:
    value = point_in_time(summary[name], kind)
    day = value.date() if isinstance(value, datetime) else value  # the hour is in the card
    shown = formats.label(value) if kind == "count" else _label(day)
    return Cell(_sketched(summary, name, shown), str(value) if isinstance(value, datetime) else value)


def _spark(column: Json) -> Html:
    summary = column["summary"]
    named = [item["rows"] for item in column["categories"] or () if item["value"] not in OTHERS]
    counts = named or summary["histogram_counts"]
    return charts.spark_bars(counts, title=f"distribution of {column['name']}") if counts else Html("")


def _texts(column: Json, profile: Json) -> Html:
    """Card of texts: duplicates, the words typical of each class, and some texts with their target."""
    texts, summary = column["texts"], column["summary"]
    blocks = [html.facts(_text_facts(summary))]
    words = [[item["class"], item["rows"], _words(item)] for item in texts["words"] if item["words"]]
    if words:
        read = formats.count(texts["num_read"], "text")
        note = f"Texts with the word in this class : in the others, of the {read} read."
        heads = ["class", "texts", "words typical of it"]
        blocks.append(html.table(words, heads, align="lrw", caption=note))
    repeated = [[formats.label(text)[:200], rows] for text, rows in summary["frequent_items"][:5] if rows > 1]
    if repeated:
        blocks.append(html.details("Texts that repeat", html.table(repeated, ["text", "rows"], align="wr")))
    shown = [[item["text"], formats.value(item["target"])] for item in texts["examples"]]
    blocks.append(html.table(shown, ["some texts", profile["target"]["name"]], align="wl"))
    return join(*blocks)


def _text_facts(summary: Json) -> list[tuple[str, object, object]]:
    distinct, count = summary["distinct_count"] or 0, summary["count"] or 1
    sign = "about " if "distinct_count" in summary["notes"] else ""
    repeats = max(0, count - distinct)
    ends = f"{formats.number(summary['min_length'])} to {formats.number(summary['max_length'])}"
    return [
        ("characters", formats.number(summary["mean_length"], 3), f"on average; {ends}"),
        ("repeats", f"{sign}{repeats:,}", f"texts that an earlier row has too ({formats.percent(repeats / count)})"),
        ("missing", f"{summary['num_nulls']:,}", formats.percent(summary["num_nulls"] / (summary["num_rows"] or 1))),
    ]


def _words(item: Json) -> Html:
    counts = {word: tag("small", f"{here:,}:{there:,}") for word, here, there in item["words"]}
    return Html(" · ".join(join(html.code(word), Html("&nbsp;"), count) for word, count in counts.items()))


def _images(column: Json) -> Html:
    """Card of pictures: formats, sizes, broken and repeated ones, and some thumbnails."""
    pictures = column["summary"]["images"]
    blocks = [html.facts(_picture_facts(pictures))]
    if pictures["broken"]:
        rows = [[reason, count] for reason, count in pictures["broken"].items()]
        blocks.append(html.table(rows, ["why a picture does not decode", "rows"], align="wr"))
    images = [
        Html(f'<img src="data:image/png;base64,{html.escape(png)}" alt="picture {place}">')
        for place, png in enumerate(column["thumbnails"] or (), 1)
    ]
    return join(*blocks, tag("div", *images, class_="pictures") if images else "")


def _picture_facts(pictures: Json) -> list[tuple[str, object, object]]:
    if not pictures["count"]:
        return [("pictures", 0, "none decodes"), ("broken", pictures["num_broken"], "")]
    kinds = ", ".join(f"{name} {count:,}" for name, count in pictures["formats"].items())
    sizes = f"{_span(pictures['width'])} × {_span(pictures['height'])}"
    how = "" if pictures["repeats_exact"] else " (of those with the smallest hashes)"
    return [
        ("pictures", pictures["count"], kinds),
        ("broken", pictures["num_broken"], "do not decode: treated as missing"),
        ("pixels", sizes, f"width × height; {pictures['num_grey']:,} grey"),
        ("repeats", formats.percent(pictures["same_fraction"]), f"byte for byte{how}"),
        ("look alike", formats.percent(pictures["alike_fraction"]), "repeats that may differ in size or compression"),
        ("brightness", formats.number(pictures["brightness"]["mean"], 3), "mean, from 0 (black) to 1 (white)"),
    ]


def _span(ends: list[float]) -> str:
    low, _, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _label(value: object) -> str:
    """Write a value; a number of four digits, which may be a year, has no comma, and one of few digits is in full.

    >>> _label(2004), _label(20040.0), _label(0.02), _label(0.020004), _label("x")
    ('2004', '20,040', '0.02', '0.02000', 'x')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return formats.value(value)
    short = f"{value:.4g}"
    return short if "e" not in short and float(short) == value else formats.label(value)


def missing_fraction(summary: Json) -> float:
    """Fraction of the rows that are null, NaN or infinite."""
    rows = summary["num_rows"] or 1
    missing: float = (summary["num_nulls"] + (summary["num_nan"] or 0) + (summary["num_inf"] or 0)) / rows
    return missing


def point_in_time(value: float | None, kind: str) -> float | datetime | None:
    """Convert a number to the point in time that it stands for in a datetime column."""
    if value is None or kind != "datetime":
        return value
    try:
        return EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return value


def _sketched(summary: Json, name: str, shown: object) -> object:
    """Mark a number that came from a sketch with a sign and its bound in a tooltip; an exact one stays as it is."""
    note = summary["notes"].get(name)
    return shown if note is None or shown == "" else tag("abbr", "≈ ", shown, title=note)

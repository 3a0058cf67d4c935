"""Sections about all columns together: what is missing, what goes together, the course of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.explore import listing
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Cell, Html

__all__ = ["associations", "missing", "times"]

Json = Mapping[str, Any]

MOST_BARS, MOST_DRAWN, MOST_PAIRS = 30, 30, 20
"""Columns with a bar, columns of a heat map, and pairs in a table."""

LEAST_STRENGTH = 0.3
"""Strength from which a pair is listed."""

SPANS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def missing(profile: Json) -> list[Html]:
    """A bar a column, the patterns of rows, and the pairs that are missing together."""
    found = [(column["name"], listing.missing_fraction(column["summary"])) for column in profile["columns"]]
    shown = sorted((item for item in found if item[1] > 0), key=lambda item: -item[1])
    if not shown:
        return [html.paragraph("No feature has missing values.")]
    shares = [float(f"{100 * fraction:.3g}") for _, fraction in shown[:MOST_BARS]]
    names = [name for name, _ in shown[:MOST_BARS]]
    blocks = [html.figure(charts.bars(names, shares, title="Missing by column", value_label="% of rows"))]
    if profile["gaps"] and len(profile["gaps"]["columns"]) > 1:
        blocks += [_patterns(profile["gaps"]), _together(profile["gaps"])]
    return [html.paragraph(f"{len(shown)} of {len(found)} features have missing values."), *blocks]


def _patterns(gaps: Json) -> Html:
    rows = [(item["columns"], item["rows"]) for item in gaps["patterns"]]
    drawing = charts.patterns(
        gaps["columns"], rows, total=gaps["num_rows"], title="Columns that are missing in the same row"
    )
    more = gaps["num_patterns"] - len(rows)
    words = f"The {len(rows)} most frequent of {gaps['num_patterns']:,} patterns." if more > 0 else "All patterns."
    error = f" Each count is at most {gaps['error']:,} too low." if gaps["error"] else ""
    return html.figure(drawing, words + error)


def _together(gaps: Json) -> Html:
    """Pairs of columns: of the rows where one is missing, the part where the other is too."""
    names, counts = gaps["columns"], gaps["together"]
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    pairs = sorted((p for p in pairs if counts[p[0]][p[1]]), key=lambda p: -_overlap(counts, *p))[:MOST_PAIRS]
    rows = [
        [
            html.code(names[j]),
            html.code(names[i]),
            counts[i][j],
            _percent(counts[i][j] / counts[j][j]),
            _percent(counts[i][j] / counts[i][i]),
        ]
        for i, j in pairs
    ]
    if not rows:
        return html.paragraph("No two columns are missing in the same row.")
    heads = ["column", "other column", "both missing", "of the column's", "of the other's"]
    return html.details("Missing together", html.table(rows, heads, align="llrrr", sortable=True))


def _overlap(counts: list[list[int]], i: int, j: int) -> float:
    return counts[i][j] / (counts[i][i] + counts[j][j] - counts[i][j])


def _percent(share: float) -> Cell:
    return Cell(formats.percent(share), share)


def associations(found: Json) -> list[Html]:
    """The heat map and the strongest pairs."""
    names = found["names"]
    pairs = _pairs(found)
    if not pairs:
        return [html.paragraph("There are no two columns that vary.")]
    drawn = _drawn(found)
    cells = [[None if i == j else _cell(found, i, j) for j in drawn] for i in drawn]
    title = "Strength of pairs" if len(drawn) == len(names) else f"The {len(drawn)} columns with the strongest pairs"
    caption = (
        "Blue: two numbers that rise together, orange: one falls as the other rises (Pearson's r). Green: a number and"
        " a category (correlation ratio η), or two categories (Cramér's V), 0 to 1."
    )
    figure = html.figure(charts.heat([names[i] for i in drawn], cells, title=title), caption)
    listed = [pair for pair in pairs if abs(pair[2]) >= LEAST_STRENGTH]
    rows = [
        [html.code(names[i]), html.code(names[j]), _measure(found, i, j)[1], Cell(f"{value:.3f}", abs(value))]
        for i, j, value in listed[:MOST_PAIRS]
    ]
    table = html.table(rows, ["column", "other column", "measure", "strength"], align="lllr", sortable=True)
    more = f" The strongest {MOST_PAIRS} of them:" if len(listed) > MOST_PAIRS else ""
    count = f"{len(listed):,} of {len(pairs):,} pairs have a strength of {LEAST_STRENGTH} or more.{more}"
    return [figure, html.paragraph(count), table if rows else Html(""), *_bounds(found)]


def _pairs(found: Json) -> list[tuple[int, int, float]]:
    """Pairs that have a strength, the strongest first."""
    values = found["values"]
    pairs = [(j, i, values[i][j]) for i in range(len(values)) for j in range(i) if values[i][j] is not None]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def _drawn(found: Json) -> list[int]:
    """Columns of the heat map: if there are too many, those with the strongest pairs; neighbours are alike."""
    strongest = [
        max((abs(v) for j, v in enumerate(row) if v is not None and j != i), default=-1.0)
        for i, row in enumerate(found["values"])
    ]
    best = sorted((i for i, v in enumerate(strongest) if v >= 0), key=lambda i: -strongest[i])[:MOST_DRAWN]
    return [i for i in found["order"] if i in set(best)]


def _measure(found: Json, i: int, j: int) -> tuple[int, str]:
    """Colour and name of the measure of a pair."""
    numbers = int(i < found["num_numbers"]) + int(j < found["num_numbers"])
    if numbers == 2:
        return (1 if (found["values"][i][j] or 0.0) > 0 else 2), "Pearson's r"
    return 3, "correlation ratio η" if numbers else "Cramér's V"


def _cell(found: Json, i: int, j: int) -> charts.Pair | None:
    value = found["values"][i][j]
    if value is None:
        return None
    colour, measure = _measure(found, i, j)
    return charts.Pair(value, colour, f"{found['names'][i]} and {found['names'][j]}: {value:.3f} ({measure})")


def _bounds(found: Json) -> list[Html]:
    words = [
        f"{item['name']}: the {item['levels']} most frequent categories and all others as one"
        f" ({formats.percent(item['others'])} of its rows)"
        for item in found["bounded"]
    ]
    if found["left_out"]:
        limits = found["limits"]
        shown = ", ".join(found["left_out"][:12]) + (" …" if len(found["left_out"]) > 12 else "")
        words.append(
            f"not compared: {shown} (categories that name rows, and columns beyond the first"
            f" {limits['numbers']} numbers and {limits['categories']} categories)"
        )
    return [html.bullets(words)] if words else []


def times(line: Json, task: Json) -> list[Html]:
    """Rows over time, and the target over time with its interval."""
    x: list[Any] = [listing.point_in_time(start, "datetime") for start in line["starts"]]
    span = _span(line["width_s"])
    rows = charts.lines(x, {"rows": line["rows"]}, title=f"Rows by {span}", y_range=(0, max(line["rows"])))
    shown = dict(sorted(line["target"].items(), key=lambda item: -sum(v or 0 for v in item[1]["mean"]))[:6])
    series = {name: charts.Series(part["mean"], part["low"], part["high"]) for name, part in shown.items()}
    label = next(iter(shown)) if not task["classes"] else f"share of {task['target']}"
    label += f" = {formats.value(task['classes'][1])}" if len(task["classes"]) == 2 else ""
    target = charts.lines(x, series, title=f"{label} by {span}", y_label="")
    empty = sum(count == 0 for count in line["rows"])
    words = f"By {line['column']}, {span}s from {formats.label(x[0])} to {formats.label(x[-1])} (UTC)."
    words += f" {empty} of {len(x)} {span}s have no row." if empty else ""
    words += f" {line['num_missing']:,} rows have no time." if line["num_missing"] else ""
    band = "With 95 % intervals; a bin of fewer than 10 rows is left out."
    return [html.paragraph(words), html.figure(rows), html.figure(target, band)]


def _span(width_s: float) -> str:
    """The width of a bin in words.

    >>> _span(604800), _span(21600), _span(0.001)
    ('week', '6 hour', '0.001 second')
    """
    for size, word in SPANS:
        if width_s >= size:
            count = width_s / size
            return word if count == 1 else f"{count:g} {word}"
    return f"{width_s:g} second"

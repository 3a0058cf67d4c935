"""Charts on a grid: heat map of pairs, patterns of missing values, confusion matrix, density of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlsys.reports import formats, svg
from mlsys.reports.page import Html, join, tag

WIDTH, HEIGHT = 400, 330

SLANT = 0.7
"""Height of a slanted word for a unit of its length: 45 degrees."""

SCALE, NARROW = 1.25, 480
"""Pixels for a unit, as other charts have; and the width up to which a drawing shrinks to a phone's."""


@dataclass(frozen=True)
class Pair:
    """A cell of a heat map: a strength from -1 to 1, the number of a series colour, and what it is."""

    value: float
    colour: int
    hint: str


def heat(names: Sequence[str], cells: Sequence[Sequence[Pair | None]], *, title: str) -> Html:
    """Draw a square of pairs, in the order given; the stronger the colour, the stronger the pair.

    None leaves a cell empty; values below a half of a hundredth are not drawn.
    """
    size = len(names)
    side = 40 if size <= 12 else 30 if size <= 18 else 20
    left = 20 + svg.LETTER * max(len(svg.shorten(name, 20)) for name in names)
    top = 40 + SLANT * svg.LETTER * max(len(svg.shorten(name, 20)) for name in names)
    parts = []
    for i, name in enumerate(names):
        middle = side * (i + 0.5)
        parts.append(svg.text(left - 8, top + middle + 4, svg.shorten(name, 20), "e ink"))
        parts.append(_slanted(left + middle + 3, top - 8, svg.shorten(name, 20)))
        for j, cell in enumerate(cells[i]):
            corner = (left + side * j, top + side * i)
            parts.append(svg.rect(*corner, side, side, "empty cell" if i != j else "cell none"))
            if cell is not None and abs(cell.value) >= 0.005:
                parts.append(svg.rect(*corner, side, side, f"f{cell.colour} cell", cell.hint, abs(cell.value) ** 1.2))
                if side >= 30 and abs(cell.value) >= 0.095:
                    kind = "m strong" if abs(cell.value) > 0.6 else "m ink"
                    parts.append(svg.text(corner[0] + side / 2, corner[1] + side / 2 + 4, _short(cell.value), kind))
    width, height = left + side * size + SLANT * svg.LETTER * 14, top + side * size + 8
    kind, alt = "wide" if width > NARROW else "normal", f"{size} columns"
    return svg.picture(width, height, *parts, name=title, description=alt, kind=kind, most_px=SCALE * width)


def _short(value: float) -> str:
    """Two digits without the zero before the point.

    >>> _short(0.873), _short(-0.5), _short(0.999)
    ('.87', '-.50', '1.0')
    """
    text = f"{value:.2f}"
    return text[:-1] if text.strip("-").startswith("1") else text.replace("0.", ".")


def _slanted(x: float, y: float, words: str) -> Html:
    place = f"translate({x:.1f} {y:.1f}) rotate(-45)"
    return tag("text", words, class_="ink", transform=place)


def patterns(names: Sequence[str], rows: Sequence[tuple[Sequence[str], int]], *, total: int, title: str) -> Html:
    """Sets of missing columns, one a line: a filled square where the column is missing, then the rows.

    Of more than 20 columns those after the first are named in the hint alone.
    """
    shown, side = list(names[:20]), 20
    left, top = 8, 40 + SLANT * svg.LETTER * max((len(svg.shorten(name, 20)) for name in shown), default=0)
    start = left + side * len(shown) + 14
    end = start + 150
    greatest = max((count for _, count in rows), default=0) or 1
    parts = [_slanted(left + side * (i + 0.5) + 3, top - 8, svg.shorten(name, 20)) for i, name in enumerate(shown)]
    for line, (missing, count) in enumerate(rows):
        y, lacks = top + side * line, set(missing)
        for i, name in enumerate(shown):
            parts.append(svg.rect(left + side * i, y, side, side, "f2 cell" if name in lacks else "empty cell"))
        more = len([name for name in missing if name not in shown])
        words = f"{count:,} rows ({formats.percent(count / (total or 1))})" + (f", and {more} more" if more else "")
        hint = f"missing: {', '.join(missing) or 'nothing'}: {count:,} rows"
        length = max((end - start) * count / greatest, 0.8)
        parts += [svg.rect(start, y + 3, length, side - 6, "f2" if missing else "f8", hint)]
        parts.append(svg.text(start + length + 6, y + side / 2 + 4, words if missing else f"{words}, complete"))
    width = max(end + 190, start + SLANT * svg.LETTER * 20)
    kind = "wide" if width > NARROW else "normal"
    return svg.picture(width, top + side * len(rows) + 6, *parts, name=title, kind=kind, most_px=SCALE * width)


def confusion(matrix: Sequence[Sequence[float]], labels: Sequence[str], *, title: str) -> Html:
    """Draw a confusion matrix: rows are the truth, columns the prediction, shades and percentages shares of the row."""
    k = len(labels)
    side = max(24.0, min(84.0, 290 / k))
    left, top = 96, 62
    parts = [svg.text(left, 34, "predicted"), svg.text(left - 8, 52, "actual", "e")]
    for i, name in enumerate(labels):
        short = svg.shorten(str(name), 14 if k <= 3 else max(3, int(side / 6.3)))
        parts.append(svg.text(left - 8, top + side * (i + 0.5) + 4, svg.shorten(str(name), 14), "e ink"))
        parts.append(svg.text(left + side * (i + 0.5), 52, short, "m ink"))
        for j, count in enumerate(matrix[i]):
            hint = f"actual {name}, predicted {labels[j]}"
            share = count / (sum(matrix[i]) or 1)
            parts.append(_square((left + side * j, top + side * i), side, count, share, hint))
    alt = "; ".join(
        f"{name}: {formats.number(matrix[i][i])} of {formats.number(sum(matrix[i]))} found"
        for i, name in enumerate(labels)
    )
    return svg.picture(max(left + side * k + 8, WIDTH), top + side * k + 6, *parts, name=title, description=alt)


def density(
    x_edges: Sequence[float],
    y_edges: Sequence[float],
    counts: Sequence[Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> Html:
    """Draw rows counted on a grid, ``counts[i][j]`` in x bin i and y bin j.

    The stronger the colour, the more rows, on a root scale.
    """
    frame = svg.Frame(WIDTH, HEIGHT, 54, 12, 42, 42, x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
    y_ticks = [t for t in svg.nice_ticks(y_edges[0], y_edges[-1]) if y_edges[0] <= t <= y_edges[-1]]
    parts = [frame.y_axis(y_ticks, label=y_label), frame.x_numbers(x_label)]
    most = max((c for column in counts for c in column), default=0) or 1
    for i, column in enumerate(counts):
        for j, count in enumerate(column):
            if count:
                x, y, shade = frame.x(x_edges[i]), frame.y(y_edges[j + 1]), 0.08 + 0.92 * (count / most) ** 0.5
                parts.append(svg.rect(x, y, frame.x(x_edges[i + 1]) - x, frame.y(y_edges[j]) - y, "f1", opacity=shade))
    if diagonal:
        low, high = max(x_edges[0], y_edges[0]), min(x_edges[-1], y_edges[-1])
        parts.append(svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "dash"))
    elif y_edges[0] < 0 < y_edges[-1]:
        parts.append(frame.across(0))
    return svg.picture(WIDTH, HEIGHT, *parts, name=title, description=f"{formats.number(sum(map(sum, counts)))} rows")


def _square(corner: tuple[float, float], side: float, count: float, share: float, hint: str) -> Html:
    """A cell whose shade stops short of the full colour, so that one ink can be read on all of them."""
    (x, y), middle = corner, corner[0] + side / 2
    detail = f"{hint}: {formats.number(count)} ({formats.percent(share)})"
    exact = formats.number(count)
    parts = [svg.rect(x, y, side, side, "empty cell"), svg.rect(x, y, side, side, "f1 cell", detail, 0.6 * share)]
    if side >= 34:
        words = exact if 6.5 * len(exact) < side else formats.compact(count)
        parts.append(svg.text(middle, y + side / 2 + (0 if side >= 46 else 4), words, "m ink"))
    if side >= 46:
        parts.append(svg.text(middle, y + side / 2 + 15, formats.percent(share, 0), "m ink"))
    return join(*parts)

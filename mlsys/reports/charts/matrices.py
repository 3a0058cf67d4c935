"""Columns against columns: a heat map of pairs, and the patterns in which values are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlsys.reports import formats, svg
from mlsys.reports.markup import Html, tag

__all__ = ["Pair", "heat", "patterns"]

SLANT = 0.7
"""Height of a slanted word for a unit of its length: 45 degrees."""

LETTER = 6.2
"""Width of a letter in the font of charts."""

SCALE, NARROW = 1.25, 480
"""Pixels for a unit, as other charts have; and the width up to which a drawing shrinks to a phone's."""


@dataclass(frozen=True)
class Pair:
    """A cell of a heat map: a strength from -1 to 1, the number of a series colour, and what it is."""

    value: float
    colour: int
    hint: str


def heat(names: Sequence[str], cells: Sequence[Sequence[Pair | None]], *, title: str) -> Html:
    """A square of pairs, in the order given; the stronger the colour, the stronger the pair.

    None leaves a cell empty; values below a half of a hundredth are not drawn.
    """
    size = len(names)
    side = 40 if size <= 12 else 30 if size <= 18 else 20
    left = 20 + LETTER * max(len(svg.shorten(name, 20)) for name in names)
    top = 40 + SLANT * LETTER * max(len(svg.shorten(name, 20)) for name in names)
    parts = [svg.title(title)]
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
    width, height = left + side * size + SLANT * LETTER * 14, top + side * size + 8
    kind = "wide" if width > NARROW else "normal"
    told = f"{size} columns"
    return svg.picture(width, height, *parts, name=title, description=told, kind=kind, most_px=SCALE * width)


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


def patterns(
    names: Sequence[str], rows: Sequence[tuple[Sequence[str], int]], *, total: int, title: str, most: int = 20
) -> Html:
    """Sets of missing columns, one a line: a filled square where the column is missing, then the rows.

    Of more than `most` columns those after the first are named in the hint alone.
    """
    shown, side = list(names[:most]), 20
    left, top = 8, 40 + SLANT * LETTER * max((len(svg.shorten(name, 20)) for name in shown), default=0)
    start = left + side * len(shown) + 14
    end = start + 150
    greatest = max((count for _, count in rows), default=0) or 1
    parts = [svg.title(title)]
    parts += [_slanted(left + side * (i + 0.5) + 3, top - 8, svg.shorten(name, 20)) for i, name in enumerate(shown)]
    for line, (missing, count) in enumerate(rows):
        y, lacks = top + side * line, set(missing)
        for i, name in enumerate(shown):
            parts.append(svg.rect(left + side * i, y, side, side, "f2 cell" if name in lacks else "empty cell"))
        more = len([name for name in missing if name not in shown])
        words = f"{count:,} rows ({formats.percent(count / (total or 1))})" + (f", and {more} more" if more else "")
        told = f"missing: {', '.join(missing) or 'nothing'}: {count:,} rows"
        length = max((end - start) * count / greatest, 0.8)
        parts += [svg.rect(start, y + 3, length, side - 6, "f2" if missing else "f8", told)]
        parts.append(svg.text(start + length + 6, y + side / 2 + 4, words if missing else f"{words}, complete"))
    width = max(end + 190, start + SLANT * LETTER * 20)
    kind = "wide" if width > NARROW else "normal"
    return svg.picture(width, top + side * len(rows) + 6, *parts, name=title, kind=kind, most_px=SCALE * width)

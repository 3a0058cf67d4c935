"""What each category is made of: rows, and beside them the shares of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlsys.reports import formats, svg
from mlsys.reports.markup import Html

__all__ = ["shares"]

WIDTH, LEFT, START, END = 400, 112, 228, 392


def shares(
    labels: Sequence[str], rows: Sequence[float], parts: Mapping[str, Sequence[float | None]], *, title: str
) -> Html:
    """Horizontal bars of rows, one a category, and beside each the shares of classes that fill a line.

    `parts` holds, for each class, its share in each category; None where there is none.
    """
    names = list(parts)
    head = 36 + 16 * svg.legend_rows(names, WIDTH - 24)
    most = max(rows, default=0) or 1
    drawn = [svg.title(title), svg.legend(names, 0, 31, WIDTH - 24)]
    for i, (label, count) in enumerate(zip(labels, rows, strict=True)):
        y = head + 8 + 22 * i
        length = count / most * (START - LEFT - 52)
        drawn.append(svg.text(LEFT - 8, y + 12, svg.shorten(label, 17), "e ink"))
        drawn.append(svg.rect(LEFT, y + 1, max(length, 0.8), 15, "f8", f"{label}: {formats.number(count)} rows"))
        drawn.append(svg.text(LEFT + length + 5, y + 12.5, formats.compact(count)))
        at = float(START)
        for number, (name, values) in enumerate(parts.items(), 1):
            share = values[i] or 0.0
            width = share * (END - START)
            hint = f"{label}: {formats.percent(share)} {name}"
            drawn.append(svg.rect(at, y + 1, width, 15, f"f{svg.colour(number)} cell", hint))
            at += width
    told = "; ".join(f"{label}: {formats.number(count)}" for label, count in list(zip(labels, rows, strict=True))[:30])
    return svg.picture(WIDTH, head + 14 + 22 * len(labels), *drawn, name=title, description=told)

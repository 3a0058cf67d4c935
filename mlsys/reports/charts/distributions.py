"""Charts of the distribution of one column: histograms, bars, shares of classes in each category."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mlsys.reports import formats, svg
from mlsys.reports.page import Html, join

WIDTH, HEIGHT = 400, 210

SHARES_WIDTH, LEFT, START, END = 400, 112, 228, 392
"""Width of the chart of shares, and places in it: left end of the bars, and both ends of the shares."""

LONGEST = 26
"""Characters of a category's name; for more than 17 the drawing becomes wider."""


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_label: str = "",
    marks: Mapping[str, float] | None = None,
) -> Html:
    """Draw bars over adjoining bins: ``len(edges) == len(counts) + 1``, edges ascending.

    Bins of unequal width are drawn by density, so that area stays proportional to count.
    `marks` are named places, such as a mean or a threshold, drawn as broken lines.
    """
    # 1. The plot area and a box a bin
    heights, unequal = _heights(edges, counts)
    frame = _frame(edges, heights)
    base, number = frame.y(0), formats.number
    boxes = []
    for start, end, bar, rows in zip(edges, edges[1:], heights, counts, strict=False):
        x, y, hint = frame.x(start), frame.y(bar), f"{number(start)} to {number(end)}: {number(rows)}"
        boxes.append(svg.rect(x, y, frame.x(end) - x - 0.6, base - y, "f1", hint))
    # 2. Axes and words
    write = (lambda _: "") if unequal else formats.compact
    name = "rows per unit" if unequal else "rows"
    axes = join(frame.y_axis(svg.nice_ticks(0, frame.y_high, 5), write, name), frame.x_numbers(x_label))
    alt = f"{number(sum(counts))} rows from {number(edges[0])} to {number(edges[-1])}"
    return svg.picture(WIDTH, HEIGHT, axes, *boxes, _marks(frame, marks or {}), name=title, description=alt)


def histogram_by_class(
    edges: Sequence[float], counts: Mapping[str, Sequence[float]], *, title: str, x_label: str = ""
) -> Html:
    """Draw the shares of each class over the same bins, laid over one another.

    Each class sums to one, so classes of very different size can be compared.
    """
    # 1. Shares of each class, and the plot area for the largest
    names = list(counts)
    totals = {name: sum(counts[name]) or 1 for name in names}
    shares = {name: _heights(edges, [count / totals[name] for count in counts[name]])[0] for name in names}
    top = max((h for heights in shares.values() for h in heights), default=1.0)
    rows = svg.legend_rows(names, WIDTH - 46)
    frame = _frame(edges, [top], head=16 * rows)
    areas = [_steps(frame, edges, shares[name], i) for i, name in enumerate(names, 1)]
    # 2. Axes and words
    unequal = _heights(edges, edges[1:])[1]
    write = (lambda _: "") if unequal else (lambda share: f"{100 * share:.3g}%")
    axes = join(frame.y_axis(svg.nice_ticks(0, frame.y_high, 5), write), frame.x_numbers(x_label))
    alt = "; ".join(f"{name}: {formats.number(sum(counts[name]))} rows" for name in names)
    legend = svg.legend(names, 12, 31, WIDTH - 46)
    return svg.picture(WIDTH, HEIGHT + 16 * rows, legend, axes, *areas, name=title, description=alt)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    value_label: str = "rows",
    rates: Sequence[float | None] | None = None,
    rate_label: str = "target rate",
    baseline: float | None = None,
    quiet: Collection[str] = (),
) -> Html:
    """Draw horizontal bars, one a category, in the order given; those named in `quiet` are grey.

    `rates` puts a second plot beside them with a dot a category (0 … the greatest rate), and
    `baseline` a broken line at the rate of all rows.
    """
    # 1. Room for names, bars and rates
    rows = len(labels)
    names = [svg.shorten(str(label), LONGEST) for label in labels]
    extra = max(0.0, svg.LETTER * max((len(name) for name in names), default=0) - 104)
    height = 48 + 22 * rows + (14 if rates is not None else 0)
    left, end = 112 + extra, (250 if rates is not None else WIDTH - 44) + extra
    most = max([v for v in values if not formats.is_missing(v)] + [0]) or 1
    # 2. A bar a category
    parts: list[Html] = [svg.text(left, 34, value_label)]
    for i, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = 42 + 22 * i
        length = 0 if formats.is_missing(value) else value / most * (end - left - 44 * (rates is not None))
        kind = "f8" if label in quiet else "f1"
        parts.append(svg.text(left - 8, y + 12, names[i], "e ink"))
        parts.append(svg.rect(left, y + 1, max(length, 0.8), 15, kind, f"{label}: {formats.number(value)}"))
        parts.append(svg.text(left + length + 5, y + 12.5, formats.compact(value)))
    if rates is not None:
        frame = svg.Frame(WIDTH + extra, height, 268 + extra, 22, 42, 14)
        parts.append(_rates(frame, labels, rates, rate_label, baseline))
    alt = "; ".join(f"{name}: {formats.number(value)}" for name, value in list(zip(labels, values, strict=True))[:30])
    return svg.picture(WIDTH + extra, height, *parts, name=title, description=alt)


def spark_bars(counts: Sequence[float], *, title: str) -> Html:
    """Draw bars small enough for a table cell; neighbours are put together until at most 25 are left."""
    together = -(-len(counts) // 25) or 1
    sums = [sum(counts[at : at + together]) for at in range(0, len(counts), together)]
    frame = svg.Frame(110, 26, 1, 1, 2, 2, 0, max(len(sums), 1), 0, max(sums, default=0) or 1)
    steps = [
        f"M{frame.x(at):.1f} 24V{min(frame.y(height), 23.5 if height else 24):.1f}H{frame.x(at + 1) - 0.8:.1f}V24Z"
        for at, height in enumerate(sums)
    ]
    return svg.picture(110, 26, Html(f'<path class="f1" d="{"".join(steps)}"/>'), name=title, kind="spark")


def _rates(
    place: svg.Frame, labels: Sequence[str], rates: Sequence[float | None], label: str, baseline: float | None
) -> Html:
    known = [r for r in [*rates, baseline] if r is not None and not formats.is_missing(r)]
    ticks = svg.nice_ticks(min([0.0, *known]), max([*known, 1e-9]), 4)
    frame = replace(place, x_low=ticks[0], x_high=ticks[-1])
    parts = [svg.text(frame.width - 4, 34, svg.shorten(label, 30), "e"), frame.x_grid(ticks, below=12)]
    if baseline is not None:
        parts.append(frame.upright(baseline))
    for i, (name, rate) in enumerate(zip(labels, rates, strict=True)):
        if rate is not None and not formats.is_missing(rate):
            hint = f"{name}: {label} {formats.number(rate)}"
            parts.append(svg.circle(frame.x(rate), 51 + 22 * i, 4.5, "f2 halo", hint))
    return join(*parts)


def _frame(edges: Sequence[float], heights: Sequence[float], head: float = 0) -> svg.Frame:
    top = max([*heights, 0]) or 1
    ceiling = svg.nice_ticks(0, top, 5)[-1]
    low, high = (edges[0], edges[-1]) if edges[-1] > edges[0] else (edges[0] - 0.5, edges[0] + 0.5)
    return svg.Frame(WIDTH, HEIGHT + head, 46, 10, 38 + head, 40, low, high, 0, ceiling)


def _heights(edges: Sequence[float], counts: Sequence[float]) -> tuple[list[float], bool]:
    widths = [b - a for a, b in itertools.pairwise(edges)]
    if max(widths) - min(widths) <= max(1e-6 * max(widths), svg.TINY):
        return list(counts), False
    return [c / w if w > svg.TINY else 0 for c, w in zip(counts, widths, strict=True)], True


def _steps(frame: svg.Frame, edges: Sequence[float], heights: Sequence[float], number: int) -> Html:
    points = [(frame.x(edges[0]), frame.y(0))]
    for a, b, h in zip(edges, edges[1:], heights, strict=False):
        points += [(frame.x(a), frame.y(h)), (frame.x(b), frame.y(h))]
    points.append((frame.x(edges[-1]), frame.y(0)))
    colour = svg.colour(number)
    return join(svg.path(points, f"f{colour} area", close=True), svg.path(points, f"s{colour} line"))


def _marks(frame: svg.Frame, marks: Mapping[str, float]) -> Html:
    parts = []
    for name, value in marks.items():
        if not formats.is_missing(value) and frame.x_low <= value <= frame.x_high:
            x, is_right = frame.x(value), value > (frame.x_low + 2 * frame.x_high) / 3
            words = svg.text(x + (-5 if is_right else 5), frame.top + 9, name, "e mark" if is_right else "mark")
            parts += [frame.upright(value), words]
    return join(*parts)


def shares(
    labels: Sequence[str], rows: Sequence[float], parts: Mapping[str, Sequence[float | None]], *, title: str
) -> Html:
    """Draw bars of rows, one a category, and beside each the shares of the classes that fill a line.

    `parts` holds, for each class, its share in each category; None where there is none.
    """
    names = list(parts)
    head = 36 + 16 * svg.legend_rows(names, SHARES_WIDTH - 24)
    most = max(rows, default=0) or 1
    drawn = [svg.legend(names, 0, 31, SHARES_WIDTH - 24)]
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
    alt = "; ".join(f"{label}: {formats.number(count)}" for label, count in list(zip(labels, rows, strict=True))[:30])
    return svg.picture(SHARES_WIDTH, head + 14 + 22 * len(labels), *drawn, name=title, description=alt)

"""What a model's predictions look like against the truth: curves, calibration, matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlsys.reports import formats, svg
from mlsys.reports.markup import Html, join

__all__ = ["calibration", "confusion", "curve", "density"]

WIDTH, HEIGHT = 400, 330

Points = tuple[Sequence[float], Sequence[float]]


def curve(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    level: float | None = None,
    point: tuple[str, float, float] | None = None,
    upright: tuple[str, float] | None = None,
    dots: bool = False,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
) -> Html:
    """Curves in a square: ROC with `diagonal`, precision and recall with `level` (the base rate).

    `point` is a named place on a curve, `upright` a named place on the x axis; `dots` marks
    the points that a curve runs through.
    """
    names = list(series)
    rows = svg.legend_rows(names, WIDTH - 60) if len(names) > 1 else 0
    x_ticks, y_ticks = svg.nice_ticks(*x_range), svg.nice_ticks(*y_range)
    ends = (x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    frame = svg.Frame(WIDTH, HEIGHT + 16 * rows, 46, 12, 42 + 16 * rows, 42, *ends)
    key = svg.legend(names, 12, 31, WIDTH - 60) if rows else ""
    axes = join(frame.y_axis(y_ticks, label=y_label), frame.x_numbers(x_ticks, x_label))
    guides = _guides(frame, diagonal=diagonal, level=level, upright=upright)
    drawn = [_curve(frame, points, i, dots=dots) for i, points in enumerate(series.values(), 1)]
    known = point is not None and not any(formats.is_missing(float(v)) for v in point[1:])
    named = _point(frame, *point) if point is not None and known else ""
    told = f"{y_label} against {x_label}: " + ", ".join(names)
    return svg.picture(
        frame.width, frame.height, svg.title(title), key, axes, guides, *drawn, named, name=title, description=told
    )


def _guides(frame: svg.Frame, *, diagonal: bool, level: float | None, upright: tuple[str, float] | None) -> Html:
    parts: list[Html] = []
    if diagonal:
        low, high = max(frame.x_low, frame.y_low), min(frame.x_high, frame.y_high)
        parts.append(svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "dash"))
    if level is not None and not formats.is_missing(level):
        parts.append(svg.line(frame.left, frame.y(level), frame.x_end, frame.y(level), "dash"))
    if upright is not None and not formats.is_missing(upright[1]) and frame.x_low <= upright[1] <= frame.x_high:
        x, is_left = frame.x(upright[1]), upright[1] > (frame.x_low + frame.x_high) / 2
        parts.append(svg.line(x, frame.top, x, frame.y_end, "dash"))
        parts.append(svg.text(x + (-5 if is_left else 5), frame.top + 10, upright[0], "e ink" if is_left else "ink"))
    return join(*parts)


def _curve(frame: svg.Frame, points: Points, number: int, *, dots: bool) -> Html:
    places = [
        None if formats.is_missing(float(a)) or formats.is_missing(float(b)) else (frame.x(a), frame.y(b))
        for a, b in zip(*points, strict=True)
    ]
    colour = svg.colour(number)
    marks = [svg.circle(*place, 4, f"f{colour} halo") for place in places if place is not None] if dots else []
    return join(svg.path(places, f"s{colour} line"), *marks)


def calibration(
    predicted: Sequence[float],
    observed: Sequence[float],
    *,
    title: str,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    counts: Sequence[float] | None = None,
    x_label: str = "predicted probability",
    y_label: str = "observed rate",
) -> Html:
    """Observed rate against mean prediction a bin; on the broken diagonal they agree."""
    ends = [float(v) for v in [*predicted, *observed, *(high or [])] if not formats.is_missing(float(v))]
    ticks = svg.nice_ticks(0, min(1.0, max(ends, default=1.0)))
    frame = svg.Frame(WIDTH, HEIGHT, 46, 12, 42, 42, 0, ticks[-1], 0, ticks[-1])
    parts = [svg.title(title), frame.y_axis(ticks, label=y_label), frame.x_numbers(ticks, x_label)]
    parts.append(svg.line(frame.x(0), frame.y(0), frame.x_end, frame.top, "dash"))
    for i, (a, b) in enumerate(zip(low or [], high or [], strict=True)):
        parts.append(
            svg.line(
                frame.x(predicted[i]),
                frame.y(max(a, 0)),
                frame.x(predicted[i]),
                frame.y(min(b, ticks[-1])),
                "s1 whisker",
            )
        )
    parts.append(svg.path([(frame.x(p), frame.y(o)) for p, o in zip(predicted, observed, strict=True)], "s1 line"))
    for i, (p, o) in enumerate(zip(predicted, observed, strict=True)):
        size = f", {formats.number(counts[i])} rows" if counts is not None else ""
        parts.append(
            svg.circle(
                frame.x(p),
                frame.y(o),
                4,
                "f1 halo",
                f"predicted {formats.number(p)}, observed {formats.number(o)}{size}",
            )
        )
    return svg.picture(WIDTH, HEIGHT, *parts, name=title, description=f"{len(predicted)} bins")


def confusion(matrix: Sequence[Sequence[float]], labels: Sequence[str], *, title: str) -> Html:
    """Rows are the truth, columns the prediction; shade and percentage are shares of the row."""
    k = len(labels)
    side = max(24.0, min(84.0, 290 / k))
    left, top = 96, 62
    parts = [svg.title(title), svg.text(left, 34, "predicted"), svg.text(left - 8, 52, "actual", "e")]
    for i, name in enumerate(labels):
        short = svg.shorten(str(name), 14 if k <= 3 else max(3, int(side / 6.3)))
        parts.append(svg.text(left - 8, top + side * (i + 0.5) + 4, svg.shorten(str(name), 14), "e ink"))
        parts.append(svg.text(left + side * (i + 0.5), 52, short, "m ink"))
        for j, count in enumerate(matrix[i]):
            hint = f"actual {name}, predicted {labels[j]}"
            share = count / (sum(matrix[i]) or 1)
            parts.append(_square((left + side * j, top + side * i), side, count, share, hint))
    told = "; ".join(
        f"{name}: {formats.number(matrix[i][i])} of {formats.number(sum(matrix[i]))} found"
        for i, name in enumerate(labels)
    )
    return svg.picture(max(left + side * k + 8, WIDTH), top + side * k + 6, *parts, name=title, description=told)


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
    """Rows counted on a grid, ``counts[i][j]`` in x bin i and y bin j.

    The stronger the colour, the more rows, on a root scale.
    """
    frame = svg.Frame(WIDTH, HEIGHT, 54, 12, 42, 42, x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
    y_ticks = [t for t in svg.nice_ticks(y_edges[0], y_edges[-1]) if y_edges[0] <= t <= y_edges[-1]]
    parts = [
        svg.title(title),
        frame.y_axis(y_ticks, label=y_label),
        frame.x_numbers(svg.nice_ticks(x_edges[0], x_edges[-1]), x_label),
    ]
    most = max((c for column in counts for c in column), default=0) or 1
    for i, column in enumerate(counts):
        for j, count in enumerate(column):
            if count:
                parts.append(_cell(frame, x_edges[i : i + 2], y_edges[j : j + 2], (count / most) ** 0.5))
    if diagonal:
        low, high = max(x_edges[0], y_edges[0]), min(x_edges[-1], y_edges[-1])
        parts.append(svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "dash"))
    elif y_edges[0] < 0 < y_edges[-1]:
        parts.append(svg.line(frame.left, frame.y(0), frame.x_end, frame.y(0), "dash"))
    return svg.picture(WIDTH, HEIGHT, *parts, name=title, description=f"{formats.number(sum(map(sum, counts)))} rows")


def _cell(frame: svg.Frame, x: Sequence[float], y: Sequence[float], shade: float) -> Html:
    left, top = frame.x(x[0]), frame.y(y[1])
    return svg.rect(left, top, frame.x(x[1]) - left, frame.y(y[0]) - top, "f1", opacity=0.08 + 0.92 * shade)


def _point(frame: svg.Frame, name: str, x: float, y: float) -> Html:
    left = x > (frame.x_low + frame.x_high) / 2
    words = svg.text(frame.x(x) + (-9 if left else 9), frame.y(y) + 14, name, "e ink" if left else "ink")
    return join(
        svg.circle(frame.x(x), frame.y(y), 5, "f2 halo", f"{name}: {formats.number(x)}, {formats.number(y)}"), words
    )


def _square(corner: tuple[float, float], side: float, count: float, share: float, hint: str) -> Html:
    """A cell whose shade stops short of the full colour, so that one ink can be read on all of them."""
    (x, y), middle = corner, corner[0] + side / 2
    told = f"{hint}: {formats.number(count)} ({formats.percent(share)})"
    exact = formats.number(count)
    parts = [svg.rect(x, y, side, side, "empty cell"), svg.rect(x, y, side, side, "f1 cell", told, 0.6 * share)]
    if side >= 34:
        words = exact if 6.5 * len(exact) < side else formats.compact(count)
        parts.append(svg.text(middle, y + side / 2 + (0 if side >= 46 else 4), words, "m ink"))
    if side >= 46:
        parts.append(svg.text(middle, y + side / 2 + 15, formats.percent(share, 0), "m ink"))
    return join(*parts)

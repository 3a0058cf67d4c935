"""Charts of a model: ROC and precision-recall curves, calibration, and estimates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlsys.reports import formats, svg
from mlsys.reports.page import Html, join

WIDTH, HEIGHT = 400, 330
INTERVALS_WIDTH = 480

Points = tuple[Sequence[float], Sequence[float]]


def curve(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    level: float | None = None,
    upright: tuple[str, float] | None = None,
    dots: bool = False,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
) -> Html:
    """Draw curves in a square: ROC with `diagonal`, precision and recall with `level` (the base rate).

    `upright` is a named place on the x axis; `dots` marks the points that a curve runs through.
    """
    # 1. Axes, and room for the legend above them
    names = list(series)
    rows = svg.legend_rows(names, WIDTH - 60) if len(names) > 1 else 0
    x_ticks, y_ticks = svg.nice_ticks(*x_range), svg.nice_ticks(*y_range)
    ends = (x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    frame = svg.Frame(WIDTH, HEIGHT + 16 * rows, 46, 12, 42 + 16 * rows, 42, *ends)
    key = svg.legend(names, 12, 31, WIDTH - 60) if rows else ""
    axes = join(frame.y_axis(y_ticks, label=y_label), frame.x_numbers(x_label))
    # 2. Guides and curves, and words for readers who cannot see them
    guides = _guides(frame, diagonal=diagonal, level=level, upright=upright)
    drawn = [_curve(frame, points, i, dots=dots) for i, points in enumerate(series.values(), 1)]
    alt = f"{y_label} against {x_label}: " + ", ".join(names)
    return svg.picture(frame.width, frame.height, key, axes, guides, *drawn, name=title, description=alt)


def _guides(frame: svg.Frame, *, diagonal: bool, level: float | None, upright: tuple[str, float] | None) -> Html:
    parts: list[Html] = []
    if diagonal:
        low, high = max(frame.x_low, frame.y_low), min(frame.x_high, frame.y_high)
        parts.append(svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "dash"))
    if level is not None and not formats.is_missing(level):
        parts.append(frame.across(level))
    if upright is not None and not formats.is_missing(upright[1]) and frame.x_low <= upright[1] <= frame.x_high:
        x, is_left = frame.x(upright[1]), upright[1] > (frame.x_low + frame.x_high) / 2
        parts.append(frame.upright(upright[1]))
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
) -> Html:
    """Draw the observed rate against the mean prediction of each bin; on the broken diagonal they agree."""
    # 1. Axes and the diagonal
    ends = [float(v) for v in [*predicted, *observed, *(high or [])] if not formats.is_missing(float(v))]
    ticks = svg.nice_ticks(0, min(1.0, max(ends, default=1.0)))
    frame = svg.Frame(WIDTH, HEIGHT, 46, 12, 42, 42, 0, ticks[-1], 0, ticks[-1])
    parts = [frame.y_axis(ticks, label="observed rate"), frame.x_numbers("predicted probability")]
    parts.append(svg.line(frame.x(0), frame.y(0), frame.x_end, frame.top, "dash"))
    # 2. Intervals, then the line, then a dot a bin
    for p, a, b in zip(predicted, low or [], high or [], strict=False):
        x = frame.x(p)
        parts.append(svg.line(x, frame.y(max(a, 0)), x, frame.y(min(b, ticks[-1])), "s1 whisker"))
    points = [(frame.x(p), frame.y(o)) for p, o in zip(predicted, observed, strict=True)]
    parts.append(svg.path(points, "s1 line"))
    for i, (x, y) in enumerate(points):
        size = f", {formats.number(counts[i])} rows" if counts is not None else ""
        hint = f"predicted {formats.number(predicted[i])}, observed {formats.number(observed[i])}{size}"
        parts.append(svg.circle(x, y, 4, "f1 halo", hint))
    return svg.picture(WIDTH, HEIGHT, *parts, name=title, description=f"{len(predicted)} bins")


@dataclass(frozen=True)
class Interval:
    """Estimate of one row: its name, its value and the ends of its interval.

    `other` is a value to compare with, drawn as a ring; `remark` takes the place of the value at the right.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    mark: Literal["plain", "accent", "bad"] = "plain"
    remark: str = ""
    other: float | None = None


def intervals(
    rows: Sequence[Interval], *, title: str, reference: float | None = None, reference_label: str = ""
) -> Html:
    """Draw a dot and a whisker a row on one scale; `reference` is a broken line down through all."""
    # 1. The scale of all rows
    numbers = [reference, *(v for row in rows for v in (row.value, row.low, row.high, row.other))]
    known = [v for v in numbers if v is not None and not formats.is_missing(v)]
    ticks = svg.nice_ticks(min(known, default=0.0), max(known, default=1.0), 6)
    height = 60 + 24 * len(rows)
    frame = svg.Frame(INTERVALS_WIDTH, height, 154, 104, 44, 22, ticks[0], ticks[-1])
    # 2. Grid and reference
    parts = [frame.x_grid(ticks, below=14, above=4)]
    if reference is not None and not formats.is_missing(reference):
        parts.append(frame.upright(reference, above=4))
        parts.append(svg.text(frame.x(reference), frame.top - 9, reference_label, "m ink"))
    # 3. A line a row
    for i, row in enumerate(rows):
        parts += _row(frame, row, frame.top + 10 + 24 * i)
    alt = "; ".join(
        f"{row.label}: {formats.number(row.value)} ({formats.interval(row.low, row.high)})" for row in rows[:40]
    )
    return svg.picture(INTERVALS_WIDTH, height, *parts, name=title, description=alt, kind="normal roomy")


def _row(frame: svg.Frame, row: Interval, y: float) -> list[Html]:
    colour = {"plain": "8", "accent": "1", "bad": "2"}[row.mark]
    parts = [
        svg.text(frame.left - 10, y + 4, svg.shorten(row.label, 25), "e ink"),
        svg.text(frame.x_end + 10, y + 4, row.remark or formats.number(row.value)),
    ]
    if row.other is not None and not formats.is_missing(row.other):
        parts.append(svg.circle(frame.x(row.other), y, 3.6, "ring", formats.number(row.other)))
    if row.low is not None and row.high is not None and not any(map(formats.is_missing, (row.low, row.high))):
        parts.append(svg.line(frame.x(row.low), y, frame.x(row.high), y, f"s{colour} whisker"))
    if row.value is not None and not formats.is_missing(row.value):
        hint = f"{row.label}: {formats.number(row.value)}, {formats.interval(row.low, row.high)}"
        parts.append(svg.circle(frame.x(row.value), y, 4.5, f"f{colour} halo", hint))
    return parts

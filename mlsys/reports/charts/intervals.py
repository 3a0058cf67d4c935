"""Estimates with their intervals, one a row: leaderboards, metrics, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlsys.reports import formats, svg
from mlsys.reports.markup import Html

__all__ = ["Interval", "intervals"]

WIDTH = 480


@dataclass(frozen=True)
class Interval:
    """One row: a name, an estimate and the ends of its interval.

    `other` is a value to compare with, drawn as a ring; `remark` takes the place of the
    value at the right.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    mark: Literal["plain", "accent", "bad"] = "plain"
    remark: str = ""
    other: float | None = None


def intervals(
    rows: Sequence[Interval],
    *,
    title: str,
    x_label: str = "",
    reference: float | None = None,
    reference_label: str = "",
) -> Html:
    """A dot and a whisker a row on one scale; `reference` is a broken line down through all."""
    numbers = [
        v
        for row in rows
        for v in (row.value, row.low, row.high, row.other)
        if v is not None and not formats.is_missing(v)
    ]
    numbers += [reference] if reference is not None and not formats.is_missing(reference) else []
    ticks = svg.nice_ticks(min(numbers, default=0.0), max(numbers, default=1.0), 6)
    height = 60 + 24 * len(rows) + (14 if x_label else 0)
    frame = svg.Frame(WIDTH, height, 154, 104, 44, 22 + (14 if x_label else 0), ticks[0], ticks[-1])
    parts = [svg.title(title)]
    for t in ticks:
        parts += [
            svg.line(frame.x(t), frame.top - 4, frame.x(t), frame.y_end, "grid-line"),
            svg.text(frame.x(t), frame.y_end + 14, formats.compact(t), "m"),
        ]
    if x_label:
        parts.append(svg.text((frame.left + frame.x_end) / 2, frame.y_end + 30, x_label, "m"))
    if reference is not None and not formats.is_missing(reference):
        parts += [
            svg.line(frame.x(reference), frame.top - 4, frame.x(reference), frame.y_end, "dash"),
            svg.text(frame.x(reference), frame.top - 9, reference_label, "m ink"),
        ]
    for i, row in enumerate(rows):
        parts += _row(frame, row, frame.top + 10 + 24 * i)
    told = "; ".join(
        f"{row.label}: {formats.number(row.value)} ({formats.interval(row.low, row.high)})" for row in rows[:40]
    )
    return svg.picture(WIDTH, height, *parts, name=title, description=told, kind="normal roomy")


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

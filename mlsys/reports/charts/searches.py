"""Charts of a search: dots of what was tried, lines across all parameters, and the time that each part took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlsys.reports import formats, svg
from mlsys.reports.page import Html, join, tag

WIDTH, HEIGHT = 480, 300
AXIS_WIDTH, PARALLEL_HEIGHT, SCALE = 104, 300, 1.15
SPANS_WIDTH = 620

LONGEST_NAME = 17
"""Characters of an axis' name that fit between two axes."""


@dataclass(frozen=True)
class Dot:
    """A place in a plot, the group whose colour it has, and what is said when the pointer rests on it."""

    x: float
    y: float
    group: str
    hint: str


def scatter(
    dots: Sequence[Dot],
    *,
    title: str,
    x_label: str,
    y_label: str,
    reached: Sequence[tuple[float, float]] = (),
    level: tuple[str, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> Html:
    """Draw a dot each, in the colours of their groups.

    Parameters
    ----------
    reached
        Corners of a line of steps, such as the best value so far: each holds until the next.
    level
        A named value to compare with, drawn as a quiet broken line where it lies in the plot.
    y_range
        Ends of the vertical axis; dots beyond lie at its edge as rings. By default those of the dots.
    log
        Places on the horizontal axis go by their logarithm; those that are not above 0 are left out.
    """
    # 1. The plot area, with room for the legend
    shown = [dot for dot in dots if not log or dot.x > 0]
    groups = list(dict.fromkeys(dot.group for dot in dots))
    low, high = y_range or _ends([dot.y for dot in shown])
    y_ticks = svg.nice_ticks(low, high)
    x_ends = _x_ends([dot.x for dot in shown] + [x for x, _ in reached], log=log)
    rows = svg.legend_rows(groups, WIDTH - 60) if len(groups) > 1 else 0
    ends = (*x_ends, y_ticks[0], y_ticks[-1])
    frame = svg.Frame(WIDTH, HEIGHT + 16 * rows, 58, 14, 42 + 16 * rows, 42, *ends)
    key = svg.legend(groups, 12, 31, WIDTH - 60) if rows else ""
    # 2. Axes, the value to compare with, the steps, the dots
    axes = join(frame.y_axis(y_ticks, label=y_label), _x_axis(frame, x_label, log=log))
    marked = _level(frame, level, y_ticks) if level is not None else Html("")
    steps = [_steps(frame, reached)] if reached else []
    drawn = [_dot(frame, dot, groups.index(dot.group) + 1, log=log) for dot in shown]
    alt = f"{formats.count(len(shown), 'point')}: {y_label} against {x_label}"
    return svg.picture(
        frame.width, frame.height, key, axes, *steps, *drawn, marked, name=title, description=alt, kind="normal roomy"
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values, default=0.0), max(values, default=1.0)


def _x_ends(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Ends of the horizontal axis: from 0 to beyond the last place, or whole powers of ten as logarithms."""
    if not log:
        return 0.0, 1.03 * max([*values, 1e-9])
    known = [math.log10(value) for value in values if value > 0] or [0.0]
    low, high = math.floor(min(known)), math.ceil(max(known))
    return float(low), float(max(high, low + 1))


def _x_axis(frame: svg.Frame, label: str, *, log: bool) -> Html:
    if not log:
        return frame.x_numbers(label)
    powers = range(int(frame.x_low), int(frame.x_high) + 1)
    return frame.x_axis([(power, formats.compact(10.0**power)) for power in powers], label)


def _level(frame: svg.Frame, level: tuple[str, float], ticks: Sequence[float]) -> Html:
    name, value = level
    if formats.is_missing(value) or not ticks[0] <= value <= ticks[-1]:
        return Html("")
    return join(frame.across(value), svg.text(frame.x_end, frame.y(value) - 4, name, "e mark"))


def _steps(frame: svg.Frame, corners: Sequence[tuple[float, float]]) -> Html:
    """A line that holds its value up to the next corner, and the last one to the end of the plot."""
    places: list[tuple[float, float]] = []
    for x, y in corners:
        height = min(max(frame.y(y), frame.top), frame.y_end)
        places += [(frame.x(x), places[-1][1])] if places else []
        places.append((frame.x(x), height))
    return svg.path([*places, (frame.x_end, places[-1][1])], "s8 line")


def _dot(frame: svg.Frame, dot: Dot, group: int, *, log: bool) -> Html:
    x, y = frame.x(math.log10(dot.x) if log else dot.x), frame.y(dot.y)
    if frame.top - 0.5 <= y <= frame.y_end + 0.5:
        return svg.circle(x, y, 4, f"f{svg.colour(group)} halo", dot.hint)
    edge = frame.top if y < frame.top else frame.y_end
    return svg.circle(x, edge, 3.4, f"s{svg.colour(group)} hollow", dot.hint)


@dataclass(frozen=True)
class Axis:
    """An upright axis: its name, and words at places between 0, its lower end, and 1."""

    name: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Thread:
    """A line across all axes by its places on them; None lifts the pen. `rank` is 1 for the best, 0 for the worst."""

    places: Sequence[float | None]
    rank: float
    hint: str
    is_chosen: bool = False


def parallel(axes: Sequence[Axis], threads: Sequence[Thread], *, title: str) -> Html:
    """Draw parallel coordinates: the better a thread, the stronger; the chosen ones in the colour of the accent.

    Inselberg, "The plane with parallel coordinates", The Visual Computer 1, 1985, doi:10.1007/BF01898350.
    """
    width = 126 + AXIS_WIDTH * max(1, len(axes) - 1)
    frame = svg.Frame(width, PARALLEL_HEIGHT, 56, 70, 62, 18, 0, max(1, len(axes) - 1))
    lines = sorted(threads, key=lambda thread: (thread.is_chosen, thread.rank))
    drawn = [_thread(frame, thread) for thread in lines]
    upright = [_upright(frame, number, axis) for number, axis in enumerate(axes)]
    alt = f"{formats.count(len(threads), 'line')} across {', '.join(axis.name for axis in axes)}"
    content = [*drawn, *upright]
    size = width, PARALLEL_HEIGHT
    return svg.picture(*size, *content, name=title, description=alt, kind="wide", most_px=SCALE * width)


def _thread(frame: svg.Frame, thread: Thread) -> Html:
    points = [None if place is None else (frame.x(at), frame.y(place)) for at, place in enumerate(thread.places)]
    strength = "chosen" if thread.is_chosen else "near" if thread.rank >= 0.75 else "mid" if thread.rank >= 0.4 else ""
    kind = f"s{1 if thread.is_chosen else 8} thread {strength}".strip()
    return tag("g", tag("title", thread.hint), svg.path(points, kind))


def _upright(frame: svg.Frame, number: int, axis: Axis) -> Html:
    """An axis with its name above, on two levels by turns, for names are longer than the way between axes."""
    x = frame.x(number)
    words = [svg.text(x + 6, frame.y(place) + 4, word, "mark") for place, word in axis.ticks]
    ends = [svg.line(x - 3, frame.y(place), x + 3, frame.y(place), "axis") for place, _ in axis.ticks]
    name = svg.text(x, frame.top - (12 if number % 2 else 27), svg.shorten(axis.name, 2 * LONGEST_NAME), "m ink")
    return join(svg.line(x, frame.top, x, frame.y_end, "axis"), *ends, *words, name)


@dataclass(frozen=True)
class Stretch:
    """A part of a stretch of time: its name, its first and its last second, and a remark after it."""

    label: str
    start: float
    end: float
    remark: str = ""


def stretches(parts: Sequence[Stretch], *, title: str, limits: Mapping[str, float] | None = None) -> Html:
    """Draw parts of a stretch of time below each other on one scale of seconds; `limits` are named ends."""
    limits = limits or {}
    ticks = svg.nice_ticks(0.0, max([*(part.end for part in parts), *limits.values(), 1e-3]), 6)
    height = 78 + 26 * len(parts)
    frame = svg.Frame(SPANS_WIDTH, height, 104, 96, 56, 22, 0.0, ticks[-1])
    drawn = [frame.x_grid(ticks, below=14)]
    for number, (name, limit) in enumerate(limits.items()):
        drawn.append(frame.upright(limit, "limit", above=6))
        drawn.append(svg.text(frame.x(limit), frame.top - (9 if number % 2 else 22), name, "m ink"))
    for number, part in enumerate(parts):
        y, x = frame.top + 6 + 26 * number, frame.x(part.start)
        length = max(frame.x(part.end) - x, 1.0)
        hint = f"{part.label}: {formats.seconds(part.end - part.start)}"
        drawn.append(svg.text(frame.left - 10, y + 12, part.label, "e ink"))
        drawn.append(svg.rect(x, y, length, 16, f"f{svg.colour(number + 1)}", hint))
        drawn.append(svg.text(x + length + 6, y + 12, part.remark, "mark"))
    alt = "; ".join(f"{part.label} from {part.start:.1f} to {part.end:.1f} s" for part in parts)
    return svg.picture(SPANS_WIDTH, height, *drawn, name=title, description=alt, kind="normal roomy")

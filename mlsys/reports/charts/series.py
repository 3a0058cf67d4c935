"""Charts over time: lines with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from mlsys.reports import formats, svg
from mlsys.reports.page import Html, join

WIDTH, HEIGHT = 900, 270

Place = datetime | date | float | str
Value = float | None


@dataclass(frozen=True)
class Series:
    """Values over the places of a chart, with the ends of their interval where known."""

    values: Sequence[Value]
    low: Sequence[Value] | None = None
    high: Sequence[Value] | None = None


def lines(
    x: Sequence[Place],
    series: Mapping[str, Series | Sequence[Value]],
    *,
    title: str,
    y_label: str = "",
    limits: Mapping[str, float] | None = None,
    level: tuple[str, float] | None = None,
    alarms: Sequence[int] = (),
    y_range: tuple[float, float] | None = None,
    wide: bool = True,
) -> Html:
    """Draw a line a series with its interval as a band; dots where the values are.

    Parameters
    ----------
    x
        Places in order: times and numbers are spaced to scale, texts evenly.
    limits
        Named bounds, drawn as broken lines across.
    level
        A named value to compare with, drawn as a quiet broken line.
    alarms
        Positions in `x` that are marked as alarms.
    y_range
        Ends of the vertical axis; by default those of the data and the limits.
    """
    # 1. The plot area for all values
    known = {name: s if isinstance(s, Series) else Series(s) for name, s in series.items()}
    values = [v for s in known.values() for part in (s.values, s.low or (), s.high or ()) for v in part]
    levels = dict([level] if level else [])
    values += [*(limits or {}).values(), *levels.values()]
    frame, places, axes = _stage(x, values, list(known), y_label=y_label, y_range=y_range, wide=wide)
    # 2. Bands, lines and alarms
    drawn = [_band(frame, places, s, i) for i, s in enumerate(known.values(), 1)]
    drawn += [_trace(frame, places, x, (name, s.values), i) for i, (name, s) in enumerate(known.items(), 1)]
    flags = [frame.upright(places[i], "alarm-line") for i in alarms]
    heads = [_flag(frame.x(places[i]), frame.top, f"alarm at {formats.label(x[i])}") for i in alarms]
    # 3. Words for readers who cannot see it
    ends = f"{len(x)} points from {formats.label(x[0])} to {formats.label(x[-1])}" if x else ""
    alt = f"{ends}, {len(alarms)} alarms" if x else "no points"
    bounds = join(_limits(frame, limits or {}, "limit"), _limits(frame, levels, "dash"))
    content = (axes, bounds, *flags, *drawn, *heads)
    kind = "wide" if wide else "normal"
    return svg.picture(frame.width, frame.height, *content, name=title, description=alt, kind=kind)


def _stage(
    x: Sequence[Place],
    values: Sequence[Value],
    names: list[str],
    *,
    y_label: str,
    y_range: tuple[float, float] | None,
    wide: bool,
) -> tuple[svg.Frame, list[float], Html]:
    """The frame, the place of each point in it, and the axes with the legend."""
    width = WIDTH if wide else 400
    numbers = [float(v) for v in values if v is not None and not formats.is_missing(v)] or [0.0, 1.0]
    ticks = svg.nice_ticks(*(y_range or (min(numbers), max(numbers))), 6)
    rows = svg.legend_rows(names, width - 60) if len(names) > 1 else 0
    places = _places(x)
    low, high = (places[0], places[-1]) if len(places) > 1 and places[-1] > places[0] else (-0.5, 0.5)
    height, top = (HEIGHT if wide else 230) + 16 * rows, 42 + 16 * rows
    frame = svg.Frame(width, height, 52, 34, top, 26, low, high, ticks[0], ticks[-1])
    key = svg.legend(names, 12, 31, width - 60) if rows else ""
    x_axis = frame.x_axis(_ticks(x, places, frame.x_end - frame.left))
    return frame, places, join(key, frame.y_axis(ticks, label=y_label), x_axis)


def _places(x: Sequence[Place]) -> list[float]:
    if len(x) == 1 or any(isinstance(v, str) for v in x):
        return [float(i) for i in range(len(x))]
    return [_seconds(v) for v in x]


def _seconds(value: Place) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value.toordinal()) if isinstance(value, date) else float(value)


def _ticks(x: Sequence[Place], places: list[float], width: float) -> list[tuple[float, str]]:
    """Ticks of round numbers; of times and texts those with room, times without the hour where days differ."""
    low, high = places[0] if places else 0.0, places[-1] if places else 0.0
    if high > low and all(isinstance(place, int | float) for place in x):
        sizes = ([t for t in svg.nice_ticks(low, high, most) if low <= t <= high] for most in (4, 6, 8))
        best = next((size for size in sizes if len(size) > 2), None)
        return [(t, formats.compact(t)) for t in best or svg.nice_ticks(low, high, 8) if low <= t <= high]
    words = [svg.shorten(formats.label(place), 16) for place in x]
    if all(isinstance(place, datetime) for place in x) and high - low > 5 * 86_400:
        words = [f"{place:%Y-%m-%d}" for place in x if isinstance(place, datetime)]
    room = (svg.LETTER * max((len(word) for word in words), default=0) + 14) / width * ((high - low) or 1)
    ticks: list[tuple[float, str]] = []
    for place, word in zip(places, words, strict=True):
        if not ticks or place >= ticks[-1][0] + room:
            ticks.append((place, word))
    return ticks


def _band(frame: svg.Frame, places: list[float], series: Series, number: int) -> Html:
    """The interval of a series as an area, in pieces where one of its ends has a gap."""
    if series.low is None or series.high is None:
        return Html("")
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for place, low, high in zip(places, series.low, series.high, strict=True):
        if low is None or high is None or formats.is_missing(low) or formats.is_missing(high):
            pieces.append([])
        else:
            pieces[-1].append((frame.x(place), frame.y(low), frame.y(high)))
    areas = [[(x, y) for x, y, _ in piece] + [(x, y) for x, _, y in reversed(piece)] for piece in pieces if piece]
    return join(*(svg.path(area, f"f{svg.colour(number)} band", close=True) for area in areas))


def _trace(
    frame: svg.Frame, places: list[float], x: Sequence[Place], trace: tuple[str, Sequence[Value]], number: int
) -> Html:
    (name, values), colour = trace, svg.colour(number)
    radius, has_dots = 3 if len(values) <= 60 else 1.5, len(values) <= 200
    points: list[tuple[float, float] | None] = []
    dots = []
    for place, shown, value in zip(places, x, values, strict=True):
        if value is None or formats.is_missing(value):
            points.append(None)
            continue
        point = frame.x(place), frame.y(value)
        points.append(point)
        if has_dots:
            hint = f"{name}, {formats.label(shown)}: {formats.number(value)}"
            dots.append(svg.circle(*point, radius, f"f{colour}", hint))
    return join(svg.path(points, f"s{colour} line"), *dots)


def _limits(frame: svg.Frame, limits: Mapping[str, float], kind: str) -> Html:
    parts: list[Html] = []
    for name, limit in limits.items():
        parts += [frame.across(limit, kind), svg.text(frame.x_end, frame.y(limit) - 4, name, "e ink")]
    return join(*parts)


def _flag(x: float, y: float, hint: str) -> Html:
    return Html(f'<path class="alarm" d="M{x - 5:.1f} {y - 9:.1f}h10l-5 8z"><title>{hint}</title></path>')

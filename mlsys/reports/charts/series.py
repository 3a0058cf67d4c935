"""Charts over time: lines with intervals, quantile fans, sparklines."""

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
    frame, places, axes = _stage(
        x,
        [*values, *(limits or {}).values(), *((level[1],) if level else ())],
        list(known),
        y_label=y_label,
        y_range=y_range,
        wide=wide,
    )
    # 2. Bands, lines and alarms
    drawn = [_band(frame, places, s, i) for i, s in enumerate(known.values(), 1)]
    drawn += [_trace(frame, places, x, (name, s.values), i) for i, (name, s) in enumerate(known.items(), 1)]
    flags = [svg.line(frame.x(places[i]), frame.top, frame.x(places[i]), frame.y_end, "alarm-line") for i in alarms]
    heads = [_flag(frame.x(places[i]), frame.top, f"alarm at {formats.label(x[i])}") for i in alarms]
    alt = (
        f"{len(x)} points from {formats.label(x[0])} to {formats.label(x[-1])}, {len(alarms)} alarms"
        if x
        else "no points"
    )
    return svg.picture(
        frame.width,
        frame.height,
        svg.title(title),
        axes,
        _limits(frame, limits or {}, "limit"),
        _limits(frame, dict([level] if level else []), "dash"),
        *flags,
        *drawn,
        *heads,
        name=title,
        description=alt,
        kind="wide" if wide else "normal",
    )


def fan(
    x: Sequence[Place],
    quantiles: Mapping[float, Sequence[Value]],
    *,
    title: str,
    y_label: str = "",
    reference: Mapping[float, float] | None = None,
    alarms: Sequence[int] = (),
    wide: bool = True,
) -> Html:
    """Draw quantiles of a column over windows: the median as a line, pairs around it as bands.

    `quantiles` is keyed by probability, e.g. 0.05, 0.25, 0.5, 0.75, 0.95; `reference` holds
    the same quantiles of the training rows, drawn as broken lines.
    """
    # 1. The plot area for all values
    probabilities = sorted(quantiles)
    values = [v for p in probabilities for v in quantiles[p]] + list((reference or {}).values())
    frame, places, axes = _stage(x, values, [], y_label=y_label, y_range=None, wide=wide)
    # 2. Bands around the median, and the quantiles of the reference
    pairs = [(p, q) for p, q in zip(probabilities, reversed(probabilities), strict=True) if p < q]
    bands = [
        _between(frame, places, quantiles[p], quantiles[q], "f1 band2" if i else "f1 band")
        for i, (p, q) in enumerate(pairs)
    ]
    middle = [_trace(frame, places, x, ("median", quantiles[p]), 1) for p in probabilities if abs(p - 0.5) < 1e-9]
    base = [
        svg.line(frame.left, frame.y(v), frame.x_end, frame.y(v), "dash")
        for v in (reference or {}).values()
        if not formats.is_missing(v)
    ]
    names = [
        svg.text(frame.x_end + 4, frame.y(v) + 3.5, f"{100 * p:g}%")
        for p, v in (reference or {}).items()
        if not formats.is_missing(v)
    ]
    heads = [_flag(frame.x(places[i]), frame.top, f"alarm at {formats.label(x[i])}") for i in alarms]
    alt = "quantiles " + ", ".join(f"{100 * p:g}%" for p in probabilities) + f" over {len(x)} windows"
    return svg.picture(
        frame.width,
        frame.height,
        svg.title(title),
        axes,
        *bands,
        *base,
        *middle,
        *names,
        *heads,
        name=title,
        description=alt,
        kind="wide" if wide else "normal",
    )


def sparkline(values: Sequence[Value], *, title: str, alarms: Sequence[int] = (), limit: float | None = None) -> Html:
    """Draw a line small enough for a table cell, the last value as a dot."""
    known = [v for v in values if not formats.is_missing(v)] + ([limit] if limit is not None else [])
    numbers = [float(v) for v in known if v is not None] or [0.0]
    frame = svg.Frame(110, 26, 3, 5, 4, 4, 0, max(len(values) - 1, 1), min(numbers), max(numbers))
    points = [None if v is None or formats.is_missing(v) else (frame.x(i), frame.y(v)) for i, v in enumerate(values)]
    bound = svg.line(3, frame.y(limit), frame.x_end, frame.y(limit), "limit") if limit is not None else ""
    dots = [svg.circle(p[0], p[1], 2.6, "alarm") for i, p in enumerate(points) if p is not None and i in set(alarms)]
    last = next((p for p in reversed(points) if p is not None), None)
    end = svg.circle(last[0], last[1], 2.6, "f1") if last is not None else ""
    return svg.picture(110, 26, bound, svg.path(points, "s1 line"), end, *dots, name=title, kind="spark")


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
    frame = svg.Frame(
        width, (HEIGHT if wide else 230) + 16 * rows, 52, 34, 42 + 16 * rows, 26, low, high, ticks[0], ticks[-1]
    )
    key = svg.legend(names, 12, 31, width - 60) if rows else ""
    return (
        frame,
        places,
        join(key, frame.y_axis(ticks, label=y_label), frame.x_axis(_ticks(x, places, frame.x_end - frame.left))),
    )


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
    if series.low is None or series.high is None:
        return Html("")
    return _between(frame, places, series.low, series.high, f"f{svg.colour(number)} band")


def _between(frame: svg.Frame, places: list[float], low: Sequence[Value], high: Sequence[Value], kind: str) -> Html:
    """The area between two lines, in pieces where one of them has a gap."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for at, a, b in zip(places, low, high, strict=True):
        if a is None or b is None or formats.is_missing(a) or formats.is_missing(b):
            pieces.append([])
        else:
            pieces[-1].append((frame.x(at), frame.y(a), frame.y(b)))
    areas = [[(x, y) for x, y, _ in piece] + [(x, y) for x, _, y in reversed(piece)] for piece in pieces if piece]
    return join(*(svg.path(area, kind, close=True) for area in areas))


def _trace(
    frame: svg.Frame, places: list[float], x: Sequence[Place], trace: tuple[str, Sequence[Value]], number: int
) -> Html:
    name, values = trace
    points = [
        None if v is None or formats.is_missing(v) else (frame.x(at), frame.y(v))
        for at, v in zip(places, values, strict=True)
    ]
    colour = svg.colour(number)
    dots = [
        svg.circle(
            p[0],
            p[1],
            3 if len(points) <= 60 else 1.5,
            f"f{colour}",
            f"{name}, {formats.label(at)}: {formats.number(v)}",
        )
        for p, at, v in zip(points, x, values, strict=True)
        if p is not None
    ]
    return join(svg.path(points, f"s{colour} line"), *(dots if len(points) <= 200 else []))


def _limits(frame: svg.Frame, limits: Mapping[str, float], kind: str) -> Html:
    parts: list[Html] = []
    for name, at in limits.items():
        parts += [
            svg.line(frame.left, frame.y(at), frame.x_end, frame.y(at), kind),
            svg.text(frame.x_end, frame.y(at) - 4, name, "e ink"),
        ]
    return join(*parts)


def _flag(x: float, y: float, hint: str) -> Html:
    return Html(f'<path class="alarm" d="M{x - 5:.1f} {y - 9:.1f}h10l-5 8z"><title>{hint}</title></path>')

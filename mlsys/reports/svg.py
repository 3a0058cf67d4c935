"""Elements of a drawing as SVG: a plot area with two scales, ticks and gridlines, shapes and words.

Colours and fonts come from the style sheet by class, so that a drawing follows the reader's
light or dark scheme. Coordinates are rounded to a tenth: a report stays small.
"""

from __future__ import annotations

import itertools
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlsys.reports import formats
from mlsys.reports.page import Html, escape, join, tag

LETTER = 6.2
"""Width of a letter in the font of charts, in units of the drawing."""
TINY, LARGEST = 1e-280, sys.float_info.max
"""Range of values up to which they are drawn without round numbers between them, and the largest number."""


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Find round numbers that span `low` … `high`: steps of 1, 2 or 5 times a power of ten.

    Heckbert (1990), "Nice numbers for graph labels", Graphics Gems, p. 61.

    >>> nice_ticks(0, 97)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    >>> nice_ticks(0.61, 0.74, 4)
    [0.6, 0.65, 0.7, 0.75]
    """
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2
    if not TINY < high - low < math.inf:
        return [low, high]
    power = 10.0 ** math.floor(math.log10((high - low) / max(most, 2)))
    for step in (factor * power * scale for scale in (1, 10, 100) for factor in (1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= most:
            break
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [min(max(round(i * step, digits), -LARGEST), LARGEST) for i in range(first, last + 1)]


def _place(value: float, low: float, high: float) -> float:
    """Place of a value between two others, as a fraction; by halves, for their distance may be no double."""
    return (value / 2 - low / 2) / ((high / 2 - low / 2) or 1)


@dataclass(frozen=True)
class Frame:
    """A plot area inside a picture, and the scales from values to places in it."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_low: float = 0.0
    x_high: float = 1.0
    y_low: float = 0.0
    y_high: float = 1.0

    @property
    def x_end(self) -> float:
        return self.width - self.right

    @property
    def y_end(self) -> float:
        return self.height - self.bottom

    def x(self, value: float) -> float:
        return self.left + _place(value, self.x_low, self.x_high) * (self.x_end - self.left)

    def y(self, value: float) -> float:
        return self.y_end - _place(value, self.y_low, self.y_high) * (self.y_end - self.top)

    def across(self, value: float, kind: str = "dash") -> Html:
        """Draw a line across the area at a value of the vertical scale."""
        return line(self.left, self.y(value), self.x_end, self.y(value), kind)

    def upright(self, value: float, kind: str = "dash", above: float = 0.0) -> Html:
        """Draw a line down through the area, from `above` it, at a value of the horizontal scale."""
        return line(self.x(value), self.top - above, self.x(value), self.y_end, kind)

    def y_axis(self, ticks: Sequence[float], write: Callable[[float], str] = formats.compact, label: str = "") -> Html:
        """Draw gridlines with their values at the left, and the name of the axis above them."""
        lines = [self.across(t, "grid-line") for t in ticks]
        names = [text(self.left - 6, self.y(t) + 3.5, write(t), "e") for t in ticks]
        return join(*lines, *names, text(self.left, self.top - 8, label) if label else "")

    def x_axis(self, ticks: Sequence[tuple[float, str]], label: str = "") -> Html:
        """Draw a base line, ticks with their words, and the name of the axis below them."""
        base = line(self.left, self.y_end, self.x_end, self.y_end, "axis")
        marks = [line(self.x(at), self.y_end, self.x(at), self.y_end + 4, "axis") for at, _ in ticks]
        words = [text(self.x(at), self.y_end + 16, word, "m") for at, word in ticks]
        name = text((self.left + self.x_end) / 2, self.y_end + 32, label, "m") if label else ""
        return join(base, *marks, *words, name)

    def x_numbers(self, label: str = "") -> Html:
        """Draw the horizontal axis with round numbers inside the area."""
        room = 1e-9 * (self.x_high - self.x_low)
        inside = [t for t in nice_ticks(self.x_low, self.x_high) if self.x_low - room <= t <= self.x_high + room]
        return self.x_axis([(t, formats.compact(t)) for t in inside], label)

    def x_grid(self, ticks: Sequence[float], below: float, above: float = 0.0) -> Html:
        """Draw a line down through the area at each tick, and its number `below` the area."""
        marks = [
            join(self.upright(t, "grid-line", above), text(self.x(t), self.y_end + below, formats.compact(t), "m"))
            for t in ticks
        ]
        return join(*marks)


def picture(
    width: float,
    height: float,
    *content: object,
    name: str,
    description: str = "",
    kind: str = "normal",
    most_px: float | None = None,
) -> Html:
    """Draw the whole as one element below its name, with a description for readers who cannot see it.

    `kind` is ``normal`` (scales down to a phone), ``wide`` (scrolls sideways there) or ``spark`` (in a
    cell of a table, without a heading); `most_px` is the greatest width on a page, where it depends on what is drawn.
    """
    heading = "" if kind == "spark" else text(0, 13, name, "head")
    inner = join(tag("title", name), tag("desc", description) if description else "", heading, *content)
    box = f"0 0 {_r(width)} {_r(height)}"
    style = "" if most_px is None else f' style="max-width:{most_px:.0f}px"'
    return Html(f'<svg class="{kind}" viewBox="{box}"{style} role="img" aria-label="{escape(name)}">{inner}</svg>')


def _r(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """Draw a straight line of the class `kind`."""
    return Html(f'<line class="{kind}" x1="{_r(x1)}" y1="{_r(y1)}" x2="{_r(x2)}" y2="{_r(y2)}"/>')


def rect(
    x: float, y: float, width: float, height: float, kind: str, hint: str = "", opacity: float | None = None
) -> Html:
    """Draw a rectangle; `hint` is shown when the pointer rests on it."""
    faded = f' fill-opacity="{opacity:.3g}"' if opacity is not None else ""
    shape = (
        f'<rect class="{kind}" x="{_r(x)}" y="{_r(y)}" width="{_r(max(width, 0))}" height="{_r(max(height, 0))}"{faded}'
    )
    return Html(f"{shape}>{tag('title', hint)}</rect>" if hint else f"{shape}/>")


def circle(x: float, y: float, radius: float, kind: str, hint: str = "") -> Html:
    """Draw a dot; `hint` is shown when the pointer rests on it."""
    tooltip = tag("title", hint) if hint else ""
    return Html(f'<circle class="{kind}" cx="{_r(x)}" cy="{_r(y)}" r="{_r(radius)}">{tooltip}</circle>')


def text(x: float, y: float, words: object, kind: str = "") -> Html:
    """Write words at a place: class `e` ends there, `m` has its middle there."""
    return tag("text", words, class_=kind or None, x=_r(x), y=_r(y))


def path(points: Iterable[tuple[float, float] | None], kind: str, *, close: bool = False) -> Html:
    """Draw a line through points; None lifts the pen."""
    steps: list[str] = []
    lifted = True
    for point in points:
        if point is not None:
            steps.append(f"{'M' if lifted else 'L'}{_r(point[0])} {_r(point[1])}")
        lifted = point is None
    return Html(f'<path class="{kind}" d="{"".join(steps)}{"Z" if close else ""}"/>')


def legend(names: Sequence[str], x: float, y: float, width: float) -> Html:
    """Write names beside a swatch of their colour, wrapped to `width`; the n-th name has the n-th colour."""
    parts: list[Html] = []
    at, row = x, y
    for number, name in enumerate(names, 1):
        room = 18 + LETTER * len(name)
        if at + room > x + width and at > x:
            at, row = x, row + 16
        parts += [rect(at, row - 8, 9, 9, f"f{colour(number)}"), text(at + 13, row, name)]
        at += room + 10
    return join(*parts)


def legend_rows(names: Sequence[str], width: float) -> int:
    """Number of rows that `legend` takes."""
    rows, at = 1, 0.0
    for name in names:
        room = 18 + LETTER * len(name)
        if at + room > width and at > 0:
            rows, at = rows + 1, 0.0
        at += room + 10
    return rows


def colour(number: int) -> int:
    """Number of the colour of a series, 1 … 8, again and again."""
    return (number - 1) % 8 + 1


def shorten(words: str, most: int) -> str:
    """Shorten words to their first and last characters, an ellipsis between them.

    Names of one table often differ at their ends. A character as wide as two, as those of Chinese, counts as two.

    >>> shorten("sensor_reading_17", 12), shorten("Adelie", 12), shorten("日本語のペンギン", 9)
    ('sensor…ng_17', 'Adelie', '日本…ギン')
    """
    if _width(words) <= most:
        return words
    end = _fitting(words[::-1], (most - 1) // 2)[::-1]
    start = _fitting(words, most - 1 - _width(end))
    return f"{start.rstrip()}…{end.lstrip()}"


def _fitting(words: str, most: int) -> str:
    """First characters of the words that there is room for."""
    return words[: sum(width <= most for width in itertools.accumulate(map(_width, words)))]


def _width(words: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in words)

"""Numbers, times and texts as a reader wants them: few digits, the same width, a dash where there is none."""

from __future__ import annotations

import math
import re
from datetime import date, datetime

MISSING = "–"

EMPTY = "(empty)"
"""Stands for a text of no characters."""

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Characters that show nothing, or turn round what stands beside them; not the joiners of scripts and emoji."""


def is_missing(value: object) -> bool:
    """True for None, NaN and infinities: there is nothing to draw or to write."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with `digits` significant digits, thousands parted; integers in full.

    >>> number(0.123456), number(1234567), number(98765.4), number(None), number(0.00001234)
    ('0.1235', '1,234,567', '98,765', '–', '1.234e-05')
    """
    if value is None or is_missing(float(value)):
        return MISSING
    if abs(value) >= 1e15:
        return f"{value:.{digits}g}"
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if len(text) > digits + 3 else text


def compact(value: float) -> str:
    """Write a number for an axis, at most five characters or so; years and their like stay whole.

    >>> compact(12500), compact(2_000_000), compact(0.25), compact(-1500), compact(0), compact(2e250)
    ('12.5k', '2M', '0.25', '-1500', '0', '2e+250')
    """
    if is_missing(float(value)):
        return MISSING
    if abs(value) >= 1e13:
        return f"{value:.3g}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}" if value else "0"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Write a fraction as percent; one that is not 0 is not written as 0.

    >>> percent(0.1234), percent(1), percent(None), percent(0.00001)
    ('12.3%', '100.0%', '–', '<0.1%')
    """
    if fraction is None or is_missing(float(fraction)):
        return MISSING
    least = 10.0**-digits
    return f"<{least:.{digits}f}%" if 0 < 100 * fraction < least / 2 else f"{100 * fraction:.{digits}f}%"


def count(number: int, word: str) -> str:
    """Write a number of things whose plural ends in s.

    >>> count(1, "row"), count(1200, "row"), count(0, "feature")
    ('1 row', '1,200 rows', '0 features')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def interval(low: float | None, high: float | None) -> str:
    """Write both ends of an interval.

    >>> interval(0.71, 0.7345)
    '0.7100 to 0.7345'
    """
    if low is None or high is None or is_missing(float(low)) or is_missing(float(high)):
        return MISSING
    return f"{number(low)} to {number(high)}"


def seconds(value: float | None) -> str:
    """Write a duration in the units that suit it.

    >>> seconds(0.0032), seconds(0.842), seconds(4.25), seconds(95), seconds(7300)
    ('3.2 ms', '842 ms', '4.2 s', '1 min 35 s', '2 h 1 min')
    """
    if value is None or is_missing(float(value)):
        return MISSING
    if value < 0.1:
        return f"{1000 * value:.2g} ms"
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"


def label(value: object) -> str:
    """Write any cell or tick as text: dates short, numbers rounded, booleans as yes and no.

    >>> label(datetime(2013, 11, 4)), label(True), label(0.33333), label("x"), label(None)
    ('2013-11-04', 'yes', '0.3333', 'x', '–')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return (
            f"{value:%Y-%m-%d}" if (value.hour, value.minute, value.second) == (0, 0, 0) else f"{value:%Y-%m-%d %H:%M}"
        )
    if isinstance(value, date):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, int | float):
        return number(value)
    item = getattr(value, "item", None)
    return label(item()) if callable(item) else str(value)


def value(given: object) -> str:
    r"""Write a value of the data: as `label`, and of a text all that it has.

    Blanks that begin or end it put it in quotes, invisible characters are written out.

    >>> value(""), value(" x"), value("a\tb"), value(0.5)
    ('(empty)', "' x'", 'a\\tb', '0.5000')
    """
    if not isinstance(given, str):
        return label(given)
    shown = UNSEEN.sub(lambda match: repr(match[0])[1:-1], given)
    return EMPTY if not given else f"'{shown}'" if given != given.strip(" ") else shown

"""Functions of single values that give the bits of Polars' kernels, or say that they are not sure to.

Each takes and gives plain values, None for null, and raises `UnsureError` where the two could differ: a number beyond
its type, a comparison with NaN, letters beyond ASCII. `/` divides as IEEE 754 has it; by a number that is written out
it multiplies by the reciprocal. ``//`` and ``%`` of integers are rounded towards zero, and null for a divisor 0.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from mlsys.limits import DAY_US, EPOCH, MICROSECOND

Value = Any
Unary = Callable[[Value], Value]
Binary = Callable[[Value, Value], Value]


class UnsureError(Exception):
    """The value is one for which Polars has to be asked."""


INT_BOUNDS = {f"Int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}
"""Smallest and largest value of each type of integers; the names are those of Polars."""

WHOLE = 2.0**52
"""Floats of at least this size have no fraction."""


def within(kind: str, function: Binary) -> Binary:
    """The function, unsure of a result that the type of integers does not hold; there Polars wraps around."""
    low, high = INT_BOUNDS[kind]

    def bounded(left: int, right: int) -> int | None:
        value: int | None = function(left, right)
        if value is not None and not low <= value <= high:
            raise UnsureError
        return value

    return bounded


def quotient(left: int, right: int) -> int | None:
    """Divide integers and round towards zero.

    >>> quotient(-7, 2), quotient(7, 0)
    (-3, None)
    """
    if not right:
        return None
    whole = abs(left) // abs(right)
    return whole if (left < 0) == (right < 0) else -whole


def remainder(left: int, right: int) -> int | None:
    """Give what `quotient` leaves; it has the sign of the dividend.

    >>> remainder(-7, 2), remainder(7, -2)
    (-1, 1)
    """
    if not right:
        return None
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


def divide(left: float, right: float) -> float:
    """Divide floats, unsure of a divisor 0."""
    if not right:
        raise UnsureError
    return left / right


def float_remainder(left: float, right: float) -> float:
    """Give the remainder with the sign of the dividend, which is exact."""
    if not right or math.isinf(left):
        raise UnsureError
    return math.fmod(left, right)


def by_reciprocal(divisor: float) -> Unary:
    """Division by a number that is written out: a product with its reciprocal, which is infinite for 0."""
    inverse = 1.0 / divisor if divisor else math.copysign(math.inf, divisor)
    return lambda value: value * inverse


COMPARE: dict[str, Binary] = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Gt": operator.gt,
    "GtEq": operator.ge,
}


def without_nan(compare: Binary) -> Binary:
    """A comparison of floats that is unsure of NaN, which has a place in Polars' order."""

    def compared(left: float, right: float) -> bool:
        if left != left or right != right:  # noqa: PLR0124 - NaN alone is not itself
            raise UnsureError
        return bool(compare(left, right))

    return compared


def both(left: Value, right: Value) -> bool | None:
    """AND of three values: false if one is, else null if one is (Kleene)."""
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def either(left: Value, right: Value) -> bool | None:
    """OR of three values: true if one is, else null if one is (Kleene)."""
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def absolute(kind: str) -> Unary:
    """Absolute value of an integer; unsure of the smallest one, which has none."""
    low, _ = INT_BOUNDS[kind]

    def positive(value: int) -> int:
        if value == low:
            raise UnsureError
        return abs(value)

    return positive


def floor(value: float) -> float:
    """Round down; the sign of zero stays."""
    return value if not abs(value) < WHOLE else math.copysign(float(math.floor(value)), value)


def ceil(value: float) -> float:
    """Round up; the sign of zero stays."""
    return value if not abs(value) < WHOLE else math.copysign(float(math.ceil(value)), value)


def half_even(value: float) -> float:
    """Round to the nearest whole number, halves to the even one."""
    return value if not abs(value) < WHOLE else math.copysign(float(round(value)), value)


def rounded(decimals: int) -> Unary:
    """Rounding to so many decimals: the product with a power of ten is rounded, halves to the even digit."""
    power = 10.0**decimals

    def to_decimals(value: float) -> float:
        product = value * power
        if not math.isfinite(product):
            raise UnsureError
        return half_even(product) / power

    return to_decimals if decimals else half_even


def root(value: float) -> float:
    """Take the square root, which IEEE 754 rounds correctly; unsure where it is NaN."""
    if not value >= 0:
        raise UnsureError
    return math.sqrt(value)


def whole_number(kind: str) -> Unary:
    """Conversion of a number to a type of integers, fraction cut off; unsure of one that the type does not hold."""
    low, high = INT_BOUNDS[kind]

    def convert(value: float) -> int:
        if not low <= value <= high:
            raise UnsureError
        whole = int(value)
        if whole > high:  # 2**63 - 1 is no float, the next one is beyond
            raise UnsureError
        return whole

    return convert


def ascii_only(change: Callable[[str], str]) -> Unary:
    """A change of letters that is unsure of those beyond ASCII, of which each library has its own tables."""

    def changed(text: str) -> str:
        if not text.isascii():
            raise UnsureError
        return change(text)

    return changed


def piece(offset: int, length: int | None) -> Unary:
    """The characters from an offset on, so many or all; neither is negative."""
    stop = None if length is None else offset + length
    return lambda text: text[offset:stop]


def joined(delimiter: str) -> Callable[[list[Value]], str]:
    """Concatenation of all texts that are not null."""
    return lambda texts: delimiter.join([text for text in texts if text is not None])


def _nanoseconds(value: dt.datetime) -> int:
    passed = (value - (EPOCH if value.tzinfo else EPOCH.replace(tzinfo=None))) // MICROSECOND * 1_000
    low, high = INT_BOUNDS["Int64"]
    if not low <= passed <= high:
        raise UnsureError
    return passed


PARTS: dict[str, Unary] = {
    "Hour": operator.attrgetter("hour"),
    "Minute": operator.attrgetter("minute"),
    "Second": operator.attrgetter("second"),
    "Nanosecond": lambda value: value.microsecond * 1_000,
    "Timestamp": _nanoseconds,
}
"""Parts of a time, by Polars' names."""

DAY_PARTS: dict[str, Unary] = {
    "Year": operator.attrgetter("year"),
    "Quarter": lambda value: (value.month + 2) // 3,
    "Month": operator.attrgetter("month"),
    "Day": operator.attrgetter("day"),
    "Week": lambda value: value.isocalendar()[1],
    "WeekDay": lambda value: value.isoweekday(),
    "OrdinalDay": lambda value: value.timetuple().tm_yday,
}
"""Parts of a date or of a time."""

SPAN = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")
SPAN_US = {
    "us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": DAY_US, "w": 7 * DAY_US,
}  # fmt: skip


def span(text: str) -> dt.timedelta | None:
    """Read a length of time as Polars writes it; None for one of months, which have no one length.

    >>> span("1d12h"), span("-90m"), span("1mo")
    (datetime.timedelta(days=1, seconds=43200), datetime.timedelta(days=-1, seconds=81000), None)
    """
    bare = text.removeprefix("-")
    parts = SPAN.findall(bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        return None
    total = sum(int(number) * SPAN_US[unit] for number, unit in parts)
    return dt.timedelta(microseconds=-total if text.startswith("-") else total)


def moved(sign: int) -> Binary:
    """A time plus or minus a length in nanoseconds."""

    def move(time: dt.datetime, length: int) -> dt.datetime:
        if length % 1_000:
            raise UnsureError
        return time + sign * dt.timedelta(microseconds=length // 1_000)

    return move

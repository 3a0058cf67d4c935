"""Rows on which two ways of computing the same are compared: of each type the values that ways are apt to differ on."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

INTEGERS = (0, 1, -1, 2, 3, -3, 7, 10, 60, 100, -1_000, 2**31 - 1, -(2**31), 2**53, 2**53 + 1, -(2**53) - 1)
FLOATS = (
    0.0, -0.0, 0.1, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -2.5, 3.7, 2.675, 0.49999999999999994, 1e15 + 0.5, 2.0**53, 2.0**63,
    -(2.0**63), 5e-324, 1e-300, -1e300, 1.7976931348623157e308, math.inf, -math.inf, math.nan,
)  # fmt: skip
TEXTS = ("", "a", "A", "b", "ab", "aBc", "Zz9", " a ", "0", "1", "é", "É", "ß", "İ", "日本", "😀a", "x" * 40)
TIMES = tuple(
    dt.datetime.fromisoformat(text)
    for text in (
        "1970-01-01T00:00:00", "1969-12-31T23:59:59.999999", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999",
        "2000-02-29T12:34:56.000001", "2012-12-31T23:59:59", "2013-03-10T07:00:00", "1900-02-28T00:00:00",
        "1677-09-21T00:12:43", "2262-04-11T23:47:17", "2099-12-31T23:59:59", "2021-01-03T06:30:00",
    )
)  # fmt: skip


def probe_rows(kinds: Mapping[str, pa.DataType], literals: Sequence[Any], count: int) -> Iterator[dict[str, Any]]:
    """Give rows of columns of these types, the same ones each time.

    Parameters
    ----------
    kinds
        Columns → type: of integers, floats, booleans, texts, times in microseconds or dates.
    literals
        Values beside which a way may change its course: those and their neighbours are among the values.
    """
    rng = np.random.default_rng(0)
    listed = {name: _values(kind, literals) for name, kind in kinds.items()}
    drawn = {name: _drawing(kind) for name, kind in kinds.items()}
    for place in range(count):
        row = {}
        for name, values in listed.items():
            choice = rng.integers(len(values)) if rng.integers(4) else place % len(values)
            row[name] = drawn[name](rng) if rng.integers(3) == 0 else values[choice]
        yield row


def _values(kind: pa.DataType, literals: Sequence[Any]) -> list[Any]:
    numbers = [value for value in literals if type(value) in (int, float)]
    if pa.types.is_integer(kind):
        low, high = bounds(kind)
        near = [round(value) + step for value in numbers if math.isfinite(value) for step in (-1, 0, 1)]
        return [None, *(value for value in (low, low + 1, high - 1, high, *INTEGERS, *near) if low <= value <= high)]
    if pa.types.is_floating(kind):
        near = [math.nextafter(value, to) for value in numbers for to in (-math.inf, value, math.inf)]
        values = [None, *FLOATS, *map(float, near)]
        return values if kind == pa.float64() else pa.array(values).cast(kind, safe=False).to_pylist()
    if pa.types.is_boolean(kind):
        return [None, False, True]
    if pa.types.is_string(kind):
        texts = [value for value in literals if isinstance(value, str)]
        return [None, *TEXTS, *texts, *(changed for text in texts for changed in (text + "x", text[:-1], text.upper()))]
    return [None, *_times(kind, literals)]


def _times(kind: pa.DataType, literals: Sequence[Any]) -> list[Any]:
    times = [*TIMES, *(value for value in literals if isinstance(value, dt.datetime))]
    if pa.types.is_date(kind):
        return [time.date() for time in times]
    return [time.replace(tzinfo=dt.UTC if kind.tz else None) for time in times]


def bounds(kind: pa.DataType) -> tuple[int, int]:
    """Smallest and largest integer of a type."""
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**kind.bit_width - 1
    return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1


def _drawing(kind: pa.DataType) -> Callable[[np.random.Generator], Any]:
    """The function that draws an ordinary value, of numbers in a size that is drawn too."""
    if pa.types.is_integer(kind):
        low, high = bounds(kind)
        return lambda rng: max(low, min(high, int(rng.normal() * 10.0 ** rng.integers(0, 12))))
    if pa.types.is_floating(kind):
        digits = 2 if kind == pa.float64() else 0
        return lambda rng: float(round(rng.normal() * 10.0 ** rng.integers(0, 6), digits))
    if pa.types.is_boolean(kind):
        return lambda rng: bool(rng.integers(2))
    if pa.types.is_string(kind):
        return lambda rng: "".join(rng.choice(list("abcAB 01-é"), rng.integers(0, 8)))
    if pa.types.is_date(kind):
        return lambda rng: _moment(rng).date()
    zone = dt.UTC if kind.tz else None
    return lambda rng: _moment(rng).replace(tzinfo=zone)


def _moment(rng: np.random.Generator) -> dt.datetime:
    return TIMES[0] + dt.timedelta(seconds=int(rng.integers(0, 2_000_000_000)))

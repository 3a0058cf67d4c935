"""Rows on which two ways of computing the same are compared: of each type the values that ways are apt to differ on."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
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

    All values of a column are drawn at once: a replica does it beside its requests for each version that it loads.

    Parameters
    ----------
    kinds
        Columns → type: of integers, floats, booleans, texts, times in microseconds or dates.
    literals
        Values beside which a way may change its course: those and their neighbours are among the values.
    """
    rng = np.random.default_rng(0)
    columns = []
    listed = {kind: _values(kind, literals) for kind in set(kinds.values())}
    for kind in kinds.values():
        values = listed[kind]
        in_turn, at_random = np.arange(count) % len(values), rng.integers(len(values), size=count)
        choices = np.where(rng.integers(4, size=count) == 0, in_turn, at_random).tolist()
        is_listed = (rng.integers(3, size=count) > 0).tolist()
        pairs = zip(is_listed, choices, _drawn(kind, rng, count), strict=True)
        columns.append([values[choice] if of_list else value for of_list, choice, value in pairs])
    for row in zip(*columns, strict=True):
        yield dict(zip(kinds, row, strict=True))


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


def _drawn(kind: pa.DataType, rng: np.random.Generator, count: int) -> list[Any]:
    """Draw ordinary values, each number in a size that is drawn too."""
    if pa.types.is_integer(kind):
        low, high = bounds(kind)
        numbers = rng.normal(size=count) * 10.0 ** rng.integers(0, 12, size=count)
        return [max(low, min(high, int(number))) for number in numbers.tolist()]
    if pa.types.is_floating(kind):
        digits = 2 if kind == pa.float64() else 0
        numbers = rng.normal(size=count) * 10.0 ** rng.integers(0, 6, size=count)
        return [float(round(number, digits)) for number in numbers.tolist()]
    if pa.types.is_boolean(kind):
        return [flag == 1 for flag in rng.integers(2, size=count).tolist()]
    if pa.types.is_string(kind):
        letters, lengths = rng.choice(list("abcAB 01-é"), (count, 7)), rng.integers(0, 8, size=count)
        return ["".join(row[:length]) for row, length in zip(letters.tolist(), lengths.tolist(), strict=True)]
    moments = [
        TIMES[0] + dt.timedelta(seconds=second) for second in rng.integers(0, 2_000_000_000, size=count).tolist()
    ]
    if pa.types.is_date(kind):
        return [moment.date() for moment in moments]
    zone = dt.UTC if kind.tz else None
    return [moment.replace(tzinfo=zone) for moment in moments]

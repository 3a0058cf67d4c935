"""Convert one value of a request or a cell of a file to the type of its column, or say why it does not fit.

There is one rule for a column, whoever brings the value. A file's texts are read by `mlsys.readers.conversion`,
in training as in prediction; JSON and Python values, which have types of their own, are converted here:

==========  =====================================  ====================================================
column      text of a file, or text of JSON        JSON or Python value
==========  =====================================  ====================================================
int64       ``3``, ``3.0``, ``1e3`` (file only)    3, 3.0; never 3.5 or true
double      ``2.5``, ``1e-3`` (file only)          numbers; an integer that a double cannot hold is refused
bool        true, false, 1, 0 (file only)          true, false
string      any text                               text
timestamp   ISO 8601; local in the zone of         aware times; naive ones are local in the zone of training
            training without an offset; digits
            beyond microseconds are cut
date32      ``2013-10-01``                         dates
binary      base64 of a picture, its path (file    bytes
            only)
list        JSON list of numbers (file only)       list whose every element fits
==========  =====================================  ====================================================

*File only*: in a file the text is all there is (a JSON string in JSON lines is its text), but a request
that sends the text ``"3"`` for a number mixed something up and is refused. A text that counted as missing in
training (`null_values` of the column, such as ``?``) is null, in a request as in a file, and so is pandas' ``NaT``
among the times of a request, which clients write for it. A number, flag or time of a
typed file (Parquet) is converted as in training too, where it is equal in the other type.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from struct import Struct
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import images
from mlsys.features.domains import Clock, clock_of
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.readers.conversion import FIRST_US, LAST_US, time_parts
from mlsys.schema import Column, Kind, arrow_type

NOT_A_TIME = "NaT"
"""The missing time of pandas and NumPy as their JSON has it."""

PICTURE = "base64 text of a PNG or JPEG"


class UnfitError(Exception):
    """The value does not fit; `expected` says what would, `got` what it is where the value itself shows little."""

    def __init__(self, expected: str, got: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got


@dataclass(frozen=True)
class Misfit:
    """A value of a file that could not be read as its column's type, and the reason if there is more to say."""

    written: Any
    reason: str | None = None


class BeyondDouble:
    """A number of a request that no double holds, such as 1e400; no column takes it."""

    def __init__(self, written: str) -> None:
        self.written = written

    def __repr__(self) -> str:
        return f"{self.written[:40]}, beyond a double"


@dataclass(frozen=True)
class Convert:
    """Conversion of one column's values; calling it raises `UnfitError`.

    Attributes
    ----------
    ready
        A type, and bounds: a value of exactly this type within them is taken over as it is. None where none is.
    notation
        The notation that the column's texts have in files, of which a request is told.
    """

    expected: str
    nullable: bool
    minimum: float | None
    maximum: float | None
    allowed: frozenset[Any] | None
    convert: Callable[[Any], Any]
    null_values: frozenset[str] = frozenset()
    ready: tuple[type, Any, Any] | None = None
    notation: str | None = None

    def __call__(self, value: Any) -> Any:
        value = plain(value)
        if _is_missing(value):
            if self.nullable:
                return None
            raise UnfitError(f"{self.expected}, never null")
        try:
            converted = self.convert(value)
        except (ValueError, TypeError, OverflowError):
            if self.nullable and isinstance(value, str) and value.strip() in self.null_values:
                return None
            in_files = isinstance(value, str) and self.notation is not None
            other = f"; texts written as {self.notation} are read in files alone" if in_files else ""
            raise UnfitError(self.expected + other) from None
        is_allowed = self.allowed is None or converted in self.allowed
        is_too_small = self.minimum is not None and converted < self.minimum
        if not is_allowed or is_too_small or (self.maximum is not None and converted > self.maximum):
            raise UnfitError(self.expected)
        return converted


def _is_missing(value: Any) -> bool:
    """Tell null, NaN of every kind, and the missing values of pandas."""
    if value is None or isinstance(value, str | int):
        return value is None
    if isinstance(value, Decimal):  # a signalling NaN may not even be compared
        return value.is_nan()
    differs = value != value  # noqa: PLR0124 - NaN and NaT are unlike themselves, and NA answers with NA
    return differs if isinstance(differs, bool) else True


def converter(column: Column, timezone: str | None = None) -> Convert:
    """The conversion for a column.

    >>> converter(Column(name="age", type="int64", kind="numeric"))(3.0)
    3
    """
    expected, convert = _rule(arrow_type(column.type), timezone)
    if column.kind is Kind.IMAGE and pa.types.is_binary(arrow_type(column.type)):
        expected, convert = PICTURE, _picture
    if column.minimum is not None or column.maximum is not None:
        expected = f"{expected} {_range(column.minimum, column.maximum)}"
    if column.allowed is not None:
        expected = f"one of {', '.join(map(repr, column.allowed))}"
    allowed = None if column.allowed is None else frozenset(column.allowed)
    null_values, ready = frozenset(column.null_values), None if allowed is not None else _ready(column)
    if pa.types.is_temporal(arrow_type(column.type)):
        null_values |= {NOT_A_TIME}
    bounds, notation = (column.minimum, column.maximum), None if column.type == "string" else column.notation
    return Convert(expected, column.nullable, *bounds, allowed, convert, null_values, ready, notation)


def _ready(column: Column) -> tuple[type, Any, Any] | None:
    """The Python type that a column's values have, and the least and largest that it takes."""
    kind = arrow_type(column.type)
    if pa.types.is_boolean(kind):
        return bool, False, True
    if pa.types.is_integer(kind):
        ends: tuple[Any, Any] = _integers(kind)
    elif pa.types.is_float64(kind):
        ends = -math.inf, math.inf  # NaN lies between no two numbers
    else:
        return None
    low = ends[0] if column.minimum is None else max(ends[0], column.minimum)
    high = ends[1] if column.maximum is None else min(ends[1], column.maximum)
    return int if pa.types.is_integer(kind) else float, low, high


def _integers(kind: pa.DataType) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    signed = pa.types.is_signed_integer(kind)
    return -(2 ** (kind.bit_width - 1)) if signed else 0, 2 ** (kind.bit_width - signed) - 1


def plain(value: Any) -> Any:
    """Convert a scalar or an array of NumPy to a value of Python, and return any other value as it is.

    >>> plain(np.int64(3)), plain(np.datetime64("2013-10-01T08:00", "ns")), plain(np.array([1.5]))
    (3, datetime.datetime(2013, 10, 1, 8, 0), [1.5])
    """
    if isinstance(value, np.ndarray):
        return value.tolist()
    if not isinstance(value, np.generic):
        return value
    if isinstance(value.item(), int) and isinstance(value, np.datetime64 | np.timedelta64):
        kind = "M8[us]" if isinstance(value, np.datetime64) else "m8[us]"
        value = value.astype(kind)  # of nanoseconds, which no time of Python has
    return float(value) if isinstance(value, np.longdouble) else value.item()


def shown(value: Any) -> str:
    """A value as a client would recognise it, cut to a line.

    >>> shown("3"), shown(3.5), shown(True), shown(None)
    ("text '3'", 'number 3.5', 'true', 'null')
    """
    if isinstance(value, Misfit):
        text = shown(value.written)
        return text if value.reason is None else f"{text}: {value.reason}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    words = {str: "text", int: "number", float: "number", BeyondDouble: "number", list: "list", dict: "object"}
    text = f"{words.get(type(value), type(value).__name__)} {_start(value)}"
    return text if len(text) <= 80 else text[:79] + "…"


def _start(value: Any) -> str:
    """The begin of a value's text, enough to be cut: a client's value may be long or nested deeply."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, list | dict):
        return _SHORT.repr(value)
    try:
        return repr(value)[:80]
    except ValueError:  # an integer of more digits than Python writes
        return "of many digits"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring = 4, 20, 20, 80


def to_json(value: Any) -> Any:
    """A value as JSON says it: times as ISO text, bytes as base64, decimals as text, what is no number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is None:
        return f"of at most {maximum:g}"
    return f"of at least {minimum:g}" if maximum is None else f"from {minimum:g} to {maximum:g}"


def _rule(kind: pa.DataType, timezone: str | None) -> tuple[str, Callable[[Any], Any]]:
    if pa.types.is_boolean(kind):
        return "true or false", _boolean
    if pa.types.is_integer(kind):
        return f"an integer ({kind})", _integer(kind)
    if pa.types.is_floating(kind):
        return "a number", _floating(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text", _text
    if pa.types.is_timestamp(kind):
        if not kind.tz:
            zone, example = "without a zone", "2013-10-01T08:00:00"
        else:
            zone = f"with an offset, or local in {timezone}" if timezone else "with a zone"
            example = "2013-10-01T08:00:00Z"
        return f"an ISO 8601 time {zone}, e.g. {example}", _timestamp(kind, timezone)
    return _rare_rule(kind, timezone)


def _rare_rule(kind: pa.DataType, timezone: str | None) -> tuple[str, Callable[[Any], Any]]:
    if pa.types.is_date(kind):
        return "an ISO 8601 date, e.g. 2013-10-01", _date
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "base64 text", _binary
    if pa.types.is_decimal(kind):
        return f"a number with at most {kind.scale} decimals", _decimal(kind)
    if pa.types.is_list(kind):
        expected, convert = _rule(kind.value_type, timezone)
        return f"a list of which each is {expected}", _list(convert)
    return "anything (it is not read)", lambda _value: None


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _integer(kind: pa.DataType) -> Callable[[Any], int]:
    low, high = _integers(kind)

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeError
        number = int(value)
        if number != value or not low <= number <= high:
            raise ValueError
        return number

    return convert


def _floating(kind: pa.DataType) -> Callable[[Any], float]:
    exact = {"halffloat": 2**11, "float": 2**24, "double": 2**53}[str(kind)]
    narrow = {"float": Struct("<f"), "halffloat": Struct("<e")}.get(str(kind))

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeError
        number = float(value)
        if narrow is not None and math.isfinite(number):
            (number,) = narrow.unpack(narrow.pack(number))  # an `OverflowError` beyond the type's numbers
        if isinstance(value, int) and abs(value) > exact and int(number) != value:
            raise ValueError
        return number

    return convert


def _text(value: Any) -> str:
    if isinstance(value, str):
        value.encode()  # a lone surrogate is no text that Arrow could hold
        return value
    raise TypeError


def _timestamp(kind: pa.DataType, timezone: str | None) -> Callable[[Any], dt.datetime]:
    clock = clock_of(timezone) if timezone and kind.tz else None

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            value, offset_s = time_parts(value)
            if offset_s is not None:
                value = _utc(value, offset_s)
        if not isinstance(value, dt.datetime):
            raise TypeError
        if value.tzinfo is None and clock is not None:
            value = _local(value, clock)
        if (value.tzinfo is None) != (kind.tz is None):
            raise ValueError
        value = value if kind.tz is None else value.astimezone(dt.UTC)
        return value if kind.unit == "us" else pa.scalar(value, kind).as_py()

    return convert


def _local(shown_time: dt.datetime, clock: Clock) -> dt.datetime:
    """A time on a zone's clock as UTC; beyond the calendar, its last or first moment."""
    try:
        return clock.utc(shown_time)
    except OverflowError:
        return EPOCH + (LAST_US if shown_time.year > EPOCH.year else FIRST_US) * MICROSECOND


def _utc(local: dt.datetime, offset_s: int) -> dt.datetime:
    """A wall-clock time with its offset as UTC; beyond the calendar, its last or first moment."""
    if not offset_s:
        return local.replace(tzinfo=dt.UTC)
    us = (local.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND - offset_s * 1_000_000
    return EPOCH + min(max(us, FIRST_US), LAST_US) * MICROSECOND


def _date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime):
        raise TypeError
    if isinstance(value, dt.date):
        return value
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if len(text) != 10 or text[4] != "-" or text[7] != "-":  # Python reads weeks and bare digits besides
        raise ValueError
    return dt.date.fromisoformat(text)


def _binary(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, AttributeError) as error:
        raise TypeError from error


def _picture(value: Any) -> bytes:
    data = _binary(value)
    fault = images.fault(data)
    if fault is not None:
        raise UnfitError(PICTURE, f"{len(data):,} bytes: {fault}")
    return data


def _decimal(kind: pa.DataType) -> Callable[[Any], Decimal]:
    def convert(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeError
        return pa.scalar(Decimal(str(value)), kind).as_py()  # type: ignore[no-any-return]

    return convert


def _list(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def convert_each(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError
        return [None if element is None else convert(element) for element in value]

    return convert_each

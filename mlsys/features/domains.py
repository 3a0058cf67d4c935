"""Domains: the reading of a value, to the same meaning in a column and in a single row.

A domain pairs a Polars expression with a Python function; both take what the other takes,
give null where the other gives None, and refuse the same types with the same error.

==========  ==========================  ================================================
domain      accepts                     gives
==========  ==========================  ================================================
`number`    integers, floats, decimals  float64; null for NaN and beyond float32's range
`text`      text                        the text
`boolean`   true and false              true and false
`instant`   times with a zone           the wall clock of the recipe's zone
`clock`     times without a zone        the same time
`date`      dates                       the same date
`bytes`     bytes                       the same bytes
`numbers`   lists of numbers            the list, each element as in `number`
==========  ==========================  ================================================

A `Clock` gives the wall clock of a time zone for single times, by the rules that whole columns are read
with. Polars carries its own rules of time zones, Python takes those of the machine, which differ from one
to the next: a request could get another hour than the training rows. So the changes of a zone's
clock are taken from Polars, once, and looked up.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys import errors
from mlsys.limits import DAY_US, EPOCH, FLOAT32_MAX, LAST_YEAR, LAST_YEAR_END_US, YEAR_1_US

SHOWN_AT_EPOCH = EPOCH.replace(tzinfo=None)

FIRST, LAST = (int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in (1800, 2101))
"""Seconds since 1970 between which clocks are changed: before, towns had their own; after, no time is read."""

STEP = 6 * 3600
"""No zone changes its clock twice within six hours."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clock:
    """The clock on the wall in a time zone.

    Attributes
    ----------
    starts
        Times at which it is changed, UTC without saying so.
    offsets
        What is added to UTC before the first of them, and from each on.
    """

    starts: tuple[dt.datetime, ...]
    offsets: tuple[dt.timedelta, ...]

    def local(self, time: dt.datetime) -> dt.datetime:
        """Read the clock at a time that has a zone; `OverflowError` if the reading would leave the calendar."""
        utc = SHOWN_AT_EPOCH + (time - EPOCH)
        return utc + self.offsets[bisect_right(self.starts, utc)]

    def utc(self, shown: dt.datetime) -> dt.datetime:
        """The time at which the clock shows this; the first one in an hour that comes twice.

        Raises
        ------
        ValueError
            It never shows this: the hour was left out.
        OverflowError
            The time would leave the calendar.
        """
        change = bisect_right(self.starts, shown)
        near = self.offsets[max(change - 2, 0) : change + 3]  # a clock is less than a day from UTC
        matches = []
        fault: Exception = ValueError(shown)
        for offset in near:
            try:
                time = shown.replace(tzinfo=dt.UTC) - offset
                if self.local(time) == shown:
                    matches.append(time)
            except OverflowError as error:  # by one of the offsets, which need not be the one that holds then
                fault = error
        if not matches:
            raise fault
        return min(matches)


@cache
def clock_of(zone: str) -> Clock:
    """The clock of a zone; it is made once, in some hundredths of a second.

    >>> clock_of("America/New_York").local(dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC))
    datetime.datetime(2013, 7, 1, 8, 0)
    """
    starts, offsets = ([dt.timedelta(seconds=each) for each in seconds.tolist()] for seconds in _changes(zone))
    return Clock(tuple(SHOWN_AT_EPOCH + start for start in starts), tuple(offsets))


def _changes(zone: str) -> tuple[Ints, Ints]:
    """Seconds since 1970 at which the clock is changed, and its offset to UTC before the first and from each on."""
    grid = np.arange(FIRST, LAST, STEP)
    offset = _offset(grid, zone)
    (before,) = np.nonzero(np.diff(offset))
    low, high = grid[before], grid[before + 1]
    while (high - low > 1).any():
        middle = (low + high) // 2
        same = _offset(middle, zone) == offset[before]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return high, np.concatenate([offset[:1], offset[before + 1]])


def _offset(seconds: Ints, zone: str) -> Ints:
    """Seconds that the clock of the zone is before UTC, at times in seconds since 1970."""
    utc = pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.to_physical().to_numpy() // 1_000_000 - seconds


YEAR_2101_US = LAST_YEAR_END_US + 365 * DAY_US
"""Outside of the years 1 to 2100 a conversion between zones could leave the calendar."""

PLAIN: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "text": pl.String,
    "boolean": pl.Boolean,
    "bytes": pl.Binary,
    "numbers": pl.List(pl.Float64),
}
"""Domains whose values are taken as they are."""

TIMES = ("instant", "clock", "date")

Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Domain:
    """The kind of values that a column holds; of an `instant`, the wall clock of `zone` counts."""

    name: str
    zone: str = "UTC"

    def accepts(self, kind: pa.DataType) -> bool:
        """True if a column of this Arrow type can be read; one of nulls alone always can."""
        return pa.types.is_null(kind) or name_of(kind) == self.name

    def expr(self, column: str) -> pl.Expr:
        value = pl.col(column)
        if self.name == "number":
            value = value.cast(pl.Float64)
            return pl.when(value.is_between(-FLOAT32_MAX, FLOAT32_MAX)).then(value)
        if self.name in PLAIN:
            return value.cast(PLAIN[self.name])
        if self.name == "date":
            return _until(value.cast(pl.Date), DAY_US)
        return _until(_clock(value, self.zone if self.name == "instant" else None))

    def reader(self, column: str) -> Reader:
        """The function that reads one value; it raises `RequestError` for a value of another type."""
        if self.name in TIMES:
            return _time_reader(self, column)
        return READERS[self.name](self, column)

    def refuse(self, column: str, got: str) -> errors.RequestError:
        return refuse(column, got, EXPECTED[self.name])


def refuse(column: str | None, got: str, expected: str) -> errors.RequestError:
    """The error of a value in the only row, or of a whole column."""
    return errors.RequestError.of([{"row": 0, "field": column, "got": got, "expected": expected}])


EXPECTED = {
    "number": "a number",
    "text": "text",
    "boolean": "true or false",
    "instant": "a time with its zone",
    "clock": "a time without zone",
    "date": "a date",
    "bytes": "bytes",
    "numbers": "a list of numbers",
}


def name_of(kind: pa.DataType) -> str | None:
    """Name of the domain of a type; None for a type that no operation reads."""
    tests = {
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "boolean": (pa.types.is_boolean,),
        "date": (pa.types.is_date,),
        "bytes": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    }
    if pa.types.is_dictionary(kind):
        return name_of(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "instant" if kind.tz else "clock"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return "numbers" if pa.types.is_null(kind.value_type) or name_of(kind.value_type) == "number" else None
    return next((name for name, holds in tests.items() if any(test(kind) for test in holds)), None)


def domain_of(kind: pa.DataType, zone: str = "UTC") -> Domain | None:
    """Domain of an Arrow type; None for one that no operation reads (times of day, lists of other things)."""
    name = name_of(kind)
    return None if name is None else Domain(name, zone if name == "instant" else "UTC")


def in_utc(table: pa.Table) -> pa.Table:
    """Turn times in other zones, fixed offsets among them, into the same instants in UTC."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz not in (None, "UTC"):
            kind = pa.timestamp(field.type.unit, "UTC")
            table = table.set_column(place, pa.field(field.name, kind), table[field.name].cast(kind))
    return table


def _clock(value: pl.Expr, zone: str | None) -> pl.Expr:
    """The wall clock of a time in microseconds; null far outside of the calendar."""
    if zone is None:
        return value.cast(pl.Datetime("us"))
    utc = value.cast(pl.Datetime("us", "UTC"))
    inside = utc.to_physical().is_between(YEAR_1_US, YEAR_2101_US, closed="left")
    return pl.when(inside).then(utc).dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _until(value: pl.Expr, unit: int = 1) -> pl.Expr:
    """The time, null outside of the years 1 to `LAST_YEAR`; `unit` is in microseconds."""
    inside = value.to_physical().is_between(YEAR_1_US // unit, LAST_YEAR_END_US // unit, closed="left")
    return pl.when(inside).then(value)


NUMBERS = (int, float, np.integer, np.floating, Decimal)


def _number_reader(domain: Domain, column: str) -> Reader:
    def read(value: Any) -> float | None:
        kind = type(value)
        if kind is not float:
            if value is None:
                return None
            if kind is not int and (kind is bool or not isinstance(value, NUMBERS)):
                raise domain.refuse(column, kind.__name__)
            try:
                value = float(value)
            except OverflowError:
                return None
        return value if -FLOAT32_MAX <= value <= FLOAT32_MAX else None

    return read


def _numbers_reader(domain: Domain, column: str) -> Reader:
    read_number = _number_reader(domain, column)

    def read(value: Any) -> list[float | None] | None:
        if value is None:
            return None
        if not isinstance(value, list | tuple | np.ndarray):
            raise domain.refuse(column, type(value).__name__)
        return [read_number(element) for element in value]

    return read


def _plain_reader(domain: Domain, column: str, kind: type) -> Reader:
    def read(value: Any) -> Any:
        if value is None or isinstance(value, kind):
            return value
        if kind is bool and isinstance(value, np.bool_):
            return bool(value)
        raise domain.refuse(column, type(value).__name__)

    return read


READERS: Mapping[str, Callable[[Domain, str], Reader]] = {
    "number": _number_reader,
    "text": partial(_plain_reader, kind=str),
    "boolean": partial(_plain_reader, kind=bool),
    "numbers": _numbers_reader,
    "bytes": partial(_plain_reader, kind=bytes),
}


def _time_reader(domain: Domain, column: str) -> Reader:
    clock = _clock_reader(domain)

    def read(value: Any) -> dt.date | None:
        if value is None:
            return None
        if _time_name(value) != domain.name:
            raise domain.refuse(column, _time_name(value) or type(value).__name__)
        try:
            value = clock(value)
        except OverflowError:
            return None
        return value if value.year <= LAST_YEAR else None

    return read


def _clock_reader(domain: Domain) -> Callable[[Any], dt.date]:
    if domain.name != "instant":
        return lambda value: value
    if domain.zone == "UTC":
        return lambda value: value if value.tzinfo is dt.UTC else value.astimezone(dt.UTC)
    return clock_of(domain.zone).local


def _time_name(value: Any) -> str | None:
    if isinstance(value, dt.datetime):
        return "clock" if value.tzinfo is None else "instant"
    return "date" if isinstance(value, dt.date) else None

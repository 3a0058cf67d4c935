"""Operations on times: ``datetime``, parts by the wall clock; ``elapsed``, days since another column; ``trend``.

A part (time of day, day of the week, day of the year) is a whole number of a cycle, looked up
in a table: as a number for trees, as a point of the circle for linear models, where 23:59 lies
beside 00:00. How long ago something was, seen from now, only ever grows and is no feature by itself; how
long ago it was when the row was made is one: it means the same in every year. A ``trend``, days since training
began, tells a tree the level of the latest rows, which it takes for all later ones; selection tries it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features.domains import TIMES, Domain, domain_of
from mlsys.features.operations.operation import (
    FitInputs,
    Matrix,
    Operation,
    OperationSpec,
    PlanInputs,
    Scaling,
    Writer,
    divisor,
    row_copier,
)
from mlsys.limits import DAY_US, LAST_YEAR, YEAR_1_US
from mlsys.recipe.columns import DatetimeOptions, ElapsedOptions, TrendOptions
from mlsys.schema import arrow_type


@dataclass(frozen=True)
class Cycle:
    """A part of a time that comes again and again.

    Attributes
    ----------
    length
        Numbers in the cycle: minutes of a day, days of a week, days of a leap year.
    unit
        Numbers of the cycle in one unit of the feature.
    seen_after_us
        Microseconds after which all of the cycle has been seen.
    """

    title: str
    length: int
    unit: int
    seen_after_us: int


MINUTE_US = 60_000_000

CYCLES = {
    "hour": Cycle("hour of the day", 1440, 60, DAY_US),
    "weekday": Cycle("day of the week, Monday 0", 7, 1, 7 * DAY_US),
    "yearday": Cycle("day of the year, 1 January 0", 366, 1, 365 * DAY_US),
}


@dataclass(frozen=True)
class Datetime(Operation):
    """Take some parts of a time, by their names in `CYCLES`.

    Attributes
    ----------
    cyclic
        Sine and cosine in place of the number; a missing time is (0, 0), the middle of the circle.
    indicator
        One more column says where the time was missing.
    """

    parts: tuple[str, ...] = tuple(CYCLES)
    cyclic: bool = False
    indicator: bool = False

    name = "datetime"

    @property
    def outputs(self) -> list[str]:
        forms = [": {} (sin)", ": {} (cos)"] if self.cyclic else [": {}"]
        names = [self.column + form.format(part) for part in self.parts for form in forms]
        return self._with_indicator(names, indicator=self.indicator)

    @cached_property
    def tables(self) -> list[Matrix]:
        tables = [cycle_table(CYCLES[part], cyclic=self.cyclic) for part in self.parts]
        return [*tables, np.array([[0.0], [1.0]], np.float32)] if self.indicator else tables

    def raw(self) -> list[pl.Expr]:
        """Microseconds since the year 1, -1 where the time is missing."""
        time = self.domain.expr(self.column).cast(pl.Datetime("us")).to_physical()
        return [(time - YEAR_1_US).fill_null(-1)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        us = raw[0].to_numpy()
        missing, day = us < 0, us // DAY_US
        rows = [np.where(missing, CYCLES[part].length, IN_COLUMNS[part](us, day)) for part in self.parts]
        start = 0
        for row, table in zip([*rows, missing.astype(np.intp)], self.tables, strict=False):
            out[:, start : start + table.shape[1]] = table.take(row, axis=0)
            start += table.shape[1]

    def writer(self, start: int) -> Writer:
        read = self.domain.reader(self.column)
        starts = itertools.accumulate((table.shape[1] for table in self.tables[:-1]), initial=start)
        puts = [row_copier(table, at) for table, at in zip(self.tables, starts, strict=True)]
        parts = [NUMBERS[part] for part in self.parts]
        missing = [CYCLES[part].length for part in self.parts]
        mark = puts[-1] if self.indicator else None

        def write(value: Any, out: Matrix) -> None:
            time = read(value)
            for put, number, none in zip(puts, parts, missing, strict=False):
                put(out, none if time is None else number(time))
            if mark is not None:
                mark(out, int(time is None))

        return write


def cycle_table(cycle: Cycle, *, cyclic: bool) -> Matrix:
    """A table ``(length + 1, 1 or 2)`` of the cycle's numbers, the last row for a missing one."""
    if not cyclic:
        return np.array([*(at / cycle.unit for at in range(cycle.length)), math.nan], np.float32)[:, np.newaxis]
    angles = [2 * math.pi * at / cycle.length for at in range(cycle.length)]
    return np.array([*((math.sin(a), math.cos(a)) for a in angles), (0.0, 0.0)], np.float32)


@cache
def yeardays() -> npt.NDArray[np.int16]:
    """Day of the year, from 0, of each day since 0001-01-01, and the last one for a missing time."""
    days = np.arange("0001-01-01", f"{LAST_YEAR + 1:04}-01-01", dtype="datetime64[D]")
    return np.append((days - days.astype("datetime64[Y]")).astype(np.int16), np.int16(0))


def _minute(time: dt.date) -> int:
    return time.hour * 60 + time.minute if isinstance(time, dt.datetime) else 0


def _yearday(time: dt.date) -> int:
    return time.toordinal() - FIRST_DAYS[time.year]


IN_COLUMNS: dict[str, Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.integer[Any]]]] = {
    "hour": lambda us, day: (us - day * DAY_US) // MINUTE_US,
    "weekday": lambda _, day: day % 7,
    "yearday": lambda _, day: yeardays().take(day),
}
"""The number of a part from microseconds and days since Monday, 1 January of the year 1; days may be -1."""

FIRST_DAYS = [0, *(dt.date(year, 1, 1).toordinal() for year in range(1, LAST_YEAR + 1))]
"""Number of the first day of each year."""

NUMBERS: dict[str, Callable[[dt.date], int]] = {"hour": _minute, "weekday": dt.date.weekday, "yearday": _yearday}
"""The same number of a Python time."""

EPOCH_DATETIME = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a reading of a clock, from which others are counted
EPOCH_UTC = EPOCH_DATETIME.replace(tzinfo=dt.UTC)
US = dt.timedelta(microseconds=1)
US_IN_DAYS = 1.0 / DAY_US


@dataclass(frozen=True)
class Elapsed(Operation):
    """Count the days from the time of the column `since` to that of `column`; negative if `column` comes first."""

    since: str = ""
    since_domain: Domain = field(default_factory=lambda: Domain("date"))
    scaling: Scaling = field(default_factory=Scaling)

    name = "elapsed"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column, self.since)

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: days since {self.since}"]
        return [*names, f"{names[0]} is missing"] if self.scaling.indicator else names

    def raw(self) -> list[pl.Expr]:
        end, start = (
            domain.expr(column).cast(pl.Datetime("us")).to_physical()
            for column, domain in ((self.column, self.domain), (self.since, self.since_domain))
        )
        days = (end - start).cast(pl.Float64) * US_IN_DAYS
        number = self.scaling.expr(days)
        return [number, days.is_null().cast(pl.Float32)] if self.scaling.indicator else [number]

    def writer(self, start: int) -> Writer:
        read, read_since = self.domain.reader(self.column), self.since_domain.reader(self.since)
        apply, missing, indicator = self.scaling.apply, self.scaling.missing, self.scaling.indicator

        def write(values: Any, out: Matrix) -> None:
            end, begin = read(values[0]), read_since(values[1])
            absent = end is None or begin is None
            out[start] = missing if absent else apply((_microseconds(end) - _microseconds(begin)) * US_IN_DAYS)
            if indicator:
                out[start + 1] = absent

        return write


@dataclass(frozen=True)
class Trend(Operation):
    """Count the days from `origin`, in microseconds since 1970, to the time."""

    origin: int = 0
    scaling: Scaling = field(default_factory=Scaling)

    name = "trend"

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([f"{self.column}: days"], indicator=self.scaling.indicator)

    def raw(self) -> list[pl.Expr]:
        time = self.domain.expr(self.column).cast(pl.Datetime("us")).to_physical()
        days = (time - self.origin).cast(pl.Float64) * US_IN_DAYS
        number = self.scaling.expr(days)
        return [number, days.is_null().cast(pl.Float32)] if self.scaling.indicator else [number]

    def writer(self, start: int) -> Writer:
        read, origin = self.domain.reader(self.column), self.origin
        apply, missing, indicator = self.scaling.apply, self.scaling.missing, self.scaling.indicator

        def write(value: Any, out: Matrix) -> None:
            time = read(value)
            out[start] = missing if time is None else apply((_microseconds(time) - origin) * US_IN_DAYS)
            if indicator:
                out[start + 1] = time is None

        return write


def _microseconds(time: dt.date) -> int:
    """Since 1970, by the clock that `time` was read from; a date begins at midnight."""
    if not isinstance(time, dt.datetime):
        time = dt.datetime.combine(time, dt.time())
    return (time - (EPOCH_DATETIME if time.tzinfo is None else EPOCH_UTC)) // US


def cycles_seen(inputs: PlanInputs) -> list[str]:
    """Parts of a time whose whole cycle the training rows span.

    The outermost percent on either side does not count: there are the stand-ins such as 9999-12-31.
    """
    low, high = inputs.statistics.quantiles([0.01, 0.99])
    span = (high - low) / 0.98
    domain = domain_of(arrow_type(inputs.column.type))
    parts = [part for part in CYCLES if part != "hour" or (domain is not None and domain.name != "date")]
    return [part for part in parts if span >= CYCLES[part].seen_after_us]


def _fit_datetime(inputs: FitInputs) -> Datetime:
    parts, cyclic = tuple(inputs.params["parts"]), inputs.params.get("cyclic", inputs.dense)
    indicator = cyclic and inputs.statistics.num_nulls > 0
    return Datetime(inputs.column, inputs.domain, parts, cyclic=cyclic, indicator=indicator)


def _fit_elapsed(inputs: FitInputs) -> Elapsed:
    end, start = inputs.domains
    if end.name == start.name == "instant":
        # Compared as such: an hour of the clock that comes twice is two hours. An instant beside a time without a
        # zone is read from the clock on the wall.
        end, start = Domain("instant"), Domain("instant")
    scaling = Scaling(fill=0.0, indicator=True, log=True) if inputs.dense else Scaling()
    return Elapsed(inputs.column, end, inputs.params["since"], start, scaling)


def _fit_trend(inputs: FitInputs) -> Trend:
    domain = Domain("instant") if inputs.domain.name == "instant" else inputs.domain
    low, high = inputs.statistics.quantiles([0.01, 0.99])
    days = (high - low) * US_IN_DAYS
    if not (math.isfinite(low) and math.isfinite(days)):
        return Trend(inputs.column, domain)
    # Uniform times between both ends have this deviation.
    centred = Scaling(days / 2, divisor(days / math.sqrt(12)), days / 2, inputs.statistics.num_nulls > 0)
    return Trend(inputs.column, domain, int(low), centred if inputs.dense else Scaling())


DATETIME = OperationSpec(
    DatetimeOptions,
    TIMES,
    fitted=(Datetime,),
    fit=_fit_datetime,
    params=lambda inputs: {"parts": cycles_seen(inputs) or ["weekday"]},
    sparse_options={"cyclic": False},
)
ELAPSED = OperationSpec(ElapsedOptions, TIMES, fitted=(Elapsed,), fit=_fit_elapsed)
TREND = OperationSpec(TrendOptions, TIMES, fitted=(Trend,), fit=_fit_trend)

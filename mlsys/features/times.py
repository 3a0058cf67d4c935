"""Parts of a time by the wall clock: time of day, day of the week, day of the year.

A part is a whole number of a cycle, looked up in a table: as a number for trees, as a
point of the circle for linear models, where 23:59 lies beside 00:00. How long ago something
was is no part: a model that learned from January to August has never seen October.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlsys.features.lookups import putter
from mlsys.features.operations import Matrix, Operation, Writer
from mlsys.features.values import Domain

__all__ = ["CYCLES", "Cycle", "Datetime"]


@dataclass(frozen=True)
class Cycle:
    """A part of a time.

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


DAY_US = 86_400_000_000

CYCLES = {
    "hour": Cycle("hour of the day", 1440, 60, DAY_US),
    "weekday": Cycle("day of the week, Monday 0", 7, 1, 7 * DAY_US),
    "yearday": Cycle("day of the year, 1 January 0", 366, 1, 365 * DAY_US),
}


@dataclass(frozen=True)
class Datetime(Operation):
    """Some parts of a time.

    Attributes
    ----------
    parts
        Keys of `CYCLES`.
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
        return [*names, f"{self.column} is missing"] if self.indicator else names

    @cached_property
    def tables(self) -> list[Matrix]:
        tables = [cycle_table(CYCLES[part], cyclic=self.cyclic) for part in self.parts]
        return [*tables, np.array([[0.0], [1.0]], np.float32)] if self.indicator else tables

    def raw(self) -> list[pl.Expr]:
        time = self.domain.expr(self.column)
        rows = [_number(time, part, self.domain).fill_null(CYCLES[part].length) for part in self.parts]
        return [*rows, time.is_null().cast(pl.Int32)] if self.indicator else rows

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        start = 0
        for series, table in zip(raw, self.tables, strict=True):
            out[:, start : start + table.shape[1]] = table[series.to_numpy()]
            start += table.shape[1]

    def writer(self, start: int) -> Writer:
        read = self.domain.reader(self.column)
        starts = [start + len(self.outputs[: 2 * at if self.cyclic else at]) for at in range(len(self.tables))]
        puts = [putter(table, at) for table, at in zip(self.tables, starts, strict=True)]
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
    """``(length + 1, 1 or 2)``: each number of the cycle, and what a missing one becomes."""
    if not cyclic:
        return np.array([*(at / cycle.unit for at in range(cycle.length)), math.nan], np.float32)[:, np.newaxis]
    angles = [2 * math.pi * at / cycle.length for at in range(cycle.length)]
    return np.array([*((math.sin(a), math.cos(a)) for a in angles), (0.0, 0.0)], np.float32)


def _number(time: pl.Expr, part: str, domain: Domain) -> pl.Expr:
    if part == "weekday":
        number = time.dt.weekday().cast(pl.Int32) - 1
    elif part == "yearday":
        number = time.dt.ordinal_day().cast(pl.Int32) - 1
    elif domain.name == "date":
        number = pl.when(time.is_not_null()).then(pl.lit(0, pl.Int32))
    else:
        number = time.dt.hour().cast(pl.Int32) * 60 + time.dt.minute().cast(pl.Int32)
    return number


def _minute(time: dt.date) -> int:
    return time.hour * 60 + time.minute if isinstance(time, dt.datetime) else 0


def _weekday(time: dt.date) -> int:
    return time.weekday()


def _yearday(time: dt.date) -> int:
    return time.timetuple().tm_yday - 1


NUMBERS: dict[str, Callable[[dt.date], int]] = {"hour": _minute, "weekday": _weekday, "yearday": _yearday}
"""The same number of a Python time."""

"""The time between two columns, in days: the one operation that reads two of them.

How long ago something was, seen from now, only ever grows, and is no feature (see `times`).
How long ago it was when the row was made is one: it means the same in every year.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from mlsys.features.operations import Matrix, Operation, Scaling, Writer
from mlsys.features.times import DAY_US
from mlsys.features.values import Domain

__all__ = ["Elapsed", "comparable"]

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a reading of a clock, from which others are counted
EPOCH_UTC = EPOCH.replace(tzinfo=dt.UTC)
US = dt.timedelta(microseconds=1)
US_IN_DAYS = 1.0 / DAY_US


@dataclass(frozen=True)
class Elapsed(Operation):
    """Days from the time of `since` to that of `column`, negative where it comes first.

    Attributes
    ----------
    since, since_domain
        The other column, and how it is read.
    """

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


def comparable(one: Domain, other: Domain) -> tuple[Domain, Domain]:
    """The domains in which two times are subtracted.

    Two instants are compared as such: an hour of the clock that comes twice is two hours. An
    instant beside a time without a zone is read from the clock on the wall.
    """
    if one.name == other.name == "instant":
        return Domain("instant"), Domain("instant")
    return one, other


def _microseconds(time: dt.date) -> int:
    """Since 1970, by the clock that `time` was read from; a date begins at midnight."""
    if not isinstance(time, dt.datetime):
        time = dt.datetime.combine(time, dt.time())
    return (time - (EPOCH if time.tzinfo is None else EPOCH_UTC)) // US

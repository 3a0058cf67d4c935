"""Spans of time that may count months, such as ``14d``, ``3mo`` or ``1y``, and times that lie a span later.

A month is one of the calendar: 31 January and a month is the last day of February. Everything else has a fixed length;
a day has 24 hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import polars as pl

UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Microseconds in a unit; a week is written 7d. Days have 24 hours: instants know no summer time."""

MONTHS = {"mo": 1, "y": 12}
"""Months of the calendar in a unit."""

MONTH_US = 2_629_800_000_000
"""Microseconds of a month in the mean of four years: 365.25 days / 12."""

PATTERN = rf"^(\d+)({'|'.join([*UNITS_US, *MONTHS])})$"


@dataclass(frozen=True)
class Period:
    """A span of either months of the calendar or microseconds; the other one is 0."""

    months: int = 0
    us: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a span.

        >>> Period.parse("1y"), Period.parse("2s")
        (Period(months=12, us=0), Period(months=0, us=2000000))

        Raises
        ------
        ValueError
            The text is not a number above 0 with a unit.
        """
        match = re.fullmatch(PATTERN, text)
        if match is None or int(match[1]) == 0:
            raise ValueError(f"a number above 0 and a unit of {', '.join([*UNITS_US, *MONTHS])}, e.g. 14d, 3mo or 1y")
        number, unit = int(match[1]), match[2]
        return cls(months=number * MONTHS[unit]) if unit in MONTHS else cls(us=number * UNITS_US[unit])

    def __str__(self) -> str:
        """The span in the largest unit that holds it.

        >>> str(Period(us=7_200_000_000)), str(Period(months=12)), str(Period(months=18))
        ('2h', '1y', '18mo')
        """
        length, units = (self.months, MONTHS) if self.months else (self.us, UNITS_US)
        unit = next(unit for unit in reversed(units) if length % units[unit] == 0)
        return f"{length // units[unit]}{unit}"

    def times(self, number: int) -> Period:
        """So many of the span, one after the other."""
        return Period(self.months * number, self.us * number)

    @property
    def length_us(self) -> int:
        """Microseconds, of months in the mean."""
        return self.months * MONTH_US + self.us

    @property
    def is_calendar(self) -> bool:
        """True if the length depends on when it begins."""
        return self.months > 0

    def later(self, times: pl.Series) -> pl.Series:
        """Times or dates that lie the span later.

        >>> import datetime as dt, polars as pl
        >>> Period(months=1).later(pl.Series([dt.date(2024, 1, 31)])).to_list()
        [datetime.date(2024, 2, 29)]
        """
        return times.dt.offset_by(str(self))

    def later_us(self, times: Any) -> Any:
        """The same of microseconds since 1970, as a NumPy array of integers."""
        import numpy as np
        import polars as pl

        if not self.is_calendar:
            return np.asarray(times, np.int64) + self.us
        return self.later(pl.Series(np.asarray(times, np.int64)).cast(pl.Datetime("us"))).to_physical().to_numpy()

    def earlier_us(self, time: int) -> int:
        """The time, in microseconds since 1970, of which `time` lies the span later, or nearly so at ends of months."""
        import polars as pl

        if not self.is_calendar:
            return time - self.us
        moved = pl.Series([time]).cast(pl.Datetime("us")).dt.offset_by(f"-{self}")
        return int(moved.to_physical()[0])

    def steps_to(self, other: Period) -> float:
        """Divide the other span by this one, in the mean of months."""
        return other.length_us / self.length_us

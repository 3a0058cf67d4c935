"""The wall clock of a time zone for single times, by the rules that whole columns are read with.

Polars carries its own rules of time zones, Python takes those of the machine, which differ from one
to the next: a request could get another hour than the training rows. So the changes of a zone's
clock are taken from Polars, once, and looked up.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.limits import EPOCH

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
        times = [shown.replace(tzinfo=dt.UTC) - offset for offset in near]
        matches = [time for time in times if self.local(time) == shown]
        if not matches:
            raise ValueError(shown)
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

"""The wall clock of a time zone for one time, by the rules that columns are read with.

Polars carries its own rules of time zones, Python takes those of the machine: machines have
them of different years, and some keep what was before 1970 where others do not. A request
would get another hour than the training rows. So the changes of a zone's clock are asked of
Polars, once, and looked up.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["clock_of"]

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)

FIRST = int((dt.datetime(1800, 1, 1, tzinfo=dt.UTC) - EPOCH) / SECOND)
LAST = int((dt.datetime(2101, 1, 1, tzinfo=dt.UTC) - EPOCH) / SECOND)
"""Seconds since 1970 between which clocks are changed: before, towns had their own; after, no time is read."""

STEP = 6 * 3600
"""No zone changes its clock twice within six hours."""

Ints = npt.NDArray[np.int64]


@cache
def clock_of(zone: str) -> Callable[[dt.datetime], dt.datetime]:
    """Function that gives the wall clock of a time with a zone, without one; made in some hundredths of a second.

    The function raises `OverflowError` where the clock would leave the calendar.

    >>> clock_of("America/New_York")(dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC))
    datetime.datetime(2013, 7, 1, 8, 0)
    """
    seconds, shifts = _changes(zone)
    starts = seconds.tolist()
    offsets = [dt.timedelta(seconds=shift) for shift in shifts.tolist()]

    def clock(time: dt.datetime) -> dt.datetime:
        utc = time.astimezone(dt.UTC)
        since = utc - EPOCH
        return utc.replace(tzinfo=None) + offsets[bisect_right(starts, since.days * 86_400 + since.seconds)]

    return clock


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
    """Seconds that the clock of the zone is before UTC."""
    utc = pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.to_physical().to_numpy() // 1_000_000 - seconds

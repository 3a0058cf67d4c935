from __future__ import annotations

import datetime as dt
import zoneinfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.monitor.windows import GRANULARITIES, Calendar

UTC = dt.UTC
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def series(*times):
    return pl.Series(list(times), dtype=pl.Datetime("us", "UTC"))


@pytest.mark.parametrize(
    ("granularity", "start", "end", "block"),
    [
        ("1 hour", (2013, 11, 6, 15), (2013, 11, 6, 16), 8),
        ("1 day", (2013, 11, 6), (2013, 11, 7), 15),
        ("1 week", (2013, 11, 4), (2013, 11, 11), 2),
        ("1 month", (2013, 11, 1), (2013, 12, 1), 5),
    ],
)
def test_windows_are_those_of_the_calendar(granularity, start, end, block):
    """2013-11-06 was a Wednesday."""
    calendar = Calendar(granularity)
    starts, blocks = calendar.place(series(dt.datetime(2013, 11, 6, 15, 42, tzinfo=UTC)))
    assert starts[0] == dt.datetime(*start, tzinfo=UTC)
    assert calendar.end(starts[0]) == dt.datetime(*end, tzinfo=UTC)
    assert blocks[0] == block


def test_the_day_on_which_clocks_go_back_has_25_hours():
    calendar = Calendar("1 day", "America/New_York")
    start = dt.datetime(2013, 11, 3, tzinfo=NEW_YORK)
    assert calendar.num_blocks(start.astimezone(UTC)) == 25
    starts, blocks = calendar.place(
        series(dt.datetime(2013, 11, 3, 5, 30, tzinfo=UTC), dt.datetime(2013, 11, 3, 6, 30, tzinfo=UTC))
    )
    assert starts.to_list() == [start.astimezone(UTC)] * 2
    assert blocks.tolist() == [1, 2]  # 01:30 before and after the change


@given(
    st.integers(946_684_800, 2_208_988_800).map(lambda seconds: dt.datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(sorted(GRANULARITIES)),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]),
)
def test_every_time_lies_in_its_window_and_in_one_of_its_blocks(time, granularity, timezone):
    calendar = Calendar(granularity, timezone)
    starts, blocks = calendar.place(series(time))
    assert starts[0] <= time < calendar.end(starts[0])
    assert 0 <= blocks[0] < calendar.num_blocks(starts[0]) <= calendar.max_blocks

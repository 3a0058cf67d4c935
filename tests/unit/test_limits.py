from __future__ import annotations

import datetime as dt

import numpy as np

from mlsys import limits

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def test_the_range_of_float32_is_that_of_the_type():
    assert float(np.finfo(np.float32).max) == limits.FLOAT32_MAX
    assert float(np.finfo(np.float32).tiny) == limits.FLOAT32_TINY


def test_the_years_begin_and_end_where_the_calendar_says():
    first, after_last = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (1, limits.LAST_YEAR + 1))
    assert (first - EPOCH) / dt.timedelta(microseconds=1) == limits.YEAR_1_US
    assert (after_last - EPOCH) / dt.timedelta(microseconds=1) == limits.LAST_YEAR_END_US
    assert dt.timedelta(days=1) / dt.timedelta(microseconds=1) == limits.DAY_US

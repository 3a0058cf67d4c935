from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.monitor.reference_bins import ReferenceBins
from mlsys.monitor.windows import GRANULARITIES, Calendar
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics

UTC = dt.UTC
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def series(*times):
    return pl.Series(list(times), dtype=pl.Datetime("us", "UTC"))


def statistics(values, kind=Kind.NUMERIC):
    column = ColumnStatistics.empty(kind)
    column.update(pa.array(values))
    return column


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


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=300))
def test_the_reference_falls_into_its_own_bins_as_counted(values):
    column = ColumnStatistics.empty(Kind.NUMERIC)
    column.update(pa.array(values, pa.float64()))
    bins = ReferenceBins.of("x", column)
    counted = np.bincount(bins.index(pa.array(values, pa.float64())), minlength=bins.size)
    assert counted.tolist() == bins.reference.tolist()
    assert bins.coarse(counted).sum() == len(values)
    assert len(bins.labels) == len(bins.coarse(counted))


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=100))
def test_categories_fall_into_their_own_bins(values):
    column = ColumnStatistics.empty(Kind.CATEGORICAL)
    column.update(pa.array(values, pa.string()))
    bins = ReferenceBins.of("x", column)
    counted = np.bincount(bins.index(pa.array(values, pa.string())), minlength=bins.size)
    assert counted.tolist() == bins.reference.tolist()


def test_a_category_beyond_the_reference_is_other_and_a_null_is_null():
    bins = ReferenceBins.of("x", statistics(["a", "a", "b", None], Kind.CATEGORICAL))
    assert bins.labels == ("a", "b", "other", "null")
    assert bins.index(pa.array(["b", "z", None])).tolist() == [1, 2, 3]


def test_numbers_beyond_the_reference_have_bins_of_their_own():
    bins = ReferenceBins.of("x", statistics([1.0, 2.0, 3.0]))
    index = bins.index(pa.array([0.5, 3.5, float("nan"), float("inf"), None]))
    assert [bins.labels[group] for group in bins.group[index]] == ["below 1", "above 3", "null", "above 3", "null"]
    assert bins.outside(np.bincount(index, minlength=bins.size)) == pytest.approx(3 / 5)


def test_deciles_of_the_reference_hold_a_tenth_each_whatever_the_sketch_lost():
    values = np.random.default_rng(0).normal(size=50_000)
    bins = ReferenceBins.of("x", statistics(values))
    inner = bins.coarse(bins.reference)[1:-2]
    assert len(inner) == 10
    assert inner / len(values) == pytest.approx(0.1, abs=0.02)
    assert 1_000 < bins.effective_rows < 50_000


def test_a_constant_column_and_an_empty_one_have_bins():
    assert ReferenceBins.of("x", statistics([5.0, 5.0])).labels == ("below 5", "5", "above 5", "null")
    empty = ColumnStatistics.empty(Kind.NUMERIC)
    empty.update(pa.array([None, None], pa.float64()))
    bins = ReferenceBins.of("x", empty)
    assert bins.index(pa.array([1.0, None])).tolist() == [0, 1]

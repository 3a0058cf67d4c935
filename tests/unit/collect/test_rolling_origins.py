"""Parts and folds of forecasts: no model is fitted on a row that was not known a horizon before it is judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.collect import rolling_origins
from mlsys.periods import Period

DAY = 86_400_000_000
SHARES = [0.7, 0.15, 0.15]


def at(*days):
    return np.array(days, np.int64) * DAY


def test_a_row_is_embargoed_exactly_if_it_was_not_known_a_horizon_before_the_next_part():
    times = at(0, 1, 2, 3, 4, 5)
    marked = rolling_origins.embargoed(times, [int(at(5)[0])], Period.parse("2d"))
    assert marked.tolist() == [False, False, False, False, True, False]  # day 3 was known at the origin of day 5


def test_the_first_horizon_is_the_past_of_others_alone():
    assert rolling_origins.history_rows(at(0, 1, 2, 3), Period.parse("2d")).tolist() == [True, True, False, False]


def test_parts_follow_the_shares_where_these_span_the_horizon():
    begins = rolling_origins.part_begins(at(*range(100)), SHARES, Period.parse("3d"))
    assert begins == [70 * DAY, 85 * DAY]


def test_parts_are_as_long_as_the_horizon_where_the_shares_are_shorter():
    val, test = rolling_origins.part_begins(at(*range(100)), SHARES, Period.parse("20d"))
    assert test == 79 * DAY + 1  # days 80 … 99 are a horizon
    assert val == 39 * DAY + 2  # days 40 … 59 are known at the origin of day 79
    parts = np.searchsorted([val, test], at(*range(100)), side="right")
    kept = ~rolling_origins.embargoed(at(*range(100)), [40 * DAY, 80 * DAY], Period.parse("20d"))
    assert [int((kept & (parts == part)).sum()) for part in range(3)] == [21, 21, 20]


@pytest.mark.parametrize("horizon", ["99d", "100d", "4y"])
def test_a_horizon_as_long_as_the_history_is_refused(horizon):
    with pytest.raises(errors.TargetError) as caught:
        rolling_origins.part_begins(at(*range(100)), SHARES, Period.parse(horizon))
    assert str(caught.value) == (
        "collect: forecast.horizon\n"
        "  got:      the history of 1970-01-01T00:00:00+00:00 to 1970-04-10T00:00:00+00:00\n"
        f"  expected: about 6 horizons of {horizon} in all: before, in and between training, validation and test\n"
        "  hint:     a shorter forecast.horizon, more history, or a larger part under split"
    )


def test_folds_are_numbered_with_what_lies_between_them():
    folds = rolling_origins.rolling_folds(at(*range(12)), 3, Period.parse("2d"))
    assert folds.folds.tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4]
    assert (folds.num_folds, folds.gaps) == (3, (1, 3))


def test_folds_are_fewer_where_each_has_to_span_the_horizon():
    folds = rolling_origins.rolling_folds(at(*range(12)), 3, Period.parse("5d"))
    assert folds.folds.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert folds.num_folds == 2


def test_no_room_for_two_folds_is_an_error():
    with pytest.raises(errors.TargetError, match="the training part"):
        rolling_origins.rolling_folds(at(*range(12)), 3, Period.parse("7d"))


@settings(max_examples=200, deadline=None)
@given(
    days=st.lists(st.integers(0, 400), min_size=30, max_size=200),
    horizon=st.sampled_from(["1d", "3d", "20d", "1mo", "2mo"]),
    num_folds=st.integers(2, 6),
)
def test_a_fold_is_judged_on_what_was_known_a_horizon_before_its_first_row(days, horizon, num_folds):
    times, period = at(*days), Period.parse(horizon)
    try:
        rolling = rolling_origins.rolling_folds(times, num_folds, period)
    except errors.TargetError:
        return
    folds, known = rolling.folds, period.later_us(times)
    for judge in range(2, 2 * rolling.num_folds, 2):
        fitted = (folds < judge - 1) & ((folds % 2 == 0) | np.isin(folds, rolling.gaps))
        first = times[folds == judge].min()
        assert fitted.any()
        assert known[fitted].max() <= first
        between = (times < first) & ~fitted
        assert (known[between] > first).all()  # and nothing else is left out

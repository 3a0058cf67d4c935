"""Window aggregates of one key at one moment, worked out by hand; and exact sums against `math.fsum`."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import recipe
from mlsys.features.joins.window_aggregates import (
    BLOCK,
    WindowAggregate,
    WindowEvents,
    aggregate,
    exact_digits,
    rounded_sum,
    windows_of,
)

FUNCTIONS = ("count", "sum", "mean", "min", "max", "distinct")


def every(length=10):
    return [WindowAggregate(name, name, None if name == "count" else "v", length) for name in FUNCTIONS]


def at(moment, times, values, known=None, length=10):
    return tuple(aggregate(every(length), WindowEvents(times, known or times, {"v": values}), moment).values())


def test_the_window_is_open_at_its_start_and_closed_at_its_end():
    assert at(20, [10, 11, 20, 21], [1.0, 2.0, 4.0, 8.0]) == (2, 6.0, 3.0, 2.0, 4.0, 2)


def test_an_event_counts_from_when_it_was_known():
    events = ([12, 15, 18], [1.0, 2.0, 4.0], [12, 23, 20])
    assert [at(t, *events)[:2] for t in (19, 20, 22, 23)] == [(1, 1.0), (2, 5.0), (1, 4.0), (2, 6.0)]


def test_an_event_known_before_its_time_counts_from_its_time():
    assert [at(t, [12], [1.0], [3])[0] for t in (11, 12)] == [0, 1]


def test_events_of_one_time_are_all_counted_and_nulls_by_count_alone():
    assert at(20, [15, 15, 15, 16], [3.0, None, 3.0, 1.0]) == (4, 7.0, 7.0 / 3, 1.0, 3.0, 2)


def test_without_a_value_only_the_counts_are_numbers():
    assert at(20, [], []) == (0, None, None, None, None, 0)
    assert at(20, [15], [None]) == (1, None, None, None, None, 0)


def test_zero_has_no_sign():
    assert [math.copysign(1, value) for value in at(20, [15, 15], [-0.0, -0.0])[1:5]] == [1, 1, 1, 1]


def test_texts_and_truths_are_counted_by_value_and_true_is_one():
    texts = WindowEvents([1, 2, 3], [1, 2, 3], {"v": ["a", "b", "a"]})
    assert aggregate([WindowAggregate("kinds", "distinct", "v", 3)], texts, 3) == {"kinds": 2}
    assert at(3, [1, 2, 3], [True, False, True]) == (3, 2.0, 2 / 3, 0.0, 1.0, 2)


@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=20), st.randoms())
def test_a_sum_is_the_exact_sum_rounded_once_in_any_order(values, random):
    exact = float(sum(map(Fraction, values)))
    random.shuffle(values)
    assert at(5, [5] * len(values), values)[1] == exact


def test_windows_come_from_the_recipe_under_their_joined_names():
    aggregates = {
        "n": recipe.Aggregate(function="count", window="7d"),
        "rain": recipe.Aggregate(function="sum", column="mm", window="1h"),
    }
    join = recipe.Join(source="w.csv", keys=("origin",), time="hour", aggregates=aggregates, prefix="w_")
    assert windows_of(join) == [
        WindowAggregate("w_n", "count", None, 7 * 86_400_000_000),
        WindowAggregate("w_rain", "sum", "mm", 3_600_000_000),
    ]
    assert [window.length for window in windows_of(join, per_us=1_000)][1] == 3_600_000_000_000


FLOATS = st.floats(-3.4e38, 3.4e38) | st.sampled_from(
    [5e-324, -5e-324, 2.0**-53, -(2.0**-53), 2.0**-54, 1.0, 2.0**-1022, 2.0**53, 2.0**53 + 2, 2.0**127, -(2.0**127)]
)


def total(values):
    lowest, parts = exact_digits(np.array(values, np.float64))
    sums = {}
    for at, part in enumerate(parts):
        for number, digit in zip((lowest + at).tolist(), part, strict=True):
            sums[number] = sums.get(number, np.zeros(1, np.int64)) + digit
    return float(rounded_sum(sums)[0])


@settings(max_examples=300)
@given(st.lists(FLOATS, min_size=1, max_size=12))
def test_a_sum_is_the_float_nearest_to_the_exact_sum(values):
    assert repr(total(values)) == repr(math.fsum(values) + 0.0)


@given(st.lists(FLOATS, max_size=6), FLOATS)
def test_what_was_added_can_be_taken_away_without_a_trace(values, kept):
    assert total([*values, kept, *(-value for value in values)]) == kept


def test_ties_go_to_the_even_neighbour_and_anything_more_does_not():
    half = 2.0**-53
    assert total([1.0, half]) == 1.0
    assert total([1.0, half, 5e-324]) == 1.0 + 2 * half
    assert total([1.0, 2 * half, half]) == 1.0 + 4 * half
    assert total([1.0, 2 * half, half, -5e-324]) == 1.0 + 2 * half


def test_blocks_of_sums_are_rounded_alike():
    size = BLOCK + 3
    assert rounded_sum({35: np.arange(size)})[-1] == (size - 1) * 2.0**-6
    assert rounded_sum({}).tolist() == []

"""One key, one moment: values worked out by hand."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mlsys import recipe
from mlsys.features.joins.window_aggregates import WindowAggregate, WindowEvents, aggregate, windows_of

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

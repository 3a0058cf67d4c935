"""Exact sums against `math.fsum`, which is correctly rounded."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.features.joins.window_aggregates import BLOCK, exact_digits, rounded_sum

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

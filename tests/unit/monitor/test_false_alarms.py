"""A small run of ``python benchmarks/false_alarms.py``, which simulates 2,000 windows where nothing moves."""

from __future__ import annotations

import pytest
from scipy import stats

import false_alarms


@pytest.fixture(scope="module")
def trained():
    return false_alarms.Trained.of(0)


@pytest.mark.parametrize("case", ["still", "still, labelled"])
def test_where_nothing_moves_alarms_are_as_seldom_as_stated(trained, case):
    """25 windows at 5 %, with and without labels: at most the 99.9 % point of a binomial, with or without the floor."""
    counts = false_alarms.simulate(trained, case, 5, seed=1)
    assert counts["windows"] == 25
    assert counts["any alarm"] <= counts["certain"] <= stats.binom.ppf(0.999, 25, 0.05)


@pytest.mark.parametrize("case", ["load +0.5 sd", "missing 10 to 25 %", "scores' logit +0.6", "labels' logit +1"])
def test_what_moves_far_is_named_in_every_window(trained, case):
    assert false_alarms.simulate(trained, case, 1, seed=1)["named"] == 5


def test_a_correlation_that_is_lost_is_found_in_most_windows(trained):
    assert false_alarms.simulate(trained, "correlation 0.7 to 0", 2, seed=1)["named"] >= 6


def test_the_interval_of_a_share_is_that_of_scipy():
    low, high = stats.binomtest(7, 200).proportion_ci(0.95, method="exact")
    assert false_alarms.interval(7, 200) == (round(low, 3), round(high, 3))
    assert false_alarms.interval(200, 200)[1] == 1.0

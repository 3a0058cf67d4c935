"""Thresholds: the best one by brute force, ties, degenerate rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.evaluate import thresholds

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=40)


def arrays(rows):
    return np.array([r[0] for r in rows]), np.array([r[1] / 20 for r in rows])


def f1(y, called):
    return 2 * np.sum(called & (y == 1)) / max(np.sum(called) + np.sum(y), 1)


@given(ROWS)
def test_no_other_threshold_has_a_better_f1(rows):
    y, score = arrays(rows)
    chosen = thresholds.choose(y, score, "f1")
    if len(set(y)) == 2:
        best = max(f1(y, score >= t) for t in np.linspace(-0.01, 1.01, 205))
        assert f1(y, score >= chosen) == pytest.approx(best)


@given(ROWS, st.integers(1, 9), st.integers(1, 9))
def test_no_other_threshold_costs_less(rows, false_positive, false_negative):
    y, score = arrays(rows)
    cost = {"false_positive": false_positive, "false_negative": false_negative}

    def price(t):
        called = score >= t
        return false_positive * np.sum(called & (y == 0)) + false_negative * np.sum(~called & (y == 1))

    chosen = thresholds.choose(y, score, "cost", cost)
    if len(set(y)) == 2:
        assert price(chosen) == min(price(t) for t in np.linspace(-0.01, 1.01, 205))


@given(ROWS, st.data())
def test_no_other_threshold_gains_more(rows, data):
    y, score = arrays(rows)
    many = st.lists(st.integers(-9, 9), min_size=len(y), max_size=len(y))
    gain, weight = np.array(data.draw(many)), np.abs(data.draw(many))
    chosen = thresholds.choose_by_gain(y, score, gain, weight)
    if len(set(y)) == 2:
        best = max(np.sum((gain * weight)[score >= t]) for t in np.linspace(-0.01, 1.01, 205))
        assert np.sum((gain * weight)[score >= chosen]) == best


def test_the_greatest_gain_by_hand():
    y, score = np.array([1, 0, 0, 1]), np.array([0.875, 0.625, 0.375, 0.125])
    # calling the first one, two, three, four rows gains 40, 35, 30, 70
    assert thresholds.choose_by_gain(y, score, np.array([40, -5, -5, 40])) == 0.125
    # the last row gains less than two wrong calls lose: 40, 35, 30, 39
    assert thresholds.choose_by_gain(y, score, np.array([40, -5, -5, 9])) == 0.75
    # it counts twice: 40, 35, 30, 48
    assert thresholds.choose_by_gain(y, score, np.array([40, -5, -5, 9]), np.array([1.0, 1, 1, 2])) == 0.125
    # a yes costs more than it brings
    assert not (score >= thresholds.choose_by_gain(y, score, np.full(4, -1.0))).any()


def test_equal_gains_are_decided_as_equal_costs_are():
    y, score = np.array([1, 0, 1, 0]), np.array([0.875, 0.625, 0.375, 0.125])
    # one row and three rows gain 0.3 alike, at 0.75 and at 0.25, both as near to a half: the greater
    assert thresholds.choose_by_gain(y, score, np.array([0.3, -0.1, 0.1, -9.0])) == 0.75
    assert thresholds.choose_by_gain(y, score, np.zeros(4)) == 0.5
    assert thresholds.choose_by_gain(np.ones(4), score, np.ones(4)) == 0.5
    assert thresholds.choose_by_gain(np.array([]), np.array([]), np.array([])) == 0.5


def test_it_lies_halfway_between_two_scores():
    assert thresholds.choose(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.9])) == 0.5


def test_among_equals_the_one_nearest_to_a_half_is_taken():
    # any threshold from 0.1 to 0.9 divides the two rows
    assert thresholds.choose(np.array([0, 1]), np.array([0.1, 0.9])) == 0.5
    # F1 is 2/3 when only the top row or when all four are called: 0.85 and 0.1
    y, score = np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.2, 0.1])
    assert thresholds.choose(y, score) == pytest.approx(0.85)


def test_half_is_a_half_whatever_the_rows():
    assert thresholds.choose(np.array([0, 1]), np.array([0.01, 0.02]), "half") == 0.5


@pytest.mark.parametrize(("y", "score"), [([], []), ([0, 0], [0.2, 0.4]), ([1, 1], [0.2, 0.4])])
@pytest.mark.parametrize("rule", ["f1", "cost", "half"])
def test_with_one_class_or_no_rows_it_is_a_half(rule, y, score):
    assert thresholds.choose(np.array(y, int), np.array(score, float), rule) == 0.5


def test_where_finding_costs_more_than_missing_nobody_is_called():
    y, score = np.array([1, 0, 0]), np.array([0.5, 0.5, 0.5])
    chosen = thresholds.choose(y, score, "cost", {"false_positive": 10, "false_negative": 1})
    assert not (score >= chosen).any()


def test_certain_scores_can_still_be_refused():
    y, score = np.array([1, 0, 0]), np.ones(3)
    chosen = thresholds.choose(y, score, "cost", {"false_positive": 10, "false_negative": 1})
    assert not (score >= chosen).any()


@given(ROWS)
def test_the_curve_drawn_says_what_a_threshold_does(rows):
    y, score = arrays(rows)
    drawn = thresholds.thresholds(y, score, {"false_positive": 1, "false_negative": 1})
    for t, drawn_f1 in zip(drawn["threshold"], drawn["f1"], strict=True):
        assert drawn_f1 == pytest.approx(f1(y, score >= t))

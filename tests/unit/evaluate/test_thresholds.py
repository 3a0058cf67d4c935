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

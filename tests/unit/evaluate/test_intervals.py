"""Intervals: repeatable, of the right width, paired, honest about what is not defined."""

import math
import re
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from mlsys.evaluate import intervals
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.evaluate.metrics import METRICS


def mean_of(values):
    return lambda weight: float(np.average(values, weights=weight)) if weight is None or weight.sum() else math.nan


def test_the_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(0, 2, 2000)
    found = intervals.estimates({"mean": mean_of(values)}, 2000, ResamplingPlan(num_resamples=1000))["mean"]
    assert found.error == pytest.approx(2 / math.sqrt(2000), rel=0.1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / math.sqrt(2000), rel=0.12)
    assert found.low < found.value < found.high


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [
        intervals.estimates({"": mean_of(rng.normal(5, 1, 80))}, 80, ResamplingPlan(200, 0.9, seed))[""]
        for seed in range(200)
    ]
    held = sum(f.low <= 5 <= f.high for f in found)
    assert 160 <= held <= 196  # 90 % of 200 is 180; four standard errors are 17


def test_the_same_plan_draws_the_same_rows():
    first, again = (list(intervals.weights(50, ResamplingPlan(5, seed=3))) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], next(iter(intervals.weights(50, ResamplingPlan(5, seed=4)))))


def test_a_resample_has_as_many_rows_as_there_are():
    assert {w.sum() for w in intervals.weights(77, ResamplingPlan(20))} == {77.0}


def test_groups_widen_the_interval_of_rows_that_repeat_each_other():
    values = np.repeat(np.random.default_rng(2).normal(size=50), 20)
    alone = intervals.estimates({"": mean_of(values)}, 1000, ResamplingPlan(300))[""]
    grouped = intervals.estimates({"": mean_of(values)}, 1000, ResamplingPlan(units=np.repeat(np.arange(50), 20)))[""]
    assert grouped.error > 3 * alone.error


def test_the_interval_of_a_mean_over_equal_groups_is_the_t_interval_of_their_means():
    values = np.random.default_rng(4).normal(size=60)
    means = values.reshape(6, 10).mean(axis=1)
    found = intervals.estimates({"": mean_of(values)}, 60, ResamplingPlan(units=np.repeat(np.arange(6), 10)))[""]
    low, high = stats.t.interval(0.95, 5, means.mean(), means.std(ddof=1) / math.sqrt(6))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_a_paired_difference_is_far_narrower_than_its_two_parts():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=1000)
    one, other = truth + rng.normal(0, 0.01, 1000), truth
    gap = intervals.difference(mean_of(one), mean_of(other), 1000, ResamplingPlan(200))
    alone = intervals.estimates({"": mean_of(one)}, 1000, ResamplingPlan(200))[""]
    assert gap.value == pytest.approx(float(np.mean(one - other)))
    assert gap.error < alone.error / 50


def test_without_resamples_there_is_a_value_and_no_interval():
    found = intervals.estimates({"": mean_of(np.array([1.0, 3.0]))}, 2, ResamplingPlan(0))[""]
    assert found.value == 2.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def reason_of(y, score, name="roc_auc", **plan):
    found = intervals.estimates(
        {"": METRICS[name].prepare(np.array(y), np.array(score))}, len(y), ResamplingPlan(**plan)
    )
    assert math.isnan(found[""].low)
    return found[""].reason


def test_an_interval_that_cannot_be_trusted_is_not_given_and_says_why():
    rare = [1] + [0] * 39, [0.3, *np.linspace(0, 1, 39)]  # a third of the resamples lack the positive row
    assert re.fullmatch(r"not defined on \d\d of 200 resamples", reason_of(*rare))
    assert reason_of([0, 1] * 4, np.linspace(0, 1, 8)) == "8 rows; an interval needs 10"
    assert reason_of([0] * 30, np.linspace(0, 1, 30)) == "not defined on these rows"
    assert reason_of([0, 1] * 15, [0.1, 0.9] * 15) == "the same in every resample"
    assert reason_of([0, 1] * 15, np.linspace(0, 1, 30), num_resamples=0) == "evaluate.bootstrap is 0"


def test_groups_that_are_too_few_or_too_unequal_give_no_interval():
    y, score = [0, 1] * 50, np.linspace(0, 1, 100)
    four = np.arange(100) // 25
    assert reason_of(y, score, units=four) == "4 groups or blocks; an interval needs 5"
    one_is_large = np.maximum(np.arange(100) - 90, 0)
    expected = r"10 groups or blocks of unequal size, worth 1\.\d equal ones; an interval needs 5"
    assert re.fullmatch(expected, reason_of(y, score, units=one_is_large))
    only_one_has_the_class = np.arange(100) // 10
    reason = reason_of([1] * 10 + [0] * 90, score, units=only_one_has_the_class)
    assert reason == "not defined without one of the groups or blocks, for 1 of them"
    perfect = reason_of(y, [0.1, 0.9] * 50, units=np.arange(100) // 10)
    assert perfect == "the same whichever group or block is left out"


def test_an_interval_ends_where_the_metric_has_no_values():
    found = intervals.Estimate(0.98, 0.95, 1.01, 0.01)
    assert found.within(0.0, 1.0) == intervals.Estimate(0.98, 0.95, 1.0, 0.01)
    assert math.isnan(intervals.Estimate(0.98).within(0.0, 1.0).low)


def test_many_rows_are_resampled_less_often():
    assert [ResamplingPlan(200).affordable(n) for n in (30_000, 2_000_000, 10**9)] == [200, 100, 20]


@pytest.mark.parametrize("units", [None, np.arange(50_000) % 100])
def test_memory_does_not_grow_with_the_number_of_weightings(units):
    """Of 50,000 rows one weighting is 0.4 MB, a hundred of them would be 40 MB."""
    values = np.random.default_rng(7).normal(size=50_000)
    tracemalloc.start()
    intervals.estimates({"": mean_of(values)}, 50_000, ResamplingPlan(100, units=units))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6

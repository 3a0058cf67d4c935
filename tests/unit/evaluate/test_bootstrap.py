"""Intervals: repeatable, of the right width, paired, honest about what is not defined."""

import math

import numpy as np
import pytest

from mlsys.evaluate import bootstrap
from mlsys.evaluate.bootstrap import ResamplingPlan
from mlsys.evaluate.metrics import METRICS


def mean_of(values):
    return lambda weight: float(np.average(values, weights=weight)) if weight is None or weight.sum() else math.nan


def test_the_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(0, 2, 2000)
    found = bootstrap.estimates({"mean": mean_of(values)}, 2000, ResamplingPlan(num_resamples=1000))["mean"]
    assert found.error == pytest.approx(2 / math.sqrt(2000), rel=0.1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / math.sqrt(2000), rel=0.12)
    assert found.low < found.value < found.high


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [
        bootstrap.estimates({"": mean_of(rng.normal(5, 1, 80))}, 80, ResamplingPlan(200, 0.9, seed))[""]
        for seed in range(200)
    ]
    held = sum(f.low <= 5 <= f.high for f in found)
    assert 160 <= held <= 196  # 90 % of 200 is 180; four standard errors are 17


def test_the_same_plan_draws_the_same_rows():
    first, again = (list(bootstrap.weights(50, ResamplingPlan(5, seed=3))) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], next(iter(bootstrap.weights(50, ResamplingPlan(5, seed=4)))))


def test_a_resample_has_as_many_rows_as_there_are():
    assert {w.sum() for w in bootstrap.weights(77, ResamplingPlan(20))} == {77.0}


def test_rows_of_a_group_are_drawn_together():
    groups = np.repeat([7, 3, 9], [5, 2, 4])
    for weight in bootstrap.weights(11, ResamplingPlan(10, groups=groups)):
        assert all(len(set(weight[groups == g])) == 1 for g in (3, 7, 9))


def test_groups_widen_the_interval_of_rows_that_repeat_each_other():
    values = np.repeat(np.random.default_rng(2).normal(size=50), 20)
    alone = bootstrap.estimates({"": mean_of(values)}, 1000, ResamplingPlan(300))[""]
    grouped = bootstrap.estimates(
        {"": mean_of(values)}, 1000, ResamplingPlan(300, groups=np.repeat(np.arange(50), 20))
    )[""]
    assert grouped.error > 3 * alone.error


def test_a_paired_difference_is_far_narrower_than_its_two_parts():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=1000)
    one, other = truth + rng.normal(0, 0.01, 1000), truth
    gap = bootstrap.difference(mean_of(one), mean_of(other), 1000, ResamplingPlan(200))
    alone = bootstrap.estimates({"": mean_of(one)}, 1000, ResamplingPlan(200))[""]
    assert gap.value == pytest.approx(float(np.mean(one - other)))
    assert gap.error < alone.error / 50


def test_without_resamples_there_is_a_value_and_no_interval():
    found = bootstrap.estimates({"": mean_of(np.array([1.0, 3.0]))}, 2, ResamplingPlan(0))[""]
    assert found.value == 2.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_an_interval_of_mostly_undefined_resamples_is_not_given():
    y, score = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])  # a third of the resamples lack the positive row
    found = bootstrap.estimates({"": METRICS["roc_auc"].prepare(y, score)}, 4, ResamplingPlan(200))[""]
    assert found.value == 1.0
    assert math.isnan(found.low)


def test_many_rows_are_resampled_less_often():
    assert [ResamplingPlan(200).affordable(n) for n in (30_000, 2_000_000, 10**9)] == [200, 100, 20]

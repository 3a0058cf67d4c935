from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor import performance
from mlsys.monitor.performance import Performance, PerformanceEstimate, PerformanceLimits
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
LIMITS = PerformanceLimits(METRICS["roc_auc"], max_loss=0.02, max_gap=0.05, confidence=0.95)
GAP = st.floats(-0.5, 0.5)


def mean_of(values):
    return lambda weight: float(values.mean() if weight is None else weight @ values / weight.sum())


def test_the_jackknife_of_a_mean_over_equal_groups_is_the_spread_of_their_means():
    """Its error is sd(group means) / sqrt(groups); 2.364624 is the 97.5 % point of t with 7 degrees of freedom."""
    values = np.random.default_rng(0).normal(size=80)
    groups = np.repeat(np.arange(8), 10)
    expected = values.reshape(8, 10).mean(axis=1).std(ddof=1) / math.sqrt(8)
    estimate = performance.jackknife(mean_of(values), groups, 0.95)
    assert estimate.error == pytest.approx(expected, rel=1e-9)
    assert estimate.high - estimate.value == pytest.approx(2.364624 * expected, rel=1e-6)


def test_intervals_by_blocks_hold_the_truth_where_those_by_rows_do_not():
    """Seven days of 100 rows that share their day: 400 windows; 95 % by blocks, well below by rows."""
    rng = np.random.default_rng(1)
    block = np.repeat(np.arange(7), 100)
    held = np.zeros(2)
    for _ in range(400):
        values = rng.normal(size=7)[block] + rng.normal(size=700)
        estimates = (
            performance.estimate_by_blocks(mean_of(values), block, 0.95),
            performance.jackknife(mean_of(values), np.arange(700) % performance.NUM_GROUPS, 0.95),
        )
        held += [estimate.low <= 0 <= estimate.high for estimate in estimates]
    assert held[0] / 400 == pytest.approx(0.95, abs=0.035)
    assert held[1] / 400 < 0.5


def test_the_interval_of_an_auc_holds_the_truth():
    """Scores N(0, 1) and N(1, 1): AUC is Phi(1 / sqrt 2) = 0.7602. 200 windows of independent rows."""
    rng = np.random.default_rng(2)
    block, held = np.arange(400) % 7, 0
    for _ in range(200):
        y = rng.integers(0, 2, 400)
        score = 1 / (1 + np.exp(-(rng.normal(size=400) + y)))
        output = np.column_stack([1 - score, score])
        statistic = performance.weighted_metric(METRICS["roc_auc"], y.astype(float), output, None)
        estimate = performance.estimate_by_blocks(statistic, block, 0.95)
        held += estimate.low <= 0.7602 <= estimate.high
    assert held / 200 == pytest.approx(0.95, abs=0.05)


def test_a_metric_that_is_not_defined_has_no_interval():
    y, output = np.zeros(10), np.full((10, 2), 0.5)
    statistic = performance.weighted_metric(METRICS["roc_auc"], y, output, None)
    assert performance.estimate_by_blocks(statistic, np.arange(10), 0.95).to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "error": None,
    }


def test_the_gap_is_mean_predicted_less_observed():
    output = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert performance.calibration_gap(np.array([0.0, 1.0]), output, TASK, 1)(None) == pytest.approx(0.6 - 0.5)


def test_the_baseline_is_read_from_an_evaluation():
    evaluation = {
        "metrics": {"roc_auc": {"value": 0.7, "low": 0.68, "high": 0.72, "error": 0.01}, "mcc": {"value": None}},
        "calibration": {
            "bins": [{"count": 30, "predicted": 0.1, "observed": 0.2}, {"count": 10, "predicted": 0.5, "observed": 0.4}]
        },
    }
    base = Performance.of(evaluation, TASK)
    assert (base.metrics["roc_auc"].value, base.metrics["roc_auc"].error) == (0.7, 0.01)
    assert "mcc" not in base.metrics
    assert base.gaps[1].value == pytest.approx(0.2 - 0.25)
    assert Performance.of({"rmse": 3.0}, TASK).metrics["rmse"].value == 3.0
    assert Performance.of(None, TASK).metrics == {}


def calibration(gap, error, base, *, freedom=19):
    """The loss of a window with this gap and standard error, after test rows with a gap of `base`, known exactly."""
    window = Performance(gaps={1: PerformanceEstimate(gap, error=error, freedom=freedom)}, predicted=0.5)
    performance.check([window], Performance(gaps={1: PerformanceEstimate(base, error=0.0)}), TASK, LIMITS)
    (loss,) = window.losses
    return loss


@pytest.mark.parametrize(
    ("gap", "error", "base", "degraded"),
    [
        (0.20, 0.01, 0.00, True),
        (0.04, 0.001, 0.00, False),  # certain, and within what is allowed
        (0.22, 0.08, 0.06, False),  # far, but 2.09 standard errors (t, 19 degrees of freedom) reach from 0.16 to 0
        (0.24, 0.08, 0.06, True),
        (0.06, 0.001, 0.06, False),  # as on the test rows
        (-0.07, 0.02, 0.06, True),
    ],
)
def test_a_gap_is_a_loss_when_it_is_wide_and_has_changed_by_more_than_noise(gap, error, base, degraded):
    assert calibration(gap, error, base).degraded is degraded


@settings(max_examples=200)
@given(GAP, st.floats(1e-4, 0.3), GAP)
@example(0.2226, 0.0784, 0.0589)
def test_the_band_that_is_drawn_is_the_one_that_is_judged(gap, error, base):
    loss = calibration(gap, error, base)
    low, high = loss.allowed
    if min(abs(gap - low), abs(gap - high)) > 1e-9:
        assert loss.degraded is not (low <= gap <= high)


def test_without_an_error_there_is_no_band_and_no_loss():
    loss = calibration(0.4, math.nan, 0.0, freedom=0)
    assert loss.allowed is None
    assert not loss.degraded

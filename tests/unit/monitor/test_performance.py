from __future__ import annotations

import math

import numpy as np
import pytest

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor import performance
from mlsys.monitor.performance import Baseline
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))


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
            performance.measured(mean_of(values), block, 0.95),
            performance.by_rows(mean_of(values), 700, 0.95),
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
        statistic = performance.metric_statistic(METRICS["roc_auc"], y.astype(float), output, None)
        estimate = performance.measured(statistic, block, 0.95)
        held += estimate.low <= 0.7602 <= estimate.high
    assert held / 200 == pytest.approx(0.95, abs=0.05)


def test_a_metric_that_is_not_defined_has_no_interval():
    y, output = np.zeros(10), np.full((10, 2), 0.5)
    statistic = performance.metric_statistic(METRICS["roc_auc"], y, output, None)
    assert performance.measured(statistic, np.arange(10), 0.95).to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "error": None,
    }


def test_the_gap_is_mean_predicted_less_observed():
    output = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert performance.gap_statistic(np.array([0.0, 1.0]), output, TASK, 1)(None) == pytest.approx(0.6 - 0.5)


def test_the_baseline_is_read_from_an_evaluation():
    evaluation = {
        "metrics": {"roc_auc": {"value": 0.7, "low": 0.68, "high": 0.72, "error": 0.01}, "mcc": {"value": None}},
        "calibration": {
            "bins": [
                {"count": 30, "predicted": 0.1, "observed": 0.2},
                {"count": 10, "predicted": 0.5, "observed": 0.4},
            ]
        },
    }
    base = Baseline.of(evaluation, TASK)
    assert (base.metrics["roc_auc"].value, base.metrics["roc_auc"].error) == (0.7, 0.01)
    assert "mcc" not in base.metrics
    assert base.gaps[1].value == pytest.approx(0.2 - 0.25)
    assert Baseline.of({"rmse": 3.0}, TASK).metrics["rmse"].value == 3.0
    assert Baseline.of(None, TASK).metrics == {}

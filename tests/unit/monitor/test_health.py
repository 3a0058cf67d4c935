"""When a gap between predicted and observed is a loss, and what the page draws of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor import performance_check
from mlsys.monitor.performance import Baseline, PerformanceEstimate
from mlsys.monitor.performance_check import Health, Limits
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
LIMITS = Limits(METRICS["roc_auc"], max_loss=0.02, max_gap=0.05, confidence=0.95)
GAP = st.floats(-0.5, 0.5)


def calibration(gap, error, base, *, freedom=19):
    """The loss of a window with this gap and standard error, after test rows with a gap of `base`, known exactly."""
    measured = Health(1_000, gaps={1: PerformanceEstimate(gap, error=error, freedom=freedom)}, predicted=0.5)
    performance_check.judge([measured], Baseline(gaps={1: PerformanceEstimate(base, error=0.0)}), TASK, LIMITS)
    (loss,) = measured.losses
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

"""Columns that go together: the level where nothing moved, and the power where only their correlation did."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mlsys.monitor import two_sample
from mlsys.monitor.drift_alarms import AlarmRule, Shift, least_auc
from mlsys.monitor.row_sample import RowSample
from mlsys.monitor.two_sample import Half

NAMES = ("wind", "gust", "load")
RULE = AlarmRule(0.05, 0.1)
DAYS = 7


def codes(rng, rows, correlation, *, shared=0.0):
    """Deciles of three normals: two that go together, and one of which a share of the variance is its day's."""
    wind, noise, load = rng.normal(size=(3, rows))
    gust = correlation * wind + np.sqrt(1 - correlation**2) * noise
    day = rng.normal(size=DAYS)[np.arange(rows) * DAYS // rows]
    load = np.sqrt(shared) * day + np.sqrt(1 - shared) * load
    return (10 * stats.norm.cdf([wind, gust, load]).T).astype(np.uint8)


def sample(rng, rows, correlation=0.7, **options):
    block = (np.arange(rows) * DAYS // rows).astype(np.int16)
    return RowSample(np.arange(rows, dtype=np.uint64), block, codes(rng, rows, correlation, **options))


def quiet(name, *, alarmed=False):
    return Shift(name, 0.0, 0.0, 0.1, 0.5, 0.5, None, 0.0, alarmed, "")


@pytest.mark.parametrize("shared", [0.0, 0.2])
def test_where_nothing_moved_the_p_value_is_as_rare_as_it_says(shared):
    """60 windows at 10 %: at most 14 (99.9 % point of a binomial), also where the rows of a day are alike."""
    rng = np.random.default_rng(0)
    pvalues = []
    for _ in range(60):
        trained, window = codes(rng, 400, 0.7), sample(rng, 400, shared=shared)
        pvalues.append(two_sample.test(two_sample.halves(trained, window))[1])
    assert sum(pvalue <= 0.1 for pvalue in pvalues) <= 14


def joint_of(trained, window, shifts, rule):
    """The columns without an alarm tested together, as a run of the monitor does; None where they are too few."""
    names = two_sample.still(NAMES, shifts)
    return two_sample.conclude(two_sample.compare(trained, window, NAMES, names), shifts, rule) if names else None


def test_a_correlation_that_is_lost_is_found_with_its_columns():
    rng = np.random.default_rng(1)
    trained, window = codes(rng, 2_000, 0.8), sample(rng, 1_000, 0.0)
    joint = joint_of(trained, window, [quiet(name) for name in NAMES], RULE)
    assert joint.alarmed
    assert set(joint.columns) == {"wind", "gust"}
    assert joint.auc > 0.65
    assert joint.adjusted == pytest.approx(4 * joint.pvalue)  # the least of four p-values


def test_columns_with_an_alarm_of_their_own_are_left_out():
    rng = np.random.default_rng(2)
    trained, window = codes(rng, 2_000, 0.8), sample(rng, 1_000, 0.0)
    shifts = [quiet("wind", alarmed=True), quiet("gust"), quiet("load")]
    joint = joint_of(trained, window, shifts, RULE)
    assert not joint.alarmed
    assert joint.columns == ()
    shifts = [quiet("wind", alarmed=True), quiet("gust", alarmed=True), quiet("load")]
    assert joint_of(trained, window, shifts, RULE) is None


def test_a_difference_that_is_certain_and_small_is_no_alarm():
    rng = np.random.default_rng(3)
    trained, window = codes(rng, 2_000, 0.8), sample(rng, 1_000, 0.0)
    shifts = [quiet(name) for name in NAMES]
    joint = joint_of(trained, window, shifts, AlarmRule(0.05, 0.6))
    assert joint.adjusted < 0.01
    assert not joint.alarmed


def test_the_least_auc_is_that_of_two_normals_as_far_apart():
    """A distance of 0.1 is a shift by 0.2355 standard deviations; AUC = Phi(d / sqrt 2)."""
    assert least_auc(0.1) == pytest.approx(stats.norm.cdf(0.2355 / 2**0.5), abs=1e-4)
    assert least_auc(0.0) == 0.5


def half(trained, window, block):
    return Half(np.array(trained)[:, None], np.array(window)[:, None], np.array(block), lambda codes: codes[:, 0] * 1.0)


def test_the_auc_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(4)
    trained, window = rng.integers(0, 6, 50), rng.integers(1, 8, 30)
    expected = roc_auc_score([0] * 50 + [1] * 30, np.concatenate([trained, window]))
    assert half(trained, window, np.arange(30) % 4).auc == pytest.approx(expected)


def test_blocks_whose_rows_are_alike_count_as_few():
    """The same rows in blocks that are equal inside: by hand from Obuchowski's variance, against one a row."""
    trained, window = np.arange(100), np.repeat([40, 50, 60, 90], 25)
    alike, mixed = half(trained, window, np.repeat(range(4), 25)), half(trained, window, np.tile(range(4), 25))
    assert alike.auc == mixed.auc == pytest.approx(np.mean([0.405, 0.505, 0.605, 0.905]))
    means = np.array([0.405, 0.505, 0.605, 0.905])
    own, other = means.var(ddof=1) / 4, alike.placements[0].var(ddof=1) / 100
    freedom = 3 * ((own + other) / own) ** 2
    assert alike.pvalue == pytest.approx(stats.t.sf((means.mean() - 0.5) / np.sqrt(own + other), freedom))
    assert mixed.pvalue < 0.01 < alike.pvalue


def test_what_it_needs():
    rng = np.random.default_rng(5)
    trained, window = codes(rng, 100, 0.5), sample(rng, 100)
    assert two_sample.is_testable(trained, window)
    assert not two_sample.is_testable(None, window)
    assert not two_sample.is_testable(trained, None)
    assert not two_sample.is_testable(trained[:99], window)
    assert not two_sample.is_testable(trained[:, :1], window)
    assert not two_sample.is_testable(trained, RowSample(window.hashes, window.block // 3, window.codes))
    assert two_sample.still(NAMES[:1], []) == []

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlsys.statistics.moments import Comoments, Moments

numbers = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=40)


def test_moments_are_those_of_scipy():
    values = np.random.default_rng(1).gamma(2.0, 3.0, 5_000)
    found = Moments.of(values)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.variance == pytest.approx(values.var(ddof=1), rel=1e-12)
    assert found.skewness == pytest.approx(stats.skew(values), rel=1e-10)
    assert found.kurtosis == pytest.approx(stats.kurtosis(values), rel=1e-10)


def test_moments_by_hand():
    # 1, 2, 3, 10: mean 4; sums of powers of -3, -2, -1, 6: 50, 180, 1394
    found = Moments.of(np.array([1.0, 2.0, 3.0, 10.0]))
    assert (found.n, found.mean, found.m2, found.m3, found.m4) == (4, 4.0, 50.0, 180.0, 1394.0)
    assert found.variance == pytest.approx(50 / 3)
    assert found.skewness == pytest.approx(2 * 180 / 50**1.5)
    assert found.kurtosis == pytest.approx(4 * 1394 / 2500 - 3)


@given(numbers, numbers)
def test_merged_moments_are_those_of_all_values(a, b):
    a, b = np.array(a), np.array(b)
    merged, whole = Moments.of(a).merge(Moments.of(b)), Moments.of(np.concatenate([a, b]))
    scale = max(1.0, np.abs(np.concatenate([a, b, [0.0]])).max())
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, abs=1e-12 * scale)
    for power in (2, 3, 4):
        mine, true = getattr(merged, f"m{power}"), getattr(whole, f"m{power}")
        assert mine == pytest.approx(true, rel=1e-9, abs=1e-9 * whole.n * scale**power)


def test_merging_does_not_cancel_far_from_zero():
    values = 1e9 + np.random.default_rng(2).normal(size=3_000)
    parts = [Moments.of(part) for part in np.split(values, 3)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.variance == pytest.approx(values.var(ddof=1), rel=1e-6)


def test_a_constant_has_no_shape():
    found = Moments.of(np.full(1_000, 0.1))
    assert found.variance == pytest.approx(0.0, abs=1e-30)
    assert found.skewness is None
    assert found.kurtosis is None


def test_one_value_has_no_variance_and_none_has_nothing():
    assert Moments.of(np.array([3.0])).variance is None
    assert Moments.of(np.empty(0)).merge(Moments()).n == 0


def test_sums_that_overflow_are_none_and_not_a_warning():
    found = Moments.of(np.array([-1.7e308, 1.7e308])).merge(Moments.of(np.array([1e308])))
    assert found.variance is None
    assert found.skewness is None
    assert math.isfinite(found.mean)


def test_correlation_is_that_of_numpy():
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 4_000)
    y = 3 * x + rng.normal(0, 4, 4_000)
    merged = Comoments.of(x[:1_000], y[:1_000]).merge(Comoments.of(x[1_000:], y[1_000:]))
    assert merged.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-10)


def test_no_correlation_with_a_constant():
    assert Comoments.of(np.ones(5), np.arange(5.0)).correlation is None


def test_json_keeps_every_bit():
    found = Moments.of(np.array([0.1, math.pi, 1e308, -1e308]))
    again = Moments.from_json(found.to_json())
    assert repr(again) == repr(found)

"""What every statistic of drift promises, asked of each entry of `mlsys.monitor.drift.STATISTICS`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from mlsys.monitor import drift, metric_tables

COUNTS = st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any)
ORDERS = st.permutations(range(4))
TOLERANCE = 1e-7  # the root of a Jensen-Shannon divergence that is 0 but for rounding


def _fractions(counts):
    return np.asarray(counts) / np.sum(counts)


def _chi_squared(p, q):
    test = stats.chi2_contingency(np.array([p, q]), correction=False)
    return test.statistic, test.pvalue


def _ks(p, q):
    bins = np.arange(len(p))
    test = stats.ks_2samp(np.repeat(bins, p), np.repeat(bins, q), method="asymp")
    return test.statistic, test.pvalue


def _psi(p, q):
    a, b = _fractions(p), _fractions(q)
    return stats.entropy(a, b) + stats.entropy(b, a)


def _wasserstein(p, q):
    bins = np.arange(len(p))
    return stats.wasserstein_distance(bins, bins, p, q)


SCIPY = {
    "js_distance": lambda p, q: distance.jensenshannon(p, q, base=2),
    "ks_test": _ks,
    "wasserstein_distance": _wasserstein,
    "population_stability_index": _psi,
    "chi_squared_test": _chi_squared,
    "tv_distance": lambda p, q: distance.cityblock(_fractions(p), _fractions(q)) / 2,
    "l_infinity_distance": lambda p, q: distance.chebyshev(_fractions(p), _fractions(q)),
}
"""Statistic → the same from SciPy, of counts in bins that lie one apart."""


@pytest.fixture(scope="module", params=drift.STATISTICS, ids=lambda statistic: statistic.name)
def statistic(request):
    return request.param


def of(statistic, p, q):
    """The statistic's value for two vectors of counts; for one on values, bin k holds values k."""
    if statistic.takes == "quantiles":
        p, q = (np.repeat(np.arange(len(counts)), counts) for counts in (p, q))
    result = statistic.function(p, q)
    return result.statistic if isinstance(result, drift.Test) else result


@given(p=COUNTS)
def test_equal_distributions_have_the_smallest_value(statistic, p):
    assert of(statistic, p, p) == pytest.approx(0, abs=TOLERANCE)
    assert of(statistic, p, [3 * count for count in p]) == pytest.approx(0, abs=TOLERANCE)
    if statistic.is_test:
        assert statistic.function(p, p).pvalue == pytest.approx(1)


@given(p=COUNTS, q=COUNTS)
def test_the_value_lies_between_none_and_the_stated_maximum_though_bins_are_empty(statistic, p, q):
    value = of(statistic, p, q)
    assert math.isfinite(value)
    assert -1e-12 <= value <= statistic.maximum + 1e-12
    if statistic.is_test:
        assert 0 <= statistic.function(p, q).pvalue <= 1


@given(p=COUNTS, q=COUNTS)
def test_the_two_sides_can_be_exchanged_where_that_is_stated(statistic, p, q):
    assume(statistic.symmetric)
    assert of(statistic, p, q) == pytest.approx(of(statistic, q, p), abs=1e-9)


@given(p=COUNTS, q=COUNTS, order=ORDERS)
def test_the_order_of_the_bins_matters_only_where_that_is_stated(statistic, p, q, order):
    if not statistic.ordered:
        moved = of(statistic, [p[k] for k in order], [q[k] for k in order])
        assert moved == pytest.approx(of(statistic, p, q), abs=1e-9)


def test_an_ordered_statistic_grows_with_the_way_that_rows_have_moved(statistic):
    near, far = (of(statistic, [8, 8, 8, 8], moved) for moved in ([4, 12, 8, 8], [4, 8, 8, 12]))
    assert far > near if statistic.name == "wasserstein_distance" else far == pytest.approx(near)


@given(p=COUNTS, q=COUNTS)
def test_mixing_more_of_another_distribution_in_never_brings_a_window_nearer(statistic, p, q):
    p, q = np.array(p) * sum(q), np.array(q) * sum(p)
    values = [of(statistic, 4 * p, (4 - part) * p + part * q) for part in range(5)]
    assert (np.diff(values) >= -TOLERANCE).all()


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([10, 20, 30, 40], [40, 30, 20, 10]),
        ([100, 1, 3, 7], [90, 3, 2, 9]),
        ([5, 2, 9], [5, 20, 4]),
        ([1234, 4321, 999, 17, 3], [120, 440, 101, 1, 2]),
    ],
)
def test_the_value_is_that_of_scipy(statistic, p, q):
    expected, got = SCIPY[statistic.name](p, q), statistic.function(p, q)
    if statistic.takes == "quantiles":
        got = of(statistic, p, q)
    if statistic.is_test:
        assert (got.statistic, got.pvalue) == pytest.approx(expected, rel=1e-9)
    else:
        assert got == pytest.approx(expected, rel=1e-9)


def test_a_side_without_rows_has_no_value_rather_than_a_wrong_one(statistic):
    assert math.isnan(of(statistic, [0, 0], [1, 2]))
    assert math.isnan(of(statistic, [1, 2], [0, 0]))


def test_every_statistic_is_a_column_of_the_drift_table_with_a_title_and_a_source(statistic):
    assert statistic.name in metric_tables.DRIFT.names
    assert statistic.title
    assert statistic.source
    assert statistic.function.__name__ == statistic.name
    assert len({each.name for each in drift.STATISTICS}) == len(drift.STATISTICS)

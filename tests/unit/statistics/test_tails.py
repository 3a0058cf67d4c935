"""Tails of a target: what a handful of rows decides, and where far out begins."""

import numpy as np
import pytest

from mlsys.statistics.tails import Tail, fences, medcouple


def normal_quantiles(num_rows):
    from scipy.stats import norm

    return norm.ppf((np.arange(num_rows) + 0.5) / num_rows)


@pytest.mark.parametrize(("sigma", "heavy"), [(0.5, False), (1.0, False), (1.4, False), (1.8, True), (3.0, True)])
def test_a_log_normal_target_is_heavy_from_a_spread_of_one_and_a_half(sigma, heavy):
    tail = Tail.of(np.exp(sigma * normal_quantiles(100_000)))
    assert tail.is_heavy is heavy
    assert tail.is_skewed is (sigma >= 1)


@pytest.mark.parametrize("num_rows", [30, 300, 3_000, 30_000])
def test_normal_uniform_and_exponential_targets_are_not_heavy_however_few_rows(num_rows):
    share = (np.arange(num_rows) + 0.5) / num_rows
    for values in (normal_quantiles(num_rows), share, -np.log(1 - share)):
        assert not Tail.of(values).is_heavy


def test_one_value_far_out_is_heavy_and_is_told_with_its_numbers():
    tail = Tail.of(np.append(normal_quantiles(1_999), 1e6))
    assert tail.is_heavy
    assert tail.sentence() == (
        "5 of 2,000 rows carry 100% of the squared deviations (median 0.000627, from -3.481 to 1e+06, tail index 1.3)"
    )


def test_hills_index_of_a_pareto_tail_is_its_exponent():
    share = (np.arange(200_000) + 0.5) / 200_000
    assert Tail.of((1 - share) ** (-1 / 1.5)).index == pytest.approx(1.5, rel=0.05)


def test_what_does_not_vary_or_has_no_rows_has_no_tail():
    assert Tail.of(np.full(10, 3.0)) is None
    assert Tail.of(np.empty(0)) is None
    assert Tail.of(np.array([np.nan, 1.0])) is None


def test_the_medcouple_is_that_of_its_definition():
    # Around the median 3: pairs (upper, lower) of {3, 5, 9} and {1, 2, 3}, without (3, 3), give by hand
    # (2 - 2) / 4, (2 - 1) / 3, 1, (6 - 2) / 8, (6 - 1) / 7, 1, -1, -1; their median is that of 1/3 and 1/2.
    assert medcouple(np.array([1.0, 2, 3, 5, 9])) == pytest.approx((1 / 3 + 1 / 2) / 2)
    values = np.exp(np.random.default_rng(0).normal(size=501))
    assert medcouple(-values) == pytest.approx(-medcouple(values))


def test_fences_keep_a_skewed_bulk_and_cut_errors_of_both_signs():
    bulk = np.exp(0.8 * normal_quantiles(10_000))
    low, high = fences(np.concatenate([bulk, np.full(10, 1e6), np.full(10, -1e6)]))
    assert np.mean((bulk >= low) & (bulk <= high)) > 0.99
    assert low > -1e3
    assert high < 1e3


def test_fences_of_mostly_zeros_are_quantiles():
    values = np.concatenate([np.zeros(9_000), np.arange(1.0, 1_001)])
    low, high = fences(values)
    assert low == 0
    assert 900 < high < 1_000

"""Statistics of drift and their significance, against values worked out by hand, SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mlsys.monitor import drift, significance


def test_js_distance_of_a_fair_coin_and_a_sure_one_is_that_worked_out_by_hand():
    # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): JS = H(m) - H(p)/2 - H(q)/2 = 0.811278 - 0.5
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert drift.js_distance([3, 3], [8, 0]) == pytest.approx(math.sqrt(entropy - 0.5), abs=1e-12)


def test_chi_squared_test_of_two_by_two_is_that_worked_out_by_hand():
    # n (ad - bc)^2 / (row and column sums) = 60 (10*10 - 20*20)^2 / 30^4 = 6.6667
    assert drift.chi_squared_test([10, 20], [20, 10]).statistic == pytest.approx(20 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_ks_test_on_one_value_a_bin_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 40, 300), rng.integers(0, 43, 170)
    expected = stats.ks_2samp(x, y, method="asymp")
    got = drift.ks_test(np.bincount(x, minlength=43), np.bincount(y, minlength=43))
    assert got.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert got.pvalue == pytest.approx(expected.pvalue, rel=1e-9)


def test_wasserstein_distance_of_two_normals_is_the_difference_of_their_means():
    middle = (np.arange(2000) + 0.5) / 2000
    p, q = stats.norm.ppf(middle), stats.norm.ppf(middle, loc=0.7)
    assert drift.wasserstein_distance(p, q) == pytest.approx(0.7, abs=1e-9)


def test_population_stability_index_is_that_worked_out_by_hand():
    # (0.8 - 0.5) ln(0.8 / 0.5) + (0.2 - 0.5) ln(0.2 / 0.5) = 0.141001 + 0.274887
    assert drift.population_stability_index([50, 50], [80, 20]) == pytest.approx(0.415888, abs=1e-6)


def test_total_variation_and_l_infinity_are_those_worked_out_by_hand():
    # differences 0.3, 0.1, -0.1, -0.3
    p, q = [10, 20, 30, 40], [40, 30, 20, 10]
    assert drift.tv_distance(p, q) == pytest.approx(0.4)
    assert drift.l_infinity_distance(p, q) == pytest.approx(0.3)


def test_adjusted_pvalues_are_those_of_scipy():
    pvalues = np.random.default_rng(3).random(31) ** 3
    assert significance.benjamini_hochberg(pvalues) == pytest.approx(stats.false_discovery_control(pvalues), rel=1e-12)


def test_homogeneity_test_of_independent_rows_is_pearsons():
    p, q = np.array([250_000, 250_000, 500_000]), np.array([2_560, 2_460, 4_980])
    expected = stats.chi2_contingency(np.array([p, q]), correction=False)
    assert significance.homogeneity_test(p, q).pvalue == pytest.approx(expected.pvalue, rel=1e-9)


def test_homogeneity_test_with_a_measured_design_effect_follows_f():
    p, q = [300, 300, 400], [100, 130, 170]
    statistic = stats.chi2_contingency(np.array([p, q]), correction=False).statistic / 1.5
    expected = stats.f.sf(statistic / 2, 2, 2 * 6)
    assert significance.homogeneity_test(p, q, significance.Dispersion(1.5, 6)).pvalue == pytest.approx(
        expected, rel=1e-9
    )


def test_js_distance_stays_below_its_noise_floor_as_often_as_stated():
    """10,000 pairs: between 4.3 and 5.7 % lie above the 5 % floor (99.9 % range of a binomial)."""
    rng = np.random.default_rng(0)
    pairs = zip(rng.multinomial(50_000, [0.1] * 10, 10_000), rng.multinomial(2_000, [0.1] * 10, 10_000), strict=True)
    floor = significance.noise_floor(2_000, 50_000, 10, 0.05)
    assert np.mean([drift.js_distance(p, q) > floor for p, q in pairs]) == pytest.approx(0.05, abs=0.007)


def test_noise_floor_is_the_distance_that_chi_squared_gives():
    # 8 ln 2 JS / (1/n + 1/m) = the 0.95 quantile of chi-squared with 9 degrees of freedom, 16.91898
    floor = significance.noise_floor(1_000, 100_000, 10, 0.05)
    assert floor == pytest.approx(math.sqrt(16.91898 * (1 / 1_000 + 1 / 100_000) / (8 * math.log(2))), rel=1e-6)


def test_design_effect_of_whole_clusters_is_their_size():
    # 400 blocks of 25 rows that all fall in the same bin: rho = 1, so 25 rows are worth one
    chosen = np.random.default_rng(0).integers(0, 4, 400)
    counts = np.zeros((400, 4))
    counts[np.arange(400), chosen] = 25
    assert significance.design_effect([counts]).effect == pytest.approx(25, rel=0.01)
    assert significance.design_effect([counts]).freedom == 399

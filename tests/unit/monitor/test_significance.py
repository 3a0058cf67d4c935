from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.monitor import drift, significance
from mlsys.monitor.significance import Dispersion

counts = st.lists(st.integers(0, 10_000), min_size=4, max_size=4).filter(any)


@given(counts, counts)
def test_pooling_rare_bins_keeps_the_totals(p, q):
    a, b = significance.merge_rare(p, q)
    assert a.sum() == sum(p)
    assert b.sum() == sum(q)


@given(counts, counts, st.floats(1, 100))
def test_pvalues_are_probabilities_and_grow_with_the_design_effect(p, q, effect):
    plain = significance.homogeneity_test(p, q)
    careful = significance.homogeneity_test(p, q, Dispersion(effect))
    assert 0 <= plain.pvalue <= careful.pvalue <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusting_never_lowers_a_pvalue(pvalues):
    adjusted = significance.benjamini_hochberg(pvalues)
    assert (adjusted >= np.array(pvalues) - 1e-15).all()
    assert (adjusted <= 1).all()


def test_an_empty_side_has_no_pvalue():
    assert np.isnan(significance.homogeneity_test([0, 0], [1, 2]).pvalue)


@pytest.mark.parametrize("bins", [2, 5, 11, 40])
def test_homogeneity_test_keeps_its_level_on_one_distribution(bins):
    """2,000 pairs at 5 %: the number of rejections stays below the 99.9 % point of a binomial (132)."""
    rng = np.random.default_rng(bins)
    fractions = rng.dirichlet(np.ones(bins))
    reference, windows = rng.multinomial(20_000, fractions, 2_000), rng.multinomial(500, fractions, 2_000)
    rejected = sum(significance.homogeneity_test(p, q).pvalue <= 0.05 for p, q in zip(reference, windows, strict=True))
    assert rejected <= 132


def test_homogeneity_test_keeps_its_level_on_rows_that_come_in_clusters():
    """Rows of a day are alike (7 days of 200 rows, correlation 0.2); the plain test rejects nearly always."""
    rng = np.random.default_rng(5)
    base = np.array([0.1, 0.2, 0.3, 0.4])
    plain = careful = 0
    for _ in range(400):
        days = np.stack([rng.multinomial(200, p) for p in rng.dirichlet(base * 4, 7)])
        reference = np.stack([rng.multinomial(200, p) for p in rng.dirichlet(base * 4, 240)]).sum(axis=0)
        dispersion = significance.design_effect([days])
        plain += significance.homogeneity_test(reference, days.sum(axis=0)).pvalue <= 0.05
        careful += significance.homogeneity_test(reference, days.sum(axis=0), dispersion).pvalue <= 0.05
    assert plain > 300
    assert careful <= 34  # 99.9 % point of a binomial of 400 at 5 %


def test_a_real_shift_is_found_at_the_same_level():
    rng = np.random.default_rng(9)
    reference = rng.multinomial(20_000, [0.1] * 10)
    shifted = rng.multinomial(500, [0.04, 0.06, 0.07, 0.08, 0.1, 0.1, 0.11, 0.12, 0.14, 0.18])
    assert significance.homogeneity_test(reference, shifted).pvalue < 1e-6
    assert drift.js_distance(reference, shifted) > significance.noise_floor(500, 20_000, 10, 0.001)


def test_blocks_of_independent_rows_have_a_design_effect_near_one():
    table = np.random.default_rng(1).multinomial(100, [0.25] * 4, 200)
    assert significance.design_effect([table[:100], table[100:]]).effect == pytest.approx(1, abs=0.1)


def test_a_window_of_one_block_says_nothing_about_the_design_effect():
    assert significance.design_effect([[[3, 4, 5]], np.zeros((0, 3))]) == Dispersion()


def test_blocks_that_differ_in_one_way_alone_raise_no_more_alarms_than_stated():
    """Warm and cold days: numbers whose mean differs by day, in five weeks, against 50,000 rows of many days.

    Of 400 tests at 5 %, 33 is the 99.9 % point of a binomial; with one effect for all differences there are 100.
    """
    rng = np.random.default_rng(0)
    cuts = np.array([-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28])
    found = []
    for _ in range(400):
        days = rng.normal(0, np.sqrt(0.1), (5, 7, 1)) + rng.normal(0, np.sqrt(0.9), (5, 7, 285))
        weeks = [np.array([np.bincount(np.digitize(day, cuts), minlength=10) for day in week]) for week in days]
        dispersion = significance.design_effect(weeks)
        plain = dataclasses.replace(dispersion, unevenness=1.0)
        first = weeks[0].sum(axis=0)
        both = [significance.homogeneity_test([5_000] * 10, first, each).pvalue for each in (dispersion, plain)]
        found.append([p <= 0.05 for p in both])
    even, first_order = np.array(found).sum(axis=0)
    assert even <= 33 < first_order
    assert dispersion.unevenness > 2


def test_independent_rows_are_even():
    rng = np.random.default_rng(0)
    weeks = [rng.multinomial(500, [0.1] * 10, size=7) for _ in range(20)]
    assert significance.design_effect(weeks).unevenness == pytest.approx(1, abs=0.2)

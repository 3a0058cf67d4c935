"""Rates of a class by the model's score: against an optimiser of SciPy, hand computations, and a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from mlsys.evaluate import recalibration
from mlsys.evaluate.recalibration import NUM_CELLS, Recalibration
from mlsys.schema import Task, TaskKind

BINARY = Task(kind=TaskKind.BINARY, target="y", classes=(0, 1))
THREE = Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c"))


def drawn(num_rows, seed, *, slope=1.0, shift=0.0):
    """Logits of a model, and labels whose true logit is `slope` times that plus `shift`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1.5, num_rows)
    return special.expit(z), rng.random(num_rows) < special.expit(slope * z + shift)


def test_coefficients_are_those_of_the_largest_posterior():
    p, y = drawn(400, 1, slope=0.5)
    bins = recalibration.bins_of(p)
    own = Recalibration.fit(bins, y)
    z, basis = recalibration.logits()[bins], own.basis[bins]

    def loss(b):
        eta = z + basis @ b
        prior = (np.diff(b) ** 2 / np.maximum(np.diff(own.knots), 1)).sum() / 0.5**2 + (b**2).mean() / 2.0**2
        return np.logaddexp(0, eta).sum() - eta[y].sum() + prior / 2

    best = optimize.minimize(loss, np.zeros(basis.shape[1]), method="BFGS", options={"gtol": 1e-7})
    assert own.coefficients == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, 0.0), (1.0, 1.0)])
def test_rates_are_the_true_ones_whatever_the_model_says(slope, shift):
    p, y = drawn(200_000, 2, slope=slope, shift=shift)
    own = Recalibration.fit(recalibration.bins_of(p), y)
    z = recalibration.logits()
    usual = (z > -4) & (z < 2)  # two standard deviations of the scores
    assert own.rates[usual] == pytest.approx(special.expit(slope * z + shift)[usual], abs=0.02)


def test_a_model_that_hardly_dares_is_taken_for_what_its_scores_are_worth():
    """Logits a tenth of the true ones, between 0.37 and 0.63 as those of few trees are."""
    rng = np.random.default_rng(9)
    z = rng.uniform(-0.5, 0.5, 20_000)
    y = rng.random(20_000) < special.expit(10 * z)
    rates = Recalibration.fit(recalibration.bins_of(special.expit(z)), y).rates
    asked = recalibration.bins_of(special.expit(np.array([-0.3, 0.0, 0.3])))
    assert rates[asked] == pytest.approx(special.expit(10 * recalibration.logits()[asked]), abs=0.03)


def test_scores_of_exactly_one_have_the_rate_that_they_had():
    """A model that is certain of 1,000 rows, of which 900 are of the class."""
    p, y = np.repeat([1.0, 0.2], [1_000, 1_000]), np.concatenate([np.arange(1_000) < 900, np.arange(1_000) < 200])
    rates = Recalibration.fit(recalibration.bins_of(p), y).rates
    assert rates[recalibration.bins_of(np.array([1.0, 0.2]))] == pytest.approx([0.9, 0.2], abs=0.01)


def test_three_rows_overrule_a_model_only_a_little():
    own = Recalibration.fit(recalibration.bins_of(np.full(3, 0.5)), np.array([True, True, True]))
    assert 0.5 < own.rates[700] < 0.95


def test_the_covariance_of_rows_that_stand_alone_is_nearly_the_inverse_of_the_information():
    """For a model that holds, both sides of the sandwich are equal."""
    p, y = drawn(100_000, 3)
    bins = recalibration.bins_of(p)
    own = Recalibration.fit(bins, y)
    rate = own.rates[bins]
    precision = np.linalg.inv(own.covariance)
    information = (own.basis[bins].T * (rate * (1 - rate))) @ own.basis[bins]
    inner = slice(2, -2)
    assert np.diag(precision)[inner] == pytest.approx(np.diag(information)[inner], rel=0.1)


def test_rows_in_units_of_one_are_rows_that_stand_alone():
    p, y = drawn(2_000, 4)
    bins = recalibration.bins_of(p)
    alone, units = Recalibration.fit(bins, y), Recalibration.fit(bins, y, np.arange(2_000))
    assert units.coefficients == pytest.approx(alone.coefficients)
    assert np.diag(units.covariance) == pytest.approx(np.diag(alone.covariance), rel=1e-3)


def test_rows_that_come_four_at_a_time_are_a_quarter_as_sure():
    num = 50_000
    p, y = drawn(num, 5)
    bins, units = np.tile(recalibration.bins_of(p), 4), np.tile(np.arange(num), 4)
    one, four = Recalibration.fit(bins[:num], y, units[:num]), Recalibration.fit(bins, np.tile(y, 4), units)
    assert np.diag(four.covariance)[2:-2] == pytest.approx(np.diag(one.covariance)[2:-2], rel=0.15)
    level = np.ones(len(four.knots))
    assert (one.beside, one.design_effect(level, 9.0)) == (1, 1)
    assert four.design_effect(level, 4.0) == pytest.approx(4, rel=0.05)
    assert four.design_effect(level, 9.0) == pytest.approx(9, rel=0.05)


def test_the_design_effect_by_hand():
    """Over units of 5 rows the variance is 3 times that of independent ones: rho = (3 - 1) / (5 - 1) = 1/2."""
    own = Recalibration((0.0,), np.zeros(1), np.eye(1), (0, 400), 6 * np.eye(1), 2 * np.eye(1), 5.0)
    assert own.design_effect(np.ones(1), 11.0) == 1 + 10 / 2
    assert own.design_effect(np.ones(1), 0.5) == 1


def test_json_says_it_all():
    p, y = drawn(1_000, 6)
    own = Recalibration.fit(recalibration.bins_of(p), y)
    again = Recalibration.from_json(own.to_json())
    assert again.rates.tolist() == own.rates.tolist()
    assert again.covariance.tolist() == own.covariance.tolist()
    assert (again.ends, again.knots, again.beside) == (own.ends, own.knots, own.beside)
    assert again.clustered.tolist() == own.clustered.tolist()


def test_scores_are_counted_by_bin_and_by_what_the_row_is_called():
    output = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    low, high = recalibration.score_counts(output, BINARY, 0.5), recalibration.score_counts(output, BINARY, 0.6)
    assert (low.shape, low.sum()) == ((1, NUM_CELLS), 3)
    assert (low[0, 1401], low[0, 1400]) == (2, 0)  # bin 700 holds 0.5; called from 0.5 on, but not from 0.6 on
    assert (high[0, 1401], high[0, 1400]) == (0, 2)


def test_of_several_classes_the_most_probable_one_is_called():
    counts = recalibration.score_counts(np.array([[0.2, 0.5, 0.3]]), THREE, None)
    assert [np.flatnonzero(column)[0] % 2 for column in counts] == [0, 1, 0]


def test_a_number_has_no_scores_to_count():
    task = Task(kind=TaskKind.REGRESSION, target="y")
    assert recalibration.score_counts(np.zeros(3), task, None).shape == (0, NUM_CELLS)


def test_facts_need_rows_of_both_classes():
    p, y = drawn(1_000, 7)
    output = np.column_stack([1 - p, p])
    facts = recalibration.facts(y.astype(float), output, BINARY, None)
    assert (facts["num_rows"], facts["freedom"], len(facts["classes"])) == (1_000, None, 1)
    assert recalibration.facts(y.astype(float), output, BINARY, np.arange(1_000) // 100 + 7)["freedom"] == 9
    assert recalibration.facts(np.zeros(1_000), output, BINARY, None) is None
    assert recalibration.facts(y[:199].astype(float), output[:199], BINARY, None) is None

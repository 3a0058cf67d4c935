"""Means of trials: chosen as by exhaustive search where that is possible, and only where they are better."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from mlsys.tune import blending


def scored(seed, n=2_000, errors=(0.6, 0.6, 0.6), shared=0.0):
    """A binary target, and probabilities of models whose errors are independent but for a `shared` part."""
    rng = np.random.default_rng(seed)
    signal, common = rng.normal(size=n), rng.normal(size=n)
    y = (signal + rng.logistic(size=n) > 0).astype(float)
    scores = [signal + error * (shared * common + (1 - shared) * rng.normal(size=n)) for error in errors]
    return y, [np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-np.array(scores))))]


def test_independent_errors_are_averaged_and_the_score_is_scikit_learns():
    y, outputs = scored(0)
    blend = blending.select("log_loss", y, outputs, members=4)
    mean = sum(weight * outputs[number] for number, weight in blend.weights.items())
    assert set(blend.weights) == {0, 1, 2}
    assert sum(blend.weights.values()) == pytest.approx(1)
    assert blend.score == pytest.approx(log_loss(y, mean))
    assert blend.gain == pytest.approx(min(log_loss(y, output) for output in outputs) - blend.score)
    assert blend.is_better


def test_a_model_beside_which_the_others_are_noise_stays_alone():
    y, outputs = scored(1, errors=(0.1, 8.0, 8.0))
    blend = blending.select("roc_auc", y, outputs, members=4)
    assert (blend.weights, blend.gain, blend.is_better) == ({0: 1.0}, 0.0, False)


def test_a_gain_within_its_error_is_none():
    rng = np.random.default_rng(5)
    y = rng.normal(size=300)
    outputs = [y + rng.normal(size=300) * 1e-6 + 0.5, y + 0.5]
    blend = blending.select("rmse", y, outputs, members=4)
    assert not blend.is_better


@pytest.mark.parametrize("members", [1, 2, 3])
def test_there_are_no_more_members_than_asked_for(members):
    y, outputs = scored(2, errors=(0.6,) * 6)
    assert len(blending.select("roc_auc", y, outputs, members).weights) == members


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["log_loss", "roc_auc"]))
def test_the_mean_is_never_worse_than_the_best_single_one(seed, metric):
    y, outputs = scored(seed, n=300, errors=(0.5, 1.0, 1.5), shared=0.5)
    blend = blending.select(metric, y, outputs, members=3)
    assert blend.gain >= 0
    singles = [-log_loss(y, output) if metric == "log_loss" else roc_auc_score(y, output[:, 1]) for output in outputs]
    sign = -1 if metric == "log_loss" else 1
    assert sign * blend.score >= max(singles) - 1e-12


def test_of_two_models_the_weights_are_near_those_of_a_search_over_all():
    y, outputs = scored(3, errors=(0.5, 1.2))
    found = blending.select("log_loss", y, outputs, members=2)
    grid = np.linspace(0, 1, 201)
    losses = [log_loss(y, weight * outputs[0] + (1 - weight) * outputs[1]) for weight in grid]
    assert found.weights[0] == pytest.approx(grid[int(np.argmin(losses))], abs=0.1)
    assert found.score <= min(losses) + 1e-4


def test_where_the_metric_is_not_defined_there_is_no_mean():
    outputs = [np.tile([0.9, 0.1], (50, 1)), np.tile([0.8, 0.2], (50, 1))]
    blend = blending.select("roc_auc", np.zeros(50), outputs, members=2)
    assert (blend.weights, blend.is_better) == ({}, False)


def test_more_rows_than_it_looks_at_give_nearly_the_same_weights(monkeypatch):
    y, outputs = scored(4, n=20_000)
    whole = blending.select("log_loss", y, outputs, members=3)
    monkeypatch.setattr(blending, "ROWS", 5_000)
    part = blending.select("log_loss", y, outputs, members=3)
    for number in itertools.chain(whole.weights):
        assert part.weights[number] == pytest.approx(whole.weights[number], abs=0.15)

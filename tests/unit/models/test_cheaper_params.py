"""Parameters of a fit whose score alone counts, and the sentence that says so."""

import numpy as np
import pytest

from mlsys import models
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

THREE = Task(kind=TaskKind.MULTICLASS, target="y", classes=("x", "y", "z"))
kernel, xgboost = models.family("kernel"), models.family("xgboost")


def shaped(num_rows, num_features):
    X = np.zeros((num_rows, num_features), np.float32)
    return Matrix(X, np.zeros(num_rows), ("x",) * num_features, ("q",) * num_features)


def test_a_kernel_machine_is_compared_with_fewer_landmarks_than_it_is_fitted_with():
    params = models.params_of("kernel", {"width": 2})
    assert params.landmarks == 4_000
    cheaper = kernel.params_for_search(params)
    assert cheaper == models.params_of("kernel", {"width": 2, "landmarks": 2_000})
    assert kernel.params_for_comparison(params, THREE, shaped(10, 2)) == cheaper
    assert kernel.note_on_cheaper(params, [cheaper]) == (
        "kernel: scores are of fits with 2,000 landmarks; the final one has 4,000"
    )


def test_what_is_cheap_is_compared_as_it_is():
    for name, params in (
        ("kernel", models.params_of("kernel", {"landmarks": 500})),
        ("linear", models.params_of("linear", {})),
    ):
        family = models.family(name)
        assert family.params_for_search(params) is params
        assert family.params_for_comparison(params, THREE, shaped(10, 2)) is params
        assert family.note_on_cheaper(params, [params]) is None


def test_many_rows_of_many_features_are_compared_with_fewer_rounds_and_larger_steps():
    # By hand: 2e9 / (20,000 rows · 250 features) = 400 trees, of three classes 133 rounds; 0.05 · 600 / 133 = 0.2256.
    params = xgboost.params_for_comparison(models.params_of("xgboost", {}), THREE, shaped(20_000, 250))
    assert (params.rounds, params.learning_rate) == (133, pytest.approx(0.05 * 600 / 133))


def test_few_classes_and_features_are_compared_with_the_parameters_of_training():
    for name in ("xgboost", "linear"):
        params = models.params_of(name, {})
        assert models.family(name).params_for_comparison(params, THREE, shaped(40_000, 25)) is params


def test_parameters_are_searched_with_the_rounds_of_training():
    params = models.params_of("xgboost", {"rounds": 5_000})
    assert xgboost.params_for_search(params) is params

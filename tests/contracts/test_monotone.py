"""Predictions of boosted trees never fall along a feature that has to rise, nor rise along one that has to fall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, models
from mlsys.models.matrix import Matrix
from mlsys.schema import TargetLoss, Task, TaskKind

FAST = {"rounds": 25, "early_stopping": 0, "learning_rate": 0.3}
MEAN = {"members": [{"family": name, "params": FAST, "weight": 1} for name in ("xgboost", "lightgbm")]}
PARAMS = {"xgboost": FAST, "lightgbm": FAST, "catboost": FAST, "ensemble": MEAN}
LOSSES = {"quantile": {"quantile": 0.6}, "poisson": "poisson", "tweedie": "tweedie", "gamma": "gamma"}
TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(False, True)),
    "squared": Task(kind=TaskKind.REGRESSION, target="y"),
    "ranking": Task(kind=TaskKind.RANKING, target="y", group="g"),
    **{name: Task(kind=TaskKind.REGRESSION, target="y", loss=TargetLoss.of(loss)) for name, loss in LOSSES.items()},
}
PAIRS = sorted((name, loss) for name in ("xgboost", "lightgbm", "catboost") for loss in models.family(name).monotone)


def rows(loss, seed, n=300):
    """A target that wiggles along the first two features, and that a category moves."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    X[:, 2] = rng.integers(0, 4, n)
    signal = np.sin(3 * X[:, 0]) + np.cos(4 * X[:, 1]) + 0.3 * X[:, 2] + 0.4 * rng.normal(size=n)
    y = signal > 0.5 if loss == "binary" else signal if loss in ("squared", "quantile") else np.exp(signal)
    y = np.digitize(signal, [0, 1]) if loss == "ranking" else y
    groups = np.arange(n, dtype=np.uint64) // 10 if loss == "ranking" else None
    return Matrix(X, y.astype(np.float64), tuple("abcd"), ("q", "q", "c", "q"), signs=(1, -1, 0, 0), groups=groups)


def along(family, model, matrix, feature, number):
    """Score of a row at 40 values of a feature, ascending."""
    X = np.repeat(matrix.X[number : number + 1], 40, axis=0)
    X[:, feature] = np.linspace(-4, 4, 40)
    predicted = family.predict(model, X)
    return predicted[:, 1] if predicted.ndim == 2 else predicted


@pytest.mark.parametrize(("name", "loss"), [*PAIRS, ("ensemble", "squared")])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16))
def test_predictions_keep_the_direction_of_each_column(name, loss, seed):
    matrix, family = rows(loss, seed), models.for_task(name, TASKS[loss], is_monotone=True)
    params = models.params_of(name, PARAMS[name])
    model = family.fit(matrix, None, TASKS[loss], params, seed=seed, threads=1)
    for number in range(0, 300, 20):
        assert (np.diff(along(family, model, matrix, 0, number)) >= 0).all()
        assert (np.diff(along(family, model, matrix, 1, number)) <= 0).all()


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost"])
def test_without_the_constraint_they_do_not(name):
    matrix, family = rows("squared", 0), models.family(name)
    free = Matrix(matrix.X, matrix.y, matrix.names, matrix.types)
    model = family.fit(free, None, TASKS["squared"], models.params_of(name, FAST), seed=0, threads=1)
    assert min(np.diff(along(family, model, free, 0, number)).min() for number in range(50)) < -0.1


@pytest.mark.parametrize(
    ("name", "loss", "got"),
    [
        ("linear", "squared", "train.monotone for regression"),
        ("forest", "binary", "train.monotone for binary"),
        ("xgboost", "quantile", "train.monotone for loss: {quantile: 0.6}"),
        ("catboost", "gamma", "loss: gamma"),
    ],
)
def test_a_family_that_cannot_keep_a_direction_is_refused(name, loss, got):
    with pytest.raises(errors.RecipeError) as refused:
        models.for_task(name, TASKS[loss], is_monotone=True)
    assert f"models: family '{name}'\n  got:      {got}\n" in str(refused.value)


def test_no_family_keeps_the_direction_of_the_probabilities_of_several_classes():
    several = Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c"))
    with pytest.raises(errors.RecipeError, match="no family can: leave it out"):
        models.for_task("xgboost", several, is_monotone=True)


def test_a_mean_with_a_member_that_cannot_is_refused():
    members = [{"family": "lightgbm", "weight": 1}, {"family": "forest", "weight": 1}]
    params = models.params_of("ensemble", {"members": members})
    with pytest.raises(errors.RecipeError, match=r"family 'forest'\n  got:      train\.monotone for regression"):
        models.family("ensemble").fit(rows("squared", 0), None, TASKS["squared"], params, seed=0, threads=1)

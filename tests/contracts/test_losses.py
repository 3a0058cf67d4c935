"""Promises of each family for the losses that it says it can be fitted to, and of the others that they are refused."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys import errors, models
from mlsys.evaluate import metrics
from mlsys.models.matrix import Matrix
from mlsys.schema import TargetLoss, Task, TaskKind

LOSSES = {
    "quantile": TargetLoss.of({"quantile": 0.8}),
    "poisson": TargetLoss.of("poisson"),
    "tweedie": TargetLoss.of({"tweedie": 1.3}),
    "gamma": TargetLoss.of("gamma"),
}
FAST = {
    "forest": {"trees": 20},
    "extra_trees": {"trees": 20},
    "xgboost": {"rounds": 60, "early_stopping": 10, "learning_rate": 0.1},
    "lightgbm": {"rounds": 60, "early_stopping": 10, "learning_rate": 0.1},
    "catboost": {"rounds": 60, "early_stopping": 10, "learning_rate": 0.1},
    "ensemble": {
        "members": [
            {"family": "xgboost", "params": {"rounds": 40, "early_stopping": 0}, "weight": 2},
            {"family": "lightgbm", "params": {"rounds": 40}, "weight": 1},
        ]
    },
}
ABLE = sorted((name, loss) for name, family in models.FAMILIES.items() for loss in family.losses)
UNABLE = sorted((name, loss) for name in models.FAMILIES for loss in LOSSES if (name, loss) not in ABLE)


def task_of(loss):
    return Task(kind=TaskKind.REGRESSION, target="y", loss=LOSSES[loss])


def rows(loss, n=900):
    """Counts or amounts about a mean of 200 that two quantities and a category move."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 5, n)
    mean = 200 * np.exp(0.6 * X[:, 0] - 0.4 * X[:, 1] + 0.3 * (X[:, 3] == 2))
    y = {
        "quantile": lambda: mean + 40 * rng.normal(size=n),
        "poisson": lambda: rng.poisson(mean / 100),
        "tweedie": lambda: rng.poisson(mean / 200) * rng.gamma(3.0, 70.0, n),
        "gamma": lambda: rng.gamma(4.0, mean / 4),
    }[loss]()
    X[rng.random(X.shape) < 0.03] = np.nan
    return Matrix(X, y.astype(np.float64), tuple("abcd"), ("q", "q", "q", "c"))


@pytest.fixture(scope="module", params=ABLE, ids=[f"{name}-{loss}" for name, loss in ABLE])
def fitted(request):
    """Family, loss, model and rows, the first 600 of them fitted on."""
    name, loss = request.param
    family, matrix = models.for_task(name, task_of(loss)), rows(loss)
    params = models.params_of(name, FAST.get(name, {}))
    train, validation = matrix.take(np.arange(600)), matrix.take(np.arange(600, 750))
    return family, loss, family.fit(train, validation, task_of(loss), params, seed=3, threads=2), matrix


def test_predictions_are_finite_numbers_and_above_zero_on_the_scale_of_the_logarithm(fitted):
    family, loss, model, matrix = fitted
    predicted = family.predict(model, matrix.X)
    assert predicted.shape == (900,)
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all() or loss == "quantile"
    assert family.predict(model, matrix.X[:0]).shape == (0,)


def test_a_row_alone_has_the_bits_it_has_in_any_batch(fitted):
    family, _, model, matrix = fitted
    whole = family.predict(model, matrix.X)
    alone = np.concatenate([family.predict(model, matrix.X[i : i + 1]) for i in range(80)])
    assert alone.tobytes() == whole[:80].tobytes()
    for size in (2, 7, 63, 64, 65, 129):
        assert family.predict(model, matrix.X[:size]).tobytes() == whole[:size].tobytes()


def test_a_saved_model_predicts_the_same_bits_and_is_saved_as_the_same_bytes(fitted, tmp_path):
    family, _, model, matrix = fitted
    folders = [tmp_path / "first", tmp_path / "again"]
    for folder in folders:
        folder.mkdir()
    family.save(model, folders[0])
    loaded = family.load(folders[0])
    assert family.predict(loaded, matrix.X).tobytes() == family.predict(model, matrix.X).tobytes()
    family.save(loaded, folders[1])
    written = [{f.relative_to(d): f.read_bytes() for f in d.rglob("*") if f.is_file()} for d in folders]
    assert written[0] == written[1]


def test_odd_values_are_answered(fitted):
    family, _, model, matrix = fitted
    odd = np.repeat(matrix.X[:1], 4, axis=0)
    odd[0], odd[1], odd[2], odd[3, 3] = np.nan, np.inf, -1e30, 50
    assert np.isfinite(family.predict(model, odd)).all()


def test_what_can_be_learned_is_learned_by_the_metric_of_the_loss(fitted):
    family, loss, model, matrix = fitted
    metric, held = metrics.of_loss(LOSSES[loss]), matrix.take(np.arange(750, 900))
    dummy = models.family(models.BASELINE)
    constant = dummy.fit(matrix.take(np.arange(600)), None, task_of(loss), dummy.params(), seed=0, threads=1)
    floor = metric.function(held.y, dummy.predict(constant, held.X))
    reached = metric.function(held.y, family.predict(model, held.X))
    assert reached == floor if family is dummy else reached < 0.85 * floor


def test_means_are_right_on_average_and_quantiles_are_exceeded_as_often_as_they_say(fitted):
    family, loss, model, matrix = fitted
    own = matrix.take(np.arange(600))
    predicted = family.predict(model, own.X)
    if loss == "quantile":
        assert np.mean(own.y <= predicted) == pytest.approx(0.8, abs=0.1)
    else:  # exactly so for Poisson alone, of which the logarithm is the canonical link
        assert predicted.mean() == pytest.approx(own.y.mean(), rel=0.01 if loss == "poisson" else 0.16)


@pytest.mark.parametrize(("name", "loss"), UNABLE)
def test_a_family_that_cannot_is_refused_with_those_that_can(name, loss):
    with pytest.raises(errors.RecipeError) as refused:
        models.for_task(name, task_of(loss))
    text = str(refused.value)
    assert f"models: family '{name}'\n  got:      loss: {LOSSES[loss]}\n" in text
    assert text.endswith(f"families for it: {', '.join(sorted(n for n, able in ABLE if able == loss))}")


def test_each_loss_is_offered_by_the_linear_family_and_two_boosters():
    for loss in LOSSES:
        assert {"dummy", "linear", "xgboost", "lightgbm"} <= {name for name, able in ABLE if able == loss}


def test_a_mean_with_a_member_that_cannot_is_refused():
    members = [{"family": "lightgbm", "weight": 1}, {"family": "forest", "weight": 1}]
    params = models.params_of("ensemble", {"members": members})
    with pytest.raises(errors.RecipeError, match="models: family 'forest'\n  got:      loss: gamma"):
        models.family("ensemble").fit(rows("gamma"), None, task_of("gamma"), params, seed=0, threads=1)


@pytest.mark.parametrize("name", ["catboost", "lightgbm", "xgboost"])
def test_the_parameter_of_a_booster_fits_what_the_loss_of_the_recipe_does(name):
    family, matrix = models.family(name), rows("poisson")
    usual = Task(kind=TaskKind.REGRESSION, target="y")
    params = models.params_of(name, {"rounds": 40, "early_stopping": 0, "learning_rate": 0.1})
    linked = params.model_copy(update={"loss": "poisson"})
    made = [
        family.predict(family.fit(matrix, None, task, own, seed=3, threads=1), matrix.X)
        for task, own in ((task_of("poisson"), params), (usual, linked), (usual, params))
    ]
    assert made[0].tobytes() == made[1].tobytes()
    assert made[0].tobytes() != made[2].tobytes()


@pytest.mark.parametrize("name", ["catboost", "lightgbm", "xgboost"])
def test_a_stored_booster_of_that_parameter_predicts_the_same(name, tmp_path):
    family, matrix = models.family(name), rows("poisson")
    params = models.params_of(name, {"rounds": 20, "early_stopping": 5, "loss": "poisson"})
    task = Task(kind=TaskKind.REGRESSION, target="y")
    model = family.fit(matrix.take(np.arange(700)), matrix.take(np.arange(700, 900)), task, params, seed=3, threads=1)
    family.save(model, tmp_path)
    assert family.predict(family.load(tmp_path), matrix.X).tobytes() == family.predict(model, matrix.X).tobytes()

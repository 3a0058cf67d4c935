"""Exposure as weights of rates: what it is as an offset on the scale of the logarithm, in the libraries' own words."""

import lightgbm
import numpy as np
import pytest
import xgboost
from scipy.optimize import minimize

from mlsys import models
from mlsys.evaluate.deviances import tweedie
from mlsys.models.matrix import Matrix
from mlsys.schema import TargetLoss, Task

LOSSES = {1.0: "poisson", 1.5: "tweedie", 2.0: "gamma"}


def rows(power, n=400):
    """Features of a few values, so that bins are the same whatever rows weigh."""
    rng = np.random.default_rng(8)
    X = rng.integers(0, 8, (n, 2)).astype(np.float32)
    exposure = rng.uniform(0.2, 4.0, n)
    mean = exposure * np.exp(0.2 * X[:, 0] - 0.1 * X[:, 1])
    draw = {1.0: lambda: rng.poisson(mean), 1.5: lambda: rng.poisson(mean) * rng.gamma(2.0, 0.5, n)}
    y = draw.get(power, lambda: rng.gamma(3.0, mean / 3))()
    return Matrix(X, y.astype(np.float64), ("a", "b"), ("q", "q"), exposure=exposure)


def task(power):
    return Task(kind="regression", target="y", loss=TargetLoss.of(LOSSES[power]), exposure="e")


@pytest.mark.parametrize("power", LOSSES)
def test_the_deviance_of_a_total_is_that_of_its_rate_times_the_weight(power):
    matrix, mean = rows(power), np.linspace(0.1, 9.0, 400)
    rates = matrix.as_counted(power)
    np.testing.assert_allclose(
        tweedie(matrix.y, matrix.exposure * mean, power), rates.weight * tweedie(rates.y, mean, power), rtol=1e-9
    )


def test_own_weights_and_those_of_the_exposure_are_multiplied():
    matrix = Matrix(np.zeros((2, 0)), np.array([6.0, 5.0]), (), (), np.array([2.0, 3.0]), np.array([3.0, 1.0]))
    assert matrix.as_counted(1.0).weight.tolist() == [6.0, 3.0]
    assert matrix.as_counted(2.0).weight.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("power", LOSSES)
def test_the_linear_model_is_that_with_the_logarithm_of_the_exposure_as_offset(power):
    matrix, family = rows(power), models.family("linear")
    model = family.fit(matrix.as_counted(power), None, task(power), family.params(l2=1e-6), seed=0, threads=1)
    X = np.column_stack([np.ones(400), matrix.X])

    def deviance(beta):
        return tweedie(matrix.y, np.exp(X @ beta + np.log(matrix.exposure)), power).sum()

    best = minimize(deviance, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(family.predict(model, matrix.X), np.exp(X @ best), rtol=1e-3)


SETTINGS = {"rounds": 20, "early_stopping": 0, "learning_rate": 0.2}


def test_xgboost_grows_the_trees_that_it_grows_on_a_base_margin():
    matrix, family = rows(1.0), models.family("xgboost")
    rates = matrix.as_counted(1.0)
    params = family.params(**SETTINGS, subsample=1.0, colsample_bytree=1.0, max_depth=3)
    model = family.fit(rates, None, task(1.0), params, seed=0, threads=1)
    start = np.log(np.average(rates.y, weights=rates.weight))
    data = xgboost.QuantileDMatrix(matrix.X, matrix.y, base_margin=np.log(matrix.exposure) + start)
    theirs = xgboost.train({"objective": "count:poisson", "max_depth": 3, "eta": 0.2, "nthread": 1}, data, 20)
    unit = xgboost.DMatrix(matrix.X, base_margin=np.full(400, start))
    np.testing.assert_allclose(family.predict(model, matrix.X), theirs.predict(unit), rtol=1e-3)


def test_lightgbm_grows_the_trees_that_it_grows_on_an_initial_score():
    matrix, family = rows(1.0), models.family("lightgbm")
    rates = matrix.as_counted(1.0)
    own = {"bagging_fraction": 1.0, "feature_fraction": 1.0, "lambda_l2": 1.0, "num_leaves": 8, "min_data_in_leaf": 5}
    model = family.fit(rates, None, task(1.0), family.params(**SETTINGS, **own), seed=0, threads=1)
    start = np.log(np.average(rates.y, weights=rates.weight))
    data = lightgbm.Dataset(matrix.X, matrix.y, init_score=np.log(matrix.exposure) + start)
    same = {"objective": "poisson", "learning_rate": 0.2, "verbosity": -1, "deterministic": True, "num_threads": 1}
    theirs = lightgbm.train({**own, **same}, data, 20)
    expected = np.exp(theirs.predict(matrix.X, raw_score=True) + start)
    np.testing.assert_allclose(family.predict(model, matrix.X), expected, rtol=1e-3)

"""Linear models of quantiles, counts and amounts against scikit-learn's, which are solved in other ways."""

import numpy as np
import pytest
from sklearn.linear_model import GammaRegressor, PoissonRegressor, QuantileRegressor, TweedieRegressor
from sklearn.metrics import mean_pinball_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlsys import models
from mlsys.models.matrix import Matrix
from mlsys.schema import TargetLoss, Task

LINEAR = models.family("linear")


def rows(kind, n=500):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    mean = np.exp(1.0 + 0.5 * X[:, 0] - 0.3 * X[:, 1])
    draw = {
        "poisson": lambda: rng.poisson(mean),
        "gamma": lambda: rng.gamma(2.0, mean / 2),
        "tweedie": lambda: rng.poisson(mean) * rng.gamma(2.0, 0.5, n),
        "line": lambda: 1000 * (X[:, 0] - 2 * X[:, 1]) + 500 * rng.standard_t(3, n),
    }
    return Matrix(X, draw[kind]().astype(np.float64), tuple("abc"), ("q",) * 3)


def fit(matrix, loss, **params):
    task = Task(kind="regression", target="y", loss=TargetLoss.of(loss))
    return LINEAR.fit(matrix, None, task, LINEAR.params(**params), seed=0, threads=1)


@pytest.mark.parametrize(
    ("kind", "loss", "theirs"),
    [
        ("poisson", "poisson", lambda alpha: PoissonRegressor(alpha=alpha, tol=1e-8, max_iter=1000)),
        ("gamma", "gamma", lambda alpha: GammaRegressor(alpha=alpha, tol=1e-8, max_iter=1000)),
        ("tweedie", {"tweedie": 1.7}, lambda alpha: TweedieRegressor(power=1.7, alpha=alpha, tol=1e-8, max_iter=1000)),
    ],
)
def test_a_log_linear_model_predicts_as_scikit_learns_pipeline(kind, loss, theirs):
    matrix = rows(kind)
    model = fit(matrix, loss, l2=5.0)
    pipeline = make_pipeline(StandardScaler(), theirs(5.0 / matrix.num_rows))
    expected = pipeline.fit(matrix.X.astype(np.float64), matrix.y).predict(matrix.X.astype(np.float64))
    assert model.facts.converged
    np.testing.assert_allclose(LINEAR.predict(model, matrix.X), expected, rtol=1e-4)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_quantile_is_as_good_as_that_of_a_linear_programme(quantile):
    matrix = rows("line")
    model = fit(matrix, {"quantile": quantile}, l2=1e-6)
    X = matrix.X.astype(np.float64)
    exact = QuantileRegressor(quantile=quantile, alpha=0.0).fit(X, matrix.y).predict(X)
    predicted = LINEAR.predict(model, matrix.X)
    least, reached = (mean_pinball_loss(matrix.y, each, alpha=quantile) for each in (exact, predicted))
    assert model.facts.converged
    assert least <= reached * (1 + 1e-12)
    assert reached < 1.001 * least
    assert np.mean(matrix.y <= predicted) == pytest.approx(quantile, abs=2 / matrix.num_rows)


def test_a_quantile_in_another_unit_is_the_same_line():
    matrix = rows("line")
    other = Matrix(matrix.X, 1e-4 * matrix.y + 7, matrix.names, matrix.types)
    ours, theirs = (LINEAR.predict(fit(each, {"quantile": 0.7}), matrix.X) for each in (matrix, other))
    np.testing.assert_allclose(1e-4 * ours + 7, theirs, rtol=1e-9)


def test_a_value_far_beyond_the_training_rows_is_answered_within_their_range():
    matrix = rows("poisson")
    model = fit(matrix, "poisson")
    known = LINEAR.predict(model, matrix.X)
    far = LINEAR.predict(model, np.array([[1e6, 0, 0], [-1e6, 0, 0]], np.float32))
    assert far.tolist() == [known.max(), known.min()]


def test_files_of_models_without_a_loss_of_the_recipe_say_nothing_of_logarithms(tmp_path):
    LINEAR.save(fit(rows("line"), "auto"), tmp_path)
    assert "logs" not in (tmp_path / "linear.json").read_text()

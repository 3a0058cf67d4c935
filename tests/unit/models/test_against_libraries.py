"""Our predictions against those of the libraries that fitted the models."""

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlsys import models
from mlsys.models import matrix as models_matrix
from mlsys.models.families import xgboost as xgboost_family
from mlsys.models.families.linear import Linear, LinearFacts
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

linear, forest, boosting = (models.family(name) for name in ("linear", "forest", "xgboost"))

TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(0, 1)),
    "multiclass": Task(kind=TaskKind.MULTICLASS, target="y", classes=(0, 1, 2)),
    "regression": Task(kind=TaskKind.REGRESSION, target="y"),
}


def matrix(kind, *, missing=0.0, n=300):
    rng = np.random.default_rng(11)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    signal = X[:, 0] - 2 * X[:, 1] + 0.5 * rng.normal(size=n)
    X[rng.random(X.shape) < missing] = np.nan
    y = {"binary": signal > 0, "multiclass": np.digitize(signal, [-1, 1]), "regression": signal}[kind]
    return Matrix(X, y.astype(np.float64), tuple("abcd"), ("q",) * 4)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_linear_predicts_as_scikit_learns_pipeline(kind):
    rows = matrix(kind)
    ours = linear.predict(linear.fit(rows, None, TASKS[kind], linear.params(l2=2.0), seed=0, threads=1), rows.X)
    X = rows.X.astype(np.float64)
    if kind == "regression":
        theirs = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(X, rows.y).predict(X)
    else:
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500))
        theirs = pipeline.fit(X, rows.y.astype(int)).predict_proba(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_linear_centres_the_coordinates_of_an_embedding_and_leaves_their_scale(kind):
    rows = matrix(kind)
    coordinates = Matrix(rows.X * [10, 1, 0.1, 1], rows.y, rows.names, ("e", "e", "e", "q"))
    ours = linear.fit(coordinates, None, TASKS[kind], linear.params(), seed=0, threads=1)
    X = coordinates.X.astype(np.float64)
    np.testing.assert_allclose(ours.centre, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(ours.scale, [1, 1, 1, X[:, 3].std()], rtol=1e-12)
    X = (X - ours.centre) / ours.scale
    if kind == "regression":
        theirs = Ridge().fit(X, rows.y).predict(X)
    else:
        theirs = LogisticRegression(max_iter=500).fit(X, rows.y.astype(int)).predict_proba(X)
    np.testing.assert_allclose(linear.predict(ours, coordinates.X), theirs, rtol=1e-9, atol=1e-9)


def test_boosting_takes_coordinates_as_quantities():
    rows = matrix("binary")
    one, two = (
        boosting.fit(
            Matrix(rows.X, rows.y, rows.names, kinds),
            None,
            TASKS["binary"],
            boosting.params(rounds=5),
            seed=0,
            threads=1,
        )
        for kinds in (("q",) * 4, ("e", "e", "q", "q"))
    )
    assert boosting.predict(one, rows.X).tobytes() == boosting.predict(two, rows.X).tobytes()


@pytest.mark.parametrize("kind", sorted(TASKS))
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_forest_predicts_as_scikit_learns(kind, missing):
    rows = matrix(kind, missing=missing)
    params = forest.params(trees=20, min_leaf_rows=3, feature_fraction=0.5)
    ours = forest.predict(forest.fit(rows, None, TASKS[kind], params, seed=4, threads=1), rows.X)
    made = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    grown = made(20, max_depth=16, min_samples_leaf=3, max_features=0.5, max_samples=300, random_state=4)
    grown.fit(rows.X, rows.y)
    theirs = grown.predict(rows.X) if kind == "regression" else grown.predict_proba(rows.X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_forest_does_not_depend_on_threads():
    rows, params = matrix("binary"), forest.params(trees=12)
    one, four = (forest.fit(rows, None, TASKS["binary"], params, seed=0, threads=n) for n in (1, 4))
    assert forest.predict(one, rows.X).tobytes() == forest.predict(four, rows.X).tobytes()


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_boosting_predicts_as_xgboosts_own_booster(kind):
    rows = matrix(kind, missing=0.1)
    model = boosting.fit(rows, None, TASKS[kind], boosting.params(rounds=20), seed=0, threads=1)
    theirs = model.booster.predict(xgboost.DMatrix(rows.X, feature_types=["q"] * 4))
    ours = boosting.predict(model, rows.X)
    np.testing.assert_allclose(ours[:, 1] if kind == "binary" else ours, theirs, rtol=2e-6, atol=1e-6)


def test_the_kept_rounds_are_those_of_the_least_validation_loss():
    rows = matrix("binary", n=400)
    train, held = rows.take(np.arange(300)), rows.take(np.arange(300, 400))
    params = boosting.params(rounds=300, early_stopping=20, learning_rate=0.3, subsample=1, colsample_bytree=1)
    model = boosting.fit(train, held, TASKS["binary"], params, seed=0, threads=1)
    whole = boosting.fit(train, None, TASKS["binary"], params.model_copy(update={"rounds": 120}), seed=0, threads=1)

    def loss(n):
        p = whole.booster.predict(xgboost.DMatrix(held.X), iteration_range=(0, n)).astype(np.float64)
        return -np.mean(np.log(np.where(held.y == 1, p, 1 - p)))

    losses = [loss(n) for n in range(1, model.rounds + 21)]
    assert model.rounds == int(np.argmin(losses)) + 1


def test_blocks_give_the_booster_of_the_whole():
    rows = matrix("binary", missing=0.1)
    blocks = [rows.take(np.arange(start, start + 100)) for start in (0, 100, 200)]
    options = {"task": TASKS["binary"], "params": boosting.params(rounds=10), "seed": 0, "threads": 1}
    spread, whole = boosting.fit_blocks(blocks, None, **options), boosting.fit_blocks([rows], None, **options)
    np.testing.assert_allclose(boosting.predict(spread, rows.X), boosting.predict(whole, rows.X), atol=0.02)


def test_some_of_the_rounds_are_reported():
    rows = matrix("multiclass")
    seen = []
    params = boosting.params(rounds=50, early_stopping=50)
    options = {"seed": 0, "threads": 1, "progress": seen.append}
    model = boosting.fit(rows, rows, TASKS["multiclass"], params, **options)
    assert seen == [25, 50]
    assert model.rounds == 50


def test_a_model_of_another_program_is_refused():
    booster = xgboost.train({}, xgboost.DMatrix(np.ones((3, 2)), np.ones(3)), 1)
    with pytest.raises(ValueError, match="attributes of mlsys"):
        boosting.from_bytes(bytes(booster.save_raw("ubj")))


scores = arrays.arrays(np.float64, st.tuples(st.integers(1, 70), st.integers(1, 9)), elements=st.floats(-800, 800))


@settings(max_examples=60)
@given(scores)
def test_a_rows_probabilities_have_the_same_bits_alone(z):
    whole = models_matrix.probabilities(z)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    for i in range(len(z)):
        assert models_matrix.probabilities(z[i : i + 1]).tobytes() == whole[i : i + 1].tobytes()


@settings(max_examples=30)
@given(st.integers(1, 150), st.integers(1, 40), st.integers(0, 3))
def test_linear_rows_have_the_same_bits_alone_for_any_shape(n, width, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width)).astype(np.float32)
    facts = LinearFacts(classes=3, present=(0, 1, 2), converged=True)
    model = Linear(
        facts, rng.normal(size=width), rng.random(width) + 0.1, rng.normal(size=(width, 3)), rng.normal(size=3)
    )
    whole = linear.predict(model, X)
    alone = np.concatenate([linear.predict(model, X[i : i + 1]) for i in range(n)])
    assert alone.tobytes() == whole.tobytes()


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_boosting_stops_at_the_same_round_whether_rows_stay_numbers_or_are_binned(kind, monkeypatch):
    rows = matrix(kind, missing=0.1, n=900)
    train, stopping = rows.take(np.arange(900) < 600), rows.take(np.arange(900) >= 600)
    params = boosting.params(rounds=200, early_stopping=5, learning_rate=0.3)
    fitted = []
    for most in (train.num_rows * train.num_features, 0):
        monkeypatch.setattr(xgboost_family, "SMALL_VALUES", most)
        fitted.append(boosting.fit(train, stopping, TASKS[kind], params, seed=3, threads=1))
    numbers, bins = map(boosting.to_bytes, fitted)
    assert 1 < fitted[0].rounds < 200
    assert numbers == bins

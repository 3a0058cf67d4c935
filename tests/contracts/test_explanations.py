"""The promises of `Family.contributions`: they add up to what a family predicts, of each family that has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from mlsys import errors, models
from mlsys.models.calibration import Calibrated, Temperature
from mlsys.models.class_balance import Corrected, PriorCorrection
from mlsys.models.matrix import Matrix
from mlsys.models.target_transform import TargetTransform, Transformed
from mlsys.schema import Task, TaskKind

TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(False, True)),
    "multiclass": Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c")),
    "regression": Task(kind=TaskKind.REGRESSION, target="y"),
}
FAST = {
    "forest": {"trees": 15},
    "extra_trees": {"trees": 15},
    "xgboost": {"rounds": 30},
    "lightgbm": {"rounds": 30},
    "catboost": {"rounds": 30},
    "ensemble": {
        "members": [
            {"family": "xgboost", "params": {"rounds": 20}, "weight": 2},
            {"family": "lightgbm", "params": {"rounds": 20}, "weight": 1},
        ]
    },
}
EXPLAINED = sorted(name for name in models.FAMILIES if models.FAMILIES[name].explains)


def rows(kind, n=300):
    """Quantities and a category, some values missing, with a signal in three of them; the last one says nothing."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    X[:, 4] = rng.integers(0, 6, n)
    signal = 2 * X[:, 0] - X[:, 1] * X[:, 0] + X[:, 4] % 3 + 0.3 * rng.normal(size=n)
    X[rng.random(X.shape) < 0.05] = np.nan
    X[:, 5] = 1.0
    y = {"binary": signal > 1, "multiclass": np.digitize(signal, [0, 2]), "regression": signal}[kind]
    return Matrix(X, y.astype(np.float64), tuple("abcdef"), ("q", "q", "q", "q", "c", "q"))


@pytest.fixture(scope="module", params=EXPLAINED)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=sorted(TASKS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name, kind):
    matrix, params = rows(kind), models.params_of(name, FAST.get(name, {}))
    return models.family(name).fit(matrix, None, TASKS[kind], params, seed=3, threads=2), matrix.X[:40]


def outputs_of(kind, predicted):
    if kind == "regression":
        return np.zeros(len(predicted), int)
    return np.ones(len(predicted), int) if kind == "binary" else predicted.argmax(axis=1)


def test_they_add_up_to_the_prediction(name, kind, fitted):
    model, X = fitted
    predicted = models.predict(name, model, X)
    outputs = outputs_of(kind, predicted)
    own = models.contributions(name, model, X, outputs)
    assert own.values.shape == X.shape
    p = None if kind == "regression" else predicted[np.arange(len(X)), outputs]
    if own.scale in ("value", "probability"):
        assert own.output == pytest.approx(predicted if p is None else p, rel=1e-5, abs=1e-5)
    elif own.scale == "log_odds":
        assert own.output == pytest.approx(logit(p), rel=1e-4, abs=1e-5)
    elif own.scale == "score":
        each = [models.contributions(name, model, X, np.full(len(X), k)).output for k in range(3)]
        scores = np.stack(each, axis=1)
        softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        assert softmax == pytest.approx(predicted, rel=1e-4, abs=1e-5)
    else:
        assert name == "ensemble"
        parts = zip(model.facts.families, model.members, model.facts.weights, strict=True)
        mean = sum(w * models.contributions(family, member, X, outputs).output for family, member, w in parts)
        assert own.output == pytest.approx(mean, rel=1e-9)


def test_no_rows_have_no_contributions(name, fitted):
    model, X = fitted
    own = models.contributions(name, model, X[:0], np.zeros(0, int))
    assert own.values.shape == (0, X.shape[1])
    assert own.base.shape == (0,)


@pytest.mark.parametrize("name", [each for each in EXPLAINED if each not in {"dummy", "ensemble"}])
def test_a_label_that_is_explained_in_no_row_asks_its_model_for_nothing(name):
    X = rows("binary").X[:200]
    y = (X[:, 1] > 0) + 2.0 * (X[:, 2] > 0)
    matrix = Matrix(X, y, tuple("abcdef"), ("q", "q", "q", "q", "c", "q"))
    task = Task(kind="multilabel", target="y", labels=("one", "two"))
    learner, params = models.learner(name, task), models.params_of(name, FAST.get(name, {}))
    model = learner.fit(matrix, None, task, params, seed=3, threads=1)
    predicted = models.predict(name, model, X[:5])
    for label in (0, 1):
        own = models.contributions(name, model, X[:5], np.full(5, label))
        output = expit(own.output) if own.scale == "log_odds" else own.output
        assert output == pytest.approx(predicted[:, label], rel=1e-4, abs=1e-5)


def test_a_feature_without_variety_contributes_nothing(name, fitted):
    model, X = fitted
    own = models.contributions(name, model, X, np.zeros(len(X), int))
    assert np.abs(own.values[:, 5]).max() == 0
    if name != models.BASELINE:
        assert np.abs(own.values[:, 0]).max() > 0


def test_they_survive_being_stored(name, fitted, tmp_path):
    model, X = fitted
    models.save(name, model, tmp_path)
    zeros = np.zeros(len(X), int)
    before, after = (models.contributions(name, m, X, zeros) for m in (model, models.load(name, tmp_path)))
    assert before.values.tobytes() == after.values.tobytes()
    assert before.base.tobytes() == after.base.tobytes()


@pytest.mark.parametrize("name", ["linear", "xgboost", "forest"], indirect=True)
@pytest.mark.parametrize("kind", ["binary"], indirect=True)
def test_corrected_and_calibrated_log_odds_are_those_of_the_prediction(name, fitted):
    model, X = fitted
    whole = Calibrated(Corrected(model, PriorCorrection(factors=(0.6, 3.0))), Temperature(temperature=1.7))
    own = models.contributions(name, whole, X, np.ones(len(X), int))
    if name == "forest":
        assert own.scale == "uncalibrated_probability"
        assert own.output == pytest.approx(models.predict(name, model, X)[:, 1])
    else:
        assert own.scale == "log_odds"
        assert own.output == pytest.approx(logit(models.predict(name, whole, X)[:, 1]), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["linear", "lightgbm"], indirect=True)
@pytest.mark.parametrize("kind", ["regression"], indirect=True)
def test_a_difference_counts_for_the_feature_that_it_is_taken_to(name, fitted):
    model, X = fitted
    target = TargetTransform(kind="difference", low=-9, high=9, centre=0.25, place=2)
    whole = Transformed(model, target)
    own = models.contributions(name, whole, X, np.zeros(len(X), int))
    assert own.output == pytest.approx(models.predict(name, whole, X), rel=1e-5, abs=1e-6)
    log = Transformed(model, TargetTransform(kind="log", low=-9, high=9))
    assert models.contributions(name, log, X, np.zeros(len(X), int)).scale == "transformed_value"


def test_families_without_an_exact_method_say_which_have_one():
    with pytest.raises(errors.RequestError) as caught:
        models.check_explained("kernel")
    assert str(caught.value) == (
        "explain: model of family 'kernel'\n  got:      a family without an exact method\n"
        "  expected: one of catboost, decision_tree, dummy, ensemble, extra_trees, forest, lightgbm, linear, xgboost\n"
        "  hint:     leave explain out"
    )
    assert caught.value.violations[0]["field"] == "params.explain"


def test_an_ensemble_of_trees_and_boosting_has_no_common_scale():
    members = [{"family": "forest", "params": {"trees": 5}, "weight": 1}, {"family": "lightgbm", "weight": 1}]
    matrix, params = rows("binary"), models.params_of("ensemble", {"members": members})
    model = models.family("ensemble").fit(matrix, None, TASKS["binary"], params, seed=3, threads=2)
    with pytest.raises(errors.RequestError, match="different scales: log_odds, probability"):
        models.contributions("ensemble", model, matrix.X[:3], np.ones(3, int))


def test_a_forest_that_was_stored_without_weights_of_rows_says_so(tmp_path):
    matrix = rows("regression")
    model = models.family("forest").fit(
        matrix, None, TASKS["regression"], models.params_of("forest", {"trees": 3}), seed=0, threads=1
    )
    models.save("forest", model, tmp_path)
    (tmp_path / "cover.npz").unlink()
    facts = tmp_path / "forest.json"
    facts.write_text(facts.read_text().replace(',\n "has_cover": true', ""))
    old = models.load("forest", tmp_path)
    assert models.predict("forest", old, matrix.X).tobytes() == models.predict("forest", model, matrix.X).tobytes()
    with pytest.raises(errors.RequestError, match="trained again"):
        models.contributions("forest", old, matrix.X[:3], np.zeros(3, int))

"""Functions of single rows give the bits of the prediction of a matrix, in every family that has one."""

import threading

import numpy as np
import pytest

from mlsys import errors, models
from mlsys.models.calibration import Calibrated, LabelTemperatures, Temperature
from mlsys.models.class_balance import Corrected, PriorCorrection
from mlsys.models.matrix import Matrix
from mlsys.models.target_transform import TargetTransform, Transformed
from mlsys.schema import Task, TaskKind

FAMILIES = {
    "xgboost": {"rounds": 30},
    "lightgbm": {"rounds": 30, "min_data_in_leaf": 3},
    "forest": {"trees": 12},
    "extra_trees": {"trees": 12},
    "decision_tree": {},
    "ensemble": {
        "members": [
            {"family": "xgboost", "params": {"rounds": 10}, "weight": 1.0},
            {"family": "lightgbm", "params": {"rounds": 10}, "weight": 2.0},
            {"family": "forest", "params": {"trees": 5}, "weight": 1.0},
        ]
    },
}
CLASSES = {TaskKind.BINARY: (False, True), TaskKind.MULTICLASS: ("a", "b", "c"), TaskKind.REGRESSION: ()}


def rows(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, 5)).astype(np.float32)
    X[:, 3] = rng.integers(0, 12, num_rows)
    X[:, 4] = np.round(X[:, 4])
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def hostile(num_rows=200):
    """Rows of any floats: limits of trees and their neighbours, infinities, categories that are none."""
    rng = np.random.default_rng(1)
    X = rows(num_rows, seed=2)
    listed = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -3e38, 1e-40, -1.0, 12.0, 300.0, 2.5], np.float32)
    places = rng.random(X.shape) < 0.4
    X[places] = rng.choice(listed, places.sum())
    return X


@pytest.fixture(scope="module")
def fitted():
    """Function (family, kind): a model of generated rows."""
    made = {}

    def fit(name, kind):
        if (name, kind) not in made:
            X = rows(600)
            value = np.nan_to_num(X[:, 0]) + (np.nan_to_num(X[:, 3]) % 3 == 1) + 0.1 * np.nan_to_num(X[:, 4])
            y = value.astype(np.float64)
            if CLASSES[kind]:
                y = np.digitize(value, np.quantile(value, [0.5] if len(CLASSES[kind]) == 2 else [0.3, 0.7])) * 1.0
            matrix = Matrix(X, y, tuple("abcde"), ("q", "q", "q", "c", "q"))
            task = Task(kind=kind, target="y", classes=CLASSES[kind])
            params = models.params_of(name, FAMILIES[name])
            made[name, kind] = models.family(name).fit(matrix, None, task, params, seed=0, threads=1)
        return made[name, kind]

    return fit


def same(name, model, X):
    function = models.row_function(name, model)
    whole = models.predict(name, model, X)
    single = np.concatenate([function(X[at : at + 1]) for at in range(len(X))])
    assert single.dtype == whole.dtype
    assert single.tobytes() == whole.tobytes()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_single_row_has_the_bits_of_the_matrix(fitted, name, kind):
    same(name, fitted(name, kind), hostile())


def test_a_limit_and_its_neighbours_go_the_same_way(fitted):
    model = fitted("xgboost", TaskKind.BINARY)
    limits = model.booster.trees_to_dataframe()["Split"].dropna().to_numpy(np.float32)[:60]
    X = np.repeat(rows(3, seed=4), len(limits), axis=0)
    X[:, 0] = X[:, 1] = np.tile(limits, 3)
    for end in (None, -np.inf, np.inf):
        same("xgboost", model, X if end is None else np.nextafter(X, np.float32(end)))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_what_predictions_go_through_is_the_same_for_a_single_row(fitted, name):
    binary, value = fitted(name, TaskKind.BINARY), fitted(name, TaskKind.REGRESSION)
    prior = PriorCorrection(factors=(0.5, 4.0))
    same(name, Corrected(binary, prior), hostile())
    same(name, Calibrated(Corrected(binary, prior), Temperature(temperature=1.7)), hostile())
    for target in (
        TargetTransform(kind="log", low=-1.0, high=2.0, centre=0.1, scale=0.5, even=1.1, odd=0.05),
        TargetTransform(kind="difference", low=-1.0, high=2.0, centre=0.3, place=1),
    ):
        same(name, Transformed(value, target), rows(50, seed=9))


def test_labels_have_the_function_of_each_model(fitted):
    X = rows(300)
    has = (np.nan_to_num(X[:, 0]) > 0) + 2.0 * (np.nan_to_num(X[:, 1]) > 0)
    task = Task(kind=TaskKind.MULTILABEL, target="y", classes=("[]",), labels=("u", "v"))
    matrix = Matrix(X, has, tuple("abcde"), ("q", "q", "q", "c", "q"))
    params = models.params_of("xgboost", {"rounds": 5})
    model = models.learner("xgboost", task).fit(matrix, None, task, params, seed=0, threads=1)
    same("xgboost", model, hostile(60))
    same("xgboost", Calibrated(model, LabelTemperatures(temperatures=(1.0, 0.5))), hostile(60))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "forest"])
def test_a_row_of_another_width_is_refused_before_it_is_read(fitted, name):
    function = models.row_function(name, fitted(name, TaskKind.BINARY))
    with pytest.raises(errors.BundleError, match=r"shape \(1, 4\)"):
        function(np.zeros((1, 4), np.float32))


def test_families_without_such_a_function_have_none():
    assert models.family("linear").row_function(None) is None


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_threads_share_a_function(fitted, name):
    model, X = fitted(name, TaskKind.MULTICLASS), hostile(100)
    function, whole, wrong = models.row_function(name, model), models.predict(name, model, X), []

    def walk(start):
        rows = [*range(start, 100), *range(start)]
        wrong.extend(at for at in rows if function(X[at : at + 1]).tobytes() != whole[at : at + 1].tobytes())

    threads = [threading.Thread(target=walk, args=(start,)) for start in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

"""CatBoost where its rows or its package are not what it asks for."""

import subprocess
import sys

import numpy as np
import pytest

from mlsys import errors, models
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

CLASSES = 12
MANY = Task(kind=TaskKind.MULTICLASS, target="y", classes=tuple("abcdefghijkl"))
NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
WITHOUT = """
import sys
sys.modules["catboost"] = None
from mlsys import errors, models
print(*models.FAMILIES)
try:
    models.family("catboost")
except errors.RecipeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def family():
    return models.family("catboost")


def rows(y, seed=0):
    """A quantity and a category around the target."""
    rng = np.random.default_rng(seed)
    X = np.stack([y + 0.1 * rng.normal(size=y.size), y % 3], axis=1).astype(np.float32)
    return Matrix(X, y.astype(np.float64), ("a", "b"), ("q", "c"))


def fit(family, train, validation=None, task=MANY, seconds=None, **params):
    how = {"seed": 0, "threads": 1, "seconds": seconds}
    return family.fit(train, validation, task, models.params_of("catboost", {"rounds": 20, **params}), **how)


def test_probabilities_stand_in_the_order_of_the_classes(family):
    matrix = rows(np.arange(600) % CLASSES)
    predicted = family.predict(fit(family, matrix), matrix.X)
    assert (predicted.argmax(axis=1) == matrix.y).mean() > 0.95


def test_a_class_of_the_stopping_rows_alone_is_borne(family):
    train = rows(np.arange(550) % (CLASSES - 1))
    some, none = rows(np.arange(120) % CLASSES, seed=1), rows(np.full(20, CLASSES - 1))
    for validation in (some, none):
        predicted = family.predict(fit(family, train, validation), some.X)
        assert not predicted[:, CLASSES - 1].any()


def test_rows_that_are_all_alike_get_their_mean(family):
    y = np.arange(1000.0)
    for value in (3.0, 1.0, np.nan):
        alike = Matrix(np.full((1000, 2), value, np.float32), y, ("a", "b"), ("q", "c"))
        predicted = family.predict(fit(family, alike, task=NUMBER), alike.X[:2])
        np.testing.assert_allclose(predicted, y.mean(), rtol=0.01)


def test_categories_alone_are_enough(family):
    y = np.arange(600) % 3
    codes = Matrix(y[:, None].astype(np.float32), y.astype(np.float64), ("a",), ("c",))
    predicted = family.predict(fit(family, codes, task=NUMBER, learning_rate=0.5), codes.X)
    np.testing.assert_allclose(predicted, y, atol=0.05)


def test_many_categories_are_taken_apart_and_target_means_left_out_only_beside_them(family):
    rng = np.random.default_rng(5)
    keys, effect = rng.integers(0, 3_000, 12_000), rng.normal(size=3_000)
    y = effect[keys] + 0.1 * rng.normal(size=12_000)
    X = np.stack([keys, effect[keys], rng.normal(size=12_000)], axis=1).astype(np.float32)
    names = ("a: key", "a: mean of y", "b")
    how = {"task": NUMBER, "rounds": 200, "learning_rate": 0.3}
    model = fit(family, Matrix(X, y, names, ("k", "m", "q")), **how)
    predicted = family.predict(model, X)
    assert np.corrcoef(predicted, y)[0, 1] > 0.8  # four rows a category
    blind = X.copy()
    blind[:, 1] = np.nan
    assert family.predict(model, blind).tobytes() == predicted.tobytes()
    again = family.from_bytes(family.to_bytes(model))
    assert family.predict(again, blind).tobytes() == predicted.tobytes()
    with pytest.raises(errors.BundleError, match="shape"):
        family.predict(again, X[:, :2])
    alone = fit(family, Matrix(X[:, 1:], y, names[1:], ("m", "q")), **how)
    assert np.corrcoef(family.predict(alone, X[:, 1:]), y)[0, 1] > 0.9


def test_it_ends_with_its_time(family):
    assert family.rounds(fit(family, rows(np.arange(600) % CLASSES), seconds=0.0)) == 1


def test_the_booster_is_cut_to_the_best_round(family):
    rng = np.random.default_rng(0)
    train, validation = (Matrix(rng.normal(size=(200, 2)), rng.normal(size=200), ("a", "b"), ("q", "q")) for _ in "ab")
    model = fit(family, train, validation, NUMBER, rounds=300, early_stopping=10)
    assert family.rounds(model) == model.booster.model.tree_count_ < 290
    whole = fit(family, train, validation, NUMBER, rounds=40, early_stopping=0)
    assert family.rounds(whole) == whole.booster.model.tree_count_ == 40


def test_a_model_that_mlsys_did_not_write_is_refused(family):
    model = fit(family, rows(np.arange(600) % CLASSES))
    del model.booster.model.get_metadata()["mlsys"]
    with pytest.raises(ValueError, match="mlsys"):
        family.from_bytes(family.to_bytes(model))


def test_without_its_package_it_is_no_family_and_the_message_names_the_extra():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    listed, _, message = done.stdout.partition("\n")
    assert listed.split() == sorted(set(models.FAMILIES) - {"catboost"})
    assert message == (
        "models: family 'catboost'\n  got:      no package 'catboost' in this environment\n"
        "  expected: the extra of this family\n  hint:     pip install 'mlsys[catboost]'\n"
    )

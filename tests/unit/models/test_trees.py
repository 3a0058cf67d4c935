"""Extra trees and the decision tree against scikit-learn's, and the text of a tree."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlsys import models
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

extra, tree = models.family("extra_trees"), models.family("decision_tree")
NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
BINARY = Task(kind=TaskKind.BINARY, target="y", classes=("no", "yes"))


def rows(num_rows=300, task=NUMBER, missing=0.1):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(num_rows, 4)).astype(np.float32)
    signal = X[:, 0] - 2 * X[:, 1] + 0.5 * rng.normal(size=num_rows)
    X[rng.random(X.shape) < missing] = np.nan
    return Matrix(X, (signal > 0 if task is BINARY else signal).astype(np.float64), tuple("abcd"), ("q",) * 4)


def predicted(estimator, matrix, task):
    fitted = estimator.fit(matrix.X, matrix.y)
    return fitted.predict_proba(matrix.X) if task is BINARY else fitted.predict(matrix.X)


@pytest.mark.parametrize("task", [NUMBER, BINARY], ids=["number", "binary"])
@pytest.mark.parametrize("rows_a_tree", [1_000, 100])
def test_extra_trees_predict_as_scikit_learns(task, rows_a_tree):
    matrix = rows(task=task)
    params = extra.params(trees=10, feature_fraction=0.75, rows_a_tree=rows_a_tree)
    ours = extra.predict(extra.fit(matrix, None, task, params, seed=3, threads=1), matrix.X)
    made = ExtraTreesClassifier if task is BINARY else ExtraTreesRegressor
    drawn = {"bootstrap": True, "max_samples": 100} if rows_a_tree == 100 else {}
    shape = {"max_features": 0.75, "max_depth": 32, "max_leaf_nodes": 15_000, "min_samples_leaf": 2}
    np.testing.assert_allclose(ours, predicted(made(10, random_state=3, **shape, **drawn), matrix, task), rtol=1e-12)


@pytest.mark.parametrize("task", [NUMBER, BINARY], ids=["number", "binary"])
def test_a_decision_tree_predicts_as_scikit_learns(task):
    matrix = rows(task=task)
    model = tree.fit(matrix, None, task, tree.params(max_depth=4, min_leaf_rows=5), seed=3, threads=1)
    made = DecisionTreeClassifier if task is BINARY else DecisionTreeRegressor
    theirs = predicted(made(max_depth=4, min_samples_leaf=5, random_state=3), matrix, task)
    np.testing.assert_allclose(tree.predict(model, matrix.X), theirs, rtol=1e-12)


def small(y, *columns):
    X = np.array(columns, np.float32).T
    return Matrix(X, np.array(y, np.float64), ("delay", "carrier")[: X.shape[1]], ("q", "c")[: X.shape[1]])


def test_a_tree_is_written_as_questions_with_what_its_leaves_answer():
    matrix = small([1, 1, 1, 1, 5, 5, 9], [0, 1, 2, 3, 4, 5, 6])
    model = tree.fit(matrix, None, NUMBER, tree.params(min_leaf_rows=1), seed=0, threads=1)
    assert model.text == (  # a value that was never missing goes with most rows
        "delay <= 3.5 or missing\n"
        "  1  [4 rows]\n"
        "else\n"
        "  delay <= 5.5 or missing\n"
        "    5  [2 rows]\n"
        "  else\n"
        "    9  [1 rows]\n"
    )


def test_where_missing_values_go_is_part_of_a_question_and_classes_are_named():
    matrix = small([0, 0, 0, 1, 1, 1], [1, 2, np.nan, 7, 8, 9])
    model = tree.fit(matrix, None, BINARY, tree.params(min_leaf_rows=1), seed=0, threads=1)
    assert model.text == (
        "delay <= 4.5 or missing\n  no 1.000, yes 0.000  [3 rows]\nelse\n  no 0.000, yes 1.000  [3 rows]\n"
    )


def test_the_text_lies_beside_the_model_and_is_checked(tmp_path):
    model = tree.fit(rows(), None, NUMBER, tree.params(max_depth=2), seed=0, threads=1)
    tree.save(model, tmp_path)
    assert (tmp_path / "tree.txt").read_text() == model.text == tree.load(tmp_path).text
    assert model.text.count("else") == 3  # two levels of questions

"""The additive model of losses: against scikit-learn and hand computations."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

from mlsys.evaluate import loss_model
from mlsys.evaluate.response import OTHER


def test_numbers_have_hats_and_a_mark_of_null():
    """Between knots at 0 and 10, 2.5 is a quarter of the way; beyond them the end holds."""
    column = pa.chunked_array([pa.array([0.0, 2.5, 99.0, None])])
    basis = loss_model.basis_of(column, [0.0, 10.0, None], is_numeric=True)
    assert basis.tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0, 1]]


def test_categories_have_marks_and_the_rest_has_that_of_others():
    column = pa.chunked_array([pa.array(["a", "b", "z", None])])
    assert marks(column, ["a", OTHER, None]) == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert marks(column, ["a", None]) == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert marks(pa.chunked_array([[True, False, None]]), [False, True, None]) == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert marks(pa.chunked_array([[7, 3]]), [7, 3, None]) == [[1, 0, 0], [0, 1, 0]]


def marks(column, values):
    return loss_model.basis_of(column, values, is_numeric=False).tolist()


def world(num_rows, seed):
    rng = np.random.default_rng(seed)
    x, colour = rng.normal(0, 1, num_rows), rng.choice(["blue", "red"], num_rows)
    prediction = 2 * x
    y = prediction + rng.normal(0, 0.5 + np.maximum(x, 0) + (colour == "red"), num_rows)
    table = pa.table({"x": x, "colour": colour, "unread": x})
    response = {
        "columns": {
            "x": {"values": [*np.quantile(x, np.linspace(0, 1, 8)).tolist(), None], "output": [[k] for k in range(9)]},
            "colour": {"values": ["blue", "red", None], "output": [[0.0], [1.0], [0.0]]},
            "unread": {"values": [], "output": []},
            "flat": {"values": [1.0, None], "output": [[0.0], [0.0]]},
        }
    }
    return y, prediction, table, response


def fitted(num_rows=4_000, seed=0, units=None):
    y, prediction, table, response = world(num_rows, seed)
    facts = loss_model.facts(y, prediction, ["rmse", "mae", "r2"], table, response, units, numeric={"x"})
    return facts, (y, prediction, table)


def matrix(facts, prediction, table):
    columns = {loss_model.SCORE: pa.chunked_array([prediction]), **{name: table[name] for name in ("x", "colour")}}
    parts = facts["columns"].items()
    return np.hstack([loss_model.basis_of(columns[k], values, is_numeric=k != "colour") for k, values in parts])


def test_columns_are_those_that_move_predictions_the_one_that_moves_them_most_first():
    *_, response = world(100, 0)
    assert loss_model.columns(response, 100) == ["x", "colour"]
    assert loss_model.columns(response, loss_model.MAX_CELLS) == ["x"]


@pytest.mark.parametrize(("name", "loss"), [("rmse", np.square), ("mae", np.abs)])
def test_coefficients_are_those_of_ridge_regression(name, loss):
    facts, (y, prediction, table) = fitted()
    own = facts["metrics"][name]
    ridge = Ridge(alpha=own["penalty"] * len(y), solver="svd")
    ridge.fit(matrix(facts, prediction, table), loss(y - prediction))
    assert own["coefficients"][0] == pytest.approx(ridge.intercept_, rel=1e-6)
    assert own["coefficients"][1:] == pytest.approx(ridge.coef_, rel=1e-5, abs=1e-8)


def test_metrics_that_are_no_means_of_losses_have_no_model():
    facts, _ = fitted()
    assert list(facts["metrics"]) == ["rmse", "mae"]


def test_rows_of_the_test_part_are_expected_to_have_its_loss():
    facts, (y, prediction, table) = fitted()
    own = facts["metrics"]["rmse"]
    X = np.column_stack([np.ones(len(y)), matrix(facts, prediction, table)])
    assert (X @ own["coefficients"]).mean() == pytest.approx(((y - prediction) ** 2).mean())
    assert own["mean"] == pytest.approx(((y - prediction) ** 2).mean())


def test_the_penalty_has_the_least_generalised_cross_validation():
    """The hat matrix itself, on 300 rows."""
    facts, (y, prediction, table) = fitted(300)
    X = np.column_stack([np.ones(300), matrix(facts, prediction, table)])
    loss, scores = (y - prediction) ** 2, []
    for penalty in loss_model.PENALTIES:
        ridge = np.diag([0.0, *[300 * penalty] * (X.shape[1] - 1)])
        hat = X @ np.linalg.solve(X.T @ X + ridge, X.T)
        scores.append(300 * ((loss - hat @ loss) ** 2).sum() / (300 - np.trace(hat)) ** 2)
    assert facts["metrics"]["rmse"]["penalty"] == loss_model.PENALTIES[int(np.argmin(scores))]


def test_the_correlation_within_units_by_hand():
    """Sums 2 and -2, sums of squares 2: ((4 - 2) + (4 - 2)) / (1 * (2 * 1 + 2 * 1)) = 1."""
    residual = np.array([1.0, 1.0, -1.0, -1.0])
    assert loss_model._intraclass(residual, np.array([0, 0, 1, 1])) == 1.0
    assert loss_model._intraclass(residual, np.array([0, 1, 0, 1])) == 0.0
    assert loss_model._intraclass(residual, None) == 0.0


def test_each_group_is_left_out_once():
    facts, _ = fitted(units=np.arange(4_000) // 100)
    assert len(facts["metrics"]["rmse"]["replicates"]) == loss_model.NUM_GROUPS
    facts, _ = fitted(units=np.arange(4_000) // 500)
    assert len(facts["metrics"]["rmse"]["replicates"]) == 8


def test_few_rows_have_no_model():
    assert fitted(199)[0] is None

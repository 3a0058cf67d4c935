"""The worth of predictions: by hand, by a plain loop over thresholds, in the gate and in the report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors, evaluate, recipe
from mlsys.evaluate import metrics, report, utility
from mlsys.recipe import Threshold
from mlsys.schema import Column, Kind, Role, Schema, Task

BINARY = Task(kind="binary", target="y", classes=("no", "yes"))
SCHEMA = Schema(
    columns=(
        Column(name="amount", type="double", kind=Kind.NUMERIC),
        Column(name="y", type="string", kind=Kind.CATEGORICAL, role=Role.TARGET),
    )
)
ROWS = pa.table({"amount": [100.0, 10.0, 50.0, 20.0], "y": ["yes", "no", "no", "yes"]})
SQL = "CASE WHEN prediction = 'yes' AND y = 'yes' THEN amount WHEN prediction = 'yes' THEN -5 ELSE 0 END"


def test_it_is_the_mean_worth_of_the_decisions_by_hand():
    """At 0.5 rows 1 and 2 are called: (100 - 5) / 4."""
    p = np.array([0.9, 0.6, 0.2, 0.4])
    metric = utility.metric(SQL, ROWS, BINARY, 0.5)
    y = np.array([1, 0, 0, 1])
    assert metric.function(y, p) == pytest.approx(95 / 4)
    assert metric.function(y, p, np.array([0.0, 2, 0, 0])) == pytest.approx(-5)
    assert utility.metric(SQL, ROWS, BINARY, 0.3).function(y, p) == pytest.approx(115 / 4)


def test_the_probability_and_the_prediction_of_a_number_can_be_read():
    p = np.array([0.9, 0.6, 0.2, 0.4])
    assert utility.of_rows("amount * probability", ROWS, BINARY, p, 0.5).tolist() == pytest.approx([90, 6, 10, 8])
    number = Task(kind="regression", target="amount")
    worth = utility.of_rows("-2 * greatest(amount - prediction, 0)", ROWS, number, np.full(4, 40.0), 0.5)
    assert worth.tolist() == [-120, 0, -20, 0]


def test_of_several_classes_it_is_the_likeliest_one():
    several = Task(kind="multiclass", target="y", classes=("a", "b", "c"))
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.4, 0.3, 0.3]])
    sql = "CASE prediction WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 3 END"
    assert utility.of_rows(sql, ROWS, several, p, 0.5).tolist() == [3, 1, 2, 1]


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0, 1))
def test_by_threshold_is_a_plain_loop_over_thresholds(p, chosen):
    p, weight = np.array(p), np.array([1.0, 2.0, 1.0, 3.0])
    found = utility.by_threshold(SQL, ROWS, BINARY, p, weight, chosen)
    for threshold, value in list(zip(found["threshold"], found["value"], strict=True))[::20]:
        expected = utility.metric(SQL, ROWS, BINARY, threshold).function(np.zeros(4), p, weight)
        assert value == pytest.approx(expected, abs=1e-9)
    assert chosen in found["threshold"]
    assert found["best"]["value"] == max(found["value"])
    assert (found["none"], found["all"]) == (0.0, pytest.approx((100 - 10 - 5 + 60) / 7))


def test_the_best_threshold_by_hand():
    """By falling probability a yes gains 100, -5, 20, -5: in all 100, 95, 115, 110, and three rows are called."""
    y, p = np.array([1, 0, 0, 1]), np.array([0.9, 0.6, 0.2, 0.4])
    assert utility.best_threshold(SQL, ROWS, BINARY, y, p) == pytest.approx(0.3)
    # without the fourth row: 100, 95, 95, 90
    assert utility.best_threshold(SQL, ROWS, BINARY, y, p, np.array([1.0, 1, 1, 0])) == pytest.approx(0.75)
    # a yes is worth its probability less a half, whoever it is: the first two rows
    assert utility.best_threshold(DOUBT, ROWS, BINARY, y, p) == pytest.approx(0.5)


DOUBT = "CASE WHEN prediction = 'yes' THEN probability - 0.5 ELSE 0 END"
BOTH = "CASE WHEN (prediction = y) THEN amount ELSE -amount * probability END"


@given(st.lists(st.integers(0, 20), min_size=4, max_size=4), st.sampled_from([SQL, DOUBT, BOTH]))
def test_no_threshold_has_a_greater_mean_utility_than_the_chosen_one(p, sql):
    y, p, weight = np.array([1, 0, 0, 1]), np.array(p) / 20, np.array([1.0, 2.0, 0.0, 3.0])
    chosen = utility.best_threshold(sql, ROWS, BINARY, y, p, weight)
    values = [
        utility.metric(sql, ROWS, BINARY, threshold).function(y, p, weight)
        for threshold in [chosen, *np.linspace(-0.025, 1.025, 22)]
    ]
    assert values[0] == pytest.approx(max(values), abs=1e-9)


@pytest.mark.parametrize("sql", ["CASE WHEN prediction = 'yes' THEN amount END", "amount / nullif(amount, 10)"])
def test_rows_without_a_number_choose_no_threshold(sql):
    """A no is worth nothing in all four rows, or neither answer is in the second."""
    with pytest.raises(errors.RecipeError, match=r"evaluate\.utility\n.*none in [14] of 4 rows") as raised:
        utility.best_threshold(sql, ROWS, BINARY, np.array([1, 0, 0, 1]), np.array([0.9, 0.6, 0.2, 0.4]))
    assert "ELSE 0" in str(raised.value)


@pytest.mark.parametrize(
    ("sql", "task", "text"),
    [
        ("amunt * 2", BINARY, "no column 'amunt' in the table"),
        ("amount", Task(kind="multiclass", target="y", classes=("a", "b", "c")), "utility for a multiclass task"),
        ("amount", Task(kind="regression", target="amount"), "utility for a regression task"),
    ],
)
def test_a_threshold_that_no_utility_can_choose_is_refused(sql, task, text):
    section = recipe.EvaluateSection(threshold="utility", utility=sql)
    with pytest.raises(errors.RecipeError, match="recipe: evaluate") as raised:
        utility.check_rule(section, SCHEMA, task)
    assert text in str(raised.value)
    assert utility.check_rule(recipe.EvaluateSection(utility=sql), SCHEMA, task) == []


def test_a_threshold_by_utility_needs_one():
    text = "name: a\ntarget: y\ndata: {source: x.csv}\nevaluate: {threshold: utility}"
    with pytest.raises(errors.RecipeError, match="recipe: 'evaluate'") as raised:
        recipe.parse(text)
    assert "expected: utility: SQL for the worth of a prediction, with threshold: utility" in str(raised.value)
    assert recipe.parse(text, ["evaluate.utility=amount"]).evaluate.threshold == "utility"


def test_a_row_without_a_number_makes_it_undefined():
    assert np.isnan(utility.metric("amount / nullif(amount, 10)", ROWS, BINARY, 0.5).function(np.zeros(4), np.ones(4)))


@pytest.mark.parametrize(
    ("sql", "task", "text"),
    [
        ("amunt * 2", BINARY, "no column 'amunt' in the table"),
        ("amount > 3", BINARY, "amount > 3, of type bool"),
        ("sum(amount)", BINARY, "function 'sum'"),
        ("1", Task(kind="ranking", target="y", group="amount"), "a ranking task"),
    ],
)
def test_what_is_worth_nothing_is_refused(sql, task, text):
    with pytest.raises(errors.RecipeError) as raised:
        utility.check(sql, SCHEMA, task)
    assert "recipe: evaluate.utility" in str(raised.value)
    assert text in str(raised.value)


def test_columns_of_the_rows_are_read_and_not_those_of_the_prediction():
    assert utility.check("amount * probability * (prediction = y)::int", SCHEMA, BINARY) == ["amount", "y"]


def test_a_gate_may_bound_it_where_the_recipe_says_it():
    text = "name: a\ntarget: y\ndata: {source: x.csv}\nevaluate: {gate: {utility: {min: 0}}, utility: amount}"
    metrics.check_names(recipe.parse(text))
    with pytest.raises(errors.RecipeError, match="a metric"):
        metrics.check_names(recipe.parse(text.replace(", utility: amount", "")))


SAVED = "CASE WHEN prediction AND y THEN 40 WHEN prediction THEN -5 ELSE 0 END"


def test_an_evaluation_has_it_as_a_metric_with_an_interval_and_a_curve(binary_world):
    world = binary_world
    world.recipe = world.with_evaluate(utility=SAVED, gate={"utility": Threshold(min=100)})
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe)
    own = found["metrics"]["utility"]
    assert own["low"] < own["value"] < own["high"]
    table = world.split.table("test")
    checks = {check["name"]: check["passed"] for check in found["verdict"]["checks"]}
    assert checks == {"utility": False, "beats the dummy": True}
    at = dict(zip(found["utility"]["threshold"], found["utility"]["value"], strict=True))
    assert at[found["threshold"]] == pytest.approx(own["value"])
    y = np.array(table["y"].to_pylist())
    assert at[0.0] == pytest.approx(np.where(y, 40, -5).mean())
    assert "Utility by threshold" in report.page(found)


def test_an_evaluation_of_numbers_has_it_without_a_threshold(make_world):
    world = make_world("regression")
    world.recipe = world.with_evaluate(utility="-abs(y - prediction)")
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe)
    assert found["metrics"]["utility"]["value"] == pytest.approx(-found["metrics"]["mae"]["value"])
    assert "utility" not in found
    assert found["utility_sql"] == "-abs(y - prediction)"
    assert "Utility" in report.page(found)

"""Behavioural tests of a recipe, put to models whose behaviour is known."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys import errors, evaluate
from mlsys.evaluate import behaviours, report
from mlsys.predict import Predictor
from mlsys.recipe import Behaviour


def judge(world, **sentence):
    asked = {"said": Behaviour(**sentence)}
    behaviours.check(asked, world.bundle)
    return behaviours.judge(asked, world.bundle, world.split, "UTC")[0]


def test_a_linear_model_rises_with_a_column_of_positive_weight_and_breaks_the_opposite(binary_world):
    rising = judge(binary_world, change={"x": "x + 1"}, expect="increase")
    assert (rising["kind"], rising["num_rows"], rising["num_broken"], rising["passed"]) == ("direction", 600, 0, True)
    falling = judge(binary_world, change={"x": "x + 1"}, expect="decrease")
    assert (falling["num_broken"], falling["fraction"], falling["passed"]) == (600, 1.0, False)


def test_examples_show_the_columns_concerned_and_the_outputs_before_and_after(binary_world):
    found = judge(binary_world, where="noise > 0", change={"x": "x + 1"}, expect="same")
    assert len(found["examples"]) == behaviours.MAX_EXAMPLES
    example = found["examples"][0]
    assert set(example["values"]) == {"x", "noise"}
    assert example["changed"]["x"] == pytest.approx(example["values"]["x"] + 1)
    table = binary_world.split.table("test")
    place = table["x"].to_pylist().index(example["values"]["x"])
    said = Predictor(binary_world.bundle).table(table.slice(place, 1)).probabilities[0, 1]
    assert example["before"] == pytest.approx(said)
    assert example["after"] > example["before"]


def test_a_tolerance_and_a_part_of_the_rows_may_be_allowed(binary_world):
    change = {"noise": "-noise"}
    strict = judge(binary_world, change=change, expect="same")
    assert strict["num_broken"] > 0
    assert judge(binary_world, change=change, expect="same", tolerance=0.5)["num_broken"] == 0
    share = strict["fraction"]
    assert judge(binary_world, change=change, expect="same", max_fraction=share)["passed"]


def test_where_chooses_rows_and_without_one_it_does_not_pass(binary_world):
    x = np.array(binary_world.split.table("test")["x"])
    assert judge(binary_world, where="x > 1", change={"x": "x + 1"}, expect="increase")["num_rows"] == (x > 1).sum()
    none = judge(binary_world, where="x > 1e9", change={"x": "x + 1"}, expect="increase")
    assert (none["num_rows"], none["passed"]) == (0, False)
    (check,) = behaviours.checks([none])
    assert check.reason == "behaviour said: there is no row to put it to"


def test_rows_of_the_recipe_are_the_cases_whose_answer_is_known(binary_world):
    rows = [{"x": 4.0, "noise": 0.0, "origin": "LGA"}, {"x": -4.0, "noise": 0.0, "origin": "JFK"}]
    found = judge(binary_world, rows=rows, expect="prediction = (x > 0)")
    assert (found["kind"], found["num_rows"], found["num_broken"]) == ("minimum functionality", 2, 0)
    found = judge(binary_world, rows=rows, expect="probability > 0.5")
    assert found["num_broken"] == 1
    assert found["examples"][0]["values"] == {}
    assert found["examples"][0]["prediction"] is False


def test_a_condition_that_is_null_does_not_hold(binary_world):
    row = {"x": 1.0, "noise": None, "origin": "LGA"}
    assert judge(binary_world, rows=[row], expect="noise > 0 OR probability < 0")["num_broken"] == 1


def test_the_class_that_is_meant_has_a_name(make_world):
    world = make_world("multiclass")
    assert judge(world, change={"x": "x + 1"}, expect="increase", of="Gentoo")["num_broken"] == 0
    assert judge(world, change={"x": "x + 1"}, expect="increase", of="Adelie")["num_broken"] == 600
    assert judge(world, change={"x": "x + 1"}, expect="same")["num_broken"] == 600
    assert judge(world, where="x > 3", expect="prediction = 'Gentoo'", max_fraction=0.5)["passed"]


def test_a_number_is_compared_as_it_is(make_world):
    found = judge(make_world("regression"), change={"x": "x + 1"}, expect="increase")
    assert (found["num_broken"], found["passed"]) == (0, True)


@pytest.mark.parametrize("step", [0.001, 0.5, 7.0])
def test_of_a_linear_model_a_direction_holds_for_every_step_and_its_opposite_for_none(binary_world, step):
    rising = judge(binary_world, change={"x": f"x + {step}"}, expect="increase", tolerance=0)
    falling = judge(binary_world, change={"x": f"x - {step}"}, expect="decrease", tolerance=0)
    assert rising["num_broken"] == falling["num_broken"] == 0
    assert judge(binary_world, change={"x": f"x - {step}"}, expect="increase", tolerance=0)["fraction"] == 1


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ({"change": {"orign": "'JFK'"}, "expect": "same"}, "no column 'orign' in the table"),
        ({"change": {"x": "xx + 1"}, "expect": "same"}, "no column 'xx' in the table"),
        ({"where": "speed > 1", "change": {"x": "0"}, "expect": "same"}, "no column 'speed' in the table"),
        ({"where": "x + 1", "change": {"x": "0"}, "expect": "same"}, "x + 1, of type double"),
        ({"expect": "incraese"}, "no column 'incraese' in the table"),
        ({"expect": "same"}, "expect: same without change"),
        ({"expect": "probability > 0", "rows": [{"speed": 1}]}, "rows that the model can predict"),
        ({"expect": "probability > 0", "rows": [{"x": 1}], "where": "x > 1"}, "rows and where"),
        ({"change": {"x": "0"}, "expect": "same", "of": "maybe"}, "maybe"),
    ],
)
def test_what_cannot_be_put_to_the_model_is_refused_before_rows_are_opened(binary_world, sentence, text):
    world = binary_world
    world.recipe = world.with_evaluate(behaviours={"said": Behaviour(**sentence)})
    with pytest.raises(errors.RecipeError) as raised:
        evaluate.score(world.store, world.bundle, world.split, world.recipe)
    assert "evaluate.behaviours.said" in str(raised.value)
    assert text in str(raised.value)
    assert not (world.store.root / "openings").exists()


def test_a_direction_of_several_classes_needs_one_of_them(make_world):
    with pytest.raises(errors.RecipeError, match="of: one of Adelie, Chinstrap, Gentoo"):
        judge(make_world("multiclass"), change={"x": "x + 1"}, expect="increase")


def test_the_gate_asks_for_every_sentence_and_the_report_shows_rows_that_break_one(binary_world):
    world = binary_world
    said = {
        "rises": Behaviour(change={"x": "x + 1"}, expect="increase"),
        "falls": Behaviour(change={"x": "x + 1"}, expect="decrease"),
    }
    world.recipe = world.with_evaluate(behaviours=said)
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe)
    checks = {check["name"]: check for check in found["verdict"]["checks"]}
    assert checks["behaviour rises"]["passed"]
    assert not found["verdict"]["passed"]
    assert checks["behaviour falls"]["reason"] == "behaviour falls: 600 of 600 rows break it (direction)"
    assert checks["behaviour falls"]["advice"].endswith("evaluate.behaviours.falls.max_fraction: 1")
    page = report.page(found)
    assert "Rows that break falls" in page
    assert "with x = x + 1 the output does not increase" in page

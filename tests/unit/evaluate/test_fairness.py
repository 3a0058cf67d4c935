"""Rates of groups by hand and by scikit-learn, their simultaneous intervals in simulations, and the gate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlsys import errors, evaluate, recipe
from mlsys.evaluate import fairness, report
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.recipe import FairnessSection
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import arrays

BY_SEX = Column(name="sex", type="string", kind=Kind.CATEGORICAL)
SCHEMA = Schema(columns=(BY_SEX, Column(name="y", type="bool", kind=Kind.CATEGORICAL, role=Role.TARGET)))
BINARY = Task(kind="binary", target="y", classes=(False, True))
PLAN = ResamplingPlan(200)


def judge(groups, y, called, plan=PLAN, weight=None, **settings):
    section = FairnessSection(**{"columns": ["sex"], "min_rows": 10} | settings)
    table = pa.table({"sex": groups})
    return fairness.judge(table, [BY_SEX], np.asarray(y), np.asarray(called), plan, section, weight)


def measures(judged):
    return {measure["measure"]: measure for measure in judged["columns"][0]["measures"]}


def test_rates_are_those_counted_by_hand():
    """Women: 20 of 40 called, 15 of 20 positive found; men: 10 of 40 called, 8 of 20 positive found."""
    y = [1] * 20 + [0] * 20 + [1] * 20 + [0] * 20
    called = [1] * 15 + [0] * 5 + [1] * 5 + [0] * 15 + [1] * 8 + [0] * 12 + [1] * 2 + [0] * 18
    found = measures(judge(["f"] * 40 + ["m"] * 40, y, called))
    assert {name: each["difference"] for name, each in found.items()} == pytest.approx(
        {
            "statistical_parity": 20 / 40 - 10 / 40,
            "equal_opportunity": 15 / 20 - 8 / 20,
            "predictive_parity": 8 / 10 - 15 / 20,
            "predictive_equality": 5 / 20 - 2 / 20,
        }
    )
    assert {name: each["least_rows"] for name, each in found.items()} == {
        "statistical_parity": 40, "equal_opportunity": 20, "predictive_parity": 10, "predictive_equality": 20
    }  # fmt: skip


def random_rows(seed=0, num_rows=600):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["a", "b", "c"], num_rows)
    y = rng.random(num_rows) < 0.4
    called = rng.random(num_rows) < np.where(y, 0.7, 0.2) + 0.1 * (groups == "b")
    return groups, y.astype(int), called.astype(int), rng.integers(1, 4, num_rows).astype(float)


def test_rates_under_weights_are_those_of_scikit_learn():
    groups, y, called, weight = random_rows()
    found = measures(judge(groups, y, called, weight=weight))
    for name, of in {"equal_opportunity": sk.recall_score, "predictive_parity": sk.precision_score}.items():
        for rate in found[name]["rates"]:
            own = groups == rate["group"]
            assert rate["value"] == pytest.approx(of(y[own], called[own], sample_weight=weight[own]))
    for rate in found["predictive_equality"]["rates"]:
        own = groups == rate["group"]
        expected = 1 - sk.recall_score(y[own], called[own], pos_label=0, sample_weight=weight[own])
        assert rate["value"] == pytest.approx(expected)


@given(st.integers(0, 1_000))
def test_the_difference_is_that_of_the_two_groups_named_and_lies_in_its_interval(seed):
    groups, y, called, _ = random_rows(seed, 200)
    for each in measures(judge(groups, y, called, ResamplingPlan(20))).values():
        rates = {rate["group"]: rate["value"] for rate in each["rates"]}
        assert each["difference"] == pytest.approx(max(rates.values()) - min(rates.values()))
        assert each["difference"] == pytest.approx(abs(rates[each["between"][0]] - rates[each["between"][1]]))
        assert 0 <= each["low"] <= each["difference"] <= each["high"] <= 1


def test_the_error_of_a_difference_is_that_of_two_independent_rates():
    """sqrt(p (1 - p) / n) of each group, and Bonferroni leaves one pair as it is."""
    rng = np.random.default_rng(3)
    groups = np.repeat(["a", "b"], 2_000)
    called = rng.random(4_000) < np.where(groups == "a", 0.3, 0.6)
    found = measures(judge(groups, np.ones(4_000), called, ResamplingPlan(1_000)))["statistical_parity"]
    p = np.array([called[groups == name].mean() for name in "ab"])
    half = 1.959964 * math.sqrt(float((p * (1 - p) / 2_000).sum()))
    assert found["high"] - found["difference"] == pytest.approx(half, rel=0.08)


def test_simultaneous_intervals_hold_the_greatest_true_difference_as_often_as_they_say():
    """Four groups that are treated alike: the greatest difference is chosen after looking, and 0 lies in 95 %."""
    rng, cases, holds = np.random.default_rng(0), 150, 0
    for case in range(cases):
        groups, called = rng.choice(list("abcd"), 400), rng.random(400) < 0.4
        plan = ResamplingPlan(100, seed=case)
        holds += measures(judge(groups, np.ones(400), called, plan))["statistical_parity"]["low"] == 0.0
    assert holds >= 0.9 * cases


def test_rates_of_nothing_and_of_all_are_not_taken_as_certain():
    groups = ["a"] * 15 + ["b"] * 15
    found = measures(judge(groups, [1] * 30, [0] * 15 + [1] * 15))["equal_opportunity"]
    assert found["difference"] == 1.0
    assert 0.6 < found["low"] < 0.9


def test_days_that_are_alike_make_the_interval_longer():
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(20), 30)
    groups = rng.choice(["a", "b"], 600)
    called = rng.random(600) < np.where(groups == "a", rng.random(20)[days], rng.random(20)[days])
    alone = measures(judge(groups, np.ones(600), called))["statistical_parity"]
    by_day = measures(judge(groups, np.ones(600), called, dataclasses.replace(PLAN, units=days)))["statistical_parity"]
    assert by_day["high"] > alone["high"]


def test_groups_with_too_few_rows_are_named_and_one_group_is_none_to_compare():
    found = measures(judge(["a"] * 50 + ["b"] * 9, [1] * 59, [1] * 59))["statistical_parity"]
    assert (found["too_small"], found["least_rows"]) == (["b"], 50)
    assert found["reason"] == "fewer than two groups have 10 rows"
    assert math.isnan(found["difference"])


def test_numbers_are_compared_by_ranges():
    rng = np.random.default_rng(1)
    age = Column(name="age", type="double", kind=Kind.NUMERIC)
    table = pa.table({"age": rng.uniform(18, 80, 400)})
    section = FairnessSection(columns=["age"], min_rows=10)
    found = fairness.judge(table, [age], np.ones(400), rng.random(400) < 0.5, PLAN, section)
    assert len(found["columns"][0]["groups"]) == 4


# The gate


def checked(**settings):
    groups = ["f"] * 40 + ["m"] * 40
    called = [1] * 30 + [0] * 10 + [1] * 20 + [0] * 20
    return fairness.checks(arrays.jsonable(judge(groups, [1] * 80, called, **settings)))


def test_a_bound_that_the_difference_keeps_passes():
    (check,) = checked(max_difference={"statistical_parity": 0.3})
    assert check.passed
    assert check.reason == "statistical_parity by sex differs by 0.2500 between 'f' and 'm', at most 0.3"


def test_a_bound_that_the_difference_breaks_fails_and_says_what_it_keeps():
    (check,) = checked(max_difference={"statistical_parity": 0.1})
    assert not check.passed
    assert check.reason == "statistical_parity by sex differs by 0.2500 between 'f' and 'm', above 0.1"
    assert check.advice.endswith("evaluate.fairness.max_difference.statistical_parity: 0.25")


def test_a_strict_bound_is_that_of_the_far_end():
    (check,) = checked(max_difference={"statistical_parity": 0.3}, strict=True)
    assert not check.passed
    assert "its interval ends at 0.4" in check.reason


def test_what_cannot_be_judged_does_not_pass():
    (check,) = checked(max_difference={"predictive_equality": 1.0})
    assert not check.passed
    assert check.reason == "predictive_equality by sex: fewer than two groups have 10 negative rows"
    (check,) = checked(max_difference={"statistical_parity": 1.0}, strict=True, plan=ResamplingPlan(0))
    assert not check.passed


# The recipe


@pytest.mark.parametrize(
    ("settings", "task", "got"),
    [
        ({"columns": ["sexx"]}, BINARY, "recipe: evaluate.fairness.columns: no column 'sexx' in the table"),
        ({"columns": ["y"]}, BINARY, "'y', a categorical column (target)"),
        ({"max_difference": {"statistical_parity": 0.1}}, BINARY, "max_difference without columns"),
        ({"columns": ["sex"]}, Task(kind="regression", target="y"), "a regression task"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings, task, got):
    with pytest.raises(errors.RecipeError, match=got.replace("(", r"\(").replace(")", r"\)")):
        fairness.check(FairnessSection(**settings), SCHEMA, task)


def test_a_rate_that_is_not_known_is_refused_by_the_recipe():
    with pytest.raises(errors.RecipeError, match="max_difference"):
        recipe.parse(
            "name: a\ntarget: y\ndata: {source: x.csv}\n"
            "evaluate: {fairness: {columns: [a], max_difference: {odds: 0.1}}}"
        )


def test_an_evaluation_judges_the_groups_of_the_recipe_also_by_a_column_that_is_no_feature(binary_world):
    world = binary_world
    section = {"columns": ["origin", "carrier"], "max_difference": {"statistical_parity": 0.01}}
    world.recipe = world.with_evaluate(fairness=FairnessSection(**section))
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe)
    checks = {check["name"]: check["passed"] for check in found["verdict"]["checks"]}
    assert not checks["statistical_parity by origin"]
    assert set(checks) == {"statistical_parity by origin", "statistical_parity by carrier", "beats the dummy"}
    page = report.page(found)
    assert "Fairness" in page
    assert "Equal opportunity" in page


def test_without_columns_nothing_is_judged(binary_world):
    world = binary_world
    assert "fairness" not in evaluate.score(world.store, world.bundle, world.split, world.recipe)

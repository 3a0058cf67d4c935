"""The time of selection, search and final fit: the recipe's, or by the size of the training rows."""

import math
from types import SimpleNamespace

import pytest

from mlsys import budget, errors
from mlsys.recipe import Recipe
from mlsys.schema import Task, TaskKind

BINARY = Task(kind=TaskKind.BINARY, target="y", classes=("a", "b"))
SEVEN = Task(kind=TaskKind.MULTICLASS, target="y", classes=tuple("abcdefg"))


def recipe(**values):
    return Recipe.model_validate({"name": "demo", "target": "y", "data": {"source": "rows.csv"}, **values})


def rows(number, columns):
    return SimpleNamespace(num_rows={"train": number}, schema=SimpleNamespace(features=[None] * columns))


@pytest.mark.parametrize(("said", "seconds"), [("60s", 60.0), ("10m", 600.0), ("1500ms", 1.5), ("none", math.inf)])
def test_what_the_recipe_says_is_the_time(said, seconds):
    assert budget.seconds(recipe(budget=said), rows(10**9, 100), BINARY) == seconds


@pytest.mark.parametrize(
    ("number", "columns", "task", "seconds"),
    [
        (0, 10, BINARY, 20.0),
        (100_000, 20, BINARY, 30.0),  # two million values: ten seconds more
        (100_000, 20, SEVEN, 90.0),  # a tree a class: seventy
        (10_000_000, 50, BINARY, 300.0),
    ],
)
def test_without_a_word_it_grows_with_the_values_to_five_minutes(number, columns, task, seconds):
    assert budget.seconds(recipe(), rows(number, columns), task) == seconds


@pytest.mark.parametrize(
    ("said", "whole", "before", "over"),
    [("60s", 60.0, 8.0, 8.0), ("60s", 60.0, 90.0, 30.0), ("auto", 20.0, 8.0, 0.0), ("none", math.inf, 8.0, 0.0)],
)
def test_reading_takes_its_time_from_the_budget_and_leaves_half_of_it(said, whole, before, over):
    assert budget.read(recipe(budget=said), whole, before) == over


@pytest.mark.parametrize("said", ["0s", "soon", -5])
def test_what_is_no_time_is_refused(said):
    with pytest.raises((ValueError, errors.RecipeError)):
        recipe(budget=said)

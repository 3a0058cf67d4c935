"""Each number that several modules must agree on, and each formula, stands in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

import house
from mlsys import limits
from mlsys.statistics import hashing, ranking

HOMES = {
    "mlsys.limits": [
        limits.MAX_CODES,
        limits.FLOAT32_MAX,
        limits.FLOAT32_TINY,
        limits.LAST_YEAR,
        limits.DAY_US,
        -limits.YEAR_1_US,
        limits.LAST_YEAR_END_US,
    ],
    "mlsys.statistics.hashing": [int(hashing.GOLDEN), *(factor for _, factor in hashing._STEPS)],
    "mlsys.statistics.ranking": [ranking.Z_95_LOWER, ranking.Z_95],
}
"""Module → numbers that no other module may type; not 0.9 and 4,096, which mean many things."""

OTHER_MEANINGS = {
    ("mlsys.errors", limits.MAX_CODES): "0xFE, the first byte of a UTF-16 text",
    ("mlsys.models.families.catboost", limits.MAX_CODES): "CatBoost's own number of borders",
    ("mlsys.periods", limits.DAY_US): "the units of a span, which a recipe writes as 1d",
}
"""Places that type the number of a bound for another reason."""

FORMULAS = {
    "wilson": "mlsys.statistics.ranking",
    "splitmix": "mlsys.statistics.hashing",
    "roc_auc": "mlsys.statistics.ranking",
    "hyndman": "mlsys.statistics.ranking",
    "cramers_v": "mlsys.statistics.pairwise.association_measures",
    "correlation_ratio": "mlsys.statistics.pairwise.association_measures",
    "entropy": "mlsys.statistics.pairwise.association_measures",
}
"""Word in the name of a function → the module that has the formula."""

MODULES = house.modules()


def numbers(module: house.Module) -> Iterator[tuple[int, object]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
            yield node.lineno, node.value


@pytest.mark.parametrize("home", HOMES)
def test_a_bound_is_typed_in_its_home_alone(home):
    again = [
        f"{module.name}:{line}: {value!r} stands in {home}"
        for module in MODULES
        for line, value in numbers(module)
        if value in HOMES[home] and module.name != home and (module.name, value) not in OTHER_MEANINGS
    ]
    assert again == []
    assert set(HOMES[home]) <= {value for module in MODULES if module.name == home for _, value in numbers(module)}


@pytest.mark.parametrize("word", FORMULAS)
def test_a_formula_is_written_in_its_home_alone(word):
    homes = {
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef) and word in node.name.lower()
    }
    assert homes <= {FORMULAS[word]}


def test_the_exceptions_are_all_needed():
    typed = {(module.name, value) for module in MODULES for _, value in numbers(module)}
    assert [place for place in OTHER_MEANINGS if place not in typed] == []

"""The families of a search with what is searched of each: defaults, space, portfolio, what the recipe states."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mlsys import models
from mlsys.dataset import Split
from mlsys.models.interface import Choice, Domain
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.train import training_job
from mlsys.tune.points import Searched


def families(
    split: Split, recipe: Recipe, family: str, task: Task, contenders: Sequence[str] = ()
) -> dict[str, Searched]:
    """The family, and beside it those with a portfolio, where the recipe leaves it open."""
    names = [family]
    is_open = recipe.train.family == "auto" and not recipe.tune.space
    if is_open and recipe.selection.prefer == "accurate":
        encodings = {models.family(family).encoding}
        if not _has_terms(recipe):
            encodings |= {models.family(name).encoding for name in contenders}
        named = recipe.selection.families
        usual = (other for other in models.FAMILIES if models.family(other).is_searched_by_default)
        able = [name for name in (usual if named == "auto" else named) if name != family]
        names += [name for name in able if _stands_beside(name, encodings, split, task, recipe)]
    return {name: _searched(split, recipe, name, task) for name in names}


def _stands_beside(name: str, encodings: Collection[str], split: Split, task: Task, recipe: Recipe) -> bool:
    beside = models.family(name)
    lacks = beside.lacks(task, **training_job.demands(recipe))
    return beside.encoding in encodings and lacks is None and bool(_portfolio(split, name, task))


def _has_terms(recipe: Recipe) -> bool:
    """True if a column is taken as terms of texts, thousands of columns that only the linear family can take."""
    return any(way.operation == "terms" for ways in recipe.features.columns.values() for way in ways)


def _portfolio(split: Split, family: str, task: Task) -> list[dict[str, Any]]:
    return models.family(family).portfolio(task, split.num_rows["train"])


def _searched(split: Split, recipe: Recipe, family: str, task: Task) -> Searched:
    chosen = models.family(family)
    params = chosen.params_for_search(training_job.params_of(recipe, family))
    fixed = recipe.train.params if recipe.train.family == family else {}
    begin = [] if recipe.tune.space else _portfolio(split, family, task)
    portfolio = tuple({name: value for name, value in point.items() if name not in fixed} for point in begin)
    searched = {name: domain for name, domain in space(recipe, family, task).items() if name not in fixed}
    return Searched(params.model_dump(mode="json"), searched, portfolio, tuple(fixed))


def space(recipe: Recipe, family: str, task: Task) -> dict[str, Domain]:
    """Take the recipe's choices, each of them checked, or else the family's own space."""
    if not recipe.tune.space:
        return models.family(family).space(task)
    for name, values in recipe.tune.space.items():
        for value in values:
            models.params_of(family, {name: value})
    return {name: Choice(tuple(values)) for name, values in recipe.tune.space.items()}


def nothing_to_do(split: Split, recipe: Recipe, space: Mapping[str, Domain]) -> str | None:
    """The reason for which there is nothing to search, if there is one."""
    if not space:
        return "the family has nothing to search"
    if recipe.tune.trials == 0:
        return "the recipe asks for no trials"
    if not split.num_rows.get("validation"):
        return "there are no validation rows to judge on"
    return None

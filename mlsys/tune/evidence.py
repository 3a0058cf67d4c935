"""Facts of a search for its readers, beside the trials: why it ended, what was not tried, what speaks for a mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys import models
from mlsys.models.interface import Domain
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.tune.blending import Blend
from mlsys.tune.journal import Trial
from mlsys.tune.points import Searched


def described(families: Mapping[str, Searched]) -> dict[str, dict[str, Any]]:
    """Defaults, space and number of portfolio points of each family, as JSON."""
    return {
        name: {
            "defaults": dict(family.defaults),
            "space": {parameter: _domain(domain) for parameter, domain in family.space.items()},
            "portfolio": len(family.portfolio),
        }
        for name, family in families.items()
    }


def _domain(domain: Domain) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(domain).items()}


def why_ended(trials: Sequence[Trial], *, num_trials: int, patience: int, num_first: int, sign: int) -> str:
    """Say why there were no more trials: their number, proposals in vain, or else the time.

    `num_first` are the points that were tried before any proposal.
    """
    if len(trials) >= num_trials:
        return f"after {num_trials} trials, as many as asked for"
    best, last = -float("inf"), 0
    for number, trial in enumerate(trials, 1):
        if sign * trial.score > best:
            best, last = sign * trial.score, number
    if min(len(trials) - last, len(trials) - num_first) >= patience:
        return f"after {patience} proposals that were no better"
    return "when its time was over"


def untried(
    families: Mapping[str, Searched], trials: Sequence[Trial], slow: Mapping[str, str], ended: str
) -> list[dict[str, Any]]:
    """Points of the portfolios that were not tried: their family, number, parameters and the reason.

    Parameters
    ----------
    slow
        The reason for each family that there was no time for; its points are counted together.
    ended
        When the search ended, as `why_ended` says it.

    Notes
    -----
    A search multiplies learning rates by its pace: they are not compared.
    """
    tried = {(trial.family, _without_rate(trial.params)) for trial in trials}
    rows: list[dict[str, Any]] = []
    for name, family in families.items():
        points = [dict(point) for point in family.portfolio if (name, _without_rate(point)) not in tried]
        if name in slow and len(points) == len(family.portfolio):
            rows.append({"family": name, "points": len(points), "params": {}, "reason": slow[name]})
        else:
            reason = f"the search ended before, {ended}"
            rows += [{"family": name, "points": 1, "params": point, "reason": reason} for point in points]
    return rows


def _without_rate(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, value) for name, value in params.items() if name != "learning_rate"))


def not_searched(families: Mapping[str, Searched], recipe: Recipe, task: Task, num_rows: int) -> list[dict[str, Any]]:
    """Families with a portfolio for such a task that are no part of the search, as `untried` has them."""
    first = next(iter(families))
    others = [name for name in models.FAMILIES if name not in families and _is_usual(name, task)]
    points = {name: len(models.family(name).portfolio(task, num_rows)) for name in others}
    return [
        {"family": name, "points": number, "params": {}, "reason": _why_not(name, first, recipe)}
        for name, number in points.items()
        if number
    ]


def _is_usual(name: str, task: Task) -> bool:
    family = models.family(name)
    return family.is_searched_by_default and family.lacks(task) is None


def _why_not(name: str, first: str, recipe: Recipe) -> str:
    if recipe.train.family != "auto":
        return f"the recipe names {first} (train.family)"
    if recipe.tune.space:
        return f"the recipe gives a space for {first} (tune.space)"
    if models.family(name).encoding != models.family(first).encoding:
        return f"it takes other features than {first}, which selection preferred"
    return "it is not among the families of the recipe (selection.families)"


def of_mean(mean: Blend, able: Sequence[Trial]) -> dict[str, Any]:
    """The best mean of trials, with its gain over the best trial: ``members`` are numbers of trials with weights."""
    members = [
        {"trial": able[number].number, "family": able[number].family, "weight": weight}
        for number, weight in mean.weights.items()
    ]
    facts = dataclasses.asdict(mean)
    return {"members": members, **{name: _finite(facts[name]) for name in ("score", "gain", "error")}}


def _finite(value: float) -> float | None:
    """The value as JSON has it: None for NaN."""
    return value if math.isfinite(value) else None

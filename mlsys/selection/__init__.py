"""Step 4: model families compared on the folds of the training rows.

Every family is fitted and judged on the same rounds of folds, one task a fit; what the
scores say is the business of `leaderboard`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from mlsys import cluster, models, train
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection.leaderboard import Entry, Ranking, leaderboard
from mlsys.statistics import TrainStatistics
from mlsys.train import FoldResult, parameters

__all__ = ["BASELINE", "Entry", "Ranking", "rank"]

BASELINE = "dummy"
"""Family that is always among the candidates."""

TREES = 6_000
"""Trees of a boosted model that is only compared: 600 rounds of ten classes. Each round is a tree a class."""

LARGEST_STEP = 0.3
"""Learning rate up to which fewer rounds are made up for; XGBoost's own default."""


@dataclass(frozen=True)
class _Job:
    """One family on one round: what a task is sent."""

    split: Split
    statistics: TrainStatistics
    recipe: Recipe
    task: Task
    family: str
    fit_folds: tuple[int, ...]
    judge: int


@dataclass(frozen=True)
class _Done:
    """What a task gives back."""

    family: str
    judge: int
    result: FoldResult


def rank(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Compare the recipe's families on the folds of the training part.

    Raises
    ------
    RecipeError
        A family or the metric is not known.
    TargetError
        The metric is defined on no fold.
    """
    metric = metrics.find(recipe.selection.metric, task.kind)
    families = list(dict.fromkeys([BASELINE, *recipe.selection.families]))
    for family in families:
        parameters.of(recipe, family)
    jobs = [
        _Job(split, statistics, recipe, task, family, fit_folds, judge)
        for fit_folds, judge in split.rounds()
        for family in families
    ]
    progress(f"{len(families)} families × {len(split.rounds())} folds, {metric.name}")

    def tell(done: _Done, number: int, total: int) -> None:
        fold = f"fold {done.judge + 1}/{split.num_folds}"
        progress(f"{done.family} {fold}  {metric.name} {done.result.score:.3f}  ({number} of {total})")

    ended = cluster.map(_fit, jobs, ended=tell)
    results = {family: [done.result for done in ended if done.family == family] for family in families}
    return leaderboard(metric, results, _notes(recipe, split, task, results))


def _fit(job: _Job) -> _Done:
    result = train.fit_fold(
        job.split,
        job.statistics,
        job.recipe,
        job.task,
        job.family,
        _affordable(parameters.of(job.recipe, job.family), job.task),
        fit_folds=job.fit_folds,
        judge=job.judge,
        seed=job.recipe.seed,
        threads=1,
        max_rows=job.recipe.selection.max_rows,
    )
    return _Done(job.family, job.judge, result)


def _affordable(params: models.Params, task: Task) -> models.Params:
    """At most `TREES` trees: with many classes, fewer rounds and larger steps, which rank families as well."""
    given: Any = params
    rounds = max(1, TREES // max(len(task.classes), 1))
    if "rounds" not in type(params).model_fields or given.rounds <= rounds:
        return params
    rate = min(max(LARGEST_STEP, given.learning_rate), given.learning_rate * given.rounds / rounds)
    return params.model_copy(update={"rounds": rounds, "learning_rate": rate})


def _notes(recipe: Recipe, split: Split, task: Task, results: dict[str, list[FoldResult]]) -> tuple[str, ...]:
    notes = []
    if max(r.num_rows for fits in results.values() for r in fits) >= recipe.selection.max_rows:
        notes.append(f"fitted on samples of {recipe.selection.max_rows:,} rows a fold")
    if any(_affordable(chosen, task) is not chosen for chosen in map(parameters.of, repeat(recipe), results)):
        notes.append(f"boosting: {TREES:,} trees a fit at most, {TREES // len(task.classes)} rounds, with larger steps")
    if split.forward:
        notes.append("each fold is judged on a model of the folds before it in time")
    return tuple(notes)

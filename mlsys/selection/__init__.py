"""Step 4: model families compared on the folds of the training rows.

===============  =============================================================
`race`           which families have no chance after two rounds of folds
`leaderboard`    what the scores say: order, ties, whom to prefer
===============  =============================================================

Every family is fitted and judged on the same rounds of folds, one task a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import cluster, models, train
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features import plan
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection import leaderboard as selection_leaderboard
from mlsys.selection.leaderboard import LeaderboardEntry, Ranking, Scores, leaderboard
from mlsys.statistics import TrainStatistics
from mlsys.train import FoldResult, training_job

__all__ = ["BASELINE", "LeaderboardEntry", "Ranking", "rank"]

BASELINE = "dummy"
"""Family that is always among the candidates."""

FAMILIES = (BASELINE, "linear", "forest", "xgboost")
"""Families that are compared by default, and `IN_SPACE` where distances mean something."""

IN_SPACE = "kernel"
MIN_COORDINATES = 64
"""Features that are places in a space from which on `IN_SPACE` is compared by default: no fewer make a text."""

TREES = 6_000
"""Trees of a boosted model that is only compared: 600 rounds of ten classes. Each round is a tree a class."""

CELLS = 2_000_000_000
"""Trees × rows × features of such a model: a quarter of a minute of one core."""

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
    """What a task gives back; `rounds` are fewer than the recipe's where boosting was `_affordable` with fewer."""

    family: str
    judge: int
    result: FoldResult
    rounds: int | None


def rank(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Compare the recipe's families on the folds of the training part.

    After two rounds of folds, the last two, families without a chance leave (`race.leavers`).

    Raises
    ------
    RecipeError
        A family or the metric is not known.
    TargetError
        The metric is defined on no fold.
    """
    metric = metrics.find(recipe.selection.metric, task.kind)
    families = _families(split, statistics, recipe)
    for family in families:
        training_job.params_of(recipe, family)
    rounds = split.rounds()
    total = len(families) * len(rounds)
    progress(f"{len(families)} families × {len(rounds)} folds, {metric.name}")
    ended: list[_Done] = []

    def run(names: Sequence[str], some: Sequence[tuple[tuple[int, ...], int]]) -> None:
        before = len(ended)

        def tell(done: _Done, number: int, _: int) -> None:
            fold = f"fold {done.judge + 1}/{split.num_folds}"
            progress(f"{done.family} {fold}  {metric.name} {done.result.score:.3f}  ({before + number} of {total})")

        jobs = [_Job(split, statistics, recipe, task, name, *one) for one in some for name in names]
        ended.extend(cluster.map(_fit, jobs, ended=tell))

    first, rest = rounds[-selection_leaderboard.ROUNDS :], rounds[: -selection_leaderboard.ROUNDS]
    run(families, first)
    leaving = selection_leaderboard.leavers(metric, _scores(families, first, ended), keep=BASELINE) if rest else {}
    total -= len(leaving) * len(rest)
    for reason in leaving.values():
        progress(reason)
    run([family for family in families if family not in leaving], rest)
    notes = [*leaving.values(), *_notes(recipe, split, ended)]
    return leaderboard(metric, _scores(families, rounds, ended), notes)


def _families(split: Split, statistics: TrainStatistics, recipe: Recipe) -> list[str]:
    """The recipe's families and the baseline, each once."""
    wanted = recipe.selection.families
    if wanted != "auto":
        return list(dict.fromkeys([BASELINE, *wanted]))
    chosen = plan.choose(split.schema, statistics.whole(), recipe.features, "dense", recipe.data.timezone)
    return _by_default(chosen.num_coordinates)


def _by_default(num_coordinates: int) -> list[str]:
    return [*FAMILIES, IN_SPACE] if num_coordinates >= MIN_COORDINATES else [*FAMILIES]


def _fit(job: _Job) -> _Done:
    prepared = train.prepare(
        job.split,
        job.statistics,
        job.recipe,
        job.task,
        job.family,
        fit_folds=job.fit_folds,
        judge=job.judge,
        seed=job.recipe.seed,
        max_rows=job.recipe.selection.max_rows,
    )
    asked: Any = training_job.params_to_compare(training_job.params_of(job.recipe, job.family))
    params: Any = _affordable(asked, job.task, prepared.train)
    metric = metrics.find(job.recipe.selection.metric, job.task.kind).name
    result = train.fit_prepared(prepared, job.task, job.family, params, metric, seed=job.recipe.seed, threads=1)
    return _Done(job.family, job.judge, result, None if params is asked else params.rounds)


def _affordable(params: models.Params, task: Task, rows: Matrix) -> models.Params:
    """At most `TREES` trees and `CELLS`: fewer rounds and larger steps, which rank families as well."""
    given: Any = params
    trees = min(TREES, CELLS // max(1, rows.num_rows * rows.num_features))
    rounds = max(1, trees // (len(task.classes) if len(task.classes) > 2 else 1))
    if "rounds" not in type(params).model_fields or given.rounds <= rounds:
        return params
    rate = min(max(LARGEST_STEP, given.learning_rate), given.learning_rate * given.rounds / rounds)
    return params.model_copy(update={"rounds": rounds, "learning_rate": rate})


def _scores(families: Sequence[str], rounds: Sequence[tuple[Any, int]], ended: Sequence[_Done]) -> Scores:
    found = {(done.family, done.judge): done.result for done in ended}
    return {family: [found.get((family, judge)) for _, judge in rounds] for family in families}


def _notes(recipe: Recipe, split: Split, ended: Sequence[_Done]) -> list[str]:
    notes = []
    if max(done.result.num_rows for done in ended) >= recipe.selection.max_rows:
        notes.append(f"fitted on samples of {recipe.selection.max_rows:,} rows a fold")
    fewer = [done.rounds for done in ended if done.rounds is not None]
    if fewer:
        notes.append(f"boosting: compared with {min(fewer)} rounds at most and larger steps, as many trees are dear")
    for family in dict.fromkeys(done.family for done in ended):
        notes += training_job.stated_params(training_job.params_of(recipe, family))
    if split.forward:
        notes.append("each fold is judged on a model of the folds before it in time")
    return notes

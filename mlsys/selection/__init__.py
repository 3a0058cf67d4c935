"""Step 4: model families compared on the folds of the training rows.

Every family is fitted and judged on the same rounds of folds, one task a fit. `mlsys.selection.leaderboard`
orders them by their scores, and says after two rounds which of them have no chance and leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import cluster, models, train
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features import plan
from mlsys.models.interface import FamilyParams
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection import leaderboard as boards
from mlsys.selection.leaderboard import LeaderboardEntry, Ranking, Scores
from mlsys.statistics import TrainStatistics
from mlsys.train import FoldResult, training_job

__all__ = ["LeaderboardEntry", "Ranking", "rank"]


@dataclass(frozen=True)
class _FoldJob:
    """A family to fit on a round of folds: what a task is sent."""

    split: Split
    statistics: TrainStatistics
    recipe: Recipe
    task: Task
    family: str
    fit_folds: tuple[int, ...]
    judge: int


@dataclass(frozen=True)
class _FoldScore:
    """A judged fit as its task sends it back, with the parameters that were used."""

    family: str
    judge: int
    result: FoldResult
    params: FamilyParams


def rank(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Compare the recipe's families on the folds of the training part.

    After two rounds of folds, the last two, families without a chance leave (`leaderboard.leavers`).

    Raises
    ------
    RecipeError
        A family or the metric is not known, or a family cannot do such a task.
    TargetError
        The metric is defined on no fold.
    """
    # 1. What is compared: every name and parameter is checked before the first fit.
    metric = metrics.find(recipe.selection.metric, task.kind)
    families = _families(split, statistics, recipe, task)
    for family in families:
        training_job.params_of(recipe, family)
    rounds = split.rounds()
    total = len(families) * len(rounds)
    progress(f"{len(families)} families × {len(rounds)} folds, {metric.name}")
    scored: list[_FoldScore] = []

    def run(names: Sequence[str], some: Sequence[tuple[tuple[int, ...], int]]) -> None:
        before = len(scored)

        def report(score: _FoldScore, number: int, _: int) -> None:
            fold = f"fold {score.judge + 1}/{split.num_folds}"
            progress(f"{score.family} {fold}  {metric.name} {score.result.score:.3f}  ({before + number} of {total})")

        jobs = [_FoldJob(split, statistics, recipe, task, name, *folds) for folds in some for name in names]
        scored.extend(cluster.map(_fit, jobs, on_result=report))

    # 2. Two rounds of folds for all families, the others for those that still have a chance.
    first, rest = rounds[-boards.ROUNDS :], rounds[: -boards.ROUNDS]
    run(families, first)
    leaving = boards.leavers(metric, _scores(families, first, scored), keep=models.BASELINE) if rest else {}
    total -= len(leaving) * len(rest)
    for reason in leaving.values():
        progress(reason)
    run([family for family in families if family not in leaving], rest)
    # 3. The leaderboard.
    notes = [*leaving.values(), *_notes(recipe, split, scored)]
    return boards.leaderboard(metric, _scores(families, rounds, scored), notes)


def _families(split: Split, statistics: TrainStatistics, recipe: Recipe, task: Task) -> list[str]:
    """Name the families to compare, each once: the baseline, and the recipe's or those compared by default."""
    if recipe.selection.families != "auto":
        named = list(dict.fromkeys([models.BASELINE, *recipe.selection.families]))
        return [models.for_task(name, task).name for name in named]
    features = plan.choose(split.schema, statistics.whole(), recipe.features, "dense", recipe.data.timezone)
    return _by_default(task, features.num_coordinates)


def _by_default(task: Task, num_coordinates: int) -> list[str]:
    """Families that are compared by default where so many features are coordinates, the simplest first."""
    able = [family for family in models.FAMILIES.values() if task.kind in family.tasks]
    least = {family: family.min_coordinates for family in sorted(able, key=lambda family: family.complexity)}
    return [family.name for family, count in least.items() if count is not None and num_coordinates >= count]


def _fit(job: _FoldJob) -> _FoldScore:
    recipe, task, family, max_rows = job.recipe, job.task, job.family, job.recipe.selection.max_rows
    prepared = train.prepare(
        job.split, job.statistics, recipe, task, family, fit_folds=job.fit_folds, judge=job.judge, max_rows=max_rows
    )
    params = models.family(family).params_for_comparison(training_job.params_of(recipe, family), task, prepared.train)
    metric = metrics.find(recipe.selection.metric, task.kind).name
    result = train.fit_prepared(prepared, task, family, params, metric, seed=recipe.seed, threads=1)
    return _FoldScore(family, job.judge, result, params)


def _scores(families: Sequence[str], rounds: Sequence[tuple[Any, int]], scored: Sequence[_FoldScore]) -> Scores:
    results = {(score.family, score.judge): score.result for score in scored}
    return {family: [results.get((family, judge)) for _, judge in rounds] for family in families}


def _notes(recipe: Recipe, split: Split, scored: Sequence[_FoldScore]) -> list[str]:
    """Say where fits were cheaper than the final one will be, and how time divides the folds."""
    notes = []
    if max(score.result.num_rows for score in scored) >= recipe.selection.max_rows:
        notes.append(f"fitted on samples of {recipe.selection.max_rows:,} rows a fold")
    for name in dict.fromkeys(score.family for score in scored):
        used = [score.params for score in scored if score.family == name]
        note = models.family(name).note_on_cheaper(training_job.params_of(recipe, name), used)
        notes += [note] if note else []
    if split.forward:
        notes.append("each fold is judged on a model of the folds before it in time")
    return notes

"""Step 4: model families, and forms of their features and target, compared on the folds of the training rows.

Every candidate is fitted and judged on the same rounds of folds, one task a fit. `mlsys.selection.forms` says in
which forms a family is compared; `mlsys.selection.leaderboard` orders the candidates by their scores, and says after
two rounds which of them have no chance and leave.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys import budget, cluster, errors, models, train
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features import plan
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection import category_forms, fold_fits, forms
from mlsys.selection import leaderboard as boards
from mlsys.selection.fold_fits import FoldJob, FoldScore, Late, Unfit
from mlsys.selection.forms import CandidateForm
from mlsys.selection.leaderboard import LeaderboardEntry, Ranking, Scores
from mlsys.statistics import TrainStatistics
from mlsys.train import training_job

__all__ = ["LeaderboardEntry", "Ranking", "again", "rank"]

MANY_ROWS = 20_000
"""Training rows from which on two rounds of folds decide, where there is a clock: more rounds would change little."""

SPARE = 1.3
"""Fits in the time of all, as a multiple of those of the first rounds."""


def rank(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    *,
    seconds: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Compare the recipe's families, in the forms that the training rows give a reason for, on the folds.

    After two rounds of folds, the last two, each family keeps its best form, and families without a chance
    leave (`leaderboard.leavers`), as does what the recipe's limits refuse. With a limit of `seconds`, a fit ends in its
    share of them, those that would begin later than that are left out, and for many rows the two rounds are all.

    Raises
    ------
    RecipeError
        A family or the metric is not known, or a family cannot do such a task.
    TargetError
        The metric is defined on no fold.
    """
    return _compared((split, statistics, recipe, task), seconds, None, progress)


def again(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    former: Ranking,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Make the comparison of a `former` ranking again, without a clock: the same fits on the same rounds of folds.

    What a clock decided is taken from its record: which fits were made, how far each came, and the times that limits
    and preferences of the recipe go by. Scores, who leaves and what is decided come of the new fits.

    Raises
    ------
    StoreError
        The ranking is of a version that did not keep its fits.
    """
    if not former.fits:
        raise errors.StoreError.build(
            "selection: fits of a former comparison",
            got="a ranking that does not say which fits were made",
            expected="each fit with its parameters, and how far it came",
            hint="run the recipe again with this version",
        )
    seconds = math.inf if former.seconds is None else former.seconds
    return _compared((split, statistics, recipe, task), seconds, former.fits, progress)


def _compared(
    given: tuple[Split, TrainStatistics, Recipe, Task],
    seconds: float,
    former: Sequence[Mapping[str, Any]] | None,
    progress: Callable[[str], None],
) -> Ranking:
    """Compare within the seconds, or without a clock as the record of `former` fits says."""
    split, statistics, recipe, task = given
    # 1. What is compared: every name and parameter is checked before the first fit.
    training_job.target_kind(recipe, task)
    metrics.find(recipe.selection.metric, task.kind)
    families = _families(split, statistics, recipe, task)
    for family in families:
        training_job.params_of(recipe, family)
    tail = cluster.call(forms.measure_tail, split, task)
    metric = forms.metric_for(recipe, task, tail)
    resolved = recipe.having({"selection.metric": metric.name})
    ways = forms.feature_forms(split.schema, statistics, recipe)
    stated = recipe.features.columns
    balances = forms.balance_forms(split, recipe, task)
    sentences = [
        *_left_out(recipe, task),
        *forms.balance_notes(balances),
        *forms.tail_notes(recipe, tail, metric),
        *forms.trend_notes(ways, stated),
        *forms.code_notes(ways, stated),
        *category_forms.note(category_forms.columns(split.schema, statistics, recipe)),
    ]
    for note in sentences:
        progress(note)
    ways += [*forms.mean_forms(split.schema, statistics, recipe), *forms.text_forms(split.schema, recipe)]
    candidates = _candidates(families, ways, balances or forms.target_forms(resolved, task, tail, metric))
    num_compared = len(candidates)
    if math.isfinite(seconds) and recipe.train.family == "auto":
        candidates, messages = forms.by_representative(candidates)
        sentences += messages
    # 2. Two rounds of folds for all candidates, the others for those that still have a chance.
    grid = _Grid(split, statistics, resolved, task, metric, candidates, progress, seconds, former)
    leaving = grid.compare()
    # 3. The leaderboard, and what it decides.
    notes = [*sentences, *leaving, *_notes(recipe, split, grid.scored)]
    scores, wish = grid.scores(), recipe.selection
    ranking = boards.leaderboard(metric, scores, notes, wish.margin, wish.prefer, grid.refused(scores))
    chosen = _chosen(recipe, ranking)
    leading = forms.leading(chosen, ranking.entries) if len(candidates) < num_compared else chosen
    if leading != chosen:
        note = f"the form of {leading} is that of {boards.family_of(chosen)}, too: both take the same features"
        progress(note)
        ranking = dataclasses.replace(ranking, notes=(*ranking.notes, note))
    decided = _decided(recipe, task, metric, candidates[leading])
    fits = tuple(fit.to_json() for fit in grid.ended)
    record: dict[str, Any] = {"fits": fits, "seconds": seconds if math.isfinite(seconds) else None}
    return dataclasses.replace(ranking, decided=decided, left=grid.left, **record)


def _candidates(
    families: Sequence[str], features: list[CandidateForm], targets: list[CandidateForm]
) -> dict[str, CandidateForm]:
    """Each family in each of its forms, by the name of the candidate."""
    pairs = [(family, form) for family in families for form in forms.of_family(family, features, targets)]
    return {f"{family}{boards.FORM}{form.name}" if form.name else family: form for family, form in pairs}


def _chosen(recipe: Recipe, ranking: Ranking) -> str:
    """The candidate to go on with: the preferred one, or the best form of the family that the recipe names."""
    own = [entry for entry in ranking.entries if entry.family == recipe.train.family]
    return max(own, key=lambda entry: len(entry.scores)).name if own else ranking.preferred


def _decided(recipe: Recipe, task: Task, metric: metrics.Metric, form: CandidateForm) -> dict[str, Any]:
    """Recipe values that the comparison decided; the usual metric of the task goes without saying."""
    usual = recipe.selection.metric != "auto" or metric.name == metrics.usual(task)
    return ({} if usual else {"selection.metric": metric.name}) | dict(form.values)


@dataclass
class _Grid:
    """Candidates × rounds of folds, and the fits that have ended; with a record of `former` ones, these again."""

    split: Split
    statistics: TrainStatistics
    recipe: Recipe
    task: Task
    metric: metrics.Metric
    candidates: Mapping[str, CandidateForm]
    progress: Callable[[str], None]
    seconds: float = math.inf
    former: Sequence[Mapping[str, Any]] | None = None
    ended: list[FoldScore | Unfit] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.time)

    @property
    def scored(self) -> list[FoldScore]:
        """The fits that were judged."""
        return [each for each in self.ended if isinstance(each, FoldScore)]

    @property
    def rounds(self) -> list[tuple[tuple[int, ...], int]]:
        """Rounds of folds: all, or the last two where time is limited and there are many rows."""
        rounds = self.split.rounds()
        is_enough = math.isfinite(self.seconds) and self.split.num_rows["train"] >= MANY_ROWS
        return rounds[-boards.ROUNDS :] if is_enough else rounds

    def compare(self) -> list[str]:
        """Fit all that is worth it; sentences about candidates that leave after two rounds, whose reasons are noted."""
        rounds, names = self.rounds, list(self.candidates)
        total = len(names) * len(rounds)
        self.progress(f"{len(names)} candidates × {len(rounds)} folds, {self.metric.name}")
        first, rest = rounds[-boards.ROUNDS :], rounds[: -boards.ROUNDS]
        self._run(names, first[:1], total, must=True)
        self._run(names, first[1:], total)
        refused = self.refused(self.scores(first))
        scores = {name: fits for name, fits in self.scores(first).items() if name not in refused}
        staying = boards.best_forms(self.metric, scores)
        notes = [*self.unfit.values(), *(f"{name} was refused: {reason}" for name, reason in refused.items())]
        hopeless = dict[str, str]()
        if len(staying) < len(scores):
            notes.append(f"of each family the best form after {len(first)} folds went on: {'; '.join(staying)}")
        if rest:
            hopeless = boards.leavers(self.metric, {name: scores[name] for name in staying}, keep=models.BASELINE)
        notes += hopeless.values()
        worse = f"another form of the family was better after {len(first)} folds"
        forms = {name: worse for name in scores if name not in staying}
        self.left = {**self.unfit, **({} if not rest else refused), **forms, **hopeless}
        for note in notes:
            self.progress(note)
        going = [name for name in staying if name not in hopeless]
        self._run(going, rest, total - (len(names) - len(going)) * len(rest))
        return notes

    def scores(self, rounds: Sequence[tuple[Any, int]] | None = None) -> Scores:
        """Results of each candidate on some rounds of folds, by default all."""
        results = {(score.name, score.judge): score.result for score in self.scored}
        judges = [judge for _, judge in rounds or self.rounds if judge not in self.late]
        return {
            name: [results.get((name, judge)) for judge in judges] for name in self.candidates if name not in self.unfit
        }

    def refused(self, scores: Scores) -> dict[str, str]:
        """The limit of the recipe that a candidate does not keep, if there is one; the dummy keeps all of them."""
        limits, reasons = train.Constraints.of(self.recipe), dict[str, str]()
        for name, results in scores.items():
            fits = [fit for fit in results if fit is not None]
            latency = float(np.median([fit.predict_us_per_row for fit in fits])) if fits else None
            reason = limits.refusal(latency, max((fit.num_bytes or 0 for fit in fits), default=None))
            if reason is not None and name != models.BASELINE:
                reasons[name] = reason
        return reasons

    def _run(
        self, names: Sequence[str], rounds: Sequence[tuple[tuple[int, ...], int]], total: int, *, must: bool = False
    ) -> None:
        """Fit candidates on rounds of folds; where they `must` be, however late it is."""
        names, before = [name for name in names if name not in self.unfit], len(self.scored)

        def report(score: FoldScore | Unfit | Late, number: int, _: int) -> None:
            if isinstance(score, Late):
                return
            fold, metric = self.split.fold_words(score.judge), self.metric.name
            outcome = "cannot be fitted" if isinstance(score, Unfit) else f"{metric} {score.result.score:.3f}"
            self.progress(f"{score.name} {fold}  {outcome}  ({before + number} of {total})")

        made = dict[Any, cluster.Shared[train.Prepared]]()
        until = math.inf if must else self.began + self.seconds
        planned = [(name, folds) for folds in rounds for name in names]
        jobs = [self._job(name, folds, made, until) for name, folds in planned if self._has_time(name, folds[1])]
        done = cluster.map(fold_fits.fit, jobs, on_result=report)
        self.ended += [each for each in done if not isinstance(each, Late)]
        self.late |= {each.judge for each in done if isinstance(each, Late)}
        self.late |= {judge for name, (_, judge) in planned if not self._has_time(name, judge)}
        unfit = {each.name: each.reason for each in done if isinstance(each, Unfit)}
        self.unfit |= {name: f"{name} was left out: {reason}" for name, reason in unfit.items()}

    def _job(self, name: str, folds: tuple[tuple[int, ...], int], made: dict[Any, Any], until: float) -> FoldJob:
        """The job of a candidate; candidates that take the same features share the rows `made` for the first."""
        recipe, family = self.candidates[name].apply(self.recipe), boards.family_of(name)
        key = folds, training_job.encoding(family), recipe.features.model_dump_json()
        if key not in made:
            made[key] = cluster.share(fold_fits.prepare, self.split, self.statistics, recipe, self.task, family, *folds)
        own = made[key], recipe, self.task, name, folds[1]
        if self.former is not None:
            return FoldJob(*own, former=self._recorded(name, folds[1]))
        return FoldJob(*own, self._seconds_a_fit(), until)

    def _has_time(self, name: str, judge: int) -> bool:
        """False for a fit that is not in the record: there was no time for it."""
        return self.former is None or self._recorded(name, judge) is not None

    def _recorded(self, name: str, judge: int) -> Mapping[str, Any] | None:
        return next((fit for fit in self.former or () if (fit["name"], fit["judge"]) == (name, judge)), None)

    def _seconds_a_fit(self) -> float | None:
        if math.isinf(self.seconds):
            return None
        fits = SPARE * boards.ROUNDS * len(self.candidates)
        return max(budget.FIT_S, self.seconds * cluster.num_cpus() / fits)


def _families(split: Split, statistics: TrainStatistics, recipe: Recipe, task: Task) -> list[str]:
    """Name the families to compare, each once: the baseline, and the recipe's or those compared by default."""
    if recipe.selection.families != "auto":
        named = list(dict.fromkeys([models.BASELINE, *recipe.selection.families]))
        for name in named:
            if models.for_task(name, task, **training_job.demands(recipe)).encoding == "pixels":
                chosen = plan.choose(split.schema, statistics.whole(), recipe.features, "pixels", recipe.data.timezone)
                training_job.check_pictures(chosen, name)
        return named
    models.for_task(models.BASELINE, task, **training_job.demands(recipe))
    features = plan.choose(split.schema, statistics.whole(), recipe.features, "dense", recipe.data.timezone)
    return _by_default(task, features.num_coordinates, **training_job.demands(recipe))


def _left_out(recipe: Recipe, task: Task) -> list[str]:
    """A sentence on the families that nobody named and that cannot do what the task asks for."""
    demands = training_job.demands(recipe)
    is_usual = task.loss is None and task.weight is None and not any(demands.values())
    if recipe.selection.families != "auto" or is_usual:
        return []
    able = {name: family for name, family in models.FAMILIES.items() if task.fitted.kind in family.tasks}
    lacks = {name: family.lacks(task, **demands) for name, family in able.items()}
    reasons = dict.fromkeys(lack for lack in lacks.values() if lack is not None)
    names = {reason: ", ".join(name for name, lack in lacks.items() if lack == reason) for reason in reasons}
    return [f"left out, for lack of {reason}: {names[reason]}" for reason in reasons]


def _by_default(task: Task, num_coordinates: int, **demands: bool) -> list[str]:
    """Families that are compared by default where so many features are coordinates, the simplest first."""
    able = [family for family in models.FAMILIES.values() if family.lacks(task, **demands) is None]
    least = {family: family.min_coordinates for family in sorted(able, key=lambda family: family.complexity)}
    return [family.name for family, count in least.items() if count is not None and num_coordinates >= count]


def _notes(recipe: Recipe, split: Split, scored: Sequence[FoldScore]) -> list[str]:
    """Say where fits were cheaper than the final one will be, and how time divides the folds."""
    notes = []
    if max(score.result.num_rows for score in scored) >= recipe.selection.max_rows:
        notes.append(f"fitted on samples of {recipe.selection.max_rows:,} rows a fold")
    for name in dict.fromkeys(boards.family_of(score.name) for score in scored):
        used = [score.params for score in scored if boards.family_of(score.name) == name]
        note = models.family(name).note_on_cheaper(training_job.params_of(recipe, name), used)
        cut = [score.result.cut for score in scored if boards.family_of(score.name) == name and score.result.cut]
        notes += [note] if note else []
        notes += [f"{name}: {len(cut)} of {len(used)} fits ended by their time, {_least(cut)}"] if cut else []
    if split.horizon is not None:
        known = f"each fold is judged on a model of what was known {split.horizon} before it"
        notes.append(f"{known}; the dummy is the seasonal-naive forecast")
    elif split.forward:
        notes.append("each fold is judged on a model of the folds before it in time")
    return notes


def _least(cuts: Sequence[Mapping[str, int]]) -> str:
    """The least that time has left of each parameter, in words."""
    least: dict[str, int] = {}
    for name, value in (pair for cut in cuts for pair in cut.items()):
        least[name] = min(value, least.get(name, value))
    return "the least of them with " + ", ".join(f"{name} {value:,}" for name, value in least.items())

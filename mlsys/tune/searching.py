"""The trials of a search: how many there are, on which rows they are judged, and which families have time."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import cluster, errors, models, train
from mlsys.dataset import Split
from mlsys.evaluate import baseline, metrics
from mlsys.models.boosting import BoostingFamily, trees_a_round
from mlsys.models.matrix import joined
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics import TrainStatistics
from mlsys.store import Store
from mlsys.train import stretches, training_job
from mlsys.train.stretches import TimeStretch
from mlsys.tune import former, outcome, points, trials
from mlsys.tune.journal import Journal
from mlsys.tune.points import Points, Searched
from mlsys.tune.trials import Search

MOST_TRIALS, UNTIMED_TRIALS = 200, 21
"""Trials at most where the recipe leaves their number open, and their number where there is no clock either."""

PATIENCE = {500: 8, 2_500: 15, 10_000: 40, 100_000: 100}
"""Training rows at most → proposals without a better score after which a search ends: those of AutoGluon's presets."""

FEW_ROWS = 10_000
"""Training rows below which trials are judged on the folds, too, where there is time for it."""

JUDGED_ROUNDS = 300
"""Rounds of a usual fit, by which the time of judging on all folds is expected."""

LEAST_RESERVE = 0.25
"""Part of the time for the final fit that a trial has in any case: of many rows, both see a sample."""

FEWEST_ROUNDS = 100
"""Rounds without which a family is not worth its time."""


@dataclass(frozen=True)
class Searching:
    """A call of `search` that has something to do."""

    store: Store
    split: Split
    statistics: TrainStatistics
    recipe: Recipe
    task: Task
    families: dict[str, Searched]
    metric: metrics.Metric
    seconds: float
    reserve: float
    progress: Callable[[str], None]

    @property
    def family(self) -> str:
        """The family whose defaults are the first trial."""
        return next(iter(self.families))

    def run(self, journal: Journal) -> list[str]:
        """Fill the journal up to the number of trials or the time, and return notes for the reader."""
        number = self._num_trials()
        done, left = len(journal.trials), self.seconds - journal.elapsed_s
        if done:
            self.progress(f"{done} trials found in the journal")
        if done and (done >= number or left <= 0):
            return []
        shared = self.shared(journal, left)
        families = self._in_time(left)
        begin = points.first_points(families, self._former(journal, families), others_first=self._is_cut_by_time())
        former.describe(journal, self.metric.sign)
        how: dict[str, Any] = {"patience": self._patience(), "smaller": self._smaller}
        queue = Points(families, begin, self.metric.sign, self.recipe.seed + done, **how)
        with self.store.staging() as folder:
            end = trials.run(shared, queue, journal, folder=folder, num_trials=number - done, progress=self._say)
        if end.is_interrupted:
            raise KeyboardInterrupt(outcome.so_far(self.family, self.metric, journal.trials))
        if not journal.trials:
            self._refuse(end.failed)
        return end.failed

    def _is_cut_by_time(self) -> bool:
        """True if a fit of the first family has no end that it can be hurried to: less time is a smaller model.

        On a busy machine all that a search has may be two trials, which then are of two families.
        """
        return not isinstance(models.family(self.family), BoostingFamily)

    def _smaller(self, name: str, params: Mapping[str, Any]) -> dict[str, int]:
        """Parameters with which a point that failed is tried again; none that the recipe states."""
        searched = self.families[name]
        least = models.family(name).smaller(models.params_of(name, {**searched.defaults, **params}))
        return {each: value for each, value in least.items() if each not in searched.fixed}

    def _former(self, journal: Journal, families: dict[str, Searched]) -> list[tuple[str, dict[str, Any]]]:
        """Points that were best in the search before, where a clock decides what is tried."""
        if math.isinf(self.seconds) or self.recipe.tune.trials != "auto":
            return []
        best = former.best_points(journal, families)
        if best:
            self.progress(f"the search begins with {len(best)} of the best points of the one before")
        return best

    def _patience(self) -> int:
        """Proposals in vain after which the search ends; few rows tell little, so few points are worth the time."""
        if self.recipe.tune.trials != "auto":
            return sys.maxsize
        rows = self.split.num_rows["train"]
        return next((tries for most, tries in PATIENCE.items() if rows <= most), MOST_TRIALS)

    def _num_trials(self) -> int:
        """The recipe's number beside the defaults; else as many as there is time for, or a few without a clock."""
        if self.recipe.tune.trials != "auto":
            return self.recipe.tune.trials + 1
        return UNTIMED_TRIALS if math.isinf(self.seconds) else MOST_TRIALS

    def notes(self) -> list[str]:
        """Sentences about what trials were fitted and judged on."""
        family, params = models.family(self.family), training_job.params_of(self.recipe, self.family)
        cheaper = family.note_on_cheaper(params, [family.params_for_search(params)])
        rows, most = self.split.num_rows["train"], self.recipe.tune.max_rows
        sampled = f"fitted on samples of {most:,} rows" if rows > most else None
        later = None
        if self._stretches:
            begins = ", ".join(map(str, self._stretches))
            later = (
                f"judged on rows later than those fitted on ({begins}): rows came in the order of this time, and "
                "features follow it as a trend"
            )
        return [note for note in (cheaper, sampled, later) if note]

    def _slow(self) -> dict[str, str]:
        """The families whose trials would take too long, with the reason."""
        able = self._in_time(self.seconds)
        return {
            name: f"{FEWEST_ROUNDS} rounds of it may take {FEWEST_ROUNDS * self._round_s(_speed(name)):.0f} s, "
            f"more than {trials.SHARE:.0%} of the {self.seconds:.0f} s of the search"
            for name in self.families
            if name not in able
        }

    def _say(self, line: str) -> None:
        self.progress(f"{self.metric.name}  {line}")

    def shared(self, journal: Journal, seconds: float) -> Search:
        """Have tasks put the rows into Ray's object store: they never pass through the driver."""
        if not cluster.is_connected():
            raise errors.ClusterError.build(
                "tune: trials", got="no Ray", expected="a cluster", hint="cluster.connect(store) before tune.search"
            )
        target, until = training_job.target_kind(self.recipe, self.task), time.time() + seconds
        how = (self.metric.name, target, self.recipe.seed, self.families)
        least = 0.0 if math.isinf(self.reserve) else LEAST_RESERVE * self.reserve
        limits = self.recipe.selection.max_bytes is not None, self._longest(), least
        return Search(self._rows, self.task, *how, journal.folder, until, *limits)

    def _longest(self) -> float:
        """Seconds of a trial whose final fit, on more rows, fits into its reserve; a part of that in any case."""
        return max(self.reserve * self.num_fits / self.growth(), LEAST_RESERVE * self.reserve)

    def growth(self) -> float:
        """Seconds of the final fit beside those of one fit of a trial: it has more rows, and more rounds for them."""
        rows = self.split.num_rows
        more = (rows["train"] + rows.get("validation", 0)) / min(rows["train"], self.recipe.tune.max_rows)
        return more * min(more, training_job.MOST_ROUNDS)

    @functools.cached_property
    def _rows(self) -> dict[str, tuple[cluster.Shared[train.Prepared], ...]]:
        """Rows to fit and to judge on in each encoding that a family of the search takes."""
        given = (self.split, self.statistics, self.recipe, self.task)
        families = {training_job.encoding(name): name for name in self.families}
        return {
            encoding: tuple(cluster.share(_prepare, *given, name, judge) for judge in self._judges)
            for encoding, name in families.items()
        }

    @functools.cached_property
    def _judges(self) -> list[train.Judge | TimeStretch]:
        """The rows that trials are judged on: the validation part, and where there are few rows the folds, too.

        Where time divides the rows, the latest ones are nearest to those that will be predicted, and judge alone; so do
        the latest stretches of training rows that came in the order of a time, and whose target moves with it.
        """
        if self._stretches:
            return list(self._stretches)
        folds = sorted(self.statistics.folds)
        few = self.split.num_rows["train"] < FEW_ROWS and not self.split.forward
        return ["validation", *(folds if few and self._has_time_for(1 + len(folds)) else [])]

    @functools.cached_property
    def _stretches(self) -> tuple[TimeStretch, ...]:
        """Stretches of time to judge on, the last alone where there is no time for all of them."""
        column = stretches.time_column(self.split.schema, self.recipe, self.task)
        if column is None or self.split.forward or self._reads_target():
            return ()
        latest: tuple[TimeStretch, ...] = cluster.call(stretches.find, self.split, column, threads=1)
        return latest if self._has_time_for(sum(each.share for each in latest)) else latest[-1:]

    def _reads_target(self) -> bool:
        """True if a feature of a family is made of targets: those of rows to judge on are among them."""
        fits = {training_job.encoding(name): name for name in self.families}.values()
        how = self.split.schema, self.statistics, self.recipe
        return any(training_job.fit_program(*how, name).held_out for name in fits)

    @property
    def num_fits(self) -> float:
        """Fits on all training rows that take as long as those of a trial."""
        return sum(judge.share if isinstance(judge, TimeStretch) else 1.0 for judge in self._judges)

    def dummy(self) -> float:
        """The score of the dummy, on the validation rows or the stretches of time that trials are judged on."""
        if not self._stretches:
            return cluster.call(baseline.dummy_score, self.split, self.task, self.metric, "validation")
        rows = next(iter(self._rows.values()))
        return cluster.call(_dummy_score, rows, self.split, self.task, self.metric, threads=1)

    def _has_time_for(self, fits: float) -> bool:
        """True if so many fits of a trial take no longer than the final fit may: many features make few rows slow.

        It depends on the recipe's time and not on what is left of it, so that a replay has the same judges.
        """
        if math.isinf(self.reserve):
            return True
        fitted = training_job.fit_program(self.split.schema, self.statistics, self.recipe, self.family)
        values = self.split.num_rows["train"] * fitted.program.width * fits * trees_a_round(self.task)
        return JUDGED_ROUNDS * values / _speed(self.family) <= self.reserve

    def _in_time(self, seconds: float) -> dict[str, Searched]:
        """The families whose trials should end in time, the first one whatever it takes."""
        return {
            name: family
            for name, family in self.families.items()
            if name == self.family or FEWEST_ROUNDS * self._round_s(_speed(name)) <= trials.SHARE * seconds
        }

    def _round_s(self, speed: float) -> float:
        """Seconds of a round of boosting over all rows of a trial, at so many training values a second."""
        rows = min(self.split.num_rows["train"], self.recipe.tune.max_rows) * self.num_fits
        trees = trees_a_round(self.task)
        return rows * len(self.split.schema.features) * trees / speed

    def _refuse(self, failed: list[str]) -> None:
        if failed:
            raise errors.ClusterError.build(f"tune: {len(failed)} trials", got=failed[0], expected="a trial that ends")
        where = f"tune: {self.metric.name} on the validation rows"
        hint = "divide the rows otherwise (split), or take another metric (selection.metric)"
        expected = "groups with a grade above 0" if self.task.is_ranking else "rows of more than one class"
        raise errors.TargetError.build(where, got="not defined", expected=expected, hint=hint)


def _speed(family: str) -> float:
    """Training values that a round of the family passes in a second, roughly."""
    return float(getattr(models.family(family), "speed", BoostingFamily.speed))


def _prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    judge: train.Judge | TimeStretch,
) -> train.Prepared:
    if isinstance(judge, TimeStretch):
        given = split, statistics, recipe, task, family
        return stretches.prepare(*given, judge, max_rows=recipe.tune.max_rows)
    folds: Iterable[int] = (fold for fold in statistics.folds if fold != judge)
    how: dict[str, Any] = {"judge": judge, "max_rows": recipe.tune.max_rows, "stops_on_judged": True}
    return train.prepare(split, statistics, recipe, task, family, fit_folds=folds, **how)


def _dummy_score(
    rows: Sequence[cluster.Shared[train.Prepared]], split: Split, task: Task, metric: metrics.Metric
) -> float:
    judged = joined([each.get().judged for each in rows])
    output = baseline.dummy_scores(split, task, judged.num_rows, metric, judged.exposure)
    return metrics.measure(metric.name, judged.y, output, weight=judged.weight)

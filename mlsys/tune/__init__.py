"""Step 7: a family's parameters, searched on the training rows and judged on validation.

The default parameters are judged first, then trials until the budget is spent (`mlsys.tune.trials`);
the better of the two is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlsys import cluster, errors, models, train
from mlsys.code_graph import code_digest
from mlsys.dataset import Split
from mlsys.evaluate import baseline, metrics
from mlsys.features.operations import encoders
from mlsys.models.interface import Choice, Domain, FamilyParams
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics import TrainStatistics
from mlsys.store import Store, digest_json
from mlsys.train import training_job
from mlsys.tune import trials
from mlsys.tune.trials import Journal, Search, Trial

__all__ = ["Tuned", "search"]

OPEN = frozenset({"train", "validation"})
"""Parts that may be reachable while parameters are chosen."""

TRIALS, TRIALS_A_PARAMETER = 20, 8
"""Trials by default: at most, and of a space of few parameters, for each of them."""


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search: all parameters of the family, tuned ones only if better on the same validation rows.

    The scores are the metric on validation, None where nothing was judged. `trials` are the default (number 0)
    and every trial, in the order in which they ended.
    """

    family: str
    params: dict[str, Any]
    metric: str
    score_default: float | None
    score_tuned: float | None
    choice: Literal["tuned", "default"]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        value["kept"] = value.pop("choice")
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tuned:
        fields = {name: stored for name, stored in value.items() if name != "kept"}
        trials = tuple(Trial(**trial) for trial in value["trials"])
        return cls(**{**fields, "choice": value["kept"], "trials": trials, "notes": tuple(value["notes"])})

    def summary(self) -> str:
        """Say in one line how many trials there were, the scores, and which parameters are kept."""
        if self.score_default is None:
            return f"{self.family}: default parameters kept; {'; '.join(self.notes)}"
        stopped = sum(not trial.finished for trial in self.trials)
        tuned = "none finished" if self.score_tuned is None else f"tuned {self.score_tuned:.4f}"
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"{self.family}: {len(self.trials) - 1} trials, {stopped} stopped early; validation {self.metric} "
            f"default {self.score_default:.4f}, {tuned}: {self.choice} kept{notes}"
        )


def search(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    *,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Search the family's parameters within the recipe's budget.

    The journal lies in ``<folder>/tune``, one for each set of inputs: a search that was
    killed, or whose budget was raised, goes on where it was.

    Raises
    ------
    RecipeError
        The family or a parameter is not known, or the family cannot do such a task.
    SealedError
        `split` opens more than the training and validation rows.
    ClusterError
        There is no Ray to run trials on, or every trial failed.
    """
    beyond = sorted(split.parts - OPEN)
    if beyond:
        where = f"tune: part '{beyond[-1]}' is open"
        got = ", ".join(sorted(split.parts))
        hint = 'split.only("train", "validation"): test rows are opened once, by evaluate'
        raise errors.SealedError.build(where, got=got, expected="the parts train and validation alone", hint=hint)
    chosen = models.for_task(family, task)
    default = training_job.params_of(recipe, family).model_dump(mode="json")
    space = _space(recipe, family, task)
    metric = metrics.find(recipe.selection.metric, task.kind)
    reason = _nothing_to_do(split, recipe, space)
    if reason:
        return Tuned(family, default, metric.name, None, None, "default", (), (reason,))
    params = models.params_of(family, default)
    searched = chosen.params_for_search(params)
    searching = _Searching(store, split, statistics, recipe, task, searched, family, space, metric, progress)
    journal = Journal(folder / "tune" / f"{family}-{_key(store, split, recipe, task, family, space)}" / "journal.jsonl")
    note = chosen.note_on_cheaper(params, [searched])
    notes = [*([note] if note else []), *searching.run(journal)]
    dummy = cluster.call(baseline.dummy_score, split, task, metric, "validation")
    return _better(family, default, metric, tuple(journal.trials), tuple(notes), dummy)


def _space(recipe: Recipe, family: str, task: Task) -> dict[str, Domain]:
    """Take the recipe's choices, each of them checked, or else the family's own space."""
    if not recipe.tune.space:
        return models.family(family).space(task)
    for name, values in recipe.tune.space.items():
        for value in values:
            models.params_of(family, {name: value})
    return {name: Choice(tuple(values)) for name, values in recipe.tune.space.items()}


def _num_trials(recipe: Recipe, space: dict[str, Domain]) -> int:
    trials = recipe.tune.trials
    return min(TRIALS, TRIALS_A_PARAMETER * len(space)) if trials == "auto" else trials


def _nothing_to_do(split: Split, recipe: Recipe, space: dict[str, Domain]) -> str | None:
    if not space:
        return "the family has nothing to search"
    if recipe.tune.trials == 0:
        return "the recipe asks for no trials"
    if not split.num_rows.get("validation"):
        return "there are no validation rows to judge on"
    return None


def _key(store: Store, split: Split, recipe: Recipe, task: Task, family: str, space: dict[str, Domain]) -> str:
    """Digest all that a trial's score depends on; the budget is not part of it."""
    return digest_json({
        "split": split.digest,
        "task": task.model_dump(mode="json"),
        "timezone": recipe.data.timezone,
        "encoders": encoders.encoder_digests(recipe.features),
        "features": recipe.features.model_dump(mode="json", exclude={"joins"}),
        "train": recipe.train.model_dump(mode="json", exclude={"plan", "workers", "refit"}),
        "max_rows": recipe.tune.max_rows,
        "metric": recipe.selection.metric,
        "space": {name: dataclasses.asdict(domain) for name, domain in space.items()},
        "family": family,
        "seed": recipe.seed,
        "code": code_digest(store, "mlsys.tune"),
    })[:16]  # fmt: skip


@dataclass(frozen=True)
class _Searching:
    """A call of `search` that has something to do; `params` are those under which trials are compared."""

    store: Store
    split: Split
    statistics: TrainStatistics
    recipe: Recipe
    task: Task
    params: FamilyParams
    family: str
    space: dict[str, Domain]
    metric: metrics.Metric
    progress: Callable[[str], None]

    def run(self, journal: Journal) -> list[str]:
        """Fill the journal up to the budget and return notes for the reader."""
        budget, num_trials = self.recipe.tune, _num_trials(self.recipe, self.space)
        done = sum(trial.number > 0 for trial in journal.trials)
        seconds = None if budget.minutes is None else 60 * budget.minutes - journal.elapsed_s
        if journal.trials:
            self.progress(f"{done} of {num_trials} trials found in the journal")
        if journal.trials and (done >= num_trials or (seconds is not None and seconds <= 0)):
            return []
        shared = self._share()
        if not journal.trials:
            self._judge_default(shared, journal)
        with self.store.staging() as folder:
            failed = trials.run(
                shared,
                journal,
                folder=folder,
                num_trials=num_trials - done,
                seconds=seconds,
                progress=lambda line: self.progress(f"{self.family} {self.metric.name}  {line}"),
            )
        if failed and len(failed) == num_trials - done:
            raise errors.ClusterError.build(f"tune: {len(failed)} trials", got=failed[0], expected="a trial that ends")
        return failed

    def _share(self) -> Search:
        """Have a task put the rows into Ray's object store: they never pass through the driver."""
        if not cluster.is_connected():
            raise errors.ClusterError.build(
                "tune: trials", got="no Ray", expected="a cluster", hint="cluster.connect(store) before tune.search"
            )
        rows = cluster.share(_prepare, self.split, self.statistics, self.recipe, self.task, self.family)
        defaults = self.params.model_dump(mode="json")
        target = training_job.target_kind(self.recipe, self.task)
        return Search(rows, self.task, self.family, self.metric.name, target, self.recipe.seed, defaults, self.space)

    def _judge_default(self, shared: Search, journal: Journal) -> None:
        result = cluster.call(trials.judge, shared, {}, 1, threads=1)
        if not math.isfinite(result.score):
            where = f"tune: {self.metric.name} on the validation rows"
            hint = "divide the rows otherwise (split), or take another metric (selection.metric)"
            raise errors.TargetError.build(where, got="not defined", expected="rows of more than one class", hint=hint)
        self.progress(f"{self.family} {self.metric.name}  default {result.score:.4f}")
        journal.append(Trial(0, {}, result.score, result.best_rounds, True, result.fit_s, result.fit_s))


def _prepare(split: Split, statistics: TrainStatistics, recipe: Recipe, task: Task, family: str) -> train.Prepared:
    folds, max_rows = statistics.folds, recipe.tune.max_rows
    return train.prepare(
        split, statistics, recipe, task, family, fit_folds=folds, judge="validation", max_rows=max_rows
    )


def _better(
    family: str,
    default: dict[str, Any],
    metric: metrics.Metric,
    trials: tuple[Trial, ...],
    notes: tuple[str, ...],
    dummy: float = math.nan,
) -> Tuned:
    """Keep the best finished trial if it beats the default and the dummy, else the default."""
    first = next(trial for trial in trials if trial.number == 0)
    if not any(metric.sign * (trial.score - dummy) > 0 for trial in trials) and math.isfinite(dummy):
        notes = (*notes, f"no parameters beat the dummy's {metric.name} of {dummy:.4f} on the validation rows")
    searched = [trial for trial in trials if trial.number > 0 and trial.finished]
    best = max(searched, key=lambda trial: (metric.sign * trial.score, -trial.number), default=None)
    if best is None or metric.sign * (best.score - first.score) <= 0 or metric.sign * (best.score - dummy) <= 0:
        score = None if best is None else best.score
        return Tuned(family, default, metric.name, first.score, score, "default", trials, notes)
    params = models.params_of(family, {**default, **best.params}).model_dump(mode="json")
    return Tuned(family, params, metric.name, first.score, best.score, "tuned", trials, notes)

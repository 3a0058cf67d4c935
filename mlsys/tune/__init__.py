"""Step 7: parameters of one family or several, searched on the training rows and judged on rows beside them.

The defaults are tried first, then the families' portfolios, then what Optuna proposes, until the time is over
(`mlsys.tune.trials`). The best trial is taken, or the mean of a few where that is better beyond chance
(`mlsys.tune.blending`).

Many rows are judged on the validation part alone. Few are judged out of fold, too: each fold by fits on the
others, so that a choice rests on all training and validation rows and not on a hundred.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import cluster, errors, models, train
from mlsys.code_graph import code_digest
from mlsys.dataset import Split
from mlsys.evaluate import baseline, metrics
from mlsys.features.operations import encoders
from mlsys.models.boosting import BoostingFamily, trees_a_round
from mlsys.models.families import ensemble
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics import TrainStatistics
from mlsys.store import Store, digest_json
from mlsys.train import fitting, training_job
from mlsys.tune import blending, evidence, importance, outcome, points, search_space, trials
from mlsys.tune.journal import Journal, Trial
from mlsys.tune.outcome import Tuned
from mlsys.tune.points import Points, Searched
from mlsys.tune.trials import Search

__all__ = ["Tuned", "replay", "search"]

OPEN = frozenset({"train", "validation"})
"""Parts that may be reachable while parameters are chosen."""

MOST_TRIALS, UNTIMED_TRIALS = 200, 21
"""Trials at most where the recipe leaves their number open, and their number where there is no clock either."""

PATIENCE = {500: 8, 2_500: 15, 10_000: 40, 100_000: 100}
"""Training rows at most → proposals without a better score after which a search ends: those of AutoGluon's presets."""

FEW_ROWS = 10_000
"""Training rows below which trials are judged on the folds, too."""

THREADS_GAIN = 1.3
"""How much faster a fit with all threads of a machine is than with the one that a trial has, at least."""

CANDIDATES = 20
"""Trials that a mean is selected from, the best ones."""

FEWEST_ROUNDS = 100
"""Rounds without which a family is not worth its time."""


def search(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    *,
    folder: Path,
    contenders: Sequence[str] = (),
    seconds: float = math.inf,
    reserve: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Search the parameters of the family, and of those with a portfolio beside it, for so many `seconds`.

    Families with a portfolio stand beside one that takes the same features, and where another family that takes theirs
    is among the `contenders`, which selection found near the best. A family that selection preferred for its simplicity
    stays unless the search finds something better by more than the margin of the recipe.

    A mean of several trials has to be fitted within the seconds that are the `reserve` of the final fit. Where the
    recipe names a number of trials there is no clock. The journal lies in ``<folder>/tune``, one for each set of
    inputs: a search that was killed, or has more time now, goes on where it was.

    Raises
    ------
    RecipeError
        The family or a parameter is not known, or the family cannot do such a task.
    SealedError
        `split` opens more than the training and validation rows.
    ClusterError
        There is no Ray to run trials on, or every trial failed.
    KeyboardInterrupt
        Somebody pressed Ctrl-C during the trials: what ended is in the journal, and the message says what it is.
    """
    # 1. What is searched: names and parameters are checked before the first fit.
    beyond = sorted(split.parts - OPEN)
    if beyond:
        where = f"tune: part '{beyond[-1]}' is open"
        got = ", ".join(sorted(split.parts))
        hint = 'split.only("train", "validation"): test rows are opened once, by evaluate'
        raise errors.SealedError.build(where, got=got, expected="the parts train and validation alone", hint=hint)
    models.for_task(family, task, is_monotone=bool(recipe.train.monotone))
    families = search_space.families(split, recipe, family, task, contenders)
    metric = metrics.find(recipe.selection.metric, task.kind, metrics.usual(task))
    default = training_job.params_of(recipe, family).model_dump(mode="json")
    reason = search_space.nothing_to_do(split, recipe, families[family].space)
    if reason:
        return Tuned(family, default, metric.name, None, None, "default", (), (reason,))
    # 2. The trials.
    journal = Journal(folder / "tune" / f"{family}-{_key(store, split, recipe, task, families)}" / "journal.jsonl")
    limit = _seconds(recipe, seconds)
    limits = (
        limit,
        reserve if math.isfinite(limit) else math.inf,
    )  # without a clock nothing depends on how long fits take
    searching = _Searching(store, split, statistics, recipe, task, families, metric, *limits, progress)
    notes = searching.run(journal)
    # 3. What is made of them.
    dummy = cluster.call(baseline.dummy_score, split, task, metric, "validation")
    return searching.choose(journal, default, (*searching.notes(), *notes), dummy)


def replay(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    former: Tuned,
    *,
    contenders: Sequence[str] = (),
    seconds: float = math.inf,
    reserve: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Fit the trials of a `former` search again, without a clock, and choose among them as it did.

    What a clock decided is taken from its record: which points were tried, the rounds of each fit, and the seconds by
    which a mean has to fit into the `reserve` of the final fit.

    Raises
    ------
    StoreError
        The record is of a version that did not keep the rounds of each fit.
    """
    families = search_space.families(split, recipe, family, task, contenders)
    metric = metrics.find(recipe.selection.metric, task.kind, metrics.usual(task))
    limit = _seconds(recipe, seconds)
    limits = limit, reserve if math.isfinite(limit) else math.inf
    searching = _Searching(store, split, statistics, recipe, task, families, metric, *limits, progress)
    default = training_job.params_of(recipe, family).model_dump(mode="json")
    dummy = cluster.call(baseline.dummy_score, split, task, metric, "validation")
    with store.staging() as folder:
        journal = Journal(folder / "journal.jsonl")
        trials.again(searching.shared(journal, math.inf), former.trials, journal, progress)
        return searching.choose(journal, default, tuple(searching.notes()), dummy)


def _seconds(recipe: Recipe, seconds: float) -> float:
    """The time of the search: its own limit, none where the recipe names a number of trials, else what is given."""
    if recipe.tune.minutes is not None:
        return 60 * recipe.tune.minutes
    return seconds if recipe.tune.trials == "auto" else math.inf


def _key(store: Store, split: Split, recipe: Recipe, task: Task, families: Mapping[str, Searched]) -> str:
    """Digest all that a trial's score depends on; neither the number of trials nor their time is part of it."""
    return digest_json({
        "split": split.digest,
        "task": task.model_dump(mode="json"),
        "timezone": recipe.data.timezone,
        "encoders": encoders.encoder_digests(recipe.features),
        "features": recipe.features.model_dump(mode="json", exclude={"joins"}),
        "train": recipe.train.model_dump(mode="json", exclude={"plan", "workers", "refit"}),
        "max_rows": recipe.tune.max_rows,
        "metric": recipe.selection.metric,
        "measures_bytes": recipe.selection.max_bytes is not None,
        "families": {name: dataclasses.asdict(family) for name, family in families.items()},
        "seed": recipe.seed,
        "code": code_digest(store, "mlsys.tune"),
    })[:16]  # fmt: skip


@dataclass(frozen=True)
class _Searching:
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
        begin = points.first_points(families)
        queue = Points(families, begin, self.metric.sign, self.recipe.seed + done, patience=self._patience())
        with self.store.staging() as folder:
            end = trials.run(shared, queue, journal, folder=folder, num_trials=number - done, progress=self._say)
        if end.is_interrupted:
            raise KeyboardInterrupt(outcome.so_far(self.family, self.metric, journal.trials))
        if not journal.trials:
            self._refuse(end.failed)
        return end.failed

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
        return [note for note in (cheaper, sampled) if note]

    def choose(self, journal: Journal, default: dict[str, Any], notes: tuple[str, ...], dummy: float) -> Tuned:
        """The best trial, or the mean of some in its place where that is better beyond chance."""
        # 1. The best trial, the best mean, or a simpler family that is hardly worse.
        allowed, refused = self._within_limits(journal.trials)
        notes = (*notes, *refused)
        best = outcome.best_trial(self.family, self.metric, allowed, dummy)
        able = [trial for trial in self._candidates(allowed) if journal.has_predictions(trial)]
        journal.keep(able)
        facts = self._facts(journal, best, dummy)
        if best is None:
            first = outcome.default_trial(self.family, journal.trials)
            default = default if first is None else {**default, **first.cut}
            made = outcome.tuned(self.family, default, self.metric, journal.trials, None, notes, dummy)
            return dataclasses.replace(made, search=facts)
        averaged = [trial for trial in able if models.family(trial.family).encoding == ensemble.FAMILY.encoding]
        mean, facts["mean"] = self._mean(averaged, best, journal)
        simple = self._simple(allowed, dummy, best.score if mean is None else mean.score)
        if simple is not None and (mean is not None or simple is not best):
            reason = f"{simple.family} is kept: simpler, and hardly worse than the best"
            notes, best, mean = (*notes, reason), simple, None
            facts |= {"best": best.number, "mean": {**facts["mean"], "reason": reason}}
        # 2. Its family and parameters.
        chosen = [(best, 1.0)]
        made = outcome.tuned(self.family, default, self.metric, journal.trials, best, notes, dummy)
        made = dataclasses.replace(made, search=facts)
        if mean is None:
            made = dataclasses.replace(made, family=best.family, params=self.params(best))
        else:
            chosen = [(averaged[number], weight) for number, weight in mean.weights.items()]
            made = self._averaged(made, mean, chosen)
        # 3. The rows that it was judged on, and those that the final fit has time for.
        members = [trial for trial, _ in chosen]
        facts["chosen"] = [trial.number for trial in members]
        if self._is_log or not all(journal.has_predictions(trial) for trial in members):
            return made
        rows = cluster.call(trials.judged, self.shared(journal, 0.0), chosen, journal, threads=1)
        stored, most = self.store.put("judged", rows.write), self._final_rows(members)
        notes = made.notes if most is None else (*made.notes, f"the final fit has time for {most:,} rows, a sample")
        return dataclasses.replace(made, judged=stored, max_rows=most, notes=notes)

    def _simple(self, allowed: list[Trial], dummy: float, reached: float) -> Trial | None:
        """The best trial of a simple family that selection preferred, where it is behind by the margin at most."""
        if models.family(self.family).encoding == ensemble.FAMILY.encoding:
            return None  # one booster is hardly simpler than another
        sign, own = self.metric.sign, [trial for trial in allowed if trial.family == self.family]
        simple = outcome.best_trial(self.family, self.metric, own, dummy)
        margin = self.recipe.selection.margin * sign * (reached - dummy)
        return simple if simple is not None and sign * (reached - simple.score) <= margin else None

    def _mean(self, able: list[Trial], best: Trial, journal: Journal) -> tuple[blending.Blend | None, dict[str, Any]]:
        """The mean that is better than the best trial beyond chance, if it can be fitted in time; and what decided."""
        members = self.recipe.tune.max_members
        reasons = dict[str, Any]() if self._can_average else {"reason": "no mean can be made of these trials"}
        while self._can_average and members > 1 and len(able) > 1:
            mean = cluster.call(trials.blend, self.shared(journal, 0.0), able, journal, members, threads=1)
            reasons = evidence.of_mean(mean, able)
            if not mean.is_better or self.metric.sign * (mean.score - best.score) <= 0:
                return None, reasons | {"reason": "no mean is better than the best trial by more than its error"}
            chosen = [able[number] for number in mean.weights]
            refusal = train.Constraints.of(self.recipe).refusal(*self._measures(chosen))
            if self._final_s(chosen) > self.reserve:
                refusal = "there is no time for the fits of its members"
            if refusal is None:
                return mean, reasons
            reasons["reason"] = f"a mean of {len(chosen)} was refused: {refusal}"
            members -= 1
        return None, reasons or {"reason": "a mean needs two trials, and a recipe that allows it (tune.max_members)"}

    @property
    def _can_average(self) -> bool:
        """True if the features are those of an ensemble's members, and neither recipe nor cluster wants one model."""
        is_fixed = self.recipe.train.family == "auto" and bool(self.recipe.train.params)  # which are of one family
        is_alike = models.family(self.family).encoding == ensemble.FAMILY.encoding
        is_asked_for = self.recipe.selection.prefer == "accurate"
        return is_asked_for and is_alike and not is_fixed and not self._is_spread()

    def _facts(self, journal: Journal, best: Trial | None, dummy: float) -> dict[str, Any]:
        """Facts for a reader of the trials: why they ended, what was not tried, which parameters matter."""
        first = outcome.default_trial(self.family, journal.trials)
        num_first = 1 + sum(len(family.portfolio) for family in self.families.values())
        limits = {"num_trials": self._num_trials(), "patience": self._patience(), "num_first": num_first}
        ended = evidence.why_ended(journal.trials, **limits, sign=self.metric.sign)
        shares = (self.families, journal.trials, self.metric.sign)
        rest = evidence.not_searched(self.families, self.recipe, self.task, self.split.num_rows["train"])
        return {
            "best": None if best is None else best.number,
            "default": None if first is None else first.number,
            "dummy": dummy if math.isfinite(dummy) else None,
            "greater_is_better": self.metric.greater_is_better,
            "judges": [str(judge) for judge in self._judges()],
            "seconds": self.seconds if math.isfinite(self.seconds) else None,
            "ended": ended,
            "families": evidence.described(self.families),
            "untried": evidence.untried(self.families, journal.trials, self._slow(), ended) + rest,
            "importance": cluster.call(importance.by_family, *shares, threads=1),
        }

    def _slow(self) -> dict[str, str]:
        """The families whose trials would take too long, with the reason."""
        able = self._in_time(self.seconds)
        return {
            name: f"{FEWEST_ROUNDS} rounds of it may take {FEWEST_ROUNDS * self._round_s(_speed(name)):.0f} s, "
            f"more than {trials.SHARE:.0%} of the {self.seconds:.0f} s of the search"
            for name in self.families
            if name not in able
        }

    def _averaged(self, made: Tuned, mean: blending.Blend, chosen: list[tuple[Trial, float]]) -> Tuned:
        self.progress(f"mean of {len(chosen)} trials {mean.score:.4f}, {mean.gain:.4f} ± {mean.error:.4f} better")
        members = [(trial.family, self.params(trial), weight) for trial, weight in chosen]
        params = ensemble.FAMILY.params.model_validate(ensemble.params_of_members(members)).model_dump(mode="json")
        named = ", ".join(f"{weight:.2f} {family}" for family, _, weight in members)
        notes = (*made.notes, f"a mean of {named}, better than the best trial by {mean.gain:.4g} ± {mean.error:.2g}")
        values: dict[str, Any] = {"family": ensemble.FAMILY.name, "params": params, "score_tuned": mean.score}
        return dataclasses.replace(made, **values, choice="mean", notes=notes)

    def _final_s(self, members: list[Trial]) -> float:
        """Seconds that the final fit of these trials should take: side by side, on more rows than a trial had."""
        rows, judges = self.split.num_rows, len(self._judges())
        more = (rows["train"] + rows.get("validation", 0)) / min(rows["train"], self.recipe.tune.max_rows)
        each = [trial.fit_s / judges * more * min(more, training_job.MOST_ROUNDS) for trial in members]
        if len(each) == 1:
            return each[0] / THREADS_GAIN
        return max(*each, sum(each) / cluster.num_cpus())

    def _final_rows(self, members: list[Trial]) -> int | None:
        """Rows of the final fit where there is no time for all of them in its reserve."""
        rows, needed = self.split.num_rows, self._final_s(members)
        total = rows["train"] + rows.get("validation", 0)
        return None if needed <= self.reserve else max(1_000, int(total * self.reserve / needed))

    @property
    def _is_log(self) -> bool:
        """True if the final fit needs held-out rows for the scale of its target."""
        return training_job.target_kind(self.recipe, self.task) == "log"

    def _candidates(self, allowed: list[Trial]) -> list[Trial]:
        order = sorted(allowed, key=lambda trial: (-self.metric.sign * trial.score, trial.number))
        return order[:CANDIDATES]

    def _within_limits(self, done: list[Trial]) -> tuple[list[Trial], list[str]]:
        """The trials that keep the recipe's limits, and a note of the others; if none does, the nearest one."""
        limits = train.Constraints.of(self.recipe)
        refused = {trial.number: limits.refusal(*self._measures([trial])) for trial in done}
        reasons = [reason for reason in refused.values() if reason is not None]
        allowed = [trial for trial in done if refused[trial.number] is None]
        if allowed or not done:
            worst = f"; one has {reasons[0]}" if reasons else ""
            return allowed, [f"{len(reasons)} of {len(done)} trials were refused{worst}"] if reasons else []
        nearest = min(done, key=lambda trial: limits.excess(*self._measures([trial])))
        got = limits.refusal(*self._measures([nearest]))
        return [nearest], [f"no trial keeps the recipe's limits; the nearest is taken: {got}"]

    def _measures(self, members: list[Trial]) -> tuple[float | None, int | None]:
        """Microseconds a row and bytes that the final fit of these trials should have: it may grow more rounds."""
        growth = training_job.growth(self.split.num_rows)
        latencies, sizes = [each.latency_us for each in members], [each.num_bytes for each in members]
        latency = None if None in latencies else growth * sum(filter(None, latencies))
        return latency, None if None in sizes else round(growth * sum(filter(None, sizes)))

    def params(self, trial: Trial) -> dict[str, Any]:
        """All parameters of a trial for the final fit: that grows as many rounds as the trial kept.

        Where the scale of the target needs held-out rows, those stop the final fit, after twice as many at most. Where
        there is no time for the full parameters, the final fit has those of the search, too.
        """
        family, full = models.family(trial.family), training_job.params_of(self.recipe, trial.family)
        cheaper = family.params_for_search(full)
        is_late = self._final_s([trial]) * family.cost(full) / family.cost(cheaper) > self.reserve
        own = (cheaper if is_late else full).model_dump(mode="json")
        params = models.params_of(trial.family, {**own, **trial.params, **trial.cut})
        if trial.rounds is not None and not self._is_log:
            params = family.of_rounds(params, trial.rounds)
        elif trial.rounds is not None and "rounds" in type(params).model_fields:
            params = params.model_copy(update={"rounds": 2 * trial.rounds})
        return params.model_dump(mode="json")

    def _is_spread(self) -> bool:
        """True where the final fit goes over the cluster, which fits one model."""
        return fitting.plan(self.split, self.recipe, self.family).kind == "cluster"

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
        return Search(self._rows, self.task, *how, journal.folder, until, self.recipe.selection.max_bytes is not None)

    @functools.cached_property
    def _rows(self) -> dict[str, tuple[cluster.Shared[train.Prepared], ...]]:
        """Rows to fit and to judge on in each encoding that a family of the search takes."""
        given = (self.split, self.statistics, self.recipe, self.task)
        families = {training_job.encoding(name): name for name in self.families}
        return {
            encoding: tuple(cluster.share(_prepare, *given, name, judge) for judge in self._judges())
            for encoding, name in families.items()
        }

    def _judges(self) -> list[train.Judge]:
        """The rows that trials are judged on: the validation part, and where there are few rows the folds, too.

        Where time divides the rows, the latest ones are nearest to those that will be predicted, and judge alone.
        """
        few = self.split.num_rows["train"] < FEW_ROWS and not self.split.forward
        return ["validation", *(sorted(self.statistics.folds) if few else [])]

    def _in_time(self, seconds: float) -> dict[str, Searched]:
        """The families whose trials should end in time, the first one whatever it takes."""
        return {
            name: family
            for name, family in self.families.items()
            if name == self.family or FEWEST_ROUNDS * self._round_s(_speed(name)) <= trials.SHARE * seconds
        }

    def _round_s(self, speed: float) -> float:
        """Seconds of a round of boosting over all rows of a trial, at so many training values a second."""
        rows = min(self.split.num_rows["train"], self.recipe.tune.max_rows) * len(self._judges())
        trees = trees_a_round(self.task)
        return rows * len(self.split.schema.features) * trees / speed

    def _refuse(self, failed: list[str]) -> None:
        if failed:
            raise errors.ClusterError.build(f"tune: {len(failed)} trials", got=failed[0], expected="a trial that ends")
        where = f"tune: {self.metric.name} on the validation rows"
        hint = "divide the rows otherwise (split), or take another metric (selection.metric)"
        raise errors.TargetError.build(where, got="not defined", expected="rows of more than one class", hint=hint)


def _speed(family: str) -> float:
    """Training values that a round of the family passes in a second, roughly."""
    return float(getattr(models.family(family), "speed", BoostingFamily.speed))


def _prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    judge: train.Judge,
) -> train.Prepared:
    folds: Iterable[int] = (fold for fold in statistics.folds if fold != judge)
    how: dict[str, Any] = {"judge": judge, "max_rows": recipe.tune.max_rows, "stops_on_judged": True}
    return train.prepare(split, statistics, recipe, task, family, fit_folds=folds, **how)

"""The outcome of a search: its best trial, a mean of some, or a simple family that is hardly worse.

The choice keeps the limits of the recipe, and takes nothing that the final fit has no time for.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mlsys import cluster, models, train
from mlsys.models.boosting import BoostingParams, rounds_to_end
from mlsys.models.families import ensemble
from mlsys.train import fitting, plans, training_job
from mlsys.tune import blending, evidence, importance, outcome, trials
from mlsys.tune.journal import Journal, Trial
from mlsys.tune.outcome import Tuned
from mlsys.tune.searching import Searching

THREADS_GAIN = 1.3
"""How much faster a fit with all threads of a machine is than with the one that a trial has, at least."""

MOST_LATER = 2.0
"""Rounds of the final fit at most, as a multiple of those of a trial that its time ended."""

ROOM = 0.75
"""Part of the time of the final fit that rounds beyond those of its trials may fill: what is expected is no bound."""

CANDIDATES = 20
"""Trials that a mean is selected from, the best ones."""


class FinalChoice(Searching):
    """A search, and what is made of its trials."""

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
            made = dataclasses.replace(made, family=best.family, params=self.params(best, self._later([best])[0]))
        else:
            chosen = [(averaged[number], weight) for number, weight in mean.weights.items()]
            made = self._averaged(made, mean, chosen)
        # 3. The rows that it was judged on, and those that the final fit has time for.
        members = [trial for trial, _ in chosen]
        facts["chosen"] = [trial.number for trial in members]
        if self._needs_held_out or not all(journal.has_predictions(trial) for trial in members):
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
        """True if neither recipe nor cluster wants one model, and predictions have one scale, as scores have not."""
        is_fixed = self.recipe.train.family == "auto" and bool(self.recipe.train.params)  # which are of one family
        is_asked_for = self.recipe.selection.prefer == "accurate"
        return is_asked_for and not is_fixed and not self.task.is_ranking and not self._is_spread()

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
            "judges": [str(judge) for judge in self._judges],
            "seconds": self.seconds if math.isfinite(self.seconds) else None,
            "ended": ended,
            "families": evidence.described(self.families),
            "untried": evidence.untried(self.families, journal.trials, self._slow(), ended) + rest,
            "importance": cluster.call(importance.by_family, *shares, threads=1),
        }

    def _averaged(self, made: Tuned, mean: blending.Blend, chosen: list[tuple[Trial, float]]) -> Tuned:
        self.progress(f"mean of {len(chosen)} trials {mean.score:.4f}, {mean.gain:.4f} ± {mean.error:.4f} better")
        later = self._later([trial for trial, _ in chosen])
        members = [
            (trial.family, self.params(trial, more), weight)
            for (trial, weight), more in zip(chosen, later, strict=True)
        ]
        params = ensemble.FAMILY.params.model_validate(ensemble.params_of_members(members)).model_dump(mode="json")
        named = ", ".join(f"{weight:.2f} {family}" for family, _, weight in members)
        notes = (*made.notes, f"a mean of {named}, better than the best trial by {mean.gain:.4g} ± {mean.error:.2g}")
        values: dict[str, Any] = {"family": ensemble.FAMILY.name, "params": params, "score_tuned": mean.score}
        return dataclasses.replace(made, **values, choice="mean", notes=notes)

    def _final_s(self, members: list[Trial]) -> float:
        """Seconds that the final fit of these trials should take: side by side, on more rows than a trial had."""
        each = [trial.fit_s / self.num_fits * self.growth() for trial in members]
        if len(each) == 1:
            threads = fitting.useful_threads(sum(self.split.num_rows.values()) * len(self.split.schema.features))
            return each[0] / (THREADS_GAIN if threads > 1 else 1.0)
        return max(*each, sum(each) / cluster.num_cpus())

    def _later(self, members: list[Trial]) -> list[float]:
        """Multiples of their rounds that these trials have in the final fit; above 1 where time ended one too early.

        Boosting that was not at its end by its learning rate goes on toward it, as far as the final fit has time:
        members are fitted side by side, each on one CPU. Limits of the recipe were kept by the trials as they are.
        """
        each, room = [self._final_s([trial]) for trial in members], ROOM * self.reserve
        if math.isinf(room) or self._needs_held_out or train.Constraints.of(self.recipe).are_any:
            return [1.0] * len(members)
        wished = [
            max(1.0, min(self._to_end(trial), MOST_LATER, room / max(seconds, 1e-9)))
            for trial, seconds in zip(members, each, strict=True)
        ]
        cpus = cluster.num_cpus() if len(members) > 1 else 1
        more = sum(seconds * (wish - 1.0) for seconds, wish in zip(each, wished, strict=True))
        part = min(1.0, max(0.0, room * cpus - sum(each)) / more) if more else 0.0
        return [1.0 + part * (wish - 1.0) for wish in wished]

    def _to_end(self, trial: Trial) -> float:
        """Rounds in which the boosting of a trial comes to its end, as a multiple of those that it had time for."""
        params = models.params_of(trial.family, {**self.families[trial.family].defaults, **trial.params})
        if trial.finished or not trial.rounds or not isinstance(params, BoostingParams):
            return 1.0
        return rounds_to_end(params) / trial.rounds

    def _final_rows(self, members: list[Trial]) -> int | None:
        """Rows of the final fit where there is no time for all of them in its reserve."""
        rows, needed = self.split.num_rows, self._final_s(members)
        total = rows["train"] + rows.get("validation", 0)
        return None if needed <= self.reserve else max(1_000, int(total * self.reserve / needed))

    @property
    def _needs_held_out(self) -> bool:
        """True if the final fit needs held-out rows: for the scale of its target, or the rounds of each label."""
        return training_job.target_kind(self.recipe, self.task) == "log" or bool(self.task.labels)

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

    def params(self, trial: Trial, later: float = 1.0) -> dict[str, Any]:
        """All parameters of a trial for the final fit: that grows the rounds that the trial kept, `later` times.

        Where the scale of the target or its labels need held-out rows, those stop the final fit, after twice as many at
        most. Where there is no time for the full parameters, the final fit has those of the search, too.
        """
        family, full = models.family(trial.family), training_job.params_of(self.recipe, trial.family)
        cheaper = family.params_for_search(full)
        is_late = self._final_s([trial]) * family.cost(full) / family.cost(cheaper) > self.reserve
        own = (cheaper if is_late else full).model_dump(mode="json")
        params = models.params_of(trial.family, {**own, **trial.params, **trial.cut})
        if trial.rounds is not None and not self._needs_held_out:
            params = family.of_rounds(params, round(later * trial.rounds))
        elif trial.rounds is not None and "rounds" in type(params).model_fields:
            params = params.model_copy(update={"rounds": 2 * trial.rounds})
        return params.model_dump(mode="json")

    def _is_spread(self) -> bool:
        """True where the final fit goes over the cluster, which fits one model."""
        return plans.plan(self.split, self.recipe, self.family, task=self.task).kind == "cluster"

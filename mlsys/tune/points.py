"""The points that a search tries: the defaults, the families' portfolios, then what Optuna proposes around the best.

A portfolio holds parameters that are good for many tables, so that a search of a few trials is better than chance:
AutoGluon's and FLAML's published ones are where ours come from. After them each further trial is a proposal of a
tree-structured Parzen estimator for one of the two best families, two of three times for the best.

A search that goes on from its journal tells Optuna all trials of before.

References
----------
Akiba et al.: Optuna, KDD 2019, doi:10.1145/3292500.3330701.
Bergstra et al.: Algorithms for Hyper-Parameter Optimization, NIPS 2011 (the estimator).
Erickson et al.: AutoGluon-Tabular, arXiv:2003.06505; Wang et al.: FLAML, MLSys 2021 (portfolios).
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from ray.tune.search import Searcher

from mlsys.models.interface import Choice, Domain, Integer
from mlsys.tune.journal import Journal, Trial, key

STARTS = 4
"""Random points of the estimator before it models, beside those of the portfolio."""

EVERY = 3
"""Every third proposal is for the second-best family, where its trials take at most `DEARER` times as long."""

DEARER = 2.0

HASTE, MOST_HASTE = 2.0, 4.0
"""Multiple of their learning rates that the next points have after a trial that its time ended, and the most of it."""

MOST_FIRST = 2
"""Trials that are begun however little time is left, where as many run at once."""

LEAST = 0.5
"""Time that has to be left for another trial, as a fraction of what the fastest family takes for one."""


@dataclass(frozen=True)
class Searched:
    """A family in a search.

    Attributes
    ----------
    defaults
        Its parameters as the recipe sets them.
    space
        Domain of each parameter that is searched.
    portfolio
        Parameters to begin with, over the defaults.
    fixed
        Parameters that the recipe states: no point has others.
    """

    defaults: Mapping[str, Any]
    space: Mapping[str, Domain]
    portfolio: tuple[Mapping[str, Any], ...] = ()
    fixed: tuple[str, ...] = ()


def first_points(
    families: Mapping[str, Searched], former: Sequence[tuple[str, dict[str, Any]]] = (), *, others_first: bool = False
) -> list[tuple[str, dict[str, Any]]]:
    """The defaults of the first family, `former` points, then the portfolios in turn: first those of each family.

    With `others_first` the first family, whose defaults were tried, has the last place in each turn.
    """
    first, *others = families
    order = [*others, first] if others_first else [first, *others]
    turns = itertools.zip_longest(*([(name, point) for point in families[name].portfolio] for name in order))
    portfolio = [(name, dict(point)) for turn in turns for name, point in filter(None, turn)]
    return [(first, {}), *former, *(point for point in portfolio if point not in former)]


@dataclass
class Points:
    """The next point to try, given the trials of a journal and what was tried since.

    Attributes
    ----------
    queue
        Points that are tried first.
    sign
        The number +1 where larger scores are better, else -1.
    patience
        Proposals of Optuna without a better score after which there are no more.
    haste
        How much sooner than in their time the next points have to come to their end: boosting that was not at its end
        when its time was over has to learn faster, for the time is the same.
    smaller
        Parameters of a point of a family that need less memory, if it has such: a trial that failed is tried again.
    """

    families: Mapping[str, Searched]
    queue: list[tuple[str, dict[str, Any]]]
    sign: int
    seed: int
    best: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    studies: dict[str, optuna.Study] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    haste: float = 1.0
    smaller: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = lambda *_: {}
    tried_again: set[str] = field(default_factory=set)
    proposed: int = 0
    patience: int = sys.maxsize
    in_vain: int = 0

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for number, (name, family) in enumerate(self.families.items()):
            if family.space:
                sampler = optuna.samplers.TPESampler(seed=self.seed + number, n_startup_trials=STARTS)
                self.studies[name] = optuna.create_study(direction="maximize", sampler=sampler)

    def know(self, trial: Trial) -> None:
        """Take note of a trial of before."""
        if trial.family not in self.families:
            return  # which the time of this search leaves out
        self.queue = [(name, point) for name, point in self.queue if not _is_point(trial, name, point)]
        self.costs[trial.family] = trial.fit_s
        self.hurry(is_late=not trial.finished and trial.rounds is not None)
        self._tell(trial.family, trial.params, trial.score)

    def next(self) -> tuple[str, dict[str, Any], optuna.trial.Trial | None] | None:
        """A family, parameters over its defaults, and the trial of Optuna that they are; None where nothing is left."""
        if self.queue:
            return *self.queue.pop(0), None
        name = self._family()
        if name is None or self.in_vain >= self.patience:
            return None
        self.proposed += 1
        asked = self.studies[name].ask({key: distribution(each) for key, each in self.families[name].space.items()})
        _, base = self.best.get(name, (0.0, {}))
        return name, {**base, **asked.params}, asked

    def end(
        self, name: str, params: dict[str, Any], asked: optuna.trial.Trial | None, score: float | None, cost: float
    ) -> None:
        """Take note of how a trial ended, after `cost` seconds; its score is None if it failed."""
        self.costs[name] = cost
        if asked is None:
            if score is not None:
                self._tell(name, params, score)
        elif score is None:
            self.studies[name].tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            self.studies[name].tell(asked, self.sign * score)
            is_better = all(self.sign * score > best for best, _ in self.best.values())
            self.in_vain = 0 if is_better else self.in_vain + 1
            self._note_best(name, params, score)

    def try_smaller(self, name: str, params: Mapping[str, Any]) -> None:
        """Have a point that failed tried next, and once, with what needs less memory: it may have had too little."""
        less = self.smaller(name, params)
        point = {**params, **less}
        if less and key(name, dict(params)) not in self.tried_again:
            self.tried_again.add(key(name, point))
            self.queue.insert(0, (name, point))

    def hurry(self, *, is_late: bool) -> None:
        """Have the next points learn faster, if a trial was late."""
        self.haste = min(MOST_HASTE, self.haste * HASTE) if is_late else self.haste

    def _family(self) -> str | None:
        able = sorted(self.studies, key=lambda name: -self.best.get(name, (-float("inf"), {}))[0])
        if not able:
            return None
        most = DEARER * self.costs.get(able[0], 0.0)
        second = next((name for name in able[1:] if self.costs.get(name, 0.0) <= most), able[0])
        return second if self.proposed % EVERY == EVERY - 1 else able[0]

    def _tell(self, name: str, params: dict[str, Any], score: float) -> None:
        """Tell Optuna a trial that it did not propose, where its values lie in the space."""
        self._note_best(name, params, score)
        family = self.families[name]
        values = {key: params.get(key, family.defaults.get(key)) for key in family.space}
        if name not in self.studies or not all(values[key] in domain for key, domain in family.space.items()):
            return
        distributions = {key: distribution(domain) for key, domain in family.space.items()}
        known = optuna.trial.create_trial(params=values, distributions=distributions, value=self.sign * score)
        self.studies[name].add_trial(known)

    def _note_best(self, name: str, params: dict[str, Any], score: float) -> None:
        if name not in self.best or self.sign * score > self.best[name][0]:
            self.best[name] = self.sign * score, params


def _is_point(trial: Trial, name: str, point: Mapping[str, Any]) -> bool:
    """True if the trial was of this point, whose learning rate may have been raised to end in time."""
    return trial.family == name and trial.params in (
        {**point},
        {**point, "learning_rate": trial.params.get("learning_rate")},
    )


class Proposer(Searcher):
    """Points as Ray Tune asks for them, until their time is over; the first ones however late it is.

    The first are as many as begin at once, for a machine that is late leaves a search no other, and two at most.
    """

    def __init__(self, points: Points, journal: Journal, until: float, at_once: int = 1) -> None:
        super().__init__(metric="score", mode="max")
        self.points = points
        self.until = until
        self.running = dict[str, tuple[str, dict[str, Any], optuna.trial.Trial | None]]()
        self.num_first = 0 if journal.trials else min(at_once, MOST_FIRST)
        for trial in journal.trials:
            points.know(trial)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; the name of the end where time is over or nothing is left."""
        left = self.until - time.time()
        is_enough = left > LEAST * min(self.points.costs.values(), default=0.0) and left > 0
        proposed = self.points.next() if is_enough or self.num_first else None
        self.num_first = max(0, self.num_first - 1)
        if proposed is None:
            return Searcher.FINISHED
        self.running[trial_id] = proposed
        haste = self.points.haste if proposed[2] is None else None
        return {"family": proposed[0], "params": proposed[1], "haste": haste}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: FBT001, FBT002
        name, params, asked = self.running.pop(trial_id)
        score = None if error or not result else result.get("score")
        params = result.get("params", params) if result else params
        cost = float(result.get("fit_s", 0.0)) if result else 0.0
        if result and not result.get("finished", True):  # it would have taken longer than its time
            cost = max(cost, self.points.costs.get(name, 0.0))
            self.points.hurry(is_late=asked is None and result.get("rounds") is not None)
        self.points.end(name, params, asked, score, cost)
        if error:
            self.points.try_smaller(name, params)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the memory of a search."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the memory of a search."""


def distribution(domain: Domain) -> Any:
    """A domain as Optuna has it."""
    from optuna import distributions

    if isinstance(domain, Choice):
        return distributions.CategoricalDistribution(domain.values)
    if isinstance(domain, Integer):
        return distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return distributions.FloatDistribution(domain.low, domain.high, log=domain.log)

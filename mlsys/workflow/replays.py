"""Replay of a run: its comparison, its trials and its final fit again, without a clock, and the digests compared.

A clock decides what is compared and tried and when a fit ends. All that is in the records of selection and search, so
the same fits of the same rounds can be made again however long that takes, on whatever machine. What they give has to
be the same: the score of each fit of a fold and of each trial, the choices among them, and the bytes of the bundle. The
rows are those of the run; the source is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import errors, workflow
from mlsys.console import Console
from mlsys.recipe import Recipe, parse
from mlsys.reports.formats import count
from mlsys.store import MANIFEST, Store, digest_json, read_json
from mlsys.workflow import data, modelling, run_record
from mlsys.workflow.results import (
    CollectResult,
    ExploreResult,
    SelectionResult,
    StepResult,
    TrainResult,
    TuneResult,
)
from mlsys.workflow.run import Run

NEEDED = ("collect", "explore", "selection", "tune", "train")
"""Steps whose results a replay begins with."""


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay.

    Attributes
    ----------
    num_fits, unequal_fits
        Fits of the comparison that were made again, and those with another score, by candidate and judged fold.
    num_trials, unequal_trials
        Trials that were fitted again, and the numbers of those with another score.
    digests
        Of ranking, parameters, judged rows and bundle: the digest of the run, and that of the replay.
    unequal_files
        Files of the bundle whose bytes differ, or that only one of the two has.
    """

    name: str
    num_fits: int
    unequal_fits: tuple[str, ...]
    num_trials: int
    unequal_trials: tuple[int, ...]
    digests: dict[str, tuple[str, str]]
    unequal_files: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """True if the replay gave the same bundle."""
        return self.digests["bundle"][0] == self.digests["bundle"][1]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "equal": self.is_equal,
            "fits": self.num_fits,
            "unequal_fits": list(self.unequal_fits),
            "trials": self.num_trials,
            "unequal_trials": list(self.unequal_trials),
            "digests": {what: {"run": before, "replay": now} for what, (before, now) in self.digests.items()},
            "unequal_files": list(self.unequal_files),
        }

    @property
    def summary(self) -> str:
        """A line for the fits, one for the trials, and one for each digest that says whether it is the same."""
        fits, trials = _scores(self.unequal_fits), _scores(self.unequal_trials)
        lines = [f"replay of {self.name}, without a clock:"]
        lines += [f"  {count(self.num_fits, 'fit')} of the comparison again, {fits}"]
        lines += [f"  {count(self.num_trials, 'trial')} fitted again, {trials}"]
        for what, (before, now) in self.digests.items():
            lines.append(f"  {what:<12} {before[:12]}  {'the same' if before == now else f'now {now[:12]}'}")
        lines += [f"  differs      {name}" for name in self.unequal_files]
        return "\n".join(lines)


@dataclass(frozen=True)
class FormerRun:
    """The last run of a name that trained: the results of its steps as JSON, and its recipe with every default."""

    records: Mapping[str, Any]
    recipe: Recipe


def former(store: Store, name: str) -> FormerRun:
    """The last run of a name.

    Raises
    ------
    RegistryError
        No run of the name has trained a model.
    StoreError
        There is no record of that run.
    """
    records = _records(store, name)
    return FormerRun(records, _recipe(store, name, records["train"]["bundle"]))


def replay(store: Store, run_before: FormerRun, console: Console | None = None) -> Replay:
    """Fit what a run tried again, without a clock, and compare the digests; trials need a cluster.

    Raises
    ------
    StoreError
        What the run left is no longer in the store, or it is of a version that recorded less.
    """
    records = run_before.records
    rows = CollectResult.from_json(records["collect"])
    run = Run(data.completed(run_before.recipe, rows), store, console or Console())
    profile = ExploreResult.from_json(records["explore"])
    ranking = SelectionResult.from_json(records["selection"])
    tuned, model = TuneResult.from_json(records["tune"]), TrainResult.from_json(records["train"])
    with run.alone():
        compared = _worked(run, "selection", modelling.select_again, rows, profile, ranking)
        again = _worked(run, "tune", modelling.tune_again, rows, profile, compared, tuned)
        fitted = _worked(run, "train", modelling.train, rows, profile, compared, again)
    return _outcome(store, run.recipe.name, (ranking, tuned, model), (compared, again, fitted))


def _worked(run: Run, step: str, work: Callable[..., Any], *inputs: StepResult) -> Any:
    """Do the work of a step on given results; nothing is recorded."""
    declared = workflow.STEPS[step]
    context = run.context(*declared.reads, observed=declared.observe(run.context(), *inputs))
    with run.console.during(f"replay of {step}"):
        return work(context, *inputs)


def _records(store: Store, name: str) -> dict[str, dict[str, Any]]:
    """The results of the last run of a name, as JSON by step."""
    file = store.root / "runs" / name / "result.json"
    records: dict[str, dict[str, Any]] = read_json(file) if file.is_file() else {}
    missing = [step for step in NEEDED if step not in records]
    if missing:
        names = [path.parent.name for path in (store.root / "runs").glob("*/result.json")]
        hint = errors.did_you_mean(name, names) if not records else f"`mlsys train RECIPE` runs {missing[0]}, too"
        got = f"a run without {missing[0]}" if records else "no run"
        raise errors.RegistryError.build(f"replay: '{name}'", got=got, expected="a run that trained", hint=hint)
    return records


def _recipe(store: Store, name: str, bundle: str) -> Recipe:
    """The recipe of the newest run that came to the bundle, every default filled in."""
    recipe = run_record.recipe_of(store, name, bundle)
    if recipe is not None:
        return parse(recipe)
    raise errors.StoreError.build(
        f"replay: '{name}'",
        got=f"no record of the run that made bundle {bundle[:12]}",
        expected=f"one in runs/{name}/history",
        hint="run the recipe again",
    )


Results = tuple[SelectionResult, TuneResult, TrainResult]


def _outcome(store: Store, name: str, before: Results, now: Results) -> Replay:
    (ranking, tuned, model), (compared, again, fitted) = before, now
    comparisons = [store.get_json("ranking", each.ranking)["fits"] for each in (ranking, compared)]
    trials, fits = (store.get_json("params", each.stored)["trials"] for each in (tuned, again))
    scores = {trial["number"]: trial["score"] for trial in fits}
    digests = {"ranking": (ranking.ranking, compared.ranking), "parameters": (_chosen(tuned), _chosen(again))}
    if tuned.judged or again.judged:
        digests["judged rows"] = (tuned.judged or "none", again.judged or "none")
    digests["bundle"] = (model.bundle, fitted.bundle)
    unequal = tuple(trial["number"] for trial in trials if scores.get(trial["number"]) != trial["score"])
    files = [_files(store, each) for each in digests["bundle"]]
    differing = sorted(file for file in {*files[0], *files[1]} if files[0].get(file) != files[1].get(file))
    changed = _unequal_fits(*comparisons)
    return Replay(name, len(comparisons[1]), changed, len(trials), unequal, digests, tuple(differing))


def _unequal_fits(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fits, by candidate and judged fold, that one record has and the other has not, or has with another score."""
    scores, absent = (
        [{(fit["name"], fit["judge"]): fit.get("score") for fit in fits} for fits in (before, now)],
        object(),
    )
    unequal = [key for key in {**scores[0], **scores[1]} if len({each.get(key, absent) for each in scores}) > 1]
    return tuple(f"{name} on fold {judge}" for name, judge in unequal)


def _scores(unequal: Sequence[object]) -> str:
    return f"another score: {', '.join(map(str, unequal))}" if unequal else "the same scores"


def _chosen(tuned: TuneResult) -> str:
    return digest_json({"family": tuned.family, "params": tuned.params, "max_rows": tuned.max_rows})


def _files(store: Store, bundle: str) -> Mapping[str, str]:
    manifest = read_json(store.path("bundle", bundle) / MANIFEST)
    return {entry["name"]: entry["sha256"] for entry in manifest["files"]}

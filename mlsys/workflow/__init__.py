"""The nine steps in order: the readable whole.

Each step is a function of what earlier ones left in the store, of the recipe values that it declares below,
and of its code. So the same command continues a run that was killed, does nothing where nothing changed, and
after a change runs the steps again that depend on it, and no others (see `run.Step.key`).
"""

from __future__ import annotations

from typing import Any

from mlsys.recipe import secrets
from mlsys.recipe.reading import CELLS
from mlsys.workflow import data, modelling, pages, production, results, summary, tables
from mlsys.workflow.run import Run, Step, StepContext

__all__ = ["STEPS", "Run", "Step", "StepContext", "run", "tables"]


def run(run: Run, until: str = "monitor") -> Run:
    """Run the steps in order up to and including `until`.

    The test rows are opened once, by `evaluate`, after parameters have been chosen. The resolved recipe is
    written to ``resolved.yaml`` in the run's folder before the first step, what the steps produced to
    ``result.json`` after the last.

    Raises
    ------
    MlsysError
        A step cannot be done; what earlier steps produced stays, and the next run goes on there.
    """
    modelling.check_names(run.recipe)
    secrets.check_lookup(run.recipe.deploy.lookup)
    with run.ending_after(until, STEPS):
        modelling.warm(run)
        rows = run.step(COLLECT)  # source → checked rows, joined as of their time, divided into parts; the task
        run.recipe = data.completed(run.recipe, rows)  # with the lags and windows of a forecast
        profile = run.step(EXPLORE, rows)  # training rows → statistics, alerts, leakage scan, report
        plan = run.step(FEATURES, rows, profile)  # statistics → the plan of features, with a reason for each
        ranking = run.step(SELECTION, rows, profile)  # families × folds → leaderboard
        params = run.step(TUNE, rows, profile, ranking)  # search space → parameters, judged on validation rows
        model = run.step(TRAIN, rows, profile, ranking, params)  # family, parameters → bundle
        verdict = run.step(EVALUATE, model, rows, profile)  # bundle, test rows → metrics with intervals, verdict
        run.step(DEPLOY, model, verdict, rows, profile, plan)  # bundle → registered version, alias, endpoint
        run.step(MONITOR, model, verdict)  # prediction log, labels → drift, performance, decision
    return run


FIT = (
    "seed",
    "data.timezone",
    "features.columns",
    "features.derive",
    "selection.metric",
    "train.balance",
    "train.early_stopping",
    "train.family",
    "train.monotone",
    "train.params",
    "train.rounds",
    "train.target_transform",
)
"""Recipe values that every fit depends on, beside the rows and the task."""

CHOICE = tuple(f"selection.{name}" for name in ("families", "prefer", "max_latency_us", "max_bytes"))
"""Recipe values that say what may be chosen, in the comparison and in the search."""

TASK = ("target", "task", "positive", "loss", "train.weight", "train.exposure")
"""Recipe values that say what is predicted, and how rows count."""

DECIDED = ("threshold", "cost", "utility")
"""Recipe values that a decision threshold depends on."""

COLLECT = Step(
    "collect",
    1,
    data.collect,
    results.CollectResult,
    summary.collected,
    reads=(*TASK, "name", "seed", "data", "features.joins", "forecast", "split"),
    observe=data.observe_sources,
    check=data.check_collected,
    leaves=("schema.yaml",),
)
EXPLORE = Step(
    "explore",
    2,
    data.explore,
    results.ExploreResult,
    summary.explored,
    reads=("name", "explore", "features.derive"),
    check=data.check_explored,
)
FEATURES = Step(
    "features",
    3,
    data.features,
    results.FeaturesResult,
    summary.planned,
    reads=("name", "data.timezone", "features.columns", "features.derive"),
    observe=data.observe_encoders,
)
SELECTION = Step(
    "selection",
    4,
    modelling.selection,
    results.SelectionResult,
    summary.own,
    reads=(*FIT, "budget", "data.kinds", "selection"),
    observe=data.observe_encoders,
    draw=pages.comparison,
)
TUNE = Step(
    "tune",
    7,
    modelling.tune,
    results.TuneResult,
    summary.own,
    reads=(*FIT, "budget", *CHOICE, "selection.margin", "train.plan", "tune"),
    observe=data.observe_encoders,
    draw=pages.search,
)
TRAIN = Step(
    "train",
    5,
    modelling.train,
    results.TrainResult,
    summary.trained,
    reads=(*FIT, "train", *(f"evaluate.{name}" for name in DECIDED), *(f"data.reading.{name}" for name in CELLS)),
    observe=modelling.observe_views,
    check=modelling.check_trained,
    draw=pages.search,
)
EVALUATE = Step(
    "evaluate",
    6,
    modelling.evaluate,
    results.EvaluateResult,
    summary.own,
    reads=("name", "seed", "data.timezone", "explore.allow", "selection.metric", "evaluate"),
    check=modelling.check_evaluated,
)
WATCHED = ("data.id", "data.timezone", "selection.metric", "evaluate.confidence", "monitor")
"""Recipe values with which a model is watched: they are noted with it, so that a name is enough for that."""

COMPARED = ("bootstrap", "slices", "min_slice_rows", "utility")
"""Recipe values with which a new model is compared with the champion."""

DEPLOY = Step(
    "deploy",
    8,
    production.deploy,
    results.DeployResult,
    summary.deployed,
    reads=("name", "seed", "deploy", *(f"evaluate.{name}" for name in COMPARED), *WATCHED),
    is_repeated=True,
)
MONITOR = Step(
    "monitor",
    9,
    production.monitor,
    results.MonitorResult,
    summary.own,
    reads=("name", *WATCHED),
    observe=production.observe_log,
    check=production.tell,
)

STEPS: dict[str, Step[Any]] = {
    step.name: step for step in (COLLECT, EXPLORE, FEATURES, SELECTION, TUNE, TRAIN, EVALUATE, DEPLOY, MONITOR)
}
"""The steps by name, in the order in which they run."""

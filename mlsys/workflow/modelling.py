"""Steps 4 to 7: from training rows to a judged bundle. Only `evaluate` can open the test rows."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from mlsys import budget, errors
from mlsys.dataset import Snapshot, Split
from mlsys.recipe import Recipe
from mlsys.schema import TargetLoss, Task, TaskKind
from mlsys.store import Store
from mlsys.workflow.results import (
    CollectResult,
    EvaluateResult,
    ExploreResult,
    SelectionResult,
    TrainResult,
    TuneResult,
)
from mlsys.workflow.run import Run, StepContext

if TYPE_CHECKING:
    from mlsys.features.online.views import FeatureView
    from mlsys.selection import Ranking
    from mlsys.statistics import TrainStatistics
    from mlsys.tune import Tuned


def check_names(recipe: Recipe) -> None:
    """Refuse families and metrics that nobody has registered, before rows are collected for them."""
    from mlsys import models
    from mlsys.collect import forecasting, grades
    from mlsys.evaluate import metrics
    from mlsys.train import devices

    forecasting.check(recipe)
    grades.check_recipe(recipe)
    grades.check_plan(recipe)
    selected = () if recipe.selection.families == "auto" else recipe.selection.families
    models.check_names([*selected, *([] if recipe.train.family == "auto" else [recipe.train.family])])
    metrics.check_names(recipe)
    devices.check(recipe)
    if not isinstance(recipe.target, str) or recipe.task == TaskKind.MULTILABEL:
        from mlsys.collect import label_columns

        label_columns.check(recipe)
    loss, named = TargetLoss.of(recipe.loss), {"train.params": recipe.train.params, "tune.space": recipe.tune.space}
    beside = f"loss: {loss}" if loss else "train.monotone, which squares alone keep" if recipe.train.monotone else None
    for key, params in named.items():
        if beside is not None and "loss" in params:
            got, where = f"{params['loss']} beside {beside}", f"recipe: {key}.loss"
            raise errors.RecipeError.build(where, got=got, expected="one of them", hint="leave one out", field="loss")


LIBRARIES = (
    "mlsys.selection",
    "mlsys.tune",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "mlsys.models.families.lightgbm",
    "mlsys.models.families.xgboost",
)
"""What workers import before their first fit: some seconds."""


def warm(run: Run) -> None:
    """Have the workers of the first run of a recipe import what fits need, while its rows are collected."""
    if run.until not in {"collect", "explore", "features"} and not (run.folder / "result.json").is_file():
        from mlsys import cluster

        cluster.warm(LIBRARIES)


@functools.lru_cache(maxsize=1)
def _statistics(store: Store, digest: str) -> TrainStatistics:
    """Statistics of the training rows; three steps use them, so they are read once."""
    from mlsys.statistics import TrainStatistics

    return TrainStatistics.from_json(store.get_json("profile", digest))


def selection(context: StepContext, data: CollectResult, profile: ExploreResult) -> SelectionResult:
    """Compare families on the folds; a simpler one is preferred to the best only within a practical margin."""
    from mlsys import selection as step

    began = time.monotonic()
    recipe, rows = context.recipe, Split.open(context.store, data.split).only("train")
    statistics = _statistics(context.store, profile.statistics)
    whole = budget.seconds(recipe, rows, data.task)
    seconds = budget.SELECTION * (whole - budget.read(recipe, whole, context.spent))
    ranking = step.rank(rows, statistics, recipe, data.task, seconds=seconds, progress=context.progress)
    return _selected(context, ranking, round(time.monotonic() - began, 1))


def select_again(
    context: StepContext, data: CollectResult, profile: ExploreResult, former: SelectionResult
) -> SelectionResult:
    """Make the fits of a former comparison again without a clock, and decide by their scores as it did."""
    from mlsys import selection as step

    recorded = step.Ranking.from_json(context.store.get_json("ranking", former.ranking))
    rows = Split.open(context.store, data.split).only("train")
    given = rows, _statistics(context.store, profile.statistics), context.recipe, data.task
    return _selected(context, step.again(*given, recorded, progress=context.progress), former.seconds)


def _selected(context: StepContext, ranking: Ranking, seconds: float | None) -> SelectionResult:
    return SelectionResult(
        ranking=context.store.put_json("ranking", ranking.to_json()),
        preferred=ranking.preferred,
        family=ranking.family if context.recipe.train.family == "auto" else context.recipe.train.family,
        contenders=tuple(ranking.contenders),
        decided=ranking.decided,
        leaderboard=ranking.shown,
        seconds=seconds,
        summary=ranking.summary(),
    )


def tune(context: StepContext, data: CollectResult, profile: ExploreResult, ranking: SelectionResult) -> TuneResult:
    """Search the family's parameters, judged on validation rows; the test part is out of reach."""
    from mlsys import tune as step

    rows, whole = _searched_rows(context, data, profile, ranking)
    compared = ranking.seconds or 0.0
    over = budget.read(context.recipe, whole, context.spent - compared) + compared
    left, reserve = budget.SEARCH * whole - over, (1 - budget.SEARCH) * whole
    how: dict[str, Any] = {"seconds": max(left, 0.0), "reserve": reserve, "progress": context.progress}
    how["contenders"] = ranking.contenders
    return _tuned(context, step.search(*rows, ranking.family, folder=context.folder, **how))


def tune_again(
    context: StepContext, data: CollectResult, profile: ExploreResult, ranking: SelectionResult, former: TuneResult
) -> TuneResult:
    """Fit the trials of a former search again without a clock, and choose among them as it did."""
    from mlsys import tune as step

    recorded = step.Tuned.from_json(context.store.get_json("params", former.stored))
    if not recorded.trials:
        return former
    rows, whole = _searched_rows(context, data, profile, ranking)
    how: dict[str, Any] = {"seconds": whole, "reserve": (1 - budget.SEARCH) * whole, "progress": context.progress}
    how["contenders"] = ranking.contenders
    return _tuned(context, step.replay(*rows, ranking.family, recorded, **how))


def _searched_rows(
    context: StepContext, data: CollectResult, profile: ExploreResult, ranking: SelectionResult
) -> tuple[tuple[Store, Split, TrainStatistics, Recipe, Task], float]:
    """The rows and settings of a search, and the seconds of the whole budget."""
    recipe = context.recipe.having(ranking.decided)
    split = Split.open(context.store, data.split).only("train", "validation")
    statistics = _statistics(context.store, profile.statistics)
    return (context.store, split, statistics, recipe, data.task), budget.seconds(recipe, split, data.task)


def _tuned(context: StepContext, tuned: Tuned) -> TuneResult:
    stored = context.store.put_json("params", tuned.to_json())
    return TuneResult(
        family=tuned.family,
        params=tuned.params,
        stored=stored,
        judged=tuned.judged,
        max_rows=tuned.max_rows,
        summary=tuned.summary(),
    )


def observe_views(
    context: StepContext, data: CollectResult, profile: ExploreResult, ranking: SelectionResult, tuned: TuneResult
) -> tuple[dict[str, str], list[FeatureView]]:
    """Digests of the users' encoders, and how an endpoint looks up the columns of feature tables, if it shall."""
    from mlsys.features.online import views
    from mlsys.features.operations import encoders

    _ = profile, ranking, tuned
    recipe, store = context.recipe, context.store
    joins = {} if recipe.deploy.lookup == "none" else recipe.features.joins
    rows = Split.open(store, data.split).schema
    return encoders.encoder_digests(recipe.features), [
        views.define(
            name,
            join,
            Snapshot.open(store, data.tables[name]).schema,
            rows,
            owner=recipe.name,
            timezone=recipe.data.timezone,
        )
        for name, join in joins.items()
    ]


def train(
    context: StepContext, data: CollectResult, profile: ExploreResult, ranking: SelectionResult, tuned: TuneResult
) -> TrainResult:
    """Fit the family with its parameters on the training rows and store the bundle."""
    from mlsys import train as step
    from mlsys.features.online import publishing
    from mlsys.models.families import ensemble

    _, views = context.observed
    store, recipe, progress = context.store, context.recipe.having(ranking.decided), context.progress
    split = Split.open(store, data.split).only("train", "validation")
    statistics = _statistics(store, profile.statistics)
    params = {**tuned.params, **recipe.train.params} if tuned.family != ensemble.NAME else tuned.params
    rows = None
    if tuned.judged is not None and params == tuned.params:
        rows = step.JudgedRows.read(store.path("judged", tuned.judged), data.task)
    how: dict[str, Any] = {"views": views, "judged": rows, "max_rows": tuned.max_rows, "progress": progress}
    bundle = step.fit(store, split, statistics, recipe, data.task, tuned.family, params, **how)
    publishing.remember_past(store, views, data.tables)
    plan, num_features = bundle.provenance["plan"], len(bundle.program.names)
    return TrainResult(bundle=bundle.digest, family=bundle.family, plan=plan, num_features=num_features)


def check_trained(run: Run, result: TrainResult) -> None:
    """Leave the receipt of the bundle beside it, and say where the model is larger than the recipe's limit."""
    from mlsys.workflow import receipts

    receipts.write(run, result)
    check_size(run, result)


def check_size(run: Run, result: TrainResult) -> None:
    """Say where the model is larger than the recipe's limit: smaller fits were measured when it was chosen."""
    limit = run.recipe.selection.max_bytes
    if limit is None:
        return
    folder = run.store.path("bundle", result.bundle) / "model"
    num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if num_bytes > limit:
        run.console.line(f"            the model has {num_bytes:,} bytes, more than selection.max_bytes: {limit:,}")


def evaluate(context: StepContext, model: TrainResult, data: CollectResult, profile: ExploreResult) -> EvaluateResult:
    """Open the test rows once: metrics with intervals, slices, the gate's verdict, the report."""
    from mlsys import bundle
    from mlsys import evaluate as step

    opened, split = bundle.open(context.store, model.bundle), Split.open(context.store, data.split)
    evaluation = step.score(context.store, opened, split, context.recipe, progress=context.progress)
    evaluation["suspects"] = list(profile.warnings)
    checks = evaluation["verdict"]["checks"]
    return EvaluateResult(
        evaluation=context.store.put_json("evaluation", evaluation),
        metric=evaluation["metric"],
        metrics=evaluation["metrics"],
        passed=evaluation["verdict"]["passed"],
        failed=tuple(check["reason"] for check in checks if not check["passed"]),
        checks=checks,
        report=context.report("evaluate", step.report.page(evaluation), evaluation),
        summary=step.summary(evaluation),
    )


def check_evaluated(run: Run, _: EvaluateResult) -> None:
    """Say beside the verdict which columns may have known the answer: it is worth what they are."""
    for line in warnings(run):
        run.console.line(f"            {line}")


def warnings(run: Run) -> list[str]:
    """Sentences about columns that explore suspects, for the verdict of the gate."""
    explored = run.results.get("explore")
    suspected = explored.warnings if isinstance(explored, ExploreResult) else ()
    return [f"the gate does not know: {line}" for line in suspected]

"""Open the test rows and measure: from a bundle and a split to an evaluation in JSON values.

The opening is recorded first (`access_log`), then rows are read and predicted (`held_out`), and metrics get
intervals that fit the split (`resampling`, `intervals`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mlsys import cluster
from mlsys import label_sets as labels
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import (
    access_log,
    baseline,
    behaviours,
    explained,
    fairness,
    forecast_metrics,
    gate,
    held_out,
    intervals,
    loss_model,
    metrics,
    pair_slices,
    ranking_metrics,
    recalibration,
    resampling,
    response,
    slices,
    thresholds,
    utility,
)
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.recipe import Recipe
from mlsys.schema import Column, Task, TaskKind
from mlsys.statistics.arrays import Floats, jsonable
from mlsys.store import Store

FORMAT = 2
MAX_CURVES = 8
"""Classes with a ROC curve of their own."""

LONG_S = 5.0
"""Seconds from which an evaluation says where they went."""

Evaluation = dict[str, Any]


def score(
    store: Store,
    bundle: Bundle,
    split: Split,
    recipe: Recipe,
    *,
    reason: str = "evaluate",
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Judge a bundle on the test rows; the opening is recorded first.

    Returns
    -------
    dict
        JSON values only, None where a number is not defined. Same inputs, same values, except
        for ``openings``, which counts the earlier ones.

    Raises
    ------
    RecipeError
        The gate, the slices or the metric have a name that does not exist; no row was opened.
    SealedError
        `split` does not hold the test part.
    """
    beside = {"is_forecast": bundle.task.forecast is not None, "has_utility": recipe.evaluate.utility is not None}
    gate.check_names(recipe.evaluate.gate, bundle.task.kind, **beside)
    utility.check(recipe.evaluate.utility, split.schema, bundle.task)
    baseline.metric_of(bundle, recipe)
    slices.columns(split.schema, recipe.evaluate.slices)
    slices.check_groups(split, bundle.task, recipe.evaluate.slices)
    fairness.check(recipe.evaluate.fairness, split.schema, bundle.task)
    behaviours.check(recipe.evaluate.behaviours, bundle, recipe.data.timezone)
    split.paths("test")
    rows = cluster.call(access_log.digest_of_rows, split.only("test"), threads=1)
    earlier = access_log.record(store, rows, name=recipe.name, split=split.digest, bundle=bundle.digest, reason=reason)
    progress(f"opening {split.num_rows.get('test', 0):,} test rows")
    evaluation, seconds = cluster.call(_evaluate, bundle, split.only("train", "test"), recipe)
    if sum(seconds.values()) >= LONG_S:
        progress("evaluated: " + ", ".join(f"{what} {spent:.1f} s" for what, spent in seconds.items()))
    others = {opening.bundle for opening in earlier} - {bundle.digest}
    evaluation["openings"] = {"earlier": len(earlier), "other_bundles": len(others)}
    checks = fairness.checks(evaluation["fairness"]) if "fairness" in evaluation else []
    checks += behaviours.checks(evaluation.get("behaviours", []))
    evaluation["verdict"] = gate.judge(evaluation, recipe.evaluate.gate, checks).to_json()
    return evaluation


def summary(evaluation: Evaluation) -> str:
    """Say in one line how many rows there were, the metric with its interval, and the verdict."""
    metric = evaluation["metrics"][evaluation["metric"]]
    value = "not defined" if metric["value"] is None else f"{metric['value']:.4f}"
    ends = "" if metric["low"] is None else f" [{metric['low']:.4f}, {metric['high']:.4f}]"
    resampling = evaluation["resampling"]
    if ends and resampling["unit"] != "rows":
        ends += f" over {resampling['num_units']} {resampling['unit']}"
    verdict = "gate passed" if evaluation["verdict"]["passed"] else "gate FAILED"
    return f"{evaluation['num_rows']:,} test rows, {metric['title']} {value}{ends}, {verdict}"


class _Laps:
    """Seconds of the parts of an evaluation, which are said where they are long and are no part of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, part: str) -> None:
        """End a part; the next one begins."""
        now = time.monotonic()
        self.seconds[part], self._began = now - self._began, now


def _evaluate(bundle: Bundle, split: Split, recipe: Recipe) -> tuple[Evaluation, dict[str, float]]:
    task, section, laps = bundle.task, recipe.evaluate, _Laps()
    # 1. Predictions of the model and of the dummy.
    sliced = slices.columns(split.schema, section.slices)
    compared = fairness.check(section.fairness, split.schema, task)
    answered = response.responses(bundle, split, recipe.data.timezone)
    laps.end("responses")
    of_loss = loss_model.columns(answered, split.num_rows.get("test", 0)) if task.kind is TaskKind.REGRESSION else []
    names = [*(column.name for column in (*sliced, *compared)), *forecast_metrics.columns(task), *of_loss]
    names += utility.check(section.utility, split.schema, task)
    scored = held_out.predict([bundle], split, recipe.data.timezone, names)
    metric = baseline.metric_of(bundle, recipe)
    cut = 0.5 if bundle.threshold is None else bundle.threshold
    predicted = metrics.Predicted(scored.outputs[0], cut, scored.groups)
    naive = baseline.naive_forecasts(scored.context, task)
    same = baseline.dummy_scores(split, task, len(scored.y), metric, scored.exposure, naive)
    dummy = metrics.Predicted(same, cut, scored.groups)
    laps.end("predictions")
    # 2. What belongs together when an interval is made.
    statistic = metric.under(scored.y, predicted.of(metric.needs), scored.weight)
    units = resampling.choose(scored.rows, statistic, seed=recipe.seed)
    plan = units.plan(section.bootstrap, section.confidence, recipe.seed)
    # 3. Every metric on all rows, and the chosen one on slices.
    known = metrics.all_for(task.kind, metric.name, metrics.usual(task), *section.gate)
    known += forecast_metrics.of_rows(split, task, scored.context, same)
    if section.utility is not None:
        known.append(utility.metric(section.utility, scored.context, task, cut))
    value = {
        **_facts(bundle, split, recipe, scored),
        "resampling": units.to_json(len(scored.y), plan),
        "metrics": _metrics(known, scored, predicted, dummy, plan),
        "dummy": {**_against_dummy(metric, scored, predicted, dummy, plan), "named": baseline.named(task)},
        "response": answered,
        "estimation": _estimation(bundle, scored, metric, answered, units),
    }
    laps.end("metrics")
    value["slices"] = _slices(task, recipe, metric, sliced, (scored, predicted), plan, answered)
    laps.end("slices")
    value["explained"] = explained.explain(bundle, split, recipe.data.timezone, metric, scored, plan, answered)
    laps.end("what the model goes by")
    # 4. What the recipe asks for beside, and what the kind of task has.
    value |= _asked(bundle, split, recipe, scored, predicted, plan)
    if task.labels:
        value |= _labels(task, scored.y, predicted, scored.weight)
    elif task.is_classification:
        value |= _classes(task, scored.y, predicted, recipe, plan)
    elif scored.groups is not None:
        value["ranking"] = ranking_metrics.described(scored.y, scored.outputs[0], same, scored.groups)
    else:
        value["regression"] = thresholds.regression(scored.y, scored.outputs[0])
    laps.end("the rest")
    evaluation: Evaluation = jsonable(value)
    return evaluation, laps.seconds


def _slices(
    task: Task,
    recipe: Recipe,
    metric: metrics.Metric,
    columns: Sequence[Column],
    judged_rows: tuple[held_out.HeldOut, metrics.Predicted],
    plan: ResamplingPlan,
    answered: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure the chosen metric on slices by one column, and search pairs of columns."""
    section, (rows, predicted) = recipe.evaluate, judged_rows
    whole = slices.of_groups(rows.context, columns, task)
    parts, left_out = slices.find(rows.context, whole, named=bool(section.slices))
    output, min_rows = predicted.of(metric.needs), section.min_slice_rows
    judged = slices.judge(parts, metric, rows.y, output, plan, min_rows=min_rows, weight=rows.weight)
    loss = pair_slices.losses(task, metric, rows.y, predicted)
    if loss is not None:
        order = response.by_span([column.name for column in whole], answered)
        pairs, searched = pair_slices.find(parts, loss[1], plan, min_rows=min_rows, order=order)
        listed = pair_slices.judge(pairs, metric, rows.y, output, plan, rows.weight)
        judged["pairs"] = {"loss": loss[0], **searched, "rows": listed}
    return {**judged, "columns_left_out": [*left_out, *(each.name for each in columns if each not in whole)]}


def _asked(
    bundle: Bundle,
    split: Split,
    recipe: Recipe,
    rows: held_out.HeldOut,
    predicted: metrics.Predicted,
    plan: ResamplingPlan,
) -> dict[str, Any]:
    """Measure what the recipe asks for beside metrics: utility by threshold, fairness and behaviours."""
    task, section, value = bundle.task, recipe.evaluate, dict[str, Any]()
    if section.utility is not None and task.kind is TaskKind.BINARY:
        chosen = float(np.asarray(predicted.threshold))
        curve = utility.by_threshold(section.utility, rows.context, task, predicted.output[:, 1], rows.weight, chosen)
        value["utility"] = {"sql": section.utility, **curve}
    compared = fairness.check(section.fairness, split.schema, task)
    if compared:
        rows_and_plan = rows.context, compared, rows.y, predicted.label, plan
        value["fairness"] = fairness.judge(*rows_and_plan, section.fairness, rows.weight)
    if section.behaviours:
        asked = section.behaviours, bundle, split, recipe.data.timezone
        value["behaviours"] = behaviours.judge(*asked, rows.groups)
    return value


def _estimation(
    bundle: Bundle, rows: held_out.HeldOut, metric: metrics.Metric, answered: Mapping[str, Any], units: resampling.Units
) -> dict[str, Any] | None:
    """Facts from which the monitor estimates performance before labels are there; None where that cannot be done."""
    task, numeric = bundle.task, {each.name for each in bundle.schema.features if each.kind in response.NUMBERS}
    if task.kind is TaskKind.REGRESSION:
        names = [metric.name, *(each.name for each in metrics.all_for(task.kind) if task.kind in each.monitored_for)]
        return loss_model.facts(
            rows.y, rows.outputs[0], names, rows.context, answered, units.number, numeric=numeric
        )  # fmt: skip
    return recalibration.facts(rows.y, rows.outputs[0], task, units.number)


def _facts(bundle: Bundle, split: Split, recipe: Recipe, scored: held_out.HeldOut) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": recipe.name,
        "task": bundle.task.model_dump(mode="json"),
        "bundle": bundle.digest,
        "family": bundle.family,
        "split": split.digest,
        "part": "test",
        "num_rows": len(scored.y),
        "metric": baseline.metric_of(bundle, recipe).name,
        "threshold": bundle.threshold,
        "threshold_rule": recipe.evaluate.threshold,
        "utility_sql": recipe.evaluate.utility,
        "unseen": scored.unseen,
        "rare": scored.rare,
    }


def _metrics(
    known: Sequence[metrics.Metric],
    rows: held_out.HeldOut,
    predicted: metrics.Predicted,
    dummy: metrics.Predicted,
    plan: ResamplingPlan,
) -> dict[str, Any]:
    y, weight = rows.y, rows.weight
    prepared = {metric.name: metric.under(y, predicted.of(metric.needs), weight) for metric in known}
    measured = intervals.estimates(prepared, len(y), plan)
    return {
        metric.name: {
            "title": metric.title,
            "meaning": metric.definition,
            "greater_is_better": metric.greater_is_better,
            **asdict(measured[metric.name].within(*metric.bounds)),
            "dummy": metric.function(y, dummy.of(metric.needs), weight),
        }
        for metric in known
    }


def _against_dummy(
    metric: metrics.Metric,
    rows: held_out.HeldOut,
    predicted: metrics.Predicted,
    dummy: metrics.Predicted,
    plan: ResamplingPlan,
) -> dict[str, Any]:
    """Compute the gain over the dummy on the same rows and resamples, positive where the model is better."""
    ours, theirs = (metric.under(rows.y, each.of(metric.needs), rows.weight) for each in (predicted, dummy))
    gap = intervals.difference(ours, theirs, len(rows.y), plan)
    gain = gap if metric.greater_is_better else gap.negated()
    values = {"model": ours(None), "dummy": theirs(None), "gain": asdict(gain)}
    return {"metric": metric.name, "title": metric.title, **values}


def _classes(
    task: Task, y: Floats, predicted: metrics.Predicted, recipe: Recipe, plan: ResamplingPlan
) -> dict[str, Any]:
    """Measure what only classification has: matrix, metrics a class, calibration and curves."""
    names = task.class_names
    # 1. The confusion matrix, and the metrics of each class that follow from it.
    counts = weighted.matrix(y.astype(np.int64), predicted.label, len(names))
    columns = {
        "num_rows": counts.sum(axis=1),
        "num_predicted": counts.sum(axis=0),
        "precision": weighted.precision(counts),
        "recall": weighted.recall(counts),
        "f1": weighted.f1(counts),
    }
    classes = [{"class": name, **{key: of[k] for key, of in columns.items()}} for k, name in enumerate(names)]
    # 2. Calibration and curves, of the positive class or of the most frequent ones.
    p, is_binary = predicted.output, task.kind is TaskKind.BINARY
    top, hit = (p[:, 1], y == 1) if is_binary else (p.max(axis=1), p.argmax(axis=1) == y)
    bins = thresholds.reliability(top, hit.astype(np.float64), confidence=plan.confidence, units=plan.units)
    shown = [1] if is_binary else np.argsort(-columns["num_rows"], kind="stable")[:MAX_CURVES].tolist()
    return {
        "classes": classes,
        "confusion": thresholds.confusion_shown(counts, names),
        "calibration": {
            "of": f"'{names[1]}'" if is_binary else "the most probable class",
            "bins": [asdict(each) for each in bins],
        },
        "roc": {names[k]: thresholds.roc(y == k, p[:, k]) for k in shown},
        "precision_recall": {names[k]: thresholds.precision_recall(y == k, p[:, k]) for k in shown},
        "base_rates": {names[k]: float(np.mean(y == k)) for k in shown},
        "scores": thresholds.scores(y, p[:, 1], names) if is_binary else None,
        "thresholds": thresholds.thresholds(y, p[:, 1], recipe.evaluate.cost) if is_binary else None,
    }


def _labels(task: Task, y: Floats, predicted: metrics.Predicted, weight: Floats | None) -> dict[str, Any]:
    """Measure each of several labels as the binary task that it is."""
    has, called = labels.table(y, len(task.labels)), predicted.of("labels")
    cuts = np.broadcast_to(np.asarray(predicted.threshold, np.float64), len(task.labels))
    binary = ("log_loss", "roc_auc", "pr_auc", "precision", "recall", "f1")
    each = []
    for k, name in enumerate(task.labels):
        two = np.stack([1.0 - predicted.output[:, k], predicted.output[:, k]], axis=1)
        own = {key: metrics.measure(key, has[:, k].astype(np.int64), two, float(cuts[k]), weight) for key in binary}
        rate, mean = (float(np.average(part[:, k], weights=weight)) for part in (has, predicted.output))
        counts = {"num_rows": int(has[:, k].sum()), "num_predicted": int(called[:, k].sum())}
        each.append({"label": name, **counts, "rate": rate, "mean_probability": mean, "threshold": cuts[k], **own})
    drawn = np.argsort(-has.sum(axis=0), kind="stable")[:MAX_CURVES].tolist()
    p = predicted.output
    return {
        "labels": each,
        "roc": {task.labels[k]: thresholds.roc(has[:, k], p[:, k]) for k in drawn},
        "precision_recall": {task.labels[k]: thresholds.precision_recall(has[:, k], p[:, k]) for k in drawn},
    }

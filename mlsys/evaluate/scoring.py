"""Open the test rows and measure: from a bundle and a split to an evaluation in JSON values.

The opening is recorded first (`access_log`), then rows are read and predicted (`held_out`), and metrics get
intervals that fit the split (`resampling`, `intervals`).
"""

from __future__ import annotations

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
    forecast_metrics,
    gate,
    held_out,
    intervals,
    loss_model,
    metrics,
    ranking_metrics,
    recalibration,
    resampling,
    response,
    slices,
    thresholds,
)
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.recipe import Recipe
from mlsys.schema import Task, TaskKind
from mlsys.statistics.arrays import Floats
from mlsys.store import Store

FORMAT = 2
MAX_CURVES = 8
"""Classes with a ROC curve of their own."""

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
    gate.check_names(recipe.evaluate.gate, bundle.task.kind, is_forecast=bundle.task.forecast is not None)
    baseline.metric_of(bundle, recipe)
    slices.columns(split.schema, recipe.evaluate.slices)
    slices.check_groups(split, bundle.task, recipe.evaluate.slices)
    split.paths("test")
    rows = cluster.call(access_log.digest_of_rows, split.only("test"), threads=1)
    earlier = access_log.record(store, rows, name=recipe.name, split=split.digest, bundle=bundle.digest, reason=reason)
    progress(f"opening {split.num_rows.get('test', 0):,} test rows")
    evaluation = cluster.call(_evaluate, bundle, split.only("train", "test"), recipe)
    others = {opening.bundle for opening in earlier} - {bundle.digest}
    evaluation["openings"] = {"earlier": len(earlier), "other_bundles": len(others)}
    evaluation["verdict"] = gate.judge(evaluation, recipe.evaluate.gate).to_json()
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


def _evaluate(bundle: Bundle, split: Split, recipe: Recipe) -> Evaluation:
    task, section = bundle.task, recipe.evaluate
    # 1. Predictions of the model and of the dummy.
    sliced = slices.columns(split.schema, section.slices)
    answered = response.responses(bundle, split, recipe.data.timezone)
    of_loss = loss_model.columns(answered, split.num_rows.get("test", 0)) if task.kind is TaskKind.REGRESSION else []
    names = [*(column.name for column in sliced), *forecast_metrics.columns(task), *of_loss]
    scored = held_out.predict([bundle], split, recipe.data.timezone, names)
    metric = baseline.metric_of(bundle, recipe)
    cut = 0.5 if bundle.threshold is None else bundle.threshold
    predicted = metrics.Predicted(scored.outputs[0], cut, scored.groups)
    naive = baseline.naive_forecasts(scored.context, task)
    same = baseline.dummy_scores(split, task, len(scored.y), metric, scored.exposure, naive)
    dummy = metrics.Predicted(same, cut, scored.groups)
    # 2. What belongs together when an interval is made.
    statistic = metric.under(scored.y, predicted.of(metric.needs), scored.weight)
    units = resampling.choose(scored.rows, statistic, seed=recipe.seed)
    plan = units.plan(section.bootstrap, section.confidence, recipe.seed)
    # 3. Every metric on all rows, and the chosen one on slices.
    whole = slices.of_groups(scored.context, sliced, task)
    parts, left_out = slices.find(scored.context, whole, named=bool(section.slices))
    left_out += [column.name for column in sliced if column not in whole]
    judged = slices.judge(
        parts,
        metric,
        scored.y,
        predicted.of(metric.needs),
        plan,
        min_rows=section.min_slice_rows,
        weight=scored.weight,
    )
    known = metrics.all_for(task.kind, metric.name, metrics.usual(task), *section.gate)
    known += forecast_metrics.of_rows(split, task, scored.context, same)
    value = {
        **_facts(bundle, split, recipe, scored),
        "resampling": units.to_json(len(scored.y), plan),
        "metrics": _metrics(known, scored, predicted, dummy, plan),
        "dummy": {**_against_dummy(metric, scored, predicted, dummy, plan), "named": baseline.named(task)},
        "slices": {**judged, "columns_left_out": left_out},
        "response": answered,
        "estimation": _estimation(bundle, scored, metric, answered, units),
    }
    if task.labels:
        value |= _labels(task, scored.y, predicted, scored.weight)
    elif task.is_classification:
        value |= _classes(task, scored.y, predicted, recipe, plan)
    elif scored.groups is not None:
        value["ranking"] = ranking_metrics.described(scored.y, scored.outputs[0], same, scored.groups)
    else:
        value["regression"] = thresholds.regression(scored.y, scored.outputs[0])
    evaluation: Evaluation = jsonable(value)
    return evaluation


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


def jsonable(value: Any) -> Any:
    """Turn NumPy values into Python ones, and NaN and infinities into None, as strict JSON demands.

    >>> jsonable({"a": np.float64("nan"), "b": np.array([1, 2]), "c": (True,)})
    {'a': None, 'b': [1, 2], 'c': [True]}
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value

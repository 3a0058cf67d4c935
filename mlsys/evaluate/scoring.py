"""Open the test rows and measure: from a bundle and a split to an evaluation in JSON values.

Rows are read and predicted file by file; the truth, the model's output, and the columns that
rows are sliced or grouped by stay in memory.

Test rows that have been opened often are no longer new: each choice made after a look fits
them a little (Dwork et al. 2015, Science 349, 636-638). Opening them again is allowed; it is counted
and stated in the report. The access log, ``runs/<name>/openings.jsonl``, holds one JSON line each and is
only ever appended to.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster, errors, models
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import bootstrap, gate, metrics, slices, thresholds
from mlsys.models.matrix import Matrix
from mlsys.predict import Predictor
from mlsys.recipe import Recipe
from mlsys.schema import Role, Task, TaskKind
from mlsys.statistics import encode_target
from mlsys.statistics.arrays import Floats
from mlsys.store import Store, storage_error


@dataclass(frozen=True)
class Opening:
    """An opening of the rows of a part; `at` is in UTC, `split` and `bundle` are digests."""

    at: str
    part: str
    split: str
    bundle: str
    reason: str


UNREADABLE = Opening("", "test", "", "", "a line that cannot be read")
"""A torn line was an opening as well: it is counted, not forgotten."""


def _file(store: Store, name: str) -> Path:
    return store.run_folder(name) / "openings.jsonl"


def read(store: Store, name: str) -> list[Opening]:
    """Read all openings so far, the oldest first."""
    file = _file(store, name)
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(file, error) from error
    openings = []
    for line in filter(str.strip, lines):
        try:
            openings.append(Opening(**json.loads(line)))
        except (ValueError, TypeError):
            openings.append(UNREADABLE)
    return openings


def record(store: Store, name: str, *, split: str, bundle: str, reason: str, part: str = "test") -> list[Opening]:
    """Record an opening before it happens, and return the earlier ones.

    Raises
    ------
    StoreError
        The line cannot be written; then the rows must not be opened.
    """
    earlier = read(store, name)
    opening = Opening(datetime.now(UTC).isoformat(timespec="seconds"), part, split, bundle, reason)
    line = json.dumps(asdict(opening), ensure_ascii=False) + "\n"
    file = _file(store, name)
    try:
        with file.open("ab+") as opened:
            whole = opened.tell() == 0 or os.pread(opened.fileno(), 1, opened.tell() - 1) == b"\n"
            opened.write(line.encode() if whole else f"\n{line}".encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise storage_error(file, error) from error
    return earlier


FORMAT = 1
MAX_CURVES = 8
"""Classes with a ROC curve of their own."""

Evaluation = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """The test rows after prediction: truth, model output, and the columns to slice and group by.

    `unseen` and `rare` count values that training never saw, or too seldom, by column.
    """

    y: Floats
    output: Floats
    unseen: dict[str, int]
    rare: dict[str, int]
    context: pa.Table
    groups: NDArray[np.int64] | None


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
    gate.check_names(recipe.evaluate.gate, bundle.task.kind)
    metrics.find(recipe.selection.metric, bundle.task.kind)
    slices.columns(split.schema, recipe.evaluate.slices)
    split.paths("test")
    earlier = record(store, recipe.name, split=split.digest, bundle=bundle.digest, reason=reason)
    progress(f"opening {split.num_rows.get('test', 0):,} test rows")
    evaluation = cluster.call(_evaluate, bundle, split.only("train", "test"), recipe)
    same = [opening for opening in earlier if opening.split in ("", split.digest)]
    evaluation["openings"] = {"earlier": len(same), "other_bundles": len({o.bundle for o in same} - {bundle.digest})}
    evaluation["verdict"] = gate.judge(evaluation, recipe.evaluate.gate).to_json()
    return evaluation


def summary(evaluation: Evaluation) -> str:
    """Say in one line how many rows there were, the metric with its interval, and the verdict."""
    metric = evaluation["metrics"][evaluation["metric"]]
    value = "not defined" if metric["value"] is None else f"{metric['value']:.4f}"
    ends = "" if metric["low"] is None else f" [{metric['low']:.4f}, {metric['high']:.4f}]"
    verdict = "gate passed" if evaluation["verdict"]["passed"] else "gate FAILED"
    return f"{evaluation['num_rows']:,} test rows, {metric['title']} {value}{ends}, {verdict}"


def _evaluate(bundle: Bundle, split: Split, recipe: Recipe) -> Evaluation:
    task, section = bundle.task, recipe.evaluate
    # 1. Predictions of the model and of the dummy.
    sliced = slices.columns(split.schema, section.slices)
    scored = predict_test_rows(bundle, split, recipe.data.timezone, [column.name for column in sliced])
    metric = metrics.find(recipe.selection.metric, task.kind)
    plan = bootstrap.ResamplingPlan(section.bootstrap, section.confidence, recipe.seed, scored.groups)
    predicted = metrics.Predicted(scored.output, 0.5 if bundle.threshold is None else bundle.threshold)
    dummy = metrics.Predicted(dummy_scores(split, task, len(scored.y)), predicted.threshold)
    # 2. Every metric on all rows, and the chosen one on slices.
    parts, left_out = slices.find(scored.context, sliced, named=bool(section.slices))
    judged = slices.judge(parts, metric, scored.y, predicted.of(metric.needs), plan, min_rows=section.min_slice_rows)
    value = {
        **_facts(bundle, split, recipe, scored, plan),
        "metrics": _metrics(task.kind, scored.y, predicted, dummy, plan),
        "dummy": _against_dummy(metric, scored.y, predicted, dummy, plan),
        "slices": {**judged, "columns_left_out": left_out},
    }
    if task.is_classification:
        value |= _classes(task, scored.y, predicted, recipe)
    else:
        value["regression"] = thresholds.regression(scored.y, scored.output)
    evaluation: Evaluation = jsonable(value)
    return evaluation


def predict_test_rows(bundle: Bundle, split: Split, timezone: str, sliced: list[str]) -> Scored:
    """Predict the test part with `Predictor`; the columns in `sliced` stay as context.

    Raises
    ------
    TargetError
        There are no test rows, or one has no label.
    """
    predictor = Predictor(bundle, timezone)
    target, group = bundle.task.target, split.schema.name_of(Role.GROUP)
    context = list(dict.fromkeys([*sliced, *([group] if group else [])]))
    request = [name for name in bundle.schema.names if name in split.schema]
    truth, outputs, contexts = [], [], []
    unseen, rare = Counter[str](), Counter[str]()
    for path in split.paths("test"):
        table = pq.read_table(path, columns=list(dict.fromkeys([*request, target, *context])))
        predictions = predictor.table(table.select(request))
        outputs.append(predictions.score if predictions.probabilities is None else predictions.probabilities)
        truth.append(_labels(table[target], bundle.task, "test"))
        contexts.append(table.select(context))
        unseen.update(predictions.unseen)
        rare.update(predictions.rare)
    if not sum(map(len, truth)):
        where = "evaluate: the test part"
        hint = "give it a larger fraction or other dates under split"
        raise errors.TargetError.build(where, got="no rows", expected="at least one row with a label", hint=hint)
    whole, groups = pa.concat_tables(contexts), None
    if group:
        codes = whole[group].combine_chunks().dictionary_encode("encode").indices
        groups = np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)
    return Scored(np.concatenate(truth), np.concatenate(outputs), dict(unseen), dict(rare), whole, groups)


def dummy_scores(split: Split, task: Task, num_rows: int) -> Floats:
    """Fit the dummy on the labels of the training rows and predict `num_rows` rows with it."""
    y = _labels(split.table("train", [task.target])[task.target], task, "train")
    family = models.family(models.BASELINE)
    rows = Matrix(np.empty((len(y), 0), np.float32), y, (), ())
    fitted = family.fit(rows, None, task, family.params(), seed=0, threads=1)
    return np.asarray(family.predict(fitted, np.empty((num_rows, 0), np.float32)), np.float64)


def _labels(values: pa.ChunkedArray, task: Task, part: str) -> Floats:
    y = np.asarray(encode_target(values, task), np.float64)
    absent = int(np.sum(y < 0) if task.is_classification else np.sum(~np.isfinite(y)))
    if absent:
        where = f"evaluate: target '{task.target}' in the {part} part"
        expected = "a class of the task" if task.is_classification else "a finite number"
        hint = "run `mlsys collect` again: it puts rows without a label into a part of their own"
        raise errors.TargetError.build(where, got=f"no label in {absent} rows", expected=expected, hint=hint)
    return y


def _facts(
    bundle: Bundle, split: Split, recipe: Recipe, scored: Scored, plan: bootstrap.ResamplingPlan
) -> dict[str, Any]:
    group = split.schema.name_of(Role.GROUP)
    return {
        "format": FORMAT,
        "name": recipe.name,
        "task": bundle.task.model_dump(mode="json"),
        "bundle": bundle.digest,
        "family": bundle.family,
        "split": split.digest,
        "part": "test",
        "num_rows": len(scored.y),
        "metric": metrics.find(recipe.selection.metric, bundle.task.kind).name,
        "threshold": bundle.threshold,
        "threshold_rule": recipe.evaluate.threshold,
        "unseen": scored.unseen,
        "rare": scored.rare,
        "bootstrap": {
            "num_resamples": plan.affordable(len(scored.y)),
            "confidence": plan.confidence,
            "seed": plan.seed,
            "unit": f"groups of '{group}'" if group else "rows",
        },
    }


def _metrics(
    kind: TaskKind, y: Floats, predicted: metrics.Predicted, dummy: metrics.Predicted, plan: bootstrap.ResamplingPlan
) -> dict[str, Any]:
    known = metrics.all_for(kind)
    prepared = {metric.name: metric.prepare(y, predicted.of(metric.needs)) for metric in known}
    measured = bootstrap.estimates(prepared, len(y), plan)
    return {
        metric.name: {
            "title": metric.title,
            "meaning": metric.definition,
            "greater_is_better": metric.greater_is_better,
            **asdict(measured[metric.name]),
            "dummy": metric.function(y, dummy.of(metric.needs)),
        }
        for metric in known
    }


def _against_dummy(
    metric: metrics.Metric,
    y: Floats,
    predicted: metrics.Predicted,
    dummy: metrics.Predicted,
    plan: bootstrap.ResamplingPlan,
) -> dict[str, Any]:
    """Compute the gain over the dummy on the same rows and resamples, positive where the model is better."""
    ours, theirs = metric.prepare(y, predicted.of(metric.needs)), metric.prepare(y, dummy.of(metric.needs))
    gap = bootstrap.difference(ours, theirs, len(y), plan)
    low, high = (gap.low, gap.high) if metric.greater_is_better else (-gap.high, -gap.low)
    gain = {"value": metric.sign * gap.value, "low": low, "high": high, "error": gap.error}
    return {"metric": metric.name, "title": metric.title, "model": ours(None), "dummy": theirs(None), "gain": gain}


def _classes(task: Task, y: Floats, predicted: metrics.Predicted, recipe: Recipe) -> dict[str, Any]:
    """Measure what only classification has: matrix, metrics a class, calibration and curves."""
    names = task.class_names
    # 1. The confusion matrix, and the metrics of each class that follow from it.
    counts = bootstrap.matrix(y.astype(np.int64), predicted.label, len(names))
    columns = {
        "num_rows": counts.sum(axis=1),
        "num_predicted": counts.sum(axis=0),
        "precision": bootstrap.precision(counts),
        "recall": bootstrap.recall(counts),
        "f1": bootstrap.f1(counts),
    }
    classes = [{"class": name, **{key: of[k] for key, of in columns.items()}} for k, name in enumerate(names)]
    # 2. Calibration and curves, of the positive class or of the most frequent ones.
    p, is_binary = predicted.output, task.kind is TaskKind.BINARY
    top, hit = (p[:, 1], y == 1) if is_binary else (p.max(axis=1), p.argmax(axis=1) == y)
    bins = [
        asdict(b) for b in thresholds.reliability(top, hit.astype(np.float64), confidence=recipe.evaluate.confidence)
    ]
    shown = [1] if is_binary else np.argsort(-columns["num_rows"], kind="stable")[:MAX_CURVES].tolist()
    return {
        "classes": classes,
        "confusion": thresholds.confusion_shown(counts, names),
        "calibration": {"of": f"'{names[1]}'" if is_binary else "the most probable class", "bins": bins},
        "roc": {names[k]: thresholds.roc(y == k, p[:, k]) for k in shown},
        "precision_recall": {names[k]: thresholds.precision_recall(y == k, p[:, k]) for k in shown},
        "base_rates": {names[k]: float(np.mean(y == k)) for k in shown},
        "scores": thresholds.scores(y, p[:, 1], names) if is_binary else None,
        "thresholds": thresholds.thresholds(y, p[:, 1], recipe.evaluate.cost) if is_binary else None,
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

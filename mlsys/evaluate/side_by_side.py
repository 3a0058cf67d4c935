"""Champion and challenger side by side on the same test rows: metrics, slices, calibration, size and latency.

The rule of `champion` decides by one metric; this is what a person reads beside it. Differences are paired, with the
weightings of that comparison. A slice is marked where the interval of its own difference, at the level of Bonferroni
for the number of slices, lies on one side of 0. Nothing here decides.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import intervals, metrics, slices, thresholds, utility
from mlsys.evaluate.held_out import HeldOut
from mlsys.evaluate.intervals import Estimate, ResamplingPlan
from mlsys.evaluate.metrics import Metric, Predicted
from mlsys.evaluate.slices import Slice
from mlsys.evaluate.weighted_metrics import Statistic
from mlsys.predict import Predictor
from mlsys.recipe import Recipe
from mlsys.schema import Task, TaskKind
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats

TIMED_ROWS, TIMES = 1_000, 3
"""Rows that are predicted for the latency, and how often: the quickest counts, each model in turn."""

MAX_RESAMPLES = 100
"""Resamples of an interval at most; the decision has its own."""

NAMES = ("challenger", "champion")


def columns(split: Split, recipe: Recipe, task: Task) -> list[str]:
    """Columns of the test rows that are read for it beside those that the models read."""
    sliced = [column.name for column in slices.columns(split.schema, recipe.evaluate.slices)]
    return [*sliced, *utility.check(recipe.evaluate.utility, split.schema, task)]


def compare(
    bundles: Sequence[Bundle],
    split: Split,
    recipe: Recipe,
    metric: Metric,
    rows: HeldOut,
    plan: ResamplingPlan,
) -> dict[str, Any]:
    """Measure the challenger and the champion, in that order, on the rows that both predicted.

    Returns
    -------
    dict
        ``metrics`` and ``slices`` with both values and the gain, positive where the challenger is better;
        ``calibration`` of both, for two or more classes; ``serving``: bytes and microseconds a row of both.
    """
    task = bundles[0].task
    both = [
        Predicted(output, 0.5 if each.threshold is None else each.threshold, rows.groups)
        for output, each in zip(rows.outputs, bundles, strict=True)
    ]
    chosen = slices.of_groups(rows.context, slices.columns(split.schema, recipe.evaluate.slices), task)
    parts = slices.find(rows.context, chosen, named=bool(recipe.evaluate.slices))[0]
    large = [part for part in parts if len(part.rows) >= recipe.evaluate.min_slice_rows]
    is_drawn = task.kind in (TaskKind.BINARY, TaskKind.MULTICLASS)
    return {
        "metrics": _metrics(_pairs(metric, task, recipe, rows, both), len(rows.y), plan),
        "slices": _slices(large, metric, rows, both, plan),
        "calibration": {name: _calibration(rows.y, each, plan) for name, each in zip(NAMES, both, strict=True)}
        if is_drawn
        else {},
        "serving": serving(bundles, split, recipe.data.timezone),
    }


def _pairs(
    metric: Metric, task: Task, recipe: Recipe, rows: HeldOut, both: Sequence[Predicted]
) -> list[tuple[Metric, list[Statistic]]]:
    """The metrics to compare by, prepared for both: those of headlines and of the monitor, and the utility."""
    listed = [each for each in metrics.all_for(task.kind, metric.name) if each.better != "nearer to 0"]
    known = [each for each in listed if each.name == metric.name or each.is_headline or task.kind in each.monitored_for]
    pairs = [(each, [each.under(rows.y, output.of(each.needs), rows.weight) for output in both]) for each in known]
    if recipe.evaluate.utility is not None:
        own = [utility.metric(recipe.evaluate.utility, rows.context, task, output.threshold) for output in both]
        prepared = [
            each.under(rows.y, output.of(each.needs), rows.weight) for each, output in zip(own, both, strict=True)
        ]
        pairs.append((own[0], prepared))
    return pairs


def _metrics(
    pairs: Sequence[tuple[Metric, list[Statistic]]], num_rows: int, plan: ResamplingPlan
) -> list[dict[str, Any]]:
    gains = intervals.estimates({each.name: _gap(*pair) for each, pair in pairs}, num_rows, plan.at_most(MAX_RESAMPLES))
    return [
        {
            "name": each.name,
            "title": each.title,
            "better": each.better,
            **{name: of(None) for name, of in zip(NAMES, pair, strict=True)},
            "gain": asdict(_signed(gains[each.name], each.sign)),
        }
        for each, pair in pairs
    ]


def _slices(
    parts: Sequence[Slice], metric: Metric, rows: HeldOut, both: Sequence[Predicted], plan: ResamplingPlan
) -> dict[str, Any]:
    """The chosen metric of both on each slice, the greatest loss first."""
    total = sum(len(part.rows) for part in parts)
    affordable = plan.at_most(max(50, slices.BUDGET // max(2 * total, 1)))
    z = jackknife.t_quantile(affordable.freedom, 1 - (1 - plan.confidence) / max(len(parts), 1))
    outputs = [each.of(metric.needs) for each in both]
    listed: list[dict[str, Any]] = []
    for part in parts:
        some, weight = part.rows, None if rows.weight is None else rows.weight[part.rows]
        pair = [metric.under(rows.y[some], output[some], weight) for output in outputs]
        gain = intervals.difference(pair[0], pair[1], len(some), affordable.of(some))
        gain = _signed(gain, metric.sign)
        values = {name: of(None) for name, of in zip(NAMES, pair, strict=True)}
        facts = {"column": part.column, "slice": part.value, "num_rows": len(some)}
        listed.append({**facts, **values, "gain": asdict(gain), "certain": certainty(gain, z)})
    listed.sort(key=lambda row: np.nan_to_num(row["gain"]["value"], nan=np.inf))
    return {"metric": metric.title, "num_slices": len(parts), "confidence": plan.confidence, "rows": listed}


def certainty(gain: Estimate, z: float) -> str:
    """Say whether a gain of a slice is beyond `z` standard errors: ``better``, ``worse`` or nothing.

    >>> certainty(Estimate(0.1, error=0.02), 3.0), certainty(Estimate(-0.1, error=0.04), 3.0)
    ('better', '')
    """
    if not np.isfinite([gain.value, gain.error]).all() or abs(gain.value) <= z * gain.error:
        return ""
    return "better" if gain.value > 0 else "worse"


def _gap(first: Any, second: Any) -> Any:
    return lambda weight: first(weight) - second(weight)


def _signed(gap: Estimate, sign: int) -> Estimate:
    return gap if sign > 0 else gap.negated()


def _calibration(y: Floats, predicted: Predicted, plan: ResamplingPlan) -> list[dict[str, Any]]:
    """Bins of the positive class, or of the likeliest one."""
    p = predicted.output
    top, hit = (p[:, 1], y == 1) if p.shape[1] == 2 else (p.max(axis=1), p.argmax(axis=1) == y)
    bins = thresholds.reliability(top, np.asarray(hit, np.float64), confidence=plan.confidence, units=plan.units)
    return [asdict(each) for each in bins]


def serving(bundles: Sequence[Bundle], split: Split, timezone: str) -> dict[str, dict[str, float]]:
    """Bytes of each stored model, and microseconds that features and prediction of a row take, of many at once."""
    predictors = [Predictor(each, timezone) for each in bundles]
    path = split.paths("test")[0]
    tables = [
        pq.read_table(path, columns=[name for name in each.schema.names if name in split.schema]).slice(0, TIMED_ROWS)
        for each in bundles
    ]
    seconds: NDArray[np.float64] = np.full(len(bundles), np.inf)
    for _ in range(TIMES):
        for place, (predictor, table) in enumerate(zip(predictors, tables, strict=True)):
            began = time.perf_counter()
            predictor.table(table)
            seconds[place] = min(seconds[place], time.perf_counter() - began)
    return {
        name: {"bytes": model_bytes(each), "us_per_row": float(1e6 * spent / max(table.num_rows, 1))}
        for name, each, spent, table in zip(NAMES, bundles, seconds, tables, strict=True)
    }


def model_bytes(bundle: Bundle) -> int:
    """Bytes of the files of a stored model."""
    return sum(file.stat().st_size for file in (bundle.folder / "model").rglob("*") if file.is_file())

"""Loss by region: how well a model does on each slice of a window, beside the same slice of the test rows.

Where the truth changes for some rows only, the metric of all rows says little and does not say where. The slices are
those of ``monitor.slices`` that the evaluation has looked at as well: values of one column. A slice is worse where its
metric is, by more than ``monitor.max_metric_loss`` and beyond the noise of both sides, at a confidence that is shared
among the slices of the window (Bonferroni; Dunn 1961, JASA 56:52), with intervals as those of windows. It changes no
decision: among many slices of few rows, all rows together decide.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys.deploy.prediction_log import logged_name
from mlsys.monitor import performance
from mlsys.monitor.performance import PerformanceEstimate, PerformanceLimits
from mlsys.monitor.window_results import WindowResults
from mlsys.monitor.windows import Window
from mlsys.reports import formats
from mlsys.schema import Task
from mlsys.statistics import jackknife

MIN_LABELLED = 30
"""Labelled rows that a slice needs."""


@dataclass(frozen=True)
class RegionLoss:
    """The chosen metric of one slice of a window, and of the test rows.

    Attributes
    ----------
    loss
        How much worse it is than on the test rows, in the unit of the metric.
    worse
        By more than the limit, and certainly so.
    """

    column: str
    slice: str
    num_rows: int
    value: float
    low: float | None
    high: float | None
    test: float
    loss: float
    worse: bool

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def losses(
    slices: Sequence[Window],
    evaluation: Mapping[str, Any] | None,
    task: Task,
    limits: PerformanceLimits,
    min_coverage: float,
    results: WindowResults | None = None,
) -> dict[dt.datetime, list[RegionLoss]]:
    """Loss of each slice that has its labels, by the start of its window, the largest first.

    Slices of groups that are ranked are left out, and those of which fewer than `min_coverage` of the rows that can
    have a label have it. `results` has those that are known from the last run.
    """
    tested = _tested(evaluation, limits)
    if not tested or task.is_ranking:
        return {}
    known: dict[dt.datetime, list[tuple[Window, PerformanceEstimate]]] = {}
    for window in slices:
        base = tested.get((window.slice_key or "", window.slice_value or ""))
        if base is not None and window.labelled.num_rows >= MIN_LABELLED and window.coverage >= min_coverage:
            known.setdefault(window.start, []).append((window, base))
    return {start: _of_window(pairs, limits, results or WindowResults()) for start, pairs in known.items()}


def _tested(
    evaluation: Mapping[str, Any] | None, limits: PerformanceLimits
) -> dict[tuple[str, str], PerformanceEstimate]:
    """The metric of each slice of the test rows, by its column's name in the log and its value."""
    sliced = (evaluation or {}).get("slices") or {}
    if sliced.get("metric") != limits.metric.name:
        return {}
    entries = {(logged_name(row["column"]), row["slice"]): row for row in sliced["rows"]}
    numbers = {key: (row.get("value"), row.get("error")) for key, row in entries.items()}
    return {
        key: PerformanceEstimate(value, error=math.nan if error is None else error)
        for key, (value, error) in numbers.items()
        if value is not None and math.isfinite(value)
    }


def _of_window(
    pairs: Sequence[tuple[Window, PerformanceEstimate]], limits: PerformanceLimits, results: WindowResults
) -> list[RegionLoss]:
    confidence, regions = 1 - (1 - limits.confidence) / len(pairs), []
    for window, base in pairs:
        make = functools.partial(_loss, window, base, limits, confidence)
        inputs = [window.labels_stamp, confidence, limits.max_loss]
        regions.append(RegionLoss(**results.of(window, "region", make, inputs)))
    measured = [each for each in regions if math.isfinite(each.value)]
    return sorted(measured, key=lambda each: (not each.worse, -each.loss))


def _loss(window: Window, base: PerformanceEstimate, limits: PerformanceLimits, confidence: float) -> dict[str, Any]:
    """JSON of the loss of a slice."""
    metric, (y, output, block) = limits.metric, window.labelled.arrays()
    statistic = performance.weighted_metric(metric, y, output, limits.threshold)
    own = performance.estimate_by_blocks(statistic, block, confidence)
    loss = metric.sign * (base.value - own.value)
    limit = limits.max_loss * (abs(base.value) if metric.in_target_unit else 1)
    error = math.hypot(own.error, 0.0 if math.isnan(base.error) else base.error)
    certain = own.freedom > 0 and loss > jackknife.t_quantile(own.freedom, confidence) * error
    low, high = (None if math.isnan(end) else end for end in (own.low, own.high))
    return RegionLoss(
        str(window.slice_key), str(window.slice_value), len(y), own.value, low, high, base.value, loss,
        worse=bool(certain and loss > limit),
    ).to_json()  # fmt: skip


def in_words(region: Mapping[str, Any], title: str) -> str:
    """Say how a region does, without a full stop.

    >>> in_words({"column": "origin", "slice": "JFK", "value": 0.61, "test": 0.7234}, "ROC AUC")
    "ROC AUC of the rows with 'origin' = JFK is 0.610, 0.723 on the test rows"
    """
    value, test = (formats.number(region[key], 3) for key in ("value", "test"))
    return f"{title} of the rows with '{region['column']}' = {region['slice']} is {value}, {test} on the test rows"

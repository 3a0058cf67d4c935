"""The drift table, with the names and nesting of Databricks' data profiling.

A query written for ``<table>_drift_metrics`` there reads this file with the name changed
in FROM only. Columns of numbers have ``ks_test`` and ``wasserstein_distance``, columns of
categories ``chi_squared_test``; the distances on fractions are in both, numbers in deciles
of the reference.

The profile table, with the names and nesting of Databricks' data profiling.

A query written for ``<table>_profile_metrics`` there reads this file with the name changed
in FROM only. Percentages run from 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.evaluate import weighted_metrics
from mlsys.evaluate.metrics import Predicted, all_for, measure
from mlsys.monitor import drift
from mlsys.monitor.log_scan import ReferenceRows
from mlsys.monitor.reference_bins import ReferenceBins
from mlsys.monitor.windows import Window
from mlsys.predict import class_names
from mlsys.schema import Task
from mlsys.statistics import ColumnStatistics, ColumnSummary

__all__ = ["DRIFT", "PROFILE", "drift_table", "profile_table"]

SPAN = pa.struct([("start", pa.timestamp("us", "UTC")), ("end", pa.timestamp("us", "UTC"))])
_AVERAGES = pa.struct(
    [("one_vs_all", pa.map_(pa.string(), pa.float64())), ("macro", pa.float64()), ("weighted", pa.float64())]
)
_CELL = pa.struct([("prediction", pa.string()), ("label", pa.string()), ("count", pa.int64())])
_DOUBLES = (
    "log_loss", "mean_squared_error", "root_mean_squared_error", "mean_average_error",
    "mean_absolute_percentage_error", "r2_score",
)  # fmt: skip
KEYS = [
    ("granularity", pa.string()), ("slice_key", pa.string()), ("slice_value", pa.string()),
    ("model_version", pa.string()), ("column_name", pa.string()),
]  # fmt: skip

PROFILE = pa.schema(
    [
        ("window", SPAN), ("log_type", pa.string()), ("logging_table_commit_version", pa.int64()),
        ("monitor_version", pa.int64()), *KEYS,
        ("count", pa.int64()), ("data_type", pa.string()), ("num_nulls", pa.int64()), ("avg", pa.float64()),
        ("quantiles", pa.list_(pa.float64())), ("min", pa.float64()), ("max", pa.float64()), ("stddev", pa.float64()),
        ("num_zeros", pa.int64()), ("num_nan", pa.int64()), ("min_length", pa.int64()), ("max_length", pa.int64()),
        ("avg_length", pa.float64()), ("non_null_columns", pa.list_(pa.string())),
        ("frequent_items", pa.list_(pa.struct([("item", pa.string()), ("count", pa.int64())]))),
        ("median", pa.float64()), ("distinct_count", pa.int64()), ("percent_nan", pa.float64()),
        ("percent_null", pa.float64()), ("percent_zeros", pa.float64()), ("percent_distinct", pa.float64()),
        ("accuracy_score", pa.float64()),
        ("confusion_matrix", pa.list_(_CELL)),
        ("precision", _AVERAGES), ("recall", _AVERAGES), ("f1_score", _AVERAGES), ("roc_auc_score", pa.float64()),
        *((name, pa.float64()) for name in _DOUBLES),
    ]
)  # fmt: skip
"""Columns of the profile table."""

MONITOR_VERSION = 1
"""Version of the meaning of these tables."""

TABLE = ":table"


def profile_table(
    windows: Sequence[Window], reference: ReferenceRows, granularity: str, threshold: float | None
) -> pa.Table:
    """One row a window, slice and column, a row ``:table`` for the whole, and the reference as log_type BASELINE."""
    rows = [_column_profile(name, column, None, granularity, reference) for name, column in reference.columns.items()]
    for window in windows:
        rows.append(_table_profile(window, reference.task, granularity, threshold))
        rows += [
            _column_profile(name, column, window, granularity, reference)
            for name, column in window.statistics.columns.items()
            if column.num_rows
        ]
    return pa.Table.from_pylist(rows, schema=PROFILE)


def keys(window: Window | None, granularity: str, column: str) -> dict[str, Any]:
    return {
        "granularity": granularity,
        "slice_key": window and window.slice_key,
        "slice_value": window and window.slice_value,
        "model_version": window and ", ".join(sorted(window.versions)),
        "column_name": column,
    }


def span(window: Window | None) -> dict[str, Any] | None:
    return None if window is None else {"start": window.start, "end": window.end}


def _log(window: Window | None) -> dict[str, Any]:
    kind = "BASELINE" if window is None else "INPUT"
    return {"window": span(window), "log_type": kind, "monitor_version": MONITOR_VERSION}


def _column_profile(
    name: str, column: ColumnStatistics, window: Window | None, granularity: str, reference: ReferenceRows
) -> dict[str, Any]:
    facts = column.result()
    length = facts.max_length is not None
    kind = reference.schema[name].type if name in reference.schema else column.kind.value
    return {
        **_log(window), **keys(window, granularity, name),
        "count": facts.num_rows, "data_type": kind, "num_nulls": facts.num_nulls, "avg": facts.mean,
        "quantiles": list(facts.quantiles) if facts.quantiles else None, "min": facts.min, "max": facts.max,
        "stddev": facts.stddev, "num_zeros": facts.num_zeros, "num_nan": facts.num_nan,
        "min_length": facts.min_length if length else None, "max_length": facts.max_length,
        "avg_length": facts.mean_length, "median": facts.median, "distinct_count": facts.distinct_count,
        "frequent_items": [{"item": str(item), "count": count} for item, count in facts.frequent_items],
        **percents(facts),
    }  # fmt: skip


def percents(facts: ColumnSummary) -> dict[str, float | None]:
    def percent(part: int | None) -> float | None:
        return None if part is None or not facts.num_rows else 100 * part / facts.num_rows

    return {
        "percent_nan": percent(facts.num_nan),
        "percent_null": percent(facts.num_nulls),
        "percent_zeros": percent(facts.num_zeros),
        "percent_distinct": percent(facts.distinct_count),
    }


def _table_profile(window: Window, task: Task, granularity: str, threshold: float | None) -> dict[str, Any]:
    filled = [name for name, column in window.statistics.columns.items() if column.num_rows > column.num_nulls]
    return {
        **_log(window),
        **keys(window, granularity, TABLE),
        "count": window.num_rows,
        "non_null_columns": filled,
        **_performance(window, task, threshold),
    }


def _performance(window: Window, task: Task, threshold: float | None) -> dict[str, Any]:
    """Metrics of the labelled rows; of a window whose labels are still coming, of those that came."""
    y, output, _ = window.performance.arrays()
    if not len(y):
        return {}
    if not task.is_classification:
        known = {m.name: plain(measure(m.name, y, output)) for m in all_for(task.kind)}
        rmse = known["rmse"]
        return {
            "mean_squared_error": None if rmse is None else rmse**2,
            "root_mean_squared_error": rmse,
            "mean_average_error": known["mae"],
            "mean_absolute_percentage_error": known["mape"],
            "r2_score": known["r2"],
        }
    names = class_names(task)
    truth = y.astype(np.int64)
    label = Predicted(output, 0.5 if threshold is None else threshold).label
    counts = weighted_metrics.matrix(truth, label, len(names))
    return {
        "accuracy_score": plain(weighted_metrics.accuracy(counts)),
        "confusion_matrix": [
            {"prediction": names[j], "label": names[i], "count": int(counts[i, j])}
            for i, j in zip(*np.nonzero(counts), strict=True)
        ],
        "precision": _averages(weighted_metrics.precision(counts), counts, names),
        "recall": _averages(weighted_metrics.recall(counts), counts, names),
        "f1_score": _averages(weighted_metrics.f1(counts), counts, names),
        "roc_auc_score": plain(measure("roc_auc", truth, output)),
        "log_loss": plain(measure("log_loss", truth, output)),
    }


def _averages(values: Any, counts: Any, names: Sequence[str]) -> dict[str, Any]:
    return {
        "one_vs_all": [(name, plain(value)) for name, value in zip(names, values.tolist(), strict=True)],
        "macro": plain(weighted_metrics.averaged(values, counts, weighted=False)),
        "weighted": plain(weighted_metrics.averaged(values, counts, weighted=True)),
    }


def plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


_TEST = pa.struct([("statistic", pa.float64()), ("pvalue", pa.float64())])

_QUANTILES = (np.arange(1000) + 0.5) / 1000
"""Where two distributions are read off for the Wasserstein distance."""

DRIFT = pa.schema(
    [
        ("window", SPAN), ("window_cmp", SPAN), ("drift_type", pa.string()), *KEYS,
        ("count_delta", pa.int64()), ("avg_delta", pa.float64()), ("percent_null_delta", pa.float64()),
        ("percent_zeros_delta", pa.float64()), ("percent_distinct_delta", pa.float64()),
        ("non_null_columns_delta", pa.struct([("added", pa.int64()), ("missing", pa.int64())])),
        ("js_distance", pa.float64()), ("ks_test", _TEST), ("wasserstein_distance", pa.float64()),
        ("population_stability_index", pa.float64()), ("chi_squared_test", _TEST), ("tv_distance", pa.float64()),
        ("l_infinity_distance", pa.float64()),
    ]
)  # fmt: skip
"""Columns of the drift table."""


def drift_table(windows: Sequence[Window], reference: ReferenceRows, granularity: str) -> pa.Table:
    """Each window against the reference (BASELINE) and, with its slices, against the one before (CONSECUTIVE)."""
    rows: list[dict[str, Any]] = []
    before: dict[tuple[str | None, str | None], Window] = {}
    for window in windows:
        key = (window.slice_key, window.slice_value)
        if window.slice_key is None:
            rows += _drift_rows(window, None, reference, granularity)
        previous = before.get(key)
        if previous is not None and previous.end == window.start:
            rows += _drift_rows(window, previous, reference, granularity)
        before[key] = window
    return pa.Table.from_pylist(rows, schema=DRIFT)


def _drift_rows(
    window: Window, other: Window | None, reference: ReferenceRows, granularity: str
) -> list[dict[str, Any]]:
    columns = reference.columns if other is None else other.statistics.columns
    kept = [name for name in window.counts if name in columns and (other is None or name in other.counts)]
    head = {
        "window": span(window),
        "window_cmp": span(other),
        "drift_type": "BASELINE" if other is None else "CONSECUTIVE",
    }
    rows = [{**head, **keys(window, granularity, TABLE), **_table_delta(window, other, columns)}]
    for name in kept:
        bins = reference.bins[name]
        counts = bins.reference if other is None else other.total(name)
        rows.append(
            {
                **head,
                **keys(window, granularity, name),
                **_deltas(window.statistics.columns[name].result(), columns[name].result()),
                **_distances(bins, counts, window.total(name), columns[name], window.statistics.columns[name]),
            }
        )
    return rows


def _table_delta(window: Window, other: Window | None, columns: Mapping[str, ColumnStatistics]) -> dict[str, Any]:
    now = {name for name, column in window.statistics.columns.items() if column.num_rows > column.num_nulls}
    then = {name for name, column in columns.items() if column.num_rows > column.num_nulls}
    shared = set(window.statistics.columns) & set(columns)
    num_rows = other.num_rows if other else max(column.num_rows for column in columns.values())
    return {
        "count_delta": window.num_rows - num_rows,
        "non_null_columns_delta": {"added": len((now - then) & shared), "missing": len((then - now) & shared)},
    }


def _deltas(now: ColumnSummary, then: ColumnSummary) -> dict[str, Any]:
    new, old = percents(now), percents(then)
    deltas = {
        f"{name}_delta": None if new[name] is None or old[name] is None else new[name] - old[name]  # type: ignore[operator]
        for name in ("percent_null", "percent_zeros", "percent_distinct")
    }
    mean = None if now.mean is None or then.mean is None else now.mean - then.mean
    return {"count_delta": now.num_rows - then.num_rows, "avg_delta": mean, **deltas}


def _distances(
    bins: ReferenceBins, then: Any, now: Any, old: ColumnStatistics, new: ColumnStatistics
) -> dict[str, Any]:
    p, q = bins.coarse(then), bins.coarse(now)
    facts: dict[str, Any] = {
        "js_distance": plain(drift.js_distance(p, q)),
        "tv_distance": plain(drift.tv_distance(p, q)),
        "l_infinity_distance": plain(drift.l_infinity_distance(p, q)),
        "population_stability_index": plain(drift.population_stability_index(p, q)),
    }
    if not bins.ordered:
        return {**facts, "chi_squared_test": _test(drift.chi_squared_test(p, q))}
    if old.numbers is None or new.numbers is None or not old.numbers.moments.n or not new.numbers.moments.n:
        return facts
    apart = drift.wasserstein_distance(old.quantiles(_QUANTILES), new.quantiles(_QUANTILES))
    return {**facts, "ks_test": _test(drift.ks_test(then[:-1], now[:-1])), "wasserstein_distance": plain(apart)}


def _test(test: drift.Test) -> dict[str, float] | None:
    return None if math.isnan(test.pvalue) else {"statistic": test.statistic, "pvalue": test.pvalue}

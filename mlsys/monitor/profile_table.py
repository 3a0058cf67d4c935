"""The profile table, with the names and nesting of Databricks' data profiling.

A query written for ``<table>_profile_metrics`` there reads this file with the name changed
in FROM only. Percentages run from 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.evaluate import confusion
from mlsys.evaluate.metrics import Predicted, all_for, measure
from mlsys.monitor.scan import Reference
from mlsys.monitor.windows import Window
from mlsys.predict import class_names
from mlsys.schema import Task
from mlsys.statistics import ColumnStatistics, ColumnSummary

__all__ = ["PROFILE", "profile_table"]

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
    windows: Sequence[Window], reference: Reference, granularity: str, threshold: float | None
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
    name: str, column: ColumnStatistics, window: Window | None, granularity: str, reference: Reference
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
    counts = confusion.matrix(truth, label, len(names))
    return {
        "accuracy_score": plain(confusion.accuracy(counts)),
        "confusion_matrix": [
            {"prediction": names[j], "label": names[i], "count": int(counts[i, j])}
            for i, j in zip(*np.nonzero(counts), strict=True)
        ],
        "precision": _averages(confusion.precision(counts), counts, names),
        "recall": _averages(confusion.recall(counts), counts, names),
        "f1_score": _averages(confusion.f1(counts), counts, names),
        "roc_auc_score": plain(measure("roc_auc", truth, output)),
        "log_loss": plain(measure("log_loss", truth, output)),
    }


def _averages(values: Any, counts: Any, names: Sequence[str]) -> dict[str, Any]:
    return {
        "one_vs_all": [(name, plain(value)) for name, value in zip(names, values.tolist(), strict=True)],
        "macro": plain(confusion.averaged(values, counts, weighted=False)),
        "weighted": plain(confusion.averaged(values, counts, weighted=True)),
    }


def plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)

"""Profile and drift tables with the names and the nesting of Databricks' data profiling.

A query written for ``<table>_profile_metrics`` or ``<table>_drift_metrics`` there reads these
files with only the name in FROM changed. Percentages run from 0 to 100. The statistics of drift
are those of `mlsys.monitor.drift.STATISTICS`, each for the columns that its entry names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.metrics import Predicted, all_for, measure
from mlsys.monitor import drift
from mlsys.monitor.reference import ReferenceBins, ReferenceRows
from mlsys.monitor.stored_tables import EarlierRows, TableParts
from mlsys.monitor.windows import Counts, Window
from mlsys.personal_data import masked
from mlsys.schema import Task
from mlsys.statistics import ColumnStatistics, ColumnSummary

_SPAN = pa.struct([("start", pa.timestamp("us", "UTC")), ("end", pa.timestamp("us", "UTC"))])
_AVERAGES = pa.struct(
    [("one_vs_all", pa.map_(pa.string(), pa.float64())), ("macro", pa.float64()), ("weighted", pa.float64())]
)
_CELL = pa.struct([("prediction", pa.string()), ("label", pa.string()), ("count", pa.int64())])
_DOUBLES = (
    "log_loss", "mean_squared_error", "root_mean_squared_error", "mean_average_error",
    "mean_absolute_percentage_error", "r2_score",
)  # fmt: skip
_KEYS = [
    ("granularity", pa.string()), ("slice_key", pa.string()), ("slice_value", pa.string()),
    ("model_version", pa.string()), ("column_name", pa.string()),
]  # fmt: skip

PROFILE = pa.schema(
    [
        ("window", _SPAN), ("log_type", pa.string()), ("logging_table_commit_version", pa.int64()),
        ("monitor_version", pa.int64()), *_KEYS,
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

_VERSION = 1
"""Version of the contents of these tables, their column ``monitor_version``."""

TABLE = ":table"
"""Name in place of a column in rows about the whole table."""


def profile_table(
    windows: Sequence[Window],
    reference: ReferenceRows,
    granularity: str | None,
    threshold: float | Sequence[float] | None,
    earlier: EarlierRows | None = None,
) -> pa.Table:
    """One row for each window, slice and column, one ``:table`` for the whole, and the reference as BASELINE.

    Rows about columns are taken from an `earlier` table for windows that did not change.
    """
    rows = [_column_profile(name, column, None, granularity, reference) for name, column in reference.columns.items()]
    parts = TableParts(earlier)
    parts.add(pa.Table.from_pylist(rows, schema=PROFILE))
    for window in windows:
        whole = None if earlier is None else earlier.whole(window)
        parts.add(*([whole] if whole else _profile_parts(window, reference, granularity, threshold, earlier)))
    return parts.table()


def _profile_parts(
    window: Window,
    reference: ReferenceRows,
    granularity: str | None,
    threshold: float | Sequence[float] | None,
    earlier: EarlierRows | None,
) -> list[pa.Table]:
    """Rows of a window; those about columns are taken from an `earlier` table where only labels have come."""
    table = {"count": window.num_rows, "non_null_columns": _filled(window.statistics.columns)}
    head = {**_head(window, granularity, TABLE), **table, **_performance(window, reference.task, threshold)}
    known = None if earlier is None else earlier.of(window)
    columns = {name: column for name, column in window.statistics.columns.items() if column.num_rows}
    if known is None:
        rows = [_column_profile(name, column, window, granularity, reference) for name, column in columns.items()]
        return [pa.Table.from_pylist([head, *rows], schema=PROFILE)]
    of_target = [name for name in columns if name == reference.task.target]
    rows = [_column_profile(name, columns[name], window, granularity, reference) for name in of_target]
    parts = [[head], rows]
    first, last = (pa.Table.from_pylist(part, schema=PROFILE) for part in parts)
    return [first, _of_columns(known, reference.task), last]


def _of_columns(rows: pa.Table, task: Task) -> pa.Table:
    """Rows of a window without those about the whole and about the target, which labels may have changed."""
    return rows.filter(pc.invert(pc.is_in(rows["column_name"], pa.array([TABLE, task.target]))))


def _keys(window: Window | None, granularity: str | None, column: str) -> dict[str, Any]:
    return {
        "granularity": granularity,
        "slice_key": window and window.slice_key,
        "slice_value": window and window.slice_value,
        "model_version": window and ", ".join(sorted(window.versions)),
        "column_name": column,
    }


def _interval(window: Window | None) -> dict[str, Any] | None:
    return None if window is None else {"start": window.start, "end": window.end}


def _head(window: Window | None, granularity: str | None, column: str) -> dict[str, Any]:
    kind = "BASELINE" if window is None else "INPUT"
    head = {"window": _interval(window), "log_type": kind, "monitor_version": _VERSION}
    return {**head, **_keys(window, granularity, column)}


def _column_profile(
    name: str, column: ColumnStatistics, window: Window | None, granularity: str | None, reference: ReferenceRows
) -> dict[str, Any]:
    summary = column.result()
    length = summary.max_length is not None
    kind = reference.schema[name].type if name in reference.schema else column.kind.value
    return {
        **_head(window, granularity, name),
        "count": summary.num_rows, "data_type": kind, "num_nulls": summary.num_nulls, "avg": summary.mean,
        "quantiles": list(summary.quantiles) if summary.quantiles else None, "min": summary.min, "max": summary.max,
        "stddev": summary.stddev, "num_zeros": summary.num_zeros, "num_nan": summary.num_nan,
        "min_length": summary.min_length if length else None, "max_length": summary.max_length,
        "avg_length": summary.mean_length, "median": summary.median, "distinct_count": summary.distinct_count,
        "frequent_items": [{"item": masked(str(item)), "count": count} for item, count in summary.frequent_items],
        **_percentages(summary),
    }  # fmt: skip


def _percentages(summary: ColumnSummary) -> dict[str, float | None]:
    n, zeros, distinct = summary.num_rows, summary.num_zeros, summary.distinct_count
    parts = {"nan": summary.num_nan, "null": summary.num_nulls, "zeros": zeros, "distinct": distinct}
    return {f"percent_{name}": None if part is None or not n else 100 * part / n for name, part in parts.items()}


def _filled(columns: Mapping[str, ColumnStatistics]) -> list[str]:
    """Columns with any value."""
    return [name for name, column in columns.items() if column.num_rows > column.num_nulls]


def _performance(window: Window, task: Task, threshold: float | Sequence[float] | None) -> dict[str, Any]:
    """Metrics of the rows that have a label, even where others are still to come."""
    y, output, _ = window.labelled.arrays()
    if not len(y) or task.is_ranking:  # of which these tables have no column
        return {}
    if not task.is_classification:
        known = {m.name: _number(measure(m.name, y, output)) for m in all_for(task.kind)}
        rmse = known["rmse"]
        return {
            "mean_squared_error": None if rmse is None else rmse**2,
            "root_mean_squared_error": rmse,
            "mean_average_error": known["mae"],
            "mean_absolute_percentage_error": known["mape"],
            "r2_score": known["r2"],
        }
    cut = 0.5 if threshold is None else threshold
    if task.labels:
        named = {"accuracy_score": "subset_accuracy", "roc_auc_score": "macro_roc_auc", "log_loss": "mean_log_loss"}
        return {column: _number(measure(name, y, output, cut)) for column, name in named.items()}
    names = task.class_names
    truth = y.astype(np.int64)
    label = Predicted(output, cut).label
    counts = weighted.matrix(truth, label, len(names))
    return {
        "accuracy_score": _number(weighted.accuracy(counts)),
        "confusion_matrix": [
            {"prediction": names[j], "label": names[i], "count": int(counts[i, j])}
            for i, j in zip(*np.nonzero(counts), strict=True)
        ],
        "precision": _averages(weighted.precision(counts), counts, names),
        "recall": _averages(weighted.recall(counts), counts, names),
        "f1_score": _averages(weighted.f1(counts), counts, names),
        "roc_auc_score": _number(measure("roc_auc", truth, output)),
        "log_loss": _number(measure("log_loss", truth, output)),
    }


def _averages(values: Any, counts: Any, names: Sequence[str]) -> dict[str, Any]:
    return {
        "one_vs_all": [(name, _number(value)) for name, value in zip(names, values.tolist(), strict=True)],
        "macro": _number(weighted.averaged(values, counts, weighted=False)),
        "weighted": _number(weighted.averaged(values, counts, weighted=True)),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


_TEST = pa.struct([("statistic", pa.float64()), ("pvalue", pa.float64())])

_QUANTILES = (np.arange(1000) + 0.5) / 1000
"""Probabilities of the quantiles that statistics on ``quantiles`` compare."""

DRIFT = pa.schema(
    [
        ("window", _SPAN), ("window_cmp", _SPAN), ("drift_type", pa.string()), *_KEYS,
        ("count_delta", pa.int64()), ("avg_delta", pa.float64()), ("percent_null_delta", pa.float64()),
        ("percent_zeros_delta", pa.float64()), ("percent_distinct_delta", pa.float64()),
        ("non_null_columns_delta", pa.struct([("added", pa.int64()), ("missing", pa.int64())])),
        *((each.name, _TEST if each.is_test else pa.float64()) for each in drift.STATISTICS),
    ]
)  # fmt: skip
"""Columns of the drift table."""


def drift_table(
    windows: Sequence[Window],
    reference: ReferenceRows,
    granularity: str | None,
    *,
    has_baseline: bool = True,
    earlier: EarlierRows | None = None,
) -> pa.Table:
    """Compare each window with the reference (BASELINE), and windows and slices with those before (CONSECUTIVE).

    Without a baseline, the reference says the bins alone. Rows are taken from an `earlier` table for windows that did
    not change, nor those before them.
    """
    parts = TableParts(earlier)
    parts.add(DRIFT.empty_table())
    before: dict[tuple[str | None, str | None], Window] = {}
    for window in windows:
        key = (window.slice_key, window.slice_value)
        previous = before.get(key)
        before[key] = window
        previous = previous if previous is not None and previous.end == window.start else None
        whole = None if earlier is None else earlier.whole(window, previous)
        if whole is not None:
            parts.add(whole)
            continue
        known = None if earlier is None else earlier.of(window, previous)
        others: list[Window | None] = [None] if window.slice_key is None and has_baseline else []
        others += [] if previous is None else [previous]
        parts.add(*(_drift_part(window, other, reference, granularity, known) for other in others))
    return parts.table()


def _drift_part(
    window: Window, other: Window | None, reference: ReferenceRows, granularity: str | None, known: pa.Table | None
) -> pa.Table:
    """Rows of a comparison; those about columns are `known` where neither window has changed."""
    columns = reference.columns if other is None else other.statistics.columns
    kind = "BASELINE" if other is None else "CONSECUTIVE"
    head = {"window": _interval(window), "window_cmp": _interval(other), "drift_type": kind}
    rows = [{**head, **_keys(window, granularity, TABLE), **_table_delta(window, other, columns)}]
    if known is None:
        shared = [name for name in window.counts if name in columns and (other is None or name in other.counts)]
        rows += [{**head, **_drift_row(name, window, other, reference, granularity)} for name in shared]
        return pa.Table.from_pylist(rows, schema=DRIFT)
    of_columns = known.filter(pc.equal(known["drift_type"], kind))
    parts = pa.Table.from_pylist(rows, schema=DRIFT), _of_columns(of_columns, reference.task)
    return pa.concat_tables(parts)


def _drift_row(
    name: str, window: Window, other: Window | None, reference: ReferenceRows, granularity: str | None
) -> dict[str, Any]:
    """The statistics of one column between two windows, or between a window and the reference."""
    bins, new = reference.bins[name], window.statistics.columns[name]
    old = reference.columns[name] if other is None else other.statistics.columns[name]
    counts = bins.reference if other is None else other.total(name)
    statistics = _statistics(bins, counts, window.total(name), old, new)
    return {**_keys(window, granularity, name), **_deltas(new.result(), old.result()), **statistics}


def _table_delta(window: Window, other: Window | None, columns: Mapping[str, ColumnStatistics]) -> dict[str, Any]:
    now, then = set(_filled(window.statistics.columns)), set(_filled(columns))
    shared = set(window.statistics.columns) & set(columns)
    num_rows = other.num_rows if other else max(column.num_rows for column in columns.values())
    return {
        "count_delta": window.num_rows - num_rows,
        "non_null_columns_delta": {"added": len((now - then) & shared), "missing": len((then - now) & shared)},
    }


def _deltas(now: ColumnSummary, then: ColumnSummary) -> dict[str, Any]:
    new, old = _percentages(now), _percentages(then)
    deltas = {
        f"{name}_delta": None if new[name] is None or old[name] is None else new[name] - old[name]  # type: ignore[operator]
        for name in ("percent_null", "percent_zeros", "percent_distinct")
    }
    mean = None if now.mean is None or then.mean is None else now.mean - then.mean
    return {"count_delta": now.num_rows - then.num_rows, "avg_delta": mean, **deltas}


def _statistics(
    bins: ReferenceBins, then: Counts, now: Counts, old: ColumnStatistics, new: ColumnStatistics
) -> dict[str, Any]:
    """The statistics that apply to a column, between two counts and statistics of it."""
    deciles = bins.coarse(then), bins.coarse(now)
    row: dict[str, Any] = {}
    for statistic in drift.STATISTICS:
        if statistic.columns == ("categorical" if bins.ordered else "numeric"):
            continue
        if statistic.takes == "deciles":
            row[statistic.name] = _plain(statistic.function(*deciles))
        elif all(each.numbers is not None and each.numbers.moments.n for each in (old, new)):
            percentiles = statistic.takes == "percentiles"
            sides = (then[:-1], now[:-1]) if percentiles else (old.quantiles(_QUANTILES), new.quantiles(_QUANTILES))
            row[statistic.name] = _plain(statistic.function(*sides))
    return row


def _plain(value: float | drift.Test) -> float | dict[str, float] | None:
    if isinstance(value, drift.Test):
        return None if math.isnan(value.pvalue) else {"statistic": value.statistic, "pvalue": value.pvalue}
    return _number(value)

"""The drift table, with the names and nesting of Databricks' data profiling.

A query written for ``<table>_drift_metrics`` there reads this file with the name changed
in FROM only. Columns of numbers have ``ks_test`` and ``wasserstein_distance``, columns of
categories ``chi_squared_test``; the distances on fractions are in both, numbers in deciles
of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.monitor import drift
from mlsys.monitor.bins import Bins
from mlsys.monitor.profile_table import KEYS, SPAN, TABLE, keys, percents, plain, span
from mlsys.monitor.scan import Reference
from mlsys.monitor.windows import Window
from mlsys.statistics import ColumnStatistics, ColumnSummary

__all__ = ["DRIFT", "drift_table"]

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


def drift_table(windows: Sequence[Window], reference: Reference, granularity: str) -> pa.Table:
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


def _drift_rows(window: Window, other: Window | None, reference: Reference, granularity: str) -> list[dict[str, Any]]:
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


def _distances(bins: Bins, then: Any, now: Any, old: ColumnStatistics, new: ColumnStatistics) -> dict[str, Any]:
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

"""The profile as JSON: everything that the report shows, and nothing that it computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.dataset import Split
from mlsys.explore import alerts, relation
from mlsys.explore.leakage import Finding
from mlsys.explore.relation import Strength
from mlsys.explore.scan import Profile
from mlsys.schema import Column, Kind, Task
from mlsys.statistics import ColumnStatistics, TableStatistics, encode_target
from mlsys.statistics.values import as_floats, plain

__all__ = ["describe"]

FORMAT = 1

MOST_CATEGORIES = 12
MOST_CLASSES = 6
"""Categories, and classes with a line of their own in a picture."""

CURVE_BINS = 12
Z = 1.96
"""Half width of a 95 % interval in standard errors."""


def describe(
    split: Split,
    task: Task,
    profile: Profile,
    findings: Iterable[Finding],
    *,
    title: str = "",
) -> dict[str, Any]:
    """See `mlsys.explore.describe`."""
    whole, rows = profile.statistics.whole(), profile.sample
    strengths = relation.measure(rows, whole.schema, task)
    y = encode_target(rows[task.target], task)
    repeated = profile.num_duplicates
    columns = [
        _column(whole.schema[name], column, whole, strengths.get(name), _curve(rows, name, whole, y))
        for name, column in whole.features.items()
    ]
    return {
        "format": FORMAT,
        "title": title or task.target,
        "task": task.model_dump(mode="json"),
        "parts": {part: split.num_rows[part] for part in split.num_rows},
        "folds": {str(number): table.num_rows for number, table in profile.statistics.folds.items()},
        "overview": _overview(whole, repeated, rows.num_rows),
        "target": _target(whole),
        "alerts": [alert.to_json() for alert in alerts.find(whole, whole.schema, task, num_duplicates=repeated)],
        "findings": [finding.to_json() for finding in findings],
        "columns": sorted(columns, key=lambda column: -(column["relation"] or {"value": -1.0})["value"]),
    }


def _overview(whole: TableStatistics, repeated: int, num_sampled: int) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for column in whole.features.values():
        kinds[column.kind.value] = kinds.get(column.kind.value, 0) + 1
    cells = whole.num_rows * max(len(whole.features), 1)
    nulls = sum(column.num_nulls for column in whole.features.values())
    return {
        "num_rows": whole.num_rows,
        "num_features": len(whole.features),
        "kinds": kinds,
        "null_fraction": nulls / cells if cells else 0.0,
        "num_duplicates": repeated,
        "num_sampled": num_sampled,
    }


def _target(whole: TableStatistics) -> dict[str, Any]:
    counts = [[value, rows] for value, rows in whole.class_counts().items()] if whole.task.is_classification else []
    return {"name": whole.task.target, "classes": counts, "summary": whole.target.result().to_json()}


def _column(
    column: Column,
    statistics: ColumnStatistics,
    whole: TableStatistics,
    strength: Strength | None,
    curve: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    told = None
    if strength is not None:
        told = {"measure": strength.measure, "value": strength.value, "weakest": strength.weakest}
    return {
        "name": column.name,
        "kind": column.kind.value,
        "type": column.type,
        "unit": column.unit,
        "summary": statistics.result().to_json(),
        "relation": told,
        "correlation": statistics.comoments.correlation if whole.task.kind.value == "regression" else None,
        "categories": _categories(statistics, whole),
        "by_class": _by_class(statistics, whole),
        "curve": curve,
    }


def _categories(statistics: ColumnStatistics, whole: TableStatistics) -> list[dict[str, Any]] | None:
    """The most frequent categories, the rest as one and nulls: rows, and the target over them."""
    if statistics.kind not in {Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT} or statistics.kind is Kind.TEXT:
        return None
    counts, sums = statistics.counts(), statistics.target_sums()
    shown = list(counts)[:MOST_CATEGORIES]
    found = [_category(value, counts[value], sums[value], whole) for value in shown]
    rest = statistics.num_rows - statistics.num_nulls - sum(counts[value] for value in shown)
    if rest > 0:
        others = statistics.target[0] - sum((sums[value] for value in shown), np.zeros(statistics.target.shape[1]))
        found.append(_category("(others)", rest, others, whole))
    if statistics.num_nulls:
        found.append(_category("(null)", statistics.num_nulls, sums[None], whole))
    return found


def _category(value: Any, rows: int, sums: npt.NDArray[np.float64], whole: TableStatistics) -> dict[str, Any]:
    if whole.task.is_classification:
        total = float(sums.sum())
        shares = [float(share) for share in sums / total] if total > 0 else None
        return {"value": value, "rows": rows, "shares": shares, "mean": None}
    return {"value": value, "rows": rows, "shares": None, "mean": float(sums[1] / sums[0]) if sums[0] > 0 else None}


def _by_class(statistics: ColumnStatistics, whole: TableStatistics) -> dict[str, list[float]] | None:
    """Values of each class in the bins of the histogram, for at most six classes."""
    edges = statistics.result().histogram_edges
    classes = whole.task.classes
    if edges is None or not statistics.by_class or len(classes) > MOST_CLASSES:
        return None
    cdf = statistics.class_cdf(edges)
    if cdf is None:
        return None
    counts = np.diff(np.nan_to_num(cdf), axis=1) * statistics.class_rows()[:, None]
    return {str(value): np.round(row, 1).tolist() for value, row in zip(classes, counts, strict=True)}


def _curve(rows: pa.Table, name: str, whole: TableStatistics, y: npt.NDArray[Any]) -> list[dict[str, Any]] | None:
    """Mean of a numeric target, or rate of the positive class, in bins of equal size of a number.

    From the sample, with 95 % intervals of the mean (normal approximation).
    """
    if whole.columns[name].numbers is None or name not in rows.column_names or len(whole.task.classes) > 2:
        return None
    array = plain(rows[name])
    x = np.full(len(array), np.nan)
    x[np.asarray(array.is_valid())] = as_floats(array.drop_null())
    known = np.isfinite(x) & (y >= 0 if whole.task.is_classification else np.isfinite(y))
    x, label = x[known], y[known].astype(np.float64)
    if len(x) < relation.MIN_ROWS:
        return None
    edges = np.unique(np.quantile(x, np.arange(1, CURVE_BINS) / CURVE_BINS))
    cells = np.searchsorted(edges, x, side="left")
    return [_point(x[cells == cell], label[cells == cell]) for cell in np.unique(cells)]


def _point(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> dict[str, Any]:
    mean = float(y.mean())
    half = Z * float(y.std(ddof=1)) / len(y) ** 0.5 if len(y) > 1 else None
    ends = (None, None) if half is None else (mean - half, mean + half)
    return {"x": float(np.median(x)), "rows": len(x), "mean": mean, "low": ends[0], "high": ends[1]}

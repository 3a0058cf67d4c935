"""The profile as JSON: everything that the report shows, and nothing that it computes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsys.dataset import Split
from mlsys.explore import alerts, associations, texts
from mlsys.explore.leakage import Finding
from mlsys.explore.scan import Profile
from mlsys.reports import formats
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import ColumnStatistics, TableStatistics
from mlsys.statistics.images import Images
from mlsys.statistics.joint.tables import Information

__all__ = ["describe"]

FORMAT = 3

MOST_CATEGORIES = 12
"""Categories with a line of their own in a picture."""


def describe(
    split: Split,
    task: Task,
    profile: Profile,
    findings: Iterable[Finding],
    *,
    title: str = "",
) -> dict[str, Any]:
    """See `mlsys.explore.describe`."""
    whole = profile.whole
    joint = profile.joint
    told = joint.information() if joint is not None else {}
    curves = associations.curves(joint, whole.columns) if joint is not None else {}
    repeated = profile.num_duplicates
    columns = [
        _column(whole.schema[name], column, profile, curves.get(name), told.get(name))
        for name, column in whole.features.items()
    ]
    return {
        "format": FORMAT,
        "title": title or task.target,
        "task": task.model_dump(mode="json"),
        "parts": {part: split.num_rows[part] for part in split.num_rows},
        "folds": {str(number): table.num_rows for number, table in profile.statistics.folds.items()},
        "overview": _overview(whole, repeated, profile.sample.num_rows),
        "others": _others(split.schema),
        "target": _target(whole),
        "alerts": [
            alert.to_json() for alert in alerts.find(whole, whole.schema, task, num_duplicates=repeated, joint=joint)
        ],
        "findings": [finding.to_json() for finding in findings],
        "columns": sorted(columns, key=lambda column: -(column["relation"] or {"value": -1.0})["value"]),
        "associations": None if joint is None else associations.matrix(joint),
        "gaps": None if joint is None else associations.gaps(joint),
        "timeline": None if joint is None else associations.timeline(joint),
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


def _others(schema: Schema) -> dict[str, list[str]]:
    """Role → the columns that have it, of those that are neither features nor the target."""
    found: dict[str, list[str]] = {}
    for column in schema:
        if column.role not in {Role.FEATURE, Role.TARGET}:
            found.setdefault(column.role.value, []).append(column.name)
    return found


def _target(whole: TableStatistics) -> dict[str, Any]:
    counts = [[value, rows] for value, rows in whole.class_counts().items()] if whole.task.is_classification else []
    return {"name": whole.task.target, "classes": counts, "summary": whole.target.result().to_json()}


def _column(
    column: Column,
    statistics: ColumnStatistics,
    profile: Profile,
    curve: dict[str, Any] | None,
    information: Information | None,
) -> dict[str, Any]:
    whole, strength = profile.whole, profile.strengths.get(column.name)
    summary = statistics.result()
    told = None
    if strength is not None:
        told = {"measure": strength.measure, "value": strength.value, "weakest": strength.weakest}
    return {
        "name": column.name,
        "kind": column.kind.value,
        "type": column.type,
        "unit": column.unit,
        "summary": summary.to_json(),
        "relation": told,
        "correlation": statistics.comoments.correlation if whole.task.kind.value == "regression" else None,
        "categories": _categories(statistics, whole),
        "by_class": _by_class(column.name, summary.histogram_edges, profile),
        "curve": curve,
        "information": None if information is None else asdict(information),
        "texts": texts.describe(profile.sample, column.name, whole.task) if column.kind is Kind.TEXT else None,
        "thumbnails": None if statistics.images is None else _thumbnails(statistics.images),
    }


def _thumbnails(images: Images) -> list[str]:
    """The pictures kept to look at, PNG in base64."""
    return [base64.b64encode(images.thumbnails[place]).decode() for place in sorted(images.thumbnails)]


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


def _by_class(name: str, edges: Sequence[float] | None, profile: Profile) -> dict[str, list[float]] | None:
    """Values of each class in the bins of the histogram, for a few classes."""
    counts = None if edges is None else profile.distributions.counts(name, np.array(edges))
    if counts is None:
        return None
    classes = profile.whole.task.classes
    return {formats.value(value): np.round(row, 1).tolist() for value, row in zip(classes, counts, strict=True)}

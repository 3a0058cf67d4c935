"""Associations of columns with each other and the target, missing values, and time, as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.cluster import hierarchy

from mlsys.schema import Task
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import Floats
from mlsys.statistics.pairwise import PairLayout, PairwiseStatistics
from mlsys.statistics.pairwise.layout import MOST_CATEGORICAL, MOST_LEVELS, MOST_NULLABLE, MOST_NUMBERS
from mlsys.statistics.ranking import Z_95, wilson_interval

MOST_PATTERNS = 12
"""Sets of columns that are missing together, the most frequent ones."""

LEAST_ROWS = 10
"""Rows of a bin below which its mean is not drawn."""


def matrix(pairwise: PairwiseStatistics) -> dict[str, Any]:
    """Write the strength of every pair of columns, and how categories were bounded.

    `values` is square, in the order of `names`: the numbers, then the categories; None where one of the two does not
    vary. `bounded` has the categories of which only the frequent ones have a level of their own: how many, and the
    rows that the others share. In the `order` columns that are alike are neighbours.
    """
    names, strengths = pairwise.associations()
    values = [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in strengths]
    layout = pairwise.layout
    return {
        "names": names,
        "num_numbers": len(layout.numbers),
        "order": _order(strengths),
        "values": values,
        "bounded": _bounded(pairwise),
        "limits": {"numbers": MOST_NUMBERS, "categories": MOST_CATEGORICAL, "levels": MOST_LEVELS},
        "left_out": list(layout.left_out),
    }


def _order(strengths: Floats) -> list[int]:
    """Columns by average linkage, so that those that go together are neighbours.

    Bar-Joseph, Gifford & Jaakkola (2001), "Fast optimal leaf ordering for hierarchical
    clustering", Bioinformatics 17, doi:10.1093/bioinformatics/17.suppl_1.S22.
    """
    away = 1 - np.abs(np.nan_to_num(strengths))
    size = len(away)
    if size < 3:
        return list(range(size))
    apart = away[np.triu_indices(size, 1)]
    tree = hierarchy.optimal_leaf_ordering(hierarchy.average(apart), apart)
    return [int(place) for place in hierarchy.leaves_list(tree)]


def _bounded(pairwise: PairwiseStatistics) -> list[dict[str, Any]]:
    bounded = []
    for position, column in enumerate(pairwise.layout.categories):
        pairs = [(pair, table) for pair, table in pairwise.tables.pairs.items() if position in pair]
        if not pairs:
            continue
        pair, table = pairs[0]
        rows = table.sum(axis=1 - pair.index(position))
        if rows[column.num_levels]:
            share = float(rows[column.num_levels] / max(rows[:-1].sum(), 1))
            bounded.append({"name": column.name, "levels": column.num_levels, "others": round(share, 4)})
    return bounded


def missingness(pairwise: PairwiseStatistics) -> dict[str, Any]:
    """Write the columns with missing values, pairs of them, and the frequent patterns of rows."""
    names, missing = pairwise.layout.nullable, pairwise.missing
    some = [c for c in range(len(names)) if missing.together[c, c]]
    some = sorted(some, key=lambda c: (-missing.together[c, c], names[c]))
    return {
        "num_rows": missing.num_rows,
        "columns": [names[column] for column in some],
        "together": missing.together[np.ix_(some, some)].tolist(),
        "patterns": [{"columns": columns, "rows": n} for columns, n in missing.frequent(names, MOST_PATTERNS)],
        "num_patterns": len(missing.patterns.counts),
        "error": missing.patterns.error,
        "limit": MOST_NULLABLE,
    }


def timeline(pairwise: PairwiseStatistics) -> dict[str, Any] | None:
    """Write the rows and the target in bins of time; None without a time."""
    line, task = pairwise.timeline, pairwise.layout.task
    if line is None or not len(line.rows):
        return None
    return {
        "column": pairwise.layout.time,
        "width_s": line.width_s,
        "starts": [line.start(number) for number in range(len(line.rows))],
        "rows": line.rows.tolist(),
        "target": _series(line.sums, task),
        "num_missing": line.num_missing,
    }


def _series(sums: Floats, task: Task) -> dict[str, dict[str, list[float | None]]]:
    """Mean of a numeric target, or share of classes, with the ends of a 95 % interval."""
    if not task.is_classification:
        return {f"mean {task.target}": _ends([_mean(row) for row in sums])}
    shown = [1] if len(task.classes) == 2 else range(len(task.classes))
    return {str(task.classes[index]): _ends([_share(row, index) for row in sums]) for index in shown}


def _ends(points: list[tuple[float, float, float] | None]) -> dict[str, list[float | None]]:
    names = ("mean", "low", "high")
    return {name: [None if p is None else float(f"{p[end]:.6g}") for p in points] for end, name in enumerate(names)}


def _mean(sums: Floats) -> tuple[float, float, float] | None:
    """Mean and its 95 % interval (normal approximation) from rows, sum and sum of squares."""
    n, total, square = (float(value) for value in sums)
    if n < LEAST_ROWS:
        return None
    mean = total / n
    half = Z_95 * (max(0.0, square - n * mean * mean) / (n - 1) / n) ** 0.5
    return mean, mean - half, mean + half


def _share(counts: Floats, index: int) -> tuple[float, float, float] | None:
    """Share of a class and its 95 % interval."""
    n = float(counts.sum())
    if n < LEAST_ROWS:
        return None
    return float(counts[index]) / n, *wilson_interval(float(counts[index]), n)


def curves(pairwise: PairwiseStatistics, columns: dict[str, ColumnStatistics]) -> dict[str, dict[str, Any]]:
    """Write the target within the bins of each number, and where it is missing, from all rows.

    For a numeric target its mean, for two classes the share of the second; a point stands at
    the median of its bin. Columns of which fewer than two bins can be drawn are left out.
    """
    layout = pairwise.layout
    if len(layout.task.classes) > 2:
        return {}
    drawn = {}
    for position, number in enumerate(layout.numbers):
        if number.name == layout.task.target:
            continue
        is_class = layout.task.is_classification
        sums = pairwise.tables.numbers[position][:, :2].astype(float) if is_class else pairwise.curves[position]
        medians = _medians(columns[number.name], number.edges)
        drawable = [_point(row, x, layout) for row, x in zip(sums[:-1], medians, strict=True) if np.isfinite(x)]
        points = [point for point in drawable if point is not None]
        if len(points) > 1:
            drawn[number.name] = {"points": points, "missing": _point(sums[-1], None, layout)}
    return drawn


def _point(sums: Floats, x: float | None, layout: PairLayout) -> dict[str, Any] | None:
    interval = _share(sums, 1) if layout.task.is_classification else _mean(sums)
    rows = int(sums.sum() if layout.task.is_classification else sums[0])
    if interval is None:
        return None
    mean, low, high = interval
    return {"x": x, "rows": rows, "mean": mean, "low": low, "high": high}


def _medians(column: ColumnStatistics, edges: tuple[float, ...]) -> list[float]:
    """Median of the values between each two edges."""
    if not edges:
        return [float(column.quantiles([0.5])[0])]
    ranks = np.concatenate([[0.0], column.cdf(edges), [1.0]])
    return [float(x) for x in column.quantiles((ranks[:-1] + ranks[1:]) / 2)]

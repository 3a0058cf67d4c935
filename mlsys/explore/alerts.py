"""What is odd about the table, its columns and pairs of them, and what the following steps do about it.

Alerts never stop a run. The action says what happens with no change to the recipe; it can
be overridden by ``features.columns``.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlsys.explore.oddities import SKEWED, Alert, of_column
from mlsys.reports.formats import number, percent
from mlsys.schema import Schema, Task, TaskKind
from mlsys.statistics import ColumnSummary, TableStatistics
from mlsys.statistics.joint import JointStatistics

__all__ = ["find"]

REDUNDANT = 0.98
"""Strength of a pair from which one column all but determines the other: r² = 0.96."""

RARE_ROWS = 20
"""Rows from which a class is not rare however many others there are: a recall on them is known to ±0.22."""

IMBALANCED = 0.1
"""Share of the rarest class of two; with more classes, this fraction of an equal share."""


def find(
    statistics: TableStatistics,
    schema: Schema,
    task: Task,
    *,
    num_duplicates: int = 0,
    joint: JointStatistics | None = None,
) -> list[Alert]:
    """Alerts about the table, then about each feature in the order of the schema, then about pairs.

    Parameters
    ----------
    num_duplicates
        Training rows that repeat an earlier one on all features and the target.
    joint
        What columns say of each other, where it was counted.
    """
    found = [*_duplicates(statistics.num_rows, num_duplicates), *_target(statistics, task)]
    features = statistics.features
    for column in schema.features:
        if column.name in features:
            found += of_column(column, statistics.columns[column.name])
    return found if joint is None else [*found, *_redundant(joint, task)]


def _duplicates(num_rows: int, repeated: int) -> Iterator[Alert]:
    if num_rows and repeated / num_rows > 0.001:
        detail = f"{repeated:,} of {num_rows:,} training rows repeat an earlier one ({percent(repeated / num_rows)})"
        yield Alert("duplicates", None, detail, "kept; the leakage scan looks for them in the other parts")


def _target(statistics: TableStatistics, task: Task) -> Iterator[Alert]:
    if not task.is_classification:
        yield from _of_numeric_target(statistics.target.result(), task)
        return
    counts = statistics.class_counts()
    total = sum(counts.values())
    for value, rows in counts.items():
        if rows < min(2 * len(counts), RARE_ROWS) and total > 10 * len(counts):
            detail = f"class {value!r} has {rows:,} of {total:,} training rows"
            yield Alert("rare_class", task.target, detail, "kept; too few rows to learn or to judge it reliably")
    bound = IMBALANCED * (1 if task.kind is TaskKind.BINARY else 2 / len(counts))
    rarest = min(counts, key=lambda value: counts[value])
    if total and counts[rarest] / total < bound:
        detail = f"class {rarest!r} is {percent(counts[rarest] / total)} of the training rows"
        action = (
            "rows are neither dropped nor repeated; models are ranked by a metric that does not depend on the shares"
        )
        if task.kind is TaskKind.BINARY:
            action += ", and the threshold is chosen on validation"
        yield Alert("imbalanced", task.target, detail, action)


def _of_numeric_target(summary: ColumnSummary, task: Task) -> Iterator[Alert]:
    if summary.skewness is not None and abs(summary.skewness) > SKEWED:
        detail = f"skewness {number(summary.skewness)}: a few rows decide the squared error"
        yield Alert(
            "skewed", task.target, detail, "kept as it is; the median absolute error is reported beside the RMSE"
        )


def _redundant(joint: JointStatistics, task: Task) -> Iterator[Alert]:
    """Columns that an earlier one all but determines, each with the one that it goes with best."""
    names, strengths = joint.associations()
    size = len(joint.layout.numbers)
    for later in range(len(names)):
        earlier = [at for at in range(later) if abs(strengths[later, at]) >= REDUNDANT and names[at] != task.target]
        if names[later] == task.target or not earlier:
            continue
        best = max(earlier, key=lambda at: abs(strengths[later, at]))
        measure = "r" if later < size else "η" if best < size else "V"
        detail = f"goes with '{names[best]}': {measure} = {strengths[later, best]:.3f}"
        action = "both kept; trees use either, for a linear model put one under data.ignore"
        yield Alert("redundant", names[later], detail, action)

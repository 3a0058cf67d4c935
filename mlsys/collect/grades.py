"""Check the rows of a ranking before anything is fitted to them: grades, groups, and weights that are those of groups.

A ranking orders the rows of a group, such as the results of a query, by grades: whole numbers from 0, for no use, to
`MAX_GRADE`. The gain of a grade doubles with each, so LightGBM has a table of 31 and XGBoost refuses more than 31.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, errors
from mlsys.dataset import Snapshot
from mlsys.recipe import Recipe
from mlsys.schema import Task, TaskKind
from mlsys.statistics.arrays import numbers_of
from mlsys.statistics.hashing import hash_exactly

MAX_GRADE = 30
"""Largest grade: the gain of the next one is more than LightGBM's table holds."""


MAX_GROUP_ROWS = 10_000
"""Rows of a group at most: LightGBM refuses more, after minutes and with words of its own."""


@dataclass(frozen=True)
class GroupCounts:
    """Labelled rows without a group, groups, those of one row, those of one grade, and those of several weights."""

    ungrouped: int
    groups: int
    single: int
    constant: int
    uneven: int
    largest: int


def check_recipe(recipe: Recipe) -> None:
    """Refuse a ranking whose recipe names no groups.

    Raises
    ------
    RecipeError
        There is no ``data.group``.
    """
    if recipe.task is TaskKind.RANKING and recipe.data.group is None:
        got, hint = "no 'data.group'", "data: {group: query}: the column whose rows of one value are ranked together"
        expected = "the column of the groups that are ranked"
        raise errors.RecipeError.build("recipe: task: ranking", got=got, expected=expected, hint=hint, field="group")


def check_plan(recipe: Recipe) -> None:
    """Refuse a plan that would divide the groups of a ranking.

    Raises
    ------
    RecipeError
        ``train.plan`` asks for the cluster or a stream.
    """
    if recipe.task is TaskKind.RANKING and recipe.train.plan in ("cluster", "stream"):
        got, hint = f"{recipe.train.plan} for task: ranking", "train.plan: task, or leave it out"
        where, expected = "recipe: 'train.plan'", "task: rows of a group are fitted together, in one process"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint, field="plan")


def check_values(target: str, values: Collection[object], *, is_numeric: bool) -> None:
    """Refuse values of the target that are no grades.

    Raises
    ------
    TargetError
        They are no numbers, not whole, negative, or larger than `MAX_GRADE`.
    """
    numbers = [value for value in values if isinstance(value, int | float)] if is_numeric else []
    wrong = [value for value in (numbers if is_numeric else values) if not _is_grade(value)]
    if not wrong:
        return
    shown = ", ".join(repr(value) for value in sorted(wrong, key=str)[:3])
    raise errors.TargetError.build(
        f"collect: target '{target}'",
        got=f"values such as {shown}",
        expected=f"grades, for a ranking: whole numbers from 0, the worst, to {MAX_GRADE}",
        hint=f"data.derive makes grades of it, such as CASE WHEN {target} > 10 THEN 2 WHEN {target} > 0 THEN 1 END",
        field=target,
    )


def _is_grade(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= MAX_GRADE and value == int(value)


def check_groups(snapshot: Snapshot, task: Task) -> GroupCounts:
    """Count the groups of the labelled rows, and refuse those in which there is nothing to rank.

    Raises
    ------
    TargetError
        A row with a grade has no group, no group has two different grades, one has more than `MAX_GROUP_ROWS` rows, or
        rows of a group have different weights.
    """
    counts = cluster.call(count, snapshot, task, threads=1)
    where = f"collect: data.group: column '{task.group}'"
    if counts.ungrouped:
        got, hint = (
            f"no value in {counts.ungrouped:,} rows with a grade",
            "data.derive names one, or makes their grade null",
        )
        raise errors.TargetError.build(where, got=got, expected="the group of each", hint=hint, field=task.group)
    if counts.constant == counts.groups:
        kind = "of one row" if counts.single == counts.groups else "whose rows have one grade"
        got, hint = f"{counts.groups:,} groups {kind}, all of them", "name the column of the query in data.group"
        expected = "groups with different grades: else there is nothing to rank"
        raise errors.TargetError.build(where, got=got, expected=expected, hint=hint, field=task.group)
    if counts.largest > MAX_GROUP_ROWS:
        got, hint = f"a group of {counts.largest:,} rows", "data.derive a group that is narrower, or leave rows out"
        expected = f"groups of at most {MAX_GROUP_ROWS:,} rows"
        raise errors.TargetError.build(where, got=got, expected=expected, hint=hint, field=task.group)
    if counts.uneven:
        got, where = f"{counts.uneven:,} groups of several weights", f"collect: train.weight: column '{task.weight}'"
        hint = "data.derive one of the group, or leave train.weight out"
        raise errors.TargetError.build(
            where, got=got, expected="one weight a group: a ranking counts groups", hint=hint, field=task.weight
        )
    return counts


def count(snapshot: Snapshot, task: Task) -> GroupCounts:
    """Count the groups of the rows with a grade, in this process."""
    names = list(dict.fromkeys([task.target, *task.beside]))
    parts = [_numbers(pq.read_table(path, columns=names), task) for path in snapshot.paths]
    grades, groups, weights, ungrouped = (np.concatenate(each) for each in zip(*parts, strict=True))
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return GroupCounts(
        ungrouped=int(ungrouped.sum()),
        groups=len(sizes),
        single=int((sizes == 1).sum()),
        constant=int((_range(grades, number, len(sizes)) == 0).sum()),
        uneven=int((_range(weights, number, len(sizes)) > 0).sum()),
        largest=int(sizes.max(initial=0)),
    )


def _numbers(table: pa.Table, task: Task) -> tuple[Any, ...]:
    """Grades, hashes of groups and weights of the labelled rows of a table, and those that have no group."""
    grades, groups = numbers_of(table[task.target]), table[str(task.group)]
    weights = np.ones(len(grades)) if task.weight is None else numbers_of(table[task.weight])
    labelled, is_grouped = np.isfinite(grades), np.asarray(groups.is_valid())
    known = labelled & is_grouped
    return grades[known], hash_exactly(groups)[known], weights[known], (labelled & ~is_grouped)[labelled]


def _range(values: np.ndarray, number: np.ndarray, num_groups: int) -> np.ndarray:
    """Difference of the greatest and the least value of each group."""
    least, greatest = np.full(num_groups, np.inf), np.full(num_groups, -np.inf)
    np.minimum.at(least, number, values)
    np.maximum.at(greatest, number, values)
    return np.asarray(greatest - least)


def message(counts: GroupCounts, task: Task) -> str:
    """Say how many groups there are, and how many of them teach nothing."""
    text = f"ranking within {counts.groups:,} groups of '{task.group}', the largest of {counts.largest:,} rows"
    if not counts.constant:
        return text
    single = f" ({counts.single:,} of them have one row)" if counts.single else ""
    return f"{text}; {counts.constant:,} have rows of one grade and teach no order{single}"

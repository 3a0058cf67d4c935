"""The plan of a final fit: one task, workers of Ray Train, or one task that reads the rows again and again."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from mlsys import cluster, models
from mlsys.dataset import Split
from mlsys.models.interface import BlockwiseFamily, DistributedFamily, Family
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.train import placement


def plan(
    split: Split, recipe: Recipe, family: str, width: int | None = None, task: Task | None = None
) -> cluster.ExecutionPlan:
    """Choose between one task and the cluster, on which only some families can be fitted.

    Where the matrix of so many features as `width` is larger than the memory of all machines, one task streams the
    rows, if the family can be fitted so; a linear model streams them from `placement.MOST_WHOLE` on. A ranking and the
    models of labels are fitted by one task, whatever the size.
    """
    num_rows, spread = split.num_rows["train"], models.family(family)
    together = None if task is None else _together(task)
    if together is not None:
        return cluster.ExecutionPlan("task", f"{num_rows:,} rows: {together}")
    if not isinstance(spread, DistributedFamily):
        blocks = None if width is None or task is None else _plan_of_blocks(spread, num_rows, width, task, recipe)
        lone = f"{num_rows:,} rows: {family} is fitted by one task, whatever the size"
        return blocks or cluster.ExecutionPlan("task", lone)
    files = [pq.read_metadata(path) for path in split.paths("train")]
    num_bytes = sum(file.row_group(i).total_byte_size for file in files for i in range(file.num_row_groups))
    chosen = cluster.plan(num_rows, num_bytes, recipe.train.plan)
    if width is None or not spread.streams or recipe.train.plan in ("task", "cluster"):
        return chosen
    needed, most = placement.fit_bytes(num_rows, width), sum(node.memory for node in cluster.nodes())
    size = f"{num_rows:,} rows × {width} features, {needed / 1e9:,.2f} GB as a matrix"
    if recipe.train.plan == "stream":
        return cluster.ExecutionPlan("stream", f"{size}: the recipe asks for it")
    if 0 < most < needed:
        return cluster.ExecutionPlan("stream", f"{size}, which no machine holds: its rows are read again and again")
    return chosen


def _plan_of_blocks(
    family: Family[Any, Any], num_rows: int, width: int, task: Task, recipe: Recipe
) -> cluster.ExecutionPlan | None:
    """One task that reads rows block by block, where there are very many or the recipe asks for it; else None."""
    needed, asked = placement.whole_bytes(num_rows, width), recipe.train.plan
    is_large = needed >= placement.MOST_WHOLE and asked == "auto"
    if not isinstance(family, BlockwiseFamily) or not (is_large or asked == "stream"):
        return None
    lack = family.lacks_blocks(task, width)
    size = f"{num_rows:,} rows × {width} features, {needed / 1e9:,.2f} GB if all are fitted at once"
    if lack is not None:
        return cluster.ExecutionPlan("task", f"{size}, and they are: {lack}")
    why = "the recipe asks for blocks" if asked == "stream" else "they are read block by block, again and again"
    return cluster.ExecutionPlan("stream", f"{size}: {why}")


def _together(task: Task) -> str | None:
    """Why one task fits all rows, whatever their number; None where the rows may be spread."""
    if task.is_ranking:
        return "the rows of a group are ranked together, by one task"
    return f"one task fits the models of {len(task.labels)} labels" if task.labels else None

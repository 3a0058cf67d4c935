"""The time from the first byte to a model, and the part of it that each step has.

The time of a recipe is one: reading, comparing families, searching parameters and the final fit share it. The shares
are upper bounds; what a step leaves goes to the next. The final fit is not timed: the search chooses models whose fits
have room in what is reserved for it, so that the same choice always ends in the same model.
"""

from __future__ import annotations

import math

from mlsys.dataset import Split
from mlsys.recipe import Recipe
from mlsys.recipe.columns import span_us
from mlsys.schema import Task, TaskKind

SHORTEST_S, LONGEST_S = 20.0, 300.0
"""Bounds of the time that is taken where the recipe leaves it open."""

CELLS_A_SECOND = 200_000
"""Training rows × columns that get a second more where the recipe leaves the time open."""

FIT_S = 0.5
"""Seconds that a fit with rounds is given at least, however little time is left."""

SELECTION, SEARCH = 0.25, 0.75
"""Fractions of the time that are over at the end of selection, and of the search."""


READING = 0.5
"""Fraction of the time that reading takes away from learning at most, however long it takes."""


def read(recipe: Recipe, whole: float, before: float) -> float:
    """Seconds of the `whole` budget that are over when learning begins: those of the steps before, half of it at most.

    A budget that follows the size of the rows is for learning alone, and so is one without an end.
    """
    return 0.0 if recipe.budget in {"auto", "none"} else min(before, READING * whole)


def seconds(recipe: Recipe, split: Split, task: Task) -> float:
    """The time of steps 4, 7 and 5: the recipe's, or by the number of training values, times trees a round.

    With auto, 20 s and one more for each 200,000 values, 300 s at most; classes beyond two, and labels, count as often
    as each of them costs a tree. Without a clock it is infinite.
    """
    if recipe.budget == "none":
        return math.inf
    if recipe.budget != "auto":
        return span_us(recipe.budget) / 1e6
    outputs = len(task.labels) or (len(task.classes) if task.kind is TaskKind.MULTICLASS else 1)
    cells = split.num_rows["train"] * len(split.schema.features) * min(outputs, 10)
    return min(LONGEST_S, SHORTEST_S + cells / CELLS_A_SECOND)

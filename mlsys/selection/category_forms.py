"""Categories with the means of the target and their counts beside their codes: a form of LightGBM, where asked for.

Trees split codes in sets of categories, which they choose by the rows of a node alone. The mean of the target over all
rows of a category, and how many there are, say more of a category with few rows in the node. Nothing leaks: the rows of
a fold have the means of the other folds (`mlsys.features.training`).

On six tables this form was better on one by 1.3 % of the loss, the same on four, and worse on one, where categories
say little. So it costs a comparison, and is made only where the recipe asks for it. A pair of categories is one of
them: derive it as a column of its own, ``features.derive: {team: "department || ' ' || division"}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.features import derive
from mlsys.features.auto_plan import MAX_RATES
from mlsys.limits import MAX_CODES
from mlsys.recipe import Recipe
from mlsys.schema import Kind, Schema
from mlsys.statistics import TrainStatistics

FAMILY = "lightgbm"
"""Family that takes the form: the work-horse of the comparison, which has no target means of its own."""

NAME = "means and counts of categories"

TREATMENT = ("codes", "target", "frequency")
"""Operations of a category in this form: what it has anyway, the mean of the target, and the share of the rows."""

FEWEST = 3
"""Categories from which on means say more than the codes: of two of them a split says all."""


def columns(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[str]:
    """Categories, derived ones among them, that are codes in the usual form and of which the recipe says nothing."""
    if not recipe.selection.category_means:
        return []
    whole = statistics.whole()
    if whole.task.labels or (whole.task.is_classification and len(whole.task.classes) > MAX_RATES):
        return []  # of which there is no single mean, or a column for each of very many
    stated = {*recipe.features.columns, *recipe.data.kinds, *recipe.train.monotone}
    free = [each for each in derive.extend(schema, recipe.features.derive).features if each.name not in stated]
    free = [each for each in free if each.kind is Kind.CATEGORICAL and each.name != whole.task.target]
    return [each.name for each in free if FEWEST <= (whole.columns[each.name].num_distinct or 0) <= MAX_CODES]


def values(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> Mapping[str, Any]:
    """Recipe values that make the form; empty where there is no such column, or it is not asked for."""
    names = columns(schema, statistics, recipe)
    stated = recipe.features.model_dump(mode="json")["columns"]
    return {"features.columns": stated | {name: list(TREATMENT) for name in names}} if names else {}


def note(names: Sequence[str]) -> list[str]:
    """Say for which columns the form is compared, and how the recipe settles it."""
    settled = f"features.columns: {{{names[0]}: [{', '.join(TREATMENT)}]}} settles it" if names else ""
    return (
        [f"{FAMILY} compared with target means and counts of {len(names)} categories, too ({settled})"] if names else []
    )

"""One model to fit: everything that a worker needs to know, and no rows.

Parameters of a family as the recipe sets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlsys import models
from mlsys.dataset import Split
from mlsys.features.training import TrainingProgram
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.train import rows

__all__ = ["LANDMARKS", "TrainingJob", "params_of", "params_to_compare", "stated_params"]


@dataclass(frozen=True)
class TrainingJob:
    """A family with its parameters, fitted features, and where the rows are."""

    split: Split
    features: TrainingProgram
    recipe: Recipe
    task: Task
    family: str
    params: models.Params

    @property
    def columns(self) -> list[str]:
        """Columns to read."""
        return rows.columns(self.features, self.split.schema, self.task)

    def matrix(self, table: pa.Table) -> Matrix:
        return rows.matrix(table, self.features, self.task)

    def read(self, part: str) -> Matrix:
        """All rows of a part, in this process."""
        return rows.read(self.split, part, self.features, self.task)

    def fit(self, train: Matrix, validation: Matrix, threads: int) -> Any:
        """Fit in this process; without validation rows nothing stops the boosting."""
        return models.family(self.family).fit(
            train,
            validation if validation.num_rows else None,
            self.task,
            self.params,
            seed=self.recipe.seed,
            threads=threads,
        )


_SHARED = ("rounds", "early_stopping")
"""Fields of the recipe's train section that are parameters of families with rounds."""

LANDMARKS = 2_000
"""Landmarks of a kernel machine that is only compared, with other families or another width."""


def params_of(recipe: Recipe, family: str, values: Mapping[str, Any] | None = None) -> models.Params:
    """Defaults of the family, over them the recipe, over that `values`.

    ``train.params`` count for the family that the recipe names; with ``auto`` a caller that
    knows the family passes them as `values`.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.
    """
    known = models.family(family).Params.model_fields
    shared = {name: getattr(recipe.train, name) for name in _SHARED if name in known}
    own = recipe.train.params if recipe.train.family == family else {}
    return models.params_of(family, {**shared, **own, **(values or {})})


def params_to_compare(params: models.Params) -> models.Params:
    """Parameters whose scores say as well which is better, for a fraction of the cost; the final fit has `params`.

    A fit takes time in proportion to the square of the landmarks.
    """
    given: Any = params
    if "landmarks" not in type(params).model_fields or given.landmarks <= LANDMARKS:
        return params
    return params.model_copy(update={"landmarks": LANDMARKS})


def stated_params(params: models.Params) -> list[str]:
    """What a reader of scores has to know where `to_compare` changed the parameters."""
    given: Any = params
    if params_to_compare(params) is params:
        return []
    return [f"kernel: scores are of fits with {LANDMARKS:,} landmarks; the final one has {given.landmarks:,}"]

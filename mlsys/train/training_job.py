"""A model to fit: its parameters as the recipe sets them, and all else that a worker needs to know, but no rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlsys import models
from mlsys.dataset import Split
from mlsys.features.training import TrainingProgram
from mlsys.models.interface import FamilyParams
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.train import rows


@dataclass(frozen=True)
class TrainingJob:
    """A family with its parameters, fitted features, and where the rows are."""

    split: Split
    features: TrainingProgram
    recipe: Recipe
    task: Task
    family: str
    params: FamilyParams

    @property
    def columns(self) -> list[str]:
        return rows.columns(self.features, self.split.schema, self.task)

    def matrix(self, table: pa.Table) -> Matrix:
        return rows.matrix(table, self.features, self.task)

    def read(self, part: str) -> Matrix:
        """Read all rows of a part, in this process."""
        return rows.read(self.split, part, self.features, self.task)

    def fit(self, train: Matrix, validation: Matrix, threads: int) -> Any:
        """Fit in this process; without validation rows nothing stops the boosting."""
        family, stopping = models.family(self.family), validation if validation.num_rows else None
        return family.fit(train, stopping, self.task, self.params, seed=self.recipe.seed, threads=threads)


def params_of(recipe: Recipe, family: str, values: Mapping[str, Any] | None = None) -> FamilyParams:
    """Parameters of a family: its defaults, over them those of the recipe, over them `values`.

    ``train.params`` count for the family that the recipe names; with ``auto`` a caller that
    knows the family passes them as `values`.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.
    """
    known = models.family(family).params.model_fields
    shared = {name: getattr(recipe.train, name) for name in ("rounds", "early_stopping") if name in known}
    own = recipe.train.params if recipe.train.family == family else {}
    return models.params_of(family, {**shared, **own, **(values or {})})

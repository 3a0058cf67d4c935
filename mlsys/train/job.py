"""One model to fit: everything that a worker needs to know, and no rows."""

from __future__ import annotations

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

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
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

"""The baseline: what can be said without looking at a row.

Classes in their frequency in training, or the mean of the target. A model that does not
beat it has learned nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from mlsys.models import Params as _Params
from mlsys.models import Progress
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import read_facts, write_facts
from mlsys.models.search_space import Domain
from mlsys.schema import Task

NAME = "dummy"
ENCODING = "none"
COMPLEXITY = 0


class Params(_Params):
    """There is nothing to choose."""


class Dummy(BaseModel):
    """`prior`: a probability a class, or one number, the mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prior: tuple[float, ...]
    is_classification: bool


def space(task: Task) -> dict[str, Domain]:  # noqa: ARG001
    """Nothing to search."""
    return {}


def fit(
    train: Matrix,
    validation: Matrix | None,  # noqa: ARG001
    task: Task,
    params: Params,  # noqa: ARG001
    *,
    seed: int,  # noqa: ARG001
    threads: int,  # noqa: ARG001
    progress: Progress | None = None,  # noqa: ARG001
) -> Dummy:
    """Frequencies of the classes, or the mean of the target."""
    if not task.is_classification:
        return Dummy(prior=(float(np.mean(train.y)),), is_classification=False)
    counts = np.bincount(train.y.astype(np.int64), minlength=len(task.classes))
    return Dummy(prior=tuple((counts / counts.sum()).tolist()), is_classification=True)


def predict(model: Dummy, X: np.ndarray) -> np.ndarray:
    """The same answer for every row."""
    if model.is_classification:
        return np.tile(np.array(model.prior), (X.shape[0], 1))
    return np.full(X.shape[0], model.prior[0])


def save(model: Dummy, folder: Path) -> None:
    """Write ``dummy.json``."""
    write_facts(folder / "dummy.json", model)


def load(folder: Path) -> Dummy:
    """Read ``dummy.json``."""
    return read_facts(folder / "dummy.json", Dummy)

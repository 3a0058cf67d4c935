"""Model families: one a file, the same names in each.

A family module has ``NAME``, ``ENCODING`` (what its feature plan must give: ``codes``,
``dense`` or ``none``), ``COMPLEXITY`` (order in which a tie is broken, simplest first),
``Params`` (frozen pydantic model), ``space(task)``, ``fit``, ``predict``, ``save`` and
``load``. `Family` writes these down as a protocol, ``tests/contracts`` as tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mlsys import errors
from mlsys.models.matrix import Matrix
from mlsys.models.search_space import Domain
from mlsys.schema import Task

__all__ = ["FAMILIES", "Family", "Params", "Progress", "family", "params_of"]

FAMILIES = {
    "dummy": "mlsys.models.dummy",
    "linear": "mlsys.models.linear",
    "forest": "mlsys.models.forest",
    "kernel": "mlsys.models.kernel",
    "xgboost": "mlsys.models.boosting",
}
"""Module of each family; imported by :func:`family` when it is asked for."""

Progress = Callable[[int, np.ndarray], None]
"""Called as ``progress(round, predictions of the validation rows)`` by families that have rounds."""


class Params(BaseModel):
    """Base of the families' parameters: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Family(Protocol):
    """What a family module gives."""

    NAME: str
    ENCODING: Literal["codes", "dense", "none"]
    COMPLEXITY: int
    Params: type[Params]

    def space(self, task: Task) -> dict[str, Domain]:
        """Domain of each parameter that is worth searching."""

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: Any,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
    ) -> Any:
        """Fit a model; `validation` rows only say when to stop."""

    def predict(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Float64 predictions: (n,) values, or (n, classes) probabilities in the order of `Task.classes`.

        A row's result has the same bits whatever rows are predicted beside it.
        """

    def save(self, model: Any, folder: Path) -> None:
        """Write the model in formats that run no code when read; same model, same bytes."""

    def load(self, folder: Path) -> Any:
        """Read what `save` wrote; a `BundleError` for anything else."""


def family(name: str) -> Family:
    """The module of a family.

    Raises
    ------
    RecipeError
        There is no such family.
    """
    if name not in FAMILIES:
        raise errors.RecipeError.build(
            f"models: no family '{name}'",
            got=name,
            expected="a model family",
            hint=errors.did_you_mean(name, FAMILIES),
            field=name,
        )
    return cast("Family", importlib.import_module(FAMILIES[name]))


def params_of(name: str, values: Mapping[str, Any]) -> Params:
    """Checked parameters of a family; what `values` does not name has its default.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.

    Examples
    --------
    >>> params_of("linear", {"l2": 10}).l2
    10.0
    """
    model = family(name).Params
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    path = ".".join(["train", "params", *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        raise errors.RecipeError.unknown_key(path, str(fault["loc"][-1]), model.model_fields)
    raise errors.RecipeError.build(
        f"recipe: '{path}' of family {name}", got=repr(fault["input"]), expected=fault["msg"], field=path
    )

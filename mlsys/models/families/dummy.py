"""The baseline: the same answer for every row, whatever it holds.

The frequencies of the classes in training; of a number, the constant that is best by the loss: the mean by squares and
by the deviances of Poisson, Tweedie and gamma, the median by absolute errors, a quantile by its pinball loss, the mean
of signed logarithms by squares of those. A model that does not beat it has learned nothing.

Of a forecast it is the seasonal-naive one: the feature that the task names, and the constant where that is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mlsys.models.contributions import Contributions, constant
from mlsys.models.interface import Family, FamilyParams
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import ModelFacts, read_facts, write_facts
from mlsys.schema import TargetLoss, Task
from mlsys.statistics import tails


class DummyParams(FamilyParams):
    """The loss that the constant is best by; of classes there is nothing to choose."""

    loss: Literal["squared", "absolute", "log"] = Field(
        "squared", description="loss of a number where the recipe's own `loss` names none"
    )


class Dummy(ModelFacts):
    """The answer: `prior` holds a probability a class, or the mean alone.

    `naive` is the place of the feature that is the answer where it is not missing; None without one.
    """

    prior: tuple[float, ...]
    is_classification: bool
    naive: int | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said: files of dummies that are constants stay as they were."""
        return {key: value for key, value in handler(self).items() if value is not None}


class DummyFamily(Family[DummyParams, Dummy]):
    """The family that looks at no feature, or at the naive forecast alone."""

    name = "dummy"
    encoding = "none"
    complexity = 0
    params = DummyParams
    losses = frozenset({"quantile", "poisson", "tweedie", "gamma"})
    takes_weights = True
    monotone = frozenset({*losses, "squared", "binary"})
    min_coordinates = 0
    explains = True

    def fit(self, train: Matrix, validation: Matrix | None, task: Task, params: DummyParams, **_: Any) -> Dummy:
        """Count the classes, or take the best constant."""
        if not task.is_classification:
            prior = _constant(train.y, train.weight, task.loss or params.loss)
            naive = None if task.forecast is None else task.forecast.naive
            place = train.names.index(naive) if naive in train.names else None
            return Dummy(prior=(prior,), is_classification=False, naive=place)
        counts = np.bincount(train.y.astype(np.int64), train.weight, minlength=len(task.classes))
        return Dummy(prior=tuple((counts / counts.sum()).tolist()), is_classification=True)

    def predict(self, model: Dummy, X: np.ndarray) -> np.ndarray:
        """Repeat the answer for every row."""
        if model.is_classification:
            return np.tile(np.array(model.prior), (X.shape[0], 1))
        if model.naive is None:
            return np.full(X.shape[0], model.prior[0])
        naive = X[:, model.naive].astype(np.float64)
        return np.where(np.isfinite(naive), naive, model.prior[0])

    def contributions(self, model: Dummy, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """No feature contributes, but to a naive forecast the one that it is."""
        own = constant(
            np.array(model.prior)[outputs], X.shape[1], "probability" if model.is_classification else "value"
        )
        if model.naive is not None:
            own.values[:, model.naive] = self.predict(model, X) - own.base
        return own

    def save(self, model: Dummy, folder: Path) -> None:
        """Write the answer as ``dummy.json``."""
        write_facts(folder / "dummy.json", model)

    def load(self, folder: Path) -> Dummy:
        """Read the answer from ``dummy.json``."""
        return read_facts(folder / "dummy.json", Dummy)


FAMILY = DummyFamily()


def _constant(y: np.ndarray, weight: np.ndarray | None, loss: TargetLoss | str) -> float:
    if isinstance(loss, TargetLoss) and loss.name == "quantile":
        return float(np.quantile(y, loss.level, weights=weight, method="inverted_cdf"))
    if loss == "squared" or isinstance(loss, TargetLoss):
        return _mean(y, weight)
    if loss == "absolute":
        return float(np.median(y) if weight is None else np.quantile(y, 0.5, weights=weight, method="inverted_cdf"))
    return float(tails.signed_exp(np.asarray(_mean(tails.signed_log(y), weight))))


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.mean(values) if weight is None else np.average(values, weights=weight))

"""Linear models: logistic and ridge regression, fitted by scikit-learn, predicted by us.

Features are centred and scaled by their training mean and standard deviation, coordinates of
an embedding only centred; a missing value stands at the mean and so adds nothing. Prediction
is our own arithmetic in a fixed order (see ``links``), needs no scikit-learn, and gives a row
the same bits in any batch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mlsys.models import Params as _Params
from mlsys.models import Progress
from mlsys.models.links import among_all, ordered_scores, probabilities
from mlsys.models.matrix import Matrix, check_width
from mlsys.models.model_files import damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.models.ridge_loo import centre_and_scale, standardised
from mlsys.models.search_space import Domain, Uniform
from mlsys.schema import Task

NAME = "linear"
ENCODING = "dense"
COMPLEXITY = 1


class Params(_Params):
    """Parameters of the linear family."""

    l2: float = Field(1.0, gt=0, description="weight of the squared coefficients against the summed loss of all rows")
    iterations: int = Field(500, ge=1, description="steps of the logistic solver (L-BFGS) at most")


class LinearFacts(BaseModel):
    """What a reader of the bundle may want to know; `classes` is 0 for regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int
    present: tuple[int, ...]
    converged: bool


@dataclass(frozen=True)
class Linear:
    """score = intercept + Σ coefficient · (x - centre) / scale, one score an output.

    `present` are the classes that training rows had; another class has probability 0.
    """

    facts: LinearFacts
    centre: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray
    intercept: np.ndarray


def space(task: Task) -> dict[str, Domain]:  # noqa: ARG001
    """The one parameter, the penalty."""
    return {"l2": Uniform(1e-3, 1e4, log=True)}


def fit(
    train: Matrix,
    validation: Matrix | None,  # noqa: ARG001
    task: Task,
    params: Params,
    *,
    seed: int,  # noqa: ARG001
    threads: int,  # noqa: ARG001
    progress: Progress | None = None,  # noqa: ARG001
) -> Linear:
    """Fit on `train`; both solvers are deterministic, so `seed` has nothing to do."""
    centre, scale = centre_and_scale(train.X, train.types)
    standard_X = standardised(train.X, centre, scale)
    if not task.is_classification:
        coefficient, intercept = _ridge(standard_X, train.y, params)
        facts = LinearFacts(classes=0, present=(), converged=True)
        return Linear(facts, centre, scale, coefficient, intercept)
    present = tuple(np.unique(train.y.astype(np.int64)).tolist())
    if len(present) == 1:
        coefficient, intercept, converged = np.zeros((train.num_features, 1)), np.zeros(1), True
    else:
        coefficient, intercept, converged = _logistic(standard_X, train.y, params)
    return Linear(
        LinearFacts(classes=len(task.classes), present=present, converged=converged),
        centre,
        scale,
        coefficient,
        intercept,
    )


def predict(model: Linear, X: np.ndarray) -> np.ndarray:
    """Values, or probabilities by the logistic function or softmax."""
    check_width(X, model.centre.size, NAME)
    scores = ordered_scores(standardised(X, model.centre, model.scale), model.coefficient, model.intercept)
    if model.facts.classes == 0:
        return np.ascontiguousarray(scores[:, 0])
    found = probabilities(scores) if len(model.facts.present) > 1 else np.ones((X.shape[0], 1))
    return among_all(found, model.facts.present, model.facts.classes)


def save(model: Linear, folder: Path) -> None:
    """Write ``linear.json`` and the coefficients, ``linear.npz``."""
    write_facts(folder / "linear.json", model.facts)
    arrays = {name: getattr(model, name) for name in ("centre", "scale", "coefficient", "intercept")}
    write_arrays(folder / "linear.npz", arrays)


def load(folder: Path) -> Linear:
    """Read ``linear.json`` and ``linear.npz``."""
    facts = read_facts(folder / "linear.json", LinearFacts)
    file = folder / "linear.npz"
    a = read_arrays(
        file, {"centre": ("<f8", 1), "scale": ("<f8", 1), "coefficient": ("<f8", 2), "intercept": ("<f8", 1)}
    )
    model = Linear(facts, **a)
    width = model.centre.size
    if model.scale.size != width or model.coefficient.shape != (width, model.intercept.size):
        raise damaged(file, str({name: array.shape for name, array in a.items()}), "arrays of one width")
    return model


def _ridge(standard_X: np.ndarray, y: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    solved = Ridge(alpha=params.l2, solver="cholesky").fit(standard_X, y)
    return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)])


def _logistic(standard_X: np.ndarray, y: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=1 / params.l2, max_iter=params.iterations)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.fit(standard_X, y.astype(np.int64))
    missed = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    for other in (w for w in caught if w not in missed):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return np.ascontiguousarray(solver.coef_.T), np.asarray(solver.intercept_, dtype=np.float64), not missed

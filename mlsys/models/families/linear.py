"""Linear models: logistic, ridge and robust regression, fitted by scikit-learn, predicted by us.

Features are centred and scaled by their training mean and standard deviation, coordinates of
an embedding only centred; a missing value stands at the mean and so adds nothing. Prediction
is our own arithmetic in a fixed order (`mlsys.models.matrix`), needs no scikit-learn, and gives a row
the same bits in any batch.

Where absolute errors are asked for, the loss is Huber's, minimised by reweighted least squares: Huber (1981),
"Robust Statistics", section 7.8, doi:10.1002/0471725250; Holland & Welsch (1977), Communications in Statistics A6(9).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mlsys.models.interface import Domain, Family, FamilyParams, Uniform
from mlsys.models.matrix import Matrix, centre_and_scale, check_width, ordered_scores, outputs, standardised
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.schema import Task

_ARRAYS = {"centre": ("<f8", 1), "scale": ("<f8", 1), "coefficient": ("<f8", 2), "intercept": ("<f8", 1)}


class LinearParams(FamilyParams):
    """Parameters of the linear family."""

    l2: float = Field(1.0, gt=0, description="weight of the squared coefficients against the summed loss of all rows")
    iterations: int = Field(500, ge=1, description="steps of the logistic solver (L-BFGS) at most")
    loss: Literal["squared", "absolute"] = Field(
        "squared", description="loss of a number; absolute takes Huber's, which grows with the distance beyond the bulk"
    )


class LinearFacts(ModelFacts):
    """Facts beside the arrays: classes (0 for regression), those in training, whether the solver converged."""

    classes: int
    present: tuple[int, ...]
    converged: bool


@dataclass(frozen=True)
class Linear:
    """A linear model: score = intercept + Σ coefficient · (x - centre) / scale, one score an output.

    `present` are the classes that training rows had; another class has probability 0.
    """

    facts: LinearFacts
    centre: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray
    intercept: np.ndarray


class LinearFamily(Family[LinearParams, Linear]):
    """Ridge regression for numbers, multinomial logistic regression for classes."""

    name = "linear"
    encoding = "dense"
    complexity = 1
    params = LinearParams
    min_coordinates = 0
    libraries = ("scikit-learn",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the penalty, the one parameter that matters."""
        return {"l2": Uniform(1e-3, 1e4, log=True)}

    def fit(self, train: Matrix, validation: Matrix | None, task: Task, params: LinearParams, **_: Any) -> Linear:
        """Fit on `train`; both solvers are deterministic, so `seed` has nothing to do."""
        centre, scale = centre_and_scale(train.X, train.types)
        standard_X = standardised(train.X, centre, scale)
        present = tuple(np.unique(train.y.astype(np.int64)).tolist()) if task.is_classification else ()
        converged = True
        if not task.is_classification and params.loss == "absolute":
            coefficient, intercept, converged = _huber(standard_X, train.y, params)
        elif not task.is_classification:
            coefficient, intercept = _ridge(standard_X, train.y, params)
        elif len(present) == 1:
            coefficient, intercept = np.zeros((train.num_features, 1)), np.zeros(1)
        else:
            coefficient, intercept, converged = _logistic(standard_X, train.y, params)
        facts = LinearFacts(classes=len(task.classes), present=present, converged=converged)
        return Linear(facts, centre, scale, coefficient, intercept)

    def predict(self, model: Linear, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by the logistic function or softmax."""
        check_width(X, model.centre.size, self.name)
        scores = ordered_scores(standardised(X, model.centre, model.scale), model.coefficient, model.intercept)
        return outputs(scores, model.facts.present, model.facts.classes)

    def save(self, model: Linear, folder: Path) -> None:
        """Write ``linear.json`` and the coefficients, ``linear.npz``."""
        write_facts(folder / "linear.json", model.facts)
        write_arrays(folder / "linear.npz", {name: getattr(model, name) for name in _ARRAYS})

    def load(self, folder: Path) -> Linear:
        """Read ``linear.json`` and ``linear.npz``, whose arrays have to be of one width."""
        facts = read_facts(folder / "linear.json", LinearFacts)
        file = folder / "linear.npz"
        model = Linear(facts, **read_arrays(file, _ARRAYS))
        width = model.centre.size
        if model.scale.size != width or model.coefficient.shape != (width, model.intercept.size):
            raise damaged(file, str({name: getattr(model, name).shape for name in _ARRAYS}), "arrays of one width")
        return model


FAMILY = LinearFamily()


def _ridge(standard_X: np.ndarray, y: np.ndarray, params: LinearParams) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    solved = Ridge(alpha=params.l2, solver="cholesky").fit(standard_X, y)
    return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)])


HUBER = 1.345
"""Residuals, in robust standard deviations, up to which Huber's loss is a square: 95 % of the efficiency of squares
where residuals are normal."""

REWEIGHTINGS = 30
"""Weighted fits at most; the coefficients mostly stand still after ten."""


def _huber(standard_X: np.ndarray, y: np.ndarray, params: LinearParams) -> tuple[np.ndarray, np.ndarray, bool]:
    """Minimise Huber's loss by least squares with weights: 1 for a small residual, less in proportion for a large."""
    from sklearn.linear_model import Ridge

    weight, before = np.ones(len(y)), np.zeros(standard_X.shape[1] + 1)
    for _ in range(REWEIGHTINGS):
        solved = Ridge(alpha=params.l2, solver="cholesky").fit(standard_X, y, sample_weight=weight)
        now = np.append(solved.coef_, solved.intercept_)
        if np.allclose(now, before, rtol=1e-6, atol=1e-9 * float(np.abs(now).max(initial=0.0))):
            return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)]), True
        residuals = np.abs(y - solved.predict(standard_X))
        limit = HUBER * float(np.median(residuals)) / 0.6745 or float(residuals.mean()) or 1.0
        weight, before = np.minimum(1.0, limit / np.maximum(residuals, limit)), now
    return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)]), False


def _logistic(standard_X: np.ndarray, y: np.ndarray, params: LinearParams) -> tuple[np.ndarray, np.ndarray, bool]:
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

"""Linear models: logistic, ridge, robust, quantile and log-linear regression, fitted by scikit-learn, predicted by us.

Features are centred and scaled by their training mean and standard deviation, coordinates of
an embedding only centred; a missing value stands at the mean and so adds nothing. Prediction
is our own arithmetic in a fixed order (`mlsys.models.matrix`), needs no scikit-learn, and gives a row
the same bits in any batch.

Where absolute errors are asked for, the loss is Huber's, minimised by reweighted least squares: Huber (1981),
"Robust Statistics", section 7.8, doi:10.1002/0471725250; Holland & Welsch (1977), Communications in Statistics A6(9).
`mlsys.models.linear_losses` fits quantiles, and the means of counts and amounts, which are exponentials of scores.
`mlsys.models.linear_blocks` fits rows of which memory holds a block at a time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mlsys import errors
from mlsys.models import linear_blocks, linear_losses
from mlsys.models.contributions import Contributions, Scale, constant
from mlsys.models.deadline import Deadline
from mlsys.models.interface import BlockwiseFamily, Domain, FamilyParams, Uniform
from mlsys.models.matrix import (
    Matrix,
    centre_and_scale,
    check_width,
    exponential,
    ordered_scores,
    outputs,
    standardised,
)
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.schema import Task

_ARRAYS = {"centre": ("<f8", 1), "scale": ("<f8", 1), "coefficient": ("<f8", 2), "intercept": ("<f8", 1)}


class LinearParams(FamilyParams):
    """Parameters of the linear family."""

    l2: float = Field(1.0, gt=0, description="weight of the squared coefficients against the summed loss of all rows")
    iterations: int = Field(500, ge=1, description="steps of an iterative solver at most")
    loss: Literal["squared", "absolute"] = Field(
        "squared",
        description="loss of a number where the recipe's own `loss` names none; absolute takes Huber's, which grows "
        "with the distance beyond the bulk",
    )


class LinearFacts(ModelFacts):
    """Facts beside the arrays: classes (0 for regression), those in training, whether the solver converged.

    `terms` are runs of features that are terms of texts, first and one beyond the last; they are neither centred nor
    scaled, and products are taken over those that are not zero. With `logs` scores are logarithms of values, and are
    kept within these limits, the least and the largest score of the training rows: an exponential of what lies beyond
    them would be any number.
    """

    classes: int
    present: tuple[int, ...]
    converged: bool
    terms: tuple[tuple[int, int], ...] = ()
    logs: tuple[float, float] | None = None

    @model_serializer(mode="wrap")
    def _without_logs(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the limits out where there are none: files of other models stay as they were."""
        facts: dict[str, Any] = handler(self)
        return {key: value for key, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Linear:
    """A linear model: score = intercept + Σ coefficient · (x - centre) / scale, one score an output.

    `present` are the classes that training rows had; another class has probability 0. What the time of the fit has
    `cut` is not stored.
    """

    facts: LinearFacts
    centre: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray
    intercept: np.ndarray
    cut: Mapping[str, int] = field(default_factory=dict, compare=False)


class LinearFamily(BlockwiseFamily[LinearParams, Linear]):
    """Ridge regression for numbers, multinomial logistic regression for classes."""

    name = "linear"
    encoding = "dense"
    complexity = 1
    params = LinearParams
    losses = frozenset({"quantile", "poisson", "tweedie", "gamma"})
    takes_weights = True
    min_coordinates = 0
    explains = True
    libraries = ("scikit-learn",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the penalty, the one parameter that matters."""
        return {"l2": Uniform(1e-3, 1e4, log=True)}

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: LinearParams,
        *,
        seconds: float | None = None,
        **_: Any,
    ) -> Linear:
        """Fit on `train`; all solvers are deterministic, so `seed` has nothing to do."""
        deadline, terms = Deadline(seconds, "sklearn.linear_model"), _runs(train.types)
        centre, scale, standard_X = _prepared(train, terms)
        present = tuple(np.unique(train.y.astype(np.int64)).tolist()) if task.is_classification else ()
        asked = params.iterations
        params = _affordable(standard_X, params, len(present), deadline, has_loss=task.loss is not None)
        converged = True
        if task.loss is not None:
            solve = linear_losses.log_linear if task.loss.has_log_link else linear_losses.quantile
            how = train.weight, task.loss, params.l2, params.iterations
            coefficient, intercept, converged = solve(standard_X, train.y, *how)
        elif not task.is_classification and params.loss == "absolute":
            coefficient, intercept, converged = _huber(standard_X, train.y, train.weight, params)
        elif not task.is_classification:
            coefficient, intercept, converged = _ridge(standard_X, train.y, train.weight, params)
        elif len(present) == 1:
            coefficient, intercept = np.zeros((train.num_features, 1)), np.zeros(1)
        else:
            coefficient, intercept, converged = _logistic(standard_X, train.y, train.weight, params)
        facts = LinearFacts(classes=len(task.classes), present=present, converged=converged, terms=terms)
        is_as_asked = _is_at_once(standard_X, params.iterations) == _is_at_once(standard_X, asked)
        cut = {} if converged and is_as_asked else {"iterations": params.iterations}
        cut = {} if params.iterations == asked else cut
        model = Linear(facts, centre, scale, coefficient, intercept, cut)
        if task.loss is None or not task.loss.has_log_link:
            return model
        logs = _scores(model, train.X)
        return replace(model, facts=facts.model_copy(update={"logs": (float(logs.min()), float(logs.max()))}))

    def lacks_blocks(self, task: Task, width: int) -> str | None:
        """Say why all rows are needed at once: solvers of other losses, and very many coefficients."""
        if task.loss is not None:
            return f"the solver of {task.loss} takes all rows at once"
        outputs = 1 if len(task.classes) <= 2 else len(task.classes)
        if outputs * (width + 1) > linear_blocks.MOST_PARAMETERS:
            return f"{outputs * (width + 1):,} coefficients are fitted on all rows at once"
        return None

    def fit_by_blocks(self, blocks: Sequence[Matrix], task: Task, params: LinearParams) -> Linear:
        """Fit in passes over the blocks: to centre and scale by, then one for least squares, or one a Newton step.

        Raises
        ------
        TargetError
            No row counts.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):  # products of a block are small, and so are the same on any machine
            return _of_blocks(blocks, task, params)

    def cut(self, model: Linear) -> dict[str, Any]:
        return dict(model.cut)

    def predict(self, model: Linear, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by the logistic function or softmax."""
        check_width(X, model.centre.size, self.name)
        scores, logs = _scores(model, X), model.facts.logs
        if logs is not None:
            return exponential(np.clip(scores, *logs))
        return outputs(scores, model.facts.present, model.facts.classes)

    def contributions(self, model: Linear, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """A coefficient times the standardised feature; the intercept is the score of a row of means without terms."""
        facts = model.facts
        check_width(X, model.centre.size, self.name)
        if facts.classes and len(facts.present) == 1:  # a class that is always the answer
            return constant(np.isin(outputs, facts.present).astype(float), X.shape[1], "probability")
        columns, sign = np.zeros(len(X), np.intp), np.ones(len(X))
        if facts.classes and model.intercept.size > 1:
            columns = np.searchsorted(facts.present, outputs)
        elif facts.classes:  # one score of two classes, that of the second
            sign = np.where(outputs == facts.present[1], 1.0, -1.0)
        standard_X = standardised(X, model.centre, model.scale)
        values = standard_X * model.coefficient.T[columns] * sign[:, None]
        if not facts.classes:
            return Contributions(values, model.intercept[columns], "value" if facts.logs is None else "log")
        scale: Scale = "log_odds" if model.intercept.size == 1 else "score"
        return Contributions(values, model.intercept[columns] * sign, scale)

    def save(self, model: Linear, folder: Path) -> None:
        """Write ``linear.json`` and the coefficients, ``linear.npz``."""
        write_facts(folder / "linear.json", model.facts)
        write_arrays(folder / "linear.npz", {name: getattr(model, name) for name in _ARRAYS})

    def load(self, folder: Path) -> Linear:
        """Read ``linear.json`` and ``linear.npz``, whose arrays have to be of one width."""
        facts = read_facts(folder / "linear.json", LinearFacts)
        file = folder / "linear.npz"
        arrays: dict[str, Any] = read_arrays(file, _ARRAYS)
        model = Linear(facts, **arrays)
        width = model.centre.size
        if model.scale.size != width or model.coefficient.shape != (width, model.intercept.size):
            raise damaged(file, str({name: getattr(model, name).shape for name in _ARRAYS}), "arrays of one width")
        return model


FAMILY = LinearFamily()


def _of_blocks(blocks: Sequence[Matrix], task: Task, params: LinearParams) -> Linear:
    known = linear_blocks.moments(blocks, are_classes=task.is_classification)
    if not known.num_rows:
        where, hint = f"train: weights '{task.weight}'", "divide the rows otherwise"
        raise errors.TargetError.build(where, got="0 in all rows to fit on", expected="rows that count", hint=hint)
    rows, present = linear_blocks.StandardBlocks(blocks, known.centre, known.scale), known.present
    coefficient, intercept, converged = np.zeros((rows.width, 1)), np.zeros(1), True
    if not task.is_classification and params.loss == "absolute":
        steps = min(REWEIGHTINGS, params.iterations)
        coefficient, intercept, converged = linear_blocks.huber(rows, params.l2, steps, _huber_limit)
    elif not task.is_classification:
        coefficient, intercept, converged = linear_blocks.least_squares(rows, params.l2)
    elif len(present) > 1:
        coefficient, intercept, converged = linear_blocks.logistic(rows, present, params.l2, params.iterations)
    terms = _runs(known.types)
    facts = LinearFacts(classes=len(task.classes), present=present, converged=converged, terms=terms)
    return Linear(facts, known.centre, known.scale, coefficient, intercept)


def _runs(types: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Runs of features that are terms of texts, first and one beyond the last."""
    edges = np.flatnonzero(np.diff([0, *(kind == "t" for kind in types), 0]))
    return tuple((int(first), int(beyond)) for first, beyond in edges.reshape(-1, 2))


def _dense_features(terms: tuple[tuple[int, int], ...], width: int) -> np.ndarray:
    """Mask of the features that are no terms."""
    dense = np.ones(width, bool)
    for first, beyond in terms:
        dense[first:beyond] = False
    return dense


def _prepared(train: Matrix, terms: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray, Any]:
    """Centre, scale and standardised features; with terms as a sparse matrix, in which those stay as they are."""
    if not terms:
        centre, scale = centre_and_scale(train.X, train.types, train.weight)
        return centre, scale, standardised(train.X, centre, scale)
    from scipy.sparse import csr_array, hstack

    dense = _dense_features(terms, train.num_features)
    centre, scale = np.zeros(train.num_features), np.ones(train.num_features)
    types = tuple(kind for kind in train.types if kind != "t")
    centre[dense], scale[dense] = centre_and_scale(train.X[:, dense], types, train.weight)
    parts = [csr_array(standardised(train.X[:, dense], centre[dense], scale[dense]))]
    parts += [csr_array(train.X[:, first:beyond], dtype=np.float64) for first, beyond in terms]
    order = np.concatenate([np.flatnonzero(dense), *(np.arange(*run) for run in terms)])
    return centre, scale, csr_array(hstack(parts, format="csr")[:, np.argsort(order)])


def _scores(model: Linear, X: np.ndarray) -> np.ndarray:
    if not model.facts.terms:
        return ordered_scores(standardised(X, model.centre, model.scale), model.coefficient, model.intercept)
    from scipy.sparse import csr_array

    dense = _dense_features(model.facts.terms, X.shape[1])
    standard_X = standardised(X[:, dense], model.centre[dense], model.scale[dense])
    scores = ordered_scores(standard_X, model.coefficient[dense], model.intercept)
    for first, beyond in model.facts.terms:
        scores = scores + csr_array(X[:, first:beyond], dtype=np.float64) @ model.coefficient[first:beyond]
    return np.asarray(scores)


def _affordable(
    standard_X: Any, params: LinearParams, classes: int, deadline: Deadline, *, has_loss: bool = False
) -> LinearParams:
    """The parameters with as many steps as there is time for, by what a product with the features takes.

    A number takes a fit of least squares, or several: for absolute errors, and where the recipe `has_loss` of its own.
    """
    if not deadline.is_set:
        return params
    outputs, (rows, width) = max(1, classes), standard_X.shape
    step_s = PRODUCTS * deadline.seconds_of(
        lambda: (standard_X @ np.zeros((width, outputs)), standard_X.T @ np.zeros((rows, outputs)))
    )
    steps = deadline.left / step_s
    direct = math.inf if classes else _direct_steps(standard_X)
    fits = REWEIGHTINGS if params.loss == "absolute" and not classes else 1
    fits = linear_losses.STEPS if has_loss else fits
    able = (k for k in range(params.iterations, 0, -1) if min(fits, k) * min(k, direct) <= steps)
    return params.model_copy(update={"iterations": next(able, min(FEWEST_STEPS, params.iterations))})


def _direct_steps(standard_X: Any) -> float:
    """Steps of conjugate gradients that take as long as least squares solved at once; never at once if sparse."""
    return min(standard_X.shape) / DIRECT if isinstance(standard_X, np.ndarray) else math.inf


def _is_at_once(standard_X: Any, iterations: int) -> bool:
    """True if least squares are solved at once: in no more time than so many steps of conjugate gradients take."""
    return iterations >= _direct_steps(standard_X)


def _least_squares(
    standard_X: Any, y: np.ndarray, params: LinearParams, weight: np.ndarray | None = None
) -> tuple[Any, bool]:
    """Solve at once, or by conjugate gradients where that is faster; and whether the solution has been reached."""
    from sklearn.linear_model import Ridge

    at_once = _is_at_once(standard_X, params.iterations)
    solver = Ridge(alpha=params.l2, solver="cholesky" if at_once else "sparse_cg", max_iter=params.iterations)
    solved = solver.fit(standard_X, y, sample_weight=weight)
    if at_once:
        return solved, True
    weight = np.ones(len(y)) if weight is None else weight
    slope = standard_X.T @ (weight * (y - solved.predict(standard_X))) - params.l2 * solved.coef_
    first = standard_X.T @ (weight * (y - np.average(y, weights=weight)))
    return solved, bool(np.linalg.norm(slope) <= GRADIENT * np.linalg.norm(first))


def _ridge(
    standard_X: Any, y: np.ndarray, weight: np.ndarray | None, params: LinearParams
) -> tuple[np.ndarray, np.ndarray, bool]:
    solved, is_solved = _least_squares(standard_X, y, params, weight)
    return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)]), is_solved


DIRECT = 16
"""Features of least squares solved at once, in the time of a step of conjugate gradients: products of matrices use the
cache, products with vectors do not."""

PRODUCTS, FEWEST_STEPS = 2, 10
"""Times of a product with the features that a step takes, and steps that are taken whatever they take."""

GRADIENT = 1e-3
"""Slope that is left where conjugate gradients have ended by themselves, as a part of the first one: tenfold theirs."""

SPARSE_TOLERANCE = 1e-3
"""Largest slope at which the logistic solver stops where terms are features: its last steps move no prediction."""

HUBER = 1.345
"""Residuals, in robust standard deviations, up to which Huber's loss is a square: 95 % of the efficiency of squares
where residuals are normal."""

REWEIGHTINGS = 30
"""Weighted fits at most; the coefficients mostly stand still after ten."""


def _huber(
    standard_X: Any, y: np.ndarray, own: np.ndarray | None, params: LinearParams
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Minimise Huber's loss by least squares with weights: 1 for a small residual, less in proportion for a large."""
    weight, before = np.ones(len(y)) if own is None else own, np.zeros(standard_X.shape[1] + 1)
    for _ in range(min(REWEIGHTINGS, params.iterations)):
        solved, is_solved = _least_squares(standard_X, y, params, weight)
        now = np.append(solved.coef_, solved.intercept_)
        if np.allclose(now, before, rtol=1e-6, atol=1e-9 * float(np.abs(now).max(initial=0.0))):
            return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)]), is_solved
        residuals = np.abs(y - solved.predict(standard_X))
        limit = _huber_limit(residuals, own)
        weight, before = np.minimum(1.0, limit / np.maximum(residuals, limit)), now
        weight = weight if own is None else weight * own
    return np.ascontiguousarray(solved.coef_.reshape(-1, 1)), np.array([float(solved.intercept_)]), False


def _huber_limit(residuals: np.ndarray, weight: np.ndarray | None) -> float:
    """The absolute residual up to which the loss is a square."""
    return HUBER * _median(residuals, weight) / 0.6745 or float(residuals.mean()) or 1.0


def _median(values: np.ndarray, weight: np.ndarray | None) -> float:
    if weight is None:
        return float(np.median(values))
    return float(np.quantile(values, 0.5, weights=weight, method="inverted_cdf"))


def _logistic(
    standard_X: Any, y: np.ndarray, weight: np.ndarray | None, params: LinearParams
) -> tuple[np.ndarray, np.ndarray, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    tolerance = 1e-4 if isinstance(standard_X, np.ndarray) else SPARSE_TOLERANCE
    solver = LogisticRegression(C=1 / params.l2, max_iter=params.iterations, tol=tolerance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.fit(standard_X, y.astype(np.int64), sample_weight=weight)
    missed = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    for other in (w for w in caught if w not in missed):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return np.ascontiguousarray(solver.coef_.T), np.asarray(solver.intercept_, dtype=np.float64), not missed

"""Expected loss of a row given its prediction and the columns that move predictions most, fitted on held-out rows.

The monitor estimates the error of numbers by it before labels are there: direct loss estimation (Guillory et al. 2021,
arXiv:2107.03315, regress the error; Białek et al. 2024, arXiv:2401.08348, the name). The model is additive,

``E[loss | row] = b_0 + sum_j f_j(x_j)``

with f_j linear between quantiles of a number, a constant for each frequent category, and one for null. So the mean over
the rows of a window needs their counts by bin of each column alone, which the monitor keeps anyway. It is fitted by
ridge regression, with the penalty of least generalised cross-validation (Golub, Heath & Wahba 1979, Technometrics
21:215); the intercept has none, so rows like those of the test part are expected to have the loss of the test part. Its
error is that of the delete-a-group jackknife over the units in which rows come: `replicates` are fits without one group
after another.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.evaluate import deviances
from mlsys.evaluate.metrics import METRICS
from mlsys.evaluate.response import LEVELS, OTHER
from mlsys.statistics.arrays import Floats, numbers_of

MIN_ROWS, MAX_COLUMNS, NUM_GROUPS = 200, 12, 20
"""Held-out rows that it needs, columns beside the prediction, and groups of the jackknife."""

MAX_CELLS = 100_000_000
"""Values of all columns together: of very many rows there are fewer columns."""

PENALTIES: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-8, 5))
"""Ridge penalties that are tried, by row."""

SCORE = "score"
"""Column of the prediction, as logs name it."""

LossOfRow = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class MeanLoss:
    """A metric that is a function of the mean of a loss a row, with the derivative of that function."""

    loss: LossOfRow
    after: Callable[[float], float]
    slope: Callable[[float], float]


def mean_loss(name: str) -> MeanLoss | None:
    """The loss behind a metric of numbers; None for a metric that is no mean of one."""
    if name == "rmse":
        return MeanLoss(lambda y, p: (y - p) ** 2, lambda m: float(np.sqrt(m)), lambda m: float(0.5 / np.sqrt(m)))
    if name == "mae":
        return MeanLoss(lambda y, p: np.abs(y - p), float, lambda _: 1.0)
    loss = METRICS[name].loss if name in METRICS else None
    return None if loss is None else MeanLoss(deviances.of_rows(loss), float, lambda _: 1.0)


def columns(response: Mapping[str, Any], num_rows: int) -> list[str]:
    """Columns that move the mean prediction most (`mlsys.evaluate.response`)."""
    known = {name: np.ptp(np.array(entry["output"])) for name, entry in response["columns"].items() if entry["output"]}
    most = min(MAX_COLUMNS, MAX_CELLS // max(num_rows, 1))
    return [name for name in sorted(known, key=lambda name: -known[name]) if known[name] > 0][:most]


def basis_of(column: pa.ChunkedArray, values: Sequence[Any], *, is_numeric: bool) -> Floats:
    """Basis functions of a column's rows, one for each of the `values`, the last of which is null.

    Hats at numbers: 1 at their own, 0 at the others, linear between them and constant beyond. Marks of categories; one
    that is not among the values has that of `OTHER`, if there is one.
    """
    if is_numeric:
        numbers = numbers_of(column)
        missing = np.isnan(numbers)
        hats = [np.where(missing, 0.0, np.interp(numbers, values[:-1], row)) for row in np.eye(len(values) - 1)]
        return np.column_stack([*hats, missing])
    place = {str(value): k for k, value in enumerate(values[:-1])}
    encoded = column.combine_chunks().dictionary_encode()
    of_category = [place.get(str(value), place.get(OTHER, -1)) for value in encoded.dictionary.to_pylist()]
    codes = np.array([*of_category, len(values) - 1])[encoded.indices.fill_null(len(of_category)).to_numpy()]
    return np.asarray(codes[:, np.newaxis] == np.arange(len(values)), np.float64)


def facts(
    y: Floats,
    prediction: Floats,
    names: Sequence[str],
    table: pa.Table,
    response: Mapping[str, Any],
    units: Any | None,
    *,
    numeric: Container[str],
) -> dict[str, Any] | None:
    """Fit the loss model of each of the named metrics that is a mean of losses; None where rows are too few.

    `numeric` are the columns of the table that hold numbers and not categories.

    Returns
    -------
    ``num_rows``; ``columns``: values of each column at which its function is known; ``metrics``: for each metric
    ``coefficients``, the intercept first, ``replicates`` of them, the ``mean`` of the loss, its ``noise``, the standard
    deviation around the model, and ``intraclass``, the correlation of that within units, with ``num_groups``.
    """
    losses = {name: loss for name in names if (loss := mean_loss(name)) is not None}
    if len(y) < MIN_ROWS or not losses:
        return None
    values = {SCORE: [*np.unique(np.quantile(prediction, LEVELS)).tolist(), None]}
    read = [name for name in columns(response, len(y)) if name in table.column_names]
    values |= {name: response["columns"][name]["values"] for name in read}
    of_score = basis_of(pa.chunked_array([pa.array(prediction)]), values[SCORE], is_numeric=True)
    of_columns = [basis_of(table[name], values[name], is_numeric=name in numeric) for name in read]
    X = np.column_stack([np.ones(len(y)), of_score, *of_columns])
    group = np.arange(len(y)) % NUM_GROUPS if units is None else _merged(np.asarray(units))
    own = {name: each.loss(y, prediction) for name, each in losses.items()}
    metrics = {name: _fitted(X, loss, group, units) for name, loss in own.items() if np.isfinite(loss).all()}
    return {"num_rows": len(y), "columns": values, "metrics": metrics}


def _merged(units: Any) -> Any:
    """Consecutive units in at most `NUM_GROUPS` groups."""
    _, number = np.unique(units, return_inverse=True)
    count = int(number.max(initial=0)) + 1
    return number * min(count, NUM_GROUPS) // count


def _fitted(X: Floats, loss: Floats, group: Any, units: Any | None) -> dict[str, Any]:
    """Fit one loss, and again without each group."""
    parts = [(X[group == number], loss[group == number]) for number in np.unique(group)]
    products = [(part.T @ part, part.T @ own, len(own)) for part, own in parts]
    gram, right = sum(each[0] for each in products), sum(each[1] for each in products)
    penalty = _penalty(loss, gram, right)
    coefficients = _solved(gram, right, penalty * len(loss))
    replicates = [
        _solved(gram - own, right - to_loss, penalty * (len(loss) - count)) for own, to_loss, count in products
    ]
    residual = loss - X @ coefficients
    return {
        "coefficients": coefficients.tolist(),
        "replicates": [each.tolist() for each in replicates],
        "mean": float(loss.mean()),
        "noise": float(residual.std()),
        "intraclass": _intraclass(residual, units),
        "penalty": penalty,
    }


def _solved(gram: Floats, right: Floats, penalty: float) -> Floats:
    """Ridge coefficients; the intercept, the first, has no penalty."""
    ridge = np.eye(len(gram)) * penalty
    ridge[0, 0] = 0.0
    return np.asarray(np.linalg.solve(gram + ridge, right))


def _penalty(loss: Floats, gram: Floats, right: Floats) -> float:
    """The penalty a row of least generalised cross-validation, ``n RSS / (n - df)^2``."""
    n, scores = len(loss), []
    for penalty in PENALTIES:
        ridge = np.eye(len(gram)) * penalty * n
        ridge[0, 0] = 0.0
        inverse = np.linalg.inv(gram + ridge)
        b, freedom = inverse @ right, float(np.trace(inverse @ gram))
        squares = float(loss @ loss - 2 * b @ right + b @ gram @ b)
        scores.append(n * squares / max(n - freedom, 1.0) ** 2)
    return PENALTIES[int(np.argmin(scores))]


def _intraclass(residual: Floats, units: Any | None) -> float:
    """Correlation of residuals within units, by moments, 0 to 1: ``sum(S_u^2 - Q_u) / (v sum m_u (m_u - 1))``.

    S_u and Q_u are the sums of the residuals and of their squares over the m_u rows of a unit, v their variance.
    """
    if units is None:
        return 0.0
    _, number = np.unique(units, return_inverse=True)
    sums, squares = np.bincount(number, weights=residual), np.bincount(number, weights=residual**2)
    sizes = np.bincount(number).astype(np.float64)
    pairs = float(residual.var() * (sizes * (sizes - 1)).sum())
    return float(np.clip((sums**2 - squares).sum() / pairs, 0.0, 1.0)) if pairs > 0 else 0.0

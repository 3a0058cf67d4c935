"""Ridge regression whose penalty has the least leave-one-out error, and probabilities of its scores.

One eigendecomposition serves all penalties. The prediction of a row by the model without it
follows from the residual r of the model with it, ``r / (1 - h)``, where h is the row's leverage
(Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd ed., section 7.10,
equation 7.64).

Features on scales that penalties and distances can compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PENALTIES", "Solved", "calibrated", "centre_and_scale", "solve", "standardised"]

PENALTIES = tuple(10.0 ** (half / 2) for half in range(-8, 7))
"""From 0.0001 to 1,000, two a decade."""

_AT_ONCE = 1_000
"""Rows squared together."""

_STEPS = 200
"""Steps of L-BFGS at most; of the handful of unknowns, a few tens are taken."""


@dataclass(frozen=True)
class Solved:
    """A ridge regression.

    Attributes
    ----------
    coefficient, intercept
        (features, outputs) and (outputs,).
    left_out
        (rows, outputs): prediction of each row by the model that is fitted without it.
    """

    penalty: float
    coefficient: np.ndarray
    intercept: np.ndarray
    left_out: np.ndarray


def solve(X: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> Solved:
    """Least squares of all columns of `y` (rows, outputs), the intercept free of penalty.

    Of penalties with equal errors the last one is taken.
    """
    centre, mean = X.mean(axis=0), y.mean(axis=0)
    X, y = X - centre, y - mean
    squares, turn = np.linalg.eigh(X.T @ X)
    X = X @ turn
    shares = X.T @ y
    weights = np.maximum(squares, 0.0)[:, None] + np.array(penalties)
    leverages = np.concatenate([np.square(rows) @ (1 / weights) for rows in np.array_split(X, 1 + len(X) // _AT_ONCE)])
    residuals = [
        (y - X @ (shares / weight[:, None])) / np.maximum(1 - leverage - 1 / len(X), 1e-9)[:, None]
        for weight, leverage in zip(weights.T, leverages.T, strict=True)
    ]
    errors = [float(np.square(of).sum()) for of in residuals]
    best = max(range(len(penalties)), key=lambda at: (-errors[at], at))
    coefficient = turn @ (shares / weights[:, best, None])
    return Solved(penalties[best], coefficient, mean - centre @ coefficient, y - residuals[best] + mean)


def calibrated(scores: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope and intercepts with which scores (rows, outputs) tell the classes `y` most likely.

    One output is the score of the second of two classes, as `links.probabilities` takes it.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    z = np.concatenate([np.zeros_like(scores), scores], axis=1) if scores.shape[1] == 1 else scores
    own = np.eye(z.shape[1])[y]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        full = theta[0] * z + np.concatenate([np.zeros(z.shape[1] - len(theta) + 1), theta[1:]])
        total = logsumexp(full, axis=1, keepdims=True)
        rest = np.exp(full - total) - own
        value = float((total[:, 0] - (full * own).sum(axis=1)).mean()) + _FLAT * float(theta @ theta)
        shifts = rest.mean(axis=0)[z.shape[1] - len(theta) + 1 :]
        return value, np.concatenate([[(rest * z).sum(axis=1).mean()], shifts]) + 2 * _FLAT * theta

    start = np.zeros(1 + scores.shape[1])
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    return float(theta[0]), theta[1:]


_FLAT = 1e-6
"""Weight of the squared slope and intercepts: classes that are told apart without error would make them endless."""


def centre_and_scale(X: np.ndarray, types: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation a feature over its finite values.

    A constant feature keeps scale 1, and so do coordinates: their lesser axes, which are mostly
    noise, would weigh as much as the leading ones.
    """
    centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    for j in range(X.shape[1]):
        column = X[:, j].astype(np.float64)
        column = column[np.isfinite(column)]
        if column.size:
            centre[j] = column.mean()
            spread = column.std()
            scale[j] = spread if spread > 0 and types[j] != "e" else 1.0
    return centre, scale


def standardised(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(X - centre) / scale in float64; what is not finite stands at the centre."""
    standard_X = (X.astype(np.float64) - centre) / scale
    return np.where(np.isfinite(standard_X), standard_X, 0.0)

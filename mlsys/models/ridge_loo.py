"""Ridge regression whose penalty has the least leave-one-out error, and probabilities of its scores.

One eigendecomposition serves all penalties. The prediction of a row by the model without it
follows from the residual r of the model with it, ``r / (1 - h)``, where h is the row's leverage
(Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd ed., section 7.10,
equation 7.64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = tuple(10.0 ** (half / 2) for half in range(-8, 7))
"""Penalties from 0.0001 to 1,000, two a decade."""

_AT_ONCE = 1_000
"""Rows whose leverages are computed together."""

_STEPS = 200
"""Steps of L-BFGS at most; of the handful of unknowns, a few tens are taken."""

_FLAT = 1e-6
"""Weight of the squared slope and intercepts: classes that are told apart without error would make them endless."""


@dataclass(frozen=True)
class RidgeSolution:
    """A fitted ridge regression: `coefficient` (features, outputs) and `intercept` (outputs,).

    `left_out`, (rows, outputs), predicts each row by the model that is fitted without it.
    """

    penalty: float
    coefficient: np.ndarray
    intercept: np.ndarray
    left_out: np.ndarray


def solve(X: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> RidgeSolution:
    """Fit all columns of `y` (rows, outputs) by least squares with the best of some penalties on the coefficients.

    The intercept is free of penalty. Of penalties with equal errors the last one is taken.
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
    errors = [float(np.square(residual).sum()) for residual in residuals]
    best = max(range(len(penalties)), key=lambda index: (-errors[index], index))
    coefficient = turn @ (shares / weights[:, best, None])
    return RidgeSolution(penalties[best], coefficient, mean - centre @ coefficient, y - residuals[best] + mean)


def calibrated(scores: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Find the slope and intercepts under which scores (rows, outputs) make the classes `y` most likely.

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

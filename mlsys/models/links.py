"""From scores to probabilities, with the same bits for a row alone and among others.

NumPy's reductions pick their order of summation by shape, BLAS by the number of rows.
Here every sum runs in index order (``np.add.accumulate`` is sequential by definition)
and everything else is one correctly defined operation an element.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

__all__ = ["among_all", "ordered_scores", "ordered_sum", "probabilities"]

_FEW_ROWS = 64
"""Up to this many rows one NumPy call over (rows, features, outputs) is faster than a loop over features."""


def ordered_sum(terms: np.ndarray, axis: int) -> np.ndarray:
    """Sum along `axis` from the first term to the last, whatever the shape."""
    return np.asarray(np.take(np.add.accumulate(terms, axis=axis), -1, axis=axis))


def ordered_scores(X: np.ndarray, coefficient: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Scores (n, outputs), each summed from the intercept through the features in order."""
    n = X.shape[0]
    if n <= _FEW_ROWS:
        first = np.broadcast_to(intercept, (n, 1, intercept.size))
        return ordered_sum(np.concatenate([first, X[:, :, None] * coefficient], axis=1), axis=1)
    scores = np.tile(intercept, (n, 1))
    for j, weight in enumerate(coefficient):
        scores += X[:, j, None] * weight
    return scores


def among_all(found: np.ndarray, present: tuple[int, ...], classes: int) -> np.ndarray:
    """Probabilities of the classes `present` in training as those of all; another class has probability 0."""
    if found.shape[1] == classes:
        return found
    full = np.zeros((len(found), classes))
    full[:, list(present)] = found
    return full


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Probabilities of classes of scores: logistic for (n,) or (n, 1), softmax for (n, classes).

    Examples
    --------
    >>> probabilities(np.array([0.0])).tolist()
    [[0.5, 0.5]]
    >>> probabilities(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    z = np.ascontiguousarray(scores, dtype=np.float64)
    if z.ndim == 1 or z.shape[1] == 1:
        positive = expit(z.reshape(-1))
        return np.stack([1.0 - positive, positive], axis=1)
    with np.errstate(under="ignore"):
        weights = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(weights / ordered_sum(weights, axis=1)[:, None])

"""Features on scales that penalties and distances can compare."""

from __future__ import annotations

import numpy as np

__all__ = ["centre_and_scale", "standardised"]


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

"""Rows as models take them: a float32 matrix, and the target as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsys import errors

LARGEST = 1e30
"""Trees take values up to this size; scikit-learn and XGBoost refuse infinity, and XGBoost
doubles the largest value of a feature in float32, whose own limit is 3.4e38."""


@dataclass(frozen=True)
class Matrix:
    """Features and target of some rows.

    Attributes
    ----------
    X
        Float32, (rows, features), C order; NaN where a value is missing.
    y
        Float64, (rows,): position in `Task.classes`, or the value to predict.
    names
        Name a feature.
    types
        A feature: ``q`` a quantity, ``c`` a category (a non-negative whole number), ``e`` a coordinate
        of an embedding, whose distances mean something: no family may scale one apart from the others.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def num_features(self) -> int:
        return int(self.X.shape[1])

    def take(self, rows: np.ndarray) -> Matrix:
        """The rows at these positions, or where this mask is true."""
        return Matrix(self.X[rows], self.y[rows], self.names, self.types)


def bounded(X: np.ndarray) -> np.ndarray:
    """`X` with infinite and huge values at ±`LARGEST`: their order, and NaN, stay.

    Examples
    --------
    >>> bounded(np.array([[np.inf, np.nan, 2.0]], dtype=np.float32)).tolist()
    [[1.0000000150474662e+30, nan, 2.0]]
    """
    with np.errstate(invalid="ignore"):
        if not (np.abs(X) > LARGEST).any():
            return X
        return np.asarray(np.clip(X, np.float32(-LARGEST), np.float32(LARGEST)))


def check_width(X: np.ndarray, num_features: int, family: str) -> None:
    """Refuse a matrix of another width than the model was fitted on.

    Raises
    ------
    BundleError
        Model and feature program do not belong together.
    """
    if X.ndim != 2 or X.shape[1] != num_features:
        raise errors.BundleError.build(
            f"models: {family} model",
            got=f"a matrix of shape {X.shape}",
            expected=f"(rows, {num_features})",
            hint="the feature program and the model must come from one bundle",
        )

"""Features and targets as networks take them: scaled by quartiles and clipped smoothly, and standardised numbers."""

from __future__ import annotations

import numpy as np

from mlsys.models.matrix import LARGEST, Matrix, outputs
from mlsys.models.model_files import ModelFacts
from mlsys.models.torch_workers import Workers

CLIP = 3.0
"""Value that scaled features tend to, however large they are."""

BLOCK_ROWS = 8_192
"""Rows that are in float64 together: some tens of megabytes."""


class TargetFacts(ModelFacts):
    """The target as it is fitted: positions of the classes that there are, or a standardised number.

    `classes` is 0 for a number, ``spread · score + mean`` within `low` and `high`; `present` are those of training.
    """

    classes: int
    present: tuple[int, ...]
    mean: float = 0.0
    spread: float = 1.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, y: np.ndarray, classes: int, present: tuple[int, ...]) -> TargetFacts:
        """The target of training rows."""
        if classes:
            return cls(classes=classes, present=present)
        spread, low, high = float(y.std()) or 1.0, float(y.min()), float(y.max())
        return cls(classes=0, present=(), mean=float(y.mean()), spread=spread, low=low, high=high)

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Targets as the network is fitted to them."""
        if self.classes:
            return np.searchsorted(self.present, y.astype(np.int64))
        return (y - self.mean) / self.spread

    def backward(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores, (rows, outputs), into probabilities by softmax, or into values."""
        if self.classes:
            return outputs(scores, self.present, self.classes)
        return np.asarray(np.clip(scores[:, 0] * self.spread + self.mean, self.low, self.high))

    def known(self, rows: Matrix) -> Matrix:
        """The rows that say when to stop, without classes that training lacks; maybe none."""
        return rows.take(np.isin(rows.y, self.present)) if self.classes else rows


def present_classes(rows: Matrix, workers: Workers) -> tuple[int, ...]:
    """The classes that the rows of all workers have."""
    return tuple(np.unique(workers.gathered(np.unique(rows.y.astype(np.int64)))).tolist())


def centre_and_scale(X: np.ndarray, workers: Workers) -> tuple[np.ndarray, np.ndarray]:
    """Find the median of each feature, and 1 over the distance of its quartiles; half its range where that is 0.

    The rows are those of all `workers`; one column of them is in memory at a time.
    """
    centre, scale = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        column = workers.gathered(X[:, j]).astype(np.float64)
        column = column[np.isfinite(column)]
        if column.size:
            lower, centre[j], upper = np.quantile(column, [0.25, 0.5, 0.75])
            spread = upper - lower or (column.max() - column.min()) / 2
            scale[j] = 1 / spread if spread > 0 else 0.0
    return centre, scale


def scaled(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Centre, scale and clip features smoothly, to ±`CLIP`; a missing value stands at the centre.

    >>> scaled(np.array([[1.0, np.nan, np.inf]]), np.zeros(3), np.ones(3)).round(3).tolist()
    [[0.949, 0.0, 3.0]]
    """
    x = (np.clip(X.astype(np.float64), -LARGEST, LARGEST) - centre) * scale
    x = np.where(np.isnan(x), 0.0, x)
    return np.asarray(x / np.sqrt(1 + (x / CLIP) ** 2))


def scaled_rows(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Scaled features in float32, with a block of them at a time in float64."""
    rows = np.empty(X.shape, np.float32)
    for start in range(0, len(X), BLOCK_ROWS):
        rows[start : start + BLOCK_ROWS] = scaled(X[start : start + BLOCK_ROWS], centre, scale)
    return rows

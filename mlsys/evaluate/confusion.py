"""Metrics of a confusion matrix: rows are the truth, columns the prediction, entries counts.

One rule for what is undefined, here and in `metrics`: a quotient with an empty denominator is
NaN. Averages over classes ("macro", "weighted") run over the classes that occur in the truth;
there, a class that was never predicted counts with precision 0, since calling none of its rows
is a failure and not a gap in the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["accuracy", "averaged", "balanced_accuracy", "f1", "matrix", "matthews", "precision", "recall"]

Floats = NDArray[np.float64]


def matrix(y: NDArray[np.int64], label: NDArray[np.int64], num_classes: int, weight: Floats | None = None) -> Floats:
    """Weighted counts of (truth, prediction), shape (num_classes, num_classes)."""
    cells = np.bincount(y * num_classes + label, weights=weight, minlength=num_classes**2)
    return cells.astype(np.float64).reshape(num_classes, num_classes)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0), np.float64)


def accuracy(counts: Floats) -> float:
    """Share of rows with the right class; NaN without rows."""
    return float(_divide(np.array(np.trace(counts)), np.array(counts.sum())))


def precision(counts: Floats) -> Floats:
    """Per class, the share of its predictions that are right; NaN where it was never predicted."""
    return _divide(np.diag(counts), counts.sum(axis=0))


def recall(counts: Floats) -> Floats:
    """Per class, the share of its rows that were found; NaN where it does not occur."""
    return _divide(np.diag(counts), counts.sum(axis=1))


def f1(counts: Floats) -> Floats:
    """Per class ``2 TP / (2 TP + FP + FN)``; NaN where it neither occurs nor is predicted.

    The harmonic mean of precision and recall (van Rijsbergen 1979, "Information Retrieval", chapter 7).
    """
    return _divide(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def averaged(values: Floats, counts: Floats, *, weighted: bool) -> float:
    """Mean over the classes that occur, plain or by their number of rows; NaN without rows."""
    support = counts.sum(axis=1)
    occurs = support > 0
    if not occurs.any():
        return float("nan")
    return float(np.average(np.nan_to_num(values[occurs]), weights=support[occurs] if weighted else None))


def balanced_accuracy(counts: Floats) -> float:
    """Mean recall of the classes that occur (Brodersen et al. 2010, ICPR, 3121-3124); NaN with fewer than two."""
    return averaged(recall(counts), counts, weighted=False) if (counts.sum(axis=1) > 0).sum() > 1 else float("nan")


def matthews(counts: Floats) -> float:
    """Correlation of truth and prediction, for any number of classes.

    Gorodkin (2004), Computational Biology and Chemistry 28(5-6), 367-374, eq. 8; for two
    classes that of Matthews (1975). NaN if the truth or the prediction has one class only.
    """
    true, called = counts.sum(axis=1), counts.sum(axis=0)
    total = counts.sum()
    spread = (total**2 - called @ called) * (total**2 - true @ true)
    return float((np.trace(counts) * total - true @ called) / np.sqrt(spread)) if spread > 0 else float("nan")

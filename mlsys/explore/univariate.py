"""How well one column alone predicts the target: area under the ROC curve, or R².

The column is turned into a score that no row has influenced by its own label: rows are
dealt into five groups, and the target rate of a category, or of a bin of twentieths of a
number, is learned on the other four. So a column of unique keys scores like chance, and
a relation that is not monotone is seen. A number is also scored by its own order. The
better of the two counts.

References
----------
Fawcett (2006), "An introduction to ROC analysis", Pattern Recognition Letters 27(8),
doi:10.1016/j.patrec.2005.10.010: AUC as the probability of a concordant pair (section 7),
one class against the rest (section 9).
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical attributes",
SIGKDD Explorations 3(1), doi:10.1145/507533.507538: rates pulled towards the overall one.
Hanley & McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology
143(1), doi:10.1148/radiology.143.1.7063747: standard error of an AUC.
Olkin & Finn (1995), "Correlations redux", Psychological Bulletin 118(1),
doi:10.1037/0033-2909.118.1.155: standard error of R², 2 R (1 - R²) / sqrt(n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import ROW, Kind, Schema, Task
from mlsys.statistics import encode_target
from mlsys.statistics.arrays import as_floats, plain
from mlsys.statistics.hashing import mix

__all__ = ["MIN_CLASS_ROWS", "MIN_ROWS", "Strength", "auc", "measure", "strength"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_ROWS, MIN_CLASS_ROWS = 30, 10
"""Labelled rows, and rows of a class, below which nothing is said: with 10 of each of two
classes, chance parts them perfectly in one of 92,378 columns."""

Z = 1.645
"""Standard errors of a one-sided 95 % interval."""

GROUPS = 5
BINS = 20
PULL = 5.0
"""Rows at the overall rate that are mixed into each category's rate."""


@dataclass(frozen=True)
class Strength:
    """What one column tells about the target.

    Attributes
    ----------
    measure
        ``auc`` (0.5 … 1, one class against the rest, averaged) or ``r2`` (0 … 1).
    value
        The measure over the sample.
    weakest
        The AUC of the class that is told apart worst; `value` for two classes and numbers.
    low
        Lower end of a one-sided 95 % interval of `weakest`.
    by_class
        AUC of each class with enough rows, by its position in the task.
    """

    measure: str
    value: float
    weakest: float
    low: float
    by_class: dict[int, float]


def measure(rows: pa.Table, schema: Schema, task: Task) -> dict[str, Strength]:
    """Strength of each feature in a sample of rows; a column that cannot be judged is left out."""
    y = encode_target(rows[task.target], task)
    group = (mix(np.asarray(rows[ROW]).astype(np.uint64) ^ np.uint64(GROUPS)) % np.uint64(GROUPS)).astype(np.int64)
    found = {
        column.name: strength(rows[column.name], column.kind, y, task, group)
        for column in schema.features
        if column.name != task.target and column.kind not in {Kind.LIST, Kind.IMAGE, Kind.BYTES}
    }
    return {name: value for name, value in found.items() if value is not None}


def strength(values: pa.ChunkedArray, kind: Kind, y: npt.NDArray[Any], task: Task, group: Ints) -> Strength | None:
    """Strength of one column; None with too few labelled rows, or where the column or the target is constant.

    `y` is as `encode_target` gives it, `group` a number below five for each row.
    """
    known = y >= 0 if task.is_classification else np.isfinite(y)
    if known.sum() < MIN_ROWS:
        return None
    array = plain(values).filter(pa.array(known))
    label, dealt = y[known], group[known]
    cells, number = _cells(array, kind)
    if cells.max() == 0:
        return None
    if not task.is_classification:
        return _of_number(cells, number, label.astype(np.float64), dealt)
    return _of_classes(cells, number, label.astype(np.int64), dealt, len(task.classes))


def _cells(array: pa.Array, kind: Kind) -> tuple[Ints, Floats | None]:
    """The category or bin of each row, missing ones having their own, and the number itself.

    In the order of numbers a missing one stands in the middle.
    """
    if kind not in {Kind.NUMERIC, Kind.DATETIME}:
        encoded = array.dictionary_encode(null_encoding="encode")
        return np.asarray(encoded.indices).astype(np.int64), None
    number = np.full(len(array), np.nan)
    number[np.asarray(array.is_valid())] = as_floats(array.drop_null())
    present = np.isfinite(number)
    edges = np.unique(np.quantile(number[present], np.arange(1, BINS) / BINS)) if present.any() else np.empty(0)
    cells = np.where(present, 1 + np.searchsorted(edges, number), 0)
    middle = np.median(number[present]) if present.any() else 0.0
    return np.unique(cells, return_inverse=True)[1].astype(np.int64), np.where(present, number, middle)


def _learned(cells: Ints, y: Floats, dealt: Ints) -> Floats:
    """``(GROUPS, cells)``: mean of y in the cell over the other groups, pulled towards the mean of all."""
    size = int(cells.max()) + 1
    at = dealt * size + cells
    rows = np.bincount(at, minlength=GROUPS * size).reshape(GROUPS, size)
    sums = np.bincount(at, y, GROUPS * size).reshape(GROUPS, size)
    other_rows, other_sums = rows.sum(0) - rows, sums.sum(0) - sums
    means = (y.sum() - sums.sum(1)) / np.maximum(len(y) - rows.sum(1), 1)
    rates: Floats = (other_sums + PULL * means[:, None]) / (other_rows + PULL)
    return rates


def _of_classes(cells: Ints, number: Floats | None, label: Ints, dealt: Ints, classes: int) -> Strength | None:
    by_class: dict[int, float] = {}
    order = None if number is None else _ranks(number)
    for index in range(classes):
        is_class = label == index
        if min(is_class.sum(), (~is_class).sum()) < MIN_CLASS_ROWS:
            continue
        scores = [_auc_of_cells(cells, is_class, dealt)]
        if order is not None:
            in_order = _auc_of_ranks(order, is_class)
            scores.append(max(in_order, 1 - in_order))
        by_class[index] = max(0.5, *scores)
    if not by_class:
        return None
    worst = min(by_class, key=lambda index: by_class[index])
    low = by_class[worst] - Z * _auc_error(by_class[worst], int((label == worst).sum()), int((label != worst).sum()))
    return Strength("auc", float(np.mean(list(by_class.values()))), by_class[worst], low, by_class)


def _of_number(cells: Ints, number: Floats | None, y: Floats, dealt: Ints) -> Strength | None:
    total = float(((y - y.mean()) ** 2).sum())
    if total <= 0:
        return None
    left = float(((y - _learned(cells, y, dealt)[dealt, cells]) ** 2).sum())
    scores = [max(0.0, 1 - left / total)]
    if number is not None:
        scores += [_squared_correlation(number, y), _squared_correlation(_ranks(number), _ranks(y))]
    best = max(scores)
    return Strength("r2", best, best, best - Z * 2 * best**0.5 * (1 - best) / len(y) ** 0.5, {})


def _auc_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC (Hanley & McNeil, equation 1); 0 where the classes are parted perfectly."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return float((spread / (positives * negatives)) ** 0.5)


def auc(score: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Probability that a positive row scores above a negative one; ties count half.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    return _auc_of_ranks(_ranks(score), positive)


def _auc_of_cells(cells: Ints, positive: npt.NDArray[np.bool_], dealt: Ints) -> float:
    """AUC of what is learned about the cells; of few cells from counts, without sorting the rows."""
    rates = _learned(cells, positive.astype(np.float64), dealt)
    if rates.size > len(cells):
        return auc(rates[dealt, cells], positive)
    _, place = np.unique(rates.ravel(), return_inverse=True)
    score = place[dealt * rates.shape[1] + cells]
    size = int(place.max()) + 1
    hits, misses = (np.bincount(score[chosen], minlength=size) for chosen in (positive, ~positive))
    below = np.cumsum(misses) - misses / 2
    return float(hits @ below / (hits.sum() * misses.sum()))


def _auc_of_ranks(ranks: Floats, positive: npt.NDArray[np.bool_]) -> float:
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(ranks) - n)))


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = (last - (counts - 1) / 2)[where]
    return mean


def _squared_correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return min(1.0, float(a @ b / scale) ** 2) if scale > 0 and np.isfinite(scale) else 0.0

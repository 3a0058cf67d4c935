"""Univariate strength: how well one column alone predicts the target, as ROC AUC or R².

The column is turned into a score that no row has influenced by its own label: rows are dealt into five folds, and the
target rate of a category, or of a bin of twentieths of a number, is learned on the other four. So a column of unique
keys scores like chance, and a relation that is not monotone is seen. A number is also scored by its own order. The
better of the two counts.

References
----------
Fawcett (2006), "An introduction to ROC analysis", Pattern Recognition Letters 27(8), doi:10.1016/j.patrec.2005.10.010:
AUC as the probability of a concordant pair (section 7), one class against the rest (section 9).
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical attributes",
SIGKDD Explorations 3(1), doi:10.1145/507533.507538: rates pulled towards the overall one.
Olkin & Finn (1995), "Correlations redux", Psychological Bulletin 118(1),
doi:10.1037/0033-2909.118.1.155: standard error of R², 2 R (1 - R²) / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys import label_sets as labels
from mlsys.schema import Kind, Schema, Task
from mlsys.statistics import encode_target
from mlsys.statistics.arrays import Bools, Floats, Ints, as_floats, plain
from mlsys.statistics.code_columns import out_of_fold_means, sample_folds
from mlsys.statistics.moments import Comoments
from mlsys.statistics.ranking import Z_95_LOWER, auc_standard_error, mean_ranks, roc_auc

MIN_ROWS, MIN_CLASS_ROWS = 30, 10
"""Labelled rows, and rows of a class, below which nothing is measured: with 10 of each of two
classes, chance parts them perfectly in one of 92,378 columns."""

BINS = 20


@dataclass(frozen=True)
class Strength:
    """Strength of one column as a predictor of the target.

    Attributes
    ----------
    measure, value
        ``auc`` (0.5 … 1, one class against the rest, averaged) or ``r2`` (0 … 1), over the sample.
    weakest
        The AUC of the class that is told apart worst, of several labels that of the one told apart best; `value` for
        two classes and numbers.
    low
        Lower end of a one-sided 95 % interval of `weakest`.
    by_class
        AUC of each class, or each label, with enough rows, by its position in the task.
    """

    measure: str
    value: float
    weakest: float
    low: float
    by_class: dict[int, float]


def measure(rows: pa.Table, schema: Schema, task: Task) -> dict[str, Strength]:
    """Strength of each feature in a sample of rows; a column that cannot be judged is left out."""
    y = labels.numbers(rows[task.target], task.labels) if task.labels else encode_target(rows[task.target], task)
    fold = sample_folds(rows)
    strengths = {
        column.name: strength(rows[column.name], column.kind, y, task, fold)
        for column in schema.features
        if column.name != task.target and column.kind not in {Kind.LIST, Kind.IMAGE, Kind.BYTES}
    }
    return {name: value for name, value in strengths.items() if value is not None}


def strength(values: pa.ChunkedArray, kind: Kind, y: npt.NDArray[Any], task: Task, fold: Ints) -> Strength | None:
    """Strength of one column; None with too few labelled rows, or where the column or the target is constant.

    `y` is as `encode_target` gives it, or numbers of sets of labels, `fold` a number below five for each row.
    """
    labelled = y >= 0 if task.is_classification else np.isfinite(y)
    if labelled.sum() < MIN_ROWS:
        return None
    array = plain(values).filter(pa.array(labelled))
    y, fold = y[labelled], fold[labelled]
    bins, number = _binned(array, kind)
    if bins.max() == 0:
        return None
    if not task.is_classification:
        return _r2_strength(bins, number, y.astype(np.float64), fold)
    y = y.astype(np.int64)
    if task.labels:
        return _auc_strength(bins, number, list(labels.table(y, len(task.labels)).T), fold, worst=max)
    return _auc_strength(bins, number, [y == index for index in range(len(task.classes))], fold)


def _binned(array: pa.Array, kind: Kind) -> tuple[Ints, Floats | None]:
    """The category or bin of each row, missing ones having their own, and the number itself, the median if missing."""
    if kind not in {Kind.NUMERIC, Kind.DATETIME}:
        encoded = array.dictionary_encode(null_encoding="encode")
        return np.asarray(encoded.indices).astype(np.int64), None
    number = np.full(len(array), np.nan)
    number[np.asarray(array.is_valid())] = as_floats(array.drop_null())
    present = np.isfinite(number)
    edges = np.unique(np.quantile(number[present], np.arange(1, BINS) / BINS)) if present.any() else np.empty(0)
    bins = np.where(present, 1 + np.searchsorted(edges, number), 0)
    middle = np.median(number[present]) if present.any() else 0.0
    return np.unique(bins, return_inverse=True)[1].astype(np.int64), np.where(present, number, middle)


def _auc_strength(
    bins: Ints, number: Floats | None, classes: list[Bools], fold: Ints, worst: Callable[..., int] = min
) -> Strength | None:
    """Strength by the rows of each class; `worst` is the position of the one that counts."""
    by_class: dict[int, float] = {}
    ordered = None if number is None else np.unique(number, return_inverse=True)[1]
    for index, is_class in enumerate(classes):
        if min(is_class.sum(), (~is_class).sum()) < MIN_CLASS_ROWS:
            continue
        scores = [_out_of_fold_auc(bins, is_class, fold)]
        if ordered is not None:
            in_order = _auc(ordered, is_class)
            scores.append(max(in_order, 1 - in_order))
        by_class[index] = max(0.5, *scores)
    if not by_class:
        return None
    decisive = worst(by_class, key=lambda index: by_class[index])
    num_positive = int(classes[decisive].sum())
    error = auc_standard_error(by_class[decisive], num_positive, len(bins) - num_positive)
    mean = float(np.mean(list(by_class.values())))
    return Strength("auc", mean, by_class[decisive], by_class[decisive] - Z_95_LOWER * error, by_class)


def _out_of_fold_auc(bins: Ints, positive: Bools, fold: Ints) -> float:
    """AUC of the out-of-fold mean of each row's bin; with few bins, the means are sorted and not the rows."""
    means = out_of_fold_means(bins, positive.astype(np.float64), fold)
    if means.size > len(bins):
        return _auc(np.unique(means[fold, bins], return_inverse=True)[1], positive)
    order = np.unique(means.ravel(), return_inverse=True)[1]
    return _auc(order[fold * means.shape[1] + bins], positive)


def _auc(score: Ints, positive: Bools) -> float:
    """ROC AUC of a score that is a small number 0, 1, 2 …, counted without sorting the rows."""
    size = int(score.max()) + 1
    true, false = (np.cumsum(np.bincount(score[rows], minlength=size)[::-1]) for rows in (positive, ~positive))
    return roc_auc(true, false)


def _r2_strength(bins: Ints, number: Floats | None, y: Floats, fold: Ints) -> Strength | None:
    total = float(((y - y.mean()) ** 2).sum())
    if total <= 0:
        return None
    residual = float(((y - out_of_fold_means(bins, y, fold)[fold, bins]) ** 2).sum())
    scores = [max(0.0, 1 - residual / total)]
    if number is not None:
        pairs = ((number, y), (mean_ranks(number), mean_ranks(y)))  # Pearson's and Spearman's correlation
        scores += [(Comoments.of(a, b).correlation or 0.0) ** 2 for a, b in pairs]
    best = max(scores)
    return Strength("r2", best, best, best - Z_95_LOWER * 2 * best**0.5 * (1 - best) / len(y) ** 0.5, {})

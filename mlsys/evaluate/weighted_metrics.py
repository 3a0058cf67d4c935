"""Metrics under weights: prepared once for the rows, then evaluated under any weighting of them.

What `prepare(y, prediction)` returns is called with weights of shape (n,), or with None for weights of one.
Preparing does what does not depend on the weights: sorting, losses a row, bins. So an interval, which asks for
hundreds of weightings, sorts once. In a confusion matrix rows are the truth, columns the prediction, entries counts.

One rule for what is undefined, here and in `metrics`: a quotient with an empty denominator is
NaN. Averages over classes ("macro", "weighted") run over the classes that occur in the truth;
there, a class that was never predicted counts with precision 0, since calling none of its rows
is a failure and not a gap in the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys import label_sets as labels
from mlsys.evaluate import thresholds
from mlsys.statistics import ranking, tails
from mlsys.statistics.arrays import Floats

Statistic = Callable[[Floats | None], float]
"""The value of a metric on prepared rows under weights (n,), or unweighted for None."""

Prepare = Callable[[NDArray[Any], NDArray[Any]], Statistic]

T = TypeVar("T")

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn does."""


def remembered(function: Callable[[Floats | None], T]) -> Callable[[Floats | None], T]:
    """The same function of weights, computed once for weights that it is asked for several times in a row."""
    last: list[tuple[Floats | None, T]] = []

    def value(weight: Floats | None) -> T:
        if not last or last[0][0] is not weight:
            last[:] = [(weight, function(weight))]
        return last[0][1]

    return value


def by_rows(function: Callable[[NDArray[Any], NDArray[Any]], float]) -> Prepare:
    """Turn a function of (y, prediction) without weights into a statistic: each row is repeated as its weight says.

    It is exact, and as slow as the function is for each resample. Weights have to be whole numbers, as those of
    resamples and of rows left out are.

    >>> miss = by_rows(lambda y, label: float(np.mean(y != label)))(np.array([0, 1, 1]), np.array([0, 1, 0]))
    >>> miss(None).__round__(3), miss(np.array([0.0, 1.0, 3.0]))
    (0.333, 0.75)
    """

    def prepare(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
        def statistic(weight: Floats | None) -> float:
            if weight is None:
                rows = np.arange(len(y))
            else:
                times = weight.astype(np.int64)
                if (times != weight).any():
                    where, got = "metrics: a metric that is computed row by row", "weights that are no whole numbers"
                    hint = "leave train.weight out, or give the metric a form under weights (mlsys.evaluate.metrics)"
                    raise errors.RecipeError.build(where, got=got, expected="whole weights", hint=hint)
                rows = np.repeat(np.arange(len(y)), times)
            return float(function(y[rows], prediction[rows])) if len(rows) else float("nan")

        return statistic

    return prepare


def of_matrix(value: Callable[[Floats], float]) -> Prepare:
    """Turn a function of the confusion matrix into a statistic of class indices."""

    def prepare(y: NDArray[Any], label: NDArray[Any]) -> Statistic:
        k = int(max(y.max(initial=0), label.max(initial=0), 1)) + 1
        y, label = y.astype(np.int64), label.astype(np.int64)
        return lambda weight: value(matrix(y, label, k, weight))

    return prepare


def of_order(value: Callable[[Floats, Floats], float]) -> Prepare:
    """Turn a function of true and false positives by falling score into a statistic.

    Of more than two classes each is taken against the rest; the plain mean is over those for which it is defined.
    """

    def prepare(y: NDArray[Any], score: NDArray[Any]) -> Statistic:
        columns = [(1, score)] if score.ndim == 1 else list(enumerate(score.T))
        ranked = [ranking.Ranked.of(y == k, np.asarray(column, np.float64)) for k, column in columns]

        def statistic(weight: Floats | None) -> float:
            values = np.array([value(*each.counts(weight)) for each in ranked])
            known = values[~np.isnan(values)]
            return float(known.mean()) if len(known) else float("nan")

        return statistic

    return prepare


def over_labels(prepare: Prepare) -> Prepare:
    """Turn a metric of two classes into its plain mean over the labels for which it is defined.

    `y` are numbers of sets of labels (`mlsys.label_sets`), the prediction has a column for each label.

    >>> recall_of_each = over_labels(of_matrix(lambda counts: float(recall(counts)[1])))
    >>> recall_of_each(np.array([1.0, 3.0]), np.array([[1, 0], [0, 1]]))(None)
    0.75
    """

    def of_rows(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
        has = labels.table(y, prediction.shape[1]).astype(np.int64)
        each = [prepare(has[:, k], prediction[:, k]) for k in range(prediction.shape[1])]

        def statistic(weight: Floats | None) -> float:
            values = np.array([own(weight) for own in each])
            known = values[~np.isnan(values)]
            return float(known.mean()) if len(known) else float("nan")

        return statistic

    return of_rows


def over_rows(loss: Callable[[NDArray[np.bool_], NDArray[np.bool_]], Floats]) -> Prepare:
    """Turn a number a row, of the labels that it has and of those that it is said to have, into its mean."""
    return mean_of(lambda y, called: loss(labels.table(y, called.shape[1]), called.astype(np.bool_)))


def f1_micro(y: NDArray[Any], called: NDArray[Any]) -> Statistic:
    """F1 of all pairs of a row and a label together: ``2 TP / (2 TP + FP + FN)``, NaN where nothing is or is called."""
    has, predicted = labels.table(y, called.shape[1]), called.astype(np.bool_)
    hits, size = (has & predicted).sum(axis=1), has.sum(axis=1) + predicted.sum(axis=1)

    def statistic(weight: Floats | None) -> float:
        own = np.ones(len(hits)) if weight is None else weight
        return float(_divide(np.array(2 * (own @ hits)), np.array(own @ size)))

    return statistic


def mean_of(loss: Callable[[NDArray[Any], NDArray[Any]], Floats], after: Callable[[float], float] = float) -> Prepare:
    """Turn a loss a row into its mean; rows where it is NaN make the whole NaN."""

    def prepare(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
        losses = loss(y, prediction)

        def statistic(weight: Floats | None) -> float:
            total = len(losses) if weight is None else weight.sum()
            if total <= 0:
                return float("nan")
            return after(float((losses.sum() if weight is None else weight @ losses) / total))

        return statistic

    return prepare


def surprise(y: NDArray[Any], p: NDArray[Any]) -> Floats:
    """Negative logarithm of the probability given to the true class, a row."""
    chosen = np.where(y == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(y)), y.astype(np.intp)]
    return np.asarray(-np.log(np.clip(chosen, SMALLEST, 1 - SMALLEST)), np.float64)


def quadratic(y: NDArray[Any], p: NDArray[Any]) -> Floats:
    """Squared distance of the probabilities from the truth, a row."""
    if p.ndim == 1:
        return np.asarray((p - (y == 1)) ** 2, np.float64)
    truth = np.arange(p.shape[1]) == y[:, None]
    return np.asarray(((p - truth) ** 2).sum(axis=1), np.float64)


def squared_log(y: NDArray[Any], prediction: NDArray[Any]) -> Floats:
    """Squared difference of the logarithms, of both signs, a row."""
    return np.asarray((tails.signed_log(y) - tails.signed_log(prediction)) ** 2, np.float64)


def calibration_error(y: NDArray[Any], p: NDArray[Any]) -> Statistic:
    """Calibration error of the positive class, or of the most probable one; bins stay those of all rows."""
    top, hit = (p, y == 1) if p.ndim == 1 else (p.max(axis=1, initial=0), p.argmax(axis=1) == y)
    hits, index = hit.astype(np.float64), thresholds.equal_mass(np.asarray(top, np.float64))
    return lambda weight: thresholds.expected_error(index, np.asarray(top, np.float64), hits, weight)


def determination(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
    """Coefficient of determination; sums are taken about the mean so that large targets lose no digits."""
    centred, squared = y - (y.mean() if len(y) else 0.0), (y - prediction) ** 2

    def statistic(weight: Floats | None) -> float:
        w = np.ones(len(y)) if weight is None else weight
        total = w.sum()
        spread = w @ centred**2 - (w @ centred) ** 2 / total if total > 0 else 0.0
        return float(1 - w @ squared / spread) if spread > 1e-12 * max(float(w @ y**2), 1e-300) else float("nan")

    return statistic


def median_absolute(y: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
    """Median of the absolute errors; under weights, the mean of the two middle rows of the resample."""
    error = np.abs(y - prediction)
    order = np.argsort(error, kind="stable")
    ordered = error[order]

    def statistic(weight: Floats | None) -> float:
        if weight is None:
            return float(np.median(ordered)) if len(ordered) else float("nan")
        running = np.cumsum(weight[order])
        if not len(running) or running[-1] <= 0:
            return float("nan")
        low, high = np.searchsorted(running, running[-1] / 2), np.searchsorted(running, running[-1] / 2, side="right")
        return float(ordered[low] + ordered[min(high, len(ordered) - 1)]) / 2

    return statistic


def relative(y: NDArray[Any], prediction: NDArray[Any]) -> Floats:
    """Absolute error as a fraction of the truth, a row; NaN where the truth is 0."""
    return np.asarray(np.abs(np.divide(y - prediction, y, out=np.full(len(y), np.nan), where=y != 0)), np.float64)


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

"""The loss of an answered row, once its label is known: a number from 0 to 1, so that no single row decides.

==============================  ==============================================================================
task                            loss of a row
==============================  ==============================================================================
classes                         half the squared distance of the probabilities from the label (Brier 1950)
more classes than `MOST`        0 if the most probable class is the label, else 1
several labels                  the mean squared distance over the labels
numbers                         squared error, divided by 4 variances of the target in training, 1 at most
numbers, ``loss: quantile``     pinball loss, divided by 2 standard deviations of the target, 1 at most
ranking                         none: grades are worth something within a group alone
==============================  ==============================================================================

The mean of each is least for the model that is asked for (but where it is cut off), so that a smaller one is better.

References
----------
Brier (1950), "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78(1), 1-3.
Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1), 33-50, doi:10.2307/1913643: the pinball loss.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlsys import label_sets
from mlsys.bundle import Bundle
from mlsys.predict import Predictions
from mlsys.predict.class_labels import class_codes
from mlsys.schema import Task
from mlsys.statistics.arrays import Floats

MOST = label_sets.MAX_LABELS
"""Probabilities of a row that are remembered at most; of more classes it is the number of the most probable one."""


def num_outputs(task: Task) -> int:
    """Numbers that are remembered of a row."""
    width = len(task.output_names) if task.is_classification else 1
    return width if width <= MOST else 1


def outputs_of(predictions: Predictions) -> list[float]:
    """The numbers that are remembered of the first row: its probabilities, its most probable class, or its value."""
    if predictions.probabilities is None:
        return [float(predictions.prediction[0])]
    first: list[float] = predictions.probabilities[0].tolist()
    return first if len(first) <= MOST else [float(np.argmax(first))]


def label_numbers(task: Task, labels: pl.Series) -> Floats:
    """Labels as numbers: of a class, of a set of labels, or the value; NaN where there is none."""
    if task.is_classification:
        codes = class_codes(labels, task)
        return np.where(codes >= 0, codes, np.nan)
    values = labels.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def target_spread(of: Bundle) -> float:
    """Standard deviation of the target in training; 0 where it is unknown."""
    column = of.reference.inputs.columns.get(of.task.target)
    deviation = None if column is None or of.task.is_classification else column.result().stddev
    return float(deviation or 0.0)


def of_rows(task: Task, outputs: NDArray[np.float64], labels: Floats, spread: float = 0.0) -> Floats:
    """Compute the loss of each row; NaN where a task has none.

    Parameters
    ----------
    outputs
        Shape (rows, numbers), as `outputs_of`; what is more than `num_outputs` is not read.
    labels
        As `label_numbers` without NaN.
    spread
        As `target_spread`.

    Examples
    --------
    >>> task = Task(kind="binary", target="late", classes=(False, True))
    >>> of_rows(task, np.array([[0.2, 0.8], [0.2, 0.8]]), np.array([1.0, 0.0])).round(2).tolist()
    [0.04, 0.64]
    """
    outputs = outputs[:, : num_outputs(task)]
    if task.is_classification:
        return _of_classes(task, outputs, labels)
    if task.is_ranking or spread <= 0:
        return np.full(len(labels), np.nan)
    with np.errstate(over="ignore"):
        short = (labels - outputs[:, 0]) / (2 * spread)
        if task.loss is not None and task.loss.name == "quantile":
            level = task.loss.level
            return np.asarray(np.minimum(1.0, np.maximum(level * short, (level - 1) * short)), np.float64)
        return np.asarray(np.minimum(1.0, short**2), np.float64)


def _of_classes(task: Task, outputs: NDArray[np.float64], labels: Floats) -> Floats:
    if task.labels:
        squares = (outputs - label_sets.table(labels, len(task.labels))) ** 2
        return np.asarray(squares.mean(axis=1), np.float64)
    if len(task.output_names) > MOST:
        return np.asarray(outputs[:, 0] != labels, np.float64)
    truth = np.eye(outputs.shape[1])[labels.astype(np.int64)]
    return np.asarray(((outputs - truth) ** 2).sum(axis=1) / 2, np.float64)

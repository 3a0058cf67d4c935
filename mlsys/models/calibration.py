"""Temperature scaling: probabilities made sharper or flatter by one number, so that they hold for rows not fitted on.

Boosted trees that stop by another metric than the log loss are over-confident, means of models are under-confident. One
temperature T mends both without changing an order: p becomes the softmax of log(p) / T. T has the least log loss on
rows that the model was not fitted on. A second number would fit those rows better and others rarely.

It is kept only where it pays: on each half of the rows, the temperature of the other half has to lower the log loss, by
more than one standard error of the paired difference over all rows.

References
----------
Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", ICML, arXiv:1706.04599.
Niculescu-Mizil & Caruana (2005), "Predicting good probabilities with supervised learning", ICML,
doi:10.1145/1102351.1102430: how boosting and bagging distort probabilities.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mlsys import label_sets as labels
from mlsys.models.matrix import probabilities
from mlsys.models.model_files import ModelFacts, read_facts, write_facts

FILE = "calibration.json"
"""File of a temperature beside those of the family; there is none where probabilities are taken as they are."""

MIN_ROWS = 1_000
"""Judged rows from which on a temperature is looked for: its standard error is then some hundredths."""

LEAST, MOST = 0.25, 4.0
"""Bounds of a temperature."""

SMALLEST = 1e-15
"""Probabilities below are taken for this one: the log loss of a model that excludes what happened is infinite."""


FEW_CLASSES = 8
"""Classes up to which numbers one by one take less time than arrays of one row."""


class Temperature(ModelFacts):
    """A temperature: above 1 it flattens probabilities, below 1 it sharpens them."""

    temperature: float = Field(gt=0, allow_inf_nan=False)

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of (rows, classes); the same bits for a row alone and among others.

        >>> Temperature(temperature=0.5).apply(np.array([[0.25, 0.75]])).round(3).tolist()
        [[0.1, 0.9]]
        """
        return probabilities(_logs(p) / self.temperature)

    def apply_to_row(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of (1, classes), with the bits of `apply` and of few classes in half its time."""
        if p.shape[1] > FEW_CLASSES:
            return self.apply(p)
        z = [float(np.log(max(value, SMALLEST))) / self.temperature for value in p[0].tolist()]
        most = max(z)
        weights = [1.0 if value == most else float(np.exp(value - most)) for value in z]
        total = functools.reduce(operator.add, weights)
        return np.array([[weight / total for weight in weights]])


class LabelTemperatures(ModelFacts):
    """A temperature for each of several labels, 1 where it is no gain; each label is a task of two classes."""

    temperatures: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]

    def apply(self, p: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of (rows, labels).

        >>> LabelTemperatures(temperatures=(1.0, 0.5)).apply(np.array([[0.75, 0.75]])).round(3).tolist()
        [[0.75, 0.9]]
        """
        scaled = p.copy()
        for k, temperature in enumerate(self.temperatures):
            if temperature != 1.0:
                own = Temperature(temperature=temperature)
                scaled[:, k] = own.apply(np.stack([1.0 - p[:, k], p[:, k]], axis=1))[:, 1]
        return scaled


@dataclass(frozen=True)
class Calibrated:
    """A fitted model of a family whose probabilities are scaled."""

    model: Any
    temperature: Temperature | LabelTemperatures


def fit_labels(y: np.ndarray, p: np.ndarray) -> LabelTemperatures | None:
    """Find the temperature of each label, as `fit`; None where it is no gain for any.

    `p` are (rows, labels), `y` the numbers of the sets of labels (`mlsys.label_sets`).
    """
    has = labels.table(y, p.shape[1])
    temperatures = [fit(has[:, k], np.stack([1.0 - p[:, k], p[:, k]], axis=1)) for k in range(p.shape[1])]
    if not any(temperatures):
        return None
    return LabelTemperatures(temperatures=tuple(1.0 if own is None else own.temperature for own in temperatures))


def fit(y: np.ndarray, p: np.ndarray) -> Temperature | None:
    """Find the temperature of probabilities of rows that were not fitted on; None where it is no gain.

    `p` are (rows, classes), `y` the positions of the true classes.
    """
    if len(y) < MIN_ROWS or p.ndim != 2:
        return None
    y, z = y.astype(np.intp), _logs(p)
    half = np.arange(len(y)) % 2 == 1
    gains = _losses(y, z)
    for judged in (half, ~half):
        gains[judged] -= _losses(y[judged], z[judged] / _best(y[~judged], z[~judged]))
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
    if not gains.mean() > error:
        return None
    return Temperature(temperature=_best(y, z))


def _logs(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(p, SMALLEST)))


def _losses(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Log loss of each row, from the logarithms of unscaled probabilities."""
    return np.asarray(-np.log(np.maximum(probabilities(z)[np.arange(len(y)), y], SMALLEST)))


def _best(y: np.ndarray, z: np.ndarray) -> float:
    """The temperature with the least log loss, which is convex in its inverse: where the slope is 0."""
    from scipy.optimize import brentq  # takes a second to import, and whoever only predicts needs it not

    right = z[np.arange(len(y)), y]

    def slope(inverse: float) -> float:
        return float(((probabilities(z * inverse) * z).sum(axis=1) - right).mean())

    ends = 1 / MOST, 1 / LEAST
    if slope(ends[0]) >= 0:
        return MOST
    if slope(ends[1]) <= 0:
        return LEAST
    return float(1 / brentq(slope, *ends, xtol=1e-6))


def write(temperature: Temperature | LabelTemperatures, folder: Path) -> None:
    """Write the temperature beside the files of its model."""
    write_facts(folder / FILE, temperature)


def read(folder: Path) -> Temperature | LabelTemperatures | None:
    """Read the temperature that lies beside the files of a model, if there is one."""
    if not (folder / FILE).is_file():
        return None
    if b'"temperatures"' in (folder / FILE).read_bytes():
        return read_facts(folder / FILE, LabelTemperatures)
    return read_facts(folder / FILE, Temperature)

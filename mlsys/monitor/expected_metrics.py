"""Metrics that are expected of rows whose labels are not known, from their scores and the rate of the class at each.

Of a class, cell i holds n_i rows, of which k_i = n_i c_i are expected to be of the class; all that a confusion matrix
or an order of scores says is a function of the k. Each function here returns its value with the gradient in k, from
which the noise of the labels (k_i is a sum of independent Bernoulli trials) and that of the rates follow by the delta
method.

References
----------
Guillory et al. (2021), Predicting with confidence on unseen distributions, ICCV, arXiv:2107.03315, for the accuracy.
Białek et al. (2024), Estimating model performance under covariate shift without labels, arXiv:2401.08348: the confusion
matrix from calibrated scores, which they call confidence-based performance estimation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys.evaluate import recalibration, weighted_metrics
from mlsys.evaluate.recalibration import Counts, Recalibration
from mlsys.schema import TaskKind
from mlsys.statistics.arrays import Floats

ValueAndGradient: TypeAlias = tuple[float, Floats]


@dataclass(frozen=True)
class ScoreCells:
    """Rows of a window by their score for one class, in the order of scores; empty cells are left out.

    Attributes
    ----------
    p
        The model's probability of the class at the middle of each cell.
    called
        Cells whose rows were called the class.
    n, rate
        Rows, and the share of them that is expected to be of the class.
    basis
        Derivative of the logit of `rate` by the coefficients of the recalibration, shape (cells, coefficients).
    """

    p: Floats
    called: NDArray[np.bool_]
    n: Floats
    rate: Floats
    basis: Floats

    @classmethod
    def of(cls, counts: Counts, calibration: Recalibration) -> ScoreCells:
        """Take counts of `recalibration.score_counts` of one class."""
        occupied = np.flatnonzero(counts)
        bins = occupied // 2
        p, rate = special.expit(recalibration.logits()), calibration.rates
        n = counts[occupied].astype(np.float64)
        return cls(p[bins], occupied % 2 == 1, n, rate[bins], calibration.basis[bins])

    @property
    def k(self) -> Floats:
        """Expected rows of the class in each cell."""
        return self.n * self.rate

    @property
    def variance(self) -> Floats:
        """Variance of the rows of the class in each cell, for labels that are independent given their scores."""
        return self.n * self.rate * (1 - self.rate)


Expected = Callable[[ScoreCells], ValueAndGradient]
OfRow = Callable[[ScoreCells], NDArray[Any]]
"""A number of the rows of each cell."""


def _mean_of(hit: OfRow, miss: OfRow) -> Expected:
    """Mean of a number a row that is `hit` where the row is of the class, and `miss` where it is not."""

    def expected(cells: ScoreCells) -> ValueAndGradient:
        total, of_class, of_others = cells.n.sum(), hit(cells), miss(cells)
        value = float((cells.k @ of_class + (cells.n - cells.k) @ of_others) / total)
        return value, (of_class - of_others) / total

    return expected


def concordance(cells: ScoreCells) -> ValueAndGradient:
    """Chance that a row of the class outranks another one; rows of one cell are ties."""
    k, others = cells.k, cells.n - cells.k
    num, num_others = k.sum(), others.sum()
    if not num or not num_others:
        return float("nan"), np.full(len(k), np.nan)
    below, above = np.cumsum(others) - others / 2, num - np.cumsum(k) + k / 2
    pairs = num * num_others
    value = float(k @ below / pairs)
    return value, (below - above - value * (num_others - num)) / pairs


def average_precision(cells: ScoreCells) -> ValueAndGradient:
    """Mean over the rows of the class of the share of the class among the rows that score no less."""
    k = cells.k
    num = k.sum()
    if not num:
        return float("nan"), np.full(len(k), np.nan)
    hits, rows = np.cumsum(k[::-1])[::-1], np.cumsum(cells.n[::-1])[::-1]
    value = float(k @ (hits / rows) / num)
    return value, (hits / rows + np.cumsum(k / rows) - value) / num


def of_matrix(function: Callable[[Floats], float]) -> Expected:
    """Make an expected metric of a function of the confusion matrix, rows the truth, the class second."""
    changes = [np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, -1.0], [0.0, 1.0]])]

    def expected(cells: ScoreCells) -> ValueAndGradient:
        columns = [[(cells.n - cells.k)[side].sum(), cells.k[side].sum()] for side in (~cells.called, cells.called)]
        matrix = np.array(columns, np.float64).T
        step = 1e-4 * max(float(matrix.min()), 1e-3)
        ends = [(function(matrix + step * change), function(matrix - step * change)) for change in changes]
        of_others, of_called = ((high - low) / (2 * step) for high, low in ends)
        return function(matrix), np.where(cells.called, of_called, of_others)

    return expected


def _of_class(values: Callable[[Floats], Floats]) -> Expected:
    """Make an expected metric of a number a class; 0 where it is not defined, as averages over classes have it."""
    return of_matrix(lambda matrix: float(np.nan_to_num(values(matrix)[1])))


def _zero(cells: ScoreCells) -> Floats:
    return np.zeros(len(cells.n))


def _surprise(cells: ScoreCells) -> Floats:
    return np.asarray(-np.log(cells.p))


log_loss = _mean_of(_surprise, lambda cells: np.asarray(-np.log1p(-cells.p)))
brier = _mean_of(lambda cells: (1 - cells.p) ** 2, lambda cells: cells.p**2)
accuracy = _mean_of(lambda cells: cells.called * 1.0, lambda cells: ~cells.called * 1.0)
rate = _mean_of(lambda cells: np.ones(len(cells.n)), _zero)

How = Literal["alone", "sum", "mean"]
"""The classes' values are the metric's, or it is their sum or their mean."""

_BINARY: Mapping[str, tuple[Expected, How]] = {
    "roc_auc": (concordance, "alone"),
    "pr_auc": (average_precision, "alone"),
    "log_loss": (log_loss, "alone"),
    "brier": (brier, "alone"),
    "accuracy": (accuracy, "alone"),
    "balanced_accuracy": (of_matrix(weighted_metrics.balanced_accuracy), "alone"),
    "precision": (of_matrix(lambda matrix: float(weighted_metrics.precision(matrix)[1])), "alone"),
    "recall": (of_matrix(lambda matrix: float(weighted_metrics.recall(matrix)[1])), "alone"),
    "f1": (of_matrix(lambda matrix: float(weighted_metrics.f1(matrix)[1])), "alone"),
    "mcc": (of_matrix(weighted_metrics.matthews), "alone"),
}
_MULTICLASS: Mapping[str, tuple[Expected, How]] = {
    "roc_auc": (concordance, "mean"),
    "pr_auc": (average_precision, "mean"),
    "log_loss": (_mean_of(_surprise, _zero), "sum"),
    "accuracy": (_mean_of(lambda cells: cells.called * 1.0, _zero), "sum"),
    "balanced_accuracy": (_of_class(weighted_metrics.recall), "mean"),
    "precision_macro": (_of_class(weighted_metrics.precision), "mean"),
    "recall_macro": (_of_class(weighted_metrics.recall), "mean"),
    "f1_macro": (_of_class(weighted_metrics.f1), "mean"),
}
_MULTILABEL: Mapping[str, tuple[Expected, How]] = {
    "mean_log_loss": (log_loss, "mean"),
    "mean_brier": (brier, "mean"),
    "macro_roc_auc": (concordance, "mean"),
    "macro_pr_auc": (average_precision, "mean"),
    "macro_f1": (_of_class(weighted_metrics.f1), "mean"),
    "hamming_loss": (
        _mean_of(lambda cells: ~cells.called * 1.0, lambda cells: cells.called * 1.0),
        "mean",
    ),
}
EXPECTED: Mapping[TaskKind, Mapping[str, tuple[Expected, How]]] = {
    TaskKind.BINARY: _BINARY,
    TaskKind.MULTICLASS: _MULTICLASS,
    TaskKind.MULTILABEL: _MULTILABEL,
}
"""Kind of task → the metrics that scores alone give an expectation of."""


@dataclass(frozen=True)
class ExpectedValue:
    """The expectation of a metric, the variance of the labels' noise around it, and that of the rates behind it."""

    value: float
    noise: float
    calibration: float


def expect(
    kind: TaskKind,
    metric: str,
    classes: Sequence[ScoreCells],
    calibrations: Sequence[Recalibration],
    beside: float = 1.0,
) -> ExpectedValue:
    """Expect a metric of rows in cells, `beside` of which are of one day and may be alike.

    The classes' parts of a sum are of rows that are of one class only, which makes the variance of the sum no more than
    the sum of theirs. Of a mean nothing is known, and its error is at most the mean of their errors.
    """
    function, how = EXPECTED[kind][metric]
    of_classes = zip(classes, calibrations, strict=True)
    parts = [_part(function, *each, beside) for each in of_classes if how != "mean" or _occurs(each[0])]
    if not parts:
        return ExpectedValue(float("nan"), float("nan"), float("nan"))
    value, noise, calibration = (np.array(column) for column in zip(*parts, strict=True))
    if how == "mean":
        return ExpectedValue(float(value.mean()), *(float(np.sqrt(v).mean() ** 2) for v in (noise, calibration)))
    return ExpectedValue(float(value.sum()), float(noise.sum()), float(calibration.sum()))


def expected_rate(cells: ScoreCells, calibration: Recalibration, beside: float = 1.0) -> ExpectedValue:
    """Share of the rows that is expected to be of a class."""
    return ExpectedValue(*_part(rate, cells, calibration, beside))


def _occurs(cells: ScoreCells) -> bool:
    """Tell whether a row of the class and one of another are expected at all."""
    return bool(min(cells.k.sum(), (cells.n - cells.k).sum()) >= 1)


def _part(
    function: Expected, cells: ScoreCells, calibration: Recalibration, beside: float
) -> tuple[float, float, float]:
    """The value of a class, the variance of the labels' noise, and that of the rates."""
    value, gradient = function(cells)
    slope = (gradient * cells.variance) @ cells.basis
    information = cells.basis.T @ (cells.basis * cells.variance[:, np.newaxis])
    if not np.isfinite(slope).all():
        return value, float("nan"), float("nan")
    along = np.asarray(np.linalg.lstsq(information, slope)[0], np.float64)  # the gradient by the basis
    noise = calibration.design_effect(along, beside) * float(gradient**2 @ cells.variance)
    return value, noise, float(slope @ calibration.covariance @ slope)

"""Rate of a class given the model's probability for it, on rows that the model was not fitted on, with its error.

The monitor needs it where labels are late: if rows of one score keep their rate, the scores of a window alone say how
many of its rows are of the class, and every metric of its confusion matrix or of its order follows. Scores are taken as
they are only as far as held-out rows agree. On the logit scale, with z the logit of the model's probability,

``logit c(z) = z + b(z)``

and b is linear between knots, which lie at quantiles of the held-out scores with both classes counted alike: b = 0 is
the model's word, a constant or a slope is the calibration of Cox (1958), Biometrika 45:562. b has the values of largest
posterior: its level is normal with a standard deviation of `LEVEL_SD`, its steps from knot to knot are those of a
random walk with one of `STEP_SD`, longer ones more (a penalised spline, Eilers & Marx 1996, Stat. Sci. 11:89). The
covariance is the cluster-robust sandwich over the units that belong together (Liang & Zeger 1986, Biometrika 73:13),
with the prior's precision in its middle: for rows that stand alone and a model that holds it is the inverse of the
Hessian.

Scores are counted in cells (`score_counts`), by the bin of their logit and whether the row was called the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys import label_sets
from mlsys.schema import Task, TaskKind
from mlsys.statistics.arrays import Floats

Counts = NDArray[np.int64]

LOWEST, WIDTH, NUM_BINS = -14.01, 0.02, 1_401
"""Bins of the logit, from a probability of 8e-7 on: at most 0.25 points of probability to its middle."""

NUM_CELLS = 2 * NUM_BINS
"""Cells of a class: every bin twice, rows that were called the class second."""

MIN_ROWS, MIN_CLASS_ROWS, MAX_CLASSES = 200, 10, 50
"""Held-out rows, and rows of either class of a binary task, that a recalibration needs; classes that it is made for."""

LEVELS = (0.0, *((2 * k + 1) / 20 for k in range(10)), 1.0)
"""Quantiles of the held-out scores at which b has a knot: the middle of each tenth, and both ends."""

LEVEL_SD, STEP_SD = 2.0, 0.5
"""Standard deviations of b as a whole, a factor of 7 on the odds, and of a step of up to 1 of the logit."""

MAX_STEPS = 100


def score_counts(output: Floats, task: Task, threshold: float | Sequence[float] | None) -> Counts:
    """Count rows by cell for the positive class, or for each class or label: shape (classes, `NUM_CELLS`).

    No class has counts in a task that is no classification, or has more than `MAX_CLASSES`.
    """
    if not task.is_classification or len(task.output_names) > MAX_CLASSES:
        return np.zeros((0, NUM_CELLS), np.int64)
    p = of_classes(output, task)
    if task.kind is TaskKind.MULTICLASS:
        called = np.arange(p.shape[1]) == p.argmax(axis=1)[:, np.newaxis]
    else:
        called = p >= np.asarray(0.5 if threshold is None else threshold)
    cells = 2 * bins_of(p) + called
    return np.stack([np.bincount(column, minlength=NUM_CELLS) for column in cells.T])


def of_classes(output: Floats, task: Task) -> Floats:
    """Probabilities of the classes that are counted, shape (rows, classes): of a binary task the positive one alone."""
    return output[:, 1:] if task.kind is TaskKind.BINARY else output


def bins_of(p: Floats) -> Counts:
    """Bin of the logit of each probability.

    >>> bins_of(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 700, 1400]
    """
    z = special.logit(np.clip(np.nan_to_num(p), 1e-9, 1 - 1e-9))
    return np.asarray(np.clip(np.floor((z - LOWEST) / WIDTH), 0, NUM_BINS - 1), np.int64)


def logits() -> Floats:
    """Logits at the middle of the bins."""
    return np.asarray(LOWEST + WIDTH * (np.arange(NUM_BINS) + 0.5), np.float64)


@dataclass(frozen=True)
class Recalibration:
    """The rate of a class by the bin of the model's probability, from held-out rows.

    Attributes
    ----------
    knots
        Logits at which b may bend.
    coefficients, covariance
        b at the knots, and its covariance.
    ends
        First and last bin with a held-out row.
    clustered, independent
        Covariance of the sums of residuals times basis functions, over the units, and if rows were independent.
    beside
        Rows in the unit of a held-out row, itself among them; 1 for rows that stand alone.
    """

    knots: tuple[float, ...]
    coefficients: Floats
    covariance: Floats
    ends: tuple[int, int]
    clustered: Floats
    independent: Floats
    beside: float

    @classmethod
    def fit(cls, bins: Counts, is_class: NDArray[np.bool_], units: Counts | None = None) -> Self:
        """Fit on rows by their bin and whether they are of the class; rows of one of the `units` may be alike."""
        # 1. Knots, and the basis of b
        n = np.bincount(bins, minlength=NUM_BINS).astype(np.float64)
        k = np.bincount(bins[is_class], minlength=NUM_BINS).astype(np.float64)
        z, occupied = logits(), np.flatnonzero(n)
        knots = tuple(z[np.unique(_quantiles(n, k))].tolist())
        basis = _basis(z, knots)
        # 2. The largest posterior, and its sandwich
        precision = _precision(knots)
        coefficients, bread = _mode(z, n, k, basis, precision)
        rate = special.expit(z + basis @ coefficients)
        residual = is_class - rate[bins]
        clustered = _meat(residual, bins, basis, units)
        independent = basis.T @ (basis * (n * rate * (1 - rate))[:, np.newaxis])
        covariance = bread @ (clustered + precision) @ bread
        sizes = np.ones(1) if units is None else np.bincount(units)
        beside = float((sizes**2).sum() / sizes.sum())
        ends = int(occupied[0]), int(occupied[-1])
        return cls(knots, coefficients, covariance, ends, clustered, independent, beside)

    @property
    def basis(self) -> Floats:
        """Basis functions at the middle of the bins, shape (bins, knots)."""
        return _basis(logits(), self.knots)

    @property
    def rates(self) -> Floats:
        """Rate of the class in each bin."""
        return np.asarray(special.expit(logits() + self.basis @ self.coefficients))

    def design_effect(self, slope: Floats, beside: float) -> float:
        """Factor of the variance of a sum over rows of residuals times ``basis @ slope``, for units of `beside` rows.

        ``1 + (beside - 1) rho``, with rho from the held-out rows, 0 to 1: what the sum varies by over their units
        beyond independent rows, by row beside a row (Kish 1965, Survey Sampling, section 5.4).
        """
        alone = float(slope @ self.independent @ slope)
        if self.beside <= 1 or alone <= 0:
            return 1.0
        ratio = float(slope @ self.clustered @ slope) / alone
        return 1 + max(beside - 1, 0.0) * float(np.clip((ratio - 1) / (self.beside - 1), 0.0, 1.0))

    def to_json(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"knots": list(self.knots), "ends": list(self.ends), "beside": self.beside, **arrays}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        low, high = value["ends"]
        arrays = {name: np.array(value[name], np.float64) for name in _ARRAYS}
        return cls(tuple(value["knots"]), ends=(int(low), int(high)), beside=float(value["beside"]), **arrays)


_ARRAYS = ("coefficients", "covariance", "clustered", "independent")


def _quantiles(n: Floats, k: Floats) -> Counts:
    """Bins of the knots: quantiles of n rows a bin, of which k are of the class, with both sides counted alike."""
    sides = [side / side.sum() for side in (k, n - k) if side.sum()]
    running = np.cumsum(np.mean(sides, axis=0))
    places = np.searchsorted(running, np.array(LEVELS) * running[-1] * (1 - 1e-12), side="left")
    first, last = np.flatnonzero(n)[[0, -1]]
    return np.asarray(np.clip(places, first, last), np.int64)


def _basis(z: Floats, knots: Sequence[float]) -> Floats:
    """Hat functions: 1 at their knot, 0 at all others, linear between them and constant beyond."""
    return np.column_stack([np.interp(z, knots, column) for column in np.eye(len(knots))])


def _precision(knots: Sequence[float]) -> Floats:
    """Inverse covariance of the prior of b at the knots."""
    count = len(knots)
    steps = np.diff(np.eye(count), axis=0)
    variances = STEP_SD**2 * np.maximum(np.diff(knots), 1.0)[:, np.newaxis]
    return np.asarray(steps.T @ (steps / variances) + np.eye(count) / (count * LEVEL_SD**2))


def _mode(z: Floats, n: Floats, k: Floats, basis: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Coefficients of the largest posterior, by Newton's method with halved steps, and the inverse of its Hessian."""

    def loss(b: Floats) -> float:
        eta = z + basis @ b
        return float(n @ np.logaddexp(0, eta) - k @ eta + b @ precision @ b / 2)

    b = np.zeros(basis.shape[1])
    inverse = np.linalg.inv(precision)
    for _ in range(MAX_STEPS):
        rate = special.expit(z + basis @ b)
        inverse = np.linalg.inv(basis.T @ (basis * (n * rate * (1 - rate))[:, np.newaxis]) + precision)
        step = inverse @ (basis.T @ (k - n * rate) - precision @ b)
        while loss(b + step) > loss(b) and np.abs(step).max() > 1e-9:
            step = step / 2
        if np.abs(step).max() < 1e-8:
            break
        b = b + step
    return b, np.asarray(inverse, np.float64)


def _meat(residual: Floats, bins: Counts, basis: Floats, units: Counts | None) -> Floats:
    """Sum over the units of the outer products of their scores, corrected for their number."""
    if units is None:
        squares = np.bincount(bins, weights=residual**2, minlength=NUM_BINS)
        return np.asarray(basis.T @ (basis * squares[:, np.newaxis]))
    scores = np.column_stack([np.bincount(units, weights=residual * column[bins]) for column in basis.T])
    count = max(len(np.unique(units)), 2)
    return np.asarray(scores.T @ scores * count / (count - 1))


def facts(y: Floats, output: Floats, task: Task, units: Counts | None) -> dict[str, Any] | None:
    """Recalibrations of all classes as JSON values, for `mlsys.monitor.estimate`; None where rows are too few.

    Keys: ``num_rows``; ``freedom``, the units less one, None for rows that stand alone; ``classes``, a recalibration
    for each, in the order of `score_counts`.
    """
    if not task.is_classification or len(task.output_names) > MAX_CLASSES or len(y) < MIN_ROWS:
        return None
    if task.labels:
        truth = label_sets.table(y, len(task.labels)).astype(np.bool_)
    elif task.kind is TaskKind.BINARY:
        truth = (y == 1)[:, np.newaxis]
        if min(truth.sum(), len(y) - truth.sum()) < MIN_CLASS_ROWS:
            return None
    else:
        truth = y[:, np.newaxis] == np.arange(output.shape[1])
    bins = bins_of(of_classes(output, task))
    numbered = None if units is None else np.unique(units, return_inverse=True)[1].astype(np.int64)
    fits = [Recalibration.fit(bins[:, j], truth[:, j], numbered) for j in range(bins.shape[1])]
    freedom = None if numbered is None else int(numbered.max())  # numbers begin at 0
    return {"num_rows": len(y), "freedom": freedom, "classes": [each.to_json() for each in fits]}

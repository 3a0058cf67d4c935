"""Linear models of more rows than fit in memory: passes over blocks of rows, of which one is in memory at a time.

Each pass adds up what the solution depends on, and that is of the size of the features, not of the rows: moments to
centre and scale by, products of features for least squares, gradient and second derivatives for the logistic loss. So
the solutions are those of the whole matrix, but for the order in which numbers are added.

*Least squares*: the normal equations, with the means taken out, solved at once. *Logistic loss*: Newton's method, which
reads all rows once a step, and takes half a step where a whole one would raise the loss. *Absolute loss*: Huber's, by
reweighted least squares, two passes each time; it keeps a residual a row.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American Statistician 37(3), 242-247,
doi:10.1080/00031305.1983.10483115 (moments of parts that are put together).
Hastie, Tibshirani & Friedman (2009), "The Elements of Statistical Learning", 2nd ed., section 4.4.1 (Newton steps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys.models.matrix import ROUNDED, Matrix, standardised

MOST_PARAMETERS = 2_500
"""Coefficients of all outputs up to which second derivatives are added up: 50 MB of them."""

SLOPE = 1e-7
"""Slope of the mean loss, the largest of all coefficients, at which Newton's method is at its end."""

HALVINGS = 20
"""Halved steps in a row after which no step lowers the loss: rounding is all that is left."""

Solution = tuple[np.ndarray, np.ndarray, bool]
"""Coefficients (features, outputs), intercepts (outputs,), and whether the solver converged."""


@dataclass(frozen=True)
class RowMoments:
    """Mean and standard deviation of each feature over all rows, their number, types of features, and classes."""

    centre: np.ndarray
    scale: np.ndarray
    num_rows: int
    types: tuple[str, ...]
    present: tuple[int, ...]


@dataclass(frozen=True)
class StandardBlocks:
    """Blocks of rows with their features centred and scaled, one at a time."""

    blocks: Sequence[Matrix]
    centre: np.ndarray
    scale: np.ndarray

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Features, target and weights of each block that has rows."""
        for number in range(len(self.blocks)):
            block = self.blocks[number]
            if block.num_rows:
                weight = np.ones(block.num_rows) if block.weight is None else block.weight
                yield standardised(block.X, self.centre, self.scale), block.y, weight

    @property
    def width(self) -> int:
        return int(self.centre.size)


def moments(blocks: Sequence[Matrix], *, are_classes: bool) -> RowMoments:
    """Moments as `mlsys.models.matrix.centre_and_scale` has them; terms of texts stay as they are."""
    present, num_rows, types = set[int](), 0, tuple[str, ...]()
    parts = (np.zeros(0), np.zeros(0), np.zeros(0))
    for number in range(len(blocks)):
        block = blocks[number]
        if not number:
            types, parts = block.types, _nothing(block.num_features)
        present |= set(np.unique(block.y.astype(np.int64)).tolist()) if are_classes else set()
        num_rows += block.num_rows
        parts = _together(parts, _moments(block))
    total, mean, squares = parts
    spread = np.sqrt(np.divide(squares, total, out=np.zeros_like(squares), where=total > 0))
    kinds = np.array(types, str)
    is_scaled = (spread > ROUNDED * np.abs(mean)) & ~np.isin(kinds, ("e", "t"))
    centre, scale = np.where(kinds == "t", 0.0, mean), np.where(is_scaled, spread, 1.0)
    return RowMoments(centre, scale, num_rows, types, tuple(sorted(present)))


Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each feature: weight, mean, and sum of squared distances from it."""


def _nothing(width: int) -> Parts:
    return np.zeros(width), np.zeros(width), np.zeros(width)


def _moments(block: Matrix) -> Parts:
    """Moments of the finite values of a block."""
    total, mean, squares = _nothing(block.num_features)
    for j in range(block.num_features):
        values = block.X[:, j].astype(np.float64)
        finite = np.isfinite(values)
        values = values[finite]
        weight = np.ones(values.size) if block.weight is None else block.weight[finite]
        total[j] = weight.sum()
        if total[j] > 0:
            mean[j] = weight @ values / total[j]
            squares[j] = weight @ (values - mean[j]) ** 2
    return total, mean, squares


def _together(first: Parts, other: Parts) -> Parts:
    """The moments of two parts as one."""
    total, apart = first[0] + other[0], other[1] - first[1]
    share = np.divide(other[0], total, out=np.zeros_like(total), where=total > 0)
    return total, first[1] + apart * share, first[2] + other[2] + apart**2 * first[0] * share


def least_squares(rows: StandardBlocks, l2: float) -> Solution:
    """Minimise squared errors and half of the penalty's share: the normal equations, added up in one pass."""
    return (*_solved(rows, l2), True)


def _solved(
    rows: StandardBlocks, l2: float, factor: Callable[[int, int], Any] = lambda *_: 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares; `factor` gives what weights of the rows from one to another are multiplied by."""
    from scipy import linalg

    products, first, total = np.zeros((rows.width + 1, rows.width + 1)), 0, 0.0
    sums = at = np.zeros(rows.width + 1)
    for X, y, own in rows:
        weight = own * factor(first, first + len(y))
        beside = np.column_stack([X, y])
        mean = (weight @ beside) / max(float(weight.sum()), np.finfo(float).tiny)
        at = at if first else mean  # differences from the first means lose nothing by rounding
        beside -= at
        products += beside.T @ (weight[:, None] * beside)
        sums = sums + weight @ beside
        first, total = first + len(y), total + float(weight.sum())
    mean = sums / total
    products -= total * np.outer(mean, mean)
    left = products[:-1, :-1] + l2 * np.eye(rows.width)
    solved = linalg.solve(left, products[:-1, -1], assume_a="pos") if rows.width else np.zeros(0)
    centre = at + mean
    return solved.reshape(-1, 1), np.array([float(centre[-1] - centre[:-1] @ solved)])


def huber(rows: StandardBlocks, l2: float, steps: int, limit_of: Callable[[np.ndarray, Any], float]) -> Solution:
    """Minimise Huber's loss; `limit_of` says of absolute residuals and weights up to where it is a square."""
    own = np.concatenate([weight for _, _, weight in rows])
    are_weighted, weight, before = bool((own != 1.0).any()), np.ones(len(own)), np.zeros(rows.width + 1)
    coefficient, intercept = np.zeros((rows.width, 1)), np.zeros(1)
    for _ in range(steps):
        coefficient, intercept = _solved(rows, l2, lambda first, beyond: weight[first:beyond])  # noqa: B023 - at once
        now = np.append(coefficient, intercept)
        if np.allclose(now, before, rtol=1e-6, atol=1e-9 * float(np.abs(now).max(initial=0.0))):
            return coefficient, intercept, True
        residuals = np.concatenate([np.abs(y - X @ coefficient[:, 0] - intercept[0]) for X, y, _ in rows])
        limit = limit_of(residuals, own if are_weighted else None)
        weight, before = np.minimum(1.0, limit / np.maximum(residuals, limit)), now
    return coefficient, intercept, False


def logistic(rows: StandardBlocks, present: tuple[int, ...], l2: float, steps: int) -> Solution:
    """Minimise the logistic loss summed over the rows and half of `l2` times the squared coefficients.

    Two classes have one output, more of them one each, as scikit-learn has it.
    """
    outputs = 1 if len(present) == 2 else len(present)
    beta, step = np.zeros((rows.width + 1, outputs)), np.zeros((rows.width + 1, outputs))
    loss, slope, curvature, total = _derivatives(rows, present, beta, l2)
    halved = 0
    for _ in range(steps):
        if np.abs(slope).max(initial=0.0) <= SLOPE * total:
            return np.ascontiguousarray(beta[:-1]), beta[-1].copy(), True
        if not halved:
            step = _newton_step(slope, curvature)
        ahead = _derivatives(rows, present, beta - step * 0.5**halved, l2)
        if ahead[0] <= loss:
            beta, (loss, slope, curvature, _), halved = beta - step * 0.5**halved, ahead, 0
        elif halved == HALVINGS:
            break
        else:
            halved += 1
    return np.ascontiguousarray(beta[:-1]), beta[-1].copy(), False


def _newton_step(slope: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """The step to the minimum of the parabola; outputs of which only differences matter share their intercepts."""
    from scipy import linalg

    width, outputs = slope.shape
    if outputs > 1:  # the same number added to all intercepts changes nothing: keep their sum
        intercepts = np.arange(outputs) * width + width - 1
        curvature = curvature.copy()
        curvature[np.ix_(intercepts, intercepts)] += 1.0 + np.abs(np.diag(curvature)).max()
    flat = linalg.solve(curvature, slope.T.ravel(), assume_a="pos")
    return np.asarray(flat.reshape(outputs, width).T)


def _derivatives(
    rows: StandardBlocks, present: tuple[int, ...], beta: np.ndarray, l2: float
) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Loss, slope (features and intercept, outputs), second derivatives, and the weight of all rows."""
    width, outputs = beta.shape
    penalty = np.append(np.full(width - 1, l2), 0.0)
    loss, slope = 0.5 * float((penalty[:, None] * beta**2).sum()), penalty[:, None] * beta
    curvature, total = np.diag(np.tile(penalty, outputs)), 0.0
    for X, y, weight in rows:
        augmented = np.column_stack([X, np.ones(len(y))])
        losses, shares, missed = _of_rows(augmented @ beta, np.searchsorted(present, y), outputs)
        loss, total = loss + float(weight @ losses), total + float(weight.sum())
        slope += augmented.T @ (weight[:, None] * missed)
        for k in range(outputs):
            for other in range(k, outputs):
                own = shares[:, k] * ((k == other) - shares[:, other])
                block = augmented.T @ ((weight * own)[:, None] * augmented)
                at, beyond = slice(k * width, (k + 1) * width), slice(other * width, (other + 1) * width)
                curvature[at, beyond] += block
                if other != k:
                    curvature[beyond, at] += block.T
    return loss, slope, curvature, total


def _of_rows(scores: np.ndarray, places: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The loss of each row, the probabilities of its outputs, and by how much they miss the class at its place."""
    if outputs == 1:
        score, sign = scores[:, 0], np.where(places == 1, 1.0, -1.0)
        shares = 1 / (1 + np.exp(-np.clip(score, -700.0, 700.0)))
        return np.logaddexp(0.0, -sign * score), shares[:, None], (shares - (places == 1))[:, None]
    scores = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    own = np.arange(len(places)), places
    missed = shares.copy()
    missed[own] -= 1.0
    return np.log(exponentials.sum(axis=1)) - scores[own], shares, missed

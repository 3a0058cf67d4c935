"""Rows as models take them, a float32 matrix and the target as numbers; and scores as probabilities.

Linear scores of standardised features and their probabilities, with the same bits for a row alone and among others.

NumPy's reductions pick their order of summation by shape, BLAS by the number of rows.
Here every sum runs in index order (``np.add.accumulate`` is sequential by definition)
and everything else is one correctly defined operation an element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from mlsys import errors
from mlsys.statistics.hashing import GOLDEN, mix

LARGEST = 1e30
"""Trees take values up to this size; scikit-learn and XGBoost refuse infinity, and XGBoost
doubles the largest value of a feature in float32, whose own limit is 3.4e38."""


@dataclass(frozen=True)
class Matrix:
    """Features and target of some rows.

    Attributes
    ----------
    X
        Float32, (rows, features), C order; NaN where a value is missing.
    y
        Float64, (rows,): position in `Task.classes`, or the value to predict.
    names
        Name a feature.
    types
        A feature: ``q`` a quantity, ``c`` a category (a non-negative whole number), ``k`` one of up to
        `limits.MAX_KEYS` categories (the more frequent, the smaller), ``m`` a mean of the target over a category,
        ``e`` a coordinate of an embedding, whose distances mean something: no family may scale one apart from the
        others; ``t`` a term of a text, zero in nearly all rows; ``P`` the first level of a square picture in three
        channels, side by side a pixel, and ``p`` its others.
    weight
        Float64, (rows,): how much a row counts; None where all count alike.
    exposure
        Float64, (rows,): what the expected target goes with; None where that is one for all rows.
    groups
        Uint64, (rows,): the group that a row is ranked in, by a hash of its name; None for other tasks.
    signs
        A feature: 1 if predictions must not fall along it, -1 if they must not rise, else 0; empty for no feature.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    types: tuple[str, ...]
    weight: np.ndarray | None = None
    exposure: np.ndarray | None = None
    signs: tuple[int, ...] = ()
    groups: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def num_features(self) -> int:
        return int(self.X.shape[1])

    def take(self, rows: np.ndarray) -> Matrix:
        """The rows at these positions, or where this mask is true."""
        beside = {"weight": self.weight, "exposure": self.exposure, "groups": self.groups}
        own: dict[str, Any] = {name: None if values is None else values[rows] for name, values in beside.items()}
        return replace(self, X=self.X[rows], y=self.y[rows], **own)

    def as_counted(self, power: float | None = None) -> Matrix:
        """Rows as they are fitted: those that count, and the target a unit of exposure.

        A row of exposure e with target y has the deviance of y from e times the rate m. For a variance that goes with
        the power p of the mean that is e^(2-p) times the deviance of y / e from m (Jørgensen 1987, as in
        `mlsys.evaluate.deviances`): what it is with log(e) added to each score, and the same in every library.

        >>> rows = Matrix(np.zeros((2, 0)), np.array([6.0, 1.0]), (), (), None, np.array([2.0, 1.0]))
        >>> rows.as_counted(power=1.0).y.tolist(), rows.as_counted(power=1.0).weight.tolist()
        ([3.0, 1.0], [2.0, 1.0])
        """
        rows = self
        if rows.exposure is not None:
            own = rows.exposure ** (2.0 - (power or 0.0))
            weight = own if rows.weight is None else rows.weight * own
            rows = replace(rows, y=rows.y / rows.exposure, weight=weight, exposure=None)
        if rows.weight is None or (rows.weight > 0).all():
            return rows
        return rows.take(rows.weight > 0)

    def by_group(self) -> Matrix:
        """The rows of each group one after the other, as libraries that rank take them; as they are without groups.

        The order of groups, and of rows in them, follows from hashes of names and features, so that the same rows in
        another order give the same matrix. It must not follow the order in which rows were stored, which is often that
        of the grades: libraries break ties of the first trees by it, and would find an order that no model has learned.
        Rows that are equal on all features have equal scores, and stand with the worst grade first.
        """
        if self.groups is None:
            return self
        return self.take(np.lexsort((self.y, _row_hashes(self.X), self.groups)))

    @property
    def group_sizes(self) -> np.ndarray:
        """Rows of each group, of a matrix that is `by_group`; of others, of each run of rows of one group."""
        groups = np.zeros(self.num_rows, np.uint64) if self.groups is None else self.groups
        begins = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])
        return np.diff(np.append(begins, len(groups)))

    @property
    def group_weights(self) -> np.ndarray | None:
        """The weight of each group, that of its first row: the rows of a group count alike."""
        sizes = self.group_sizes
        return None if self.weight is None else self.weight[np.cumsum(sizes) - sizes]

    @property
    def can_rank(self) -> bool:
        """True if some group has rows of different grades, so that an order can be right or wrong."""
        sizes = self.group_sizes
        first = np.repeat(self.y[np.cumsum(sizes) - sizes], sizes)
        return bool((self.y != first).any())

    def of_rows(self, output: np.ndarray) -> np.ndarray:
        """Predictions of these rows for their exposure, from those for a unit of it."""
        return output if self.exposure is None else np.asarray(output * self.exposure)


def _row_hashes(X: np.ndarray) -> np.ndarray:
    """Hash each row over the bits of its features, in their order."""
    rows = np.zeros(len(X), np.uint64)
    for column in X.T:
        rows = mix(rows ^ np.ascontiguousarray(column, np.float32).view(np.uint32)) * GOLDEN
    return rows


def joined(blocks: Sequence[Matrix]) -> Matrix:
    """Blocks of rows of the same features as one."""
    if len(blocks) == 1:
        return blocks[0]
    X, y = np.concatenate([block.X for block in blocks]), np.concatenate([block.y for block in blocks])
    names = ("weight", "exposure", "groups")
    beside: dict[str, Any] = {name: joined_values([getattr(block, name) for block in blocks]) for name in names}
    return replace(blocks[0], X=X, y=y, **beside)


def joined_values(blocks: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Weights or groups of blocks of rows as one array; None where they have none."""
    known = [block for block in blocks if block is not None]
    return np.concatenate(known) if known else None


def drawn(rng: np.random.Generator, num_rows: int, most: int) -> np.ndarray:
    """Draw the positions of at most `most` rows, in their order."""
    positions = rng.permutation(num_rows)[:most] if num_rows > most else np.arange(num_rows)
    return np.asarray(np.sort(positions))


def bounded(X: np.ndarray) -> np.ndarray:
    """`X` with infinite and huge values at ±`LARGEST`: their order, and NaN, stay.

    >>> bounded(np.array([[np.inf, np.nan, 2.0]], dtype=np.float32)).tolist()
    [[1.0000000150474662e+30, nan, 2.0]]
    """
    with np.errstate(invalid="ignore"):
        # NaN unless there is a number: one pass over the matrix each, and no copy of it
        largest, least = (each.reduce(X, axis=None, initial=np.nan) for each in (np.fmax, np.fmin))
        if not (largest > LARGEST or least < -LARGEST):
            return X
        return np.asarray(np.clip(X, np.float32(-LARGEST), np.float32(LARGEST)))


def check_width(X: np.ndarray, num_features: int, family: str) -> None:
    """Refuse a matrix of another width than the model was fitted on.

    Raises
    ------
    BundleError
        Model and feature program do not belong together.
    """
    if X.ndim != 2 or X.shape[1] != num_features:
        hint = "the feature program and the model must come from one bundle"
        raise errors.BundleError.build(
            f"models: {family} model", got=f"a matrix of shape {X.shape}", expected=f"(rows, {num_features})", hint=hint
        )


_FEW_ROWS = 64
"""Up to this many rows one NumPy call over (rows, features, outputs) is faster than a loop over features."""


ROUNDED = 1e-14
"""Spread beside the mean up to which a feature is constant: that of sums of one number, which are rounded."""


def centre_and_scale(
    X: np.ndarray, types: tuple[str, ...], weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the mean and standard deviation of each feature over its finite values, each as often as its weight says.

    A constant feature keeps scale 1, and so do coordinates: their lesser axes, which are mostly
    noise, would weigh as much as the leading ones.
    """
    centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    for j in range(X.shape[1]):
        column = X[:, j].astype(np.float64)
        finite = np.isfinite(column)
        column, own = column[finite], None if weight is None else weight[finite]
        if column.size:
            centre[j] = column.mean() if own is None else np.average(column, weights=own)
            spread = column.std() if own is None else np.sqrt(np.average((column - centre[j]) ** 2, weights=own))
            scale[j] = spread if spread > ROUNDED * abs(centre[j]) and types[j] != "e" else 1.0
    return centre, scale


def standardised(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute (X - centre) / scale in float64; what is not finite stands at the centre."""
    standard_X = (X.astype(np.float64) - centre) / scale
    return np.where(np.isfinite(standard_X), standard_X, 0.0)


def ordered_sum(terms: np.ndarray, axis: int) -> np.ndarray:
    """Sum along `axis` from the first term to the last, whatever the shape."""
    return np.asarray(np.take(np.add.accumulate(terms, axis=axis), -1, axis=axis))


def ordered_scores(X: np.ndarray, coefficient: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Compute scores (n, outputs), each summed from the intercept through the features in order."""
    n = X.shape[0]
    if n <= _FEW_ROWS:
        first = np.broadcast_to(intercept, (n, 1, intercept.size))
        return ordered_sum(np.concatenate([first, X[:, :, None] * coefficient], axis=1), axis=1)
    scores = np.tile(intercept, (n, 1))
    for j, weight in enumerate(coefficient):
        scores += X[:, j, None] * weight
    return scores


def outputs(scores: np.ndarray, present: tuple[int, ...], classes: int) -> np.ndarray:
    """Turn scores (n, outputs) into values (`classes` 0), or into probabilities of all `classes`.

    `present` are the classes that training had, which the scores are about; another class has probability 0.
    """
    if classes == 0:
        return np.ascontiguousarray(scores[:, 0])
    known = probabilities(scores) if len(present) > 1 else np.ones((len(scores), 1))
    if known.shape[1] == classes:
        return known
    full = np.zeros((len(scores), classes))
    full[:, list(present)] = known
    return full


LARGEST_LOG = 700.0
"""Logarithms are cut at this size: beyond 709 there is no number in float64."""


def exponential(scores: np.ndarray) -> np.ndarray:
    """Turn scores on the scale of the logarithm into values above 0, the same bits for a score alone.

    >>> exponential(np.array([0.0, -1e9])).tolist() == [1.0, float(np.exp(-700.0))]
    True
    """
    logs = np.ascontiguousarray(scores, dtype=np.float64).reshape(-1)
    return np.asarray(np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG)))


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Turn scores into probabilities of classes: logistic for (n,) or (n, 1), softmax for (n, classes).

    >>> probabilities(np.array([0.0])).tolist()
    [[0.5, 0.5]]
    >>> probabilities(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    if scores.size == 1:
        positive = float(expit(float(scores.item())))
        return np.array([[1.0 - positive, positive]])
    z = np.ascontiguousarray(scores, dtype=np.float64)
    if z.ndim == 1 or z.shape[1] == 1:
        both = np.empty((z.shape[0], 2))
        both[:, 1] = expit(z.reshape(-1))
        both[:, 0] = 1.0 - both[:, 1]
        return both
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(weights / ordered_sum(weights, axis=1)[:, None])

"""Target encoding: a category becomes the mean of the target over the training rows that have it.

Of a category with n rows and mean y, the encoding is

    (n · y + m · overall mean) / (n + m)

so that a rare category says little: m is the number of rows that the overall mean counts as.
Without a word of the recipe it is m = within / between, the variance of the target within the
categories over that of the categories' true means: the linear estimate with the least
expected squared error. Both variances are estimated from the rows (analysis of variance, one
random effect). Categories that do not differ by more than chance have no variance between
them, and all get the overall mean.

A model must never be fitted on a mean that holds the row's own label; `training` sees to that.

References
----------
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical attributes in
classification and prediction problems", SIGKDD Explorations 3(1), doi:10.1145/507533.507538:
the blend, equation 3.
Bühlmann & Gisler (2005), "A course in credibility theory and its applications", section 4.8,
doi:10.1007/3-540-29273-X: the weight n / (n + m) and the estimates of both variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.numeric import Matrix
from mlsys.limits import FLOAT32_MAX

__all__ = ["Target", "credibility", "encode", "moments"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Target(Categorical):
    """Smoothed mean of the target: one column for a number or two classes, else one a class.

    Attributes
    ----------
    means
        ``(2 + len(categories), width)`` encodings, in the order of `Categorical.table`. A missing
        value is a category of its own.
    titles
        What each of the columns is the mean of.
    center, scale
        Of each column; subtracted and divided by.
    """

    means: tuple[tuple[float, ...], ...] = ()
    titles: tuple[str, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    name = "target"

    @property
    def outputs(self) -> list[str]:
        return [f"{self.column}: {title}" for title in self.titles]

    @cached_property
    def table(self) -> Matrix:
        scaled = (np.array(self.means) - np.array(self.center)) / np.array(self.scale)
        return np.asarray(np.clip(scaled, -FLOAT32_MAX, FLOAT32_MAX), np.float32)


def encode(n: Floats, total: Floats, squares: Floats, mean: float, smoothing: float | None) -> Floats:
    """Encoding of each group.

    Parameters
    ----------
    n, total, squares
        Rows of each group, the sum of the target over them, and of its square.
    mean
        Overall mean of the target.
    smoothing
        Rows that the overall mean counts as; None for `credibility`.

    Examples
    --------
    Three rows of mean 1 beside one that counts as one row of mean 0.2:

    >>> encode(np.array([3.0, 0.0]), np.array([3.0, 0.0]), np.array([3.0, 0.0]), 0.2, 1.0).tolist()
    [0.8, 0.2]
    """
    weight = credibility(n, total, squares) if smoothing is None else smoothing
    if math.isinf(weight):
        return np.full(len(n), mean)
    rows = n + weight
    return np.asarray(np.divide(total + weight * mean, rows, out=np.full(len(n), mean), where=rows > 0))


def credibility(n: Floats, total: Floats, squares: Floats) -> float:
    """Variance within groups over variance between their true means; infinite where there is none between.

    Examples
    --------
    Two groups of two rows, {0, 2} and {10, 12}: the variance within is 2. The means lie 10
    apart, which is a variance of 50, less the 2 / 2 that chance gives to means of two rows.

    >>> round(49 * credibility(np.array([2.0, 2.0]), np.array([2.0, 22.0]), np.array([4.0, 244.0])), 9)
    2.0
    """
    there = n > 0
    n, total, squares = n[there], total[there], squares[there]
    num_rows, groups = n.sum(), len(n)
    if groups < 2 or num_rows == groups:
        return math.inf  # one group has no other to differ from; groups of one row have nothing within
    within = max(float((squares - total**2 / n).sum()), 0.0) / (num_rows - groups)
    spread = float(n @ (total / n - total.sum() / num_rows) ** 2)
    between = (spread - (groups - 1) * within) / (num_rows - n @ n / num_rows)
    return float(within / between) if between > 0 else math.inf


def moments(values: Floats, n: Floats) -> tuple[float, float]:
    """Mean and deviation of encodings over the rows that have them."""
    rows = n.sum()
    if not rows:
        return 0.0, 1.0
    mean = float(n @ values / rows)
    return mean, math.sqrt(float(n @ (values - mean) ** 2 / rows))

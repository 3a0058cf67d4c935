"""Operation ``target``: a category becomes the mean of the target over the training rows that have it.

Of a category with n rows and mean y, the encoding is

    (n · y + m · overall mean) / (n + m)

so that a rare category says little: m is the number of rows that the overall mean counts as. If the recipe does not
state it, it is m = within / between, the variance of the target within the categories over that of the categories' true
means: the linear estimate with the least expected squared error. Both are estimated from the rows (analysis of
variance, one random effect). Without any variance between them, all categories get the overall mean.

A model must never be fitted on a mean that holds the row's own label; `mlsys.features.training` sees to that.

References
----------
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical attributes in classification and
prediction problems", SIGKDD Explorations 3(1), doi:10.1145/507533.507538: the blend, equation 3.
Bühlmann & Gisler (2005), "A course in credibility theory and its applications", section 4.8,
doi:10.1007/3-540-29273-X: the weight n / (n + m) and the estimates of both variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlsys import errors
from mlsys.features.operations.categorical import Categorical, counted, split_categories
from mlsys.features.operations.operation import CATEGORIES, FitInputs, Matrix, OperationSpec, divisor
from mlsys.limits import FLOAT32_MAX
from mlsys.recipe.columns import TargetOptions
from mlsys.schema import Column, Kind, Task
from mlsys.statistics.arrays import Floats


@dataclass(frozen=True)
class Target(Categorical):
    """Take the smoothed mean of the target: one column for a number or two classes, else one a class.

    Attributes
    ----------
    means
        ``(2 + len(categories), width)`` encodings, in the order of `Categorical.table`. A missing
        value is a category of its own.
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

    @property
    def types(self) -> list[str]:
        return ["m"] * len(self.titles)

    @cached_property
    def table(self) -> Matrix:
        scaled = (np.array(self.means) - np.array(self.center)) / np.array(self.scale)
        return np.asarray(np.clip(scaled, -FLOAT32_MAX, FLOAT32_MAX), np.float32)


def encode(n: Floats, total: Floats, squares: Floats, mean: float, smoothing: float | None) -> Floats:
    """Encode each group by its smoothed mean.

    Parameters
    ----------
    n, total, squares
        Rows of each group, the sum of the target over them, and of its square.
    mean
        Overall mean of the target.
    smoothing
        Rows that the overall mean counts as; None for `credibility`.

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
    """Estimate the variance within groups over that between their true means; infinite without any between.

    Two groups of two rows, {0, 2} and {10, 12}: the variance within is 2. The means lie 10
    apart, which is a variance of 50, less the 2 / 2 that chance gives to means of two rows.

    >>> round(49 * credibility(np.array([2.0, 2.0]), np.array([2.0, 22.0]), np.array([4.0, 244.0])), 9)
    2.0
    """
    filled = n > 0
    n, total, squares = n[filled], total[filled], squares[filled]
    num_rows, groups = n.sum(), len(n)
    if groups < 2 or num_rows == groups:
        return math.inf  # one group has no other to differ from; groups of one row have nothing within
    within = max(float((squares - total**2 / n).sum()), 0.0) / (num_rows - groups)
    spread = float(n @ (total / n - total.sum() / num_rows) ** 2)
    between = (spread - (groups - 1) * within) / (num_rows - n @ n / num_rows)
    return float(within / between) if between > 0 else math.inf


def _moments(values: Floats, n: Floats) -> tuple[float, float]:
    """The mean and standard deviation of encodings over the rows that have them."""
    rows = n.sum()
    if not rows:
        return 0.0, 1.0
    mean = float(n @ values / rows)
    return mean, math.sqrt(float(n @ (values - mean) ** 2 / rows))


def _fit(inputs: FitInputs) -> Target:
    # 1. Sums of the target: of what has no row of its own, of each category, of missing values.
    statistics, task = counted(inputs), inputs.table.task
    categories, rare = split_categories(inputs)
    sums, complete = statistics.target_sums(), statistics.counts_exact
    nothing = np.zeros(statistics.target.shape[1])
    if complete:
        other = sum((sums[category] for category in rare), nothing)
    else:  # also what was not remembered
        other = statistics.target[0] - sum((sums[category] for category in categories), nothing)
    groups = np.stack([other, *(sums[category] for category in categories), statistics.target[1]])
    overall = _numbers_of(statistics.target.sum(axis=0)[np.newaxis], task)
    # 2. Smoothed means, and for linear models what centres and scales them.
    means, scalings = [], []
    for (_, n, total, squares), (_, rows, whole, _) in zip(_numbers_of(groups, task), overall, strict=True):
        mean = float(whole[0] / rows[0]) if rows[0] else 0.0
        means.append(encode(n, total, squares, mean, inputs.params.get("smoothing")))
        center, spread = _moments(means[-1], n) if inputs.dense else (0.0, 1.0)
        scalings.append((center, divisor(spread)))
    rates = tuple(map(tuple, np.stack(means, axis=1).tolist()))
    titles, (centers, scales) = tuple(title for title, *_ in overall), zip(*scalings, strict=True)
    return Target(inputs.column, inputs.domain, categories, rare, rates, titles, centers, scales, complete=complete)


def _numbers_of(sums: Floats, task: Task) -> list[tuple[str, Floats, Floats, Floats]]:
    """Title, rows, sum and sum of squares of each number that stands for the target, from `label_sums` of groups."""
    if not task.is_classification:
        return [(f"mean of {task.target}", sums[:, 0], sums[:, 1], sums[:, 2])]
    classes = list(enumerate(task.classes))[1 if len(task.classes) == 2 else 0 :]
    n = sums.sum(axis=1)
    return [(f"rate of {task.target}={value}", n, sums[:, k], sums[:, k]) for k, value in classes]


def _refuse_number(column: Column) -> None:
    if column.kind is Kind.NUMERIC and not column.type.startswith(("int", "uint")):
        got = "operation target for a number"
        expected = "a category: the target is summed for each of those"
        hint = f"data.kinds: {{{column.name}: categorical}}"
        raise errors.FeatureError.build(
            f"features: column '{column.name}'", got=got, expected=expected, hint=hint, field=column.name
        )


TARGET = OperationSpec(
    TargetOptions,
    CATEGORIES,
    fitted=(Target,),
    fit=_fit,
    params=lambda _: {"min_rows": 1},  # the fewer rows a category has, the more the overall mean bears on it
    check=_refuse_number,
)

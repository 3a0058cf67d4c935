"""Tell codes from amounts: whole numbers that name things, such as shops or postal areas, and have no order.

A column of whole numbers is put to a test on the sample of training rows. Two predictions of the target are made for
each row without its fold: the mean of the rows of the same value, pulled towards the mean of all (Micci-Barreca 2001),
and the mean of the rows of a run of neighbouring values, at least `RUN` in each. For an amount the runs are as good or
better, since neighbours are alike and runs hold more rows. A column is taken for codes where the values explain more of
the target, by more than chance: the mean difference of the squared errors, paired by row, is `CERTAIN` times its
standard error or more (Diebold & Mariano 1995, independent rows), and runs explain less than `ORDER` of what values do.

References
----------
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical attributes", SIGKDD Explorations 3(1),
doi:10.1145/507533.507538.
Diebold & Mariano (1995), "Comparing predictive accuracy", Journal of Business & Economic Statistics 13(3),
doi:10.1080/07350015.1995.10524599.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import ROW, Kind, Schema, Task
from mlsys.statistics.arrays import Floats, Ints
from mlsys.statistics.hashing import mix
from mlsys.statistics.table import encode_target

FOLDS = 5
PULL = 5.0
"""Rows at the overall rate that are mixed into each category's rate."""

MIN_ROWS = 30
"""Rows with a label below which nothing is compared."""

RUN, MOST_RUNS = 4, 32
"""Neighbouring values in a run at least, and runs at most: neighbours of an amount are alike."""

MIN_VALUES = 40
"""Different values from which a column is judged: fewer, a tree of a few splits tells apart in any order."""

CERTAIN = 4.0
"""Standard errors from which the difference is certain, for a thousand columns as well: chance exceeds them once in
thirty thousand."""

ORDER = 0.7
"""Fraction of the explained variance up to which runs of neighbours miss what values tell."""

LEAST = 0.005
"""Fraction of the target's variance that the values explain at least, for a difference that matters."""


@dataclass(frozen=True)
class Explained:
    """Fractions of the target's variance explained out of fold by values and by runs of neighbouring values.

    `z` is the mean difference of their squared errors in standard errors.
    """

    by_value: float
    by_order: float
    z: float
    num_values: int

    @property
    def are_codes(self) -> bool:
        """True if the values explain more than their order, for certain and by enough to matter."""
        return self.z >= CERTAIN and self.by_value >= LEAST and self.by_order < ORDER * self.by_value

    @property
    def detail(self) -> str:
        """The evidence as the end of a sentence about the column."""
        return (
            f"{self.num_values:,} whole numbers without an order: each by itself they explain {self.by_value:.1%} of"
            f" the target out of fold, runs of neighbours {self.by_order:.1%}"
        )


def candidates(schema: Schema, others: Collection[str] = ()) -> list[str]:
    """Features of whole numbers, `others` left out."""
    return [
        column.name
        for column in schema.features
        if column.kind is Kind.NUMERIC and column.type == "int64" and column.name not in others
    ]


def find(rows: pa.Table, schema: Schema, task: Task) -> dict[str, Explained]:
    """Find the columns of whole numbers, by a sample of training rows, that are codes."""
    y = encode_target(rows[task.target], task)
    fold = sample_folds(rows)
    explained = {name: compare(rows[name], y, task, fold) for name in candidates(schema, {task.target})}
    return {name: each for name, each in explained.items() if each is not None and each.are_codes}


def compare(values: pa.ChunkedArray, y: npt.NDArray[Any], task: Task, fold: Ints) -> Explained | None:
    """Compare what values and runs of neighbours explain; None with too few rows or values."""
    labelled = (y >= 0 if task.is_classification else np.isfinite(y)) & np.asarray(values.is_valid())
    if labelled.sum() < MIN_ROWS:
        return None
    number = np.asarray(values.filter(pa.array(labelled)))
    distinct, code, rows = np.unique(number, return_inverse=True, return_counts=True)
    num_runs = min(MOST_RUNS, len(distinct) // RUN)
    if len(distinct) < MIN_VALUES or 2 * len(distinct) > len(number):  # mostly one row a value: nothing to learn from
        return None
    if 2 * rows[distinct == 0].sum() > len(number):  # an amount that most rows do not have
        return None
    run = _runs(rows, num_runs)[code]
    total, by_value, by_run = _squared_errors(code, run, y[labelled], task, fold[labelled])
    if not total:
        return None
    difference = by_run - by_value
    error = float(difference.std()) / len(difference) ** 0.5
    z = float(difference.mean()) / error if error else 0.0
    by_value_fraction, by_order_fraction = (max(1 - float(each.sum()) / total, 0.0) for each in (by_value, by_run))
    return Explained(by_value_fraction, by_order_fraction, z, len(distinct))


def sample_folds(rows: pa.Table) -> Ints:
    """Deal the rows of a sample into `FOLDS` folds, by a hash of their number."""
    return (mix(np.asarray(rows[ROW]).astype(np.uint64) ^ np.uint64(FOLDS)) % np.uint64(FOLDS)).astype(np.int64)


def out_of_fold_means(bins: Ints, y: Floats, fold: Ints) -> Floats:
    """``(FOLDS, bins)``: mean of y in the bin over the other folds, pulled towards their mean of all bins."""
    size = int(bins.max()) + 1
    places = fold * size + bins
    rows = np.bincount(places, minlength=FOLDS * size).reshape(FOLDS, size)
    sums = np.bincount(places, y, FOLDS * size).reshape(FOLDS, size)
    other_rows, other_sums = rows.sum(0) - rows, sums.sum(0) - sums
    overall = (y.sum() - sums.sum(1)) / np.maximum(len(y) - rows.sum(1), 1)
    means: Floats = (other_sums + PULL * overall[:, None]) / (other_rows + PULL)
    return means


def _runs(rows: Ints, num_runs: int) -> Ints:
    """The run of each value: at least `RUN` values, and about as many rows in each as that allows."""
    run_of, begins, filled = np.zeros(len(rows), np.int64), 0, 0
    run, enough = 0, rows.sum() / num_runs
    for place, number in enumerate(rows.tolist()):
        run_of[place] = run
        filled += number
        if filled >= enough and place + 1 - begins >= RUN and len(rows) - place - 1 >= RUN:
            run, begins, filled = run + 1, place + 1, 0
    return run_of


def _squared_errors(code: Ints, run: Ints, y: npt.NDArray[Any], task: Task, fold: Ints) -> tuple[float, Floats, Floats]:
    """Squares around the mean, and the squared error of each row by value and by run, summed over the classes."""
    total, by_value, by_run = 0.0, np.zeros(len(y)), np.zeros(len(y))
    classes = range(1 if len(task.classes) == 2 else 0, len(task.classes)) if task.is_classification else [None]
    for each in classes:
        answer = y.astype(np.float64) if each is None else (y == each).astype(np.float64)
        total += float(((answer - answer.mean()) ** 2).sum())
        by_value += (answer - out_of_fold_means(code, answer, fold)[fold, code]) ** 2
        by_run += (answer - out_of_fold_means(run, answer, fold)[fold, run]) ** 2
    return total, by_value, by_run

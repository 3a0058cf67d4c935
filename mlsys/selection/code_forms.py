"""Columns of whole numbers that may be codes: what speaks for it, from the statistics of the folds alone.

For an amount, neighbouring numbers mean nearly the same; for a code they do not. So each column predicts the target of
a fold in two ways from the other folds: by the mean of its quantile bins, and by the mean of its single values, shrunk
as `mlsys.features.operations.target` does. A column is a candidate if single values are better on all folds but one.
That is a screen, not the decision: its forms are then compared on the folds by the metric.
"""

from __future__ import annotations

import numpy as np

from mlsys.features.operations.target import encode
from mlsys.limits import MAX_CODES
from mlsys.recipe import Recipe
from mlsys.schema import Kind, Schema
from mlsys.statistics import ColumnStatistics, TrainStatistics
from mlsys.statistics.arrays import Floats

INTEGERS = ("int", "uint")
"""Types of codes: the target is summed for each value of a category or an integer, not of a fraction."""

MIN_VALUES = 20
"""Different values from which on bins lose something."""

MIN_REPEATS = 2.0
"""Rows a value on average: of values that hardly repeat, nothing is learned one by one."""

MIN_SHARE = 0.02
"""Share of the numeric columns that has to pass: two of six hundred pixels are no codes."""

BINS = 32
"""Quantile bins, as fine as the splits of a tree in its first five levels."""


def candidates(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[str]:
    """Feature columns whose whole numbers look like codes, and that the recipe says nothing about.

    Of many columns some pass the screen by chance; fewer than `MIN_SHARE` of them are not worth the fits.
    """
    if next(iter(statistics.folds.values())).task.labels:  # of which there is no single mean
        return []
    stated = {*recipe.features.columns, *recipe.data.kinds, *recipe.train.monotone}
    free = [
        column.name
        for column in schema.features
        if column.kind is Kind.NUMERIC and column.type.startswith(INTEGERS) and column.name not in stated
    ]
    codes = [name for name in free if _are_codes([fold.columns[name] for fold in statistics.folds.values()])]
    return codes if len(codes) >= MIN_SHARE * len(free) else []


def categories(schema: Schema, statistics: TrainStatistics, recipe: Recipe) -> list[str]:
    """Columns of whole numbers that are taken for categories, so many that their numbers would be lost."""
    stated = {*recipe.features.columns, *recipe.data.kinds, *recipe.train.monotone}
    whole = statistics.whole()
    if whole.task.labels:
        return []
    free = [column for column in schema.features if column.kind is Kind.CATEGORICAL and column.name not in stated]
    integers = [column.name for column in free if column.type.startswith(INTEGERS)]
    return [name for name in integers if (whole.columns[name].num_distinct or 0) > MAX_CODES]


def _are_codes(folds: list[ColumnStatistics]) -> bool:
    tables = [fold.codes for fold in folds]
    if len(folds) < 2 or any(table is None for table in tables):
        return False
    keys = np.unique(np.concatenate([np.asarray(table.keys, np.float64) for table in tables if table is not None]))
    if keys.size < MIN_VALUES or sum(fold.num_rows for fold in folds) < MIN_REPEATS * keys.size:
        return False
    sums = np.zeros((len(folds), keys.size, folds[0].target.shape[1]))
    for number, table in enumerate(tables):
        if table is not None and len(table.keys):
            sums[number, np.searchsorted(keys, np.asarray(table.keys, np.float64))] = table.sums
    wins = sum(_is_better_by_value(sums, judged, folds[0].classes) for judged in range(len(folds)))
    return wins >= max(2, len(folds) - 1)


def _is_better_by_value(sums: Floats, judged: int, classes: int | None) -> bool:
    """Compare means of values with means of bins by their squared errors on a fold."""
    fitted, held_out = sums.sum(axis=0) - sums[judged], sums[judged]
    errors = np.zeros(2)
    for n, total, squares, seen, positive in _numbers(fitted, held_out, classes):
        mean = float(total.sum() / max(n.sum(), 1.0))
        bins = np.minimum((np.cumsum(n) - n) * BINS // max(n.sum(), 1.0), BINS - 1).astype(np.int64)
        rows, sums_of, squares_of = (
            np.asarray(np.bincount(bins, part, BINS), np.float64) for part in (n, total, squares)
        )
        by_bin, by_value = encode(rows, sums_of, squares_of, mean, None)[bins], encode(n, total, squares, mean, None)
        errors += [float((seen * p * p - 2 * p * positive).sum()) for p in (by_bin, by_value)]
    return bool(errors[1] < errors[0])


def _numbers(fitted: Floats, held_out: Floats, classes: int | None) -> list[tuple[Floats, ...]]:
    """Rows, sum and sum of squares a value to fit on, rows and sum to judge by: of a number, or of each class."""
    if classes is None:
        return [(fitted[:, 0], fitted[:, 1], fitted[:, 2], held_out[:, 0], held_out[:, 1])]
    n, seen = fitted.sum(axis=1), held_out.sum(axis=1)
    return [(n, fitted[:, k], fitted[:, k], seen, held_out[:, k]) for k in range(classes)]

"""Slices over pairs of columns, found by search: rows of two values together on which the model errs more.

A pair of values is found where the mean loss of its rows is greater than that of the other rows of its first value,
and than that of the other rows of its second value: worse than either slice explains. Both have to hold, so its
p-value is the larger of the two (intersection-union test: Berger & Hsu 1996, Statistical Science 11, 283-319), each
that of a one-sided test of two means: Welch's (1947, Biometrika 34, 28-35) for rows that stand alone, else that of
sums over groups or blocks, with a t distribution of as many degrees of freedom as there are of them, less one.

Very many pairs are looked at, and they share rows. Those found keep the false discovery rate at 1 -
``evaluate.confidence`` under any dependence (Benjamini & Yekutieli 2001, Annals of Statistics 29, 1165-1188): where
the model errs alike everywhere, the chance to find any pair is at most that. The idea of the search is that of Slice
Finder (Chung et al. 2020, IEEE Transactions on Knowledge and Data Engineering 32(12), 2284-2296).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys import label_sets
from mlsys.evaluate import deviances, slices
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.evaluate.metrics import Metric, Predicted
from mlsys.evaluate.slices import Slice
from mlsys.schema import Task
from mlsys.statistics.arrays import Bools, Floats

MAX_ROWS = 50_000
"""Rows that are searched, evenly spaced; slices that are found have all rows."""

MAX_COLUMNS = 16
"""Columns whose pairs are searched: 120 pairs of columns."""

MAX_UNITS = 200
"""Groups or blocks whose sums are taken; neighbours among more become one."""

MAX_LISTED = 10


def losses(task: Task, metric: Metric, y: Floats, predicted: Predicted) -> tuple[str, Floats] | None:
    """Name and values of the loss of each row by which slices are searched; None for rankings, which have none.

    It is that of the metric where that is a mean of losses: log loss of classes; of numbers the loss that was fitted,
    absolute errors for metrics of medians, else squared errors.
    """
    output = predicted.output
    if task.is_ranking:
        return None
    if task.labels:
        has = label_sets.table(y, output.shape[1]).astype(np.int64)
        each = [weighted.surprise(has[:, k], output[:, k]) for k in range(output.shape[1])]
        return "mean log loss of the labels", np.mean(each, axis=0)
    if task.is_classification:
        return "log loss", weighted.surprise(y, predicted.of("probability"))
    if metric.loss is not None:
        return metric.title.lower(), deviances.of_rows(metric.loss)(y, output)
    if metric.functional == "median":
        return "absolute error", np.abs(y - output)
    return "squared error", np.asarray((y - output) ** 2)


def find(
    parts: Sequence[Slice],
    loss: Floats,
    plan: ResamplingPlan,
    *,
    min_rows: int,
    order: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Find pairs of slices of different columns that are worse than either slice, the surest first.

    `order` names columns whose pairs are searched before others, where there are too many.

    Returns
    -------
    tuple
        The pairs: their ``parts`` and ``rows``, ``mean_loss``, ``others`` (mean losses of the rest of either slice) and
        the adjusted ``p_value``; and how many pairs of values and how many columns were searched.
    """
    # 1. The number of each row's slice in each column, of the rows that are searched.
    by_column: dict[str, list[Slice]] = {}
    for part in parts:
        by_column.setdefault(part.column, []).append(part)
    place = {name: number for number, name in enumerate(order)}
    names = sorted(by_column, key=lambda name: place.get(name, len(place)))[:MAX_COLUMNS]
    rows = np.unique(np.linspace(0, len(loss) - 1, min(MAX_ROWS, len(loss))).astype(np.intp))
    numbers = {name: _numbers(by_column[name], len(loss))[rows] for name in names}
    units = None if plan.units is None else _merged(plan.units[rows])
    # 2. Every pair of values of every pair of columns.
    candidates = [
        (by_column[first][i], by_column[second][j], p)
        for first, second in itertools.combinations(names, 2)
        for i, j, p in _tested(numbers[first], numbers[second], loss[rows], units, min_rows)
        if i < len(by_column[first]) and j < len(by_column[second])
    ]
    # 3. Those that hold after the correction for all that were looked at.
    adjusted = adjust(np.array([p for _, _, p in candidates]))
    surest = np.argsort(adjusted, kind="stable")[:MAX_LISTED]
    worse = [
        {**_described(candidates[k][0], candidates[k][1], loss), "p_value": float(adjusted[k])}
        for k in surest
        if adjusted[k] <= 1 - plan.confidence
    ]
    left_out = len(by_column) - len(names)
    return worse, {"num_tested": len(candidates), "num_columns": len(names), "num_left_out": left_out}


def judge(
    pairs: Sequence[dict[str, Any]],
    metric: Metric,
    y: NDArray[Any],
    prediction: NDArray[Any],
    plan: ResamplingPlan,
    weight: Floats | None = None,
) -> list[dict[str, Any]]:
    """Compute the metric, with its interval, on each pair that was found; as JSON values."""
    judged = []
    for pair in pairs:
        first, second = pair["parts"]
        part = Slice(f"{first.column} × {second.column}", f"{first.value}, {second.value}", pair["rows"])
        facts = {key: value for key, value in pair.items() if key not in ("parts", "rows")}
        judged.append({**slices.measured(part, metric, y, prediction, plan, weight), **facts})
    return judged


def adjust(p: Floats) -> Floats:
    """P-values adjusted for the false discovery rate under any dependence.

    >>> adjust(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.055, 0.0733, 0.0733]
    """
    number = len(p)
    if not number:
        return p
    ranked = np.argsort(p, kind="stable")
    factor = number * (1 / np.arange(1, number + 1)).sum() / np.arange(1, number + 1)
    steps = np.minimum.accumulate((p[ranked] * factor)[::-1])[::-1]
    adjusted = np.empty(number)
    adjusted[ranked] = np.minimum(steps, 1.0)
    return adjusted


def _numbers(parts: Sequence[Slice], num_rows: int) -> NDArray[np.intp]:
    """The number of each row's slice among those of a column; that of none is one more than they are."""
    number = np.full(num_rows, len(parts), np.intp)
    for place, part in enumerate(parts):
        number[part.rows] = place
    return number


def _merged(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units numbered from 0, no more than can be summed over."""
    names, number = np.unique(units, return_inverse=True)
    return number if len(names) <= MAX_UNITS else number * MAX_UNITS // len(names)


def _tested(
    first: NDArray[np.intp], second: NDArray[np.intp], loss: Floats, units: NDArray[np.int64] | None, min_rows: int
) -> list[tuple[int, int, float]]:
    """The pairs of values of two columns with enough rows, and the p-value of each."""
    shape = int(first.max()) + 1, int(second.max()) + 1
    cell = first * shape[1] + second
    sums = _Sums.of(cell, shape, loss, units)
    own = sums.count
    others = own.sum(axis=1, keepdims=True) - own, own.sum(axis=0, keepdims=True) - own
    enough: Bools = (own >= min_rows) & (others[0] >= min_rows) & (others[1] >= min_rows)
    if not enough.any():
        return []
    p = np.maximum(sums.p_value(sums.rest(axis=1)), sums.p_value(sums.rest(axis=0)))
    places = np.argwhere(enough)
    return [(int(i), int(j), float(p[i, j])) for i, j in places]


class _Sums:
    """Count, sum and squares of the losses in each cell of a table, shape (values, values, units)."""

    def __init__(self, counts: Floats, total: Floats, squares: Floats | None) -> None:
        self.counts, self.total, self.squares = counts, total, squares

    @classmethod
    def of(cls, cell: NDArray[np.intp], shape: tuple[int, int], loss: Floats, units: NDArray[np.int64] | None) -> _Sums:
        """Sums by cell, and by unit where there are some; losses about their mean lose no digits."""
        centred = loss - loss.mean()
        number = 1 if units is None else int(units.max()) + 1
        place = cell if units is None else cell * number + units
        size, whole = shape[0] * shape[1] * number, (*shape, number)
        counts = np.bincount(place, minlength=size).reshape(whole).astype(np.float64)
        total = _sums(place, centred, size).reshape(whole)
        squares = None if units is not None else _sums(place, centred**2, size).reshape(whole)
        return cls(counts, total, squares)

    @property
    def count(self) -> Floats:
        return np.asarray(self.counts.sum(axis=2))

    def rest(self, axis: int) -> _Sums:
        """The other cells of each cell's row of the table (`axis` 1), or of its column (0)."""
        parts = (self.counts, self.total, self.squares)
        counts, total, squares = (None if part is None else part.sum(axis=axis, keepdims=True) - part for part in parts)
        return _Sums(np.asarray(counts), np.asarray(total), squares)

    def p_value(self, other: _Sums) -> Floats:
        """One-sided p-value of each cell's mean loss being greater than that of the other rows."""
        n, m = (np.maximum(each.count, 2.0) for each in (self, other))
        gap = self.total.sum(axis=2) / n - other.total.sum(axis=2) / m
        if self.squares is None:
            parts = [(each.total - _mean(each) * each.counts) / np.maximum(each.count, 1)[:, :, None]
                     for each in (self, other)]  # fmt: skip
            number = self.counts.shape[2]
            variance = ((parts[0] - parts[1]) ** 2).sum(axis=2) * number / max(number - 1, 1)
            freedom = np.full(gap.shape, max(number - 1.0, 1.0))
        else:
            own, others = self._variance(n) / n, other._variance(m) / m
            variance = own + others
            below = own**2 / (n - 1) + others**2 / (m - 1)
            freedom = np.divide(variance**2, below, out=np.full(gap.shape, np.inf), where=below > 0)
        t = np.divide(gap, np.sqrt(variance), out=np.where(gap > 0, np.inf, -np.inf), where=variance > 0)
        return np.asarray(special.stdtr(np.minimum(freedom, 1e9), -t))

    def _variance(self, count: Floats) -> Floats:
        squares = np.zeros(1) if self.squares is None else self.squares.sum(axis=2)
        return np.asarray(np.maximum(squares - self.total.sum(axis=2) ** 2 / count, 0.0) / (count - 1))


def _sums(place: NDArray[np.intp], values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(place, values, size), np.float64)


def _mean(sums: _Sums) -> Floats:
    return np.asarray(sums.total.sum(axis=2) / np.maximum(sums.count, 1))[:, :, None]


def _described(first: Slice, second: Slice, loss: Floats) -> dict[str, Any]:
    rows = np.intersect1d(first.rows, second.rows, assume_unique=True)
    rest = [np.setdiff1d(part.rows, rows, assume_unique=True) for part in (first, second)]
    return {
        "parts": (first, second),
        "rows": rows,
        "num_rows": len(rows),
        "mean_loss": float(loss[rows].mean()),
        "others": [float(loss[each].mean()) for each in rest],
    }

"""Parts and folds of a forecast: each is judged on a model of what was known a horizon before its first row.

A row at time t is forecast at t - horizon, its origin. Whoever forecasts the rows from time b on had at the origin
b - horizon no later row to learn from; so rows after it and before b are fitted on by no model that is judged on rows
from b on: an embargo between train and validation, between validation and test, and before each fold (rolling origins;
Tashman 2000, International Journal of Forecasting 16, 437-450; a gap as in López de Prado 2018, "Advances in Financial
Machine Learning", section 7.4). The rows of the first horizon have no known past, and are the past of others alone.

Where a fraction of the history is shorter than the horizon, the part is made as long as the horizon; folds are fewer
where there is no room for as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys.collect.bins import by_time, edges
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.periods import Period

Times = NDArray[np.int64]

HORIZONS = 6
"""Horizons that a history needs at least: before the first row to learn from, two to train, one each to validate and
to test, and one before each of these that no one learns from, the first of which may be part of the training."""

FEWEST_FOLDS = 2

FIRST = 0.5
"""Part of the training rows in the first fold, which is judged by no model: the first origin needs a past, too."""


def part_begins(times: Times, shares: list[float], horizon: Period) -> list[int]:
    """The times at which validation and test begin: as the shares say, or earlier for them to span a horizon.

    Raises
    ------
    TargetError
        There is less history than that needs.
    """
    check_history(times, horizon)
    begins = edges(times, shares)
    if begins is None:
        raise _too_short(times, horizon)
    last = int(times.max())
    test = min(begins[1], horizon.earlier_us(last) + 1)
    return [min(begins[0], horizon.earlier_us(horizon.earlier_us(test)) + 1), test]


def check_history(times: Times, horizon: Period) -> None:
    """Refuse a horizon that reaches from one end of the history to the other; `TargetError`."""
    if not len(times) or horizon.later_us(times.min().reshape(1))[0] >= int(times.max()):
        raise _too_short(times, horizon)


def history_rows(times: Times, horizon: Period) -> NDArray[np.bool_]:
    """Mark the rows of the first horizon: at their origin nothing was known of any series."""
    return np.asarray(times < horizon.later_us(times.min().reshape(1))[0])


def embargoed(times: Times, begins: list[int], horizon: Period) -> NDArray[np.bool_]:
    """Mark the rows that were not known a horizon before one of the times at which a part begins that follows them."""
    known, marked = horizon.later_us(times), np.zeros(len(times), bool)
    for begin in begins:
        marked |= (times < begin) & (known > begin)
    return marked


@dataclass(frozen=True)
class RollingFolds:
    """The fold of each row as `mlsys.dataset.Split` numbers it, how many are judged, and the embargoes with rows."""

    folds: NDArray[np.int8]
    num_folds: int
    gaps: tuple[int, ...]


def rolling_folds(times: Times, num_folds: int, horizon: Period) -> RollingFolds:
    """Divide training rows into folds that follow each other in time, with what lies between two of them.

    The first one has half of the rows. There are as many as are asked for, or as there is room for: each spans the
    horizon at least.

    Raises
    ------
    TargetError
        There is no room for two.
    """
    for number in range(num_folds, FEWEST_FOLDS - 1, -1):
        begins = edges(times, [FIRST, *[(1 - FIRST) / (number - 1)] * (number - 1)])
        if begins is not None and _has_room([int(times.min()), *begins, int(times.max()) + 1], horizon):
            folds = 2 * by_time(times, begins)
            folds[embargoed(times, begins, horizon)] += 1
            gaps = tuple(int(fold) for fold in np.unique(folds) if fold % 2)
            if len(np.unique(folds)) - len(gaps) == number:
                return RollingFolds(folds.astype(np.int8), number, gaps)
    raise _too_short(times, horizon, "the training part")


def _has_room(begins: list[int], horizon: Period) -> bool:
    """True if each fold but the last spans the horizon, so that the rows before its embargo are enough of a past."""
    later = horizon.later_us(np.array(begins[:-2]))
    return all(end >= begin for (_, end), begin in zip(pairwise(begins[:-1]), later.tolist(), strict=True))


def _too_short(times: Times, horizon: Period, what: str = "the history") -> errors.TargetError:
    ends = [(EPOCH + int(time) * MICROSECOND).isoformat() for time in (times.min(), times.max())] if len(times) else []
    got = f"{what} of {' to '.join(ends)}" if ends else "no row with a time and a target"
    expected = f"about {HORIZONS} horizons of {horizon} in all: before, in and between training, validation and test"
    hint = "a shorter forecast.horizon, more history, or a larger part under split"
    return errors.TargetError.build("collect: forecast.horizon", got=got, expected=expected, hint=hint)

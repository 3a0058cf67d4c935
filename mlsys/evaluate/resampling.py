"""Choose which test rows belong together when an interval is made: none, those of a group, or of a block of time.

Rows of one day share their weather and rows of one customer share the customer, so a thousand of them may be worth
a few dozen independent ones. An interval that takes them as independent is too short, and a gate that believes it is
too bold.

============================  ===========================================================================
the split                     what is drawn, or left out, as one
============================  ===========================================================================
divides by time               blocks of time
keeps groups in one part      groups
both                          whichever of the two makes the interval of the chosen metric longer
neither                       rows
============================  ===========================================================================

*Blocks of time* are days in the recipe's time zone, or hours or single times where the test part has too few days.
Blocks of several days are taken where days that follow each other are alike: the rule of Politis & White (2004),
"Automatic block-length selection for the dependent bootstrap", Econometric Reviews 23, 53-70, with the correction of
Patton, Politis & White (2009), Econometric Reviews 28, 372-375. It is applied to the series of what leaving out each
day does to the metric. The constant is that of the stationary bootstrap, whose variance is that of blocks that do not
overlap (Nordman 2009, Annals of Statistics 37, 359-370), as ours do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlsys.evaluate import intervals
from mlsys.evaluate.intervals import MIN_UNITS, ResamplingPlan
from mlsys.evaluate.weighted_metrics import Statistic
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats
from mlsys.statistics.hashing import mix

MAX_UNITS = 200
"""Units at most: of more the t distribution is the normal one, and each costs an evaluation of every metric."""

MIN_BLOCKS = 8
"""Blocks are not made longer than leaves so many: of fewer the t distribution hardly says anything."""

CALENDAR = {"1d": "day", "1h": "hour"}
"""Units of time from which blocks are made, the longest first, as Polars and as people call them."""


@dataclass(frozen=True)
class RowContext:
    """Facts about test rows beside truth and prediction: when they happened, and whose they are.

    Attributes
    ----------
    times
        Microseconds since 1970 of each row, where the split divides by time; else None.
    groups
        Number of each row's group, where the table has groups; a row without group is one of its own.
    group
        Name of the column of groups.
    """

    num_rows: int
    times: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    group: str | None = None
    timezone: str = "UTC"


@dataclass(frozen=True)
class Units:
    """The division of rows into what is drawn, or left out, as one.

    Attributes
    ----------
    of
        In words, such as ``blocks of 2 days``.
    number
        Unit of each row; None where each row is one.
    length
        Length of a block of time, such as ``2 days``.
    """

    of: str
    number: NDArray[np.int64] | None = None
    length: str | None = None

    def plan(self, num_resamples: int, confidence: float, seed: int) -> ResamplingPlan:
        """The plan that makes intervals with these units."""
        return ResamplingPlan(num_resamples, confidence, seed, self.number)

    def to_json(self, num_rows: int, plan: ResamplingPlan) -> dict[str, Any]:
        """Facts about the resampling that a report states."""
        facts = {"unit": self.of, "confidence": plan.confidence, "seed": plan.seed, "block_length": self.length}
        if self.number is None:
            method = "percentile bootstrap"
            return {**facts, "method": method, "num_units": num_rows, "num_resamples": plan.affordable(num_rows)}
        sizes = np.unique(self.number, return_counts=True)[1]
        worth = round(jackknife.effective_number(sizes), 1)
        used = len(sizes) if plan.num_resamples else 0
        method = "delete-a-group jackknife"
        return {**facts, "method": method, "num_units": len(sizes), "effective_units": worth, "num_resamples": used}


ROWS = Units("rows")


def choose(rows: RowContext, statistic: Statistic, *, seed: int = 0) -> Units:
    """Choose what belongs together in these rows, for intervals of this statistic above all."""
    most = min(MAX_UNITS, max(20, intervals.BUDGET // max(rows.num_rows, 1)))
    candidates = []
    if rows.times is not None:
        candidates.append(of_time(rows.times, rows.timezone, statistic, most))
    if rows.groups is not None:
        candidates.append(of_groups(rows.groups, str(rows.group), most, seed))
    if len(candidates) < 2:
        return candidates[0] if candidates else ROWS
    errors = [_error(statistic, units) for units in candidates]
    return candidates[int(np.argmax(np.nan_to_num(errors, nan=math.inf)))]


def _error(statistic: Statistic, units: Units) -> float:
    number = np.zeros(0, np.int64) if units.number is None else units.number
    return intervals.estimates({"": statistic}, len(number), ResamplingPlan(units=number))[""].error


def of_groups(groups: NDArray[np.int64], name: str, most: int = MAX_UNITS, seed: int = 0) -> Units:
    """Units of whole groups: each one, or where there are many, sets of them, drawn by a hash."""
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max(initial=-1)) + 1
    if count > most:
        offset = np.uint64(seed % 2**32) << np.uint64(32)
        order = np.argsort(mix(np.arange(count, dtype=np.uint64) + offset), kind="stable")
        place = np.empty(count, np.int64)
        place[order] = np.arange(count) * most // count
        return Units(f"{most} sets of the {count:,} groups of '{name}'", place[number])
    return Units(f"groups of '{name}'", number.astype(np.int64))


def of_time(times: NDArray[np.int64], timezone: str, statistic: Statistic, most: int = MAX_UNITS) -> Units:
    """Units of consecutive days, hours or times: as many in a block as the dependence between them asks for."""
    # 1. The longest unit of the calendar of which there are enough.
    cell, name = _cells(times, timezone)
    count = int(cell.max(initial=-1)) + 1
    # 2. Cells in the order of time, no more than can be left out one by one, and what each of them does.
    num_cells = min(count, most)
    merged = cell * num_cells // max(count, 1)
    influence = np.array([statistic((merged != unit).astype(np.float64)) for unit in range(num_cells)])
    length = automatic_block_length(influence) if num_cells > MIN_BLOCKS and np.isfinite(influence).all() else 1.0
    # 3. Blocks of that many cells.
    num_blocks = max(min(num_cells, MIN_BLOCKS), int(num_cells / length))
    blocks = merged * num_blocks // max(num_cells, 1)
    each = count / max(num_blocks, 1)
    about = "" if each == round(each) else "about "
    text = f"{about}{each:.0f} {name}{'' if each == 1 else 's'}"
    return Units(f"blocks of {text}", blocks.astype(np.int64), text)


def _cells(times: NDArray[np.int64], timezone: str) -> tuple[NDArray[np.int64], str]:
    local = pl.Series(times).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(timezone)
    for every, name in CALENDAR.items():
        starts = local.dt.truncate(every).to_physical().to_numpy()
        distinct, cell = np.unique(starts, return_inverse=True)
        if len(distinct) >= MIN_UNITS:
            return cell.astype(np.int64), name
    return np.unique(times, return_inverse=True)[1].astype(np.int64), "time"


def automatic_block_length(series: Floats) -> float:
    """Length of blocks that resample a stationary series with the least mean squared error of the variance.

    ``b = (G^2 / g^2)^(1/3) n^(1/3)`` with ``g = ∑ λ(k/M) R(k)`` and ``G = ∑ λ(k/M) |k| R(k)`` over lags of -M to M, R
    the autocovariance and λ the flat-top window of Politis & Romano (1995). M is twice the last lag before
    ``K = max(5, sqrt(log10 n))`` lags in a row whose correlation is below ``2 sqrt(log10(n) / n)``. See the module.

    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=400)
    >>> automatic_block_length(noise), round(automatic_block_length(np.convolve(noise, np.ones(5), "valid")), 1)
    (1.0, 9.4)
    """
    n = len(series)
    centred = series - series.mean()
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(n))))
    last = min(n - 1, math.ceil(math.sqrt(n)) + in_a_row)
    covariance = np.array([centred[: n - k] @ centred[k:] / n for k in range(2 * last + 1 if 2 * last < n else n)])
    if covariance[0] <= 0:
        return 1.0
    large = np.abs(covariance[1 : last + 1] / covariance[0]) >= 2 * math.sqrt(math.log10(n) / n)
    lag = next((m for m in range(len(large)) if not large[m : m + in_a_row].any()), len(large))
    if lag == 0:
        return 1.0
    window = min(2 * lag, len(covariance) - 1)
    lags = np.arange(-window, window + 1)
    taper = np.minimum(1.0, 2 * (1 - np.abs(lags) / window))
    weighted = taper * covariance[np.abs(lags)]
    spectral, slope = float(weighted.sum()), float((np.abs(lags) * weighted).sum())
    length = (slope**2 / max(spectral**2, 1e-300)) ** (1 / 3) * n ** (1 / 3)
    return float(np.clip(length, 1.0, longest))

"""Intervals of metrics: how far a metric would move on other test rows of the same kind.

Rows that stand alone are drawn with replacement: the percentile interval of Efron & Tibshirani (1993), "An Introduction
to the Bootstrap", chapter 13. A resample is a count a row, so metrics that sort do it once. For few rows that interval
is too short, and its ends are taken further out: the expanded percentiles of Hesterberg (2015), The American
Statistician 69, 371-386, section 4.2.

Rows that come in *units* (groups, or blocks of time; `resampling` says which) are not independent, and there may be
few units. There the interval is that of the delete-a-group jackknife with a t distribution: each unit is left out
once (`mlsys.statistics.jackknife`).

What an interval holds for: the chance of which rows, groups or times came into the test part. Not the chance of the
training rows, and not a world that changes after them.

An interval that cannot be trusted is not given, and the estimate says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mlsys.evaluate.weighted_metrics import Statistic
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats

BUDGET = 200_000_000
"""Rows times weightings at most, so that intervals take seconds: of 10 million rows 20 resamples are
drawn, and intervals of so many rows are narrow anyway."""

MAX_UNDEFINED = 0.05
"""With more than this share of resamples without a value, an interval would describe the others only."""

MIN_ROWS = 10
"""Rows from which intervals are given."""

MIN_UNITS = 5
"""Groups or blocks, counted as `jackknife.effective_number` does, from which intervals are given."""


ROUNDING = 1e-12
"""Width of an interval, as a fraction of the value, up to which it is rounding."""


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its interval and its standard error; NaN where there is none, and `reason` says why."""

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    reason: str | None = None

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same, with the interval cut where the metric has no values."""
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest)) if self.low < self.high else self

    def negated(self) -> Estimate:
        """The estimate of the negative value."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class ResamplingPlan:
    """The number of resamples (0: no intervals), the confidence (0.5 … 1), the seed, and which rows belong together.

    `units` holds the number of each row's unit, counted from 0, shape (n,); it is None if each row stands alone.
    """

    num_resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    units: NDArray[np.int64] | None = None

    def affordable(self, num_rows: int) -> int:
        """Limit the resamples to the budget, but to no fewer than 20."""
        return min(self.num_resamples, max(20, BUDGET // max(num_rows, 1)))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a standard error: of independent rows, as many as one likes."""
        return math.inf if self.units is None else jackknife.effective_number(np.bincount(self.units)) - 1

    def at_most(self, number: int) -> ResamplingPlan:
        """The same with no more than so many resamples, or units: neighbours among them become one."""
        if self.units is None:
            return replace(self, num_resamples=min(self.num_resamples, number))
        known = int(self.units.max(initial=0)) + 1
        return self if known <= number else replace(self, units=self.units * number // known)

    def of(self, rows: NDArray[np.intp]) -> ResamplingPlan:
        """The plan for some of the rows."""
        return self if self.units is None else replace(self, units=self.units[rows])


def weights(num_rows: int, plan: ResamplingPlan) -> Iterator[Floats]:
    """Draw resamples as the number of times each row is in them, one array (n,) each; equal plans draw the same."""
    rng = np.random.default_rng(plan.seed)
    for _ in range(plan.affordable(num_rows) if num_rows else 0):
        yield np.bincount(rng.integers(0, num_rows, num_rows), minlength=num_rows).astype(np.float64)


def estimates(statistics: Mapping[str, Statistic], num_rows: int, plan: ResamplingPlan) -> dict[str, Estimate]:
    """Compute each statistic on the rows with its interval; all of them see the same weightings."""
    lacks = _lacks(num_rows, plan)
    if lacks is not None:
        return {name: Estimate(statistic(None), reason=lacks) for name, statistic in statistics.items()}
    return _by_rows(statistics, num_rows, plan) if plan.units is None else _by_units(statistics, plan.units, plan)


def difference(first: Statistic, second: Statistic, num_rows: int, plan: ResamplingPlan) -> Estimate:
    """Compute ``first - second`` with its interval; paired, both are computed under the same weights."""

    def gap(weight: Floats | None) -> float:
        return first(weight) - second(weight)

    return estimates({"difference": gap}, num_rows, plan)["difference"]


def _lacks(num_rows: int, plan: ResamplingPlan) -> str | None:
    """Say why there is no interval of any statistic of these rows, or None."""
    if plan.num_resamples == 0:
        return "evaluate.bootstrap is 0"
    if num_rows < MIN_ROWS:
        return f"{num_rows} rows; an interval needs {MIN_ROWS}"
    if plan.units is None:
        return None
    sizes = np.unique(plan.units, return_counts=True)[1]
    number = jackknife.effective_number(sizes)
    if number >= MIN_UNITS - 1e-9:
        return None
    worth = "" if len(sizes) < MIN_UNITS else f" of unequal size, worth {number:.1f} equal ones"
    return f"{len(sizes)} groups or blocks{worth}; an interval needs {MIN_UNITS}"


def _by_rows(statistics: Mapping[str, Statistic], num_rows: int, plan: ResamplingPlan) -> dict[str, Estimate]:
    drawn = [[statistic(weight) for statistic in statistics.values()] for weight in weights(num_rows, plan)]
    columns = np.array(drawn, np.float64).reshape(len(drawn), len(statistics))
    quantile = jackknife.t_quantile(num_rows - 1, plan.confidence) * math.sqrt(num_rows / (num_rows - 1))
    tail = NormalDist().cdf(-quantile)
    return {
        name: _percentiles(statistic(None), columns[:, i], tail)
        for i, (name, statistic) in enumerate(statistics.items())
    }


def _percentiles(value: float, drawn: Floats, tail: float) -> Estimate:
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value):
        return Estimate(value, reason="not defined on these rows")
    if len(known) < 2 or len(known) < (1 - MAX_UNDEFINED) * len(drawn):
        return Estimate(value, reason=f"not defined on {len(drawn) - len(known)} of {len(drawn)} resamples")
    low, high = np.quantile(known, [tail, 1 - tail])
    return _moving(Estimate(value, float(low), float(high), float(known.std(ddof=1))), "in every resample")


def _by_units(
    statistics: Mapping[str, Statistic], units: NDArray[np.int64], plan: ResamplingPlan
) -> dict[str, Estimate]:
    _, number, sizes = np.unique(units, return_inverse=True, return_counts=True)
    quantile = jackknife.t_quantile(jackknife.effective_number(sizes) - 1, plan.confidence)
    left_out = np.empty((len(sizes), len(statistics)))
    for unit in range(len(sizes)):
        weight = (number != unit).astype(np.float64)
        left_out[unit] = [statistic(weight) for statistic in statistics.values()]
    measured = {}
    for (name, statistic), without in zip(statistics.items(), left_out.T, strict=True):
        value = statistic(None)
        error = jackknife.standard_error(value, without)
        estimate = Estimate(value, value - quantile * error, value + quantile * error, error)
        if not math.isfinite(value):
            estimate = Estimate(value, reason="not defined on these rows")
        elif math.isnan(error):
            unknown = int((~np.isfinite(without)).sum())
            estimate = Estimate(value, reason=f"not defined without one of the groups or blocks, for {unknown} of them")
        measured[name] = _moving(estimate, "whichever group or block is left out")
    return measured


def _moving(estimate: Estimate, where: str) -> Estimate:
    """Withdraw an interval without width: values that never move say nothing of how far others would."""
    if estimate.high - estimate.low > ROUNDING * abs(estimate.value) or estimate.reason is not None:
        return estimate
    return Estimate(estimate.value, error=0.0, reason=f"the same {where}")

"""Intervals by resampling rows: how far a metric would move on other rows of the same kind.

The percentile interval of Efron & Tibshirani (1993), "An Introduction to the Bootstrap",
chapter 13: metrics are computed on resamples of the rows, drawn with replacement, and the
interval runs between two quantiles of them. A resample is a count a row, so metrics that sort
do it once (`weighted_metrics`). Rows of one group are drawn together (the cluster bootstrap; Davison
& Hinkley 1997, "Bootstrap Methods and their Application", section 3.8), for they are not independent.

What the interval holds for: the chance of which rows came into the test part. Not the chance
of the training rows, and not a world that changes after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlsys.evaluate.weighted_metrics import Statistic

Floats = NDArray[np.float64]

BUDGET = 200_000_000
"""Rows times resamples at most, so that intervals take seconds: of 10 million rows 20 resamples are
drawn, and intervals of so many rows are narrow anyway."""

MAX_UNDEFINED = 0.05
"""With more than this share of resamples without a value, an interval would describe the others only."""


@dataclass(frozen=True)
class BootstrapEstimate:
    """A value, the ends of its interval and its standard error; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    error: float = float("nan")


@dataclass(frozen=True)
class ResamplingPlan:
    """The number of resamples (0: no intervals), the confidence (0.5 … 1), the seed, and which rows are drawn together.

    `groups` holds the number of each row's group, shape (n,); it is None if each row stands alone.
    """

    num_resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    groups: NDArray[np.int64] | None = None

    def affordable(self, num_rows: int) -> int:
        """Limit the resamples to the budget, but to no fewer than 20."""
        return min(self.num_resamples, max(20, BUDGET // max(num_rows, 1)))


def weights(num_rows: int, plan: ResamplingPlan) -> Iterator[Floats]:
    """Draw resamples as the number of times each row is in them, one array (n,) each; equal plans draw the same."""
    rng = np.random.default_rng(plan.seed)
    codes, num_groups = None, num_rows
    if plan.groups is not None:
        known, codes = np.unique(plan.groups, return_inverse=True)
        num_groups = len(known)
    for _ in range(plan.affordable(num_rows) if num_rows else 0):
        counts = np.bincount(rng.integers(0, num_groups, num_groups), minlength=num_groups).astype(np.float64)
        yield counts if codes is None else counts[codes]


def estimates(statistics: Mapping[str, Statistic], num_rows: int, plan: ResamplingPlan) -> dict[str, BootstrapEstimate]:
    """Compute each statistic on the rows with its interval; all of them see the same resamples."""
    drawn = [[statistic(weight) for statistic in statistics.values()] for weight in weights(num_rows, plan)]
    columns = np.array(drawn, np.float64).reshape(len(drawn), len(statistics))
    return {
        name: _estimate(statistic(None), columns[:, i], plan.confidence)
        for i, (name, statistic) in enumerate(statistics.items())
    }


def difference(first: Statistic, second: Statistic, num_rows: int, plan: ResamplingPlan) -> BootstrapEstimate:
    """Compute ``first - second`` with its interval; paired, both are computed on the same resample."""

    def gap(weight: Floats | None) -> float:
        return first(weight) - second(weight)

    return estimates({"difference": gap}, num_rows, plan)["difference"]


def _estimate(value: float, drawn: Floats, confidence: float) -> BootstrapEstimate:
    known = drawn[np.isfinite(drawn)]
    if len(known) < 2 or len(known) < (1 - MAX_UNDEFINED) * len(drawn) or not np.isfinite(value):
        return BootstrapEstimate(value)
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return BootstrapEstimate(value, float(low), float(high), float(known.std(ddof=1)))

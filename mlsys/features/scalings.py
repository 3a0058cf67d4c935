"""What a number is replaced by, centred at and divided by, from the statistics of the training rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlsys.features.operations import signed_log
from mlsys.statistics import ColumnStatistics

__all__ = ["center_and_scale", "divisor", "edges_of", "fill_of", "signed_logs"]

LOG_SAMPLE = 1_000
"""Quantiles that stand for the rows: with them the deviation of an exponential variable is 0.5 % too small."""


def fill_of(statistics: ColumnStatistics, impute: str | float) -> float | None:
    """What stands for a missing value."""
    if not isinstance(impute, str):
        return float(impute)
    if impute == "none" or statistics.numbers is None:
        return None
    return statistics.numbers.moments.mean if impute == "mean" else float(statistics.quantiles([0.5])[0])


def center_and_scale(statistics: ColumnStatistics, scale: str | float, *, log: bool) -> tuple[float, float]:
    """What is subtracted and what is divided by; `scale` names it, or is the latter for the columns of a vector.

    The mean and the deviation of a logarithm are those of `LOG_SAMPLE` of its quantiles, which a
    monotone function moves along.
    """
    numbers = statistics.numbers
    if scale == "none" or numbers is None:
        return 0.0, 1.0
    if not isinstance(scale, str):
        return numbers.moments.mean, scale
    values = signed_logs(statistics) if log else None
    mean, spread = numbers.moments.mean, math.sqrt(numbers.moments.m2 / numbers.moments.n)
    if values is not None:
        mean, spread = float(values.mean()), float(values.std())
    spread = spread if numbers.minimum < numbers.maximum else 0.0
    if scale == "standard":
        return mean, divisor(spread)
    low, middle, high = (float(q) for q in statistics.quantiles([0.25, 0.5, 0.75]))
    if log:
        low, middle, high = signed_log(low), signed_log(middle), signed_log(high)
    return middle, divisor(high - low or spread)  # a column of mostly one value has no interquartile range


def divisor(spread: float) -> float:
    """What to divide by: the spread, or 1 where there is none whose inverse is a number."""
    return spread if spread > 0 and math.isfinite(spread) and math.isfinite(1.0 / spread) else 1.0


def edges_of(statistics: ColumnStatistics, bins: int) -> tuple[float, ...]:
    """Inner edges of quantile bins, each once; the largest value ends no bin."""
    numbers = statistics.numbers
    if numbers is None or not numbers.moments.n:
        return ()
    edges = np.unique(statistics.quantiles(np.arange(1, bins) / bins))
    return tuple(edges[edges < numbers.maximum].tolist())


def signed_logs(statistics: ColumnStatistics) -> npt.NDArray[np.float64]:
    """`signed_log` of `LOG_SAMPLE` quantiles, evenly spaced: their moments are near those of all rows."""
    values = statistics.quantiles((np.arange(LOG_SAMPLE) + 0.5) / LOG_SAMPLE)
    return np.array([signed_log(value) for value in values.tolist()])

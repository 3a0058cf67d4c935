"""Tails of a target: whether a handful of rows decides all that is squared, and limits beyond which values are odd.

The share of the squared deviations from the median that the thousandth of the rows with the largest ones carries is
about 1 % for a normal variable and 14 % for a log-normal one of σ = 1. Where the variance is finite, the share of
the largest row falls towards 0 with more rows; where it is not, it does not (the ratio of maximum and sum, Embrechts et
al.). Above `HEAVY` the mean squared error is a statement about those rows alone, and its order of models is chance.

References
----------
Embrechts, Klüppelberg & Mikosch (1997), "Modelling Extremal Events", section 6.2.6, doi:10.1007/978-3-642-33483-2.
Hill (1975), "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3(5),
doi:10.1214/aos/1176343247: the tail index.
Bulmer (1979), "Principles of statistics", Dover: a skewness beyond 1/2 is moderate.
Brys, Hubert & Struyf (2004), "A robust measure of skewness", Journal of Computational and Graphical Statistics 13(4),
doi:10.1198/106186004X12632: the medcouple.
Hubert & Vandervieren (2008), "An adjusted boxplot for skewed distributions", Computational Statistics & Data Analysis
52(12), doi:10.1016/j.csda.2007.11.008: the fences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlsys.statistics.arrays import Floats

TOP, FEW = 0.001, 5
"""Fraction of the rows whose share of the squared deviations is measured; of few rows `FEW`, but no more than 0.5 %."""

HEAVY = 0.5
"""Share of the squared deviations above which a tail is heavy: that of a log-normal variable of σ = 1.55."""

MULTIPLIED = 0.5
"""Skewness from which on effects on values that are never negative may multiply: a moderate one (Bulmer 1979)."""

SKEWED = 2.0
"""Skewness of an exponential distribution, from which on a logarithm is worth a try."""

REACH = 3.0
"""Interquartile ranges, adjusted for skewness, from the quartiles to the fences: what Tukey calls far out."""

HILL = 0.01
"""Fraction of the rows with the largest deviations from which the tail index is estimated; ten at least."""

GRID = 1_001
"""Quantiles that stand for all values where the medcouple is computed, in time of the square."""


@dataclass(frozen=True)
class Tail:
    """The tail of some numbers.

    Attributes
    ----------
    top_share
        Share of the squared deviations from the median that the `num_top` rows with the largest ones carry.
    index
        Hill's estimate of the tail index: below 2 there is no variance, below 1 no mean; None where it is not defined.
    at_median
        Share of the rows whose value is the median: most of them where zero is inflated.
    """

    num_rows: int
    num_top: int
    top_share: float
    index: float | None
    skewness: float
    minimum: float
    median: float
    maximum: float
    at_median: float

    @classmethod
    def of(cls, values: Floats) -> Tail | None:
        """Tail of the finite values; None where they do not vary."""
        values = values[np.isfinite(values)]
        if values.size < 2 or values.min() == values.max():
            return None
        median = float(np.median(values))
        largest = float(np.abs(values - median).max())
        if not math.isfinite(largest):
            return None
        deviations = np.sort(np.abs(values - median) / largest)[::-1]  # of a unit scale, whose squares cannot overflow
        squares, num_top = deviations**2, max(1, round(TOP * values.size), min(FEW, values.size // 200))
        return cls(
            num_rows=int(values.size),
            num_top=num_top,
            top_share=float(squares[:num_top].sum() / squares.sum()),
            index=_hill(deviations),
            skewness=_skewness(values / largest),
            minimum=float(values.min()),
            median=median,
            maximum=float(values.max()),
            at_median=float(np.mean(values == median)),
        )

    @property
    def is_heavy(self) -> bool:
        return self.top_share > HEAVY

    @property
    def is_skewed(self) -> bool:
        """True if no value is negative and the upper tail is long, or all of it the other way round."""
        return (self.minimum >= 0 and self.skewness > SKEWED) or (self.maximum <= 0 and self.skewness < -SKEWED)

    @property
    def is_multiplied(self) -> bool:
        """True if no value is negative and the upper tail is longer than the lower one."""
        return self.minimum >= 0 and self.skewness > MULTIPLIED

    def sentence(self) -> str:
        """Say what is heavy about the tail."""
        rows = f"{self.num_top:,} of {self.num_rows:,} rows carry {self.top_share:.0%} of the squared deviations"
        index = "" if self.index is None else f", tail index {self.index:.2g}"
        return f"{rows} (median {self.median:.4g}, from {self.minimum:.4g} to {self.maximum:.4g}{index})"


def signed_log(values: Floats) -> Floats:
    """Logarithms of one more than the sizes of the values, with their signs; `signed_exp` takes it back.

    >>> signed_exp(signed_log(np.array([-3.0, 0.0, 3.0]))).round(12).tolist()
    [-3.0, 0.0, 3.0]
    """
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), np.float64)


def signed_exp(logs: Floats) -> Floats:
    """Values of which these are the logarithms that `signed_log` takes."""
    return np.asarray(np.sign(logs) * np.expm1(np.abs(logs)), np.float64)


def fences(values: Floats) -> tuple[float, float]:
    """Limits beyond which a value is far out, adjusted for skewness; quantiles where half of the values are equal.

    A normal variable keeps all but some of a hundred thousand:

    >>> low, high = fences(np.linspace(-1.0, 1.0, 2_001))
    >>> round(low, 2), round(high, 2)
    (-3.5, 3.5)
    """
    grid = np.quantile(values, np.linspace(0, 1, GRID))
    first, third = (float(q) for q in np.quantile(values, [0.25, 0.75]))
    if first == third:
        low, high = np.quantile(values, [TOP, 1 - TOP])
        return float(low), float(high)
    skew = medcouple(grid)
    below, above = (-4.0, 3.0) if skew >= 0 else (-3.0, 4.0)
    width = third - first
    return first - REACH * math.exp(below * skew) * width, third + REACH * math.exp(above * skew) * width


def medcouple(values: Floats) -> float:
    """Median over pairs, one value on each side of the median, of how much farther away the upper one is.

    >>> medcouple(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0
    """
    centred = np.sort(values) - np.median(values)
    upper, lower = centred[centred >= 0], centred[centred <= 0]
    distance = upper[:, None] - lower
    apart = distance > 0
    kernel = ((upper[:, None] + lower)[apart]) / distance[apart]
    return float(np.median(kernel)) if kernel.size else 0.0


def _hill(deviations: Floats) -> float | None:
    """Tail index from the largest deviations, which come first."""
    count = max(10, int(HILL * deviations.size))
    if deviations.size <= count or deviations[count] <= 0:
        return None
    excess = float(np.log(deviations[:count] / deviations[count]).mean())
    return 1 / excess if excess > 0 else None


def _skewness(values: Floats) -> float:
    centred = values - values.mean()
    spread = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean()) / spread**3 if spread > 0 and spread**3 > 0 else 0.0

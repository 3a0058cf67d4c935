"""Moments and co-moments that merge: exact up to rounding, whatever the order of the parts.

The sums of powers about the mean are kept, not those of the raw values, which would cancel. Two parts are merged by
the update formulas of Pébay.

References
----------
Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The American Statistician 37(3),
doi:10.1080/00031305.1983.10483115.
Pébay (2008), "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
moments", SAND2008-6212, equations 1.5 (M2), 2.1 (M3, M4) and 3.6 (co-moment), doi:10.2172/1028931.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np

from mlsys.statistics.arrays import Floats, Ints, number, real


@dataclass(frozen=True)
class Moments:
    """Count, mean and central sums of the 2nd to 4th powers: variance, skewness and kurtosis.

    Exact up to rounding; an update is three passes over its values in the cache.
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @classmethod
    def of(cls, values: Floats, times: Ints | None = None) -> Self:
        """Moments of finite values, each occurring `times` times (once by default).

        A sum that overflows becomes infinite, without a warning.
        """
        n = len(values) if times is None else int(times.sum())
        if n == 0:
            return cls()

        def total(terms: Floats) -> float:
            return float((terms if times is None else terms * times).sum())

        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            mean = total(values) / n
            if not math.isfinite(mean):
                mean = total(values / n)
            deviation = values - mean
            square = deviation * deviation
            return cls(n, mean, total(square), total(square * deviation), total(square * square))

    def merge(self, other: Moments) -> Moments:
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        a, b, n = self.n, other.n, self.n + other.n
        d = other.mean - self.mean
        with np.errstate(over="ignore", invalid="ignore"):
            m2 = self.m2 + other.m2 + d * d * (a / n) * b
            m3 = (
                self.m3
                + other.m3
                + _power(d, 3) * (a / n) * (b / n) * (a - b)
                + 3 * d * (a * other.m2 - b * self.m2) / n
            )
            m4 = (
                self.m4
                + other.m4
                + _power(d, 4) * (a / n) * (b / n) * ((a * a - a * b + b * b) / n)
                + 6 * d * d * ((a / n) ** 2 * other.m2 + (b / n) ** 2 * self.m2)
                + 4 * d * (a * other.m3 - b * self.m3) / n
            )
        return Moments(n, self.mean + d * (b / n), m2, m3, m4)

    @property
    def variance(self) -> float | None:
        """Sample variance, divided by n - 1; None below two values or where it overflows."""
        return _finite(self.m2 / (self.n - 1)) if self.n > 1 else None

    @property
    def stddev(self) -> float | None:
        return None if self.variance is None else math.sqrt(self.variance)

    @property
    def skewness(self) -> float | None:
        """Skewness g1 = sqrt(n) M3 / M2^1.5, as SciPy's ``skew``; None for a constant."""
        return self._shape(lambda: math.sqrt(self.n) * self.m3 / self.m2**1.5)

    @property
    def kurtosis(self) -> float | None:
        """Excess kurtosis g2 = n M4 / M2^2 - 3, as SciPy's ``kurtosis``, 0 for a normal; None for a constant."""
        return self._shape(lambda: self.n * self.m4 / (self.m2 * self.m2) - 3)

    def _shape(self, formula: Callable[[], float]) -> float | None:
        if self.n < 2 or not math.isfinite(self.m2) or math.sqrt(self.m2 / self.n) <= 1e-15 * abs(self.mean):
            return None  # what rounding leaves of a constant is no shape
        try:
            return _finite(formula())
        except (OverflowError, ZeroDivisionError):
            return None

    def to_json(self) -> list[float | str]:
        return [self.n, *(number(x) for x in astuple(self)[1:])]

    @classmethod
    def from_json(cls, value: list[Any]) -> Self:
        return cls(int(value[0]), *(real(x) for x in value[1:]))


@dataclass(frozen=True)
class Comoments:
    """Count, means and central sums of squares and products of two variables: Pearson's correlation.

    Exact up to rounding.
    """

    n: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    m2_x: float = 0.0
    m2_y: float = 0.0
    c_xy: float = 0.0

    @classmethod
    def of(cls, x: Floats, y: Floats) -> Self:
        """Co-moments of pairs of finite values."""
        if len(x) == 0:
            return cls()
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            mean_x, mean_y = float(np.mean(x)), float(np.mean(y))
            dx, dy = x - mean_x, y - mean_y
            return cls(len(x), mean_x, mean_y, float(dx @ dx), float(dy @ dy), float(dx @ dy))

    def merge(self, other: Comoments) -> Comoments:
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.n / n * other.n
        with np.errstate(over="ignore", invalid="ignore"):
            return Comoments(
                n,
                self.mean_x + dx * other.n / n,
                self.mean_y + dy * other.n / n,
                self.m2_x + other.m2_x + dx * dx * weight,
                self.m2_y + other.m2_y + dy * dy * weight,
                self.c_xy + other.c_xy + dx * dy * weight,
            )

    @property
    def correlation(self) -> float | None:
        """Pearson's r; None where one of the two does not vary or the sums overflow."""
        scale = math.sqrt(self.m2_x) * math.sqrt(self.m2_y) if min(self.m2_x, self.m2_y) > 0 else 0.0
        if self.n < 2 or scale == 0 or not math.isfinite(scale) or not math.isfinite(self.c_xy):
            return None
        return max(-1.0, min(1.0, self.c_xy / scale))

    def to_json(self) -> list[float | str]:
        return [self.n, *(number(x) for x in astuple(self)[1:])]

    @classmethod
    def from_json(cls, value: list[Any]) -> Self:
        return cls(int(value[0]), *(real(x) for x in value[1:]))


def _power(base: float, exponent: int) -> float:
    try:
        return base**exponent
    except OverflowError:
        return math.copysign(math.inf, base) if exponent % 2 else math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

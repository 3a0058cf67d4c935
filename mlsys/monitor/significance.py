"""Tests and noise levels for differences of distributions whose rows come in clusters.

Rows of a log are not independent: the flights of a day share their weather, the requests of
a customer share the customer, and a window of 6,000 such rows may be worth a few hundred
independent ones. `design_effect` estimates this from the spread between blocks of time inside
the windows; `homogeneity_test` divides it out and `noise_floor` multiplies it in.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mlsys.monitor.drift import FloatArray, Test, chi_squared_test

MIN_EXPECTED = 5.0
"""Expected count that a bin needs for the chi-squared approximation (Cochran 1954, Biometrics 10:417)."""


@dataclass(frozen=True)
class Dispersion:
    """Overdispersion of the counts of a column between the blocks of its windows.

    Attributes
    ----------
    effect
        Design effect: the number of rows that are worth one independent row, 1 or more.
    freedom
        Degrees of freedom of the estimate: its blocks less one for each window; infinite where
        the effect was assumed.
    unevenness
        1 where all differences between bins are overdispersed alike; up to the number of bins less one where
        blocks differ in one way alone, such as warm and cold days in their mean.
    """

    effect: float = 1.0
    freedom: float = math.inf
    unevenness: float = 1.0


INDEPENDENT = Dispersion()
"""Dispersion of independent rows."""


@dataclass(frozen=True)
class BlockSpread:
    """Spread of a column's counts between the blocks of one window, which `pool` adds to that of others.

    Attributes
    ----------
    statistic
        Pearson's statistic of the blocks against the window's own fractions.
    blocks, bins
        Blocks with rows, and bins with rows.
    products
        Sums of products of the blocks' standardised deviations, shape (bins, bins).
    """

    statistic: float
    blocks: int
    bins: int
    products: FloatArray

    @classmethod
    def of(cls, counts: ArrayLike) -> Self | None:
        """Measure the counts of a window, shape (blocks, bins); None where nothing differs from anything else."""
        table = np.asarray(counts, dtype=np.float64)
        if table.ndim != 2 or not table.size:
            return None
        table = table[table.sum(axis=1) > 0]
        num_bins = int((table.sum(axis=0) > 0).sum())
        if min(table.shape[0], num_bins) < 2:
            return None
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        z = np.divide(table - expected, np.sqrt(expected), out=np.zeros_like(table), where=expected > 0)
        statistic = float(np.divide((table - expected) ** 2, expected, out=z * 0, where=expected > 0).sum())
        return cls(statistic, table.shape[0], num_bins, z.T @ z)

    def to_json(self) -> list[Any]:
        """The numbers, those of the products as their bytes, so that they come back the same to the last bit."""
        products = base64.b64encode(self.products.astype("<f8").tobytes()).decode()
        return [self.statistic, self.blocks, self.bins, products]

    @classmethod
    def from_json(cls, value: list[Any]) -> Self:
        statistic, blocks, bins, products = value
        numbers = np.frombuffer(base64.b64decode(products), "<f8")
        return cls(statistic, blocks, bins, numbers.reshape(math.isqrt(len(numbers)), -1))


def merge_rare(p: ArrayLike, q: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Pool the bins in which the smaller side expects fewer than `MIN_EXPECTED` rows.

    Which bins are pooled depends on the sum of the two vectors alone, which says nothing about
    their difference, so a test of the pooled counts keeps its level. A pool that is still too
    small joins the smallest other bin.
    """
    table = np.array([p, q], dtype=np.float64)
    columns = table.sum(axis=0)
    rare = table.sum(axis=1).min() * columns / max(columns.sum(), 1.0) < MIN_EXPECTED
    if not rare.any():
        return table[0], table[1]
    frequent, pooled = table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)
    expected = table.sum(axis=1).min() * pooled.sum() / max(columns.sum(), 1.0)
    if expected < MIN_EXPECTED and frequent.shape[1]:
        smallest = int(frequent.sum(axis=0).argmin())
        frequent[:, smallest] += pooled[:, 0]
        return frequent[0], frequent[1]
    merged = np.hstack([frequent, pooled])
    return merged[0], merged[1]


def design_effect(windows: Iterable[ArrayLike]) -> Dispersion:
    """Estimate the dispersion of a column's counts between blocks of time, pooled over windows.

    ``phi = sum((c - n_b * p)^2 / (n_b * p)) / ((B - 1) * (k - 1))`` over the B blocks and k
    bins of each window, with p the window's own fractions: 1 for independent rows, about
    ``1 + (n_b - 1) * rho`` for rows with correlation rho inside a block. Estimates below 1 count
    as 1, so dividing a test by it can only make the test more careful.

    phi is the mean of the eigenvalues of the covariance of ``z = (c - n_b * p) / sqrt(n_b * p)``. The unevenness is
    ``(k - 1) * sum(eigenvalue^2) / sum(eigenvalue)^2``, with ``tr(S^2)`` corrected for the noise of the estimate S from
    d degrees of freedom: ``d^2 / ((d - 1) (d + 2)) * (tr(S^2) - tr(S)^2 / d)``.

    Parameters
    ----------
    windows
        Counts of shape (blocks, bins), one array a window.

    References
    ----------
    McCullagh & Nelder (1989), Generalized Linear Models, section 4.5; Rao & Scott (1981),
    The analysis of categorical data from complex sample surveys, JASA 76:221; Rao & Scott (1984), Ann. Stat.
    12:46 (second order). Srivastava (2005), J. Japan Stat. Soc. 35:251, for tr(S^2).

    Examples
    --------
    >>> design_effect([[[10, 0], [0, 10]]])
    Dispersion(effect=20.0, freedom=1.0, unevenness=1.0)
    """
    return pool(map(BlockSpread.of, windows))


def pool(windows: Iterable[BlockSpread | None]) -> Dispersion:
    """Put the spreads of windows together into one dispersion, as `design_effect` says; the order is that of time."""
    statistic = freedom = block_freedom = 0.0
    products: FloatArray | None = None
    for each in windows:
        if each is None:
            continue
        statistic += each.statistic
        freedom += (each.blocks - 1) * (each.bins - 1)
        block_freedom += each.blocks - 1
        products = each.products if products is None else products + each.products
    if not freedom or products is None:
        return INDEPENDENT
    uneven = _unevenness(products / block_freedom, block_freedom, freedom / block_freedom)
    return Dispersion(max(statistic / freedom, 1.0), block_freedom, uneven)


def _unevenness(covariance: FloatArray, freedom: float, rank: float) -> float:
    """Mean square of the eigenvalues over the square of their mean, 1 or more, from an estimated covariance."""
    trace, squares = float(np.trace(covariance)), float((covariance**2).sum())
    if freedom < 2 or trace <= 0:
        return 1.0
    corrected = freedom**2 / ((freedom - 1) * (freedom + 2)) * (squares - trace**2 / freedom)
    return float(np.clip(rank * corrected / trace**2, 1.0, max(rank, 1.0)))


def homogeneity_test(p: ArrayLike, q: ArrayLike, dispersion: Dispersion = INDEPENDENT) -> Test:
    """Test that two count vectors come from one distribution, for rows that may come in clusters.

    Pearson's statistic after `merge_rare`, divided by the design effect. For k bins and v = (k - 1) / unevenness
    the statistic over k - 1 is compared with chi-squared of v degrees of freedom over v where the effect was
    assumed; where it was estimated with d degrees of freedom, with F(v, v * d).

    References
    ----------
    Rao & Scott (1984), On chi-squared tests for multiway contingency tables with cell proportions estimated from
    survey data, Ann. Stat. 12:46 (second-order correction); Rao & Thomas (1989), Chi-squared tests for contingency
    tables, in Analysis of Complex Surveys (the F form).

    Examples
    --------
    >>> round(homogeneity_test([10, 20], [20, 10], Dispersion(2.0)).statistic, 6)
    3.333333
    """
    a, b = merge_rare(p, q)
    if not a.sum() or not b.sum():
        return Test(math.nan, math.nan)
    return corrected(chi_squared_test(a, b).statistic, a.size, dispersion)


def corrected(statistic: float, bins: int, dispersion: Dispersion) -> Test:
    """Pearson's statistic of two count vectors over so many bins, for rows that may come in clusters.

    >>> round(corrected(20 / 3, 2, Dispersion(2.0)).statistic, 6)
    3.333333
    """
    if math.isnan(statistic):
        return Test(math.nan, math.nan)
    if bins < 2:
        return Test(0.0, 1.0)
    statistic, freedom = statistic / dispersion.effect, _freedom(bins, dispersion)
    ratio = statistic / (bins - 1)
    if math.isinf(dispersion.freedom):
        return Test(statistic, float(special.chdtrc(freedom, freedom * ratio)))
    return Test(statistic, float(special.fdtrc(freedom, freedom * dispersion.freedom, ratio)))


def _freedom(bins: int, dispersion: Dispersion) -> float:
    """Degrees of freedom of a statistic over so many bins: fewer where few differences between bins vary."""
    return max((bins - 1) / dispersion.unevenness, 1.0)


def noise_floor(n: float, m: float, bins: int, alpha: float, dispersion: Dispersion = INDEPENDENT) -> float:
    """Approximate `js_distance` that two samples of one distribution stay below with probability ``1 - alpha``.

    For samples of n and m rows over k bins, ``8 * JS / (1/n + 1/m)`` (JS in nats) is
    asymptotically chi-squared with k - 1 degrees of freedom, for to second order JS is
    ``sum((p - q)^2 / (p + q)) / 4``, an eighth of Pearson's distance. Reports draw it; alarms
    follow `homogeneity_test`, which keeps its level for small counts too.

    References
    ----------
    Grosse et al. (2002), Analysis of symbolic sequences using the Jensen-Shannon divergence,
    Phys. Rev. E 65:041905.

    Examples
    --------
    >>> round(noise_floor(1_000, 100_000, 10, 0.05), 4)
    0.0555
    """
    if bins < 2 or not n or not m:
        return 0.0
    quantile = _quantile(bins, alpha, dispersion)
    return math.sqrt(min(quantile * dispersion.effect * (1 / n + 1 / m) / (8 * math.log(2)), 1.0))


@functools.lru_cache(maxsize=1024)
def _quantile(bins: int, alpha: float, dispersion: Dispersion) -> float:
    """Quantile of the statistic over so many bins, the same in all windows of a column."""
    freedom = _freedom(bins, dispersion)
    if math.isinf(dispersion.freedom):
        return (bins - 1) / freedom * float(special.chdtri(freedom, alpha))
    return (bins - 1) * float(special.fdtri(freedom, freedom * dispersion.freedom, 1 - alpha))


def benjamini_hochberg(pvalues: ArrayLike) -> FloatArray:
    """Adjusted p-values: the lowest false discovery rate at which each hypothesis is rejected.

    ``min over j >= i of p_(j) * m / j`` for the i-th smallest of m p-values. Where nothing differs,
    the probability that any adjusted value falls below alpha is at most alpha (Simes), which is the
    promise of ``monitor.false_alarm_rate``; where some columns drift, at most a fraction alpha of
    the rejected ones is expected to be wrong.

    References
    ----------
    Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289; Benjamini & Yekutieli (2001),
    Ann. Stat. 29:1165, for positively dependent columns.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.5]).tolist()
    [0.03, 0.03, 0.5]
    """
    values = np.asarray(pvalues, dtype=np.float64)
    order = np.argsort(values)[::-1]
    ranks = np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(values[order] * values.size / ranks)
    return np.minimum(adjusted, 1.0)

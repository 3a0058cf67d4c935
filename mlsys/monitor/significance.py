"""How far apart noise alone would put two distributions, for rows that may come in clusters.

The noise is not that of independent rows. The flights of a day share their weather, the
requests of a customer share the customer; a window of 6,000 such rows may be worth a few
hundred. `design_effect` measures it from the spread between blocks of time inside the
windows, and `homogeneity_test` divides it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mlsys.monitor.drift import Test, chi_squared_test

__all__ = [
    "INDEPENDENT",
    "Dispersion",
    "benjamini_hochberg",
    "design_effect",
    "homogeneity_test",
    "merge_rare",
    "noise_floor",
]

FloatArray = NDArray[np.float64]

MIN_EXPECTED = 5.0
"""Expected count a bin needs for the chi-squared approximation (Cochran 1954, Biometrics 10:417)."""


@dataclass(frozen=True)
class Dispersion:
    """How much more than independent rows the blocks of a window differ.

    Attributes
    ----------
    effect
        Rows that are worth one independent row (1 or more).
    freedom
        Blocks that it was measured from, less one a window; infinite where it was assumed.
    """

    effect: float = 1.0
    freedom: float = math.inf


INDEPENDENT = Dispersion()
"""Rows that tell nothing about each other."""


def merge_rare(p: ArrayLike, q: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Pool the bins where either side expects fewer than `MIN_EXPECTED` rows.

    What is pooled depends on the sum of the two vectors only, which says nothing about
    their difference, so the test afterwards keeps its level.
    """
    table = np.array([p, q], dtype=np.float64)
    columns = table.sum(axis=0)
    rare = table.sum(axis=1).min() * columns / max(columns.sum(), 1.0) < MIN_EXPECTED
    if not rare.any():
        return table[0], table[1]
    kept, pooled = table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)
    expected = table.sum(axis=1).min() * pooled.sum() / max(columns.sum(), 1.0)
    if expected < MIN_EXPECTED and kept.shape[1]:
        smallest = int(kept.sum(axis=0).argmin())
        kept[:, smallest] += pooled[:, 0]
        return kept[0], kept[1]
    merged = np.hstack([kept, pooled])
    return merged[0], merged[1]


def design_effect(windows: Iterable[ArrayLike]) -> Dispersion:
    """Dispersion of a column's counts between blocks of time, pooled over windows.

    ``phi = sum((c - n_b * p)^2 / (n_b * p)) / ((B - 1) * (k - 1))`` over the B blocks and k
    bins of each window, with p the window's own fractions: 1 for independent rows, about
    ``1 + (n_b - 1) * rho`` for rows with correlation rho inside a block. It is never taken
    below 1, so a test divided by it only becomes more careful.

    Parameters
    ----------
    windows
        Counts of shape (blocks, bins), one array a window.

    References
    ----------
    McCullagh & Nelder (1989), Generalized Linear Models, section 4.5; Rao & Scott (1981),
    The analysis of categorical data from complex sample surveys, JASA 76:221.

    Examples
    --------
    >>> design_effect([[[10, 0], [0, 10]]])
    Dispersion(effect=20.0, freedom=1.0)
    """
    statistic = freedom = blocks_less_one = 0.0
    for counts in windows:
        table = np.asarray(counts, dtype=np.float64)
        if table.ndim != 2 or not table.size:
            continue
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
        if min(table.shape) < 2:
            continue
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        statistic += float(((table - expected) ** 2 / expected).sum())
        freedom += (table.shape[0] - 1) * (table.shape[1] - 1)
        blocks_less_one += table.shape[0] - 1
    return Dispersion(max(statistic / freedom, 1.0), blocks_less_one) if freedom else INDEPENDENT


def homogeneity_test(p: ArrayLike, q: ArrayLike, dispersion: Dispersion = INDEPENDENT) -> Test:
    """Whether two count vectors differ by more than noise, for rows that may come in clusters.

    Pearson's statistic after rare bins are pooled, divided by the dispersion phi. For phi
    measured with d degrees of freedom and k bins, the statistic over k - 1 is compared with
    F(k - 1, (k - 1) * d) instead of chi-squared.

    References
    ----------
    Rao & Scott (1981), JASA 76:221 (first-order correction); Rao & Thomas (1989), Chi-squared
    tests for contingency tables, in Analysis of Complex Surveys (the F form).

    Examples
    --------
    >>> round(homogeneity_test([10, 20], [20, 10], Dispersion(2.0)).statistic, 6)
    3.333333
    """
    a, b = merge_rare(p, q)
    if not a.sum() or not b.sum():
        return Test(math.nan, math.nan)
    if a.size < 2:
        return Test(0.0, 1.0)
    freedom = a.size - 1
    statistic = chi_squared_test(a, b).statistic / dispersion.effect
    if math.isinf(dispersion.freedom):
        return Test(statistic, float(special.chdtrc(freedom, statistic)))
    return Test(statistic, float(special.fdtrc(freedom, freedom * dispersion.freedom, statistic / freedom)))


def noise_floor(n: float, m: float, bins: int, alpha: float, dispersion: Dispersion = INDEPENDENT) -> float:
    """The js_distance that samples of n and m rows stay below with chance ``1 - alpha``, about.

    For two samples of one distribution over k bins, ``8 * JS / (1/n + 1/m)`` (JS in nats) is
    asymptotically chi-squared with k - 1 degrees of freedom: to second order JS is
    ``sum((p - q)^2 / (p + q)) / 4``, an eighth of Pearson's distance. It is for drawing; the
    decision is `homogeneity_test`'s, which keeps its level where counts are small too.

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
    if math.isinf(dispersion.freedom):
        quantile = float(special.chdtri(bins - 1, alpha))
    else:
        quantile = (bins - 1) * float(special.fdtri(bins - 1, (bins - 1) * dispersion.freedom, 1 - alpha))
    return math.sqrt(min(quantile * dispersion.effect * (1 / n + 1 / m) / (8 * math.log(2)), 1.0))


def benjamini_hochberg(pvalues: ArrayLike) -> FloatArray:
    """Adjusted p-values: the false discovery rate at which each would just be named.

    Where nothing differs, the chance that any adjusted value falls below alpha is at most
    alpha (Simes), which is the promise of ``monitor.false_alarm_rate``; where some columns
    drift, the expected fraction of wrongly named ones among the named is at most alpha.

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

"""How far apart two distributions are, and how far apart noise alone would put them.

Everything here is arithmetic on counts: a numeric column is counted in the bins between
the reference's quantiles, a categorical one by category, each with a bin for nulls and one
for what the reference hardly knows. Two questions are kept apart: *how large* a difference
is (the distances) and *whether it is more than noise* (the tests). An alarm needs both.

The noise is not that of independent rows. The flights of a day share their weather, the
requests of a customer share the customer; a window of 6,000 such rows may be worth a few
hundred. `design_effect` measures it from the spread between blocks of time inside the
windows, and `homogeneity_test` divides it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import kstwo

__all__ = [
    "INDEPENDENT",
    "Dispersion",
    "Test",
    "benjamini_hochberg",
    "chi_squared_test",
    "design_effect",
    "homogeneity_test",
    "js_distance",
    "ks_test",
    "l_infinity_distance",
    "merge_rare",
    "noise_floor",
    "population_stability_index",
    "tv_distance",
    "wasserstein_distance",
]

FloatArray = NDArray[np.float64]

MIN_EXPECTED = 5.0
"""Expected count a bin needs for the chi-squared approximation (Cochran 1954, Biometrics 10:417)."""

PSI_FLOOR = 1e-4
"""Fraction put in place of an empty bin, where the index would be infinite."""


@dataclass(frozen=True)
class Test:
    """A test statistic and the chance of one at least as large without any difference."""

    __test__ = False

    statistic: float
    pvalue: float


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


def _fractions(counts: ArrayLike) -> FloatArray:
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    return values / total if total > 0 else np.full(values.shape, np.nan)


def js_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Jensen-Shannon distance of two count vectors, 0 (same) to 1 (nothing in common).

    The square root of ``JS = H((p + q) / 2) - H(p) / 2 - H(q) / 2`` with entropy H in bits.

    References
    ----------
    Lin (1991), Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory
    37:145; Endres & Schindelin (2003), IEEE Trans. Inf. Theory 49:1858: its root is a metric.

    Examples
    --------
    >>> js_distance([1, 0], [0, 5])
    1.0
    >>> round(js_distance([3, 1], [1, 1]), 6)
    0.220896
    """
    a, b = _fractions(p), _fractions(q)
    middle = (a + b) / 2
    divergence = (special.rel_entr(a, middle).sum() + special.rel_entr(b, middle).sum()) / (2 * math.log(2))
    return math.sqrt(max(float(divergence), 0.0)) if not math.isnan(divergence) else math.nan


def tv_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Total variation: half the sum of the absolute differences, the mass that has to move.

    References
    ----------
    Levin & Peres (2017), Markov Chains and Mixing Times, proposition 4.2.

    Examples
    --------
    >>> tv_distance([1, 1], [1, 3])
    0.25
    """
    return float(np.abs(_fractions(p) - _fractions(q)).sum() / 2)


def l_infinity_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Largest difference of any one fraction (Chebyshev distance).

    Examples
    --------
    >>> l_infinity_distance([2, 2, 4], [4, 2, 2])
    0.25
    """
    return float(np.abs(_fractions(p) - _fractions(q)).max())


def population_stability_index(reference: ArrayLike, window: ArrayLike) -> float:
    """``sum((q - p) * ln(q / p))``; empty bins count as a fraction of 0.0001.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, chapter 9. Yurdakul & Naranjo (2020), Statistical
    properties of the population stability index, J. Risk Model Validation 14(4).

    Examples
    --------
    >>> round(population_stability_index([50, 50], [80, 20]), 6)
    0.415888
    """
    p, q = np.maximum(_fractions(reference), PSI_FLOOR), np.maximum(_fractions(window), PSI_FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


def wasserstein_distance(
    p_values: ArrayLike, q_values: ArrayLike, p_weights: ArrayLike | None = None, q_weights: ArrayLike | None = None
) -> float:
    """Area between two cumulative distributions, in the unit of the values.

    ``W1 = integral |F(x) - G(x)| dx``. With a sketch's quantiles in place of the values it is
    as exact as they are.

    References
    ----------
    Vallender (1974), Calculation of the Wasserstein distance between probability
    distributions on the line, Theory Probab. Appl. 18:784.

    Examples
    --------
    >>> wasserstein_distance([0, 1, 3], [5, 6, 8])
    5.0
    """
    p, q = np.asarray(p_values, dtype=np.float64), np.asarray(q_values, dtype=np.float64)
    if not p.size or not q.size:
        return math.nan
    places = np.sort(np.concatenate([p, q]))
    difference = _cumulative(p, p_weights, places[:-1]) - _cumulative(q, q_weights, places[:-1])
    return float(np.abs(difference) @ np.diff(places))


def _cumulative(values: FloatArray, weights: ArrayLike | None, at: FloatArray) -> FloatArray:
    """Fraction of the weight at or below each place."""
    order = np.argsort(values, kind="stable")
    mass = np.ones(values.size) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    sums = np.concatenate([[0.0], np.cumsum(mass)])
    return np.asarray(sums[np.searchsorted(values[order], at, side="right")] / sums[-1])


def ks_test(p: ArrayLike, q: ArrayLike) -> Test:
    """Two-sample Kolmogorov-Smirnov test on counts in ordered bins.

    The statistic is the largest gap of the cumulative fractions at the bins' edges, so with
    a hundred quantile bins it lies at most 0.01 below the gap over all values. The p-value
    is the distribution of the one-sample statistic at ``n * m / (n + m)`` rows; ties make it
    too large, never too small.

    References
    ----------
    Hodges (1958), The significance probability of the Smirnov two-sample test, Ark. Mat.
    3:469; as ``scipy.stats.ks_2samp(method="asymp")``.

    Examples
    --------
    >>> test = ks_test([1] * 10, [2] * 5 + [0] * 5)
    >>> test.statistic
    0.5
    """
    n, m = float(np.sum(p)), float(np.sum(q))
    if not n or not m:
        return Test(math.nan, math.nan)
    gap = float(np.abs(np.cumsum(_fractions(p)) - np.cumsum(_fractions(q))).max())
    return Test(gap, float(np.clip(kstwo.sf(gap, max(round(n * m / (n + m)), 1)), 0.0, 1.0)))


def chi_squared_test(p: ArrayLike, q: ArrayLike) -> Test:
    """Pearson's test that two count vectors come from one distribution, without correction.

    Bins that are empty in both are left out; the degrees of freedom are the others less one.

    References
    ----------
    Pearson (1900), Phil. Mag. 50:157; as ``scipy.stats.chi2_contingency(correction=False)``.

    Examples
    --------
    >>> round(chi_squared_test([10, 20], [20, 10]).statistic, 6)
    6.666667
    """
    table = np.array([p, q], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    rows = table.sum(axis=1, keepdims=True)
    if not rows.all():
        return Test(math.nan, math.nan)
    expected = rows * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return Test(statistic, float(special.chdtrc(table.shape[1] - 1, statistic)) if table.shape[1] > 1 else 1.0)


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


def design_effect(windows: Sequence[ArrayLike]) -> Dispersion:
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

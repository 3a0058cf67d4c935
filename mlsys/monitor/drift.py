"""How far apart two distributions are: distances and tests on counts.

Everything here is arithmetic on counts: a numeric column is counted in the bins between
the reference's quantiles, a categorical one by category, each with a bin for nulls and one
for what the reference hardly knows. How large a difference must be before it is more than
noise is the subject of `mlsys.monitor.significance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import kstwo

from mlsys.statistics.ranking import weighted_cdf

__all__ = [
    "Test",
    "chi_squared_test",
    "js_distance",
    "ks_test",
    "l_infinity_distance",
    "population_stability_index",
    "tv_distance",
    "wasserstein_distance",
]

FloatArray = NDArray[np.float64]

PSI_FLOOR = 1e-4
"""Fraction put in place of an empty bin, where the index would be infinite."""


@dataclass(frozen=True)
class Test:
    """A test statistic and the chance of one at least as large without any difference."""

    __test__ = False

    statistic: float
    pvalue: float


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
    return weighted_cdf(values[order], np.cumsum(mass), at)


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

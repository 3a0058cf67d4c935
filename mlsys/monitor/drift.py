"""Distances between two distributions, and tests of their equality, computed from counts.

Numeric columns are counted in the bins between the reference's quantiles, categorical ones by category; each
has a bin for nulls and one for values that the reference hardly knows. `STATISTICS` says everything about each
statistic in one entry: to add one, write its function and its entry, and the drift table, the report and the
contract tests have it. `mlsys.monitor.significance` says how large a difference has to be to exceed noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mlsys.statistics.ranking import weighted_cdf

FloatArray = NDArray[np.float64]

PSI_FLOOR = 1e-4
"""Least fraction of a bin in the population stability index, which an empty bin would make infinite."""


@dataclass(frozen=True)
class Test:
    """A test statistic, and the probability of one at least as large if the distributions are equal."""

    __test__ = False

    statistic: float
    pvalue: float


def _fractions(counts: ArrayLike) -> FloatArray:
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    return values / total if total > 0 else np.full(values.shape, np.nan)


def js_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Jensen-Shannon distance of two count vectors, 0 (equal) to 1 (no bin in common).

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
    """Total variation distance, 0 to 1: the fraction of rows that would have to change their bin.

    ``sum(|p - q|) / 2``.

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
    """Largest difference of any one fraction, 0 to 1.

    ``max(|p - q|)``, the Chebyshev distance.

    References
    ----------
    Cha (2007), Comprehensive survey on distance/similarity measures between probability density
    functions, Int. J. Math. Models Methods Appl. Sci. 1(4):300, table 1.

    Examples
    --------
    >>> l_infinity_distance([2, 2, 4], [4, 2, 2])
    0.25
    """
    return float(np.abs(_fractions(p) - _fractions(q)).max())


def population_stability_index(reference: ArrayLike, window: ArrayLike) -> float:
    """Population stability index: the sum of the relative entropies in both directions, in nats.

    ``sum((q - p) * ln(q / p))``; a bin below a fraction of `PSI_FLOOR` counts as `PSI_FLOOR`.

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


def wasserstein_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Area between the cumulative distributions of two samples, in the unit of their values.

    ``W1 = integral |F(x) - G(x)| dx``. Evenly spaced quantiles may stand in for the samples:
    the result is as exact as they are. NaN where a sample is empty.

    References
    ----------
    Vallender (1974), Calculation of the Wasserstein distance between probability
    distributions on the line, Theory Probab. Appl. 18:784.

    Examples
    --------
    >>> wasserstein_distance([0, 1, 3], [5, 6, 8])
    5.0
    """
    a, b = np.sort(np.asarray(p, np.float64)), np.sort(np.asarray(q, np.float64))
    if not a.size or not b.size:
        return math.nan
    values = np.sort(np.concatenate([a, b]))
    below_a, below_b = (weighted_cdf(side, np.arange(1.0, side.size + 1), values[:-1]) for side in (a, b))
    return float(np.abs(below_a - below_b) @ np.diff(values))


def ks_test(p: ArrayLike, q: ArrayLike) -> Test:
    """Two-sample Kolmogorov-Smirnov test on counts in ordered bins.

    The statistic is ``max |F - G|`` at the edges of the bins; with a hundred quantile bins it
    is at most 0.01 below the maximum over all values. The p-value is that of the one-sample
    statistic at ``n * m / (n + m)`` rows; ties make it too large, never too small.

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
    from scipy.stats import kstwo  # takes a second to import

    n, m = float(np.sum(p)), float(np.sum(q))
    if not n or not m:
        return Test(math.nan, math.nan)
    gap = float(np.abs(np.cumsum(_fractions(p)) - np.cumsum(_fractions(q))).max())
    return Test(gap, float(np.clip(kstwo.sf(gap, max(round(n * m / (n + m)), 1)), 0.0, 1.0)))


def chi_squared_test(p: ArrayLike, q: ArrayLike) -> Test:
    """Pearson's test that two count vectors come from one distribution, without continuity correction.

    ``sum((observed - expected)^2 / expected)`` over both vectors, against chi-squared with
    k - 1 degrees of freedom, where k counts the bins that are not empty in both.

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


@dataclass(frozen=True)
class DriftStatistic:
    """One column of the drift table: a statistic that compares a window with the reference.

    Attributes
    ----------
    takes
        Arguments of `function`: counts in ``deciles`` (categories for a categorical column)
        with nulls, counts in ``percentiles`` without nulls, or ``quantiles`` of the values.
    source
        Where it is defined; the function's docstring has the formula.
    symmetric, ordered
        Exchanging the two sides changes nothing; the order of the bins matters.
    """

    name: str
    title: str
    columns: Literal["all", "numeric", "categorical"]
    takes: Literal["deciles", "percentiles", "quantiles"]
    function: Callable[[ArrayLike, ArrayLike], float | Test]
    source: str
    is_test: bool = False
    symmetric: bool = True
    ordered: bool = False
    maximum: float = math.inf


STATISTICS = (
    DriftStatistic(
        "js_distance", "Jensen-Shannon distance", "all", "deciles", js_distance,
        "Lin (1991); Endres & Schindelin (2003)", maximum=1.0,
    ),
    DriftStatistic(
        "ks_test", "Kolmogorov-Smirnov test", "numeric", "percentiles", ks_test,
        "Hodges (1958)", is_test=True, ordered=True, maximum=1.0,
    ),
    DriftStatistic(
        "wasserstein_distance", "Wasserstein distance", "numeric", "quantiles", wasserstein_distance,
        "Vallender (1974)", ordered=True,
    ),
    DriftStatistic(
        "population_stability_index", "Population stability index", "all", "deciles", population_stability_index,
        "Siddiqi (2006), chapter 9",
    ),
    DriftStatistic(
        "chi_squared_test", "Pearson's chi-squared test", "categorical", "deciles", chi_squared_test,
        "Pearson (1900)", is_test=True,
    ),
    DriftStatistic(
        "tv_distance", "Total variation distance", "all", "deciles", tv_distance,
        "Levin & Peres (2017), proposition 4.2", maximum=1.0,
    ),
    DriftStatistic(
        "l_infinity_distance", "L-infinity distance", "all", "deciles", l_infinity_distance,
        "Cha (2007), table 1", maximum=1.0,
    ),
)  # fmt: skip
"""All statistics of drift, in the order of the drift table's columns."""

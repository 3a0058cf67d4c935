"""Always-valid sequential tests: they may be looked at after every request, and stop at any time.

Each test of two arms gives an *e-value*: a number whose mean is at most 1 under the null hypothesis at every stopping
time. Rejecting as soon as it reaches 1/α is a false alarm with probability at most α over **all** looks together
(Ville's inequality), however often one looks and whenever one stops.

=====================  =======================================================================================
`error_evidence`       errors: does the second arm err more often than `ratio` times the first?
`mean_evidence`        means: does the second arm's mean differ from the first's by more than a margin?
`distribution_radius`  distributions: how far can an empirical distribution function lie from the true one?
=====================  =======================================================================================

Errors. Requests are drawn at random, a share r of them for the second arm. Each error is then the second arm's with
probability at most p0 = r q / (r q + 1 - r), where q is the tolerated ratio of the rates; the rates themselves may
drift, as long as they do so for both. With k of n errors on the second arm, the mixture over a Beta(a, b) distribution
that is cut to p > p0 gives ::

    e = B(a + k, b + n - k) (1 - I_p0(a + k, b + n - k)) / (B(a, b) (1 - I_p0(a, b)) p0^k (1 - p0)^(n - k))

Without the cut it would be an e-value under equality alone. Beta(1, 1 / (2 p0)) has its mass near p0.

Means. With v the variance of the difference d of two means, s1² / n1 + s2² / n2, the likelihood ratio of a difference
beyond the margin m against m itself, mixed over a half-normal distribution of scale τ above m, is ::

    e = 2 Φ(z) sqrt(v / (v + τ²)) exp(z² / 2),  z = τ (d - m) / sqrt(v (v + τ²))

It is the mixture SPRT, one-sided; the average of both sides is that of two sides. The variances are estimated, so it
holds asymptotically: below `FEWEST` values in an arm there is no evidence.

Distributions. Simultaneously for all n, with probability at least 1 - α ::

    sup |F_n - F| <= 0.85 sqrt((log log(e n) + 0.8 log(1612 / α)) / n)

Two arms, each at α / 2, differ by more than a margin when their empirical functions differ by more than the margin and
both radii. Counts in fixed bins do, for the supremum over the bins' edges is at most that over all values.

References
----------
Lindon & Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS 35: tests of rates that drift.
Johari, Koomen, Pekelis & Walsh (2022), "Always valid inference: continuous monitoring of A/B tests", Operations
Research 70(3), doi:10.1287/opre.2021.2135: the mixture SPRT.
Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6): mixtures hold asymptotically with estimated variances.
Howard & Ramdas (2022), "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28(3), doi:10.3150/21-BEJ1388: the radius, corollary 2.
Ville (1939), "Étude critique de la notion de collectif": the inequality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

FEWEST = 100
"""Values of an arm below which an estimated variance is no evidence of anything."""


@dataclass(frozen=True)
class SampleMoments:
    """Count, sum and sum of squares of an arm's values; those of parts add up.

    >>> SampleMoments(2, 3.0, 5.0).mean
    1.5
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    @property
    def variance(self) -> float:
        """The sample variance; NaN below two values."""
        if self.count < 2:
            return math.nan
        return max(0.0, (self.squares - self.total * self.mean) / (self.count - 1))


def error_evidence(errors_of_second: int, errors: int, share: float, ratio: float = 1.0) -> float:
    """Compute the e-value against "the second arm errs at most `ratio` times as often as the first".

    Parameters
    ----------
    errors_of_second, errors
        Errors of the second arm, and of both.
    share
        Probability with which a request goes to the second arm.

    Examples
    --------
    >>> error_evidence(0, 0, 0.5)
    1.0
    >>> error_evidence(20, 20, 0.5) > 10_000
    True
    """
    if errors == 0:
        return 1.0
    k, n = errors_of_second, errors
    p0 = share * ratio / (share * ratio + 1 - share)
    a, b = 1.0, max(1.0, 1 / (2 * p0))
    posterior = special.betaln(a + k, b + n - k) + _log(special.betaincc(a + k, b + n - k, p0))
    prior = special.betaln(a, b) + _log(special.betaincc(a, b, p0))
    null = k * math.log(p0) + (n - k) * math.log1p(-p0)
    return _exp(posterior - prior - null)


def mean_evidence(
    first: SampleMoments, second: SampleMoments, scale: float, margin: float = 0.0, *, two_sided: bool = True
) -> float:
    """Compute the e-value against "the second mean exceeds the first by at most `margin`", in both directions or one.

    Parameters
    ----------
    scale
        Size of a difference beyond the margin that is to be noticed soonest: τ of the mixture.
    two_sided
        False looks for a second mean that is larger, and for nothing else.

    Examples
    --------
    >>> same = SampleMoments(1000, 0.0, 1000.0)
    >>> mean_evidence(same, same, 0.2) < 1
    True
    >>> mean_evidence(same, SampleMoments(1000, 300.0, 1090.0), 0.2) > 10_000
    True
    """
    if min(first.count, second.count) < FEWEST:
        return 1.0
    variance = first.variance / first.count + second.variance / second.count
    difference = second.mean - first.mean
    if variance == 0:  # constants: beyond the margin for certain, or not at all
        beyond = abs(difference) if two_sided else difference
        return math.inf if beyond > margin else 1.0
    above = _half_normal_mixture(difference - margin, variance, scale)
    if not two_sided:
        return above
    return (above + _half_normal_mixture(-difference - margin, variance, scale)) / 2


def _half_normal_mixture(beyond: float, variance: float, scale: float) -> float:
    wide = variance + scale * scale
    z = scale * beyond / math.sqrt(variance * wide)
    return _exp(math.log(2) + float(special.log_ndtr(z)) + 0.5 * math.log(variance / wide) + z * z / 2)


def distribution_radius(count: int, alpha: float) -> float:
    """Bound the distance of an empirical distribution function from the true one, for all counts at once.

    >>> round(distribution_radius(1_000, 0.05), 3)
    0.087
    >>> distribution_radius(0, 0.05)
    1.0
    """
    if count < 1:
        return 1.0
    spread = math.log(math.log(math.e * count)) + 0.8 * math.log(1612 / alpha)
    return min(1.0, 0.85 * math.sqrt(spread / count))


def distribution_distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Measure the largest difference of two distribution functions, from counts in the same bins.

    >>> distribution_distance([5, 5], [0, 10])
    0.5
    >>> distribution_distance([0, 0], [0, 10])
    0.0
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not a.sum() or not b.sum():
        return 0.0
    return float(np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()).max())


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf

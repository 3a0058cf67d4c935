"""Confidence intervals of a rate, and the standard error of an AUC."""

from __future__ import annotations

import math

Z_95_LOWER, Z_95 = 1.645, 1.96
"""Standard errors of a one-sided and of a two-sided 95 % interval: quantiles of the normal distribution."""


def wilson_interval(successes: float, count: float, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a rate, `z` standard errors to either side; NaN without trials.

    It holds for small counts and for rates near 0 or 1, where the normal approximation does not:
    Wilson (1927), JASA 22, 209-212, doi:10.1080/01621459.1927.10502953.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if count <= 0:
        return math.nan, math.nan
    rate = successes / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def auc_standard_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an area under the ROC curve; 0 where the classes are parted perfectly.

    Hanley & McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology 143(1),
    equation 1, doi:10.1148/radiology.143.1.7063747.
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(spread / (positives * negatives))

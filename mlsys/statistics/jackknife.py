"""The delete-a-group jackknife: standard error of a statistic from its values without one group of rows after another.

Rows of a group may depend on each other in any way, groups may not. Groups are days, blocks of days, customers, or
parts of independent rows.

References
----------
Bell & McCaffrey (2002), Survey Methodology 28, 169-181; MacKinnon, Nielsen & Webb (2023), Fast and reliable jackknife
and bootstrap methods for cluster-robust inference, Journal of Applied Econometrics 38, 671-694.
Shao & Tu (1995), The Jackknife and Bootstrap, sections 2.3 and 9.2 (blocks of dependent rows).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys.statistics.arrays import Floats


def standard_error(value: float, without: Floats) -> float:
    """Standard error of a statistic from its `value` on all rows and its values `without` each group.

    ``sqrt((g - 1) / g * sum((T_without - T)^2))`` for g groups, the estimator that is called CV3. It holds for groups
    of unequal size, whether the rows of a group are alike or independent. NaN with fewer than two groups, or if a value
    is not defined.

    >>> values = np.array([1.0, 2.0, 6.0])
    >>> without = (values.sum() - values) / 2
    >>> round(standard_error(3.0, without), 4), round(float(values.std(ddof=1)) / 3**0.5, 4)
    (1.5275, 1.5275)
    """
    number = len(without)
    if number < 2 or not (math.isfinite(value) and np.isfinite(without).all()):
        return math.nan
    return math.sqrt((number - 1) / number * float(((without - value) ** 2).sum()))


def effective_number(sizes: NDArray[Any]) -> float:
    """Number of equal groups whose spread is as well known as that of these: ``(sum m^2)^2 / sum m^4``.

    The squared error of a mean is a sum of a term of order m^2 for each group, if its rows are alike. Such a sum has
    the degrees of freedom of Satterthwaite (1946), Biometrics Bulletin 2, 110-114: few, where one group is large
    (Carter, Schnepel & Steigerwald 2017, Review of Economics and Statistics 99, 698-709).

    >>> effective_number(np.array([5, 5, 5, 5])), round(effective_number(np.array([100, 5, 5, 5])), 2)
    (4.0, 1.02)
    """
    shares = np.asarray(sizes, np.float64) / max(float(np.sum(sizes)), 1.0)
    fourth = float((shares**4).sum())
    return float((shares**2).sum() ** 2 / fourth) if fourth else 0.0


def t_quantile(freedom: float, confidence: float) -> float:
    """Half-width of a two-sided t interval in standard errors; of a normal one for infinite degrees of freedom.

    The t distribution of as many degrees of freedom as there are groups, less one, holds for few groups of unequal
    spread, too, if with some caution: Ibragimov & Müller (2010), Journal of Business & Economic Statistics 28, 453-468.

    >>> round(t_quantile(19, 0.95), 3)
    2.093
    """
    tail = (1 - confidence) / 2
    return float(-special.ndtri(tail) if math.isinf(freedom) else -special.stdtrit(freedom, tail))

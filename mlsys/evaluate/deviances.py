"""Losses a row, of tasks that are named by their loss: pinball, and the deviances of Poisson, Tweedie and gamma.

Each is least, on average, where the prediction is what the loss asks for: a quantile, or the mean. The unit deviance of
a Tweedie distribution whose variance goes with the power p of its mean is, for 1 < p < 2,

    d(y, m) = 2 (y^(2-p) / ((1-p)(2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p)),

with the limits 2 (y ln(y/m) - y + m) for p = 1, Poisson, and 2 (ln(m/y) + y/m - 1) for p = 2, gamma.

References
----------
Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1), 33-50, doi:10.2307/1913643: the pinball loss.
Jørgensen (1987), "Exponential dispersion models", Journal of the Royal Statistical Society B 49(2), 127-162,
doi:10.1111/j.2517-6161.1987.tb01685.x: the deviances.
scikit-learn's user guide, section "Mean Poisson, Gamma, and Tweedie deviances", has the same formulas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from mlsys.schema import TargetLoss
from mlsys.statistics.arrays import Floats

LossOfRows = Callable[[NDArray[Any], NDArray[Any]], Floats]


def pinball(y: NDArray[Any], prediction: NDArray[Any], quantile: float) -> Floats:
    """Compute the quantile times what a prediction is too low by, or the rest of 1 times what it is too high by.

    >>> pinball(np.array([10.0, 10.0]), np.array([8.0, 12.0]), 0.9).round(3).tolist()
    [1.8, 0.2]
    """
    short = y - prediction
    return np.asarray(np.maximum(quantile * short, (quantile - 1) * short), np.float64)


def tweedie(y: NDArray[Any], prediction: NDArray[Any], power: float) -> Floats:
    """Compute the unit deviance of each row for a power from 1 to 2; NaN where it is not defined.

    It is not for predictions of 0 and less, for negative values, and for a value of 0 where the power is 2.

    >>> tweedie(np.array([0.0, 2.0]), np.array([1.0, 2.0]), 1.0).tolist()
    [2.0, 0.0]
    """
    y, mean = np.asarray(y, np.float64), np.asarray(prediction, np.float64)
    is_defined = (mean > 0) & (y >= 0 if power < 2 else y > 0)
    y, mean = np.where(is_defined, y, 1.0), np.where(is_defined, mean, 1.0)
    if power == 1:
        half = xlogy(y, y / mean) - y + mean
    elif power == 2:
        half = np.log(mean / y) + y / mean - 1
    else:
        above, below = 2 - power, 1 - power
        half = y**above / (below * above) - y * mean**below / below + mean**above / above
    return np.where(is_defined, 2 * half, np.nan)


def of_rows(loss: TargetLoss) -> LossOfRows:
    """The function of (y, prediction) whose mean a loss asks models to make small."""
    if loss.power is not None:
        return functools.partial(tweedie, power=loss.power)
    return functools.partial(pinball, quantile=loss.level)

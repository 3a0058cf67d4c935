"""Linear models of other losses than squares: quantiles, and means of counts and amounts on the scale of the logarithm.

Both add half of `l2` times the squared coefficients to the loss summed over the rows, the intercept apart, as ridge and
logistic regression do.

*Log-linear*: half of the deviance of Poisson, Tweedie or gamma, by scikit-learn's generalised linear models.
*Quantiles*: the pinball loss has corners, so least squares are solved again and again that lie above it and touch it at
the last residuals, the MM algorithm of Hunter and Lange; every step makes a smoothed loss smaller. The intercept is at
last the quantile of what the features leave. The target is divided by its mean distance from the quantile, so that a
penalty means the same in any unit.

References
----------
McCullagh & Nelder (1989), "Generalized Linear Models", 2nd ed., doi:10.1007/978-1-4899-3242-6.
Hunter & Lange (2000), "Quantile regression via an MM algorithm", Journal of Computational and Graphical Statistics
9(1), 60-77, doi:10.1080/10618600.2000.10474866.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mlsys.schema import TargetLoss

Solution = tuple[np.ndarray, np.ndarray, bool]
"""Coefficients (features, 1), intercept (1,), and whether the solver converged."""

NEWTON_FEATURES = 1_000
"""Features up to which Newton steps are solved: they take time with the square of the features."""

STEPS = 200
"""Steps of a solver at most."""

ROUNDING = 1e-4
"""Residuals, in mean distances from the quantile, below which the pinball loss is rounded off."""


def log_linear(
    standard_X: Any, y: np.ndarray, weight: np.ndarray | None, loss: TargetLoss, l2: float, steps: int
) -> Solution:
    """Fit the logarithm of the mean by the deviance of the loss."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import TweedieRegressor

    newton = isinstance(standard_X, np.ndarray) and standard_X.shape[1] <= NEWTON_FEATURES
    solver = "newton-cholesky" if newton else "lbfgs"
    total = float(len(y) if weight is None else weight.sum())
    how: dict[str, Any] = {"power": loss.power, "link": "log", "alpha": l2 / total}
    model = TweedieRegressor(**how, solver=solver, max_iter=min(STEPS, steps), tol=1e-6 if newton else 1e-5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(standard_X, y, sample_weight=weight)
    missed = any(issubclass(each.category, ConvergenceWarning) for each in caught)
    return np.ascontiguousarray(model.coef_.reshape(-1, 1)), np.array([float(model.intercept_)]), not missed


def quantile(
    standard_X: Any, y: np.ndarray, weight: np.ndarray | None, loss: TargetLoss, l2: float, steps: int
) -> Solution:
    """Fit the loss's quantile, by least squares with weights that touch the pinball loss."""
    from sklearn.linear_model import Ridge

    level = loss.level
    start, own = _quantile(y, weight, level), np.ones(len(y)) if weight is None else weight
    spread = float(np.average(np.abs(y - start), weights=own)) or 1.0
    target = (y - start) / spread
    residuals, before, converged = target, np.zeros(standard_X.shape[1]), False
    for _ in range(min(STEPS, steps)):
        distance = ROUNDING + np.abs(residuals)
        # 4 times the touching square: r² / distance + (4 level - 2) r, completed; so 4 times half of the penalty.
        solver = Ridge(alpha=2 * l2, solver="cholesky" if isinstance(standard_X, np.ndarray) else "sparse_cg")
        solver.fit(standard_X, target + (2 * level - 1) * distance, sample_weight=own / distance)
        residuals, now = target - solver.predict(standard_X), solver.coef_
        if np.allclose(now, before, rtol=1e-4, atol=1e-5):
            converged = True
            break
        before = now
    without = target - standard_X @ solver.coef_
    intercept = start + spread * _quantile(without, weight, level)
    return np.ascontiguousarray(spread * solver.coef_.reshape(-1, 1)), np.array([intercept]), converged


def _quantile(values: np.ndarray, weight: np.ndarray | None, level: float) -> float:
    """The least value that a share `level` of the values does not exceed: no constant has less pinball loss."""
    return float(np.quantile(values, level, weights=weight, method="inverted_cdf"))

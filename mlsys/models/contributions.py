"""Contributions of features to a prediction: what a model says of a row, as a base and a number for each feature.

They are Shapley values of the model's output: a feature counts by what it changes, in the mean over all orders in which
features become known, and all numbers add up to the output. Of trees, what is not known is averaged over the training
rows that went each way (`mlsys.models.tree_shap`; the boosting libraries compute the same). Of a linear score, features
that are not known stand at their mean, and a term of a text at its absence.

References
----------
Lundberg & Lee (2017), "A unified approach to interpreting model predictions", NeurIPS, arXiv:1705.07874.
Lundberg et al. (2020), "From local explanations to global understanding with explainable AI for trees", Nature Machine
Intelligence 2, doi:10.1038/s42256-019-0138-9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsys.models.calibration import SMALLEST, LabelTemperatures, Temperature
from mlsys.models.class_balance import PriorCorrection
from mlsys.models.target_transform import TargetTransform

Scale = Literal[
    "value", "log", "transformed_value", "log_odds", "score", "probability", "mean_log", "mean_log_odds", "mean_score",
    "uncalibrated_probability",
]  # fmt: skip
"""The scale of an output. ``value`` is the target's own, before it is cut to a range; ``log`` its logarithm, and
``transformed_value`` that of the fitted target. ``log_odds`` are those of a class, ``score`` is a class's before the
softmax, or that of a ranking. A ``mean_`` is one of an ensemble's members, whose probabilities, or values, are averaged
in the prediction. An ``uncalibrated_probability`` is one before it is calibrated or corrected."""

MEANS: dict[Scale, Scale] = {"log": "mean_log", "log_odds": "mean_log_odds", "score": "mean_score"}
"""Scales whose mean over models is not that of what they predict."""


@dataclass(frozen=True)
class Contributions:
    """The outputs of some rows, each as a sum.

    Attributes
    ----------
    values
        Float64, (rows, features).
    base
        Float64, (rows,): the output where no feature is known.
    """

    values: NDArray[np.float64]
    base: NDArray[np.float64]
    scale: Scale

    @property
    def output(self) -> NDArray[np.float64]:
        """The sum of each row."""
        return np.asarray(self.base + self.values.sum(axis=1), np.float64)

    def corrected(self, prior: PriorCorrection, outputs: NDArray[np.intp]) -> Contributions:
        """Those of corrected probabilities: log-odds and scores move by what the shares of the classes were changed.

        A mean of them does not move with the mean of probabilities, which is what is corrected.
        """
        logs = np.log(np.array(prior.factors))
        if self.scale == "log_odds":
            others = logs.sum() - logs[outputs]  # of two classes, the other one
            return replace(self, base=self.base - logs[outputs] + others) if logs.size == 2 else self
        if self.scale == "score":
            return replace(self, base=self.base - logs[outputs])
        return replace(self, scale="uncalibrated_probability") if self.scale == "probability" else self

    def calibrated(self, fitted: Temperature | LabelTemperatures, outputs: NDArray[np.intp]) -> Contributions:
        """Those of calibrated probabilities: log-odds and scores over the temperature."""
        if self.scale not in ("log_odds", "score"):
            return replace(self, scale="uncalibrated_probability") if self.scale == "probability" else self
        if isinstance(fitted, Temperature):
            each = np.full(len(outputs), fitted.temperature)
        else:
            each = np.array(fitted.temperatures)[outputs]
        return replace(self, values=self.values / each[:, None], base=self.base / each)

    def untransformed(self, target: TargetTransform, X: NDArray[np.float32]) -> Contributions:
        """Those of the target's own scale where it is a sum, as a difference is; else of the fitted one."""
        if target.kind in ("log", "log1p"):
            return replace(self, scale="transformed_value")
        if target.kind != "difference" or target.place is None:
            return self
        values, naive = self.values.copy(), X[:, target.place].astype(np.float64)
        values[:, target.place] += np.where(np.isfinite(naive), naive - target.centre, 0.0)
        return replace(self, values=values, base=self.base + target.centre)


def constant(base: NDArray[np.float64], width: int, scale: Scale) -> Contributions:
    """Outputs to which no feature contributes."""
    return Contributions(np.zeros((len(base), width)), np.asarray(base, np.float64), scale)


def log_odds_of(p: float) -> float:
    """The logarithm of the odds of a probability, kept off 0 and 1 by `calibration.SMALLEST`.

    >>> log_odds_of(0.5), round(log_odds_of(0.0), 1)
    (0.0, -34.5)
    """
    return math.log(max(p, SMALLEST)) - math.log(max(1 - p, SMALLEST))


def picked(raw: Any, outputs: NDArray[np.intp], scale: Scale, sign: NDArray[np.float64] | None = None) -> Contributions:
    """Those of a library, (rows, outputs, features and base) or without outputs where there is one of them."""
    table = np.asarray(raw, np.float64)
    own = table if table.ndim == 2 else table[np.arange(len(table)), outputs]
    own = own if sign is None else own * sign[:, None]
    return Contributions(np.ascontiguousarray(own[:, :-1]), own[:, -1].copy(), scale)


def mean(parts: Sequence[Contributions], weights: Sequence[float]) -> Contributions | None:
    """The weighted mean of models; None where their outputs are on different scales."""
    scale = parts[0].scale
    if any(part.scale != scale for part in parts):
        return None
    values = sum(weight * part.values for weight, part in zip(weights, parts, strict=True))
    base = sum(weight * part.base for weight, part in zip(weights, parts, strict=True))
    mixed = MEANS.get(scale, scale) if len(parts) > 1 else scale
    return Contributions(np.asarray(values), np.asarray(base), mixed)

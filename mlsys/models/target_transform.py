"""The target on another scale for fitting, and predictions back on its own: for targets with heavy or long tails.

``none`` fits the target as it is. ``log_link`` has boosters fit the logarithm of its mean, by the Poisson
likelihood, which finds the mean of any values that are never negative, counts or not (Gourieroux et al.); other
families fit the target as it is, and no prediction is negative. ``winsor`` moves values beyond the fences of the
training rows (`mlsys.statistics.tails.fences`) to them. ``log`` takes the inverse hyperbolic sine of
(y - centre) / scale: a logarithm for large values, a straight line near the centre, defined for both signs and for
zero; and sign(y) ln(1 + |y|) where that is what the metric compares.

Back on its own scale, a prediction of the mean of the logarithms is nearer to the median than to the mean. Where the
metric asks for means (squared errors), it is smeared over the residuals e of rows that were held out: the mean of
sinh(z + e) is sinh(z) · mean cosh(e) + cosh(z) · mean sinh(e). Without that, medians are kept, which absolute errors
ask for. A prediction never leaves the range of the values that were fitted on.

Of a forecast, ``difference`` fits what the target is beyond its naive forecast, which is a feature and is added again:
trees then follow a level that training has not seen (differencing; Hyndman & Athanasopoulos 2021, "Forecasting:
principles and practice", 3rd edition, section 9.1).

References
----------
Duan (1983), "Smearing estimate: a nonparametric retransformation method", JASA 78(383),
doi:10.1080/01621459.1983.10478017.
Gourieroux, Monfort & Trognon (1984), "Pseudo maximum likelihood methods: theory", Econometrica 52(3),
doi:10.2307/1913471; Santos Silva & Tenreyro (2006), "The log of gravity", doi:10.1162/rest.88.4.641.
Burbidge, Magee & Robb (1988), "Alternative transformations to handle extreme values of the dependent variable",
JASA 83(401), doi:10.1080/01621459.1988.10478575: the inverse hyperbolic sine.
Tukey (1962), "The future of data analysis", Annals of Mathematical Statistics 33(1), section 14: winsorising.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer

from mlsys.models.matrix import Matrix
from mlsys.models.model_files import ModelFacts, read_facts, write_facts
from mlsys.statistics import tails

Transform = Literal["none", "log", "winsor", "log_link", "difference"]

FILE = "target.json"
"""File of a transform beside those of the family; there is none where the target is fitted as it is."""

SMALL = 0.1
"""Quantile of the distances from the centre, zero apart, that is the scale: nearly all values are in the logarithm."""

OTHER_SIGN = 0.01
"""Values of one sign but for this fraction are centred at zero, others at their median."""


class TargetTransform(ModelFacts):
    """A fitted transform of the target.

    Attributes
    ----------
    low, high
        Least and largest prediction: the range of the values that were fitted on.
    even, odd
        Means of cosh and sinh of the residuals; 1 and 0 keep medians.
    place
        Of a difference, the feature that is subtracted; `centre` is where that is missing.
    """

    kind: Literal["log", "log1p", "winsor", "log_link", "difference"]
    low: float
    high: float
    centre: float = 0.0
    scale: float = 1.0
    even: float = 1.0
    odd: float = 0.0
    place: int | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said: the files of other transforms stay as they were."""
        return {key: value for key, value in handler(self).items() if value is not None}

    def forward(self, y: np.ndarray) -> np.ndarray:
        """The target as it is fitted, but for a difference, which is one of rows: see `matrix`."""
        if self.kind == "log_link":
            return np.asarray(np.maximum(y, 0.0))
        if self.kind == "winsor":
            return np.asarray(np.clip(y, self.low, self.high))
        if self.kind == "log1p":
            return tails.signed_log(y)
        return np.asarray(np.arcsinh((y - self.centre) / self.scale))

    def inverse(self, z: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        """Predictions on the target's own scale; the same bits for a row alone and among others.

        `X` are the features that were predicted from, which a difference is added to.
        """
        if self.kind == "difference":
            return np.asarray(z + self._subtracted(np.empty((len(z), 0)) if X is None else X))
        if self.kind == "log_link":
            return np.asarray(np.maximum(z, 0.0))
        if self.kind == "winsor":
            return np.asarray(np.clip(z, self.low, self.high))
        ends = self.forward(np.array([self.low, self.high]))
        z = np.clip(z, ends[0], ends[1])
        if self.kind == "log1p":
            return np.asarray(np.clip(tails.signed_exp(z), self.low, self.high))
        up = np.exp(z)
        down = 1.0 / up
        value = (up - down) / 2 * self.even + (up + down) / 2 * self.odd
        return np.asarray(np.clip(value * self.scale + self.centre, self.low, self.high))

    def to_json(self) -> dict[str, Any]:
        """JSON values, for the key of its checkpoints."""
        return self.model_dump(mode="json")

    def matrix(self, rows: Matrix) -> Matrix:
        """Rows with the target as it is fitted."""
        if self.kind == "difference":
            return replace(rows, y=rows.y - self._subtracted(rows.X))
        return replace(rows, y=self.forward(rows.y))

    def _subtracted(self, X: np.ndarray) -> np.ndarray:
        """The feature that the target is taken as a difference to."""
        feature = X[:, self.place].astype(np.float64)
        return np.where(np.isfinite(feature), feature, self.centre)

    def smeared(self, y: np.ndarray, z: np.ndarray) -> TargetTransform:
        """The transform whose predictions are means, from the targets and predictions of rows that were held out."""
        if self.kind != "log" or not len(y):
            return self
        residuals = self.forward(y) - z
        with np.errstate(over="ignore"):
            even, odd = float(np.cosh(residuals).mean()), float(np.sinh(residuals).mean())
        return self.model_copy(update={"even": even, "odd": odd}) if np.isfinite([even, odd]).all() else self


def fit(kind: Transform, y: np.ndarray, functional: str, place: int | None = None) -> TargetTransform | None:
    """Fit a transform to the targets to fit on; None for ``none``, and for targets that do not vary.

    `functional` is what the metric asks a model to predict (`metrics.Metric.functional`), `place` that of the feature
    to which differences are taken; without one there are none.
    """
    if kind == "none" or not len(y) or y.min() == y.max() or (kind == "difference" and place is None):
        return None
    low, high = float(y.min()), float(y.max())
    if kind == "log_link":
        return TargetTransform(kind=kind, low=low, high=high)
    if kind == "difference":
        return TargetTransform(kind=kind, low=low, high=high, centre=float(np.median(y)), place=place)
    if kind == "winsor":
        inner, outer = tails.fences(y)
        return TargetTransform(kind=kind, low=max(low, inner), high=min(high, outer))
    if functional == "mean of logarithms":
        return TargetTransform(kind="log1p", low=low, high=high)
    positive, negative = np.quantile(y, [OTHER_SIGN, 1 - OTHER_SIGN])
    centre = 0.0 if positive >= 0 or negative <= 0 else float(np.median(y))
    distances = np.abs(y - centre)
    scale = float(np.quantile(distances[distances > 0], SMALL))
    return TargetTransform(kind=kind, low=low, high=high, centre=centre, scale=max(scale, np.finfo(float).tiny))


@dataclass(frozen=True)
class Transformed:
    """A fitted model of a family whose target was transformed."""

    model: Any
    target: TargetTransform

    def smeared(self, y: np.ndarray, z: np.ndarray) -> Transformed:
        return replace(self, target=self.target.smeared(y, z))


def write(target: TargetTransform, folder: Path) -> None:
    """Write the transform beside the files of its model."""
    write_facts(folder / FILE, target)


def read(folder: Path) -> TargetTransform | None:
    """The transform that lies beside the files of a model, if there is one."""
    return read_facts(folder / FILE, TargetTransform) if (folder / FILE).is_file() else None

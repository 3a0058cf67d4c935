"""Error of numbers estimated without labels, from the loss model that the evaluation fitted on the test rows.

The model is additive over columns (`mlsys.evaluate.loss_model`), so the mean over a window needs its counts by bin of
each column alone. The interval holds the spread of losses around the model, which is taken to grow with the expected
loss, and the error of the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys.deploy.prediction_log import logged_name
from mlsys.evaluate import loss_model
from mlsys.evaluate.loss_model import mean_loss
from mlsys.monitor.performance import PerformanceEstimate
from mlsys.monitor.reference import SCORE, ReferenceBins
from mlsys.monitor.relevance import by_bins
from mlsys.monitor.windows import Window, rows_beside
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats

MIN_LOSS = 0.01
"""Least mean loss that is believed, as a share of that of the test rows: an additive model may fall below 0."""


@dataclass(frozen=True)
class LossEstimator:
    """Estimates of a regression from counts of its columns.

    Attributes
    ----------
    columns
        Column of the log → basis functions in each of its bins, shape (bins, functions), in the order of the model.
    metrics
        Name → what `loss_model.facts` noted of it.
    """

    columns: Mapping[str, Floats]
    metrics: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, facts: Mapping[str, Any], bins: Mapping[str, ReferenceBins]) -> LossEstimator | None:
        """Read what `loss_model.facts` noted; None where a column is no longer counted."""
        names = {name: SCORE if name == loss_model.SCORE else logged_name(name) for name in facts["columns"]}
        if any(name not in bins for name in names.values()):
            return None
        columns = {
            names[name]: by_bins(bins[names[name]], list(values), np.eye(len(values)))
            for name, values in facts["columns"].items()
        }
        return cls(columns, facts["metrics"])

    def estimates(self, window: Window, names: Sequence[str], confidence: float) -> dict[str, PerformanceEstimate]:
        """Those of the named metrics that are means of losses."""
        known = [name for name in names if name in self.metrics and mean_loss(name) is not None]
        if not window.num_rows or any(name not in window.counts for name in self.columns):
            return {}
        mean = self._mean_basis(window)
        return {name: self._estimate(window, name, mean, confidence) for name in known}

    def rate(self, window: Window, confidence: float) -> PerformanceEstimate | None:  # noqa: ARG002
        """A number has no classes."""
        return None

    def doubts(self, window: Window) -> list[str]:  # noqa: ARG002
        """Scores beyond those of training are told as drift."""
        return []

    def _mean_basis(self, window: Window) -> Floats:
        """Means of the basis functions over the rows of a window, the intercept's first."""
        totals = {name: window.total(name) for name in self.columns}
        shares = [totals[name] / max(totals[name].sum(), 1) @ basis for name, basis in self.columns.items()]
        return np.concatenate([[1.0], *shares])

    def _estimate(self, window: Window, name: str, mean: Floats, confidence: float) -> PerformanceEstimate:
        own, metric = self.metrics[name], mean_loss(name)
        if metric is None:
            return PerformanceEstimate(math.nan)
        usual = float(own["mean"])
        least = MIN_LOSS * usual
        loss = max(float(mean @ np.array(own["coefficients"])), least)
        replicates = np.maximum(np.array(own["replicates"]) @ mean, least)
        of_model = jackknife.standard_error(loss, replicates)
        effect = 1 + max(rows_beside(window) - 1, 0.0) * float(own["intraclass"])
        spread = float(own["noise"]) * loss / usual if usual else 0.0
        of_rows = spread * math.sqrt(effect / window.num_rows)
        variance = of_model**2 + of_rows**2
        # Welch (1947): the spread of the rows is known, the error of the model has few degrees of freedom
        groups = len(replicates) - 1
        freedom = groups * (variance / of_model**2) ** 2 if of_model > 0 else math.inf
        margin = jackknife.t_quantile(freedom, confidence) * math.sqrt(variance)
        ends = (max(loss - margin, 0.0), loss + margin)
        low, high = (metric.after(end) for end in ends)
        return PerformanceEstimate(metric.after(loss), low, high, metric.slope(loss) * math.sqrt(variance))

"""The distance by which drift of a column moves the predictions, from the model's response to the column.

``W = integral |F_p(g) - F_q(g)| dg``, the Wasserstein distance between the model's mean predictions g under the
distribution p of the reference and q of the window (Vallender 1974, Theory Probab. Appl. 18:784), in standard
deviations of the predictions. g is the partial dependence on the column (`mlsys.evaluate.response`). It is 0 for a
column to which the model is indifferent, never less than the change of the mean prediction, and sees a change of
their spread as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys.deploy.prediction_log import logged_name
from mlsys.evaluate.response import OTHER
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.windows import Counts
from mlsys.statistics.arrays import Floats


@dataclass(frozen=True)
class ModelResponse:
    """The response of a model to its columns, by their names in the log.

    Attributes
    ----------
    spread
        Standard deviation of each output of the model.
    columns
        Column → its values and the mean outputs at each, of shape (values, outputs); no values for a column that the
        model does not read.
    """

    spread: Floats = field(default_factory=lambda: np.empty(0))
    columns: Mapping[str, tuple[list[Any], Floats]] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluation: Mapping[str, Any] | None) -> ModelResponse:
        """Read that of an evaluation; an older one has none, and then nothing is known."""
        value = (evaluation or {}).get("response") or {}
        spread = np.array(value.get("spread", []), np.float64)
        columns = {
            logged_name(name): (list(entry["values"]), np.array(entry["output"], np.float64))
            for name, entry in value.get("columns", {}).items()
        }
        return cls(spread, columns)

    def moved(self, bins: ReferenceBins, counts: Counts) -> float | None:
        """Distance that the predictions move with a column whose rows fall into bins as `counts`; None if not known."""
        if bins.name not in self.columns or not bins.num_rows or not counts.sum():
            return None
        values, output = self.columns[bins.name]
        if not values:
            return 0.0
        p, q = bins.reference / bins.num_rows, counts / counts.sum()
        by_bin = by_bins(bins, values, output)
        distances = [_distance(p, q, by_bin[:, k]) for k in range(by_bin.shape[1])]
        relative = np.divide(distances, self.spread, out=np.zeros(len(distances)), where=self.spread > 0)
        return float(relative.max(initial=0.0))


def by_bins(bins: ReferenceBins, values: list[Any], output: Floats) -> Floats:
    """Carry outputs at the values of a column, the last of which is null, to its bins: shape (bins, outputs)."""
    return _by_number(bins, values, output) if bins.ordered else _by_category(bins, values, output)


def _by_number(bins: ReferenceBins, values: list[Any], output: Floats) -> Floats:
    """Response in each bin of a number, at its middle; in those outside of the range at its ends; null comes last."""
    ends = bins.edges if len(bins.edges) else np.zeros(1)
    at = np.concatenate([ends[:1], (ends[:-1] + ends[1:]) / 2, ends[-1:]])
    if len(values) == 1:
        return np.repeat(output, bins.size, axis=0)
    numbers = np.array(values[:-1], np.float64)
    curves = [np.interp(at, numbers, output[:-1, k]) for k in range(output.shape[1])]
    return np.vstack([np.column_stack(curves), output[-1:]])


def _by_category(bins: ReferenceBins, values: list[Any], output: Floats) -> Floats:
    """Response in each bin of categories; one without a response of its own has that of an unknown value."""
    known = {str(value): row for value, row in zip(values[:-1], output[:-1], strict=True)}
    other = known.get(OTHER, output[:-1].mean(axis=0) if len(values) > 1 else output[-1])
    names = [] if bins.categories is None else bins.categories.to_pylist()
    return np.array([*(known.get(str(name), other) for name in names), other, output[-1]])


def _distance(p: Floats, q: Floats, response: Floats) -> float:
    """Wasserstein distance of the responses under two distributions over the same bins."""
    order = np.argsort(response, kind="stable")
    gaps = np.diff(response[order])
    return float((np.abs(np.cumsum((q - p)[order])[:-1]) * gaps).sum())

"""The predictions of a model, and the decision that makes them of what its family puts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import label_sets as labels
from mlsys.schema import Task, TaskKind

HALF = 0.5
"""Decision threshold of a binary model whose bundle states none."""


@dataclass(slots=True)  # not frozen, which takes three times as long to make; nothing changes it
class Predictions:
    """Predictions of a model for n rows.

    Attributes
    ----------
    prediction
        n class values, n sets of labels as texts (`mlsys.label_sets`), or n float64 values of the target.
    probabilities
        float64 of shape (n, classes) in the order of `Task.classes`, or (n, labels); None for regression.
    score
        n float64: the positive class's probability, the highest probability, of labels the mean one, or the value.
    unseen
        Values that training never saw, counted by column; only columns that had any.
    rare
        Values that training saw too seldom to keep apart, likewise.
    decisions
        For several labels, (n, labels): whether the row is said to have the label; else None.
    unseen_by_row, rare_by_row
        The same values counted by row; None where rows were counted together.
    """

    task: Task
    prediction: NDArray[Any]
    probabilities: NDArray[np.float64] | None
    score: NDArray[np.float64]
    unseen: dict[str, int] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
    decisions: NDArray[np.bool_] | None = None
    unseen_by_row: list[int] | None = None
    rare_by_row: list[int] | None = None

    def __len__(self) -> int:
        return len(self.prediction)

    def arrow(self, model_version: str | None = None) -> pa.Table:
        """Columns ``prediction``, ``probability_<class>`` …, and ``model_version`` if one is given.

        Of several labels they are ``probability_<label>`` and ``prediction_<label>``, true or false.
        """
        kinds = {"b": pa.bool_(), "i": pa.int64(), "f": pa.float64(), "U": pa.string(), "O": pa.string()}
        kind = kinds[self.prediction.dtype.kind]
        is_text = pa.types.is_string(kind)
        columns: dict[str, Any] = {
            "prediction": pa.array(self.prediction.tolist() if is_text else self.prediction, kind)
        }
        if self.probabilities is not None:
            named = zip(self.task.output_names, self.probabilities.T, strict=True)
            columns |= {probability_of(name): probability for name, probability in named}
        if self.decisions is not None:
            of_labels = zip(self.task.labels, self.decisions.T, strict=True)
            columns |= {f"prediction_{name}": pa.array(called) for name, called in of_labels}
        if model_version is not None:
            columns["model_version"] = pa.repeat(model_version, len(self))
        return pa.table(columns)


def probability_of(name: str) -> str:
    """Name the column that holds the probability of a class or a label."""
    return f"probability_{name}"


class DecisionRule:
    """The rule that turns a family's output into predictions.

    Ties between classes go to the first; a binary score, or one of a label, equal to the threshold is positive.

    Parameters
    ----------
    threshold
        Positive-class probability from which a binary model says yes; of several labels, that of each; by default
        `HALF`.
    """

    def __init__(self, task: Task, threshold: float | Sequence[float] | None = None) -> None:
        self.task = task
        self._threshold = np.asarray(HALF if threshold is None else threshold, np.float64)
        self._least = self._threshold.tolist()
        self._classes = np.array(task.classes)
        self._is_classification = task.is_classification
        self._is_binary = task.kind is TaskKind.BINARY

    def __call__(self, raw: NDArray[np.float64], **counts: Any) -> Predictions:
        """Decide on values of shape (n,), or probabilities (n, classes) or (n, labels); `counts` are kept beside."""
        if not self._is_classification:
            return Predictions(self.task, raw, None, raw, **counts)
        if self.task.labels:
            called = raw >= self._threshold
            sets = np.array(labels.texts(labels.number(called), self.task.labels).to_pylist(), object)
            return Predictions(self.task, sets, raw, raw.mean(axis=1), decisions=called, **counts)
        if self._is_binary:
            score = raw[:, 1]
            if len(score) == 1:
                only = slice(1, 2) if score.item() >= self._least else slice(0, 1)
                return Predictions(self.task, self._classes[only], raw, score, **counts)
            chosen = (score >= self._threshold).astype(np.intp)
        else:
            chosen = raw.argmax(axis=1)
            score = raw[np.arange(len(raw)), chosen]
        return Predictions(self.task, self._classes[chosen], raw, score, **counts)


def decide(task: Task, raw: NDArray[np.float64], threshold: float | Sequence[float] | None) -> Predictions:
    """Turn a family's output into predictions, by the rule of `DecisionRule`."""
    return DecisionRule(task, threshold)(raw)

"""What the validation rows say of a fitted model: threshold, score, what predictions look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import models
from mlsys.evaluate import metrics, threshold
from mlsys.models.matrix import Matrix
from mlsys.predict import HALF, class_names, decide
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from mlsys.train.job import Job

__all__ = ["LABEL", "Validated", "validate"]

LABEL = "label"
"""Name of the target among the statistics of predictions."""


@dataclass(frozen=True)
class Validated:
    """What the validation rows say of a fitted model.

    Attributes
    ----------
    threshold
        Decision threshold of a binary model, by the recipe's rule; None otherwise.
    metric, score
        The recipe's metric and its value; the value is None without validation rows.
    predictions
        Statistics of ``prediction``, ``score`` and ``label``; None without validation rows.
    """

    threshold: float | None
    metric: str
    score: float | None
    predictions: TableStatistics | None


def validate(job: Job, model: Any, validation: Matrix | None = None) -> Validated:
    """Predict the validation rows, which are read here unless they are given."""
    matrix = job.read("validation") if validation is None else validation
    output = models.family(job.family).predict(model, matrix.X)
    cut = _threshold(job, matrix.y, output)
    metric = metrics.find(job.recipe.selection.metric, job.task.kind).name
    if not matrix.num_rows:
        return Validated(cut, metric, None, None)
    score = metrics.measure(metric, matrix.y, output, HALF if cut is None else cut)
    return Validated(cut, metric, float(score), _statistics(job.task, matrix.y, output, cut))


def _threshold(job: Job, y: NDArray[np.float64], output: NDArray[np.float64]) -> float | None:
    if job.task.kind is not TaskKind.BINARY:
        return None
    return threshold.choose(y, output[:, 1], job.recipe.evaluate.threshold, job.recipe.evaluate.cost)


def _statistics(task: Task, y: NDArray[np.float64], output: NDArray[np.float64], cut: float | None) -> TableStatistics:
    """Statistics of what the model says, decided as `Predictor` decides, and of the labels."""
    said = decide(task, output, cut)
    if task.is_classification:
        names = dict(zip(task.classes, class_names(task), strict=True))
        prediction = pa.array([names[value] for value in said.prediction.tolist()])
        label = pa.array([names[task.classes[int(index)]] for index in y])
        named = Task(kind=task.kind, target=LABEL, classes=tuple(names.values()))
        kind = Kind.CATEGORICAL
    else:
        prediction, label = pa.array(said.prediction), pa.array(y)
        named = Task(kind=task.kind, target=LABEL)
        kind = Kind.NUMERIC
    schema = Schema(
        columns=(
            Column(name="prediction", type=str(prediction.type), kind=kind),
            Column(name="score", type="double", kind=Kind.NUMERIC),
            Column(name=LABEL, type=str(label.type), kind=kind, role=Role.TARGET),
        )
    )
    statistics = TableStatistics.empty(schema, named)
    statistics.update(pa.table({"prediction": prediction, "score": said.score, LABEL: label}))
    return statistics

"""Rows that were not fitted on: predictions of them, and the score, threshold and calibration that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import label_sets as labels
from mlsys import models
from mlsys.dataset import Split
from mlsys.evaluate import metrics, thresholds, utility
from mlsys.models import calibration
from mlsys.models.calibration import LabelTemperatures, Temperature
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import read_arrays, write_arrays
from mlsys.predict import HALF, decide, probability_of
from mlsys.schema import ROW, Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from mlsys.train.training_job import TrainingJob

LABEL = "label"
"""Name of the target among the statistics of predictions."""


@dataclass(frozen=True)
class JudgedRows:
    """Rows that the search judged its choice on: their targets, and predictions by fits that had not seen them.

    `weight` is how much each counts, where they do not count alike, and `groups` those that a ranking orders. `numbers`
    are theirs in the split, where their other columns are found; without them they are all validation rows in order.
    """

    y: NDArray[np.float64]
    output: NDArray[np.float64]
    weight: NDArray[np.float64] | None = None
    groups: NDArray[np.uint64] | None = None
    numbers: NDArray[np.int64] | None = None

    def write(self, folder: Path) -> None:
        """Write the rows into a folder; the same rows give the same bytes."""
        beside = {"weight": self.weight, "groups": self.groups, "numbers": self.numbers}
        known = {name: values for name, values in beside.items() if values is not None}
        write_arrays(folder / "judged.npz", {"y": self.y, "output": self.output, **known})

    @classmethod
    def read(cls, folder: Path, task: Task) -> JudgedRows:
        """Read what `write` wrote."""
        kinds = {"y": ("<f8", 1), "output": ("<f8", 2 if task.is_classification else 1)}
        kinds |= {} if task.weight is None else {"weight": ("<f8", 1)}
        kinds |= {} if task.group is None else {"groups": ("<u8", 1)}
        return cls(**read_arrays(folder / "judged.npz", {**kinds, "numbers": ("<i8", 1)}))

    def columns(self, split: Split, names: Sequence[str]) -> pa.Table:
        """Read columns of these rows from the split that they are of, in the order of the rows."""
        if self.numbers is None:
            return split.table("validation", names)
        numbers, own = pa.array(self.numbers), list(dict.fromkeys([*names, ROW]))
        parts = [split.table(part, own) for part in ("train", "validation") if split.num_rows.get(part)]
        table = pa.concat_tables([part.filter(pc.is_in(part[ROW], numbers)) for part in parts])
        return table.take(pc.index_in(numbers, table[ROW].combine_chunks())).select(list(names))


@dataclass(frozen=True)
class ValidationResult:
    """Score, decision threshold and predictions of a fitted model on the validation rows.

    The threshold is that of a binary model, of several labels one for each, None otherwise; `score` is the value of the
    recipe's `metric`. Without validation rows, `score` and `predictions` (statistics of prediction, score and label)
    are None. All are of calibrated probabilities, where there is a `temperature`.
    """

    threshold: float | tuple[float, ...] | None
    metric: str
    score: float | None
    predictions: TableStatistics | None
    temperature: Temperature | LabelTemperatures | None = None


def predicted(job: TrainingJob, model: Any, rows: Matrix) -> JudgedRows:
    """Predict rows, and keep what they are judged by."""
    return JudgedRows(rows.y, rows.of_rows(models.predict(job.family, model, rows.X)), rows.weight, rows.groups)


def validate(job: TrainingJob, model: Any, matrix: Matrix) -> ValidationResult:
    """Judge a model on the validation rows."""
    return judge(job, predicted(job, model, matrix))


def judge(job: TrainingJob, rows: JudgedRows) -> ValidationResult:
    """Judge predictions of rows that were not fitted on."""
    y, output = rows.y, rows.output
    temperature: Temperature | LabelTemperatures | None = None
    if job.task.is_classification and job.recipe.train.calibration == "auto" and rows.weight is None:
        temperature = calibration.fit_labels(y, output) if job.task.labels else calibration.fit(y, output)
        output = output if temperature is None else temperature.apply(output)
    cut = _threshold(job, rows, output)
    metric = metrics.find(job.recipe.selection.metric, job.task.kind, metrics.usual(job.task)).name
    if not len(y):
        return ValidationResult(cut, metric, None, None)
    score = metrics.measure(metric, y, output, HALF if cut is None else cut, rows.weight, rows.groups)
    return ValidationResult(cut, metric, float(score), _statistics(job.task, y, output, cut), temperature)


def _threshold(job: TrainingJob, rows: JudgedRows, output: NDArray[np.float64]) -> float | tuple[float, ...] | None:
    """The threshold of a binary model by the rule of the recipe, of several labels one for each; None otherwise."""
    section, task = job.recipe.evaluate, job.task
    columns = utility.check_rule(section, job.split.schema, task)
    if section.threshold == "utility" and section.utility is not None:
        beside = rows.columns(job.split, columns)
        return utility.best_threshold(section.utility, beside, task, rows.y, output[:, 1], rows.weight)
    how: dict[str, Any] = {"rule": section.threshold, "cost": section.cost, "weight": rows.weight}
    if task.labels:
        has = labels.table(rows.y, len(task.labels))
        return tuple(thresholds.choose(has[:, k], p, **how) for k, p in enumerate(output.T))
    return thresholds.choose(rows.y, output[:, 1], **how) if task.kind is TaskKind.BINARY else None


def _statistics(
    task: Task, y: NDArray[np.float64], output: NDArray[np.float64], cut: float | tuple[float, ...] | None
) -> TableStatistics:
    """Statistics of the predictions, decided as `Predictor` decides, and of the labels."""
    predicted = decide(task, output, cut)
    names, kind = task.class_names, Kind.CATEGORICAL if task.is_classification else Kind.NUMERIC
    beside = {probability_of(name): p for name, p in zip(task.labels, output.T, strict=True)} if task.labels else {}
    if task.labels:
        prediction, label = pa.array(predicted.prediction.tolist(), pa.string()), labels.texts(y, task.labels)
    elif task.is_classification:
        name_of = dict(zip(task.classes, names, strict=True))
        prediction = pa.array([name_of[value] for value in predicted.prediction.tolist()])
        label = pa.array([names[int(index)] for index in y])
    else:
        prediction, label = pa.array(predicted.prediction), pa.array(y)
    schema = Schema(
        columns=(
            Column(name="prediction", type=str(prediction.type), kind=kind),
            Column(name="score", type="double", kind=Kind.NUMERIC),
            *(Column(name=name, type="double", kind=Kind.NUMERIC) for name in beside),
            Column(name=LABEL, type=str(label.type), kind=kind, role=Role.TARGET),
        )
    )
    described = Task(kind=task.kind, target=LABEL, classes=tuple(names), labels=task.labels)
    statistics = TableStatistics.empty(schema, described)
    statistics.update(pa.table({"prediction": prediction, "score": predicted.score, **beside, LABEL: label}))
    return statistics

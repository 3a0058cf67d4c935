"""The standards by which a model is judged: the metric, and the dummy that is the best constant by it."""

from __future__ import annotations

import numpy as np

from mlsys import models
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import held_out, metrics
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics.arrays import Floats


def metric_of(bundle: Bundle, recipe: Recipe) -> metrics.Metric:
    """The metric that a model is judged by: the recipe's, or the one by which its training chose."""
    chosen = bundle.provenance.get("validation", {}).get("metric")
    return metrics.find(recipe.selection.metric, bundle.task.kind, chosen or metrics.usual(bundle.task))


def dummy_scores(split: Split, task: Task, num_rows: int, metric: metrics.Metric) -> Floats:
    """Fit the dummy, the best constant by a metric, on the labels of the training rows and predict `num_rows` rows."""
    y = held_out.labels(split.table("train", [task.target])[task.target], task, "train")
    family = models.family(models.BASELINE)
    rows = Matrix(np.empty((len(y), 0), np.float32), y, (), ())
    asked = task.model_copy(update={"loss": metric.loss})
    fitted = family.fit(rows, None, asked, family.params(loss=metrics.LOSSES[metric.functional]), seed=0, threads=1)
    return np.asarray(family.predict(fitted, np.empty((num_rows, 0), np.float32)), np.float64)


def dummy_score(split: Split, task: Task, metric: metrics.Metric, part: str) -> float:
    """The metric of the dummy on the rows of a part; NaN where it is not defined."""
    y = held_out.labels(split.table(part, [task.target])[task.target], task, part)
    return metrics.measure(metric.name, y, dummy_scores(split, task, len(y), metric))

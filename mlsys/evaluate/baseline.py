"""The standards by which a model is judged: the metric, and the dummy that is the best constant by it.

A forecast has the seasonal-naive forecast in place of the constant, where there is a past.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mlsys import models
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import held_out, metrics
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics.arrays import Floats, numbers_of
from mlsys.statistics.hashing import hash_exactly


def metric_of(bundle: Bundle, recipe: Recipe) -> metrics.Metric:
    """The metric that a model is judged by: the recipe's, or the one by which its training chose."""
    chosen = bundle.provenance.get("validation", {}).get("metric")
    return metrics.find(recipe.selection.metric, bundle.task.kind, chosen or metrics.usual(bundle.task))


def dummy_scores(
    split: Split,
    task: Task,
    num_rows: int,
    metric: metrics.Metric,
    exposure: Floats | None = None,
    naive: Floats | None = None,
) -> Floats:
    """Fit the dummy, the best constant by a metric, on the labels of the training rows and predict `num_rows` rows.

    The constant is one a unit of `exposure`, where the rows have that; `naive` forecasts go before it, NaN where there
    is none.
    """
    rows = _labels(split, task, "train").as_counted(None if task.loss is None else task.loss.power)
    asked, params = task.model_copy(update={"loss": metric.loss}), {"loss": metrics.LOSSES[metric.functional]}
    family = models.learner(models.BASELINE, asked)
    fitted = family.fit(rows, None, asked, models.params_of(models.BASELINE, params), seed=0, threads=1)
    output = np.asarray(family.predict(fitted, np.empty((num_rows, 0), np.float32)), np.float64)
    if naive is not None:
        return np.where(np.isfinite(naive), naive, output)
    return output if exposure is None else output * exposure


def named(task: Task) -> str:
    """Name the predictions that a model of the task has to beat."""
    return "dummy" if task.forecast is None else "seasonal-naive forecast"


def naive_forecasts(table: pa.Table, task: Task) -> Floats | None:
    """The seasonal-naive forecast of each row, NaN where nothing is known of it; None for a task without forecasts."""
    if task.forecast is None:
        return None
    naive = np.full(table.num_rows, np.nan)
    for name in task.forecast.known:
        naive = np.where(np.isnan(naive), numbers_of(table[name]), naive)
    return naive


def dummy_score(split: Split, task: Task, metric: metrics.Metric, part: str) -> float:
    """The metric of the dummy on the rows of a part; NaN where it is not defined."""
    rows = _labels(split, task, part)
    known = None if task.forecast is None else split.table(part, task.forecast.known)
    naive = None if known is None else naive_forecasts(known, task)
    output = dummy_scores(split, task, rows.num_rows, metric, rows.exposure, naive)
    return metrics.measure(metric.name, rows.y, output, weight=rows.weight, groups=rows.groups)


def _labels(split: Split, task: Task, part: str) -> Matrix:
    """The labels of a part, with weights, exposure and groups, without features."""
    table = split.table(part, [task.target, *task.beside])
    y = held_out.labels(table[task.target], task, part)
    weight, exposure = (None if name is None else numbers_of(table[name]) for name in (task.weight, task.exposure))
    groups = None if task.group is None else hash_exactly(table[task.group])
    return Matrix(np.empty((len(y), 0), np.float32), y, (), (), weight, exposure, groups=groups)

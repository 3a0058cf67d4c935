"""The business metric of a recipe: what a prediction is worth in each row, as SQL over the row and its prediction.

``evaluate.utility: "CASE WHEN prediction AND late THEN 40 WHEN prediction THEN -5 ELSE 0 END"`` is in the unit of the
user: euros, minutes, lives. Its mean over the test rows is the metric ``utility``, greater is better, with an interval
like every other; a gate may bound it, and the report has it at each threshold: that of least expected loss (Elkan 2001,
The foundations of cost-sensitive learning, IJCAI, 973-978) where costs depend on the row. With ``threshold: utility``
the model decides by the threshold that is best on the rows that thresholds are chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors, expressions
from mlsys.evaluate import thresholds
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.metrics import UTILITY, Metric
from mlsys.recipe.evaluate_section import EvaluateSection
from mlsys.schema import Schema, Task, TaskKind
from mlsys.statistics.arrays import Floats, numbers_of

NAME = UTILITY
WHERE = "recipe: evaluate.utility"
PREDICTION, PROBABILITY = "prediction", "probability"

NUM_THRESHOLDS = 101
"""Thresholds at which the mean utility is computed, from 0 to 1."""


def check(sql: str | None, schema: Schema, task: Task) -> list[str]:
    """Columns of the rows that the expression reads; what cannot be computed is refused before any row is opened.

    Raises
    ------
    RecipeError
        A column is not there, it is no number, or the task has no single prediction a row.
    """
    if sql is None:
        return []
    if task.labels or task.is_ranking:
        got = f"a {task.kind.value} task"
        raise errors.RecipeError.build(WHERE, got=got, expected="a task with one class or number to predict a row")
    beside = [PREDICTION, *([PROBABILITY] if task.kind is TaskKind.BINARY else [])]
    read = expressions.compile(NAME, sql, [*schema.names, *beside], WHERE).inputs
    fields = [field for field in schema.arrow() if field.name not in (PREDICTION, PROBABILITY)]
    fields += [pa.field(PREDICTION, _type_of(task)), pa.field(PROBABILITY, pa.float64())]
    kind = expressions.types(pa.schema(fields), {NAME: sql}, WHERE)[NAME]
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        hint = "a condition counts by CASE WHEN … THEN 1 ELSE 0 END"
        raise errors.RecipeError.build(WHERE, got=f"{sql}, of type {kind}", expected="a number", hint=hint)
    return [name for name in read if name not in beside]


def check_rule(section: EvaluateSection, schema: Schema, task: Task) -> list[str]:
    """Columns of the rows by which the threshold is chosen, none unless that is by utility.

    Raises
    ------
    RecipeError
        It is, and the task has no one threshold, or the utility cannot be computed.
    """
    if section.threshold != NAME:
        return []
    if task.kind is not TaskKind.BINARY:
        got, hint = f"utility for a {task.kind.value} task", "leave it out"
        expected = "a task of two classes, whose one threshold divides the rows"
        raise errors.RecipeError.build("recipe: evaluate.threshold", got=got, expected=expected, hint=hint)
    return list(dict.fromkeys([task.target, *check(section.utility, schema, task)]))


def _type_of(task: Task) -> pa.DataType:
    return pa.array(list(task.classes)).type if task.is_classification else pa.float64()


def metric(sql: str, rows: pa.Table, task: Task, threshold: float | Sequence[float]) -> Metric:
    """The mean utility of these rows, in their order, as a metric; a row without a number makes it undefined."""

    def prepare(y: NDArray[Any], output: NDArray[Any]) -> weighted.Statistic:
        return weighted.mean_of(lambda _, prediction: of_rows(sql, rows, task, prediction, threshold))(y, output)

    needs: Any = "probability" if task.is_classification else "value"
    definition = f"mean over the rows of {sql}; NaN where a row has no number"
    return Metric(NAME, "Utility", frozenset({task.kind}), needs, "higher", prepare, definition)


def of_rows(sql: str, rows: pa.Table, task: Task, output: NDArray[Any], threshold: float | Sequence[float]) -> Floats:
    """The utility of each row, NaN where it has none; `output` as `Metric.needs` of "probability" or "value" says."""
    if not task.is_classification:
        return _computed(sql, rows, pa.array(np.asarray(output, np.float64)), None)
    if task.kind is TaskKind.BINARY:
        label = np.asarray(output >= np.asarray(threshold), np.int64)
        return _computed(sql, rows, _classes(task, label), np.asarray(output, np.float64))
    return _computed(sql, rows, _classes(task, output.argmax(axis=1)), None)


def by_threshold(
    sql: str, rows: pa.Table, task: Task, p: Floats, weight: Floats | None, chosen: float
) -> dict[str, Any]:
    """The mean utility at each threshold of a model of two classes, where it is greatest on these rows, and the ends.

    ``none`` and ``all`` are what it is where no row is called positive, and where every row is.
    """
    worth = _worth_of_classes(sql, rows, task, p)
    own = np.ones(len(p)) if weight is None else weight
    grid = np.unique(np.append(np.linspace(0, 1, NUM_THRESHOLDS), chosen))
    # the rows by falling probability: of the first k, those at or above the threshold, the worth of a yes
    order = np.argsort(-p, kind="stable")
    gained = np.append(0.0, np.cumsum((own * (worth[1] - worth[0]))[order]))
    called = np.searchsorted(-p[order], -grid, side="right")
    number = max(float(own.sum()), 1e-300)
    values = (float(own @ worth[0]) + gained[called]) / number
    best = int(np.nanargmax(values)) if np.isfinite(values).any() else 0
    ends = {name: float(own @ each) / number for name, each in zip(("none", "all"), worth, strict=True)}
    return {"threshold": grid, "value": values, "best": {"threshold": grid[best], "value": values[best]}, **ends}


def best_threshold(
    sql: str, rows: pa.Table, task: Task, y: NDArray[Any], p: Floats, weight: Floats | None = None
) -> float:
    """The threshold with the greatest mean utility on these rows, whose ties are those of `thresholds.choose`.

    Raises
    ------
    RecipeError
        A row has no finite number for a yes or for a no: its mean is as undefined as the metric.
    """
    worth = _worth_of_classes(sql, rows, task, p)
    unknown = int(np.sum(~np.isfinite(worth).all(axis=0)))
    if unknown:
        got = f"none in {unknown:,} of {len(p):,} rows that choose the threshold"
        expected, hint = "a finite number for a yes and for a no of each row", "ELSE 0, or COALESCE(…, 0), gives one"
        raise errors.RecipeError.build(WHERE, got=got, expected=expected, hint=hint)
    return thresholds.choose_by_gain(y, p, worth[1] - worth[0], weight)


def _worth_of_classes(sql: str, rows: pa.Table, task: Task, p: Floats) -> NDArray[np.float64]:
    """The utility of each row if it is called negative, and if it is called positive: (2, rows)."""
    return np.stack([_computed(sql, rows, _classes(task, np.full(len(p), k)), p) for k in (0, 1)])


def _classes(task: Task, label: NDArray[np.int64]) -> pa.Array:
    return pa.array(list(task.classes)).take(pa.array(label))


def _computed(sql: str, rows: pa.Table, prediction: pa.Array, probability: Floats | None) -> Floats:
    beside = {PREDICTION: prediction} | ({} if probability is None else {PROBABILITY: pa.array(probability)})
    return numbers_of(expressions.add(with_columns(rows, beside), {NAME: sql}, WHERE)[NAME])


def with_columns(rows: pa.Table, beside: Mapping[str, pa.Array]) -> pa.Table:
    """The rows with columns appended; one that they have under such a name gives way."""
    table = rows.drop_columns([name for name in beside if name in rows.column_names])
    for name, values in beside.items():
        table = table.append_column(name, values)
    return table

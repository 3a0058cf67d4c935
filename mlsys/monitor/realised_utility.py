"""The utility of predictions whose labels are known: the SQL of the evaluation, over the row as it was logged.

A label may come long after its prediction, so the index of the log keeps the columns that the SQL reads. It can read
those of the log alone: where it reads another one, or has no number for a row, the utility is not known, and that is
told.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys import errors, expressions
from mlsys.bundle import Bundle
from mlsys.deploy.prediction_log import is_logged, logged_name
from mlsys.evaluate import utility
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.label_match import LABEL, UTILITY_OF_ROW
from mlsys.monitor.log_scan import START, IndexedColumns, class_values, model_output
from mlsys.reports import formats
from mlsys.schema import Task, TaskKind
from mlsys.statistics.arrays import Floats


@dataclass(frozen=True)
class RealisedUtility:
    """The worth of predictions as the evaluation has it, for rows of the log.

    Attributes
    ----------
    columns
        Columns of the log that the SQL reads.
    missing
        Columns that it reads and the log does not have.
    """

    sql: str
    task: Task
    threshold: float
    columns: pa.Schema
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, evaluation: Mapping[str, Any] | None, bundle: Bundle) -> Self | None:
        """The utility of an evaluation; None if it has none."""
        sql, task, schema = (evaluation or {}).get("utility_sql"), bundle.task, bundle.schema
        if sql is None:
            return None
        beside = {task.target, utility.PREDICTION, *([utility.PROBABILITY] if task.kind is TaskKind.BINARY else [])}
        read = [name for name in expressions.parse(utility.NAME, sql, utility.WHERE).inputs if name not in beside]
        logged = {column.name for column in schema if is_logged(column, bundle.needed, task)}
        columns = pa.schema([field for field in schema.arrow() if field.name in logged.intersection(read)])
        threshold = bundle.threshold if isinstance(bundle.threshold, float) else 0.5
        return cls(sql, task, threshold, columns, tuple(name for name in read if name not in logged))

    @property
    def indexed(self) -> IndexedColumns:
        """Columns that the index of the log keeps: name there → name in the log, and type."""
        if self.missing:
            return {}
        types = cast("pl.DataFrame", pl.from_arrow(self.columns.empty_table())).schema
        return {f"__read{number}": (logged_name(name), kind) for number, (name, kind) in enumerate(types.items())}

    def added(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The labelled rows of the index with the utility of each, NaN where it has no number.

        A value that the SQL cannot read leaves all rows of its window without one, and those of no other.
        """
        if self.missing:
            return rows
        try:
            values = self._of_rows(rows)
        except errors.ContractError:
            values = np.full(rows.height, np.nan)
            for _, window in rows.with_row_index("__place").group_by(START):
                with contextlib.suppress(errors.ContractError):
                    values[window["__place"].to_numpy()] = self._of_rows(window)
        return rows.with_columns(pl.Series(UTILITY_OF_ROW, values, pl.Float64))

    def _of_rows(self, rows: pl.DataFrame) -> Floats:
        truth = rows[LABEL].to_numpy().astype(np.float64)
        target = class_values(truth, self.task.classes) if self.task.is_classification else pa.array(truth)
        read = {name: rows[place].to_arrow() for name, place in zip(self.columns.names, self.indexed, strict=True)}
        output = model_output(rows, self.task)
        output = output[:, 1] if self.task.kind is TaskKind.BINARY else output
        table = pa.table({**read, self.task.target: target})
        values = utility.of_rows(self.sql, table, self.task, output, self.threshold)
        return np.where(np.isfinite(values), values, np.nan)

    def messages(self, judged: Sequence[JudgedWindow]) -> list[str]:
        """Sentences on why the utility of some windows is not known."""
        if self.missing:
            names = ", ".join(f"'{name}'" for name in self.missing)
            return [f"Utility is not measured: its SQL reads {names}, which the log does not have."]
        measured = [(each.window.label, each.performance.metrics) for each in judged if each.performance]
        values = [(label, metrics[utility.NAME].value) for label, metrics in measured if utility.NAME in metrics]
        unknown = [label for label, value in values if math.isnan(value)]
        if not unknown:
            return []
        windows = f"{len(unknown):,} of {formats.count(len(values), 'window')}, such as '{unknown[-1]}'"
        return [f"Utility is not known in {windows}: for a labelled row there its SQL gives no number."]

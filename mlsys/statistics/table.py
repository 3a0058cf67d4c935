"""All columns of a table, and the folds of a training part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.schema import FOLD, Kind, Schema, Task
from mlsys.statistics.column import ColumnStatistics

__all__ = ["TableStatistics", "TrainStatistics", "encode_target"]


def encode_target(values: pa.Array | pa.ChunkedArray, task: Task) -> npt.NDArray[Any]:
    """The target as numbers: class index (int64, -1 for none), or float64 with NaN for none.

    A value that is no class of the task counts as none.
    """
    if not task.is_classification:
        return np.asarray(pc.cast(values, pa.float64(), safe=False), dtype=np.float64)
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        classes = pa.array(list(task.classes)).cast(column.type)
    except pa.ArrowException:
        column, classes = column.cast(pa.string()), pa.array([str(value) for value in task.classes])
    return np.asarray(pc.fill_null(pc.index_in(column, value_set=classes), -1)).astype(np.int64)


class TableStatistics:
    """Statistics of the features and the target of a table.

    Attributes
    ----------
    columns
        Name → statistics, features in the order of the schema and then the target.
    num_rows, num_labelled
        Rows seen, and those of them with a target.
    """

    def __init__(self, schema: Schema, task: Task) -> None:
        self.schema = schema
        self.task = task
        self.num_rows = 0
        self.num_labelled = 0
        classes = len(task.classes) if task.is_classification else None
        self.columns = {
            column.name: ColumnStatistics.empty(column.kind, classes)
            for column in schema.features
            if column.name != task.target
        }
        kind = Kind.CATEGORICAL if task.is_classification else Kind.NUMERIC
        self.columns[task.target] = ColumnStatistics.empty(kind, classes)

    @classmethod
    def empty(cls, schema: Schema, task: Task) -> Self:
        """Of no rows yet; `schema` says which columns are features, `task` what the target is."""
        return cls(schema, task)

    def update(self, table: pa.Table) -> None:
        """Take rows in. A table without the target column, such as requests, has no labels."""
        y = encode_target(table[self.task.target], self.task) if self.task.target in table.column_names else None
        self.num_rows += table.num_rows
        if y is not None:
            self.num_labelled += int((y >= 0).sum() if self.task.is_classification else np.isfinite(y).sum())
        for name, column in self.columns.items():
            if name == self.task.target:
                if y is not None:
                    column.update(table[name])
            else:
                column.update(table[name], y)

    def merge(self, other: TableStatistics) -> TableStatistics:
        merged = TableStatistics(self.schema, self.task)
        merged.num_rows = self.num_rows + other.num_rows
        merged.num_labelled = self.num_labelled + other.num_labelled
        merged.columns = {name: column.merge(other.columns[name]) for name, column in self.columns.items()}
        return merged

    def select(self, names: Iterable[str]) -> TableStatistics:
        """Statistics of some features alone, and of the target."""
        kept = {*names, self.task.target}
        part = TableStatistics(self.schema, self.task)
        part.num_rows, part.num_labelled = self.num_rows, self.num_labelled
        part.columns = {name: column for name, column in self.columns.items() if name in kept}
        return part

    def without_rows(self) -> TableStatistics:
        """The same numbers without the texts and pictures that are kept to fit on and to look at."""
        bare = TableStatistics(self.schema, self.task)
        bare.num_rows, bare.num_labelled = self.num_rows, self.num_labelled
        bare.columns = {name: column.without_rows() for name, column in self.columns.items()}
        return bare

    @property
    def features(self) -> dict[str, ColumnStatistics]:
        return {name: column for name, column in self.columns.items() if name != self.task.target}

    @property
    def target(self) -> ColumnStatistics:
        return self.columns[self.task.target]

    def class_counts(self) -> dict[Any, int]:
        """Class → rows, in the order of the task; a class without rows has 0."""
        counts = self.target.counts()
        return {value: counts.get(value, counts.get(str(value), 0)) for value in self.task.classes}

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": self.schema.model_dump(mode="json"),
            "task": self.task.model_dump(mode="json"),
            "num_rows": self.num_rows,
            "num_labelled": self.num_labelled,
            "columns": {name: column.to_json() for name, column in self.columns.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        table = cls(Schema.model_validate(value["schema"]), Task.model_validate(value["task"]))
        table.num_rows, table.num_labelled = value["num_rows"], value["num_labelled"]
        table.columns = {name: ColumnStatistics.from_json(column) for name, column in value["columns"].items()}
        return table


class TrainStatistics:
    """Statistics of the training rows, fold by fold: any choice of folds is a merge, not a scan."""

    def __init__(self, folds: dict[int, TableStatistics]) -> None:
        self.folds = dict(sorted(folds.items()))

    @classmethod
    def of_table(cls, table: pa.Table, schema: Schema, task: Task) -> Self:
        """Of rows that carry the number of their fold."""
        fold = np.asarray(table[FOLD])
        folds: dict[int, TableStatistics] = {}
        for number in np.unique(fold).tolist():
            folds[number] = TableStatistics.empty(schema, task)
            folds[number].update(table.filter(pa.array(fold == number)))
        return cls(folds)

    def merge(self, other: TrainStatistics) -> TrainStatistics:
        folds = dict(self.folds)
        for number, part in other.folds.items():
            folds[number] = folds[number].merge(part) if number in folds else part
        return TrainStatistics(folds)

    def whole(self) -> TableStatistics:
        """Of all training rows."""
        return self.of(self.folds)

    def only(self, folds: Iterable[int]) -> TrainStatistics:
        """Of some folds, still apart."""
        wanted = sorted(set(folds))
        missing = [fold for fold in wanted if fold not in self.folds]
        if missing or not wanted:
            raise errors.FeatureError.build(
                "statistics: folds", got=f"{missing or 'none'}", expected=f"some of {sorted(self.folds)}"
            )
        return TrainStatistics({fold: self.folds[fold] for fold in wanted})

    def of(self, folds: Iterable[int]) -> TableStatistics:
        """Of the rows of some folds, merged in the order of their numbers."""
        first, *others = self.only(folds).folds.values()
        merged = first
        for part in others:
            merged = merged.merge(part)
        return merged

    def to_json(self) -> dict[str, Any]:
        return {"folds": {str(number): table.to_json() for number, table in self.folds.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls({int(number): TableStatistics.from_json(table) for number, table in value["folds"].items()})

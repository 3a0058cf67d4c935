"""Statistics of all columns of a table, and of the folds of the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.schema import FOLD, Kind, Schema, Task
from mlsys.statistics.arrays import Ints
from mlsys.statistics.column import ColumnStatistics
from mlsys.statistics.encoding import EncodedColumn, encode


def encode_target(values: pa.Array | pa.ChunkedArray, task: Task) -> npt.NDArray[Any]:
    """Encode the target as numbers: class index (int64, -1 for none), or float64 with NaN for none.

    A value that is no class of the task counts as none; of several labels, a set that is no class as the last one.
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
    index = np.asarray(pc.fill_null(pc.index_in(column, value_set=classes), -1)).astype(np.int64)
    if task.labels:
        index[(index < 0) & np.asarray(column.is_valid())] = len(classes) - 1
    return index


def encode_columns(table: pa.Table, schema: Schema, task: Task) -> dict[str, EncodedColumn]:
    """Encode the features and the target, each as the kind that it is counted as."""
    return {name: encode(table[name], kind) for name, kind in _kinds(schema, task).items()}


def _kinds(schema: Schema, task: Task) -> dict[str, Kind]:
    features = {column.name: column.kind for column in schema.features if column.name != task.target}
    return {**features, task.target: Kind.CATEGORICAL if task.is_classification else Kind.NUMERIC}


@dataclass(eq=False)
class TableStatistics:
    """Statistics of the features and the target of a table.

    Attributes
    ----------
    columns
        Name → statistics, features in the order of the schema and then the target.
    num_rows, num_labelled
        Rows seen, and those of them with a target.
    """

    schema: Schema
    task: Task
    columns: dict[str, ColumnStatistics]
    num_rows: int = 0
    num_labelled: int = 0

    @classmethod
    def empty(cls, schema: Schema, task: Task) -> Self:
        """Statistics of no rows yet; `schema` says which columns are features, `task` what the target is."""
        classes = len(task.classes) if task.is_classification else None
        columns = {name: ColumnStatistics(kind, classes) for name, kind in _kinds(schema, task).items()}
        return cls(schema, task, columns)

    def update(self, table: pa.Table) -> None:
        """Add rows. A table without the target column, such as requests, has no labels."""
        y = encode_target(table[self.task.target], self.task) if self.task.target in table.column_names else None
        columns = {name: table[name] for name in self.columns if y is not None or name != self.task.target}
        self.take(columns, y, table.num_rows)

    def take(
        self,
        columns: Mapping[str, EncodedColumn | pa.ChunkedArray],
        y: npt.NDArray[Any] | None,
        num_rows: int,
        rows: Ints | None = None,
    ) -> None:
        """Add some rows of columns, all by default; `y` is their target as `encode_target` gives it, if known."""
        self.num_rows += num_rows
        if y is not None:
            self.num_labelled += int((y >= 0).sum() if self.task.is_classification else np.isfinite(y).sum())
        for name, values in columns.items():
            self.columns[name].update(values, None if name == self.task.target else y, rows)

    def merge(self, *others: TableStatistics) -> TableStatistics:
        parts = (self, *others)
        columns = {name: column.merge(*(o.columns[name] for o in others)) for name, column in self.columns.items()}
        num_rows, num_labelled = sum(part.num_rows for part in parts), sum(part.num_labelled for part in parts)
        return TableStatistics(self.schema, self.task, columns, num_rows, num_labelled)

    def select(self, names: Iterable[str]) -> TableStatistics:
        """Statistics of some features alone, and of the target."""
        chosen = {*names, self.task.target}
        return replace(self, columns={name: column for name, column in self.columns.items() if name in chosen})

    def without_rows(self) -> TableStatistics:
        """Copy without the texts and pictures of the samples: the same numbers."""
        return replace(self, columns={name: column.without_rows() for name, column in self.columns.items()})

    @cached_property
    def features(self) -> dict[str, ColumnStatistics]:
        """Statistics by feature; the columns of an object stay the same, so they are gathered once."""
        return {name: column for name, column in self.columns.items() if name != self.task.target}

    @property
    def target(self) -> ColumnStatistics:
        return self.columns[self.task.target]

    def class_counts(self) -> dict[Any, int]:
        """Rows of each class, in the order of the task; a class without rows has 0."""
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
        columns = {name: ColumnStatistics.from_json(column) for name, column in value["columns"].items()}
        schema, task = Schema.model_validate(value["schema"]), Task.model_validate(value["task"])
        return cls(schema, task, columns, value["num_rows"], value["num_labelled"])


class TrainStatistics:
    """Statistics of the training rows, fold by fold: any choice of folds is a merge, not a scan."""

    def __init__(self, folds: dict[int, TableStatistics]) -> None:
        self.folds = dict(sorted(folds.items()))

    @classmethod
    def of_table(cls, table: pa.Table, schema: Schema, task: Task) -> Self:
        """Statistics of rows that carry the number of their fold."""
        return cls.of_columns(encode_columns(table, schema, task), table, schema, task)

    @classmethod
    def of_columns(cls, columns: Mapping[str, EncodedColumn], table: pa.Table, schema: Schema, task: Task) -> Self:
        """Statistics of a table whose columns are encoded already."""
        fold, y = np.asarray(table[FOLD]), encode_target(table[task.target], task)
        folds: dict[int, TableStatistics] = {}
        for number in np.unique(fold).tolist():
            rows = np.flatnonzero(fold == number)
            folds[number] = TableStatistics.empty(schema, task)
            folds[number].take(columns, y[rows], len(rows), rows)
        return cls(folds)

    def merge(self, *others: TrainStatistics) -> TrainStatistics:
        parts = (self, *others)
        numbers = dict.fromkeys(number for part in parts for number in part.folds)
        return TrainStatistics({number: _merged(part.folds.get(number) for part in parts) for number in numbers})

    def whole(self) -> TableStatistics:
        """Statistics of all training rows."""
        return self.of(self.folds)

    def only(self, folds: Iterable[int]) -> TrainStatistics:
        """Statistics of some folds, still apart."""
        numbers = sorted(set(folds))
        missing = [fold for fold in numbers if fold not in self.folds]
        if missing or not numbers:
            got = f"{missing or 'none'}"
            raise errors.FeatureError.build("statistics: folds", got=got, expected=f"some of {sorted(self.folds)}")
        return TrainStatistics({fold: self.folds[fold] for fold in numbers})

    def of(self, folds: Iterable[int]) -> TableStatistics:
        """Statistics of the rows of some folds, merged in the order of their numbers."""
        return _merged(self.only(folds).folds.values())

    def to_json(self) -> dict[str, Any]:
        return {"folds": {str(number): table.to_json() for number, table in self.folds.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls({int(number): TableStatistics.from_json(table) for number, table in value["folds"].items()})


def _merged(parts: Iterable[TableStatistics | None]) -> TableStatistics:
    first, *others = (part for part in parts if part is not None)
    return first.merge(*others) if others else first

"""The executor of small tables, as the rows of a request are: a few calls of NumPy a column, in one thread.

Polars plans a query for each table, starts threads for it, and makes a hash table of all categories of a column: some
milliseconds for a thousand rows, more than a model takes to predict them. Here numbers are taken as they lie in memory,
and of categories only those are looked up that the table has. Operations that have no such way, and derived features
that are more than another name of a column, are left to `mlsys.features.executors`.

The features must have the bits of that executor. Both are compared when this one is made, on some hundred rows of
nulls, of numbers at the ends of their types, of known and unknown categories and of times of all sorts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys import errors, expressions
from mlsys.features import derive, executors
from mlsys.features.domains import in_utc
from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.numeric import QuantileBins
from mlsys.features.operations.operation import Matrix, Operation
from mlsys.features.probe_values import probe_rows
from mlsys.features.row_program import rare_operations, unseen_operations
from mlsys.features.small_columns import CategoryPlaces, SmallColumn, fill_of, is_plain, places_of
from mlsys.features.unusual import Counts, UnusualCategories
from mlsys.schema import arrow_type

_logger = logging.getLogger(__name__)

SMALL_ROWS = 8_192
"""Rows of a table up to which this executor is used."""

NUM_PROBES, MAX_LITERALS = 400, 200
"""Rows on which the executors are compared, and values of an operation that stand among theirs."""


@dataclass(frozen=True)
class SmallFeatures:
    """The features of a small table, and its unusual categories by column and by row, as `FeatureProgram` counts."""

    X: Matrix
    counts: Counts
    unseen_by_row: list[int]
    rare_by_row: list[int]


class SmallTables:
    """The executor for a program: call it with a table; None where that has columns of other types than training."""

    def __init__(self, operations: Sequence[Operation], columns: Mapping[str, str], derived: Mapping[str, str]) -> None:
        # 1. The columns: those of requests, and what is made of them
        self._inputs = {name: arrow_type(kind) for name, kind in columns.items()}
        self._derived = dict(derived)
        self._made = expressions.types(pa.schema(list(self._inputs.items())), derived, derive.WHERE)
        self._aliases = aliases(derived)
        # 2. The operations, in the places of their features
        self.width = sum(len(operation.outputs) for operation in operations)
        kinds, shared, start = self._inputs | self._made, dict[Any, CategoryPlaces](), 0
        self.own: list[Operation] = []
        self._plain, self._fills, self._rest = [], [], _Rest()
        for operation in operations:
            features = slice(start, start := start + len(operation.outputs))
            has_single_column = len(operation.reads) == 1
            fill = fill_of(operation, kinds[operation.column], shared) if has_single_column else None
            if fill is None:
                self._rest.add(operation, features)
                continue
            self.own.append(operation)
            if is_plain(operation):
                self._plain.append((operation.column, features.start))
            else:
                self._fills.append((operation.column, fill, features))
        self._kinds = {operation.column: kinds[operation.column] for operation in self.own}
        # 3. The tests of unusual categories
        unseen, rare = unseen_operations(operations).items(), rare_operations(operations).items()
        self._unseen = [(name, each.is_unseen(), places_of(each, shared)) for name, each in unseen if each.complete]
        self._rare = [(name, each.is_rare(), places_of(each, shared)) for name, each in rare]
        self.counts_all = not any(isinstance(operation, Categorical) for operation in self._rest.operations)

    def __call__(self, table: pa.Table) -> SmallFeatures | None:
        arrays = dict(zip(table.column_names, table.columns, strict=True))
        if any(name not in arrays or arrays[name].type != kind for name, kind in self._inputs.items()):
            return None
        if self._derived:
            arrays |= self._completed(table, arrays)
        X = np.empty((table.num_rows, self.width), np.float32)
        read = self.read(arrays)
        self.write(read, X)
        if self._rest.operations:
            self._rest.write(pa.table({name: arrays[name] for name in (*self._inputs, *self._made)}), X)
        return SmallFeatures(X, *self.counted(read, table.num_rows))

    def read(self, arrays: Mapping[str, pa.ChunkedArray]) -> dict[str, SmallColumn]:
        """Read the columns of the operations that have a way of their own."""
        return {name: SmallColumn(_whole(arrays[name])) for name in self._kinds}

    def write(self, read: Mapping[str, SmallColumn], X: Matrix) -> None:
        """Write the features of those operations."""
        with np.errstate(invalid="ignore", over="ignore"):
            for name, place in self._plain:
                X[:, place] = read[name].numbers
            for name, fill, features in self._fills:
                fill(read[name], X[:, features])

    def counted(self, read: Mapping[str, SmallColumn], num_rows: int) -> tuple[Counts, list[int], list[int]]:
        """Count the unusual categories by column and by row."""
        totals: list[dict[str, int]] = []
        by_row: list[list[int]] = []
        for tests in (self._unseen, self._rare):
            total, rows = dict[str, int](), np.zeros(num_rows, np.int64)
            for name, test, places in tests:
                flags = places.flags(read[name], test)
                if flags is not None:
                    total[name] = int(flags.sum())
                    rows += flags
            totals.append(total)
            by_row.append(rows.tolist())
        return (totals[0], totals[1]), by_row[0], by_row[1]

    def _completed(self, table: pa.Table, arrays: Mapping[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
        """The derived features: other names of columns, or what Polars computes."""
        if self._aliases is not None:
            return {name: arrays[column].cast(self._made[name]) for name, column in self._aliases.items()}
        try:
            added = derive.add(table.select(list(self._inputs)), self._derived)
        except errors.ContractError as error:
            raise executors.failed_expression(error) from None
        return {name: added[name] for name in self._made}

    def has_bits_of_tables(self) -> bool:
        """Compare the operations that have a way of their own with the executor of tables."""
        # 1. Rows with whatever they may differ on
        literals = [value for operation in self.own for value in _literals(operation)]
        rows = list(probe_rows(self._kinds, literals, NUM_PROBES))
        table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in self._kinds.items()})
        # 2. Both ways
        categories, blocks = UnusualCategories(self.own), list[Counts]()
        usual = executors.compile_columns(self.own, _frame)
        expected = usual(table, None, lambda frame, raw: blocks.append(categories.count(frame, raw)))
        read = self.read(dict(zip(table.column_names, table.columns, strict=True)))
        X = np.zeros((len(rows), self.width), np.float32)
        self.write(read, X)
        own = np.ascontiguousarray(np.delete(X, self._rest.places, axis=1))
        is_same = np.array_equal(own.view(np.uint32), expected.view(np.uint32))
        return is_same and self.counted(read, len(rows))[0] == categories.total(blocks)


class _Rest:
    """Operations that are left to the executor of tables, and the places of their features."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.places: list[int] = []

    def add(self, operation: Operation, features: slice) -> None:
        self.operations.append(operation)
        self.places += range(features.start, features.stop)

    @cached_property
    def _transform(self) -> Callable[[pa.Table], Matrix]:
        return executors.compile_columns(self.operations, _frame)

    def write(self, table: pa.Table, X: Matrix) -> None:
        X[:, self.places] = self._transform(table)


def compile_small(
    operations: Sequence[Operation], columns: Mapping[str, str], derived: Mapping[str, str]
) -> SmallTables | None:
    """Make the executor of a program; None where it has nothing to do, or would not have the bits of the other one."""
    try:
        made = SmallTables(operations, columns, derived)
        if not (made.own and made.counts_all):
            return None
        is_same = made.has_bits_of_tables()
    except Exception as error:  # noqa: BLE001 - whatever a library says, the usual way is there
        _logger.warning("features: small tables go the way of large ones: %s", error)
        return None
    if not is_same:
        _logger.warning("features: small tables get other bits than large ones here, and go their way")
    return made if is_same else None


def aliases(derived: Mapping[str, str]) -> dict[str, str] | None:
    """The columns that derived features are other names of; None where one of them is computed.

    >>> aliases({"departure": "scheduled_at", "left": "departure"}), aliases({"half": "x / 2"})
    ({'departure': 'scheduled_at', 'left': 'scheduled_at'}, None)
    """
    names: dict[str, str] = {}
    for name, sql in derived.items():
        parsed = expressions.parse(name, sql, derive.WHERE)
        if not parsed.expr.meta.undo_aliases().meta.is_column():
            return None
        (column,) = parsed.inputs
        names[name] = names.get(column, column)
    return names


def _literals(operation: Operation) -> list[Any]:
    """Values beside which an operation may change its course."""
    if isinstance(operation, Categorical):
        return [*operation.categories[:MAX_LITERALS], *operation.rare[:MAX_LITERALS]]
    return list(operation.edges[:MAX_LITERALS]) if isinstance(operation, QuantileBins) else []


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(in_utc(table)))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

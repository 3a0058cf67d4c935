"""One row: a program as closures over its constants, a few microseconds a call.

Each operation gives a function that reads one value and writes its features into the row.
Only a program with derived features is slower (a fraction of a millisecond): their SQL is
evaluated by Polars on a table of one row, so that it means the same as in a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys import errors
from mlsys.features import derive
from mlsys.features.lookups import Categorical
from mlsys.features.values import domain_of
from mlsys.schema import arrow_type

if TYPE_CHECKING:
    from mlsys.features.program import FeatureProgram

__all__ = ["as_declared", "compile_row", "compile_unseen", "derived", "missing"]

Record = Mapping[str, Any]


def compile_row(program: FeatureProgram) -> Callable[[Record], npt.NDArray[np.float32]]:
    """The function of :meth:`FeatureProgram.row`."""
    steps, start = [], 0
    for operation in program.operations:
        steps.append((operation.column, operation.writer(start)))
        start += len(operation.outputs)
    width, complete = start, completer(program)

    def row(record: Record) -> npt.NDArray[np.float32]:
        record = complete(record)
        out = np.empty(width, np.float32)
        for column, write in steps:
            if column not in record:
                raise missing(column)
            write(record[column], out)
        return out

    return row


def compile_unseen(program: FeatureProgram) -> Callable[[Record], list[str]]:
    """The function of :meth:`FeatureProgram.unseen_row`."""
    checks = [
        (operation.column, operation.is_unseen())
        for operation in program.operations
        if isinstance(operation, Categorical)
    ]
    complete = completer(program)

    def unseen(record: Record) -> list[str]:
        record = complete(record)
        return [column for column, is_unseen in checks if is_unseen(record[column])]

    return unseen


def completer(program: FeatureProgram) -> Callable[[Record], Record]:
    """Function that adds the derived features to a record; without any, it gives the record itself."""
    if not program.derive:
        return lambda record: record
    kinds = {name: arrow_type(kind) for name, kind in program.columns.items()}
    readers = {name: domain.reader(name) for name, kind in kinds.items() if (domain := domain_of(kind))}

    def complete(record: Record) -> Record:
        arrays = {}
        for name, kind in kinds.items():
            if name not in record:
                raise missing(name)
            if name in readers:
                readers[name](record[name])
            arrays[name] = one(record[name], name, kind)
        row: Record = derived(pa.table(arrays), program.derive).to_pylist()[0]
        return row

    return complete


def one(value: Any, name: str, kind: pa.DataType) -> pa.Array:
    """A column of one value."""
    try:
        return pa.array([value], kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise errors.RequestError.of([{"row": 0, "field": name, "got": repr(value), "expected": str(kind)}]) from None


def as_declared(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The columns in the types that they had in training; refused where that would lose something."""
    cast = {}
    for name, kind in columns.items():
        try:
            cast[name] = table[name].cast(arrow_type(kind))
        except pa.ArrowException:
            got = str(table.schema.field(name).type)
            raise errors.RequestError.of([{"row": 0, "field": name, "got": got, "expected": kind}]) from None
    return pa.table(cast)


def derived(table: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
    """The table with the derived features; a value that an expression cannot take is the request's fault."""
    try:
        return derive.add(table, expressions)
    except errors.ContractError as error:
        got, expected = f"values on which it fails: {error}", "values that the expression can take"
        raise errors.RequestError.of([{"row": 0, "field": error.field, "got": got, "expected": expected}]) from None


def missing(column: str) -> errors.RequestError:
    return errors.RequestError.of([{"row": 0, "field": column, "got": "no such field", "expected": "a value or null"}])

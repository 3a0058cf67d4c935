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

from mlsys import errors, expressions
from mlsys.features import derive
from mlsys.features.values import domain_of
from mlsys.schema import arrow_type

if TYPE_CHECKING:
    from mlsys.features.program import FeatureProgram

__all__ = ["compile_checks", "compile_row", "missing", "with_derived"]

Record = Mapping[str, Any]


def compile_row(program: FeatureProgram) -> Callable[[Record], npt.NDArray[np.float32]]:
    """The function of :meth:`FeatureProgram.row`."""
    single, joint, start = [], [], 0
    for operation in program.operations:
        if len(operation.reads) == 1:
            single.append((operation.column, operation.writer(start)))
        else:
            joint.append((operation.reads, operation.writer(start)))
        start += len(operation.outputs)
    width, complete = start, completer(program)

    def row(record: Record) -> npt.NDArray[np.float32]:
        record = complete(record)
        out = np.empty(width, np.float32)
        for column, write in single:
            try:
                value = record[column]
            except KeyError:
                raise missing(column) from None
            write(value, out)
        for columns, write in joint:
            write(tuple(value_of(record, column) for column in columns), out)
        return out

    return row


def value_of(record: Record, column: str) -> Any:
    if column not in record:
        raise missing(column)
    return record[column]


def compile_checks(
    program: FeatureProgram, checks: Mapping[str, Callable[[Any], bool]]
) -> Callable[[Record], list[str]]:
    """Function of one record that gives the columns whose check holds."""
    if not checks:
        return lambda _record: []
    complete = completer(program)

    def found(record: Record) -> list[str]:
        record = complete(record)
        return [column for column, holds in checks.items() if holds(record[column])]

    return found


def completer(program: FeatureProgram) -> Callable[[Record], Record]:
    """Function that adds the derived features to a record; without any, it gives the record itself."""
    if not program.derive:
        return lambda record: record
    kinds = {name: arrow_type(program.columns[name]) for name in derive.inputs(program.derive)}
    readers = {name: domain.reader(name) for name, kind in kinds.items() if (domain := domain_of(kind))}
    compute = expressions.row_function(pa.schema(list(kinds.items())), program.derive, derive.WHERE)

    def complete(record: Record) -> Record:
        values = {}
        for name, kind in kinds.items():
            if name not in record:
                raise missing(name)
            if name in readers:
                readers[name](record[name])
            values[name] = one(record[name], name, kind)
        try:
            return {**record, **compute(values)}
        except errors.ContractError as error:
            raise failed(error) from None

    return complete


def one(value: Any, name: str, kind: pa.DataType) -> pa.Array:
    """A column of one value."""
    try:
        return pa.array([value], kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise errors.RequestError.of([{"row": 0, "field": name, "got": repr(value), "expected": str(kind)}]) from None


def with_derived(table: pa.Table, program: FeatureProgram) -> pa.Table:
    """The table with the derived features.

    What they read is cast to the types of training first, and refused where that would
    lose something: the same expression means other things of other types.
    """
    for name in derive.inputs(program.derive):
        kind, at = arrow_type(program.columns[name]), table.schema.get_field_index(name)
        try:
            table = table.set_column(at, pa.field(name, kind), table[name].cast(kind))
        except pa.ArrowException:
            got = str(table.schema.field(name).type)
            raise errors.RequestError.of([{"row": 0, "field": name, "got": got, "expected": str(kind)}]) from None
    try:
        return derive.add(table, program.derive)
    except errors.ContractError as error:
        raise failed(error) from None


def failed(error: errors.ContractError) -> errors.RequestError:
    """A value that an expression cannot take is the request's fault."""
    got, expected = f"values on which it fails: {error}", "values that the expression can take"
    return errors.RequestError.of([{"row": 0, "field": error.field, "got": got, "expected": expected}])


def missing(column: str) -> errors.RequestError:
    """A field is not there at all."""
    return errors.RequestError.of([{"row": 0, "field": column, "got": "no such field", "expected": "a value or null"}])

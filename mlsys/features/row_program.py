"""The executor of single rows: plain closures, which read a record of Python values and write its features.

Each operation gives a function that reads a value and writes its features; all of them take some microseconds. The
derived features of a record are computed once, and shared by what asks for its features, for its categories that
training never saw, and for those that it saw too seldom to keep apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys.features.derived_rows import Complete, Record, completer
from mlsys.features.executors import no_field
from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.operation import Matrix, Operation

HASHED = frozenset({str, int, float})
"""Types whose values are found among categories as they are; true would be found as the number 1."""


@dataclass(frozen=True)
class RowProgram:
    """A feature program for single records.

    Attributes
    ----------
    width
        Number of features.
    complete
        Function that adds the derived features to a record; without any, it gives the record itself. The other
        functions take what it gives.
    write
        Function (record, out) that writes the features into ``(width,)`` float32.
    unusual
        Function that gives the columns with a category that training never saw, and those with one that it saw too
        seldom to keep apart.
    derives_plainly
        True if plain functions compute the derived features, of which there are some; else Polars would.
    """

    width: int
    complete: Complete
    write: Callable[[Record, Matrix], None]
    unusual: Callable[[Record], tuple[list[str], list[str]]]
    derives_plainly: bool = False

    def features(self, record: Record) -> Matrix:
        """Complete a record and compute its features, ``(width,)`` float32."""
        out = np.empty(self.width, np.float32)
        self.write(self.complete(record), out)
        return out

    def unseen(self, record: Record) -> list[str]:
        """Complete a record and name its columns with a category that training never saw."""
        return self.unusual(self.complete(record))[0]

    def rare(self, record: Record) -> list[str]:
        """Complete a record and name its columns with a category that training saw too seldom."""
        return self.unusual(self.complete(record))[1]


def compile_rows(operations: Sequence[Operation], columns: Mapping[str, str], derived: Mapping[str, str]) -> RowProgram:
    """Make the functions of a program: its operations, the types of its columns, and its derived features."""
    width = sum(len(operation.outputs) for operation in operations)
    complete, is_compiled = completer(columns, derived)
    return RowProgram(width, complete, _writer(operations), _checks(operations), derives_plainly=is_compiled)


def _writer(operations: Sequence[Operation]) -> Callable[[Record, Matrix], None]:
    single, several, start = [], [], 0
    for operation in operations:
        if len(operation.reads) == 1:
            single.append((operation.column, operation.writer(start)))
        else:
            several.append((operation.reads, operation.writer(start)))
        start += len(operation.outputs)

    def write(record: Record, out: Matrix) -> None:
        for column, write_features in single:
            try:
                value = record[column]
            except KeyError:
                raise no_field(column) from None
            write_features(value, out)
        for columns, write_features in several:
            write_features(tuple(_value_of(record, column) for column in columns), out)

    return write


def _value_of(record: Record, column: str) -> Any:
    if column not in record:
        raise no_field(column)
    return record[column]


def unseen_operations(operations: Iterable[Operation]) -> dict[str, Categorical]:
    """The operation of each column of categories, by which values count that training never saw."""
    return {operation.column: operation for operation in operations if isinstance(operation, Categorical)}


def rare_operations(operations: Iterable[Operation]) -> dict[str, Categorical]:
    """The operation of each column by which values count that training saw too seldom to keep apart."""
    return unseen_operations(each for each in operations if isinstance(each, Categorical) and each.has_rare)


def _checks(operations: Sequence[Operation]) -> Callable[[Record], tuple[list[str], list[str]]]:
    """Function of a completed record that finds its unusual categories: most texts are ordinary, as one look tells."""
    rarely = rare_operations(operations)
    checks = []
    for column, operation in unseen_operations(operations).items():
        other = rarely.get(column, operation)
        is_rare = other.is_rare() if column in rarely else _never
        checks.append((column, operation.common & other.common, operation.is_unseen(), is_rare))

    def unusual(record: Record) -> tuple[list[str], list[str]]:
        unseen: list[str] = []
        rare: list[str] = []
        for column, ordinary, is_unseen, is_rare in checks:
            value = record[column]
            if value is None or (type(value) in HASHED and value in ordinary):
                continue
            if is_unseen(value):
                unseen.append(column)
            if is_rare(value):
                rare.append(column)
        return unseen, rare

    return unusual


def _never(_value: Any) -> bool:
    return False

"""The executor of tables: Polars expressions, computed in blocks with all threads, each written into its place.

Beside table and matrix, memory holds a few blocks. `mlsys.features.row_program` is the executor of single rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.features import derive
from mlsys.features.domains import domain_of, in_utc, refuse
from mlsys.features.operations.operation import Matrix, Operation
from mlsys.schema import arrow_type

BLOCK_ROWS = 131_072
"""Rows of a block: 1 MB a number column. Each expression costs some 50 µs a block, a tenth of its work at this size."""

BLOCK_CELLS = 1 << 24
"""Features of a block at most, 64 MB: with very many of them it has fewer rows."""

STRIP_ROWS = 8_192
"""Rows that are written at once: so many rows of the matrix stay in the cache from one feature to the next."""

MAX_THREADS = 4
"""Blocks at work at once: while one is computed, which uses all threads, others are read and written."""

Inspect = Callable[[pl.DataFrame, list[list[pl.Series]]], None]
"""Function of a block of rows and of the columns that `Operation.raw` gives of it, operation by operation."""


def read_table(table: pa.Table, columns: Mapping[str, str], derived: Mapping[str, str]) -> pl.DataFrame:
    """Check the columns that operations read against their types, and add the derived ones (`FeatureProgram.read`)."""
    types = dict(zip(table.schema.names, table.schema.types, strict=True))  # once: a look-up in a table is a search
    for name, kind in columns.items():
        domain = domain_of(arrow_type(kind))
        if name not in types:
            raise no_field(name)
        if domain is not None and not domain.accepts(types[name]):
            raise domain.refuse(name, str(types[name]))
    read = in_utc(table.select(list(columns)))
    if derived:
        read = _add_derived(read, columns, derived)
    return pl.DataFrame(pl.from_arrow(read))


def compile_columns(operations: Sequence[Operation], read: Callable[[pa.Table], pl.DataFrame]) -> Callable[..., Matrix]:
    """Function (table, out, inspect): the features of all rows, written into `out` if it is given.

    `inspect`, if it is given, is called with each block as it was read, and with the columns of each operation.
    """
    expressions: list[pl.Expr] = []
    steps, width = [], 0
    for operation in operations:
        raw, outputs = operation.raw(), len(operation.outputs)
        columns = slice(len(expressions), len(expressions) + len(raw))
        steps.append((operation.fill, columns, slice(width, width + outputs)))
        expressions += (expr.alias(str(number)) for number, expr in enumerate(raw, len(expressions)))
        width += outputs

    def compute_block(table: pa.Table, out: Matrix, inspect: Inspect | None) -> None:
        frame = read(table)
        computed = (frame.select(expressions) if expressions else frame).get_columns()
        if inspect is not None:
            inspect(frame, [computed[columns] for _, columns, _ in steps])
        for start in range(0, len(out), STRIP_ROWS):
            strip = out[start : start + STRIP_ROWS]
            series = [column.slice(start, len(strip)) for column in computed]
            for fill, columns, features in steps:
                fill(series[columns], strip[:, features])

    def transform(table: pa.Table, out: Matrix | None = None, inspect: Inspect | None = None) -> Matrix:
        X = np.empty((table.num_rows, width), np.float32) if out is None else out
        step = _rows_of_block(width)
        starts = range(0, table.num_rows, step)
        blocks = [(table.slice(start, step), X[start : start + step], inspect) for start in starts]
        _each(compute_block, blocks or [(table, X, inspect)])
        return X

    return transform


@dataclass(frozen=True)
class FileRows:
    """Rows of one row group of a Parquet file: from row `first` of the file on, `offset` rows into the group."""

    path: Path
    group: int
    offset: int
    first: int
    num_rows: int


def file_rows(paths: Sequence[Path], width: int, at_most: int = BLOCK_ROWS) -> list[FileRows]:
    """Divide the row groups of some Parquet files into blocks of rows for features of this `width`, in their order."""
    blocks: list[FileRows] = []
    step = min(at_most, _rows_of_block(width))
    for path in paths:
        first, metadata = 0, pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            starts = range(0, rows, step)
            blocks += [FileRows(path, group, start, first + start, min(step, rows - start)) for start in starts]
            first += rows
    return blocks


def transform_files(
    paths: Sequence[Path], columns: Sequence[str], transform: Callable[[pa.Table, Matrix], Matrix], width: int
) -> Matrix:
    """Transform all rows of some Parquet files into one matrix, ``(rows, width)``, reading only these columns."""
    return transform_rows(file_rows(paths, max(width, len(columns))), columns, transform, width)


def transform_rows(
    blocks: Sequence[FileRows], columns: Sequence[str], transform: Callable[[pa.Table, Matrix], Matrix], width: int
) -> Matrix:
    """Transform blocks of rows into one matrix, in their order.

    Of the columns no more than a few row groups are in memory. Polars reads them: texts become
    views of what the file holds once, in a tenth of the time that it takes to write each out.
    """
    starts = list(itertools.accumulate((block.num_rows for block in blocks), initial=0))
    X = np.empty((starts[-1], width), np.float32)

    def transform_block(block: FileRows, start: int) -> None:
        frame = pl.scan_parquet(block.path).slice(block.first, block.num_rows).select(columns).collect()
        transform(frame.to_arrow(compat_level=pl.CompatLevel.newest()), X[start : start + block.num_rows])

    _each(transform_block, list(zip(blocks, starts[:-1], strict=True)))
    return X


def _rows_of_block(width: int) -> int:
    """`BLOCK_ROWS`, or what `BLOCK_CELLS` allow of very wide rows, down to a strip."""
    return min(BLOCK_ROWS, max(STRIP_ROWS, BLOCK_CELLS // max(1, width)))


def _each(function: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call the function with each tuple of arguments, some at the same time."""
    threads = min(MAX_THREADS, pl.thread_pool_size(), len(arguments))
    if threads < 2:
        for each in arguments:
            function(*each)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, *zip(*arguments, strict=True)):
            pass


def _add_derived(table: pa.Table, columns: Mapping[str, str], derived: Mapping[str, str]) -> pa.Table:
    """The table with the derived features, of inputs cast to the types of training; a cast that loses is refused."""
    for name in derive.inputs(derived):
        kind, place = arrow_type(columns[name]), table.schema.get_field_index(name)
        try:
            table = table.set_column(place, pa.field(name, kind), table[name].cast(kind))
        except pa.ArrowException:
            raise refuse(name, str(table.schema.field(name).type), str(kind)) from None
    try:
        return derive.add(table, derived)
    except errors.ContractError as error:
        raise failed_expression(error) from None


def failed_expression(error: errors.ContractError) -> errors.RequestError:
    """The error of a request with values that a derived feature cannot be computed of."""
    return refuse(error.field, f"values on which it fails: {error}", "values that the expression can take")


def no_field(column: str) -> errors.RequestError:
    """The error of a request without a column that an operation reads."""
    return refuse(column, "no such field", "a value or null")

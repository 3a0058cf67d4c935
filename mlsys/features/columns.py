"""Many rows: a program as Polars expressions over blocks of a table.

The blocks are computed with all threads and written into the matrix in their places, so
that memory beside table and matrix is that of a few blocks, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.features.operations import Matrix

if TYPE_CHECKING:
    from mlsys.features.program import FeatureProgram

__all__ = ["BLOCK_ROWS", "compile_columns", "transform_files"]

BLOCK_ROWS = 131_072
"""Rows of a block: 1 MB a number column. Each expression costs some 50 µs a block, a tenth of its work at this size."""

BLOCK_CELLS = 1 << 24
"""Features of a block at most, 64 MB: with very many of them it has fewer rows."""

STRIP_ROWS = 8_192
"""Rows that are written at once: so many rows of the matrix stay in the cache from one feature to the next."""

MAX_THREADS = 4
"""Blocks at work at once: while one is computed, which uses all threads, others are read and written."""


def compile_columns(program: FeatureProgram) -> Callable[..., Matrix]:
    """The function of :meth:`FeatureProgram.transform`."""
    expressions: list[pl.Expr] = []
    steps, width = [], 0
    for operation in program.operations:
        raw, outputs = operation.raw(), len(operation.outputs)
        columns = slice(len(expressions), len(expressions) + len(raw))
        steps.append((operation.fill, columns, slice(width, width + outputs)))
        expressions += (expr.alias(str(at)) for at, expr in enumerate(raw, len(expressions)))
        width += outputs

    def block(table: pa.Table, out: Matrix) -> None:
        frame = program.read(table)
        computed = (frame.select(expressions) if expressions else frame).get_columns()
        for start in range(0, len(out), STRIP_ROWS):
            strip = out[start : start + STRIP_ROWS]
            series = [column.slice(start, len(strip)) for column in computed]
            for fill, columns, features in steps:
                fill(series[columns], strip[:, features])

    def transform(table: pa.Table, out: Matrix | None = None) -> Matrix:
        made = np.empty((table.num_rows, width), np.float32) if out is None else out
        step = _rows_of_block(width)
        parts = [(table.slice(at, step), made[at : at + step]) for at in range(0, table.num_rows, step)]
        _each(block, parts or [(table, made)])
        return made

    return transform


def transform_files(
    paths: Sequence[Path], columns: Sequence[str], transform: Callable[[pa.Table, Matrix], Matrix], width: int
) -> Matrix:
    """``(rows, width)``: what `transform` writes of these columns of all rows of some Parquet files.

    The files say how many rows there are, so the matrix is made once, and of the columns no
    more than a few row groups are in memory. Polars reads them: texts become views of what
    the file holds once, in a tenth of the time that it takes to write each out.
    """
    work: list[tuple[Path, int, int, int]] = []
    at = 0
    for path in paths:
        first, step = 0, _rows_of_block(max(width, len(columns)))
        for rows in _rows_of_groups(path):
            starts = range(0, rows, step)
            work += [(path, first + start, at + start, min(step, rows - start)) for start in starts]
            first, at = first + rows, at + rows
    out = np.empty((at, width), np.float32)

    def place(path: Path, first: int, at: int, rows: int) -> None:
        frame = pl.scan_parquet(path).slice(first, rows).select(columns).collect()
        transform(frame.to_arrow(compat_level=pl.CompatLevel.newest()), out[at : at + rows])

    _each(place, work)
    return out


def _rows_of_block(width: int) -> int:
    """`BLOCK_ROWS`, or what `BLOCK_CELLS` allow of very wide rows, down to a strip."""
    return min(BLOCK_ROWS, max(STRIP_ROWS, BLOCK_CELLS // max(1, width)))


def _rows_of_groups(path: Path) -> list[int]:
    facts = pq.read_metadata(path)
    return [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]


def _each(function: Callable[..., None], work: Sequence[tuple[Any, ...]]) -> None:
    """Call the function with each tuple, some at the same time."""
    threads = min(MAX_THREADS, pl.thread_pool_size(), len(work))
    if threads < 2:
        for arguments in work:
            function(*arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, *zip(*work, strict=True)):
            pass

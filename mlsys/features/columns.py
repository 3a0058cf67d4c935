"""Many rows: a program as Polars expressions over blocks of a table.

The blocks are computed with all threads and written into the matrix in their places, so
that memory beside table and matrix is that of a few blocks, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys.features.operations import Matrix

if TYPE_CHECKING:
    from mlsys.features.program import FeatureProgram

__all__ = ["BLOCK_ROWS", "compile_columns"]

BLOCK_ROWS = 131_072
"""Rows of a block: 1 MB a number column. Each expression costs some 50 µs a block, a tenth of its work at this size."""

STRIP_ROWS = 8_192
"""Rows that are written at once: so many rows of the matrix stay in the cache from one feature to the next."""

MAX_THREADS = 4
"""Blocks at work at once: while one is computed, which uses all threads, others are read and written."""


def compile_columns(program: FeatureProgram) -> Callable[[pa.Table], Matrix]:
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

    def transform(table: pa.Table) -> Matrix:
        out = np.empty((table.num_rows, width), np.float32)
        parts = [
            (table.slice(at, BLOCK_ROWS), out[at : at + BLOCK_ROWS]) for at in range(0, table.num_rows, BLOCK_ROWS)
        ]
        _each(block, parts or [(table, out)])
        return out

    return transform


def _each(block: Callable[[pa.Table, Matrix], None], parts: Sequence[tuple[pa.Table, Matrix]]) -> None:
    if len(parts) == 1:
        block(*parts[0])
        return
    with ThreadPoolExecutor(min(MAX_THREADS, pl.thread_pool_size())) as threads:
        for _ in threads.map(block, *zip(*parts, strict=True)):
            pass

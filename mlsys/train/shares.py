"""Blocks of the stored files: each worker's share of the rows, and rows that are read whenever they are asked for.

All rows are dealt out to the workers, always in the same way. Ray Data would divide a table into equal shares, leave
out the rows that do not fit, and give blocks in the order in which they arrive; a booster depends on both. Here a
worker reads its own blocks, and needs nothing that others hold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.features.executors import BLOCK_ROWS, FileRows, file_rows
from mlsys.models.matrix import Matrix

BLOCKS = 8
"""Blocks of each worker at least, where there are rows for them: shares differ by less than one of them."""


def share(paths: Sequence[Path], width: int, rank: int, workers: int) -> list[FileRows]:
    """Rows of files that worker `rank` of `workers` reads: blocks go to whoever has the fewest rows so far."""
    total = sum(pq.read_metadata(path).num_rows for path in paths)
    at_most = min(BLOCK_ROWS, -(-total // (BLOCKS * workers)))
    shares: list[list[FileRows]] = [[] for _ in range(workers)]
    num_rows = [0] * workers
    for block in file_rows(paths, width, max(1, at_most)):
        receiver = num_rows.index(min(num_rows))
        shares[receiver].append(block)
        num_rows[receiver] += block.num_rows
    return shares[rank]


class StreamedBlocks(Sequence[Matrix]):
    """Blocks of rows that are read each time they are asked for, so that one need be in memory, and not all."""

    def __init__(self, blocks: Sequence[FileRows], read: Callable[[Sequence[FileRows]], Matrix]) -> None:
        self.blocks = blocks
        self.read = read

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: Any) -> Any:
        return self.read([self.blocks[index]])


def column(blocks: Sequence[FileRows], name: str) -> pa.ChunkedArray:
    """Read a column of blocks of rows, in their order."""

    @functools.lru_cache(maxsize=1)
    def of_group(path: Path, group: int) -> pa.ChunkedArray:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[name])[name]

    pieces = [of_group(block.path, block.group).slice(block.offset, block.num_rows) for block in blocks]
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks])

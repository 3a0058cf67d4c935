"""What was found for rows, put beside them: a row group at a time, in files of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.features.partwise import Each, Found
from mlsys.features.resolving import append

__all__ = ["put_back"]


@dataclass(frozen=True)
class _Job:
    path: Path
    target: Path
    found: list[tuple[pa.Schema, list[list[tuple[Path, int]]]]]


def put_back(paths: Sequence[Path], found: Sequence[Found], folder: Path, each: Each[Any, Any]) -> list[Path]:
    """Files of the rows with the columns of all joins after their own, in their order."""
    folder.mkdir(parents=True)
    heads = [pq.read_metadata(path) for path in paths]
    firsts = list(accumulate((head.num_row_groups for head in heads), initial=0))
    jobs = [
        _Job(
            path,
            folder / path.name,
            [(one.added, [one.batches.get(chunk, []) for chunk in range(first, stop)]) for one in found],
        )
        for path, (first, stop) in zip(paths, pairwise(firsts), strict=True)
    ]
    each(_put_back, jobs)
    return [job.target for job in jobs]


def _put_back(job: _Job) -> None:
    file = pq.ParquetFile(job.path)
    schema = pa.schema([*file.schema_arrow, *(field.with_nullable(True) for added, _ in job.found for field in added)])
    with pq.ParquetWriter(job.target, schema, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for added, batches in job.found:
                table = _beside(table, added, batches[group])
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))


def _beside(table: pa.Table, added: pa.Schema, batches: Sequence[tuple[Path, int]]) -> pa.Table:
    """A row group with the columns found for it; null where nothing was."""
    at, batches_ = np.full(table.num_rows, -1), []
    num_found = 0
    for path, number in batches:
        with pa.memory_map(str(path)) as mapped:
            batch = pa.ipc.open_file(mapped).get_batch(number)
        at[batch["__at"].to_numpy()] = np.arange(num_found, num_found + batch.num_rows)
        num_found += batch.num_rows
        batches_.append(batch)
    found = pa.Table.from_batches(batches_) if batches_ else None
    return append(table, added, found, at)

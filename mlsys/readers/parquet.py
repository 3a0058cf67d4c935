"""Parquet files, with the types that they have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.readers.base import BATCH_ROWS, BadRecord, Batch, Fragment, Growth, Reader, checked_names, typed_batches
from mlsys.recipe import Reading

BATCH_BYTES = 1 << 28
"""Bytes of Parquet, as encoded, read at a time."""
SPLIT_ROWS = 1 << 17
"""Row groups of a file are put together up to so many rows: enough work for a task, and so little that workers end at
about the same time."""
SPLIT_BYTES = 1 << 28
"""Row groups of large rows, such as pictures, are put together up to so many bytes."""


class ParquetReader(Reader):
    """Parquet files, one fragment a file; prediction divides a large file by its row groups."""

    format = "parquet"
    suffixes = (".parquet", ".pq")

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        with _opened(fragment) as file:
            checked_names(fragment, file.schema_arrow.names)
            return file.schema_arrow.remove_metadata(), file.metadata.num_rows

    def split(self, fragment: Fragment) -> list[Fragment]:
        with _opened(fragment) as file:
            sizes = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        parts: list[Fragment] = []
        groups: list[int] = []
        first_row = num_rows = num_bytes = 0
        for number, group in enumerate(sizes):
            groups.append(number)
            num_rows, num_bytes = num_rows + group.num_rows, num_bytes + group.total_byte_size
            if num_rows >= SPLIT_ROWS or num_bytes >= SPLIT_BYTES or number == len(sizes) - 1:
                parts.append(replace(fragment, num_bytes=num_bytes, row_groups=tuple(groups), first_row=first_row))
                first_row, num_rows, num_bytes, groups = first_row + num_rows, 0, 0, []
        return parts or [fragment]

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        with _opened(fragment) as file:
            groups = fragment.row_groups or range(file.metadata.num_row_groups)
            read = file.iter_batches(batch_size=_batch_rows(file), row_groups=list(groups))
            tables = (pa.Table.from_batches([batch]) for batch in read)
            yield from typed_batches(fragment, tables, file.schema_arrow)

    def column(self, fragment: Fragment, name: str) -> Iterator[pa.Array]:
        with _opened(fragment) as file:
            for batch in file.iter_batches(batch_size=_batch_rows(file), columns=[name]):
                yield batch.column(0)


@contextmanager
def _opened(fragment: Fragment) -> Iterator[pq.ParquetFile]:
    """Open a file; an error of Arrow becomes the fault of this file."""
    with fragment.open() as file:
        try:
            yield pq.ParquetFile(file, coerce_int96_timestamp_unit="us")  # its nanoseconds end in 2262 and wrap
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, errors.MlsysError):
                raise
            raise errors.SourceError.damaged(fragment.name, " ".join(str(error).split())) from None


def _batch_rows(file: pq.ParquetFile) -> int:
    """Rows to read at a time, fewer where they are large: pictures, long texts, thousands of columns."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    num_bytes = sum(group.total_byte_size for group in groups)
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES * file.metadata.num_rows // max(num_bytes, 1))))

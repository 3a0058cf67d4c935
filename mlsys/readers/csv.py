"""One piece of a source as bounded batches, values still as they were written.

CSV cells, JSON values and query results come as text (`inference` and `convert` turn them into
types once all rows were seen), Parquet and built-in sets with the types they have. A record
that has no place in the table, such as a line with too many cells, is set aside as `Broken`
with its row number, so that numbering counts every record of the input.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.readers import decoding, folders, increment_files, lake, records, sources
from mlsys.readers.base import BATCH_ROWS, BadRecord, Batch, Fragment, checked_names
from mlsys.recipe import Reading

__all__ = ["batches", "column", "typed_shape"]

BLOCK_BYTES = 1 << 24
"""Bytes of CSV parsed at a time, and so the longest record."""
BATCH_BYTES = 1 << 28
"""Bytes of Parquet, as encoded, read at a time."""


def batches(
    piece: Fragment,
    reading: Reading,
    broken: list[BadRecord],
    after: records.After | None = None,
    unfinished: list[str] | None = None,
) -> Iterator[Batch]:
    """Read a piece; records that are no rows are appended to `broken`.

    A database leaves rows out that are certainly not `after`; other sources give all. With
    `unfinished` the piece grows: a last line without its end is left out, and appended to that.

    Raises
    ------
    SourceError
        The piece is damaged, in another encoding or format, or has columns of one name.
    """
    match piece.format:
        case "csv":
            found = _csv(piece, reading, broken, unfinished)
        case "jsonl":
            found = records.json_lines(piece, reading, broken, unfinished)
        case "sql":
            found = records.query(piece, reading, after)
        case "image":
            found = folders.image_rows(piece)
        case "text":
            found = folders.text_rows(piece, reading, broken)
        case "sklearn":
            found = _typed(piece, iter([sources.built_in(piece.location.removeprefix("sklearn://"))]))
        case "increment":
            found = increment_files.batches(piece, broken)
        case "delta" | "iceberg":
            found = _typed(piece, map(_table, lake.batches(piece)), typed_shape(piece)[0])  # type: ignore[index]
        case _:
            found = _parquet(piece)
    return found


def typed_shape(piece: Fragment) -> tuple[pa.Schema, int] | None:
    """Schema and rows of a piece whose values have types; None for text.

    Raises
    ------
    SourceError
        As `batches`.
    """
    if piece.format == "sklearn":
        table = sources.built_in(piece.location.removeprefix("sklearn://"))
        return table.schema, table.num_rows
    if piece.format == "image":
        return folders.FOLDER, len(piece.files)
    if piece.format == "increment":
        return increment_files.typed_shape(piece)
    if piece.format in {"delta", "iceberg"}:
        found, num_rows = lake.schema(piece)
        checked_names(piece, found.names)
        return found.remove_metadata(), num_rows
    if piece.format != "parquet":
        return None
    with piece.open() as file, _damage(piece):
        opened = pq.ParquetFile(file)
        checked_names(piece, opened.schema_arrow.names)
        return opened.schema_arrow.remove_metadata(), opened.metadata.num_rows


def column(piece: Fragment, name: str) -> Iterator[pa.Array]:
    """One column of a piece whose values have types."""
    if piece.format != "parquet":
        yield from (batch.table[name].combine_chunks() for batch in batches(piece, Reading(), []))
        return
    with piece.open() as file, _damage(piece):
        opened = pq.ParquetFile(file)
        for batch in opened.iter_batches(batch_size=_batch_rows(opened), columns=[name]):
            yield batch.column(0)


def _csv(
    piece: Fragment, reading: Reading, broken: list[BadRecord], unfinished: list[str] | None = None
) -> Iterator[Batch]:
    delimiter, grows = _delimiter(piece, reading), unfinished is not None

    def set_aside(record: pacsv.InvalidRow) -> str:
        reason = f"cells: {record.actual_columns} in a table of {record.expected_columns} columns"
        broken.append(BadRecord(record.number - 2, reason, record.text))  # counted from 1, after the header
        return "skip"

    with decoding.opened(piece, reading, grows=grows) as text:
        try:
            reader = pacsv.open_csv(
                pa.PythonFile(io.BufferedReader(text, BLOCK_BYTES), "r"),
                pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
                pacsv.ConvertOptions(
                    default_column_type=pa.string(), strings_can_be_null=True, null_values=list(reading.null_values)
                ),
            )
            names = checked_names(piece, reader.schema.names)
            _refuse_other_delimiter(piece, names)
            yield from _numbered((_table(batch).rename_columns(names) for batch in reader), broken)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                raise errors.SourceError.empty(piece.name) from None
            decoding.check_quotes(piece, reading, delimiter, grows=grows)
            raise errors.SourceError.damaged(piece.name, str(error)) from None
    if text.has_quotes:
        decoding.check_quotes(piece, reading, delimiter, grows=grows)
    if unfinished is not None and text.rest.strip():
        unfinished.append(text.rest.decode())


def _numbered(tables: Iterator[pa.Table], broken: list[BadRecord]) -> Iterator[Batch]:
    """Row numbers of the rows that were not set aside: each broken record before one moves it on."""
    before = 0
    for table in tables:
        apart = np.array([record.row for record in broken], np.int64)
        ordinals = np.arange(before, before + table.num_rows)
        moved = np.searchsorted(apart - np.arange(len(apart)), ordinals, side="right")
        before += table.num_rows
        yield Batch(table, ordinals + moved)


def _parquet(piece: Fragment) -> Iterator[Batch]:
    with piece.open() as file, _damage(piece):
        opened = pq.ParquetFile(file)
        tables = map(_table, opened.iter_batches(batch_size=_batch_rows(opened)))
        yield from _typed(piece, tables, opened.schema_arrow)


@contextmanager
def _damage(piece: Fragment) -> Iterator[None]:
    """What Arrow says of a Parquet file that it cannot read, as the fault of this file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise errors.SourceError.damaged(piece.name, " ".join(str(error).split())) from None


def _batch_rows(file: pq.ParquetFile) -> int:
    """Rows to read at a time, fewer where they are large: pictures, long texts, thousands of columns."""
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    num_bytes = sum(group.total_byte_size for group in groups)
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES * file.metadata.num_rows // max(num_bytes, 1))))


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _typed(piece: Fragment, tables: Iterator[pa.Table], schema: pa.Schema | None = None) -> Iterator[Batch]:
    """Batches of a source with types; one without rows if there are none, for the types are known."""
    first = 0
    for table in tables:
        checked_names(piece, table.column_names)
        yield Batch(table.replace_schema_metadata(None), np.arange(first, first + table.num_rows))
        first += table.num_rows
    if first == 0 and schema is not None:
        checked_names(piece, schema.names)
        yield Batch(schema.remove_metadata().empty_table(), np.arange(0))


def _delimiter(piece: Fragment, reading: Reading) -> str:
    return "\t" if reading.delimiter == "," and re.search(r"\.tsv(\.|$)", piece.location.lower()) else reading.delimiter


def _refuse_other_delimiter(piece: Fragment, names: list[str]) -> None:
    if len(names) == 1 and (found := re.search(r"[;\t|]", names[0])):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=f"one column, {names[0]!r}",
            expected="a header of several columns",
            hint=f"data.reading.delimiter: {json.dumps(found[0])}",
        )

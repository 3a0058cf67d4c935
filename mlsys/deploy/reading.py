"""The rows of a piece in bounded batches, of Parquet, CSV, JSON lines, pictures and texts.

Values of Parquet have types and must fit the model as those of a request; for CSV and JSON see
`mlsys.deploy.lines`. A PNG or JPEG is a row: its name as ``file``, and its bytes in the model's
column of images. So is a ``.txt`` file, with what it says in the column of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.deploy import lines
from mlsys.deploy.pieces import Batch, Piece, check_names
from mlsys.recipe import Reading
from mlsys.schema import Kind, Schema

__all__ = ["batches"]

BATCH_ROWS = 1 << 16
"""Rows in memory at a time."""

PICTURES = 256
"""Pictures or texts in memory at a time."""


def batches(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    """The rows of a piece; `schema` names the columns that the model reads.

    Raises
    ------
    SourceError
        The file is damaged or in another encoding.
    """
    read = {"parquet": _parquet, "csv": lines.csv, "jsonl": lines.json_lines, "image": _pictures, "text": _documents}[
        piece.format
    ]
    try:
        yield from read(piece, schema, reading)
    except errors.MlsysError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise errors.SourceError.build(
            f"predict: file '{piece.name}'",
            got=str(error).split("\n", maxsplit=1)[0],
            expected=f"a {piece.format} file",
            hint="encoding and delimiter of text files can be given",
        ) from error


def _parquet(piece: Piece, schema: Schema, _: Reading) -> Iterator[Batch]:
    first = piece.first_row
    file = pq.ParquetFile(piece.path)
    check_names(piece, file.schema_arrow.names)
    if not file.metadata.num_rows:
        yield Batch(file.schema_arrow.empty_table(), {}, [])
    there = frozenset(file.schema_arrow.names)
    names = [name for name in schema.names if name in there]
    for batch in file.iter_batches(BATCH_ROWS, row_groups=list(piece.row_groups)):
        table = pa.Table.from_batches([batch])
        values = {name: table[name] for name in names}
        yield Batch(table, values, range(first, first + table.num_rows))
        first += table.num_rows


def _pictures(piece: Piece, schema: Schema, _: Reading) -> Iterator[Batch]:
    column = _only_column(piece, schema, Kind.IMAGE)
    for first in range(0, len(piece.files), PICTURES):
        files = piece.files[first : first + PICTURES]
        data = [Path(path).read_bytes() for _, path in files]
        names = pa.table({"file": [name for name, _ in files]})
        yield Batch(names, {column: pa.array(data, pa.binary())}, range(first, first + len(files)))


def _documents(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    column = _only_column(piece, schema, Kind.TEXT)
    for first in range(0, len(piece.files), PICTURES):
        rows, names, texts, broken = [], [], [], []
        for row, (name, path) in enumerate(piece.files[first : first + PICTURES], first):
            data = Path(path).read_bytes()
            try:
                texts.append(data.decode(reading.encoding).removeprefix("\ufeff"))
            except UnicodeDecodeError as error:
                broken.append((row, f"{name}: not {reading.encoding} at byte {error.start}", data.decode("latin-1")))
            else:
                rows.append(row)
                names.append(name)
        yield Batch(
            pa.table({"file": pa.array(names, pa.string())}), {column: pa.array(texts, pa.string())}, rows, broken
        )


def _only_column(piece: Piece, schema: Schema, kind: Kind) -> str:
    """The column of the model that files of one kind fill."""
    columns = [column.name for column in schema if column.kind is kind]
    if len(columns) != 1:
        raise errors.SourceError.build(
            f"predict: files from '{piece.name}' on",
            got=f"a model that reads {len(columns) or 'no'} columns of {kind}s",
            expected="one column for them",
            hint="put them into a Parquet file or JSON lines, a column each",
        )
    return columns[0]

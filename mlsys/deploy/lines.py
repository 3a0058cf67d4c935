"""CSV and JSON lines as rows for the model: cells and values as it takes them, and records that are none.

A CSV cell is text, so numbers, true and false are read from it first; what cannot be read stays
text and is reported as such. JSON has types, which must fit the model as those of a request.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mlsys.deploy.pieces import Batch, Piece, check_names
from mlsys.recipe import Reading
from mlsys.schema import Schema, arrow_type

__all__ = ["csv", "json_lines"]

BATCH_ROWS = 1 << 16
"""Records in memory at a time."""


def csv(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    """Rows of a CSV file; those with too few or too many cells are set aside."""
    broken: list[tuple[int, str, str]] = []

    def set_aside(record: pacsv.InvalidRow) -> str:
        broken.append(
            (record.number - 2, f"{record.actual_columns} cells, {record.expected_columns} columns", record.text)
        )
        return "skip"

    delimiter = "\t" if ".tsv" in piece.path and reading.delimiter == "," else reading.delimiter
    reader = pacsv.open_csv(
        piece.path,
        pacsv.ReadOptions(use_threads=False, encoding=reading.encoding),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
        pacsv.ConvertOptions(
            default_column_type=pa.string(), strings_can_be_null=True, null_values=list(reading.null_values)
        ),
    )
    check_names(piece, reader.schema.names)
    there = frozenset(reader.schema.names)
    columns = [column for column in schema if column.name in there]
    row, told = 0, 0
    for batch in reader:
        table = pa.Table.from_batches([batch])
        rows, row = _numbers(row, table.num_rows, {number for number, _, _ in broken})
        values = {column.name: _read(table[column.name], column.type) for column in columns}
        yield Batch(table, values, rows, broken[told:])
        told = len(broken)
    if not row or told < len(broken):
        yield Batch(reader.schema.empty_table(), {}, [], broken[told:])


def _numbers(start: int, count: int, apart: set[int]) -> tuple[list[int], int]:
    """Numbers of the next `count` rows: those of records set aside are left out."""
    rows: list[int] = []
    while len(rows) < count:
        if start not in apart:
            rows.append(start)
        start += 1
    return rows, start


def _read(texts: pa.ChunkedArray, type_name: str) -> Any:
    """Cells as values of a type; one that cannot be read stays text."""
    kind = arrow_type(type_name)
    if pa.types.is_string(kind):
        return texts
    trimmed = pc.utf8_trim_whitespace(texts)
    if pa.types.is_boolean(kind):
        words = {"true": True, "false": False}
        return [None if text is None else words.get(text.lower(), text) for text in trimmed.to_pylist()]
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return [_listed(text) for text in trimmed.to_pylist()] if pa.types.is_list(kind) else trimmed
    with contextlib.suppress(pa.ArrowInvalid):
        return trimmed.cast(kind)
    return [None if text is None else _number(text) for text in trimmed.to_pylist()]


def _number(text: str) -> int | float | str:
    if "_" in text:  # Python would read 1_000 as a number, nobody else does
        return text
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def _listed(text: str | None) -> Any:
    with contextlib.suppress(ValueError):
        return None if text is None else json.loads(text)
    return text


def json_lines(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    """Objects, one a line; what is none is set aside."""
    opened = gzip.open if piece.path.endswith(".gz") else open
    with opened(piece.path, "rt", encoding=reading.encoding) as stream:
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        broken: list[tuple[int, str, str]] = []
        for row, line in enumerate(_lines(stream)):
            record = _record(line)
            if isinstance(record, dict):
                records.append(record)
                rows.append(row)
            else:
                broken.append((row, record, line))
            if len(rows) == BATCH_ROWS:
                yield _of_records(records, schema, rows, broken)
                records, rows, broken = [], [], []
        yield _of_records(records, schema, rows, broken)


def _lines(stream: Any) -> Iterator[str]:
    for line in stream:
        text = line.strip()
        if text:
            yield text


def _record(line: str) -> dict[str, Any] | str:
    """The object of a line, or why it is none."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return f"no JSON: {error}"
    return record if isinstance(record, dict) else f"a JSON {type(record).__name__}, not an object"


def _of_records(
    records: Sequence[Mapping[str, Any]], schema: Schema, rows: Sequence[int], broken: Sequence[tuple[int, str, str]]
) -> Batch:
    names = dict.fromkeys(name for record in records for name in record)
    source = pa.table({name: _texts([record.get(name) for record in records]) for name in names})
    values = {name: [record.get(name) for record in records] for name in schema.names if name in names}
    return Batch(source, values, rows, broken)


def _texts(values: Sequence[Any]) -> pa.Array:
    """Values of one type as they are; a mixture as JSON text."""
    with contextlib.suppress(pa.ArrowException):
        return pa.array(values)
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])

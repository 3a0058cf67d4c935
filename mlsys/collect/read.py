"""One piece of a source as bounded batches, values still as they were written.

CSV cells, JSON values and query results come as text (`inference` and `convert` turn them into
types once all rows were seen), Parquet and built-in sets with the types they have. A record
that has no place in the table, such as a line with too many cells, is set aside as `Broken`
with its row number, so that numbering counts every record of the input.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.collect import decoding, sources
from mlsys.collect.inference import Evidence
from mlsys.collect.sources import Piece
from mlsys.recipe import Reading
from mlsys.schema import FOLD, ROW

__all__ = ["BATCH_ROWS", "UNNAMED", "Batch", "Broken", "batches", "column", "typed_shape"]

BATCH_ROWS = 1 << 17
BLOCK_BYTES = 1 << 24
"""Bytes of CSV parsed at a time, and so the longest record."""
UNNAMED = "unnamed_"
"""How a CSV column without a name is called, followed by its position."""


@dataclass(frozen=True)
class Broken:
    """A record that is no row: its number in the piece, why, and its text."""

    row: int
    reason: str
    content: str


@dataclass
class Batch:
    """Rows of a piece: the values, their row numbers in the piece, and JSON types met by column."""

    table: pa.Table
    rows: np.ndarray
    json: dict[str, Evidence] = field(default_factory=dict)


def batches(piece: Piece, reading: Reading, broken: list[Broken]) -> Iterator[Batch]:
    """Read a piece; records that are no rows are appended to `broken`.

    Raises
    ------
    SourceError
        The piece is damaged, in another encoding or format, or has columns of one name.
    """
    match piece.format:
        case "csv":
            return _csv(piece, reading, broken)
        case "jsonl":
            return _jsonl(piece, reading, broken)
        case "sql":
            return _sql(piece, reading)
        case "sklearn":
            return _typed(piece, iter([sources.built_in(piece.location.removeprefix("sklearn://"))]))
        case _:
            return _parquet(piece)


def typed_shape(piece: Piece) -> tuple[pa.Schema, int] | None:
    """Schema and rows of a piece whose values have types; None for text.

    Raises
    ------
    SourceError
        As `batches`.
    """
    if piece.format == "sklearn":
        table = sources.built_in(piece.location.removeprefix("sklearn://"))
        return table.schema, table.num_rows
    if piece.format != "parquet":
        return None
    with sources.open_bytes(piece) as file:
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise errors.SourceError.damaged(piece.name, str(error)) from None
        _checked_names(piece, opened.schema_arrow.names)
        return opened.schema_arrow.remove_metadata(), opened.metadata.num_rows


def column(piece: Piece, name: str) -> Iterator[pa.Array]:
    """One column of a piece whose values have types."""
    if piece.format == "sklearn":
        yield sources.built_in(piece.location.removeprefix("sklearn://"))[name].combine_chunks()
        return
    with sources.open_bytes(piece) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=[name]):
            yield batch.column(0)


def _csv(piece: Piece, reading: Reading, broken: list[Broken]) -> Iterator[Batch]:
    delimiter = _delimiter(piece, reading)

    def set_aside(record: pacsv.InvalidRow) -> str:
        reason = f"cells: {record.actual_columns} in a table of {record.expected_columns} columns"
        broken.append(Broken(record.number - 2, reason, record.text))  # counted from 1, after the header
        return "skip"

    with decoding.opened(piece, reading) as text:
        try:
            reader = pacsv.open_csv(
                pa.PythonFile(io.BufferedReader(text, BLOCK_BYTES), "r"),
                pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
                pacsv.ConvertOptions(
                    default_column_type=pa.string(), strings_can_be_null=True, null_values=list(reading.null_values)
                ),
            )
            names = _checked_names(piece, reader.schema.names)
            _refuse_other_delimiter(piece, names)
            yield from _numbered((pa.Table.from_batches([batch]).rename_columns(names) for batch in reader), broken)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                raise errors.SourceError.empty(piece.name) from None
            decoding.check_quotes(piece, reading, delimiter)
            raise errors.SourceError.damaged(piece.name, str(error)) from None
    if text.has_quotes:
        decoding.check_quotes(piece, reading, delimiter)


def _numbered(tables: Iterator[pa.Table], broken: list[Broken]) -> Iterator[Batch]:
    """Row numbers of the rows that were not set aside: each broken record before one moves it on."""
    before = 0
    for table in tables:
        apart = np.array([record.row for record in broken], np.int64)
        ordinals = np.arange(before, before + table.num_rows)
        moved = np.searchsorted(apart - np.arange(len(apart)), ordinals, side="right")
        before += table.num_rows
        yield Batch(table, ordinals + moved)


def _jsonl(piece: Piece, reading: Reading, broken: list[Broken]) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    row = -1
    with decoding.opened(piece, reading) as text:
        for line in _lines(text):
            row += 1
            record = _record(piece, line, row)
            if isinstance(record, dict):
                rows.append(record)
                numbers.append(row)
            else:
                broken.append(Broken(row, record, line.decode()))
            if len(rows) == BATCH_ROWS // 2:
                yield _of_records(piece, rows, numbers)
                rows, numbers = [], []
    if rows:
        yield _of_records(piece, rows, numbers)


def _lines(text: decoding.Text) -> Iterator[bytes]:
    """Lines that are not blank, without their ends."""
    for line in io.BufferedReader(text, decoding.CHUNK_BYTES):
        stripped = line.strip()
        if stripped:
            yield stripped


def _record(piece: Piece, line: bytes, row: int) -> dict[str, Any] | str:
    """The object of a line, or why there is none."""
    if row == 0 and line.startswith(b"["):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got="a JSON array",
            expected="JSON lines: one object a line",
            hint="jq -c '.[]' old.json > new.jsonl",
        )
    try:
        record = json.loads(line)
    except ValueError as error:
        return f"json: {error}"
    return record if isinstance(record, dict) else f"json: {type(record).__name__} instead of an object"


def _sql(piece: Piece, reading: Reading) -> Iterator[Batch]:
    import sqlalchemy as sa

    try:
        engine = sa.create_engine(piece.location)
        with engine.connect() as connection:
            result = connection.execution_options(stream_results=True).execute(sa.text(str(reading.query)))
            names = _checked_names(piece, list(result.keys()))
            first = 0
            while rows := result.fetchmany(BATCH_ROWS // 2):
                records = [dict(zip(names, row, strict=True)) for row in rows]
                yield _of_records(piece, records, list(range(first, first + len(rows))))
                first += len(rows)
        engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=" ".join(str(cause).split()),
            expected="rows of data.reading.query",
            hint=f"the query was: {reading.query}",
        ) from None


def _parquet(piece: Piece) -> Iterator[Batch]:
    with sources.open_bytes(piece) as file:
        try:
            opened = pq.ParquetFile(file)
            tables = (pa.Table.from_batches([batch]) for batch in opened.iter_batches(batch_size=BATCH_ROWS))
            yield from _typed(piece, tables, opened.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, errors.MlsysError):
                raise
            raise errors.SourceError.damaged(piece.name, str(error)) from None


def _typed(piece: Piece, tables: Iterator[pa.Table], schema: pa.Schema | None = None) -> Iterator[Batch]:
    """Batches of a source with types; one without rows if there are none, for the types are known."""
    first = 0
    for table in tables:
        _checked_names(piece, table.column_names)
        yield Batch(table.replace_schema_metadata(None), np.arange(first, first + table.num_rows))
        first += table.num_rows
    if first == 0 and schema is not None:
        _checked_names(piece, schema.names)
        yield Batch(schema.remove_metadata().empty_table(), np.arange(0))


def _of_records(piece: Piece, records: list[dict[str, Any]], numbers: list[int]) -> Batch:
    """Python values as columns of text, with the count of JSON strings, lists and objects."""
    names = dict.fromkeys(name for record in records for name in record)
    _checked_names(piece, list(names))
    arrays, json_types = {}, {}
    for name in names:
        values = [record.get(name) for record in records]
        types = {type(value) for value in values} - {type(None)}
        arrays[name] = pa.array(values if types <= {str} else [_written(value) for value in values], pa.string())
        json_types[name] = Evidence(
            quoted=sum(isinstance(value, str) for value in values),
            lists=sum(isinstance(value, list) for value in values) if list in types else 0,
            objects=sum(isinstance(value, dict) for value in values) if dict in types else 0,
        )
    return Batch(pa.table(arrays), np.array(numbers, np.int64), json_types)


def _written(value: Any) -> str | None:
    """A JSON or database value as the text that `convert` reads back."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if value != value else repr(value)  # noqa: PLR0124  (NaN, which JSON does not know)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return repr(value.total_seconds())
    return json.dumps(value, ensure_ascii=False, default=str)


def _delimiter(piece: Piece, reading: Reading) -> str:
    return "\t" if reading.delimiter == "," and re.search(r"\.tsv(\.|$)", piece.location.lower()) else reading.delimiter


def _checked_names(piece: Piece, names: list[str]) -> list[str]:
    """The names, where each is there once; one that is empty gets a name."""
    named = [name if name else f"{UNNAMED}{at}" for at, name in enumerate(names)]
    twice = list(dict.fromkeys(name for name in named if named.count(name) > 1)) if len(set(named)) < len(named) else []
    if twice:
        raise errors.SourceError.duplicate_columns(piece.name, twice)
    for reserved in {ROW, FOLD} & set(named):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=f"a column '{reserved}'",
            expected="names that mlsys does not use itself",
            hint="rename it in the source",
            field=reserved,
        )
    return named


def _refuse_other_delimiter(piece: Piece, names: list[str]) -> None:
    if len(names) == 1 and (found := re.search(r"[;\t|]", names[0])):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=f"one column, {names[0]!r}",
            expected="a header of several columns",
            hint=f"data.reading.delimiter: {json.dumps(found[0])}",
        )

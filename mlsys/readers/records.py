"""Records of Python values, from JSON lines and database queries, as batches of text."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import errors
from mlsys.collect.type_inference import TypeCounts
from mlsys.readers import decoding
from mlsys.readers.base import BATCH_ROWS, BadRecord, Batch, Fragment, checked_names
from mlsys.recipe import Reading

__all__ = ["After", "json_lines", "query"]

RECORDS = BATCH_ROWS // 2
"""Records held as Python objects at a time."""


def json_lines(
    piece: Fragment, reading: Reading, broken: list[BadRecord], unfinished: list[str] | None = None
) -> Iterator[Batch]:
    """Objects, one a line; lines that are none are appended to `broken`, blank lines do not count."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    row = -1
    with decoding.opened(piece, reading, grows=unfinished is not None) as text:
        for line in _lines(text):
            row += 1
            record = _record(piece, line, row)
            if isinstance(record, dict):
                rows.append(record)
                numbers.append(row)
            else:
                broken.append(BadRecord(row, record, line.decode()))
            if len(rows) == RECORDS:
                yield _of_records(piece, rows, numbers)
                rows, numbers = [], []
    if unfinished is not None and (rest := text.rest.strip()):
        record = _record(piece, rest, row + 1)
        if isinstance(record, dict):  # a whole object, whose line end alone is missing
            rows.append(record)
            numbers.append(row + 1)
        else:
            unfinished.append(rest.decode())
    if rows:
        yield _of_records(piece, rows, numbers)


def _lines(text: decoding.DecodedText) -> Iterator[bytes]:
    """Lines that are not blank, without their ends."""
    for line in io.BufferedReader(text, decoding.CHUNK_BYTES):
        stripped = line.strip()
        if stripped:
            yield stripped


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for at, (name, _) in enumerate(pairs) if name in dict(pairs[:at]))
        raise ValueError(f"key '{twice}' stands twice")
    return found


OBJECTS = json.JSONDecoder(object_pairs_hook=_once)
"""Of a key that stands twice one value would be lost."""


def _record(piece: Fragment, line: bytes, row: int) -> dict[str, Any] | str:
    """The object of a line, or why there is none."""
    if row == 0 and line.startswith(b"["):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got="a JSON array",
            expected="JSON lines: one object a line",
            hint="jq -c '.[]' old.json > new.jsonl",
        )
    try:
        record = OBJECTS.decode(line.decode())
        if b"\\ud" in line.lower():
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        return f"json: {error}"
    return record if isinstance(record, dict) else f"json: {type(record).__name__} instead of an object"


@dataclass(frozen=True)
class After:
    """A mark in a column that grows; times are microseconds."""

    column: str
    kind: str
    mark: float


def query(piece: Fragment, reading: Reading, after: After | None = None) -> Iterator[Batch]:
    """Rows of ``reading.query``, fetched in batches; with `after` at least all that are not before it."""
    import sqlalchemy as sa

    try:
        engine = sa.create_engine(piece.location)
        with engine.connect() as connection:
            asked, values = (
                str(reading.query).replace(":", r"\:"),
                dict[str, Any](),
            )  # ' :x' in it is text, no parameter
            if after is not None:
                column = engine.dialect.identifier_preparer.quote(after.column).replace(":", r"\:")
                asked, values = _beyond(asked, after, column)
            result = connection.execution_options(stream_results=True).execute(sa.text(asked), values)
            names = checked_names(piece, list(result.keys()))
            first = 0
            while rows := result.fetchmany(RECORDS):
                records = [dict(zip(names, row, strict=True)) for row in rows]
                yield _of_records(piece, records, list(range(first, first + len(rows))))
                first += len(rows)
        engine.dispose()
    except ImportError as error:
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=f"no package '{error.name}' in this environment",
            expected="the driver of the database",
            hint=f"uv pip install {error.name}; the URL may name another, e.g. postgresql+psycopg://…",
        ) from None
    except sa.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=" ".join(str(cause).split()),
            expected="rows of data.reading.query",
            hint=f"the query was: {reading.query}",
        ) from None


def _beyond(asked: str, after: After, column: str) -> tuple[str, dict[str, Any]]:
    """The query without rows that are certainly before a mark.

    Databases hold times as times or as text in any ISO form and zone; the date of the day before
    compares rightly with all of them, and what it lets through too much is sorted out here.
    """
    mark: Any = after.mark
    if after.kind == "timestamp":
        mark = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=after.mark, days=-1)).date().isoformat()  # noqa: DTZ001  (a date in any zone)
    inner = asked.strip().rstrip(";")  # and a comment at its end goes until the end of its line
    return f"SELECT * FROM ({inner}\n) AS collected WHERE {column} >= :beyond_mark", {"beyond_mark": mark}  # noqa: S608  (the user's own query)


def _of_records(piece: Fragment, records: list[dict[str, Any]], numbers: list[int]) -> Batch:
    """Python values as columns of text, with the count of JSON strings, lists and objects."""
    names = dict.fromkeys(name for record in records for name in record)
    checked_names(piece, list(names))
    arrays, json_types = {}, {}
    for name in names:
        values = [record.get(name) for record in records]
        types = {type(value) for value in values} - {type(None)}
        if types & {bytes, bytearray, memoryview}:
            raise _of_bytes(piece, name)
        arrays[name] = pa.array(values if types <= {str} else [_written(value) for value in values], pa.string())
        json_types[name] = TypeCounts(
            quoted=sum(isinstance(value, str) for value in values),
            lists=sum(isinstance(value, list) for value in values) if list in types else 0,
            objects=sum(isinstance(value, dict) for value in values) if dict in types else 0,
        )
    return Batch(pa.table(arrays), np.array(numbers, np.int64), json_types)


def _of_bytes(piece: Fragment, name: str) -> errors.SourceError:
    return errors.SourceError.build(
        f"collect: column '{name}' in '{piece.name}'",
        got="bytes",
        expected="numbers, text, true and false, dates or times",
        hint="leave it out of data.reading.query, or give it as text, e.g. hex(…); pictures are read from files",
        field=name,
    )


def _written(value: Any) -> str | None:
    """A JSON or database value as the text that `convert` reads back."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if value != value else repr(value)  # noqa: PLR0124  (NaN, which JSON does not know)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return repr(value.total_seconds()) if isinstance(value, dt.timedelta) else str(value)

"""Records of Python values, from JSON lines and database queries, as batches of text."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlsys import errors
from mlsys.readers import decoding, files
from mlsys.readers.base import (
    BATCH_ROWS,
    BadRecord,
    Batch,
    CursorBound,
    Fragment,
    Growth,
    Reader,
    TypeCounts,
    checked_names,
)
from mlsys.recipe import Reading

if TYPE_CHECKING:
    import sqlalchemy as sa

RECORDS = BATCH_ROWS // 2
"""Records held as Python objects at a time."""

FETCHED = 256
"""Rows that a database is asked for at a time."""

RECORD_BYTES = 1 << 26
"""Characters and bytes of their texts at a time, about."""


class JsonLinesReader(Reader):
    """JSON lines: one object a line; other lines are bad records, blank lines do not count. Or one array of objects."""

    format = "jsonl"
    suffixes = (".jsonl", ".ndjson", ".json")

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        row, size = -1, 0
        with decoding.opened(fragment, reading, grows=growth is not None) as text:
            for row, (record, content) in enumerate(_records(fragment, text, may_be_array=growth is None)):
                if isinstance(record, dict):
                    records.append(record)
                    rows.append(row)
                    size += len(content) or _size(record.values())
                else:
                    bad_records.append(BadRecord(row, record, content))
                if len(records) == RECORDS or size > RECORD_BYTES:
                    yield _of_records(fragment, records, rows)
                    records, rows, size = [], [], 0
        if growth is not None and (rest := text.rest.strip()):
            record = _record(fragment, rest, row + 1, may_be_array=False)
            if isinstance(record, dict):  # a whole object, whose line end alone is missing
                records.append(record)
                rows.append(row + 1)
            else:
                growth.unfinished.append(rest.decode())
        if records:
            yield _of_records(fragment, records, rows)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; of a key that stands twice one value would be lost, so it is a `ValueError`."""
    record = dict(pairs)
    if len(record) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key '{name}' stands twice")
    return record


OBJECTS = json.JSONDecoder(object_pairs_hook=unique_keys)
_BETWEEN = re.compile(r"[\s,]*")


def _records(
    fragment: Fragment, text: io.RawIOBase, *, may_be_array: bool
) -> Iterator[tuple[dict[str, Any] | str, str]]:
    """The object of each line or element, or the reason why there is none, and its text."""
    lines = filter(None, map(bytes.strip, stream := io.BufferedReader(text, decoding.CHUNK_BYTES)))
    first, second = next(lines, b""), b""
    if may_be_array and first.startswith(b"["):
        second = next(lines, b"")
        if first == b"[" or not isinstance(_record(fragment, second, 1, may_be_array=True), dict):
            head = (first + b"\n" + second + b"\n").decode()
            for element in _elements(fragment, head, io.TextIOWrapper(stream, "utf-8")):
                is_record = isinstance(element, dict) and not _is_broken(element)
                reason = f"json: {type(element).__name__} instead of an object, or half a surrogate pair"
                yield element if is_record else reason, "" if is_record else json.dumps(element)
            return
    for row, line in enumerate(filter(None, itertools.chain((first, second), lines))):
        yield _record(fragment, line, row, may_be_array=may_be_array), line.decode()


def _elements(fragment: Fragment, text: str, stream: io.TextIOWrapper) -> Iterator[Any]:
    """The elements of a JSON array, of which little more than one is in memory at a time."""
    place = text.index("[") + 1
    while True:
        place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
        try:
            if text.startswith("]", place):
                return
            element, place = OBJECTS.raw_decode(text, place)
        except json.JSONDecodeError as error:
            more = stream.read(decoding.CHUNK_BYTES)
            if not more:
                raise errors.SourceError.damaged(fragment.name, f"a JSON array that breaks off: {error.msg}") from None
            text, place = text[place:] + more, 0
            continue
        except (ValueError, RecursionError) as error:
            raise errors.SourceError.damaged(fragment.name, f"a JSON array: {error}") from None
        yield element


def _size(values: Iterable[Any]) -> int:
    """Characters and bytes of the texts among the values of a record."""
    return sum(len(value) for value in values if isinstance(value, str | bytes))


def _is_broken(record: dict[str, Any]) -> bool:
    """True for a text with half a surrogate pair, which is none."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except ValueError:
        return True
    return False


def _record(fragment: Fragment, line: bytes, row: int, *, may_be_array: bool) -> dict[str, Any] | str:
    """The object of a line, or the reason why there is none."""
    if row == 0 and line.startswith(b"[") and not may_be_array:
        where = f"collect: source '{fragment.name}'"
        hint = "jq -c '.[]' old.json > new.jsonl"
        raise errors.SourceError.build(where, got="a JSON array", expected="JSON lines: one object a line", hint=hint)
    try:
        record = OBJECTS.decode(line.decode())
        if b"\\ud" in line.lower():
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        return f"json: {error}"
    return record if isinstance(record, dict) else f"json: {type(record).__name__} instead of an object"


class SqlReader(Reader):
    """A database by its SQLAlchemy URL: the rows of ``data.reading.query``, fetched in batches."""

    format = "sql"
    options = ("query",)

    def matches(self, source: str) -> bool:
        return files.scheme(source) not in {"", "package", "http", "https", "ftp", *files.REMOTE}

    def fragments(self, source: str, reading: Reading) -> list[Fragment]:
        """One query result; the name shows neither the password nor a local path."""
        if reading.query is None:
            where = "recipe: 'data.reading.query' is missing"
            got = f"{files.scheme(source)}:// as source, which is taken for a database"
            hint = 'reading: {query: "SELECT * FROM …"}; files are a path, s3://, gs://, file:// or package://'
            raise errors.RecipeError.build(
                where, got=got, expected="the SQL to run there", hint=hint, field="data.reading.query"
            )
        file = _sqlite_file(source)
        if file is None:  # a server does not say whether rows changed
            shown = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", source)
            return [Fragment(shown, source, self.format, 0, stamp=uuid.uuid4().hex)]
        if not file.is_file():  # the driver would make an empty database of this name
            raise errors.SourceError.missing(source, files.near(file))
        url, size = absolute_database(source), file.stat().st_size
        return [Fragment(f"sqlite:///{file.name}", url, self.format, size, stamp=_changed(file))]

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        """Rows of the query; of a source that grows at least all that are not before the bound."""
        import sqlalchemy as sa

        try:
            engine = sa.create_engine(fragment.location)
            with engine.connect() as connection:
                text = str(reading.query).replace(":", r"\:")  # ' :x' in it is text, no parameter
                values: dict[str, Any] = {}
                if growth is not None and growth.after is not None:
                    column = engine.dialect.identifier_preparer.quote(growth.after.column).replace(":", r"\:")
                    text, values = _beyond(text, growth.after, column)
                result = connection.execution_options(stream_results=True).execute(sa.text(text), values)
                names = checked_names(fragment, list(result.keys()))
                first = 0
                while rows := _fetched(result):
                    records = [dict(zip(names, row, strict=True)) for row in rows]
                    yield _of_records(fragment, records, list(range(first, first + len(rows))))
                    first += len(rows)
            engine.dispose()
        except ImportError as error:
            got = f"no package '{error.name}' in this environment"
            hint = f"uv pip install {error.name}; the URL may name another, e.g. postgresql+psycopg://…"
            where = f"collect: source '{fragment.name}'"
            raise errors.SourceError.build(where, got=got, expected="the driver of the database", hint=hint) from None
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            got = " ".join(str(cause).split())
            hint = f"the query was: {reading.query}"
            where = f"collect: source '{fragment.name}'"
            raise errors.SourceError.build(where, got=got, expected="rows of data.reading.query", hint=hint) from None


def _fetched(result: sa.CursorResult[Any]) -> list[sa.Row[Any]]:
    """Fetch rows, fewer where they are large."""
    rows: list[sa.Row[Any]] = []
    size = 0
    while len(rows) < RECORDS and size <= RECORD_BYTES and (some := result.fetchmany(FETCHED)):
        rows += some
        size += sum(_size(row) for row in some)
    return rows


def absolute_database(url: str) -> str:
    """The URL of a SQLite file by its absolute path, for a task that stands in another folder."""
    file = _sqlite_file(url)
    return url if file is None else url.replace(f"///{file}", f"///{file.absolute()}", 1)


def _sqlite_file(url: str) -> Path | None:
    scheme, _, rest = url.partition("://")
    return Path(rest.removeprefix("/").partition("?")[0]) if scheme.startswith("sqlite") else None


def _changed(database: Path) -> str:
    """Time of the last change of a SQLite database, whose new rows may still be in its write-ahead log alone."""
    log = database.with_name(f"{database.name}-wal")
    written = [database, log] if log.is_file() and log.stat().st_size else [database]
    return " ".join(str(file.stat().st_mtime_ns) for file in written)


def _beyond(query: str, after: CursorBound, column: str) -> tuple[str, dict[str, Any]]:
    """The query without rows that are certainly before a bound; what it lets through too much is sorted out later."""
    bound: Any = after.mark
    if after.kind == "timestamp":  # the date of the day before compares rightly with times and texts in any zone
        bound = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=after.mark, days=-1)).date().isoformat()  # noqa: DTZ001  (a date in any zone)
    inner = query.strip().rstrip(";")  # and a comment at its end goes until the end of its line
    return f"SELECT * FROM ({inner}\n) AS collected WHERE {column} >= :beyond_mark", {"beyond_mark": bound}  # noqa: S608  (the user's own query)


def _of_records(fragment: Fragment, records: list[dict[str, Any]], rows: list[int]) -> Batch:
    """Python values as columns of text, with the count of JSON strings, lists of numbers and objects."""
    names = dict.fromkeys(name for record in records for name in record)
    checked_names(fragment, list(names))
    arrays, json_types = {}, {}
    for name in names:
        values = [record.get(name) for record in records]
        types = {type(value) for value in values} - {type(None)}
        if types & {bytes, bytearray, memoryview}:
            raise errors.SourceError.build(
                f"collect: column '{name}' in '{fragment.name}'",
                got="bytes",
                expected="numbers, text, true and false, dates or times",
                hint="leave it out of data.reading.query, or give it as text, e.g. hex(…); "
                "pictures are read from files",
                field=name,
            )
        arrays[name] = pa.array(values if types <= {str} else [as_text(value) for value in values], pa.string())
        json_types[name] = TypeCounts(
            is_json=True,
            quoted=sum(isinstance(value, str) for value in values),
            lists=sum(map(_are_numbers, values)) if list in types else 0,
            objects=sum(isinstance(value, dict) for value in values) if dict in types else 0,
        )
    return Batch(pa.table(arrays), np.array(rows, np.int64), json_types)


def _are_numbers(value: Any) -> bool:
    """True for a list of numbers, of which some may be missing; lists of anything else are kept as their text."""
    return isinstance(value, list) and all(type(element) in (int, float, type(None)) for element in value)


def as_text(value: Any) -> str | None:
    """A JSON or database value as the text that `mlsys.readers.conversion` reads back."""
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

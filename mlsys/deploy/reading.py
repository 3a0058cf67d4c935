"""Files that batch prediction reads: Parquet, CSV, JSON lines, pictures and texts, in pieces and bounded batches.

Values of Parquet and JSON have types and must fit the model as those of a request. A CSV
cell is text, so numbers, true and false are read from it first; what cannot be read stays
text and is reported as such. A PNG or JPEG is a row: its name as ``file``, and its bytes in
the model's column of images. So is a ``.txt`` file, with what it says in the column of texts.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.recipe import Reading
from mlsys.schema import Kind, Schema, arrow_type

__all__ = ["Batch", "Piece", "batches", "pieces"]

BATCH_ROWS = 1 << 16
"""Rows in memory at a time."""

PIECE_ROWS = 1 << 19
"""Row groups of a Parquet file are put together up to so many rows: enough work for a task."""

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".txt": "text",
}

ROWS = ("image", "text")
"""Formats whose files are a row each."""

PICTURES = 256
"""Pictures or texts in memory at a time."""

PIECE_FILES = 4096
"""Pictures or texts that a task reads."""


@dataclass(frozen=True)
class Piece:
    """A file, some row groups of a Parquet file, or some pictures or texts.

    Attributes
    ----------
    first_row
        Number of its first row in the file, from 0.
    files
        Of pictures and texts, which: name below the source, and path.
    """

    path: str
    format: str
    num_bytes: int
    row_groups: tuple[int, ...] = ()
    first_row: int = 0
    files: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the file, for people."""
        return Path(self.path).name


@dataclass(frozen=True)
class Batch:
    """Rows of a piece.

    Attributes
    ----------
    source
        The columns as they are in the file: where keys are taken from.
    values
        The model's columns, as `Contract.check` takes them.
    rows
        Number of each row in its file, from 0, without the header.
    broken
        Records that are no rows: number, reason, text.
    """

    source: pa.Table
    values: Mapping[str, Any]
    rows: Sequence[int]
    broken: Sequence[tuple[int, str, str]] = ()


def pieces(source: str | Path | Sequence[str | Path]) -> list[Piece]:
    """What there is to read, in the order of the names.

    Raises
    ------
    SourceError
        A path, folder or glob matches nothing, or a file is of no known format.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    found = {file: name for one in sources for file, name in _files(Path(one).expanduser()).items()}
    kinds = {file: FORMATS.get(file.suffix.lower()) for file in found}
    tables = [piece for file, kind in kinds.items() if kind not in ROWS for piece in _pieces(file)]
    return tables or [
        piece for kind in ROWS for piece in _of_files(kind, [each for each in found.items() if kinds[each[0]] == kind])
    ]


def batches(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    """The rows of a piece; `schema` names the columns that the model reads.

    Raises
    ------
    SourceError
        The file is damaged or in another encoding.
    """
    read = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl, "image": _pictures, "text": _documents}[piece.format]
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


def _files(path: Path) -> dict[Path, str]:
    """File → its name below the source."""
    base = path if path.is_dir() else path.parent
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith((".", "_"))]
    elif path.exists():
        found = [path]
    else:
        found = sorted(file for file in path.parent.glob(path.name) if file.is_file())
    if not found:
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise errors.SourceError.build(
            f"predict: source '{path}'",
            got="nothing there",
            expected="a file, a folder or a glob that matches",
            hint=errors.did_you_mean(path.name, near) if near else None,
        )
    return {file: file.relative_to(base).as_posix() for file in found}


def _of_files(kind: str, files: Sequence[tuple[Path, str]]) -> list[Piece]:
    """Pictures and texts beside tables belong to these; alone they are the rows."""
    parts = [files[at : at + PIECE_FILES] for at in range(0, len(files), PIECE_FILES)]
    return [
        Piece(
            str(part[0][0]),
            kind,
            sum(file.stat().st_size for file, _ in part),
            files=tuple((name, str(file)) for file, name in part),
        )
        for part in parts
    ]


def _pieces(file: Path) -> list[Piece]:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS:
        raise errors.SourceError.build(
            f"predict: file '{file.name}'", got=suffix or "no suffix", expected="one of " + ", ".join(FORMATS)
        )
    whole = Piece(str(file), FORMATS[suffix], file.stat().st_size)
    return _row_groups(whole) if whole.format == "parquet" else [whole]


def _row_groups(whole: Piece) -> list[Piece]:
    try:
        metadata = pq.read_metadata(whole.path)
    except (pa.ArrowException, OSError) as error:
        raise errors.SourceError.build(
            f"predict: file '{whole.name}'", got=str(error).split("\n", maxsplit=1)[0], expected="Parquet"
        ) from error
    found: list[Piece] = []
    groups: list[int] = []
    first = rows = size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        groups.append(number)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= PIECE_ROWS or number == metadata.num_row_groups - 1:
            found.append(Piece(whole.path, "parquet", size, tuple(groups), first))
            first, rows, size, groups = first + rows, 0, 0, []
    return found or [whole]


def _parquet(piece: Piece, schema: Schema, _: Reading) -> Iterator[Batch]:
    first = piece.first_row
    file = pq.ParquetFile(piece.path)
    _check_names(piece, file.schema_arrow.names)
    if not file.metadata.num_rows:
        yield Batch(file.schema_arrow.empty_table(), {}, [])
    for batch in file.iter_batches(BATCH_ROWS, row_groups=list(piece.row_groups)):
        table = pa.Table.from_batches([batch])
        values = {name: table[name] for name in schema.names if name in table.column_names}
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


def _csv(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
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
    _check_names(piece, reader.schema.names)
    row, told = 0, 0
    for batch in reader:
        table = pa.Table.from_batches([batch])
        rows, row = _numbers(row, table.num_rows, {number for number, _, _ in broken})
        values = {
            column.name: _read(table[column.name], column.type)
            for column in schema
            if column.name in table.column_names
        }
        yield Batch(table, values, rows, broken[told:])
        told = len(broken)
    if not row or told < len(broken):
        yield Batch(reader.schema.empty_table(), {}, [], broken[told:])


def _check_names(piece: Piece, names: Sequence[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise errors.SourceError.build(
            f"predict: file '{piece.name}'",
            got=f"{names.count(twice[0])} columns named '{twice[0]}'",
            expected="each name once",
            field=twice[0],
        )


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


def _jsonl(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
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

"""CSV and TSV files: cells as text, and lines with too few or too many cells as bad records."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mlsys import errors
from mlsys.readers import csv_layout, decoding
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, checked_names
from mlsys.readers.conversion import NumberFormat
from mlsys.readers.csv_layout import Layout
from mlsys.recipe import Reading

BLOCK_BYTES = 1 << 24
"""Bytes of CSV parsed at a time, and so the longest record."""


class CsvReader(Reader):
    """CSV files with a header; a file named .tsv has tabs unless the recipe states a delimiter."""

    format = "csv"
    suffixes = (".csv", ".tsv", ".txt")

    def numbers(self, fragment: Fragment, reading: Reading) -> NumberFormat:
        return NumberFormat(reading.decimal, reading.thousands)

    def messages(self, fragment: Fragment, reading: Reading) -> list[str]:
        with decoding.opened(fragment, reading) as text:
            return _layout(fragment, reading, text)[0].messages

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        grows = growth is not None
        with decoding.opened(fragment, reading, grows=grows) as text:
            shape, rest = _layout(fragment, reading, text)
            delimiter, number = shape.delimiter, 2 if shape.names is None else 1  # of the first row, as Arrow counts
            skipped = list[int]()

            def skip(record: pacsv.InvalidRow) -> str:
                width = record.expected_columns - shape.has_end
                reason = f"cells: {record.actual_columns} in a table of {width} columns"
                skipped.append(record.number - number)
                bad_records.append(BadRecord(skipped[-1], reason, record.text))
                return "skip"

            try:
                reader = pacsv.open_csv(
                    pa.PythonFile(io.BufferedReader(rest, BLOCK_BYTES), "r"),
                    pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=_all_names(shape)),
                    pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
                    pacsv.ConvertOptions(
                        default_column_type=pa.string(), strings_can_be_null=True, null_values=list(reading.null_values)
                    ),
                )
                names = checked_names(fragment, reader.schema.names)
                _refuse_other_delimiter(fragment, names)
                tables = (pa.Table.from_batches([batch]).rename_columns(names) for batch in reader)
                read = _numbered(tables, names, skipped)
                yield from _without_end(read, names, delimiter, bad_records) if shape.has_end else read
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    return
                decoding.check_quotes(fragment, reading, delimiter, skipped=shape.skipped, grows=grows)
                raise errors.SourceError.damaged(fragment.name, str(error)) from None
        if text.has_quotes:
            decoding.check_quotes(fragment, reading, delimiter, skipped=shape.skipped, grows=grows)
        if growth is not None and text.rest.strip():
            growth.unfinished.append(text.rest.decode())


class _Resumed(io.RawIOBase):
    """A stream of which the first bytes were read before."""

    def __init__(self, head: bytes, stream: io.RawIOBase) -> None:
        super().__init__()
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._head:
            return self._stream.readinto(buffer) or 0
        taken, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _layout(fragment: Fragment, reading: Reading, text: io.RawIOBase) -> tuple[Layout, io.RawIOBase]:
    """The layout of a text, and the text from its first record or row on."""
    head, is_whole = _head(text, reading.header_line or 0)
    delimiter = _delimiter(fragment, reading)
    shape = csv_layout.find(head, delimiter, reading.header_line, is_whole=is_whole, source=fragment.name)
    return shape, _Resumed(head[shape.skipped :], text)


def _head(text: io.RawIOBase, header_line: int) -> tuple[bytes, bool]:
    """The first bytes of a text, enough for some rows below the line of the header; and whether they are all of it."""
    head, end, num_lines = bytearray(), csv_layout.HEAD_BYTES, 0
    while len(head) < end:
        part = text.read(end - len(head))
        if not part:
            return bytes(head), True
        head += part
        num_lines += max(part.count(b"\n"), part.count(b"\r"))
        if num_lines < header_line:
            end = min(len(head) + csv_layout.HEAD_BYTES, csv_layout.MAX_HEAD_BYTES)
    return bytes(head), False


def _all_names(shape: Layout) -> list[str] | None:
    return None if shape.names is None else [*shape.names, *([""] if shape.has_end else [])]


def _numbered(tables: Iterable[pa.Table], names: list[str], skipped: list[int]) -> Iterator[Batch]:
    """Batches with the numbers of their rows, which each skipped record before a row moves on; an empty one if none."""
    before = 0
    for table in tables:
        ordinals = np.arange(before, before + table.num_rows)
        moved = np.searchsorted(np.array(skipped, np.int64) - np.arange(len(skipped)), ordinals, side="right")
        before += table.num_rows
        yield Batch(table, ordinals + moved)
    if not before:
        yield Batch(pa.table({name: pa.array([], pa.string()) for name in names}), np.arange(0))


def _without_end(
    read: Iterator[Batch], names: list[str], delimiter: str, bad_records: list[BadRecord]
) -> Iterator[Batch]:
    """Batches without the column behind the last delimiter of each line; a record with a value there is no row."""
    for batch in read:
        is_row = pc.equal(pc.utf8_length(batch.table[names[-1]].fill_null("")), 0).combine_chunks()
        if is_row.false_count:
            reason = f"cells: {len(names)} in a table of {len(names) - 1} columns"
            numbers = batch.rows[~np.asarray(is_row)]
            wide = batch.table.filter(pc.invert(is_row)).to_pylist()
            texts = [delimiter.join(value or "" for value in record.values()) for record in wide]
            bad_records += [BadRecord(int(row), reason, text) for row, text in zip(numbers, texts, strict=True)]
        yield Batch(batch.table.filter(is_row).select(names[:-1]), batch.rows[np.asarray(is_row)])


def _delimiter(fragment: Fragment, reading: Reading) -> str:
    is_tsv = re.search(r"\.tsv(\.|$)", fragment.path.lower()) is not None
    return "\t" if is_tsv and reading.delimiter == "," else reading.delimiter


def _refuse_other_delimiter(fragment: Fragment, names: list[str]) -> None:
    if len(names) == 1 and (mark := re.search(r"[;\t|]", names[0])):
        got = f"one column, {names[0]!r}"
        hint = f"data.reading.delimiter: {json.dumps(mark[0])}"
        expected = "a header of several columns"
        raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=got, expected=expected, hint=hint)

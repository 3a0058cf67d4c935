"""CSV and TSV files: cells as text, and lines with too few or too many cells as bad records."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from mlsys import errors
from mlsys.readers import decoding
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, checked_names
from mlsys.readers.conversion import NumberFormat
from mlsys.recipe import Reading

BLOCK_BYTES = 1 << 24
"""Bytes of CSV parsed at a time, and so the longest record."""


class CsvReader(Reader):
    """CSV files with a header; a file named .tsv has tabs unless the recipe states a delimiter."""

    format = "csv"
    suffixes = (".csv", ".tsv", ".txt")

    def numbers(self, fragment: Fragment, reading: Reading) -> NumberFormat:
        return NumberFormat(reading.decimal, reading.thousands)

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        delimiter, grows = _delimiter(fragment, reading), growth is not None

        def skip(record: pacsv.InvalidRow) -> str:
            reason = f"cells: {record.actual_columns} in a table of {record.expected_columns} columns"
            bad_records.append(BadRecord(record.number - 2, reason, record.text))  # counted from 1, after the header
            return "skip"

        with decoding.opened(fragment, reading, grows=grows) as text:
            try:
                reader = pacsv.open_csv(
                    pa.PythonFile(io.BufferedReader(text, BLOCK_BYTES), "r"),
                    pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                    pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
                    pacsv.ConvertOptions(
                        default_column_type=pa.string(), strings_can_be_null=True, null_values=list(reading.null_values)
                    ),
                )
                names = checked_names(fragment, reader.schema.names)
                _refuse_other_delimiter(fragment, names)
                tables = (pa.Table.from_batches([batch]).rename_columns(names) for batch in reader)
                yield from _numbered(tables, names, bad_records)
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    raise errors.SourceError.empty(fragment.name) from None
                decoding.check_quotes(fragment, reading, delimiter, grows=grows)
                raise errors.SourceError.damaged(fragment.name, str(error)) from None
        if text.has_quotes:
            decoding.check_quotes(fragment, reading, delimiter, grows=grows)
        if growth is not None and text.rest.strip():
            growth.unfinished.append(text.rest.decode())


def _numbered(tables: Iterable[pa.Table], names: list[str], bad_records: list[BadRecord]) -> Iterator[Batch]:
    """Batches with the numbers of their rows, which each bad record before a row moves on; an empty one if none."""
    before = 0
    for table in tables:
        skipped = np.array([record.row for record in bad_records], np.int64)
        ordinals = np.arange(before, before + table.num_rows)
        moved = np.searchsorted(skipped - np.arange(len(skipped)), ordinals, side="right")
        before += table.num_rows
        yield Batch(table, ordinals + moved)
    if not before:
        yield Batch(pa.table({name: pa.array([], pa.string()) for name in names}), np.arange(0))


def _delimiter(fragment: Fragment, reading: Reading) -> str:
    is_tsv = re.search(r"\.tsv(\.|$)", fragment.location.lower()) is not None
    return "\t" if is_tsv and reading.delimiter == "," else reading.delimiter


def _refuse_other_delimiter(fragment: Fragment, names: list[str]) -> None:
    if len(names) == 1 and (mark := re.search(r"[;\t|]", names[0])):
        got = f"one column, {names[0]!r}"
        hint = f"data.reading.delimiter: {json.dumps(mark[0])}"
        expected = "a header of several columns"
        raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=got, expected=expected, hint=hint)

"""Excel workbooks (extra ``excel``): one sheet as a table, cells as text.

The names of the columns stand in the first row that is about as full as the table is wide; titles above it are left
out. Formulas count by the value that Excel stored last; errors such as ``#N/A`` are missing values. Numbers that are
stored as text are read as those of CSV files.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import errors
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, TypeCounts, checked_names
from mlsys.readers.csv_layout import MAX_ABOVE, distinct
from mlsys.readers.records import RECORDS, as_text
from mlsys.recipe import Reading

FULL = 0.8
"""Fraction of the cells of the widest row that the row of the names has at least."""
HEAD_ROWS = 100
"""Rows in which the names are looked for, and which tell how wide the table is."""
FAULTS = {"#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"}


class ExcelReader(Reader):
    """A sheet of a workbook; ``data.reading.sheet`` chooses another than the first that is filled."""

    format = "excel"
    suffixes = (".xlsx", ".xlsm")

    def messages(self, fragment: Fragment, reading: Reading) -> list[str]:
        with _opened(fragment) as book:
            sheet, others = _sheet(fragment, book, reading)
            first, names, about = _header(fragment, sheet, reading)
            del names
            if others and reading.sheet is None:
                shown = ", ".join(repr(name) for name in others[:5])
                about.append(f"sheet '{sheet.title}' is read, not {shown}; data.reading.sheet names another")
            if first > 1 and reading.header_line is None:
                lines = f"the first {first - 1} rows stand" if first > 2 else "the first row stands"
                about.append(f"{lines} above the table: left out; data.reading.header_line: {first}")
            return about

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        with _opened(fragment) as book:
            sheet, _ = _sheet(fragment, book, reading)
            first, header, _ = _header(fragment, sheet, reading)
            if not header:
                return
            names, number = checked_names(fragment, header), 0
            rows = (list(row[: len(names)]) for row in sheet.iter_rows(min_row=first + 1, values_only=True))
            filled = (row + [None] * (len(names) - len(row)) for row in rows if any(cell is not None for cell in row))
            while some := list(islice(filled, RECORDS)):
                columns = dict(zip(names, zip(*some, strict=True), strict=True))
                yield _batch(columns, np.arange(number, number + len(some)), set(reading.null_values) | FAULTS)
                number += len(some)


def _batch(columns: Mapping[str, Sequence[Any]], rows: Any, nulls: set[str]) -> Batch:
    arrays, types = {}, {}
    for name, cells in columns.items():
        values = [None if isinstance(cell, str) and cell.strip() in nulls else cell for cell in cells]
        num_texts = sum(isinstance(value, str) for value in values)
        if 0 < num_texts < sum(value is not None for value in values):  # numbers and texts, which are told apart
            types[name] = TypeCounts(quoted=num_texts, is_json=True)
        arrays[name] = pa.array([_text(value) for value in values], pa.string())
    return Batch(pa.table(arrays), rows, types)


def _text(value: Any) -> str | None:
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    return as_text(value)


@contextmanager
def _opened(fragment: Fragment) -> Iterator[Any]:
    try:
        import openpyxl
    except ImportError:
        where, hint = f"collect: source '{fragment.name}'", "uv pip install 'mlsys[excel]'"
        got = "no package 'openpyxl' in this environment"
        raise errors.SourceError.build(where, got=got, expected="the extra for Excel workbooks", hint=hint) from None
    with fragment.open() as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except Exception as error:  # noqa: BLE001  (a damaged workbook fails in zip, XML and openpyxl itself)
            raise errors.SourceError.damaged(fragment.name, f"{type(error).__name__}: {error}") from None
        try:
            yield book
        finally:
            book.close()


def _sheet(fragment: Fragment, book: Any, reading: Reading) -> tuple[Any, list[str]]:
    """The sheet that is asked for, or the first visible one with cells, and the names of the others with cells."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    for sheet in sheets.values():
        sheet.reset_dimensions()
    if reading.sheet is not None:
        titles, title = list(sheets), reading.sheet
        if isinstance(title, int) and 1 <= title <= len(titles):
            title = titles[title - 1]
        if title not in sheets:
            where, hint = f"collect: source '{fragment.name}'", errors.did_you_mean(str(title), titles)
            got = f"no sheet {title!r}"
            raise errors.SourceError.build(
                where, got=got, expected="a sheet of the workbook", hint=hint, field="data.reading.sheet"
            )
        return sheets[title], []
    visible = [sheet for sheet in sheets.values() if sheet.sheet_state == "visible"] or list(sheets.values())
    filled = [sheet for sheet in visible if any(any(row) for row in islice(sheet.iter_rows(values_only=True), 100))]
    chosen, *others = filled or visible[:1]
    return chosen, [sheet.title for sheet in others]


def _header(fragment: Fragment, sheet: Any, reading: Reading) -> tuple[int, list[str], list[str]]:
    """The number of the row with the names, counted from 1; the names; and sentences about them."""
    stated = reading.header_line
    head = list(islice(sheet.iter_rows(min_row=stated or 1, values_only=True), HEAD_ROWS))
    first = _place(head) if stated is None else 0
    table = head[first:]
    width = max((place for cells in table for place, cell in enumerate(cells, 1) if cell is not None), default=0)
    cells = [*(table[0] if table else ()), *[None] * width][:width]
    if stated is not None and not any(cell is not None for cell in cells):
        raise errors.SourceError.no_header(fragment.name, stated)
    names, messages = distinct(["" if cell is None else " ".join(str(cell).split()) for cell in cells])
    return first + (stated or 1), names, messages


def _place(head: Sequence[Sequence[Any]]) -> int:
    """Place of the row with the names: the first that is about as full as the fullest."""
    filled = [sum(cell is not None for cell in row) for row in head]
    full = FULL * max(filled, default=0)
    first = next((place for place, cells in enumerate(filled) if cells and cells >= full), 0)
    return first if first < MAX_ABOVE else 0

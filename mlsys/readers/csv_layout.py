"""The layout of a delimited text: where its header stands, and marks of the programs that write such files.

Found out from the first records: a first line ``sep=;``; titles, comments and blank lines above the header; delimiters
at the end of every line; names of rows that have no name of their own, as R writes them; a name that stands twice.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlsys import errors

HEAD_BYTES, MAX_HEAD_BYTES = 1 << 16, 1 << 24
"""Bytes of the text that are looked at; and at most, to come to the line of the header that the recipe states."""
MAX_ABOVE = 30
"""Records above a header at most."""
SEPARATOR = re.compile(r'"?sep=(?P<mark>.)"?;*\r?\n', re.IGNORECASE)
FEW = 3
"""Records below which nothing is concluded from their number of cells."""
MOST = 0.75
"""Fraction of the rows that are as wide as a row is; the others are broken."""


@dataclass(frozen=True)
class Layout:
    """The layout of a text.

    Attributes
    ----------
    names
        Names of the columns, where they are not simply the first record; else None.
    skipped
        Bytes before the first record, or before the first row if there are `names`.
    has_end
        Whether each line ends in a delimiter, which is one more column without values.
    messages
        Sentences about what is unusual.
    """

    delimiter: str
    names: list[str] | None = None
    skipped: int = 0
    has_end: bool = False
    messages: list[str] = field(default_factory=list)


def find(
    head: bytes, delimiter: str, header_line: int | None = None, *, is_whole: bool, source: str = "a text"
) -> Layout:
    """The layout of a text that begins with `head`; `is_whole` if that is all of it.

    Raises
    ------
    SourceError
        `header_line` is beyond the last line of `head`.
    """
    text = head.decode(errors="ignore")
    start = 0
    if separator := SEPARATOR.match(text):
        delimiter, start = separator["mark"], separator.end()
    records, ends = _records(text[start:], delimiter, is_whole=is_whole)
    first = _header(records) if header_line is None else _stated(ends, header_line - bool(start), source)
    names, has_end, messages = _names(records[first:])
    if first:
        above = "; ".join(delimiter.join(cells)[:60] for cells in records[:first][:2])
        shown = f"the first {first} lines" if first > 1 else "the first line"
        line = ends[first][0] + bool(start)
        messages.insert(0, f"{shown} ({above}) stand above the table: left out; data.reading.header_line: {line}")
    if names is None and not first:
        return Layout(delimiter, None, len(text[:start].encode()), has_end=False, messages=messages)
    header = records[first] if records else []
    skipped = len(text[: start + ends[first][1]].encode())
    return Layout(delimiter, names if names is not None else header, skipped, has_end, messages)


def _stated(ends: Sequence[tuple[int, int]], line: int, source: str) -> int:
    """Number of the record that ends in the line that the recipe states or, where that is blank, of the next one."""
    for number, (end, _) in enumerate(ends):
        if end >= line:
            return number
    if not ends:  # no records at all, which is told elsewhere
        return 0
    raise errors.SourceError.no_header(source, line)


def distinct(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names, those that stand again numbered as pandas does, and a sentence about them.

    >>> distinct(["a", "b", "a"])
    (['a', 'b', 'a.1'], ["column 'a' stands twice: the later one is 'a.1'"])
    """
    counts, result, taken, messages = Counter[str](), list[str](), set[str](), list[str]()
    for name in names:
        new = name
        while name and new in taken:
            counts[name] += 1
            new = f"{name}.{counts[name]}"
        if new != name:
            messages.append(f"column '{name}' stands twice: the later one is '{new}'")
        result.append(new)
        taken.add(new)
    return result, messages


def _records(text: str, delimiter: str, *, is_whole: bool) -> tuple[list[list[str]], list[tuple[int, int]]]:
    """Records that are not blank, with the line and the character at which each ends; the last one may be cut."""
    consumed = [0]

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            consumed[0] += len(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter)
    records, ends = [], []
    try:
        for record in reader:
            if record:
                records.append([cell.strip() for cell in record])
                ends.append((reader.line_num, consumed[0]))
    except csv.Error:
        pass
    return (records, ends) if is_whole else (records[:-1], ends[:-1])


def _header(records: Sequence[Sequence[str]]) -> int:
    """Number of the record that holds the names: the first that is about as wide as most are."""
    widths = [len(record) for record in records]
    if len(widths) <= FEW:
        return 0
    usual, number = Counter(widths).most_common(1)[0]
    if usual < 2 or 2 * number < len(widths):
        return 0
    is_title = widths[0] == 1 and usual == 2 and not _is_number(records[1][-1])
    is_near = abs(widths[0] - usual) <= 1 and not is_title and (widths[0] > 1 or usual == 2)
    if widths[0] == usual or is_near:
        return 0
    first = next((i for i, width in enumerate(widths) if abs(width - usual) <= 1 and (width > 1)), 0)
    return first if first <= MAX_ABOVE else 0


def _names(records: Sequence[list[str]]) -> tuple[list[str] | None, bool, list[str]]:
    """Names where they are not the first record, whether lines end in a delimiter, and messages."""
    if not records:
        return None, False, []
    header, rows = records[0], records[1:]
    named, messages = distinct(header)
    names = named if messages else None
    usual, number = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    rows = [row for row in rows if len(row) == usual]
    more = usual - len(header) if number > 1 and number >= MOST * len(records[1:]) else None
    if (more == 0 and len(header) > 1 and not any(row[-1] for row in [header, *rows])) or (
        more == -1 and not header[-1]
    ):
        return named[:-1], more == 0, messages
    if more == 1:
        has_end = not any(row[-1] for row in rows)
        return named if has_end else ["", *named], has_end, messages
    return names, False, messages


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?", cell) is not None

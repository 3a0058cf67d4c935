"""Decode the bytes of a file to UTF-8 text, unpacked, or raise an error that names the byte and the line.

A file is decoded strictly and as a whole: reading on behind a broken byte, or dropping
its row, would lose just the rows with accents and say nothing.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from mlsys import errors
from mlsys.readers.base import Fragment
from mlsys.recipe import Reading

CHUNK_BYTES = 1 << 20

BINARY = {
    rb"PK\x03\x04": (
        "a zip archive, or a file of Excel",
        "a name that ends in .zip is unpacked, one in .xlsx is read as a workbook",
    ),
    rb"PAR1[\x00-\x1f]": ("a Parquet file", "data.reading.format: parquet"),
    rb"\xd0\xcf\x11\xe0": ("a file of an old Excel (.xls)", "save it as .xlsx or as CSV"),
    rb"SQLite format 3\x00": ("a SQLite database", "sqlite:///path, with data.reading.query"),
    rb"\x28\xb5\x2f\xfd": ("a file packed by zstd", "unpack it, or pack it as .gz"),
}
"""First bytes of files that are no text → the format, and how to read it."""


START_BYTES = 64
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte-order marks of encodings; the longer ones first."""

UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""First bytes of packed files, whatever they are called → what unpacks them."""

UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""Exceptions of a file that is cut or damaged, packed or not."""


class DecodedText(io.RawIOBase):
    """A stream of UTF-8 bytes made of bytes in any encoding; a byte-order mark is taken off.

    Attributes
    ----------
    has_quotes
        Whether a double quote went through so far.
    rest
        Of a file that grows, what stands behind the last line end: half a line, for all one knows.
    """

    def __init__(self, raw: BinaryIO, fragment: Fragment, encoding: str, *, grows: bool) -> None:
        super().__init__()
        self.has_quotes, self.rest = False, b""
        self._raw, self._fragment, self._encoding, self._grows = raw, fragment, encoding, grows
        self._decoder = _decoder(encoding)
        self._ready = b""
        self._bytes_before, self._lines_before, self._ended = 0, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            self._ready = self._whole_lines(self._decode(self._fetch()))
        taken = self._ready[: len(buffer)]
        self._ready = self._ready[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def _whole_lines(self, text: bytes) -> bytes:
        if not self._grows:
            return text
        end = text.rfind(b"\n") + 1
        whole, self.rest = (self.rest + text[:end], text[end:]) if end else (b"", self.rest + text)
        return whole

    def _fetch(self) -> bytes:
        try:
            chunk = self._raw.read(CHUNK_BYTES)
        except UNREADABLE as error:
            raise errors.SourceError.damaged(self._fragment.name, str(error)) from error
        self._ended = not chunk
        return chunk

    def _decode(self, chunk: bytes) -> bytes:
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            line = self._lines_before + error.object[: error.start].count(b"\n") + 1
            offset = self._bytes_before - len(pending) + error.start
            byte = error.object[error.start]
            raise errors.SourceError.encoding(self._fragment.name, self._encoding, byte, offset, line) from None
        if not self._bytes_before:
            text = text.removeprefix("\ufeff")
        self._bytes_before += len(chunk)
        self._lines_before += text.count("\n")
        self.has_quotes = self.has_quotes or '"' in text
        return text.encode()


@contextlib.contextmanager
def opened(fragment: Fragment, reading: Reading, *, grows: bool = False) -> Iterator[DecodedText]:
    """Open the text of a file, unpacked if its name ends in .gz or .zip; only its whole lines if it grows."""
    with fragment.open() as file, _unpacked(file, fragment) as raw:
        start = _start(raw, fragment)
        _refuse_binary(start, fragment)
        yield DecodedText(raw, fragment, encoding_of(start, reading.encoding), grows=grows)


def encoding_of(start: bytes, encoding: str) -> str:
    r"""The encoding that the first bytes of a text prove, where the recipe leaves it at UTF-8.

    A mark says it, and so does a zero in every second byte: Latin letters in UTF-16.

    >>> encoding_of(b"a\0,\0b\0\n\0", "utf-8"), encoding_of(b"a,b", "utf-8")
    ('utf-16-le', 'utf-8')
    """
    if encoding.lower().replace("_", "-") not in {"utf-8", "utf8"}:
        return encoding
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return name
    even, odd = start[::2], start[1::2]
    if len(start) >= 4 and not any(odd) and all(even):
        return "utf-16-le"
    if len(start) >= 4 and not any(even) and all(odd):
        return "utf-16-be"
    return encoding


def _start(raw: BinaryIO, fragment: Fragment) -> bytes:
    try:
        start = raw.read(START_BYTES)
        raw.seek(0)
    except UNREADABLE as error:
        raise errors.SourceError.damaged(fragment.name, str(error)) from error
    return start


def _refuse_binary(start: bytes, fragment: Fragment) -> None:
    for magic, (name, hint) in BINARY.items():
        if re.match(magic, start):
            raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=name, expected="text", hint=hint)


def check_quotes(
    fragment: Fragment, reading: Reading, delimiter: str, *, skipped: int = 0, grows: bool = False
) -> None:
    """Refuse a CSV file in which a quote is left open or closed in the middle of a cell.

    Such a quote makes everything up to the next one a single cell, and a reader that goes
    on loses those rows without a word. Only files with quotes need this second look.

    Raises
    ------
    SourceError
        Names the line at which the row with the quote begins.
    """
    limit = csv.field_size_limit(1 << 30)
    ended = 0
    try:
        with opened(fragment, reading, grows=grows) as text:
            buffered = io.BufferedReader(text, CHUNK_BYTES)
            ended = buffered.read(skipped).count(b"\n")
            before = ended
            lines = io.TextIOWrapper(buffered, "utf-8", newline="")
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            for _ in rows:
                ended = before + rows.line_num
    except csv.Error:
        raise errors.SourceError.stray_quote(fragment.name, ended + 1) from None
    finally:
        csv.field_size_limit(limit)


@contextlib.contextmanager
def _unpacked(file: BinaryIO, fragment: Fragment) -> Iterator[BinaryIO]:
    try:
        start = file.read(6)
        file.seek(0)
        unpack = next((each for magic, each in UNPACKERS.items() if start.startswith(magic)), None)
        if unpack is not None:
            with unpack(file) as unpacked:
                yield unpacked
        elif fragment.member is None and fragment.path.lower().endswith(".zip"):
            with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, fragment)) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield file
    except zipfile.BadZipFile as error:
        raise errors.SourceError.damaged(fragment.name, str(error)) from error


def _only_member(archive: zipfile.ZipFile, fragment: Fragment) -> str:
    members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(members) != 1:
        got = f"{len(members)} files in the archive"
        hint = "unpack it and name the folder"
        raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=got, expected="one", hint=hint)
    return members[0]


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        with contextlib.suppress(UnicodeError):
            b"a".decode(encoding)  # rot13 and base64 are codecs too, but none of text
        return codecs.getincrementaldecoder(encoding)("strict")
    except LookupError:
        expected = "a name that Python knows, e.g. utf-8, latin-1, cp1252, utf-16"
        raise errors.RecipeError.build(
            "recipe: 'data.reading.encoding'", got=repr(encoding), expected=expected, field="data.reading.encoding"
        ) from None

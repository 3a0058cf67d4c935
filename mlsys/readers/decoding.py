"""Decode the bytes of a file to UTF-8 text, unpacked, or raise an error that names the byte and the line.

A file is decoded strictly and as a whole: reading on behind a broken byte, or dropping
its row, would lose just the rows with accents and say nothing.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mlsys import errors
from mlsys.readers.base import Fragment
from mlsys.recipe import Reading

CHUNK_BYTES = 1 << 20

BINARY = {
    rb"\x1f\x8b": ("a gzip file", "a name that ends in .gz is unpacked"),
    rb"PK\x03\x04": (
        "a zip archive, or a file of Excel",
        "a name that ends in .zip is unpacked; Excel can save as CSV",
    ),
    rb"PAR1[\x00-\x1f]": ("a Parquet file", "data.reading.format: parquet"),
    rb"SQLite format 3\x00": ("a SQLite database", "sqlite:///path, with data.reading.query"),
    rb"\x28\xb5\x2f\xfd": ("a file packed by zstd", "unpack it, or pack it as .gz"),
    rb"BZh[1-9]1AY&SY": ("a file packed by bzip2", "unpack it, or pack it as .gz"),
}
"""First bytes of files that are no text → the format, and how to read it."""


UNREADABLE = (EOFError, OSError, zlib.error, zipfile.BadZipFile)
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
        _refuse_binary(raw, fragment)
        yield DecodedText(raw, fragment, reading.encoding, grows=grows)


def _refuse_binary(raw: BinaryIO, fragment: Fragment) -> None:
    try:
        start = raw.read(16)
        raw.seek(0)
    except UNREADABLE as error:
        raise errors.SourceError.damaged(fragment.name, str(error)) from error
    for magic, (name, hint) in BINARY.items():
        if re.match(magic, start):
            raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=name, expected="text", hint=hint)


def check_quotes(fragment: Fragment, reading: Reading, delimiter: str, *, grows: bool = False) -> None:
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
            lines = io.TextIOWrapper(io.BufferedReader(text, CHUNK_BYTES), "utf-8", newline="")
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            for _ in rows:
                ended = rows.line_num
    except csv.Error:
        raise errors.SourceError.stray_quote(fragment.name, ended + 1) from None
    finally:
        csv.field_size_limit(limit)


@contextlib.contextmanager
def _unpacked(file: BinaryIO, fragment: Fragment) -> Iterator[BinaryIO]:
    name = fragment.location.lower()
    try:
        if name.endswith(".gz"):
            with gzip.open(file) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif name.endswith(".zip"):
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

"""Pictures as rows: a folder of PNG and JPEG files, and columns of bytes or of paths.

A folder becomes a table of three columns: ``file``, the name below the folder; ``label``, the
name of the folder that holds it, null at the top; ``image``, its bytes. Paths in a column are
read into bytes, so that a snapshot holds all that it needs. A picture that cannot be read or
does not decode is null with its reason, one of few, which the quarantine counts.

Documents as rows: a folder of text files, one a row.

It becomes a table of three columns: ``file``, the name below the folder; ``label``, the name
of the folder that holds it, null at the top; ``text``, what it says. A file that is not in
the encoding of ``data.reading`` goes to quarantine with the place of the first wrong byte,
and the others stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from mlsys import errors, images
from mlsys.readers import file_listing
from mlsys.readers.base import BadRecord, Batch, Fragment
from mlsys.readers.file_listing import File
from mlsys.recipe import Reading

__all__ = [
    "FOLDER",
    "IMAGE",
    "IMAGE_FILE",
    "IMAGE_LABEL",
    "IMAGE_ROWS",
    "MAX_BYTES",
    "TEXT",
    "TEXT_FILE",
    "TEXT_LABEL",
    "TEXT_ROWS",
    "image_rows",
    "named",
    "taken",
    "text_rows",
]

IMAGE_FILE, IMAGE_LABEL, IMAGE = "file", "label", "image"
FOLDER = pa.schema([(IMAGE_FILE, pa.string()), (IMAGE_LABEL, pa.string()), (IMAGE, pa.binary())])
"""Columns of a folder of pictures."""

IMAGE_ROWS = 256
"""Pictures in memory at a time."""

MAX_BYTES = 1 << 26
"""Bytes of a file at most: 64 MiB, twice what `images.MAX_PIXELS` take in a careless JPEG."""


def image_rows(piece: Fragment) -> Iterator[Batch]:
    """The files of a folder piece, bytes as they are."""
    for first in range(0, len(piece.files), IMAGE_ROWS):
        files = piece.files[first : first + IMAGE_ROWS]
        data = pa.array([_bytes(file) for file in files], pa.binary())
        yield Batch(named(files).append_column(IMAGE, data), np.arange(first, first + len(files)))


def named(files: Sequence[File]) -> pa.Table:
    """Names and labels of files, without their bytes."""
    columns = {
        IMAGE_FILE: [file.name for file in files],
        IMAGE_LABEL: [PurePosixPath(file.name).parent.name or None for file in files],
    }
    return pa.table(columns, schema=pa.schema([FOLDER.field(name) for name in columns]))


def taken(values: pa.Array, location: str) -> tuple[pa.Array, dict[str, pa.Array]]:
    """Bytes, or the bytes that paths name, and the mask of the rows without by reason.

    Parameters
    ----------
    location
        Of the table: paths that are not absolute count from its folder.
    """

    def look(value: bytes | str | None) -> tuple[bytes | None, str | None]:
        data, reason = _at(value, location) if isinstance(value, str) else (value, None)
        return data, reason or (None if data is None else images.fault(data))

    found = images.each(look, values.to_pylist())
    kept = pa.array([None if reason else data for data, reason in found], pa.binary())
    reasons = dict.fromkeys(reason for _, reason in found if reason)
    return kept, {wanted: pa.array([reason == wanted for _, reason in found], pa.bool_()) for wanted in reasons}


def _bytes(file: File) -> bytes:
    with file_listing.open_file(file.name, file.location) as opened:
        return opened.read()


def _at(path: str, location: str) -> tuple[bytes | None, str | None]:
    """Bytes of a path or URI, or why there are none."""
    scheme = file_listing.scheme(path)
    if scheme and scheme not in file_listing.REMOTE:
        return None, f"{scheme}:// is not read"
    where = path if scheme else _beside(path, location)
    try:
        with file_listing.open_file(path, where) as opened:
            data = opened.read(MAX_BYTES + 1)
    except (errors.SourceError, OSError, ValueError):
        return None, "no file there that can be read"
    return (data, None) if len(data) <= MAX_BYTES else (None, f"more than {MAX_BYTES:,} bytes")


def _beside(path: str, location: str) -> str:
    """Place of a path that counts from the folder of `location`."""
    if file_listing.scheme(location):
        return path if path.startswith("/") else f"{location.rpartition('/')[0]}/{path}"
    return str(Path(location).parent / path)


TEXT_FILE, TEXT_LABEL, TEXT = "file", "label", "text"
COLUMNS = pa.schema([(name, pa.string()) for name in (TEXT_FILE, TEXT_LABEL, TEXT)])

TEXT_ROWS = 4_096
"""Documents in memory at a time."""


def text_rows(piece: Fragment, reading: Reading, broken: list[BadRecord]) -> Iterator[Batch]:
    """The files of a piece; those that cannot be decoded are appended to `broken`."""
    for first in range(0, len(piece.files), TEXT_ROWS):
        found = []
        for row, file in enumerate(piece.files[first : first + TEXT_ROWS], first):
            text, fault = _text(file, reading.encoding)
            if fault:
                broken.append(BadRecord(row, fault, text))
            else:
                found.append((row, file.name, PurePosixPath(file.name).parent.name or None, text))
        numbers, *columns = zip(*found, strict=True) if found else ([], [], [], [])
        arrays = [pa.array(list(column), pa.string()) for column in columns]
        yield Batch(pa.table(arrays, schema=COLUMNS), np.array(list(numbers), np.int64))


def _text(file: File, encoding: str) -> tuple[str, str | None]:
    """What a file says, a byte-order mark taken off, and why it does not say it."""
    with file_listing.open_file(file.name, file.location) as opened:
        data = opened.read()
    try:
        return data.decode(encoding).removeprefix("\ufeff"), None
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        return data.decode("latin-1"), f"file: {where} is not {encoding}"

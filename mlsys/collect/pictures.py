"""Pictures as rows: a folder of PNG and JPEG files, and columns of bytes or of paths.

A folder becomes a table of three columns: ``file``, the name below the folder; ``label``, the
name of the folder that holds it, null at the top; ``image``, its bytes. Paths in a column are
read into bytes, so that a snapshot holds all that it needs. A picture that cannot be read or
does not decode is null with its reason, one of few, which the quarantine counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from mlsys import errors, images
from mlsys.collect import listing
from mlsys.collect.batch import Batch
from mlsys.collect.listing import File
from mlsys.collect.piece import Piece

__all__ = ["FILE", "FOLDER", "IMAGE", "LABEL", "MAX_BYTES", "ROWS", "named", "rows", "taken"]

FILE, LABEL, IMAGE = "file", "label", "image"
FOLDER = pa.schema([(FILE, pa.string()), (LABEL, pa.string()), (IMAGE, pa.binary())])
"""Columns of a folder of pictures."""

ROWS = 256
"""Pictures in memory at a time."""

MAX_BYTES = 1 << 26
"""Bytes of a file at most: 64 MiB, twice what `images.MAX_PIXELS` take in a careless JPEG."""


def rows(piece: Piece) -> Iterator[Batch]:
    """The files of a folder piece, bytes as they are."""
    for first in range(0, len(piece.files), ROWS):
        files = piece.files[first : first + ROWS]
        data = pa.array([_bytes(file) for file in files], pa.binary())
        yield Batch(named(files).append_column(IMAGE, data), np.arange(first, first + len(files)))


def named(files: Sequence[File]) -> pa.Table:
    """Names and labels of files, without their bytes."""
    columns = {
        FILE: [file.name for file in files],
        LABEL: [PurePosixPath(file.name).parent.name or None for file in files],
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
    with listing.open_file(file.name, file.location) as opened:
        return opened.read()


def _at(path: str, location: str) -> tuple[bytes | None, str | None]:
    """Bytes of a path or URI, or why there are none."""
    scheme = listing.scheme(path)
    if scheme and scheme not in listing.REMOTE:
        return None, f"{scheme}:// is not read"
    where = path if scheme else _beside(path, location)
    try:
        with listing.open_file(path, where) as opened:
            data = opened.read(MAX_BYTES + 1)
    except (errors.SourceError, OSError, ValueError):
        return None, "no file there that can be read"
    return (data, None) if len(data) <= MAX_BYTES else (None, f"more than {MAX_BYTES:,} bytes")


def _beside(path: str, location: str) -> str:
    """Place of a path that counts from the folder of `location`."""
    if listing.scheme(location):
        return path if path.startswith("/") else f"{location.rpartition('/')[0]}/{path}"
    return str(Path(location).parent / path)

"""Documents as rows: a folder of text files, one a row.

It becomes a table of three columns: ``file``, the name below the folder; ``label``, the name
of the folder that holds it, null at the top; ``text``, what it says. A file that is not in
the encoding of ``data.reading`` goes to quarantine with the place of the first wrong byte,
and the others stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from mlsys.collect import listing
from mlsys.collect.batch import Batch, Broken
from mlsys.collect.listing import File
from mlsys.collect.piece import Piece
from mlsys.recipe import Reading

__all__ = ["FILE", "LABEL", "ROWS", "TEXT", "rows"]

FILE, LABEL, TEXT = "file", "label", "text"
COLUMNS = pa.schema([(name, pa.string()) for name in (FILE, LABEL, TEXT)])

ROWS = 4_096
"""Documents in memory at a time."""


def rows(piece: Piece, reading: Reading, broken: list[Broken]) -> Iterator[Batch]:
    """The files of a piece; those that cannot be decoded are appended to `broken`."""
    for first in range(0, len(piece.files), ROWS):
        found = []
        for row, file in enumerate(piece.files[first : first + ROWS], first):
            text, fault = _text(file, reading.encoding)
            if fault:
                broken.append(Broken(row, fault, text))
            else:
                found.append((row, file.name, PurePosixPath(file.name).parent.name or None, text))
        numbers, *columns = zip(*found, strict=True) if found else ([], [], [], [])
        arrays = [pa.array(list(column), pa.string()) for column in columns]
        yield Batch(pa.table(arrays, schema=COLUMNS), np.array(list(numbers), np.int64))


def _text(file: File, encoding: str) -> tuple[str, str | None]:
    """What a file says, a byte-order mark taken off, and why it does not say it."""
    with listing.open_file(file.name, file.location) as opened:
        data = opened.read()
    try:
        return data.decode(encoding).removeprefix("\ufeff"), None
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        return data.decode("latin-1"), f"file: {where} is not {encoding}"

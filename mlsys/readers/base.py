"""A part of a source that a task reads by itself: where it is, what is in it, and whether it changed.

What readers hand on: rows as they were written, and records that are no rows.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors
from mlsys.collect.type_inference import TypeCounts
from mlsys.readers import file_listing
from mlsys.readers.file_listing import File
from mlsys.schema import FOLD, ROW

__all__ = ["BATCH_ROWS", "UNNAMED", "BadRecord", "Batch", "Fragment", "as_python", "checked_names", "sqlite_file"]


@dataclass(frozen=True)
class Fragment:
    """One file, data set or query result of a source.

    Attributes
    ----------
    name
        What reports call it: the file's name below its source, or the URI; no path of this machine.
    location
        Where it is: path, URI, data set or database URL.
    format
        csv, parquet, jsonl, image, text, sql, sklearn, delta, iceberg or increment.
    num_bytes
        Bytes at rest; 0 where nobody knows (databases, built-in sets).
    files
        Of a folder, the files that are a row each.
    identity
        Digest of what is known to hold these rows and never changes; None where bytes have to be hashed.
    version
        Of the table that a data file belongs to.
    """

    name: str
    location: str
    format: str
    num_bytes: int
    files: tuple[File, ...] = ()
    identity: str | None = None
    version: str | None = None

    @property
    def is_file(self) -> bool:
        return self.format not in ("sql", "sklearn") and self.identity is None

    def open(self) -> BinaryIO:
        """The bytes of a file, seekable, as they are at rest."""
        return file_listing.open_file(self.name, self.location)

    def digest(self) -> str | None:
        """SHA-256 of the bytes at rest, or what stands for it; None for what is no file."""
        if not self.is_file:
            return self.identity
        sha = hashlib.sha256()
        for file in self.files or [File(self.name, self.location, self.num_bytes)]:
            if self.files:
                sha.update(f"{file.name}\0{file.num_bytes}\0".encode())
            with file_listing.open_file(file.name, file.location) as opened:
                while chunk := opened.read(1 << 20):
                    sha.update(chunk)
        return sha.hexdigest()

    def changed(self) -> str:
        """When it was last changed, as text; new each time where nobody can tell."""
        if self.format == "sklearn" or self.identity is not None:
            return self.identity or ""
        if self.format == "sql":
            file = sqlite_file(self.location)
            return _changed(file) if file else uuid.uuid4().hex
        if self.files:
            changed = [[file.name, file.num_bytes, file_listing.changed(file.location)] for file in self.files]
            return hashlib.sha256(json.dumps(changed).encode()).hexdigest()
        return file_listing.changed(self.location)

    def check_unchanged(self, before: str) -> None:
        """Refuse a file that was written to while it was read: what was read is neither the old nor the new one.

        Raises
        ------
        SourceError
        """
        if self.is_file and self.changed() != before:
            raise errors.SourceError.build(
                f"collect: source '{self.name}'",
                got="a file that changed while it was read",
                expected="a file that is finished",
                hint="run again when it is; whoever writes it can write beside and rename",
            )


def _changed(database: Path) -> str:
    """When a SQLite database was last written to: what is new may still be in its write-ahead log alone."""
    log = database.with_name(f"{database.name}-wal")
    files = [database, log] if log.is_file() and log.stat().st_size else [database]
    return " ".join(str(file.stat().st_mtime_ns) for file in files)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database's URL."""
    scheme, _, rest = url.partition("://")
    return Path(rest.removeprefix("/").partition("?")[0]) if scheme.startswith("sqlite") else None


BATCH_ROWS = 1 << 17
"""Rows in memory at a time where a reader counts rows, and rows of a Parquet row group."""
UNNAMED = "unnamed_"
"""How a column without a name is called, followed by its position."""


@dataclass(frozen=True)
class BadRecord:
    """A record that is no row: its number in the piece, why, and its text."""

    row: int
    reason: str
    content: str


@dataclass
class Batch:
    """Rows of a piece: the values, their row numbers in the piece, and JSON types met by column."""

    table: pa.Table
    rows: NDArray[np.int64]
    json: dict[str, TypeCounts] = field(default_factory=dict)


def as_python(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as Python values; a time that Python's calendar does not have is the text that Arrow writes."""

    def plain(values: pa.ChunkedArray) -> list[Any]:
        try:
            return values.to_pylist()  # type: ignore[no-any-return]
        except (OverflowError, ValueError):
            return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]

    columns = [plain(values) for values in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def checked_names(piece: Fragment, names: Sequence[str]) -> list[str]:
    """The names, where each is there once; one that is empty gets a name."""
    named = [name or f"{UNNAMED}{at}" for at, name in enumerate(names)]
    twice = list(dict.fromkeys(name for name in named if named.count(name) > 1)) if len(set(named)) < len(named) else []
    if twice:
        raise errors.SourceError.duplicate_columns(piece.name, twice)
    for reserved in {ROW, FOLD} & set(named):
        raise errors.SourceError.build(
            f"collect: source '{piece.name}'",
            got=f"a column '{reserved}'",
            expected="names that mlsys does not use itself",
            hint="rename it in the source",
            field=reserved,
        )
    return named

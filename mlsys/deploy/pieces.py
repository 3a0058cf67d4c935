"""What batch prediction has to read, in pieces that are enough work for a task, and what is read of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors

__all__ = ["Batch", "Piece", "check_names", "find"]

PIECE_ROWS = 1 << 19
"""Row groups of a Parquet file are put together up to so many rows: enough work for a task."""

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".txt": "text",
}

ROWS = ("image", "text")
"""Formats whose files are a row each."""

PIECE_FILES = 4096
"""Pictures or texts that a task reads."""


@dataclass(frozen=True)
class Piece:
    """A file, some row groups of a Parquet file, or some pictures or texts.

    Attributes
    ----------
    first_row
        Number of its first row in the file, from 0.
    files
        Of pictures and texts, which: name below the source, and path.
    """

    path: str
    format: str
    num_bytes: int
    row_groups: tuple[int, ...] = ()
    first_row: int = 0
    files: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the file, for people."""
        return Path(self.path).name


@dataclass(frozen=True)
class Batch:
    """Rows of a piece.

    Attributes
    ----------
    source
        The columns as they are in the file: where keys are taken from.
    values
        The model's columns, as `Contract.check` takes them.
    rows
        Number of each row in its file, from 0, without the header.
    broken
        Records that are no rows: number, reason, text.
    """

    source: pa.Table
    values: Mapping[str, Any]
    rows: Sequence[int]
    broken: Sequence[tuple[int, str, str]] = ()


def check_names(piece: Piece, names: Sequence[str]) -> None:
    """Refuse a file in which a column stands twice."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise errors.SourceError.build(
            f"predict: file '{piece.name}'",
            got=f"{names.count(twice[0])} columns named '{twice[0]}'",
            expected="each name once",
            field=twice[0],
        )


def find(source: str | Path | Sequence[str | Path]) -> list[Piece]:
    """What there is to read, in the order of the names.

    Raises
    ------
    SourceError
        A path, folder or glob matches nothing, or a file is of no known format.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    found = {file: name for one in sources for file, name in _files(Path(one).expanduser()).items()}
    kinds = {file: FORMATS.get(file.suffix.lower()) for file in found}
    tables = [piece for file, kind in kinds.items() if kind not in ROWS for piece in _pieces(file)]
    return tables or [
        piece for kind in ROWS for piece in _of_files(kind, [each for each in found.items() if kinds[each[0]] == kind])
    ]


def _files(path: Path) -> dict[Path, str]:
    """File → its name below the source."""
    base = path if path.is_dir() else path.parent
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith((".", "_"))]
    elif path.exists():
        found = [path]
    else:
        found = sorted(file for file in path.parent.glob(path.name) if file.is_file())
    if not found:
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise errors.SourceError.build(
            f"predict: source '{path}'",
            got="nothing there",
            expected="a file, a folder or a glob that matches",
            hint=errors.did_you_mean(path.name, near) if near else None,
        )
    return {file: file.relative_to(base).as_posix() for file in found}


def _of_files(kind: str, files: Sequence[tuple[Path, str]]) -> list[Piece]:
    """Pictures and texts beside tables belong to these; alone they are the rows."""
    parts = [files[at : at + PIECE_FILES] for at in range(0, len(files), PIECE_FILES)]
    return [
        Piece(
            str(part[0][0]),
            kind,
            sum(file.stat().st_size for file, _ in part),
            files=tuple((name, str(file)) for file, name in part),
        )
        for part in parts
    ]


def _pieces(file: Path) -> list[Piece]:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS:
        raise errors.SourceError.build(
            f"predict: file '{file.name}'", got=suffix or "no suffix", expected="one of " + ", ".join(FORMATS)
        )
    whole = Piece(str(file), FORMATS[suffix], file.stat().st_size)
    return _row_groups(whole) if whole.format == "parquet" else [whole]


def _row_groups(whole: Piece) -> list[Piece]:
    try:
        metadata = pq.read_metadata(whole.path)
    except (pa.ArrowException, OSError) as error:
        raise errors.SourceError.build(
            f"predict: file '{whole.name}'", got=str(error).split("\n", maxsplit=1)[0], expected="Parquet"
        ) from error
    found: list[Piece] = []
    groups: list[int] = []
    first = rows = size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        groups.append(number)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= PIECE_ROWS or number == metadata.num_row_groups - 1:
            found.append(Piece(whole.path, "parquet", size, tuple(groups), first))
            first, rows, size, groups = first + rows, 0, 0, []
    return found or [whole]

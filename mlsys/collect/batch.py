"""What readers hand on: rows as they were written, and records that are no rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors
from mlsys.collect.inference import Evidence
from mlsys.collect.piece import Piece
from mlsys.schema import FOLD, ROW

__all__ = ["BATCH_ROWS", "UNNAMED", "Batch", "Broken", "as_python", "checked_names"]

BATCH_ROWS = 1 << 17
"""Rows in memory at a time where a reader counts rows, and rows of a Parquet row group."""
UNNAMED = "unnamed_"
"""How a column without a name is called, followed by its position."""


@dataclass(frozen=True)
class Broken:
    """A record that is no row: its number in the piece, why, and its text."""

    row: int
    reason: str
    content: str


@dataclass
class Batch:
    """Rows of a piece: the values, their row numbers in the piece, and JSON types met by column."""

    table: pa.Table
    rows: NDArray[np.int64]
    json: dict[str, Evidence] = field(default_factory=dict)


def as_python(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as Python values; a time that Python's calendar does not have is the text that Arrow writes."""

    def plain(values: pa.ChunkedArray) -> list[Any]:
        try:
            return values.to_pylist()  # type: ignore[no-any-return]
        except (OverflowError, ValueError):
            return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]

    columns = [plain(values) for values in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def checked_names(piece: Piece, names: Sequence[str]) -> list[str]:
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

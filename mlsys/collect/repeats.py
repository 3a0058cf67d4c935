"""Rows that say again what another row says, over all pieces.

``data.dedupe``
    Of the rows of a key the last in order stays: the largest value of ``order``, of equal ones
    the later row; without ``order`` the later row. A row whose order is missing loses against
    any that has one. The others are superseded: left out, counted, and no fault.
unique columns of a contract
    The first row of a value stays; later ones break the contract and go to quarantine. Looked
    at after the superseded rows are gone.

A missing key (null or NaN) equals no other: such rows all stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from mlsys.recipe import Dedupe
from mlsys.schema import ROW

__all__ = ["Repeats", "find"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Numbers of rows, ascending: superseded ones, and by unique column those that repeat an earlier value.

    `ids` counts repeated values of columns that name rows and need not be unique.
    """

    superseded: Rows
    unique: dict[str, Rows] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def within(self, first: int, end: int) -> Repeats:
        """Those of the rows `first` … `end` - 1."""
        unique = {name: _between(rows, first, end) for name, rows in self.unique.items()}
        return Repeats(
            _between(self.superseded, first, end), {name: rows for name, rows in unique.items() if len(rows)}
        )

    def __bool__(self) -> bool:
        return bool(len(self.superseded)) or any(map(len, self.unique.values()))


def find(files: Sequence[Path], dedupe: Dedupe | None, unique: Sequence[str], ids: Sequence[str]) -> Repeats:
    """Look for repeats in the rows of all files; in memory are the columns that are asked for."""
    superseded = np.empty(0, np.int64)
    if dedupe is not None:
        superseded = _superseded(_read(files, [*dedupe.keys, *([dedupe.order] if dedupe.order else [])]), dedupe)
    found = {}
    for name in dict.fromkeys([*unique, *ids]):
        frame = _read(files, [name]).drop_nulls(name)
        if len(superseded):
            frame = frame.filter(~pl.col(ROW).is_in(pl.Series(superseded).implode()))
        found[name] = frame.filter(~pl.col(name).is_first_distinct())[ROW].to_numpy()
    counts = {name: len(rows) for name, rows in found.items() if name not in unique}
    return Repeats(superseded, {name: found[name] for name in unique}, counts)


def _superseded(frame: pl.DataFrame, dedupe: Dedupe) -> Rows:
    ordered = frame.drop_nulls(list(dedupe.keys)).sort(
        [*([dedupe.order] if dedupe.order else []), ROW], nulls_last=False
    )
    stays = ordered.unique(list(dedupe.keys), keep="last", maintain_order=False)[ROW]
    return np.setdiff1d(ordered[ROW].to_numpy(), stays.to_numpy())


def _read(files: Sequence[Path], names: Sequence[str]) -> pl.DataFrame:
    wanted = list(dict.fromkeys([*names, ROW]))
    frame = pl.concat([pl.read_parquet(file, columns=wanted) for file in files])
    return frame.with_columns(cs.float().fill_nan(None))


def _between(rows: Rows, first: int, end: int) -> Rows:
    return rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]

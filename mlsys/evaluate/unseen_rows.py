"""The test rows that a model has not learned from, told by what the rows say and not by where they are stored.

A row is known by its id and time, if the table has an id and no two test rows share one, else by all its values. So it
is found again in an earlier split whose rows were in another order, or in other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys.dataset import Split
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.statistics.hashing import hash_rows

SEEN_PARTS = ("train", "validation")
"""Parts whose rows a model has learned from: by its fit, its parameters, its threshold."""

COMPARED_KINDS = (Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN, Kind.DATETIME, Kind.TEXT)
"""Kinds of columns by whose values a row is known; of pictures and lists the other columns tell."""


@dataclass(frozen=True)
class UnseenRows:
    """A filter of rows: those that a model was neither trained nor validated on.

    Attributes
    ----------
    key
        Columns by which a row is known.
    rows
        Hashes of the rows that were seen, sorted.
    group
        Column of groups, where groups are left out whole, and `groups` the hashes of those seen.
    """

    key: tuple[str, ...]
    rows: NDArray[np.uint64]
    group: str | None = None
    groups: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    @classmethod
    def of(cls, trained: Split, split: Split, *, are_ranked: bool = False) -> UnseenRows | None:
        """The rows of a model's split, told by columns that the split at hand has too; None if it is the same split.

        Rows that `are_ranked` in their groups are left out by whole groups, whatever divides the rows.
        """
        if trained.digest == split.digest:
            return None
        key = _key(trained.schema, split)
        group = split.schema.name_of(Role.GROUP)
        keeps = group is not None and group in trained.schema and (are_ranked or not split.forward)
        names = list(dict.fromkeys([*key, *([group] if keeps and group else [])]))
        seen, groups = [], []
        for path in [path for part in SEEN_PARTS for path in trained.paths(part)]:
            table = pq.read_table(path, columns=names)
            seen.append(_hashes(table, key))
            if keeps and group:
                groups.append(_hashes(table.filter(pc.is_valid(table[group])), [group]))
        return cls(tuple(key), _distinct(seen), group if keeps else None, _distinct(groups))

    @property
    def columns(self) -> list[str]:
        """Columns that it has to see."""
        return list(dict.fromkeys([*self.key, *([self.group] if self.group else [])]))

    def count(self, split: Split) -> int:
        """Count the test rows that it keeps."""
        return sum(int(self(pq.read_table(path, columns=self.columns)).sum()) for path in split.paths("test"))

    def __call__(self, table: pa.Table) -> NDArray[np.bool_]:
        """Tell of each row whether it is new to the model."""
        seen = np.isin(_hashes(table, self.key), self.rows)
        if self.group is not None:
            seen |= np.isin(_hashes(table, [self.group]), self.groups)
        return ~seen


def _key(trained: Schema, split: Split) -> list[str]:
    """Columns by which a test row is found among those of an earlier split: id and time, or all that both have."""
    identity = [split.schema.name_of(role) for role in (Role.ID, Role.TIME)]
    names = [name for name in identity if name is not None and name in trained]
    if identity[0] is not None and identity[0] in names:
        ids = _hashes(split.table("test", names), names)
        if len(np.unique(ids)) == len(ids):
            return names
    return [column.name for column in split.schema if _is_compared(column) and column.name in trained]


def _is_compared(column: Column) -> bool:
    return column.kind in COMPARED_KINDS and column.role not in (Role.SPLIT, Role.IGNORE)


def _hashes(table: pa.Table, names: Sequence[str]) -> NDArray[np.uint64]:
    """A hash of each row by the values of these columns; a number or a day is the same whatever its type."""
    if not names:
        return np.zeros(table.num_rows, np.uint64)
    return hash_rows(pa.table({name: _canonical(table[name]) for name in names}), names)


def _canonical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us"), safe=False)
    return values.cast(pa.float64(), safe=False) if pa.types.is_decimal(kind) else values


def _distinct(hashes: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.unique(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)

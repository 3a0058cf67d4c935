"""A look at some rows from everywhere in the training part, before all of them are counted.

It decides which categories have a row of their own in a table of two columns, and where the
bins of a number lie. Nothing in the report is estimated from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from mlsys.dataset import Split
from mlsys.explore.scan import Piece, pieces, read
from mlsys.schema import Kind, Role, Schema, Task
from mlsys.statistics.joint import Layout

__all__ = ["ROWS", "layout", "look"]

ROWS = 65_536
"""Rows looked at: the quantiles that part the bins are then known to ± 0.5 % (99 % confidence)."""

MOST_GROUPS, LEAST_ROWS = 32, 4_096
"""Row groups looked into, and the first rows of each that are read at least."""

COUNTED = frozenset({Kind.NUMERIC, Kind.DATETIME, Kind.CATEGORICAL, Kind.BOOLEAN})


def layout(split: Split, schema: Schema, task: Task, derive: Mapping[str, str]) -> Layout | None:
    """What is compared with what, decided from the look; None without training rows.

    `schema` may hold derived features; the row's time comes from the split.
    """
    groups = pieces(split.paths("train"))
    if not groups:
        return None
    time = split.schema.one(Role.TIME)
    columns = [column for column in schema if column.role is not Role.TIME]
    if time is not None:
        columns.append(split.schema[time])
    known = Schema(columns=tuple(columns))
    names = [column.name for column in known.features if column.kind in COUNTED]
    return Layout.of(look(groups, [*names, task.target], derive), known, task)


def look(groups: Sequence[Piece], names: Sequence[str], derive: Mapping[str, str]) -> pa.Table:
    """The first rows of row groups spread evenly over the files, derived columns computed."""
    single = [Piece(piece.path, (number,)) for piece in groups for number in piece.row_groups]
    taken = single[:: max(1, -(-len(single) // MOST_GROUPS))]
    most = max(LEAST_ROWS, ROWS // max(len(taken), 1))
    return pa.concat_tables([read(group, list(names), derive, most_rows=most) for group in taken])

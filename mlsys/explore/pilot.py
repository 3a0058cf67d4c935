"""A look at some rows from everywhere in the training part, before all of them are counted.

It decides which categories have a row of their own in a table of two columns, and where the
bins of a number lie. Nothing in the report is estimated from it. It reads at most eight row
groups, a batch at a time, and keeps at most some ten thousand rows of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, expressions
from mlsys.dataset import Split
from mlsys.explore.scan import DERIVE, Piece, pieces, stored
from mlsys.schema import Kind, Role, Schema, Task
from mlsys.statistics.joint import Layout

__all__ = ["ROWS", "layout", "look"]

ROWS = 65_536
"""Rows looked at: the quantiles that part the bins are then known to ± 0.5 % (99 % confidence)."""

MOST_CELLS = 16_000_000
"""Values kept of a look: 128 MB. Of a table of thousands of columns fewer rows are looked at."""

MOST_GROUPS = 8
"""Row groups looked into."""

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
    """Rows at equal distances from row groups spread evenly over the files, derived columns computed."""
    single = [Piece(piece.path, (number,)) for piece in groups for number in piece.row_groups]
    taken = single[:: max(1, -(-len(single) // MOST_GROUPS))]
    most = max(1, min(ROWS, MOST_CELLS // len(names)) // len(taken))
    return pa.concat_tables(cluster.map(_some, [(group, tuple(names), dict(derive), most) for group in taken]))


def _some(work: tuple[Piece, tuple[str, ...], dict[str, str], int]) -> pa.Table:
    """From the whole group: rows are often in the order of their time, and the first are of its beginning."""
    group, names, derive, most = work
    file, columns = pq.ParquetFile(group.path), stored(list(names), derive)
    step = max(1, -(-file.metadata.row_group(group.row_groups[0]).num_rows // most))
    kept, at = [], 0
    for batch in file.iter_batches(max(1, MOST_CELLS // len(names)), list(group.row_groups), columns):
        kept.append(batch.take(np.arange(-at % step, batch.num_rows, step)))
        at += batch.num_rows
    table = pa.Table.from_batches(kept)
    return expressions.add(table, derive, DERIVE) if derive else table

"""One pass over the training rows: each piece of the files is a task, and the pieces merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, errors, expressions
from mlsys.dataset import Split
from mlsys.schema import FOLD, Schema, Task
from mlsys.statistics import TrainStatistics

__all__ = ["Piece", "pieces", "profile", "read"]

PIECE_ROWS = 131_072
"""Rows of a piece at least: about a second of work, against milliseconds to send it."""

MOST_PIECES = 64
"""Pieces at most: the results of all of them are merged in one process."""


@dataclass(frozen=True)
class Piece:
    """Some row groups of one file."""

    path: Path
    row_groups: tuple[int, ...]


def pieces(paths: list[Path]) -> list[Piece]:
    """The files cut into pieces of similar size, in order.

    The cut depends on the rows alone, not on the cluster: sketches remember how their
    input was cut, and a profile must not differ from one machine to the next.
    """
    groups = [(path, number, rows) for path in paths for number, rows in enumerate(_rows_of_groups(path))]
    wanted = max(PIECE_ROWS, sum(rows for _, _, rows in groups) // MOST_PIECES)
    found: list[Piece] = []
    taken = wanted
    for path, number, rows in groups:
        if taken >= wanted or found[-1].path != path:
            found.append(Piece(path, ()))
            taken = 0
        found[-1] = Piece(path, (*found[-1].row_groups, number))
        taken += rows
    return found


def _rows_of_groups(path: Path) -> list[int]:
    facts = pq.read_metadata(path)
    return [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]


def profile(
    split: Split,
    task: Task,
    *,
    schema: Schema | None = None,
    derive: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainStatistics:
    """See `mlsys.explore.profile`."""
    work = [
        _Work(piece, schema or split.schema, task, tuple((derive or {}).items()))
        for piece in pieces(split.paths("train"))
    ]
    if not work:
        raise errors.TargetError.build(
            "explore: training part",
            got="no rows with a target",
            expected="at least one",
            hint="look at the split: its fractions or dates may leave no row for training",
        )
    parts = cluster.map(_learn, work, progress=lambda done, total: progress(f"{done} of {total} pieces scanned"))
    return reduce(TrainStatistics.merge, parts)


@dataclass(frozen=True)
class _Work:
    piece: Piece
    schema: Schema
    task: Task
    derive: tuple[tuple[str, str], ...]


def _learn(work: _Work) -> TrainStatistics:
    derive = dict(work.derive)
    names = [column.name for column in work.schema.features] + [work.task.target, FOLD]
    return TrainStatistics.of_table(read(work.piece, names, derive), work.schema, work.task)


def read(piece: Piece, names: list[str], derive: Mapping[str, str]) -> pa.Table:
    """Columns of a piece, derived ones computed."""
    where = "recipe: features.derive"
    inputs = [name for key, sql in derive.items() for name in expressions.parse(key, sql, where).inputs]
    stored = [name for name in dict.fromkeys([*names, *inputs]) if name not in derive]
    table = pq.ParquetFile(piece.path).read_row_groups(list(piece.row_groups), columns=stored)
    return expressions.add(table, derive, where) if derive else table

"""Rows as the arrays that are counted: numbers about their shifts, levels of categories, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.statistics.joint.layout import Categories, Layout
from mlsys.statistics.values import as_floats, plain

__all__ = ["Block", "blocks"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROWS = 16_384
"""Rows of a block: 100 numbers of them take 13 MB, and one column stays in the cache."""


@dataclass(frozen=True)
class Block:
    """Some rows of the columns of a layout.

    Attributes
    ----------
    numbers
        ``(rows, numbers)``, finite values less their shift, and 0 where there is none.
    known
        ``(rows, 1 + columns with gaps)`` of 0 and 1: a column of ones, then where each column with
        gaps has a value.
    both
        `numbers` and `known` side by side; they are views of it.
    squares
        Of `numbers`.
    known_of
        Column of `known` for each number; 0 for those without gaps.
    levels
        Level of each row, one array a category column.
    bins
        Bin of each row, one array a number; the last bin is for missing ones.
    """

    numbers: Floats
    known: Floats
    both: Floats
    squares: Floats
    known_of: Ints
    levels: list[Ints]
    bins: list[Ints]


def blocks(table: pa.Table, layout: Layout, y: npt.NDArray[Any]) -> Iterator[tuple[int, Block]]:
    """Blocks of a table, each with the number of its first row; `y` is the target as `encode_target` gives it."""
    raw = [y if column.name == layout.task.target else _floats(table[column.name]) for column in layout.numbers]
    levels = [_levels(column, table, y) for column in layout.categories]
    for start in range(0, table.num_rows, ROWS):
        rows = slice(start, start + ROWS)
        yield start, _block([values[rows] for values in raw], [level[rows] for level in levels], layout)


def _floats(values: pa.ChunkedArray) -> Floats:
    return as_floats(plain(values))


def _block(raw: list[Floats], levels: list[Ints], layout: Layout) -> Block:
    rows = len(raw[0]) if raw else len(levels[0])
    known_of, known, bins, away = np.zeros(len(raw), np.int64), [], [], []
    for at, (values, column) in enumerate(zip(raw, layout.numbers, strict=True)):
        bin_of = _bins(values, column.edges)
        with np.errstate(over="ignore", invalid="ignore"):
            away.append(values - column.shift)
        finite = np.isfinite(away[-1])
        if not finite.all():
            away[-1][~finite] = 0.0
            bin_of[~finite] = len(column.edges) + 1
            known.append(finite)
            known_of[at] = len(known)
        bins.append(bin_of.astype(np.int64))
    both = np.empty((rows, len(raw) + 1 + len(known)))
    for at, part in enumerate((*away, np.ones(rows), *known)):
        both[:, at] = part
    numbers = both[:, : len(raw)]
    with np.errstate(over="ignore", under="ignore"):
        return Block(numbers, both[:, len(raw) :], both, numbers * numbers, known_of, levels, bins)


def _bins(values: Floats, edges: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    """Edges below each value: comparing with all of them is quicker than searching for one."""
    found = np.zeros(len(values), np.uint8)
    for edge in edges:
        found += (values > edge).view(np.uint8)
    return found


def _levels(column: Categories, table: pa.Table, y: npt.NDArray[Any]) -> Ints:
    if column.values is None:
        return np.where(y >= 0, y, column.num_levels + 1)
    values = table[column.name]
    array: Any = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray) or not pa.types.is_dictionary(array.type):
        return _places(plain(values), column.values, column.num_levels)
    of_word = _places(array.dictionary, column.values, column.num_levels)
    where = np.asarray(array.indices.fill_null(len(of_word))).astype(np.int64)
    return np.append(of_word, column.num_levels + 1)[where]


def _places(words: pa.Array, known: pa.Array, others: int) -> Ints:
    """Place of each word among the known ones; `others` where it is none of them, one more for null."""
    levels: Ints = np.asarray(pc.index_in(words, value_set=known.cast(words.type)).fill_null(others)).astype(np.int64)
    if words.null_count:
        levels[np.asarray(words.is_null())] = others + 1
    return levels

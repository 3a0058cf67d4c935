"""Rows as the arrays that are counted: numbers about their shifts, levels of categories, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mlsys.statistics.encoded import Encoded, EncodedNumbers, EncodedWords
from mlsys.statistics.joint.layout import Categories, Layout, Number

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


def blocks(columns: Mapping[str, Encoded], layout: Layout, y: npt.NDArray[Any]) -> Iterator[tuple[int, Block]]:
    """Blocks of encoded columns, each with the number of its first row; `y` is their target as `encode_target` says."""
    numbers = [_number(columns, column, layout, y) for column in layout.numbers]
    levels = [_levels(columns, column, y) for column in layout.categories]
    for start in range(0, len(y), ROWS):
        rows = slice(start, start + ROWS)
        some = [(values[rows], bins[rows]) for values, bins in numbers]
        yield start, _block(some, [level[rows] for level in levels], layout)


def _number(columns: Mapping[str, Encoded], column: Number, layout: Layout, y: npt.NDArray[Any]) -> tuple[Floats, Ints]:
    """Values and bins; what is not finite has the last bin."""
    missing = len(column.edges) + 1
    if column.name == layout.task.target:
        return y, _compared(y, column, missing)
    encoded = columns[column.name]
    if not isinstance(encoded, EncodedNumbers):
        raise TypeError(f"column {column.name!r} is not encoded as numbers")
    if encoded.shared is not None:
        return encoded.floats, _compared(encoded.floats, column, missing)
    bins = np.searchsorted(np.array(column.edges), encoded.keys, side="left")
    return encoded.floats, np.append(bins, missing)[encoded.codes]


def _compared(values: Floats, column: Number, missing: int) -> Ints:
    """Edges below each value: comparing with all of them is quicker than searching for one."""
    found = np.zeros(len(values), np.uint8)
    for edge in column.edges:
        found += (values > edge).view(np.uint8)
    return np.where(np.isfinite(values), found, missing)


def _block(numbers: list[tuple[Floats, Ints]], levels: list[Ints], layout: Layout) -> Block:
    rows = len(numbers[0][0]) if numbers else len(levels[0])
    known_of, known, away = np.zeros(len(numbers), np.int64), [], []
    for at, ((values, bins), column) in enumerate(zip(numbers, layout.numbers, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):
            away.append(values - column.shift)
        finite = np.isfinite(away[-1])
        if not finite.all():
            away[-1][~finite] = 0.0
            bins[~finite] = len(column.edges) + 1
            known.append(finite)
            known_of[at] = len(known)
    both = np.empty((rows, len(numbers) + 1 + len(known)))
    for at, part in enumerate((*away, np.ones(rows), *known)):
        both[:, at] = part
    centred = both[:, : len(numbers)]
    with np.errstate(over="ignore", under="ignore"):
        squares = centred * centred
    return Block(centred, both[:, len(numbers) :], both, squares, known_of, levels, [bins for _, bins in numbers])


def _levels(columns: Mapping[str, Encoded], column: Categories, y: npt.NDArray[Any]) -> Ints:
    others = column.num_levels
    if column.values is None:
        return np.where(y >= 0, y, others + 1)
    encoded = columns[column.name]
    if not isinstance(encoded, EncodedWords):
        raise TypeError(f"column {column.name!r} is not encoded as words")
    known = column.values.cast(encoded.keys.type)
    places = np.asarray(pc.index_in(encoded.keys, value_set=known).fill_null(others)).astype(np.int64)
    return np.append(places, others + 1)[encoded.codes]

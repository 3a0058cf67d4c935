"""A column as codes: its different values once, and for each row which one it has.

All that is counted of a piece of a table is counted from the codes: a column is read, ordered
and hashed once, whatever the number of folds, classes and pairs that it is counted in.

Numbers as codes of rising cells, without sorting them where that can be helped.

The values are spread over cells of equal width, or of equal ratio. Mostly no two different
values share a cell, as with whole numbers, hours or cents: the codes are then exact. Where
some do, the last value of the cell stands for the others, as long as that moves no rank by
more than `SHARED` of the rows; the values of fuller cells are sorted, and all of them where
those are most: that takes ten times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics.arrays import as_floats, lengths_of, plain
from mlsys.statistics.hashing import hash_array, hash_floats
from mlsys.statistics.sketches import QuantileSketch

__all__ = [
    "NUMBERS",
    "SHARED",
    "WORDS",
    "EncodedColumn",
    "EncodedNumbers",
    "EncodedWords",
    "Part",
    "bin_codes",
    "encode",
]

CELLS = 1 << 15
"""Cells at most, and no more than values: their counts take a quarter of a megabyte and stay in the cache."""

FEW = 2_048
"""So many values are sorted more quickly than they are spread."""

SHARED = 1 / 1_024
"""Largest fraction of the values that may lie in a cell of several different ones: 0.1 % of a rank."""

DOZEN = 12
"""A cell may hold so many in any case: of few values, to look for smaller cells costs more than to sort."""


def bin_codes(values: Floats) -> tuple[Floats, Ints, Bools | None]:
    """Cells of finite values.

    Returns
    -------
    keys
        Rising; a value of each cell.
    codes
        Cell of each value.
    shared
        Cells that hold several different values; None if none does.

    >>> keys, codes, shared = bin_codes(np.array([2.5, -1.0, 2.5]))
    >>> keys.tolist(), codes.tolist(), shared
    ([-1.0, 2.5], [1, 0, 1], None)
    """
    if len(values) > FEW:
        low, high = float(values.min()), float(values.max())
        for spread in (_evenly, _by_ratio):
            found = _tried(values, spread(values, low, high))
            if found is not None:
                return found
    keys, codes = np.unique(values, return_inverse=True)
    return keys, codes.astype(np.int64, copy=False), None


def _evenly(values: Floats, low: float, high: float) -> Ints | None:
    """Cells of equal width; whole numbers have one each if there are enough."""
    span = high - low
    if not 0 < span < math.inf:
        return None
    is_whole = span < CELLS and bool((values == np.floor(values)).all())
    scale = 1.0 if is_whole else (min(CELLS, len(values)) - 1) / span
    return ((values - low) * scale).astype(np.int64) if math.isfinite(scale) else None


def _by_ratio(values: Floats, low: float, high: float) -> Ints:
    """Cells of roughly equal ratio on both sides of zero: the leading bits of a float are nearly its logarithm."""
    size = np.abs(values)
    least = float(np.min(size, where=size > 0, initial=math.inf))
    lowest, highest = (int(np.float64(end).view(np.int64)) for end in (least, max(-low, high)))
    most = CELLS // 2 if low < 0 < high else CELLS
    shift = max(0, (highest - lowest).bit_length() - (most - 1).bit_length())
    codes: Ints = np.maximum((size.view(np.int64) >> shift) - (lowest >> shift) + 1, 0)  # zero has a cell of its own
    if low < 0:
        codes = np.where(values < 0, -codes, codes)
        codes -= codes.min()
    return codes


def _tried(values: Floats, codes: Ints | None) -> tuple[Floats, Ints, Bools | None] | None:
    """Keys and codes without empty cells; None if most values lie where too many share one."""
    if codes is None:
        return None
    counts = np.bincount(codes)
    keys, place = np.empty(len(counts)), np.empty(len(counts), np.int64)
    keys[codes] = values
    shared = np.bincount(codes, keys[codes] != values) > 0
    crowded = shared & (counts > max(DOZEN, len(values) * SHARED / 2))  # half: folds do not divide a cell evenly
    num_crowded = int(counts.sum(where=crowded))
    if num_crowded > len(values) / 2:
        return None
    if num_crowded:
        return _divided(values, codes, keys, (counts > 0) & ~crowded, shared)
    used = np.flatnonzero(counts != 0)  # of truth values: in a third of the time
    place[used] = np.arange(len(used))
    return keys[used], place[codes], shared[used] if shared.any() else None


def _divided(
    values: Floats, codes: Ints, keys: Floats, kept: Bools, shared: Bools
) -> tuple[Floats, Ints, Bools | None]:
    """Only some cells are kept; each value of the others gets one of its own."""
    rows = np.flatnonzero(~kept[codes])
    alone, first, which = np.unique(values[rows], return_index=True, return_inverse=True)
    sizes = kept + np.bincount(codes[rows[first]], minlength=len(kept))
    place = np.cumsum(sizes) - sizes
    rising, several, free = (
        np.empty(int(sizes.sum())),
        np.zeros(int(sizes.sum()), bool),
        np.ones(int(sizes.sum()), bool),
    )
    rising[place[kept]], several[place[kept]], free[place[kept]] = keys[kept], shared[kept], False
    rising[free] = alone
    found = place[codes]
    found[rows] = np.flatnonzero(free)[which]
    return rising, found, several if several.any() else None


Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

NUMBERS = frozenset({Kind.NUMERIC, Kind.DATETIME})
WORDS = frozenset({Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT})


@dataclass(frozen=True)
class EncodedColumn:
    """A column of which only lengths and contents are counted: lists, images, other bytes.

    Attributes
    ----------
    array
        Its rows.
    """

    array: pa.Array

    @cached_property
    def present(self) -> Bools | None:
        """Which rows are not null; None if all are."""
        return None if self.array.null_count == 0 else np.asarray(self.array.is_valid())

    def row_hashes(self) -> UInt64:
        """As `hash_array` of the column."""
        return hash_array(self.array)


@dataclass(frozen=True)
class EncodedWords(EncodedColumn):
    """Categories, truth values or texts.

    Attributes
    ----------
    keys
        The different values, without null.
    codes
        Value of each row; ``len(keys)`` for null.
    """

    keys: pa.Array
    codes: Ints

    @cached_property
    def present(self) -> Bools | None:
        there = self.codes < len(self.keys)
        return None if there.all() else there

    @cached_property
    def hashes(self) -> UInt64:
        """Of the keys."""
        return hash_array(self.keys)

    @cached_property
    def lengths(self) -> Ints | None:
        """Of the keys; None where they have none."""
        return lengths_of(self.keys)

    def row_hashes(self) -> UInt64:
        return np.concatenate([self.hashes, hash_array(pa.nulls(1))])[self.codes]


@dataclass(frozen=True)
class EncodedNumbers(EncodedColumn):
    """Numbers, and points in time as microseconds since 1970.

    Attributes
    ----------
    floats
        Each row as float64; NaN for null.
    finite
        Which rows are finite numbers; None if all are.
    keys
        Rising; a finite value of each cell.
    codes
        Cell of each row; ``len(keys)`` for null and what is not finite.
    shared
        Cells that hold several different values; None if none does, and ``keys[codes]`` are the
        values themselves.
    """

    floats: Floats
    finite: Bools | None
    keys: Floats
    codes: Ints
    shared: Bools | None

    @cached_property
    def hashes(self) -> UInt64:
        """Of the keys where they are the values, else of each row."""
        return hash_floats(self.keys if self.shared is None else self.floats)

    def row_hashes(self) -> UInt64:
        if self.finite is not None or not (
            pa.types.is_integer(self.array.type) or pa.types.is_floating(self.array.type)
        ):
            return hash_array(self.array)
        return self.hashes if self.shared is not None else self.hashes[self.codes]

    def part(self, rows: Ints | None = None) -> Part:
        """Some rows, or all."""
        where = slice(None) if rows is None else rows
        counts = np.bincount(self.codes[where], minlength=len(self.keys) + 1)[:-1]
        used = slice(None) if rows is None else np.flatnonzero(counts != 0)
        return Part(self, where, used, counts[used])


@dataclass(frozen=True)
class Part:
    """Some rows of a column of numbers.

    Attributes
    ----------
    used, times
        Cells that hold some of them, and how many.
    """

    whole: EncodedNumbers
    rows: Ints | slice
    used: Ints | slice
    times: Ints

    @cached_property
    def floats(self) -> Floats:
        """The values, NaN for null."""
        return self.whole.floats[self.rows]

    @cached_property
    def finite(self) -> Bools | None:
        """Which are finite; None if all are."""
        return None if self.whole.finite is None else self.whole.finite[self.rows]

    @property
    def not_finite(self) -> tuple[int, int, int, int]:
        """Rows that are null, NaN, infinite and minus infinite."""
        if self.finite is None:
            return 0, 0, 0, 0
        present = self.whole.present
        nulls = 0 if present is None else int(np.count_nonzero(~present[self.rows]))
        rest = self.floats[~self.finite]
        above, below = int(np.count_nonzero(rest == np.inf)), int(np.count_nonzero(rest == -np.inf))
        return nulls, len(rest) - nulls - above - below, above, below

    @cached_property
    def keys(self) -> Floats:
        """A value of each cell that is used."""
        return self.whole.keys[self.used]

    @cached_property
    def shared(self) -> Bools | None:
        """Which of these may stand for another value; None if none does."""
        shared = None if self.whole.shared is None else self.whole.shared[self.used]
        return None if shared is None or not shared.any() else shared

    @cached_property
    def crowd(self) -> int:
        """Most rows in a cell that may stand for another value."""
        return 0 if self.shared is None else int((self.times * self.shared).max())

    @property
    def is_exact(self) -> bool:
        """The keys are the values."""
        return self.shared is None

    @cached_property
    def values(self) -> Floats:
        """The finite values, in the order of the rows."""
        return self.floats if self.finite is None else self.floats[self.finite]

    @property
    def hashes(self) -> UInt64:
        """Of every value, at least once."""
        if self.whole.shared is None:
            return self.whole.hashes[self.used]
        if self.is_exact:
            return hash_floats(self.keys)
        hashes = self.whole.hashes[self.rows]
        return hashes if self.finite is None else hashes[self.finite]

    def rank(self, sketch: QuantileSketch) -> None:
        """Let a sketch take the values in. A cell stands for them unless that could move a rank too far."""
        if self.crowd <= SHARED * self.times.sum():
            sketch.update(self.keys, self.times)
        else:
            sketch.update(self.values)


def encode(values: pa.Array | pa.ChunkedArray, kind: Kind) -> EncodedColumn:
    """The rows of a column, ready to be counted."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if kind in WORDS and isinstance(array, pa.DictionaryArray):
        return _words(array, array)
    array = plain(array)
    if kind in WORDS:
        return _words(array, array.dictionary_encode())
    return _numbers(array) if kind in NUMBERS else EncodedColumn(array)


def _words(array: pa.Array, encoded: pa.DictionaryArray) -> EncodedWords:
    """A dictionary may hold a value twice, and null."""
    once = encoded.dictionary.dictionary_encode()
    none = len(once.dictionary)
    place = np.append(np.asarray(once.indices.fill_null(none)), none).astype(np.int64)
    where = np.asarray(encoded.indices.fill_null(len(encoded.dictionary)))
    return EncodedWords(array, once.dictionary, place[where])


def _numbers(array: pa.Array) -> EncodedNumbers:
    floats = as_floats(array)
    finite = np.isfinite(floats)
    if finite.all():
        keys, codes, shared = bin_codes(floats)
        return EncodedNumbers(array, floats, None, keys, codes, shared)
    keys, some, shared = bin_codes(floats[finite])
    codes = np.full(len(floats), len(keys))
    codes[finite] = some
    return EncodedNumbers(array, floats, finite, keys, codes, shared)

"""A column as codes: its different values once, and for each row which one it has.

All that is counted of a piece of a table is counted from the codes: a column is read, ordered
and hashed once, whatever the number of folds, classes and pairs that it is counted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics.cells import SHARED, cells
from mlsys.statistics.hashing import hash_array, hash_floats
from mlsys.statistics.lengths import lengths_of
from mlsys.statistics.quantiles import QuantileSketch
from mlsys.statistics.values import as_floats, plain

__all__ = ["NUMBERS", "WORDS", "Encoded", "EncodedNumbers", "EncodedWords", "Part", "encode"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

NUMBERS = frozenset({Kind.NUMERIC, Kind.DATETIME})
WORDS = frozenset({Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT})


@dataclass(frozen=True)
class Encoded:
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
class EncodedWords(Encoded):
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
class EncodedNumbers(Encoded):
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


def encode(values: pa.Array | pa.ChunkedArray, kind: Kind) -> Encoded:
    """The rows of a column, ready to be counted."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if kind in WORDS and isinstance(array, pa.DictionaryArray):
        return _words(array, array)
    array = plain(array)
    if kind in WORDS:
        return _words(array, array.dictionary_encode())
    return _numbers(array) if kind in NUMBERS else Encoded(array)


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
        keys, codes, shared = cells(floats)
        return EncodedNumbers(array, floats, None, keys, codes, shared)
    keys, some, shared = cells(floats[finite])
    codes = np.full(len(floats), len(keys))
    codes[finite] = some
    return EncodedNumbers(array, floats, finite, keys, codes, shared)

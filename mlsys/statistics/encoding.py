"""Columns encoded for counting: the distinct values once, and for each row the code of its value.

All that is counted of a table is counted from the codes: a column is read, ordered and hashed once, whatever the
number of folds, classes and pairs that it is counted in.

Numbers are binned into ordered codes in linear time. The bins have equal width, or equal ratio. Mostly no two
different values share a bin, as with whole numbers, hours or cents: the codes are then exact. Where some do, the last
value of the bin stands for the others, as long as that moves no rank by more than `SHARED` of the rows; only the
values of fuller bins are sorted, and all values where those are most, which takes ten times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics.arrays import Bools, Floats, Ints, UInt64, as_floats, lengths_of, plain
from mlsys.statistics.hashing import hash_array, hash_exactly, hash_floats
from mlsys.statistics.sketches import QuantileSketch

NUMBER_KINDS = frozenset({Kind.NUMERIC, Kind.DATETIME})
CATEGORY_KINDS = frozenset({Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT})

MAX_BINS = 1 << 15
"""Bins at most, and no more than values: their counts take a quarter of a megabyte and stay in the cache."""

MAX_WHOLE, _GLANCE = 10_000, 1_000
"""Different whole numbers that are counted one by one, as codes may be; and values that mostly tell a fraction."""

SORTED_VALUES = 2_048
"""Up to this many values are sorted: that is quicker than to bin them."""

SHARED = 1 / 1_024
"""Largest fraction of the values that may lie in a bin of several different ones: 0.1 % of a rank."""

MIN_CROWDED = 12
"""A bin may hold this many values in any case: of few values, finer bins cost more than to sort."""


@dataclass(frozen=True)
class EncodedColumn:
    """A column of which only lengths and contents are counted: lists, images, other bytes."""

    array: pa.Array

    @cached_property
    def present(self) -> Bools | None:
        """Mask of the rows that are not null; None if all are."""
        return None if self.array.null_count == 0 else np.asarray(self.array.is_valid())

    def row_hashes(self) -> UInt64:
        """Hash of each row, the same as `hash_exactly` of the column."""
        return hash_exactly(self.array)


@dataclass(frozen=True)
class EncodedCategories(EncodedColumn):
    """A column of categories, truth values or texts, encoded.

    Attributes
    ----------
    keys
        The distinct values, without null.
    codes
        Position in `keys` of the value of each row; ``len(keys)`` for null.
    """

    keys: pa.Array
    codes: Ints

    @cached_property
    def present(self) -> Bools | None:
        mask = self.codes < len(self.keys)
        return None if mask.all() else mask

    @cached_property
    def hashes(self) -> UInt64:
        """Hash of each key."""
        return hash_array(self.keys)

    @cached_property
    def lengths(self) -> Ints | None:
        """Length of each key; None for a type without lengths."""
        return lengths_of(self.keys)

    def row_hashes(self) -> UInt64:
        hashes = hash_exactly(self.keys) if pa.types.is_integer(self.keys.type) else self.hashes
        return np.concatenate([hashes, hash_array(pa.nulls(1))])[self.codes]


@dataclass(frozen=True)
class EncodedNumbers(EncodedColumn):
    """A column of numbers, or of points in time as microseconds since 1970, encoded.

    Attributes
    ----------
    floats
        Each row as float64; NaN for null.
    finite
        Mask of the rows that are finite numbers; None if all are.
    keys
        A finite value of each bin, rising.
    codes
        Bin of each row; ``len(keys)`` for null and what is not finite.
    shared
        Mask of the bins that hold several different values; None if none does, and ``keys[codes]``
        are the values themselves.
    """

    floats: Floats
    finite: Bools | None
    keys: Floats
    codes: Ints
    shared: Bools | None

    @cached_property
    def whole(self) -> EncodedCategories | None:
        """The whole numbers as categories; None if one is not whole or there are more than `MAX_WHOLE` of them."""
        floats = self.floats if self.finite is None else self.floats[self.finite]
        for some in (floats[:_GLANCE], floats):
            if not (some == np.floor(some)).all():
                return None
        if not self.has_few_values or bool((np.abs(floats) >= 2**53).any()):
            return None
        missing = None if self.finite is None else ~self.finite
        coded = _categories(self.array, pa.array(self.floats + 0.0, mask=missing).dictionary_encode())
        return coded if len(coded.keys) <= MAX_WHOLE else None

    @property
    def has_few_values(self) -> bool:
        """False if there are certainly more than `MAX_WHOLE` different values."""
        return self.shared is not None or len(self.keys) <= MAX_WHOLE

    @cached_property
    def hashes(self) -> UInt64:
        """Hash of each key where the keys are the values, else of each row."""
        return hash_floats(self.keys if self.shared is None else self.floats)

    def row_hashes(self) -> UInt64:
        kind = self.array.type
        is_exact = pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not (abs(self.floats) >= 2**53).any())
        if self.finite is not None or not is_exact:
            return hash_exactly(self.array)
        return self.hashes if self.shared is not None else self.hashes[self.codes]

    def part(self, rows: Ints | None = None) -> ColumnPart:
        """Part of the column that some rows are, by default all of it."""
        where = slice(None) if rows is None else rows
        counts = np.bincount(self.codes[where], minlength=len(self.keys) + 1)[:-1]
        used = slice(None) if rows is None else np.flatnonzero(counts != 0)
        return ColumnPart(self, where, used, counts[used])


@dataclass(frozen=True)
class ColumnPart:
    """Some rows of an encoded column of numbers.

    Attributes
    ----------
    whole, rows
        The column, and the rows of it that are meant.
    used, times
        Bins that hold some of these rows, and how many.
    """

    whole: EncodedNumbers
    rows: Ints | slice
    used: Ints | slice
    times: Ints

    @cached_property
    def floats(self) -> Floats:
        """Values of the rows, NaN for null."""
        return self.whole.floats[self.rows]

    @cached_property
    def finite(self) -> Bools | None:
        """Mask of the rows that are finite numbers; None if all are."""
        return None if self.whole.finite is None else self.whole.finite[self.rows]

    @property
    def not_finite(self) -> tuple[int, int, int, int]:
        """Numbers of rows that are null, NaN, infinite and minus infinite."""
        if self.finite is None:
            return 0, 0, 0, 0
        present = self.whole.present
        nulls = 0 if present is None else int(np.count_nonzero(~present[self.rows]))
        rest = self.floats[~self.finite]
        above, below = int(np.count_nonzero(rest == np.inf)), int(np.count_nonzero(rest == -np.inf))
        return nulls, len(rest) - nulls - above - below, above, below

    @cached_property
    def keys(self) -> Floats:
        """A value of each bin that is used."""
        return self.whole.keys[self.used]

    @cached_property
    def shared(self) -> Bools | None:
        """Mask of the keys that may stand for other values too; None if none does."""
        shared = None if self.whole.shared is None else self.whole.shared[self.used]
        return None if shared is None or not shared.any() else shared

    @cached_property
    def max_shared_rows(self) -> int:
        """Largest number of rows in a bin whose key may stand for other values."""
        return 0 if self.shared is None else int((self.times * self.shared).max())

    @property
    def is_exact(self) -> bool:
        """True where the keys are the values."""
        return self.shared is None

    @cached_property
    def values(self) -> Floats:
        """The finite values, in the order of the rows."""
        return self.floats if self.finite is None else self.floats[self.finite]

    @property
    def hashes(self) -> UInt64:
        """Hashes of the finite values, each distinct value at least once."""
        if self.whole.shared is None:
            return self.whole.hashes[self.used]
        if self.is_exact:
            return hash_floats(self.keys)
        hashes = self.whole.hashes[self.rows]
        return hashes if self.finite is None else hashes[self.finite]

    def update_sketch(self, sketch: QuantileSketch) -> None:
        """Add the finite values to a sketch: their keys, unless that could move a rank too far."""
        if self.max_shared_rows <= SHARED * self.times.sum():
            sketch.update(self.keys, self.times)
        else:
            sketch.update(self.values)


def encode(values: pa.Array | pa.ChunkedArray, kind: Kind) -> EncodedColumn:
    """Encode the rows of a column as its kind is counted."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if kind in CATEGORY_KINDS and isinstance(array, pa.DictionaryArray):
        return _categories(array, array)
    array = plain(array)
    if kind in CATEGORY_KINDS:
        return _categories(array, array.dictionary_encode())
    return _numbers(array) if kind in NUMBER_KINDS else EncodedColumn(array)


def _categories(array: pa.Array, encoded: pa.DictionaryArray) -> EncodedCategories:
    """A dictionary may hold a value twice, and null: it is encoded once more."""
    distinct = encoded.dictionary.dictionary_encode()
    null = len(distinct.dictionary)
    codes = np.append(np.asarray(distinct.indices.fill_null(null)), null).astype(np.int64)
    rows = np.asarray(encoded.indices.fill_null(len(encoded.dictionary)))
    return EncodedCategories(array, distinct.dictionary, codes[rows])


def _numbers(array: pa.Array) -> EncodedNumbers:
    floats = as_floats(array)
    finite = np.isfinite(floats)
    if finite.all():
        keys, codes, shared = bin_codes(floats)
        return EncodedNumbers(array, floats, None, keys, codes, shared)
    keys, finite_codes, shared = bin_codes(floats[finite])
    codes = np.full(len(floats), len(keys))
    codes[finite] = finite_codes
    return EncodedNumbers(array, floats, finite, keys, codes, shared)


def bin_codes(values: Floats) -> tuple[Floats, Ints, Bools | None]:
    """Bin finite values into ordered codes in linear time; only crowded bins are sorted.

    Returns
    -------
    keys
        A value of each bin, rising.
    codes
        Bin of each value.
    shared
        Mask of the bins that hold several different values; None if none does.

    >>> keys, codes, shared = bin_codes(np.array([2.5, -1.0, 2.5]))
    >>> keys.tolist(), codes.tolist(), shared
    ([-1.0, 2.5], [1, 0, 1], None)
    """
    if len(values) > SORTED_VALUES:
        low, high = float(values.min()), float(values.max())
        for binned in (_equal_width, _equal_ratio):
            coded = _without_empty_bins(values, binned(values, low, high))
            if coded is not None:
                return coded
    keys, codes = np.unique(values, return_inverse=True)
    return keys, codes.astype(np.int64, copy=False), None


def _equal_width(values: Floats, low: float, high: float) -> Ints | None:
    """Bins of equal width; whole numbers have one each if there are enough."""
    span = high - low
    if not 0 < span < math.inf:
        return None
    is_whole = span < MAX_BINS and bool((values == np.floor(values)).all())
    scale = 1.0 if is_whole else (min(MAX_BINS, len(values)) - 1) / span
    return ((values - low) * scale).astype(np.int64) if math.isfinite(scale) else None


def _equal_ratio(values: Floats, low: float, high: float) -> Ints:
    """Bins of roughly equal ratio on both sides of zero: the leading bits of a float are nearly its logarithm."""
    size = np.abs(values)
    least = float(np.min(size, where=size > 0, initial=math.inf))
    lowest, highest = (int(np.float64(end).view(np.int64)) for end in (least, max(-low, high)))
    most = MAX_BINS // 2 if low < 0 < high else MAX_BINS
    shift = max(0, (highest - lowest).bit_length() - (most - 1).bit_length())
    codes: Ints = np.maximum((size.view(np.int64) >> shift) - (lowest >> shift) + 1, 0)  # zero has a bin of its own
    if low < 0:
        codes = np.where(values < 0, -codes, codes)
        codes -= codes.min()
    return codes


def _without_empty_bins(values: Floats, codes: Ints | None) -> tuple[Floats, Ints, Bools | None] | None:
    """Keys and codes of the bins in use; None if most values lie where too many share one."""
    if codes is None:
        return None
    counts = np.bincount(codes)
    keys, place = np.empty(len(counts)), np.empty(len(counts), np.int64)
    keys[codes] = values
    shared = np.bincount(codes, keys[codes] != values) > 0
    crowded = shared & (counts > max(MIN_CROWDED, len(values) * SHARED / 2))  # half: folds do not divide a bin evenly
    num_crowded = int(counts.sum(where=crowded))
    if num_crowded > len(values) / 2:
        return None
    if num_crowded:
        return _crowded_sorted(values, codes, keys, (counts > 0) & ~crowded, shared)
    used = np.flatnonzero(counts != 0)  # of truth values: in a third of the time
    place[used] = np.arange(len(used))
    return keys[used], place[codes], shared[used] if shared.any() else None


def _crowded_sorted(
    values: Floats, codes: Ints, keys: Floats, stays: Bools, shared: Bools
) -> tuple[Floats, Ints, Bools | None]:
    """Keys and codes where only the bins that `stays` masks remain; each value of the others gets a bin of its own."""
    # 1. The distinct values of the crowded bins, sorted
    rows = np.flatnonzero(~stays[codes])
    distinct, first, which = np.unique(values[rows], return_index=True, return_inverse=True)
    # 2. Room in the new order: one place for a bin that stays, one a distinct value for the others
    sizes = stays + np.bincount(codes[rows[first]], minlength=len(stays))
    place, total = np.cumsum(sizes) - sizes, int(sizes.sum())
    new_keys, new_shared, free = np.empty(total), np.zeros(total, bool), np.ones(total, bool)
    new_keys[place[stays]], new_shared[place[stays]], free[place[stays]] = keys[stays], shared[stays], False
    new_keys[free] = distinct
    # 3. The new code of each row
    new_codes = place[codes]
    new_codes[rows] = np.flatnonzero(free)[which]
    return new_keys, new_codes, new_shared if new_shared.any() else None

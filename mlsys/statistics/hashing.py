"""64-bit hashes of values: the same on every machine and in every version.

Neither Python's ``hash`` (salted by process) nor that of a data frame library (free to
change by version) may decide what a stored sketch holds.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from mlsys.statistics.arrays import Floats, UInt64

_NULL = np.uint64(0x6E756C6C)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, odd: the increment of SplitMix64."""

_INCREMENT, _MASK = int(GOLDEN), 0xFFFFFFFFFFFFFFFF
_STEPS, _LAST_SHIFT = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)), 31
_STEPS64 = tuple((np.uint64(shift), np.uint64(factor)) for shift, factor in _STEPS)
_EXACT = np.uint64(1 << 53)
"""Beyond it some whole numbers are no doubles."""
_BLOCK = 8_192
"""Words mixed at a time: they stay in the first cache, which is three times as fast."""


def mix(words: UInt64) -> UInt64:
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output.

    References
    ----------
    Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA, figure 18,
    doi:10.1145/2660193.2660195. `mix` adds the increment first, so 0 is not a fixed point.

    Examples
    --------
    The first output of the generator seeded with 0 (Vigna's splitmix64.c):

    >>> hex(int(mix(np.zeros(1, np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    mixed = np.empty(words.shape, np.uint64)
    for start in range(0, len(words), _BLOCK):
        z, shifted = mixed[start : start + _BLOCK], np.empty(min(_BLOCK, len(words) - start), np.uint64)
        np.add(words[start : start + _BLOCK], GOLDEN, out=z)
        for shift, factor in _STEPS64:
            z ^= np.right_shift(z, shift, out=shifted)
            z *= factor
        z ^= np.right_shift(z, np.uint64(_LAST_SHIFT), out=shifted)
    return mixed


def mix_word(word: int) -> int:
    """Mix one word as `mix` does, without an array.

    >>> hex(mix_word(0))
    '0xe220a8397b1dcdaf'
    """
    z = word + _INCREMENT & _MASK
    for shift, factor in _STEPS:
        z = (z ^ (z >> shift)) * factor & _MASK
    return z ^ (z >> _LAST_SHIFT)


def hash_floats(values: Floats) -> UInt64:
    """Hash by value: 0.0 and -0.0 are one, and so are all NaN."""
    nan = np.isnan(values)
    plain = (np.where(nan, np.nan, values) if nan.any() else values) + 0.0
    return mix(plain.view(np.uint64))


def hash_texts(values: list[str]) -> UInt64:
    """Hash by the UTF-8 bytes."""
    return hash_bytes(value.encode("utf-8", "surrogatepass") for value in values)


def hash_bytes(values: Iterable[bytes]) -> UInt64:
    """Hash by BLAKE2b with a digest of 8 bytes."""
    blake = hashlib.blake2b
    digests = b"".join(blake(value, digest_size=8).digest() for value in values)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def hash_value(value: float | str) -> int:
    """Hash one number, truth value or text as `hash_array` does, without an array.

    >>> all(hash_value(v) == int(hash_array(pa.array([v]))[0]) for v in ("so", "", 0.1, -0.0, 7, True))
    True
    """
    if isinstance(value, str):
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little")
    word: int = struct.unpack("<Q", struct.pack("<d", value + 0.0))[0]
    return mix_word(word)


def hash_array(values: pa.Array | pa.ChunkedArray) -> UInt64:
    """Hash each value of a column, nulls included: numbers by value whatever their type, others by text.

    >>> a, b = hash_array(pa.array([1, None])), hash_array(pa.array([1.0, None]))
    >>> bool((a == b).all())
    True
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if len(array) == 0:
        return np.empty(0, np.uint64)
    hashes = _hash_present(array.drop_null())
    if array.null_count == 0:
        return hashes
    full = np.full(len(array), _NULL)
    full[np.asarray(array.is_valid())] = hashes
    return full


def hash_exactly(values: pa.Array | pa.ChunkedArray) -> UInt64:
    """Hash as `hash_array`, but tell whole numbers apart that are one as doubles: ids beyond 2⁵³.

    >>> len(set(hash_exactly(pa.array([2**60, 2**60 + 1])).tolist()))
    2
    >>> bool((hash_exactly(pa.array([7, 2**60])) == hash_array(pa.array([7.0, 2.0**60]))).all())
    True
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    hashes = hash_array(array)
    if not (pa.types.is_int64(array.type) or pa.types.is_uint64(array.type)):
        return hashes
    words = np.asarray(array.fill_null(0))
    sizes = np.abs(words).view(np.uint64)
    large = np.flatnonzero(sizes > _EXACT)
    digits = sizes[large] // (sizes[large] & -sizes[large])  # without the zeros behind the last one of binary digits
    inexact = large[digits >= _EXACT]
    hashes[inexact] = mix(mix(words[inexact].view(np.uint64)))
    return hashes


def hash_rows(table: pa.Table | pa.RecordBatch, names: Sequence[str]) -> UInt64:
    """Hash each row over these columns, as `hash_exactly` does each value; nothing where there is no column."""
    return combine([hash_exactly(table[name]) for name in names])


def _hash_present(array: pa.Array) -> UInt64:
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return hash_floats(np.asarray(array.cast(pa.float64(), safe=False)))
    if pa.types.is_temporal(kind):
        bits = 32 if kind.bit_width == 32 else 64
        raw = np.asarray(array.view(pa.int32() if bits == 32 else pa.int64())).astype(np.int64)
        return mix(raw.view(np.uint64))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_decimal(kind):
        encoded = array.dictionary_encode()
        words = hash_texts([str(value) for value in encoded.dictionary.to_pylist()])
        return words[np.asarray(encoded.indices)] if len(words) else np.empty(0, np.uint64)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return hash_bytes(array.to_pylist())
    return hash_texts([repr(value) for value in array.to_pylist()])


def combine(columns: list[UInt64]) -> UInt64:
    """Combine the hashes of columns into one hash a row; the order of the columns counts."""
    rows = np.zeros(len(columns[0]) if columns else 0, np.uint64)
    for start in range(0, len(rows), _BLOCK):
        row = rows[start : start + _BLOCK]
        for column in columns:
            np.multiply(mix(row ^ column[start : start + _BLOCK]), GOLDEN, out=row)
    return rows

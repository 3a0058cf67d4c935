"""Arrow columns as NumPy arrays, arrays and numbers as JSON bit for bit, and lengths of values."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Combine chunks into one array and decode dictionaries."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # combine_chunks keeps chunks that exceed 2 GB of text or bytes
        wide = pa.large_binary() if pa.types.is_binary(array.type) else pa.large_string()
        array = pa.concat_arrays([chunk.cast(wide) for chunk in array.chunks])
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array


def jsonable(value: Any) -> Any:
    """Turn NumPy values into Python ones, and NaN and infinities into None, as strict JSON demands.

    >>> jsonable({"a": np.float64("nan"), "b": np.array([1, 2]), "c": (True,)})
    {'a': None, 'b': [1, 2], 'c': [True]}
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def as_floats(array: pa.Array) -> Floats:
    """Convert numbers to float64 and points in time to microseconds since 1970; -0.0 becomes 0.0."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif pa.types.is_time(kind):
        array = array.cast(pa.time64("us"), safe=False).cast(pa.int64())
    elif pa.types.is_duration(kind):
        array = array.cast(pa.duration("us"), safe=False).cast(pa.int64())
    return np.asarray(pc.cast(array, pa.float64(), safe=False)) + 0.0


def numbers_of(values: pa.Array | pa.ChunkedArray) -> Floats:
    """Numbers of a column as float64, NaN where there is none.

    >>> numbers_of(pa.array([1, None])).tolist()
    [1.0, nan]
    """
    return np.asarray(pc.cast(values, pa.float64(), safe=False), np.float64)


def number(value: float) -> float | str:
    """Write a float for JSON, which knows no NaN and no infinity: those become text.

    >>> number(0.5), number(float("inf")), number(float("nan"))
    (0.5, 'inf', 'nan')
    """
    value = float(value)
    return value if math.isfinite(value) else repr(value)


def real(value: float | str) -> float:
    """Read the float that `number` wrote."""
    return float(value)


def pack(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Write an array as base64 of its little-endian bytes, with type and shape."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(values.shape), "base64": text}


def array(packed: dict[str, Any]) -> npt.NDArray[Any]:
    """Read the array that `pack` wrote, in native byte order and writable."""
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=np.dtype(packed["dtype"]))
    return raw.reshape(packed["shape"]).astype(raw.dtype.newbyteorder("="), copy=True)


@dataclass(frozen=True)
class LengthStatistics:
    """Exact count, sum and range of the lengths of values; empty for types without a length."""

    n: int = 0
    total: int = 0
    minimum: int = 0
    maximum: int = 0

    @classmethod
    def of(cls, lengths: Ints | None, counts: Ints | None = None) -> Self:
        """Count lengths as `lengths_of` gives them, each occurring `counts` times (once by default)."""
        if lengths is None or len(lengths) == 0:
            return cls()
        times = np.ones(len(lengths), np.int64) if counts is None else counts
        return cls(int(times.sum()), int(lengths @ times), int(lengths.min()), int(lengths.max()))

    def merge(self, other: LengthStatistics) -> LengthStatistics:
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        ends = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        return LengthStatistics(self.n + other.n, self.total + other.total, *ends)

    @property
    def mean(self) -> float:
        return self.total / self.n

    def to_json(self) -> list[int]:
        return list(astuple(self))

    @classmethod
    def from_json(cls, value: list[int]) -> Self:
        return cls(*value)


def lengths_of(values: pa.Array) -> Ints | None:
    """Length of each value, none of them null; None for a type without lengths."""
    kind: Any = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        lengths = pc.utf8_length(values)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        lengths = pc.binary_length(values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(values)
    else:
        return None
    return np.asarray(lengths).astype(np.int64)

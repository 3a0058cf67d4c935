"""Columns as plain arrays: decoded, and numbers as float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["as_floats", "plain"]

Floats = npt.NDArray[np.float64]


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, dictionaries decoded."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # combine_chunks keeps chunks that exceed 2 GB of text or bytes
        wide = pa.large_binary() if pa.types.is_binary(array.type) else pa.large_string()
        array = pa.concat_arrays([chunk.cast(wide) for chunk in array.chunks])
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array


def as_floats(array: pa.Array) -> Floats:
    """Numbers as float64 and points in time as microseconds since 1970; -0.0 becomes 0.0."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif pa.types.is_time(kind):
        array = array.cast(pa.time64("us"), safe=False).cast(pa.int64())
    elif pa.types.is_duration(kind):
        array = array.cast(pa.duration("us"), safe=False).cast(pa.int64())
    return np.asarray(pc.cast(array, pa.float64(), safe=False)) + 0.0

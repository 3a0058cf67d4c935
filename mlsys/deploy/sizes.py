"""Divide rows by what they weigh: bytes, pixels, and their number, so that one request or batch has a bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes of memory of each row: texts and bytes by their length, other values by the mean of their column.

    >>> row_bytes(pa.table({"x": [1.5, 2.5], "text": ["a", "a" * 100]})).tolist()
    [9, 108]
    """
    sizes = np.zeros(table.num_rows, np.int64)
    if not table.num_rows:
        return sizes
    for column in table.columns:
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if is_text or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy().astype(np.int64)
        else:
            sizes += -(-column.nbytes // table.num_rows)
    return sizes


def spans(*bounds: tuple[NDArray[np.int64], int]) -> Iterator[tuple[int, int]]:
    """First and last place, exclusive, of consecutive rows whose weights keep every bound; one row alone may break it.

    A bound is the weight of each row and the most that a span may weigh.

    >>> list(spans((np.array([5, 5, 5, 99, 5]), 10)))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    cumulative = [(np.concatenate([[0], np.cumsum(weights)]), most) for weights, most in bounds]
    num_rows, start = len(cumulative[0][0]) - 1, 0
    while start < num_rows:
        stops = (int(np.searchsorted(sums, sums[start] + most, side="right")) - 1 for sums, most in cumulative)
        stop = max(start + 1, min(stops))
        yield start, stop
        start = stop

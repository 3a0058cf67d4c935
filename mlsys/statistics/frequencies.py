"""Counts of values: exact up to a limit of different ones, then the frequent ones with a bound.

Beyond the limit the counts are thinned as in Misra & Gries: the count just below the kept ones is subtracted from
all, and what falls to zero is forgotten. A count is then too low by at most `FrequencyTable.error`, which is at most
n / (capacity + 1), and a value that is missing occurred at most that often.

References
----------
Misra & Gries (1982), "Finding repeated elements", Science of Computer Programming 2(2),
doi:10.1016/0167-6423(82)90012-0.
Agarwal, Cormode, Huang, Phillips, Wei & Yi (2013), "Mergeable summaries", ACM TODS
38(4), section 2, doi:10.1145/2500128: thinning after a merge keeps the bound.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pyarrow as pa

from mlsys.schema import arrow_type
from mlsys.statistics import arrays
from mlsys.statistics.arrays import Floats, Ints


class FrequencyTable:
    """Counts of the distinct values, and sums of the target over the rows that have each.

    Exact while there are at most `limit` of them; then the most frequent `capacity`, each count
    too low by at most `error`. An update costs a hash look-up a distinct value, not a row.

    Attributes
    ----------
    keys, counts
        The values, no nulls, and the occurrences of each.
    sums
        ``(len(keys), width)``, see `label_sums`. After thinning they cover the occurrences since the key was last
        taken up, not all of them.
    """

    def __init__(self, limit: int, capacity: int, width: int) -> None:
        self.limit, self.capacity, self.width = limit, capacity, width
        self.keys = pa.nulls(0)
        self.counts = np.empty(0, np.int64)
        self.sums = np.empty((0, width))
        self.error = 0
        self.exact = True

    def update(self, keys: pa.Array, counts: Ints, sums: Floats | None = None, *, missed: int = 0) -> None:
        """Add counted values: `keys` without nulls, and each at most once.

        `missed` is the largest number of rows that any other value may have had.
        """
        sums = np.zeros((len(keys), self.width)) if sums is None else sums
        self._add([(self.keys, self.counts, self.sums), (keys, counts.astype(np.int64), sums)])
        self._miss(missed)
        self._thin()

    def merge(self, *others: FrequencyTable) -> FrequencyTable:
        parts = (self, *others)
        merged = FrequencyTable(self.limit, self.capacity, self.width)
        merged.exact = all(part.exact for part in parts)
        merged._miss(sum(part.error for part in parts))
        merged._add([(part.keys, part.counts, part.sums) for part in parts])
        merged._thin()
        return merged

    def _miss(self, occurrences: int) -> None:
        self.error += occurrences
        self.exact = self.exact and self.error == 0

    def _add(self, parts: list[tuple[pa.Array, Ints, Floats]]) -> None:
        parts = [part for part in parts if len(part[0])]
        if len(parts) < 2:
            self.keys, self.counts, self.sums = parts[0] if parts else (self.keys, self.counts, self.sums)
            return
        kind = parts[0][0].type
        encoded = pa.concat_arrays([keys.cast(kind) for keys, _, _ in parts]).dictionary_encode()
        where, size = np.asarray(encoded.indices), len(encoded.dictionary)
        # Sums of counts are exact in floats, which bincount adds up quickly, below 2^53.
        counts = np.bincount(where, np.concatenate([counts for _, counts, _ in parts]), size)
        sums = np.concatenate([sums for _, _, sums in parts])
        summed = [np.bincount(where, column, size) for column in sums.T]
        self.keys, self.counts = encoded.dictionary, counts.astype(np.int64)
        self.sums = np.stack(summed, axis=1) if summed else np.empty((size, 0))

    def _thin(self) -> None:
        if len(self.counts) <= (self.limit if self.exact else self.capacity):
            return
        self.exact = False
        below = int(-np.partition(-self.counts, self.capacity)[self.capacity])
        stays = self.counts > below
        self.keys = self.keys.filter(pa.array(stays))
        self.counts, self.sums = self.counts[stays] - below, self.sums[stays]
        self.error += below

    def order(self) -> Ints:
        """Positions of the keys in order of frequency, the most frequent first."""
        return np.argsort(-self.counts, kind="stable")

    def values(self) -> list[Any]:
        """The keys as Python values."""
        return list(self.keys.to_pylist())

    def to_json(self) -> dict[str, Any]:
        keys = arrays.pack(np.asarray(self.keys)) if pa.types.is_floating(self.keys.type) else self.keys.to_pylist()
        return {
            "limits": [self.limit, self.capacity, self.width],
            "type": str(self.keys.type),
            "keys": keys,
            "counts": self.counts.tolist(),
            "sums": arrays.pack(self.sums),
            "error": self.error,
            "exact": self.exact,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        table = cls(*value["limits"])
        keys = arrays.array(value["keys"]) if isinstance(value["keys"], dict) else value["keys"]
        table.keys = pa.array(keys, arrow_type(value["type"]))
        table.counts = np.array(value["counts"], np.int64)
        table.sums = arrays.array(value["sums"])
        table.error, table.exact = value["error"], value["exact"]
        return table


def label_sums(where: Ints, size: int, y: Floats, classes: int | None) -> Floats:
    """Sum the target over groups of rows; rows without a target do not count.

    Parameters
    ----------
    where
        Group of each row, 0 … size - 1.
    y
        Class index with -1 for none, or a number with NaN for none.
    classes
        Number of classes; None for a number.

    Returns
    -------
    ``(size, classes)`` rows of each class, or ``(size, 3)``: rows, sum, sum of squares.
    """
    if classes is None:
        known = np.isfinite(y)
        groups, value = where[known], y[known]
        columns = [np.bincount(groups, w, size) for w in (np.ones_like(value), value, value * value)]
        return np.stack(columns, axis=1).astype(np.float64)
    known = y >= 0
    if not known.all():
        where, y = where[known], y[known]
    cells = where * classes + y.astype(np.int64, copy=False)
    return np.bincount(cells, minlength=size * classes).reshape(size, classes).astype(np.float64)

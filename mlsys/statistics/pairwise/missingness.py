"""Missingness: pairs of columns whose values are missing together, and patterns of rows.

Null, NaN and infinite values are missing, as they are for the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from mlsys.statistics.arrays import Bools, Ints, as_floats
from mlsys.statistics.encoding import EncodedColumn, EncodedNumbers
from mlsys.statistics.frequencies import FrequencyTable
from mlsys.statistics.hashing import mix

EXACT_PATTERNS, FREQUENT_PATTERNS = 4_096, 512
"""Patterns counted exactly, and those kept once there were more: each count is then at most
1 / 513 of the rows too low."""

ROWS = 16_384
"""Rows whose pairs are counted at once: single precision holds such counts exactly."""


def missing(column: EncodedColumn) -> Bools | None:
    """Mask of the rows without a value; None if all have one."""
    present = column.present
    if isinstance(column, EncodedNumbers):
        present = column.finite
    elif pa.types.is_floating(column.array.type):
        present = np.isfinite(as_floats(column.array))
    return None if present is None or present.all() else ~present


@dataclass(frozen=True)
class MissingPatterns:
    """Rows in which columns of a fixed list are missing together, by pair and by set of columns.

    Pairs are exact; patterns are exact up to `EXACT_PATTERNS` of them, then counts are too low by at most
    ``patterns.error``. An update is a product of matrices over the columns with missing values, and a hash a row.

    Attributes
    ----------
    together
        Rows in which both columns are missing, ``(columns, columns)``.
    patterns
        Rows by the set of columns that are missing, as packed bits in the order of the columns.
    """

    num_rows: int
    together: Ints
    patterns: FrequencyTable

    @classmethod
    def of(cls, masks: Sequence[Bools | None], num_rows: int) -> Self:
        """Patterns of the masks that `missing` gives, one a column."""
        new = cls(
            num_rows, np.zeros((len(masks), len(masks)), np.int64), FrequencyTable(EXACT_PATTERNS, FREQUENT_PATTERNS, 0)
        )
        some = [column for column, mask in enumerate(masks) if mask is not None]
        matrix = np.stack([np.asarray(masks[c]) for c in some], axis=1) if some else np.zeros((num_rows, 0), bool)
        for start in range(0, num_rows if some else 0, ROWS):
            part = matrix[start : start + ROWS].astype(np.float32)
            new.together[np.ix_(some, some)] += np.rint(part.T @ part).astype(np.int64)
        new._count(matrix, some, len(masks))
        return new

    def _count(self, matrix: Bools, some: Sequence[int], size: int) -> None:
        """Count rows by pattern, found by a key: the exclusive or of a random number a column (Zobrist 1970)."""
        if len(matrix) == 0:
            return
        keys = np.zeros(len(matrix), np.uint64)
        for place, number in enumerate(mix(np.arange(1, len(some) + 1, dtype=np.uint64))):
            keys ^= matrix[:, place] * number
        encoded = pa.array(keys).dictionary_encode()
        where = np.asarray(encoded.indices)
        first = np.empty(len(encoded.dictionary), np.int64)
        first[where[::-1]] = np.arange(len(where))[::-1]
        bits = np.zeros((len(first), size), bool)
        bits[:, some] = matrix[first]
        packed = [row.tobytes() for row in np.packbits(bits, axis=1)]
        self.patterns.update(pa.array(packed, pa.binary()), np.bincount(where))

    def merge(self, other: MissingPatterns) -> MissingPatterns:
        together, patterns = self.together + other.together, self.patterns.merge(other.patterns)
        return MissingPatterns(self.num_rows + other.num_rows, together, patterns)

    def frequent(self, names: Sequence[str], most: int) -> list[tuple[list[str], int]]:
        """Most frequent sets of missing columns with their rows; of equal ones, those of fewer columns first."""
        sets = []
        for key, num_rows in zip(self.patterns.values(), self.patterns.counts.tolist(), strict=True):
            bits = np.unpackbits(np.frombuffer(key, np.uint8), count=len(names))
            sets.append(([names[column] for column in np.flatnonzero(bits).tolist()], num_rows))
        return sorted(sets, key=lambda item: (-item[1], len(item[0]), item[0]))[:most]

"""How many values repeat, from the counts of those with the smallest hashes.

A bottom-k sample: whether a value is counted depends on its hash alone, so every row of a
counted value is counted, in whatever part it stands, and parts merge to exactly what the
whole would give. With at most k different values the counts are all of them.

Cohen & Kaplan (2007), "Summarizing data using bottom-k sketches", PODC, section 3,
doi:10.1145/1281100.1281133.
"""

from __future__ import annotations

import heapq
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlsys.statistics import codec

__all__ = ["Smallest"]

UInt64 = npt.NDArray[np.uint64]


class Smallest:
    """Counts of the `limit` smallest hashes met.

    Attributes
    ----------
    counts
        Hash → rows.
    exact
        No hash was ever left out: the counts are those of all rows.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: dict[int, int] = {}
        self.exact = True

    def update(self, hashes: UInt64) -> None:
        values, counts = np.unique(hashes, return_counts=True)
        self._add(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: Smallest) -> Smallest:
        merged = Smallest(self.limit)
        merged.counts, merged.exact = dict(self.counts), self.exact and other.exact
        merged._add(other.counts)
        return merged

    def _add(self, counts: dict[int, int]) -> None:
        for value, count in counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        if len(self.counts) > self.limit:
            self.exact = False
            self.counts = {value: self.counts[value] for value in heapq.nsmallest(self.limit, self.counts)}

    @property
    def repeated_fraction(self) -> float:
        """Fraction of the rows whose value another row had before: exact, or of the rows counted."""
        rows = sum(self.counts.values())
        return (rows - len(self.counts)) / rows if rows else 0.0

    def to_json(self) -> dict[str, Any]:
        values = sorted(self.counts)
        return {
            "limit": self.limit,
            "exact": self.exact,
            "hashes": codec.pack(np.array(values, np.uint64)),
            "counts": codec.pack(np.array([self.counts[value] for value in values], np.int64)),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        found = cls(value["limit"])
        found.exact = value["exact"]
        found.counts = dict(
            zip(codec.array(value["hashes"]).tolist(), codec.array(value["counts"]).tolist(), strict=True)
        )
        return found

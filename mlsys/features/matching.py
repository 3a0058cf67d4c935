"""Which row of a table goes with which row of another: the last one known at a time.

Keys and times are those of `mlsys.features.terms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Moments", "latest", "numbered"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """The distinct pairs of key and time that rows ask for, sorted.

    Attributes
    ----------
    places
        Of each moment: a number that grows with key and time.
    of_row
        The moment of each row.
    axis
        The distinct times; None if the times themselves, from `first` to `last`, leave room for the keys.
    """

    places: Ints
    of_row: Ints
    axis: Ints | None
    first: int
    last: int

    @classmethod
    def of(cls, codes: Ints, times: Ints) -> Moments:
        """Moments of rows with key numbers `codes`."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        room = (int(codes.max(initial=0)) + 2) * (last - first + 2)
        axis = None if room < 1 << 62 else _distinct(times)[0]
        unplaced = cls(np.empty(0, np.int64), np.empty(0, np.int64), axis, first, last)
        return cls(*_distinct(unplaced._place(codes, times)), axis, first, last)

    def __len__(self) -> int:
        return len(self.places)

    def keys(self) -> Ints:
        """Key number of each moment."""
        return self.places // self._length()

    def since(self, codes: Ints, times: Ints) -> Ints:
        """For each event the first moment of its key at or after its time; where there is none, of the next key."""
        return np.searchsorted(self.places, self._place(codes, times))

    def _place(self, codes: Ints, times: Ints) -> Ints:
        if self.axis is None:
            return codes * self._length() + (np.clip(times, self.first, self.last + 1) - self.first)
        return codes * self._length() + np.searchsorted(self.axis, times)

    def _length(self) -> int:
        return self.last - self.first + 2 if self.axis is None else len(self.axis) + 1


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Distinct values in order, and for each value which of them it is."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    which = np.empty(len(values), np.int64)
    which[order] = np.cumsum(is_new) - 1
    return ordered[is_new], which


def numbered(asked: pl.DataFrame, index: pl.DataFrame, by: Sequence[str]) -> tuple[Ints, Ints]:
    """Keys of both sides as numbers; -1 for a key that the table does not have."""
    keys = index.select(by).unique().with_row_index("__code")
    ours, theirs = (
        side.select(by).join(keys, on=list(by), how="left", maintain_order="left")["__code"] for side in (asked, index)
    )
    return ours.cast(pl.Int64).fill_null(-1).to_numpy(), theirs.cast(pl.Int64).to_numpy()


def latest(moments: Moments, codes: Ints, since: Ints) -> Ints:
    """For each moment the last event of its key that is seen by then; -1 where there is none.

    Events come in the order in which they prevail: by key, time, when they were known, place
    in the table. So the largest number seen so far is the answer, and if that is of another
    key there is none.
    """
    best = np.full(len(moments) + 1, -1)
    np.maximum.at(best, since, np.arange(len(codes)))
    found = np.maximum.accumulate(best[:-1])
    is_own = (found >= 0) & (codes[found] == moments.keys()) if len(codes) else np.zeros(len(moments), bool)
    return np.where(is_own, found, -1)

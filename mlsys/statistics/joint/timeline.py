"""Rows and the target over time, in bins that grow with the span of the data.

The widths form a ladder in which each is a multiple of the one before: powers of ten of a
microsecond up to a second, then 1, 10 minutes, 1, 6 hours, a day, and 1, 4, 52 weeks. A bin
of one width is a union of bins of the one below, so parts merge whatever widths they have,
and the width at the end depends on the first and last row alone. Days begin at midnight
UTC, weeks on Monday; bins of whole weeks do not alias with the days of the week.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlsys.statistics.frequencies import label_sums

__all__ = ["MOST_BINS", "Timeline"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_BINS = 200

SECOND = 1_000_000
DAY = 86_400 * SECOND
WIDTHS = (
    *(10**power for power in range(6)),
    *(factor * SECOND for factor in (1, 10, 60, 600, 3_600, 21_600)),
    DAY,
    *(factor * 7 * DAY for factor in (1, 4, 52, 520, 5_200, 52_000, 520_000, 5_200_000)),
)
MONDAY = 3 * DAY
"""1970 began on a Thursday: a week that ends before a Monday began three days before 1970."""


@dataclass(frozen=True)
class Timeline:
    """Rows and sums of the target in bins of time.

    Attributes
    ----------
    rung
        Place of the width in the ladder.
    first
        Number of the first bin, counted from the one that holds 1970.
    rows
        Rows of each bin.
    sums
        ``(bins, classes)`` or ``(bins, 3)``, see `label_sums`.
    num_missing
        Rows without a time.
    """

    rung: int
    first: int
    rows: Ints
    sums: Floats
    num_missing: int

    @classmethod
    def empty(cls, classes: int | None) -> Self:
        return cls(0, 0, np.empty(0, np.int64), np.empty((0, classes or 3)), 0)

    @classmethod
    def of(cls, times: Ints, known: npt.NDArray[np.bool_], y: npt.NDArray[Any], classes: int | None) -> Self:
        """Of microseconds since 1970, where they are `known`."""
        when, label = (times, y) if known.all() else (times[known], y[known])
        if len(when) == 0:
            return cls(0, 0, np.empty(0, np.int64), np.empty((0, classes or 3)), len(times))
        rung = _rung(int(when.min()), int(when.max()), 0)
        first, last = _bin(int(when.min()), rung), _bin(int(when.max()), rung)
        where = _bin(when, rung) - first
        size = last - first + 1
        rows = np.bincount(where, minlength=size)
        return cls(rung, first, rows, label_sums(where, size, label, classes), len(times) - len(when))

    def merge(self, other: Timeline) -> Timeline:
        missing = self.num_missing + other.num_missing
        parts = [part for part in (self, other) if len(part.rows)]
        if len(parts) < 2:
            found = parts[0] if parts else self
            return Timeline(found.rung, found.first, found.rows, found.sums, missing)
        starts, ends = [part.start(0) for part in parts], [part.start(len(part.rows)) - 1 for part in parts]
        rung = _rung(min(starts), max(ends), max(part.rung for part in parts))
        first, last = _bin(min(starts), rung), _bin(max(ends), rung)
        rows, sums = np.zeros(last - first + 1, np.int64), np.zeros((last - first + 1, self.sums.shape[1]))
        for part in parts:
            where = [_bin(part.start(at), rung) - first for at in range(len(part.rows))]
            np.add.at(rows, where, part.rows)
            np.add.at(sums, where, part.sums)
        return Timeline(rung, first, rows, sums, missing)

    @property
    def width_s(self) -> float:
        return float(WIDTHS[self.rung] / SECOND)

    def start(self, at: int) -> int:
        """Where a bin begins, in microseconds since 1970."""
        width = WIDTHS[self.rung]
        return int((self.first + at) * width - (MONDAY if width > DAY else 0))


def _bin(when: Any, rung: int) -> Any:
    width = WIDTHS[rung]
    return (when + (MONDAY if width > DAY else 0)) // width


def _rung(low: int, high: int, least: int) -> int:
    """The finest width, from `least` on, that needs no more than the greatest number of bins."""
    for rung in range(least, len(WIDTHS)):
        if _bin(high, rung) - _bin(low, rung) < MOST_BINS:
            return rung
    return len(WIDTHS) - 1

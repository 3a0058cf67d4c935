"""Window aggregates of all keys at once: each event covers one run of the moments asked for.

The moments are sorted by key and time. An event is seen from the first moment at which it
has happened and is known, until the first at which it has left the window: one run of
positions, also for events that were written late. What `mlsys.features.windows` defines
for one moment is then, for all of them,

==============  ==========================================================================
count           +1 where a run starts, -1 where it ends, summed along the moments
sum, mean       the same with the exact digits of the values (`mlsys.features.exact`)
min, max        each run as two blocks of a power of two; blocks are halved downwards
distinct        a count of the unions of the runs of equal values
==============  ==========================================================================

in time linear in events and moments but for the sorting, whatever the length of the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features import exact
from mlsys.features.windows import Window

__all__ = ["Runs", "sweep"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """Where events are seen: event i at the moments ``starts[i]`` … ``ends[i] - 1``, never none."""

    starts: Ints
    ends: Ints
    num_moments: int

    @classmethod
    def between(cls, starts: Ints, ends: Ints, num_moments: int) -> tuple[Runs, Ints]:
        """The runs that are not empty, and which events they are of."""
        kept = np.flatnonzero(starts < ends)
        return cls(starts[kept], ends[kept], num_moments), kept

    def of(self, kept: Flags) -> Runs:
        return Runs(self.starts[kept], self.ends[kept], self.num_moments)

    def totals(self, amounts: Ints | int = 1) -> Ints:
        """Sum over the runs that cover each moment."""
        change = np.zeros(self.num_moments + 1, np.int64)
        np.add.at(change, self.starts, amounts)
        np.subtract.at(change, self.ends, amounts)
        return np.cumsum(change[:-1])

    def sums(self, values: Floats) -> Floats:
        """Exact sum of the values over each moment, rounded once."""
        lowest, parts = exact.digits(values)
        numbers = [lowest + at for at in range(len(parts))]
        found: dict[int, Ints] = {}
        for number in np.unique(np.concatenate(numbers)):
            amounts = sum(np.where(at == number, digit, 0) for at, digit in zip(numbers, parts, strict=True))
            found[int(number)] = self.totals(np.asarray(amounts, np.int64))
        return exact.rounded(found) if found else np.zeros(self.num_moments)

    def extremes(self, values: Floats, better: np.ufunc, worst: float) -> Floats:
        """The best value over each moment; `worst` where there is none."""
        best = np.full(self.num_moments, worst)
        level = np.frexp((self.ends - self.starts).astype(np.float64))[1] - 1  # floor of the binary logarithm
        for power in range(int(level.max(initial=0)), -1, -1):
            half = best.copy()  # a block of twice this size is two of this size
            half[1 << power :] = better(best[1 << power :], best[: -1 << power])
            best = half
            here = level == power
            better.at(best, self.starts[here], values[here])
            better.at(best, self.ends[here] - (1 << power), values[here])
        return best

    def kinds(self, codes: Ints) -> Ints:
        """Number of distinct codes over each moment."""
        order = np.lexsort((self.starts, codes))
        codes, starts, ends = codes[order], self.starts[order], self.ends[order]
        # Ends of earlier runs of the same code; each code has a range of numbers of its own, above those before it.
        above = codes * (self.num_moments + 1)
        reached = np.maximum.accumulate(ends + above) - above if len(codes) else ends
        is_new = np.ones(len(codes), bool)
        is_new[1:] = (codes[1:] != codes[:-1]) | (starts[1:] > reached[:-1])
        is_last = np.append(is_new[1:], True)[: len(codes)]
        return Runs(starts[is_new], reached[is_last], self.num_moments).totals()


def sweep(
    windows: Sequence[Window], starts: Ints, ends: Mapping[int, Ints], values: Mapping[str, pl.Series], num_moments: int
) -> dict[str, pl.Series]:
    """The value of each window at each moment, by name.

    Parameters
    ----------
    starts
        For each event the first moment at which it is seen.
    ends
        For each length of a window, for each event the first moment at which it is not seen any more.
    values
        Columns that the windows read, as `mlsys.features.values` reads them.
    """
    runs = {length: Runs.between(starts, end, num_moments) for length, end in ends.items()}
    return {one.name: _value(one, *runs[one.length], values) for one in windows}


def _value(window: Window, runs: Runs, kept: Ints, values: Mapping[str, pl.Series]) -> pl.Series:
    if window.column is None:
        return pl.Series(runs.totals())
    read = values[window.column].gather(kept)
    present = read.is_not_null().to_numpy()
    runs, read = runs.of(present), read.drop_nulls()
    if window.function == "distinct":
        return pl.Series(runs.kinds(_codes(read)))
    numbers = read.cast(pl.Float64).to_numpy() + 0.0  # never -0.0
    num_values = runs.totals()
    if window.function in ("min", "max"):
        better, worst = (np.minimum, np.inf) if window.function == "min" else (np.maximum, -np.inf)
        result = runs.extremes(numbers, better, worst)
    else:
        result = runs.sums(numbers)
        if window.function == "mean":
            result = np.divide(result, num_values, where=num_values > 0, out=result)
    return pl.select(pl.when(pl.Series(num_values > 0)).then(pl.Series(result))).to_series()


def _codes(values: pl.Series) -> Ints:
    """A number for each distinct value; 0.0 and -0.0 are one."""
    plain = values + 0.0 if values.dtype.is_float() else values
    return plain.rank("dense").to_numpy().astype(np.int64)

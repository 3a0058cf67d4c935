"""Numbers over the latest events of a key: what is counted, and the one definition of it.

:func:`aggregate` says what a window aggregate is, for one key and one moment, in plain
Python. The store of the endpoint calls it; the join of whole tables is tested against it
bit for bit. Its rules:

* An event counts at moment t when its time lies in (t - window, t] and it was known by t.
  The end is closed, as in the as-of join (an event of this very moment is known) and in
  Feast's point-in-time join; the start is open, as pandas and Polars roll
  (``closed="right"``), so that windows of one length side by side count each event once.
* Each row of the table is an event, also where several have one time.
* ``count`` counts events. The others skip nulls, and what `mlsys.features.domains` reads as
  null: NaN, infinities, numbers beyond float32. True is 1, false 0, and -0.0 is 0.0.
* ``sum`` is the exact sum, rounded once (`math.fsum`); ``mean`` is that divided by the
  number of values. So neither depends on the order of the events, on how they were
  divided among workers, or on what was in the window before.
* Without a value in the window ``sum``, ``mean``, ``min`` and ``max`` are null; ``count``
  and ``distinct`` are 0.

Window aggregates of all keys at once: each event covers one run of the moments asked for.

The moments are sorted by key and time. An event is seen from the first moment at which it
has happened and is known, until the first at which it has left the window: one run of
positions, also for events that were written late. What `mlsys.features.joins.window_aggregates` defines
for one moment is then, for all of them,

==============  ==========================================================================
count           +1 where a run starts, -1 where it ends, summed along the moments
sum, mean       the same with the exact digits of the values (`mlsys.features.joins.window_aggregates`)
min, max        each run as two blocks of a power of two; blocks are halved downwards
distinct        a count of the unions of the runs of equal values
==============  ==========================================================================

in time linear in events and moments but for the sorting, whatever the length of the window.

Sums of floats without rounding: integers in digits of 32 bits, rounded once at the end.

A float is an integer times a power of two. Laid out as digits of base 2³², floats are added
digit by digit in 64-bit integers, which is exact for up to 2³¹ values, and sums can be
subtracted again without the cancellation that differences of rounded prefix sums suffer.
The result is the float nearest to the exact sum, ties to even, as `math.fsum` gives it
(a small superaccumulator; Kulisch (2008), "Computer Arithmetic and Validity", chapter 8;
Neal (2015), "Fast exact summation using small and large superaccumulators",
arXiv:1505.05571).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys import recipe
from mlsys.recipe.durations import span_us

__all__ = [
    "Intervals",
    "WindowAggregate",
    "WindowEvents",
    "aggregate",
    "aggregate_all",
    "exact_digits",
    "rounded_sum",
    "windows_of",
]


@dataclass(frozen=True)
class WindowAggregate:
    """One aggregate: the name it is joined under, and what it is.

    Attributes
    ----------
    column
        Column of the table; None for ``count``.
    length
        In the unit of the events' times.
    """

    name: str
    function: str
    column: str | None
    length: int


@dataclass(frozen=True)
class WindowEvents:
    """Events of one key.

    Attributes
    ----------
    times
        When each happened, ascending; integers of one unit since one epoch.
    known
        When the table learned of each, in the same unit; `times` where it does not say.
    values
        For each column that a window reads, the values as `mlsys.features.domains` reads
        them: None for null, never NaN.
    """

    times: Sequence[int]
    known: Sequence[int]
    values: Mapping[str, Sequence[Any]]


def windows_of(join: recipe.Join, per_us: int = 1) -> list[WindowAggregate]:
    """The aggregates of a join in the recipe's order; `per_us` is 1000 for times in nanoseconds."""
    return [
        WindowAggregate(join.prefix + title, one.function, one.column, span_us(one.window) * per_us)
        for title, one in join.aggregates.items()
    ]


def aggregate(windows: Sequence[WindowAggregate], events: WindowEvents, moment: int) -> dict[str, float | int | None]:
    """The value of each window at a moment, by name; see the module for the rules.

    Examples
    --------
    The event at 10 is in the window (10, 20] no more; the one at 18 became known at 25:

    >>> events = WindowEvents([10, 12, 18, 20], [10, 12, 25, 20], {"rain": [1.0, 0.1, 5.0, 0.2]})
    >>> aggregate([WindowAggregate("n", "count", None, 10), WindowAggregate("rain", "sum", "rain", 10)], events, 20)
    {'n': 2, 'rain': 0.30000000000000004}
    """
    times, known = events.times, events.known
    stop = bisect_right(times, moment)
    starts: dict[int, list[int]] = {}
    for window in windows:
        if window.length not in starts:
            start = bisect_right(times, moment - window.length, hi=stop)
            starts[window.length] = [at for at in range(start, stop) if known[at] <= moment]
    return {window.name: _value(window, events, starts[window.length]) for window in windows}


def _value(window: WindowAggregate, events: WindowEvents, seen: list[int]) -> float | int | None:
    if window.column is None:
        return len(seen)
    column = events.values[window.column]
    values = [value for at in seen if (value := column[at]) is not None]
    if window.function == "distinct":
        return len(set(values))
    if not values:
        return None
    return FUNCTIONS[window.function](values) + 0.0  # never -0.0


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


FUNCTIONS: dict[str, Callable[[list[float]], float]] = {"sum": math.fsum, "mean": _mean, "min": min, "max": max}


BITS = 32
MASK = np.int64((1 << BITS) - 1)
LOWEST = -1126
"""Exponent of digit 0: the mantissa of the smallest float, 2⁻¹⁰⁷⁴, taken as 53 bits ends at 2⁻¹¹²⁶."""

BLOCK = 1 << 15  # sums rounded at a time: their digits stay in the processor's cache


def exact_digits(values: Floats) -> tuple[Ints, tuple[Ints, Ints, Ints]]:
    """Each value as three signed digits: the number of the lowest, and the digits from there upwards.

    >>> lowest, parts = exact_digits(np.array([1.5]))
    >>> sum(int(d[0]) * 2.0 ** (32 * (int(lowest[0]) + at) - 1126) for at, d in enumerate(parts))
    1.5
    """
    mantissa, exponent = np.frexp(values)
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    first = exponent.astype(np.int64) - 53 - LOWEST
    lowest, shift = np.divmod(first, BITS)
    low = (whole & MASK) << shift
    rest = (low >> BITS) + ((whole >> BITS) << shift)
    sign = np.where(values < 0, np.int64(-1), np.int64(1))
    return lowest, (sign * (low & MASK), sign * (rest & MASK), sign * (rest >> BITS))


def rounded_sum(sums: dict[int, Ints]) -> Floats:
    """The floats nearest to sums given by their digits, number of the digit → values.

    Digit 35 counts in units of 2⁻⁶, digit 36 in units of 2²⁶:

    >>> rounded_sum({35: np.array([3, -64]), 36: np.array([0, 1])}).tolist()
    [0.046875, 67108863.0]
    """
    if not sums:
        return np.empty(0)
    first, last = min(sums), max(sums)
    size = len(sums[first])
    result = np.empty(size)
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        zero = np.zeros(len(result[block]), np.int64)
        rows = [sums[at][block] if at in sums else zero for at in range(first, last + 1)]
        result[block] = _round(np.stack(rows), first)
    return result


def _round(sums: Ints, first: int) -> Floats:
    plain, is_negative = _carried(sums)
    if is_negative.any():
        plain = _carried(np.where(is_negative, -sums, sums))[0]
    size = plain.shape[1]
    below = np.zeros((2, size), np.int64)
    number = np.concatenate([below, plain])  # two digits of zeros, so that each digit has two below it
    present = number != 0
    top = np.where(present.any(axis=0), len(number) - 1 - present[::-1].argmax(axis=0), 2)
    more = np.cumsum(present, axis=0)
    column = np.arange(size)
    head, middle, tail = (number[top - down, column].astype(np.uint64) for down in (0, 1, 2))
    is_inexact = np.where(top >= 3, more[top - 3, column], 0) > 0
    # The top 64 bits from the first set one; the last bit is set if anything was cut off, so that rounding to
    # 53 bits, which the conversion does, sees the difference between a tie and more than a tie.
    shift = (BITS - np.frexp(head.astype(np.float64))[1]).astype(np.uint64)
    word = (((head << np.uint64(BITS)) | middle) << shift) | (tail >> (np.uint64(BITS) - shift))
    cut = ((tail << shift) & np.uint64(MASK)) != 0
    word |= (cut | is_inexact).astype(np.uint64)
    exponent = (top - 2 + first - 1) * BITS - shift.astype(np.int64) + LOWEST
    result = np.ldexp(word.astype(np.float64), exponent.astype(np.int32))
    return np.asarray(np.where(is_negative, -result, result) + 0.0, np.float64)


def _carried(sums: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Digits from 0 to 2³² - 1, one more on top; and where the number is negative (its digits then mean nothing)."""
    plain = np.empty((len(sums) + 1, sums.shape[1]), np.int64)
    carry = np.zeros(sums.shape[1], np.int64)
    for at, digit in enumerate(sums):
        total = digit + carry
        plain[at] = total & MASK
        carry = total >> BITS
    plain[-1] = carry
    return plain, carry < 0


Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Intervals:
    """Where events are seen: event i at the moments ``starts[i]`` … ``ends[i] - 1``, never none."""

    starts: Ints
    ends: Ints
    num_moments: int

    @classmethod
    def between(cls, starts: Ints, ends: Ints, num_moments: int) -> tuple[Intervals, Ints]:
        """The runs that are not empty, and which events they are of."""
        kept = np.flatnonzero(starts < ends)
        return cls(starts[kept], ends[kept], num_moments), kept

    def of(self, kept: Flags) -> Intervals:
        return Intervals(self.starts[kept], self.ends[kept], self.num_moments)

    def totals(self, amounts: Ints | int = 1) -> Ints:
        """Sum over the runs that cover each moment."""
        change = np.zeros(self.num_moments + 1, np.int64)
        np.add.at(change, self.starts, amounts)
        np.subtract.at(change, self.ends, amounts)
        return np.cumsum(change[:-1])

    def sums(self, values: Floats) -> Floats:
        """Exact sum of the values over each moment, rounded once."""
        lowest, parts = exact_digits(values)
        numbers = [lowest + at for at in range(len(parts))]
        found: dict[int, Ints] = {}
        for number in np.unique(np.concatenate(numbers)):
            amounts = sum(np.where(at == number, digit, 0) for at, digit in zip(numbers, parts, strict=True))
            found[int(number)] = self.totals(np.asarray(amounts, np.int64))
        return rounded_sum(found) if found else np.zeros(self.num_moments)

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
        return Intervals(starts[is_new], reached[is_last], self.num_moments).totals()


def aggregate_all(
    windows: Sequence[WindowAggregate],
    starts: Ints,
    ends: Mapping[int, Ints],
    values: Mapping[str, pl.Series],
    num_moments: int,
) -> dict[str, pl.Series]:
    """The value of each window at each moment, by name.

    Parameters
    ----------
    starts
        For each event the first moment at which it is seen.
    ends
        For each length of a window, for each event the first moment at which it is not seen any more.
    values
        Columns that the windows read, as `mlsys.features.domains` reads them.
    """
    runs = {length: Intervals.between(starts, end, num_moments) for length, end in ends.items()}
    return {one.name: _aggregate_intervals(one, *runs[one.length], values) for one in windows}


def _aggregate_intervals(
    window: WindowAggregate, runs: Intervals, kept: Ints, values: Mapping[str, pl.Series]
) -> pl.Series:
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

"""Window aggregates over the latest events of a key: their definition, and all of them at once.

:func:`aggregate` defines a window aggregate, for one key and one moment, in plain Python. The
store of the endpoint calls it. Its rules:

* An event counts at moment t when its time lies in (t - window, t] and it was known by t. The end is closed, as in the
  as-of join (an event of this very moment is known) and in Feast's point-in-time join; the start is open, as pandas and
  Polars roll (``closed="right"``), so that windows of one length side by side count each event once.
* Each row of the table is an event, also where several have one time.
* ``count`` counts events. The others skip nulls, and what `mlsys.features.domains` reads as
  null: NaN, infinities, numbers beyond float32. True is 1, false 0, and -0.0 is 0.0.
* ``sum`` is the exact sum, rounded once (`math.fsum`); ``mean`` is that divided by the number of values. So neither
  depends on the order of the events, on how they were divided among workers, or on what was in the window before.
* Without a value in the window ``sum``, ``mean``, ``min`` and ``max`` are null; ``count`` and ``distinct`` are 0.

:func:`aggregate_all` computes the same bits for all keys and query times of a table join. Query times are sorted by key
and time. An event is seen from the first of them at which it has happened and is known, until the first at which it has
left the window: an interval of positions, also for events that were written late. For all positions at once,

==============  ==========================================================================
count           +1 where an interval starts, -1 where it ends, summed along the positions
sum, mean       the same with the exact digits of the values
min, max        each interval as two blocks of a power of two; blocks are halved downwards
distinct        a count of the unions of the intervals of equal values
==============  ==========================================================================

takes a time linear in events and positions but for the sorting, whatever the length of the window.

Sums are exact: floats are laid out as digits of base 2³² and added digit by digit in 64-bit integers, for up to 2³¹
values, and can be subtracted again. The result is the float nearest to the exact sum, ties to even (a small
superaccumulator; Kulisch (2008), "Computer Arithmetic and Validity", chapter 8; Neal (2015), "Fast exact summation
using small and large superaccumulators", arXiv:1505.05571).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys import recipe
from mlsys.recipe.columns import span_us
from mlsys.statistics.arrays import Floats

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WindowAggregate:
    """An aggregate of a join: its function over the events of a window.

    Attributes
    ----------
    name
        Column that the join adds.
    column
        Column of the table; None for ``count``.
    length
        Length of the window, in the unit of the events' times.
    """

    name: str
    function: str
    column: str | None
    length: int

    @property
    def is_count(self) -> bool:
        """True for whole numbers, which are 0 if nothing is known."""
        return self.function in ("count", "distinct")

    @property
    def type(self) -> pa.DataType:
        return pa.int64() if self.is_count else pa.float64()


@dataclass(frozen=True)
class WindowEvents:
    """The events of one key.

    Attributes
    ----------
    times
        Time of each event, ascending; integers of one unit since one epoch.
    known
        Time at which the table learned of each, in the same unit; `times` if it does not say.
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
        WindowAggregate(join.prefix + title, setting.function, setting.column, span_us(setting.window) * per_us)
        for title, setting in join.aggregates.items()
    ]


def aggregate(windows: Sequence[WindowAggregate], events: WindowEvents, moment: int) -> dict[str, float | int | None]:
    """Compute the value of each window at a moment, by name; the module states the rules.

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
            starts[window.length] = [event for event in range(start, stop) if known[event] <= moment]
    return {window.name: _value(window, events, starts[window.length]) for window in windows}


def _value(window: WindowAggregate, events: WindowEvents, seen: list[int]) -> float | int | None:
    if window.column is None:
        return len(seen)
    column = events.values[window.column]
    values = [value for event in seen if (value := column[event]) is not None]
    if window.function == "distinct":
        return len(set(values))
    return FUNCTIONS[window.function](values) + 0.0 if values else None  # never -0.0


FUNCTIONS: dict[str, Callable[[list[float]], float]] = {"sum": math.fsum, "mean": fmean, "min": min, "max": max}


def aggregate_all(
    windows: Sequence[WindowAggregate],
    starts: Ints,
    ends: Mapping[int, Ints],
    values: Mapping[str, pl.Series],
    num_queries: int,
) -> dict[str, pl.Series]:
    """Compute the value of each window at each query time, by name.

    Parameters
    ----------
    starts
        For each event the first query time at which it is seen.
    ends
        For each length of a window, for each event the first query time at which it is not seen any more.
    values
        Columns that the windows read, as `mlsys.features.domains` reads them.
    """
    intervals = {length: Intervals.between(starts, end, num_queries) for length, end in ends.items()}
    return {window.name: _aggregate_intervals(window, *intervals[window.length], values) for window in windows}


def _aggregate_intervals(
    window: WindowAggregate, intervals: Intervals, events: Ints, values: Mapping[str, pl.Series]
) -> pl.Series:
    if window.column is None:
        return pl.Series(intervals.totals())
    read = values[window.column].gather(events)
    intervals, read = intervals.select(read.is_not_null().to_numpy()), read.drop_nulls()
    if window.function == "distinct":
        return pl.Series(intervals.num_distinct(_codes(read)))
    numbers = read.cast(pl.Float64).to_numpy() + 0.0  # never -0.0
    num_values = intervals.totals()
    if window.function in ("min", "max"):
        better, worst = (np.minimum, np.inf) if window.function == "min" else (np.maximum, -np.inf)
        result = intervals.extremes(numbers, better, worst)
    else:
        result = intervals.sums(numbers)
        if window.function == "mean":
            result = np.divide(result, num_values, where=num_values > 0, out=result)
    return pl.select(pl.when(pl.Series(num_values > 0)).then(pl.Series(result))).to_series()


def _codes(values: pl.Series) -> Ints:
    """A number for each distinct value; 0.0 and -0.0 are one."""
    plain = values + 0.0 if values.dtype.is_float() else values
    return plain.rank("dense").to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Intervals:
    """The query times at which events are seen: event i at ``starts[i]`` … ``ends[i] - 1``, never none."""

    starts: Ints
    ends: Ints
    num_queries: int

    @classmethod
    def between(cls, starts: Ints, ends: Ints, num_queries: int) -> tuple[Intervals, Ints]:
        """The intervals that are not empty, and the numbers of their events."""
        events = np.flatnonzero(starts < ends)
        return cls(starts[events], ends[events], num_queries), events

    def select(self, mask: Flags) -> Intervals:
        return Intervals(self.starts[mask], self.ends[mask], self.num_queries)

    def totals(self, amounts: Ints | int = 1) -> Ints:
        """Sum of the amounts of the intervals that cover each query time."""
        change = np.zeros(self.num_queries + 1, np.int64)
        np.add.at(change, self.starts, amounts)
        np.subtract.at(change, self.ends, amounts)
        return np.cumsum(change[:-1])

    def sums(self, values: Floats) -> Floats:
        """Exact sum of the values at each query time, rounded once."""
        lowest, digits = exact_digits(values)
        places = [lowest + offset for offset in range(len(digits))]
        sums: dict[int, Ints] = {}
        for number in np.unique(np.concatenate(places)):
            amounts = sum(np.where(place == number, digit, 0) for place, digit in zip(places, digits, strict=True))
            sums[int(number)] = self.totals(np.asarray(amounts, np.int64))
        return rounded_sum(sums) if sums else np.zeros(self.num_queries)

    def extremes(self, values: Floats, better: np.ufunc, worst: float) -> Floats:
        """The best value at each query time; `worst` if there is none."""
        best = np.full(self.num_queries, worst)
        level = np.frexp((self.ends - self.starts).astype(np.float64))[1] - 1  # floor of the binary logarithm
        for power in range(int(level.max(initial=0)), -1, -1):
            half = best.copy()  # a block of twice this size is two of this size
            half[1 << power :] = better(best[1 << power :], best[: -1 << power])
            best = half
            here = level == power
            better.at(best, self.starts[here], values[here])
            better.at(best, self.ends[here] - (1 << power), values[here])
        return best

    def num_distinct(self, codes: Ints) -> Ints:
        """Number of distinct codes at each query time."""
        order = np.lexsort((self.starts, codes))
        codes, starts, ends = codes[order], self.starts[order], self.ends[order]
        # Ends of earlier intervals of the same code; each code has its own range of numbers, above those before it.
        above = codes * (self.num_queries + 1)
        reached = np.maximum.accumulate(ends + above) - above if len(codes) else ends
        is_new = np.ones(len(codes), bool)
        is_new[1:] = (codes[1:] != codes[:-1]) | (starts[1:] > reached[:-1])
        is_last = np.append(is_new[1:], True)[: len(codes)]
        return Intervals(starts[is_new], reached[is_last], self.num_queries).totals()


BITS = 32
MASK = np.int64((1 << BITS) - 1)
LOWEST = -1126
"""Exponent of digit 0: the mantissa of the smallest float, 2⁻¹⁰⁷⁴, taken as 53 bits ends at 2⁻¹¹²⁶."""

BLOCK = 1 << 15  # sums rounded at a time: their digits stay in the processor's cache


def exact_digits(values: Floats) -> tuple[Ints, tuple[Ints, Ints, Ints]]:
    """Split each value into three signed digits: the place of the lowest, and the digits from there upwards.

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
    """Round sums to the nearest floats; they are given by their digits, place → values.

    Digit 35 counts in units of 2⁻⁶, digit 36 in units of 2²⁶:

    >>> rounded_sum({35: np.array([3, -64]), 36: np.array([0, 1])}).tolist()
    [0.046875, 67108863.0]
    """
    if not sums:
        return np.empty(0)
    first, last = min(sums), max(sums)
    result = np.empty(len(sums[first]))
    for start in range(0, len(result), BLOCK):
        block = slice(start, start + BLOCK)
        zero = np.zeros(len(result[block]), np.int64)
        rows = [sums[place][block] if place in sums else zero for place in range(first, last + 1)]
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
    """Digits from 0 to 2³² - 1, one more on top; and which numbers are negative (their digits then mean nothing)."""
    plain = np.empty((len(sums) + 1, sums.shape[1]), np.int64)
    carry = np.zeros(sums.shape[1], np.int64)
    for place, digit in enumerate(sums):
        total = digit + carry
        plain[place] = total & MASK
        carry = total >> BITS
    plain[-1] = carry
    return plain, carry < 0

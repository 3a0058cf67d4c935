"""Numbers over the latest events of a key: what is counted, and the one definition of it.

:func:`aggregate` says what a window aggregate is, for one key and one moment, in plain
Python. The store of the endpoint calls it; the join of whole tables is tested against it
bit for bit. Its rules:

* An event counts at moment t when its time lies in (t - window, t] and it was known by t.
  The end is closed, as in the as-of join (an event of this very moment is known) and in
  Feast's point-in-time join; the start is open, as pandas and Polars roll
  (``closed="right"``), so that windows of one length side by side count each event once.
* Each row of the table is an event, also where several have one time.
* ``count`` counts events. The others skip nulls, and what `mlsys.features.values` reads as
  null: NaN, infinities, numbers beyond float32. True is 1, false 0, and -0.0 is 0.0.
* ``sum`` is the exact sum, rounded once (`math.fsum`); ``mean`` is that divided by the
  number of values. So neither depends on the order of the events, on how they were
  divided among workers, or on what was in the window before.
* Without a value in the window ``sum``, ``mean``, ``min`` and ``max`` are null; ``count``
  and ``distinct`` are 0.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import recipe
from mlsys.recipe.spans import span_us

__all__ = ["Events", "Window", "aggregate", "windows_of"]


@dataclass(frozen=True)
class Window:
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
class Events:
    """Events of one key.

    Attributes
    ----------
    times
        When each happened, ascending; integers of one unit since one epoch.
    known
        When the table learned of each, in the same unit; `times` where it does not say.
    values
        For each column that a window reads, the values as `mlsys.features.values` reads
        them: None for null, never NaN.
    """

    times: Sequence[int]
    known: Sequence[int]
    values: Mapping[str, Sequence[Any]]


def windows_of(join: recipe.Join, per_us: int = 1) -> list[Window]:
    """The aggregates of a join in the recipe's order; `per_us` is 1000 for times in nanoseconds."""
    return [
        Window(join.prefix + title, one.function, one.column, span_us(one.window) * per_us)
        for title, one in join.aggregates.items()
    ]


def aggregate(windows: Sequence[Window], events: Events, moment: int) -> dict[str, float | int | None]:
    """The value of each window at a moment, by name; see the module for the rules.

    Examples
    --------
    The event at 10 is in the window (10, 20] no more; the one at 18 became known at 25:

    >>> events = Events([10, 12, 18, 20], [10, 12, 25, 20], {"rain": [1.0, 0.1, 5.0, 0.2]})
    >>> aggregate([Window("n", "count", None, 10), Window("rain", "sum", "rain", 10)], events, 20)
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


def _value(window: Window, events: Events, seen: list[int]) -> float | int | None:
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

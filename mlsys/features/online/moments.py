"""One key, one moment: what a request gets of the events that the store has of its key.

The same rule as the join of whole tables (`mlsys.features.joins`), and the same bits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlsys.features import windows
from mlsys.features.online.events import opened
from mlsys.features.online.views import View

__all__ = ["Found", "look_up"]


@dataclass(frozen=True)
class Found:
    """What was looked up of one view for one row.

    Attributes
    ----------
    status
        ``matched``, ``missing`` (nothing known by then) or ``too_old``, as the join counts them.
    age_us
        From the event's time to the row's; also of one that is too old.
    values
        Column of the request → value; null unless matched, aggregates apart.
    since_us
        From when on the store can tell, where it cannot.
    """

    status: str
    age_us: int | None
    values: dict[str, Any]
    since_us: int | None = None


def look_up(view: View, value: bytes | None, moment_us: int | None) -> Found:
    """What is known of a key's events at a moment; no events, or no moment, is nothing."""
    if value is None or (view.clock is not None and moment_us is None):
        return _nothing(view)
    batch = opened(view, value)
    if view.clock is None or moment_us is None:
        return Found("matched", None, _values(view, batch, 0))
    times = _integers(batch, 0)
    known = _integers(batch, 1) if view.join.known_at else times
    found = _last(view, batch, times, known, moment_us)
    if view.windows:
        found.values.update(_aggregates(view, batch, times, known, moment_us))
    return found


def _nothing(view: View) -> Found:
    values: dict[str, Any] = dict.fromkeys(view.names)
    if view.windows:
        values.update(windows.aggregate(view.windows, windows.Events((), (), _columns(view, lambda _: ())), 0))
    return Found("missing", None, values)


def _last(view: View, batch: pa.RecordBatch, times: memoryview, known: memoryview, moment: int) -> Found:
    """The last value known by the moment, unless it is too old."""
    at = bisect_right(times, moment) - 1
    while at >= 0 and known[at] > moment:
        at -= 1
    if at < 0:
        return Found("missing", None, dict.fromkeys(view.columns))
    age = moment - times[at]
    if view.lookback_us is not None and age > view.lookback_us:
        return Found("too_old", age, dict.fromkeys(view.columns))
    return Found("matched", age, _values(view, batch, at))


def _values(view: View, batch: pa.RecordBatch, at: int) -> dict[str, Any]:
    first = batch.num_columns - len(view.stored)
    places = view.places
    return {name: batch.column(first + places[column])[at].as_py() for name, column in view.columns.items()}


def _aggregates(
    view: View, batch: pa.RecordBatch, times: memoryview, known: memoryview, moment: int
) -> dict[str, float | int | None]:
    """Only the events of the longest window are read."""
    start = bisect_left(times, moment - view.horizon_us)
    stop = bisect_right(times, moment)
    first = batch.num_columns - len(view.stored)

    def read(column: str) -> list[Any]:
        reader = view.readers[column]
        cut = batch.column(first + view.places[column]).slice(start, stop - start)
        return [reader(value) for value in cut.to_pylist()]

    events = windows.Events(times[start:stop], known[start:stop], _columns(view, read))
    return windows.aggregate(view.windows, events, moment)


def _columns(view: View, read: Callable[[str], Any]) -> dict[str, Any]:
    """What the windows read, once a column."""
    return {column: read(column) for column in {w.column: None for w in view.windows if w.column}}


def _integers(batch: pa.RecordBatch, column: int) -> memoryview:
    """An int64 column without nulls as it lies in memory."""
    values = batch.column(column)
    return memoryview(values.buffers()[1]).cast("q")[values.offset : values.offset + len(values)]

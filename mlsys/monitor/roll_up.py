"""Windows of a longer granularity from those of a shorter one, without reading a row again.

Hours make days, and days make weeks and months, in one time zone. Counts, ranges and moments of the parts are those of
the whole (moments up to rounding), and a sketch keeps its stated error; a block of the longer window, an hour of a day
or a day of a week, is the sum of the shorter windows in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from mlsys.monitor.log_scan import TOO_MANY
from mlsys.monitor.log_state import LogState
from mlsys.monitor.windows import Calendar, Window, WindowKey

NESTED: dict[str, tuple[str, ...]] = {
    "1 month": ("1 day", "1 hour"),
    "1 week": ("1 day", "1 hour"),
    "1 day": ("1 hour",),
    "1 hour": (),
}
"""Granularity → those whose windows lie whole in one of its windows, the longest first."""


def bases(granularities: Sequence[str]) -> list[str]:
    """Granularities from which all of some others are made, the longest first.

    >>> bases(["1 week"]), bases(["1 day", "1 week"]), bases(["1 week", "1 month"])
    (['1 week', '1 day', '1 hour'], ['1 day', '1 hour'], ['1 day', '1 hour'])
    """
    return [name for name in NESTED if all(name == each or name in NESTED[each] for each in granularities)]


def roll_up(windows: Iterable[Window], calendar: Calendar) -> dict[WindowKey, Window]:
    """Put windows and slices of a shorter granularity together into those of a calendar."""
    ordered = sorted(windows, key=lambda window: window.start)
    starts, blocks = calendar.place(pl.Series([window.start for window in ordered], dtype=pl.Datetime("us", "UTC")))
    parts: dict[WindowKey, list[tuple[Window, int]]] = {}
    for window, start, block in zip(ordered, starts.to_list(), blocks.tolist(), strict=True):
        parts.setdefault((start, window.slice_key, window.slice_value), []).append((window, block))
    return {key: _together(key, some, calendar) for key, some in parts.items()}


def _together(key: WindowKey, parts: Sequence[tuple[Window, int]], calendar: Calendar) -> Window:
    """One window of its parts, each with the block of the window that it lies in."""
    start, slice_key, slice_value = key
    (first, _), *others = parts
    statistics = first.statistics.merge(*(part.statistics for part, _ in others))  # its own: labels are added to both
    window = Window(start, calendar.end(start), calendar.label(start), statistics, slice_key, slice_value)
    for part, block in parts:
        window.num_rows += part.num_rows
        window.num_unseen += part.num_unseen
        window.num_rare += part.num_rare
        window.blocks_seen.add(block)
        window.versions |= part.versions
        if len(part.scores):
            window.add_scores(part.scores)
        window.add_sample(part.sample and part.sample.in_block(block))
        for name, counts in part.counts.items():
            whole = window.counts.setdefault(name, np.zeros((calendar.max_blocks, counts.shape[1]), np.int64))
            whole[block] += counts.sum(axis=0)
    return window


def of_state(state: LogState, calendar: Calendar) -> LogState:
    """The state of a log in the windows of another calendar; its index of the rows is placed anew when it is read."""
    return replace(state, windows=roll_up(state.windows.values(), calendar), calendar=calendar)


def is_whole(state: LogState) -> bool:
    """Tell whether no row was left out of a state for its granularity alone, so that a longer one has all rows."""
    return not state.rejected.get(TOO_MANY)

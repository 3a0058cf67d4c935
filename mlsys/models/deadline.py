"""The end of the time of a fit, and the size of a fit that ends by it, by what a small one takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from time import monotonic

SMALL_ROWS = 2_000
"""Rows of a fit that only says what a fit costs."""


class Deadline:
    """The end of so many seconds from now on; None for no end.

    Libraries that the fit needs are imported first: a process does that once, and no cost of a fit is foretold by it.

    Examples
    --------
    >>> Deadline(None).left, Deadline(0.0).is_over
    (inf, True)
    """

    def __init__(self, seconds: float | None, *libraries: str) -> None:
        for library in libraries if seconds is not None else ():
            import_module(library)
        self.end = math.inf if seconds is None else monotonic() + seconds

    @property
    def is_set(self) -> bool:
        return math.isfinite(self.end)

    @property
    def left(self) -> float:
        """Seconds until the end, negative after it."""
        return self.end - monotonic()

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def seconds_of(self, action: Callable[[], object]) -> float:
        """The seconds that an action takes, never 0."""
        before = monotonic()
        action()
        return max(monotonic() - before, 1e-9)


def affordable_rows(fit: Callable[[int], object], num_rows: int, deadline: Deadline, times: int = 1) -> int:
    """Rows of which so many fits of trees end in time, by a fit of `SMALL_ROWS`, which are the least.

    Sorting the values of a feature level by level, a tree takes time in proportion to n log n of its rows.
    """
    if not deadline.is_set or num_rows <= SMALL_ROWS:
        return num_rows
    small_s = deadline.seconds_of(lambda: fit(SMALL_ROWS))
    whole_s = times * small_s * num_rows * math.log(num_rows) / (SMALL_ROWS * math.log(SMALL_ROWS))
    return min(num_rows, max(SMALL_ROWS, int(num_rows * deadline.left / whole_s)))

"""Compare any two windows of a log, with an interval on the distance of each column.

The interval is that of the jackknife over blocks of time: one block after another is left out of either window, and the
two windows are taken as independent of each other. Where two windows have one distribution, the distance has no slope
and the interval says little: then the p-value of the test of equal distributions is what counts.

References
----------
Arvesen (1969), Jackknifing U-statistics, Ann. Math. Stat. 40:2076, for two samples. Shao & Tu (1995), The Jackknife and
Bootstrap, sections 2.3 and 9.2, for blocks. Welch (1947), Biometrika 34:28, for the degrees of freedom.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlsys import errors
from mlsys.monitor import drift, drift_alarms, table_comparison
from mlsys.monitor.drift_alarms import AlarmRule
from mlsys.monitor.performance import MIN_BLOCKS
from mlsys.monitor.reference import ReferenceBins, ReferenceRows
from mlsys.monitor.windows import Window
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats


def compare(
    first: Window, second: Window, reference: ReferenceRows, rule: AlarmRule, confidence: float
) -> dict[str, Any]:
    """Compare the watched columns of two windows, the second with the first, the largest shift first.

    Returns
    -------
    JSON values: labels and rows of both, and for each column the shift as in a judgement, with ``low`` and ``high`` of
    its distance; None with fewer than `MIN_BLOCKS` blocks of time in either window.
    """
    watched = {name: reference.bins[name] for name in reference.watched if name in first.counts}
    dispersion = drift_alarms.dispersions([first, second], watched)
    shifts = table_comparison.shifts(second, first, watched, dispersion, rule)
    columns = []
    for shift in shifts:
        low, high = interval(watched[shift.column], first, second, confidence)
        value = {name: each for name, each in shift.to_json().items() if name not in {"effect", "matters"}}
        columns.append({**value, "low": low, "high": high})
    rows = {"num_rows": [first.num_rows, second.num_rows], "confidence": confidence}
    return {"windows": [first.label, second.label], **rows, "columns": columns}


def interval(
    bins: ReferenceBins, first: Window, second: Window, confidence: float
) -> tuple[float | None, float | None]:
    """Confidence interval of the Jensen-Shannon distance of a column between two windows."""
    sides = [_blocks(bins, window) for window in (first, second)]
    if min(map(len, sides)) < MIN_BLOCKS:
        return None, None
    totals = [side.sum(axis=0) for side in sides]
    value = drift.js_distance(*totals)
    without_first = [drift.js_distance(totals[0] - block, totals[1]) for block in sides[0]]
    without_second = [drift.js_distance(totals[0], totals[1] - block) for block in sides[1]]
    squared = [jackknife.standard_error(value, np.array(each)) ** 2 for each in (without_first, without_second)]
    error = math.sqrt(sum(squared))
    if math.isnan(error):
        return None, None
    spread = sum(part**2 / (len(side) - 1) for part, side in zip(squared, sides, strict=True))
    margin = jackknife.t_quantile(sum(squared) ** 2 / spread, confidence) * error if spread else 0.0
    return max(value - margin, 0.0), min(value + margin, 1.0)


def _blocks(bins: ReferenceBins, window: Window) -> Floats:
    """Counts in the coarse bins of each block of time that has rows."""
    counts: Floats = np.asarray(bins.coarse(window.counts[bins.name]), np.float64)
    filled: Floats = counts[counts.sum(axis=1) > 0]
    return filled


def find(windows: Sequence[Window], name: str) -> Window:
    """The window of a label, or the one in which a date or a time lies.

    Raises
    ------
    RecipeError
        There is none.
    """
    for window in windows:
        if name == window.label:
            return window
    time = _time(name)
    for window in windows:
        if time is not None and window.start <= time < window.end:
            return window
    labels = [window.label for window in windows]
    expected = f"a window of the log, such as {labels[-1]}" if labels else "a log with rows"
    hint = errors.did_you_mean(name, labels)
    raise errors.RecipeError.build("monitor: --compare", got=name, expected=expected, hint=hint)


def _time(text: str) -> dt.datetime | None:
    """A date or time in ISO 8601, in UTC if it names no offset; None for another text."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)

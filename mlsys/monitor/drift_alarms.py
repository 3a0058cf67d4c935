"""Which columns of a window moved away from the reference, by how much, and whether that is an alarm.

A column is named when its shift is *large* (the part of its Jensen-Shannon distance that
noise does not explain reaches the floor) and *certain* (the p-value, adjusted for all the
columns looked at in the window, is at most the stated false-alarm rate). Large alone would
name every small window, certain alone every large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys.monitor import drift, significance
from mlsys.monitor.reference_bins import ReferenceBins
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.windows import Window
from mlsys.reports import formats
from mlsys.schema import TaskKind
from mlsys.statistics import ColumnStatistics

__all__ = ["AlarmRule", "Shift", "describe", "design_effect_of", "dispersions", "effect_on_prediction", "find"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class AlarmRule:
    """When a shift is an alarm.

    Attributes
    ----------
    rate
        Chance that a window without drift raises any alarm.
    floor
        Distance from which a shift is large. 0.1 is a shift of a normal's mean by 0.24
        standard deviations (``JS = d^2 / 8`` nats to second order): a small effect in the
        scale of Cohen (1988), Statistical Power Analysis, chapter 2.
    """

    rate: float
    floor: float


@dataclass(frozen=True)
class Shift:
    """One column of one window against the reference.

    Attributes
    ----------
    js_distance
        As measured, in the coarse bins.
    excess
        Its part beyond the mean that noise alone would give.
    noise
        What noise alone stays below with chance ``1 - rate``, in this column.
    pvalue, adjusted
        Of the homogeneity test, and after the adjustment for all columns of the window.
    effect
        How far this column's shift alone would move the mean prediction; None where the
        score is not one number with a direction.
    outside
        Fraction of the window's rows with a number outside of the reference's range.
    detail
        What moved, in words.
    """

    column: str
    js_distance: float
    excess: float
    noise: float
    pvalue: float
    adjusted: float
    effect: float | None
    outside: float
    alarmed: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def dispersions(windows: Sequence[Window], bins: Mapping[str, ReferenceBins]) -> dict[str, Dispersion]:
    """How alike the rows of a block are, by column, from all windows together."""
    return {
        name: significance.design_effect(
            [column.coarse(window.counts[name]) for window in windows if name in window.counts]
        )
        for name, column in bins.items()
    }


def find(
    columns: Mapping[str, tuple[ReferenceBins, Counts]],
    spread: Mapping[str, Dispersion],
    rule: AlarmRule,
    effects: Mapping[str, float | None],
    details: Mapping[str, str],
) -> list[Shift]:
    """Every column of one window judged, largest excess first.

    Parameters
    ----------
    columns
        Name → the reference's bins, and the window's rows in them.
    """
    tests = [_test(counts, bins, spread[name]) for name, (bins, counts) in columns.items()]
    adjusted = significance.benjamini_hochberg([test.pvalue for test in tests])
    shifts = []
    for (name, (bins, counts)), test, p in zip(columns.items(), tests, adjusted.tolist(), strict=True):
        distance, excess, usual = _distance(counts, bins, spread[name], rule.rate)
        shifts.append(
            Shift(
                name,
                distance,
                excess,
                usual,
                test.pvalue,
                p,
                effects.get(name),
                bins.outside(counts),
                alarmed=excess >= rule.floor and p <= rule.rate,
                detail=details[name],
            )
        )
    return sorted(shifts, key=lambda shift: -shift.excess)


def _pair(counts: Counts, bins: ReferenceBins) -> tuple[NDArray[np.float64], Counts]:
    """Reference and window in the coarse bins, the reference as if of its effective rows."""
    scale = bins.effective_rows / max(bins.num_rows, 1)
    return np.asarray(bins.coarse(bins.reference) * scale, np.float64), bins.coarse(counts)


def _test(counts: Counts, bins: ReferenceBins, spread: Dispersion) -> drift.Test:
    test = significance.homogeneity_test(*_pair(counts, bins), spread)
    return drift.Test(0.0, 1.0) if math.isnan(test.pvalue) else test


def _distance(counts: Counts, bins: ReferenceBins, spread: Dispersion, alpha: float) -> tuple[float, float, float]:
    """Distance, its part beyond noise, and the distance that noise stays below."""
    reference, window = _pair(counts, bins)
    distance = drift.js_distance(reference, window)
    a, b = significance.merge_rare(reference, window)
    n, m, k = float(a.sum()), float(b.sum()), int(a.size)
    if not n or not m:
        return distance, 0.0, 0.0
    expected = (k - 1) * spread.effect * (1 / n + 1 / m) / (8 * math.log(2))
    excess = math.sqrt(max(drift.js_distance(a, b) ** 2 - expected, 0.0))
    return distance, excess, significance.noise_floor(m, n, k, alpha, spread)


def effect_on_prediction(
    windows: Sequence[Window], name: str, bins: ReferenceBins, counts: Counts, kind: TaskKind
) -> float | None:
    """``sum((q - p) * s)``: the column's shift times the mean score in each of its bins.

    p and q are the reference's and the window's fractions, s the mean score over all windows
    (the overall mean in a bin that no row fell in). It says how far the mean prediction
    would move if this column alone had shifted and all else followed it as usual.
    """
    if kind is TaskKind.MULTICLASS or not bins.num_rows or not counts.sum():
        return None
    rows = bins.coarse(sum((window.total(name) for window in windows), np.zeros(bins.size, np.int64)))
    starts = np.flatnonzero(np.diff(bins.group, prepend=-1))
    scores = np.add.reduceat(sum((window.scores[name] for window in windows), np.zeros(bins.size)), starts)
    mean = np.divide(scores, rows, out=np.full(len(rows), scores.sum() / rows.sum()), where=rows > 0)
    p, q = bins.coarse(bins.reference) / bins.num_rows, bins.coarse(counts) / counts.sum()
    return float(((q - p) * mean).sum())


def describe(bins: ReferenceBins, counts: Counts, reference: ColumnStatistics, window: ColumnStatistics) -> str:
    """What moved most, in words: nulls, values beyond the reference's range, the mean or a category."""
    p, q = (bins.coarse(c) / max(c.sum(), 1) for c in (bins.reference, counts))
    moved = np.abs(q - p)
    null = len(p) - 1
    if moved[null] >= moved[:null].max(initial=0.0):
        return f"nulls {formats.percent(p[null])} → {formats.percent(q[null])}"
    if bins.ordered:
        return _of_numbers(bins, p, q, reference, window)
    top = int(moved[:null].argmax())
    name = "rare or unknown values" if top == null - 1 else f"'{bins.labels[top]}'"
    return f"{name} {formats.percent(p[top])} → {formats.percent(q[top])}"


def _of_numbers(
    bins: ReferenceBins,
    p: NDArray[np.float64],
    q: NDArray[np.float64],
    reference: ColumnStatistics,
    window: ColumnStatistics,
) -> str:
    words = []
    for index, word in ((0, "below"), (len(p) - 2, "above")):
        if q[index] > max(0.01, 2 * p[index]):
            end = "least" if word == "below" else "most"
            words.append(f"{formats.percent(q[index])} of rows {bins.labels[index]}, the {end} in the reference")
    if reference.numbers is not None and window.numbers is not None:
        old, new = reference.numbers.moments, window.numbers.moments
        sd = f" ({(new.mean - old.mean) / old.stddev:+.2g} sd)" if old.stddev else ""
        words.append(f"mean {formats.number(old.mean)} → {formats.number(new.mean)}{sd}")
    return "; ".join(words)


def design_effect_of(counts: Iterable[Counts], bins: ReferenceBins) -> Dispersion:
    """As `dispersions`, of counts (blocks, bins) that stand outside the windows."""
    return significance.design_effect([bins.coarse(count) for count in counts])

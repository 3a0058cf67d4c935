"""Shifts of a window's columns against the reference, and the rule that makes a shift an alarm.

A column raises an alarm when its shift is *large* (its Jensen-Shannon distance, less what
noise explains, reaches the floor) and *certain* (the p-value, adjusted for all columns of the
window, is at most the stated false-alarm rate). Large alone would name every small window,
certain alone every large one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

from mlsys.monitor import drift, significance
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.windows import Counts, Window
from mlsys.reports import formats
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import Floats

MAX_JOINT = 12
"""Windows of a log, its last ones, whose columns are tested together (`mlsys.monitor.two_sample`)."""


@dataclass(frozen=True)
class AlarmRule:
    """Conditions of a drift alarm, and of one that matters.

    `rate` is the probability of an alarm without drift, `floor` the distance from which a shift is large, and
    `min_effect` the distance by which an alarm that matters moves the predictions, in their standard deviations.

    A distance of 0.1 is a shift of a normal's mean by 0.24 standard deviations (``JS = d^2 / 8``
    nats to second order): a small effect in the scale of Cohen (1988), Statistical Power
    Analysis, chapter 2.
    """

    rate: float
    floor: float
    min_effect: float = 0.0


def least_auc(floor: float) -> float:
    """The AUC of two normals whose means differ by as much as a Jensen-Shannon distance of `floor` says.

    ``Phi(d / sqrt(2))`` for d standard deviations, whose distance is ``d / sqrt(8 ln 2)`` to second order.

    >>> round(least_auc(0.1), 3)
    0.566
    """
    return float(special.ndtr(floor * math.sqrt(8 * math.log(2)) / math.sqrt(2)))


@dataclass(frozen=True)
class Shift:
    """Difference of one column of one window from the reference.

    Attributes
    ----------
    js_distance
        Jensen-Shannon distance in the coarse bins.
    excess
        Its part beyond the mean that noise alone would give.
    noise
        Distance that noise alone stays below with probability ``1 - rate``.
    pvalue, adjusted
        p-value of the homogeneity test, and the same adjusted for all columns of the window.
    effect
        Distance by which the shift moves the predictions, in their standard deviations (`mlsys.monitor.relevance`);
        None where it is not known.
    outside
        Fraction of the window's rows whose number is outside the reference's range.
    matters
        It is an alarm, and the predictions move with it or may do so.
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
    matters: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def dispersions(windows: Sequence[Window], bins: Mapping[str, ReferenceBins]) -> dict[str, Dispersion]:
    """Dispersion of each column between the blocks of a window, from all windows together."""
    counts = {name: [window.counts[name] for window in windows if name in window.counts] for name in bins}
    return {name: significance.design_effect(map(column.coarse, counts[name])) for name, column in bins.items()}


def find(
    columns: Mapping[str, tuple[ReferenceBins, Counts]],
    dispersion: Mapping[str, Dispersion],
    rule: AlarmRule,
    effects: Mapping[str, float | None],
    details: Mapping[str, str],
    *,
    outputs: Collection[str] = (),
    target: str | None = None,
    num_others: int = 0,
) -> list[Shift]:
    """Compare every column of one window with the reference.

    Alarms that matter come first, those that move the predictions most before the others, then the largest excess.

    Parameters
    ----------
    columns
        The reference's bins of each column, and the window's rows in them.
    effects
        Distance by which a column's shift moves the predictions, where it is known.
    outputs
        Columns that are the predictions themselves: each of their alarms matters.
    target
        Column of the labels, whose drift moves no prediction: performance says what it does.
    num_others
        Tests of the same window that are made later, for which these leave room.
    """
    # 1. Certain: p-values adjusted for all columns
    pairs = {name: _pair(*column) for name, column in columns.items()}
    tested = [significance.homogeneity_test(*pair, dispersion[name]).pvalue for name, pair in pairs.items()]
    pvalues = [1.0 if math.isnan(pvalue) else pvalue for pvalue in tested]
    adjusted = significance.benjamini_hochberg([*pvalues, *[1.0] * num_others])[: len(pvalues)]
    # 2. Large: distances beyond noise
    shifts = []
    for (name, (bins, counts)), pvalue, p in zip(columns.items(), pvalues, adjusted.tolist(), strict=True):
        distance, excess, noise = _distance(*pairs[name], dispersion[name], rule.rate)
        alarmed = excess >= rule.floor and p <= rule.rate
        effect, outside = effects.get(name), bins.outside(counts)
        moves = name in outputs or effect is None or effect >= rule.min_effect
        matters = alarmed and moves and name != target
        shift = Shift(name, distance, excess, noise, pvalue, p, effect, outside, alarmed, details[name], matters)
        shifts.append(shift)
    ranks = {shift.column: math.inf if shift.effect is None else shift.effect for shift in shifts if shift.matters}
    return sorted(shifts, key=lambda shift: (-ranks.get(shift.column, -1.0), -shift.excess))


def _pair(bins: ReferenceBins, counts: Counts) -> tuple[Floats, Counts]:
    """Reference and window in the coarse bins, the reference scaled to its effective rows."""
    scale = bins.effective_rows / max(bins.num_rows, 1)
    return np.asarray(bins.coarse(bins.reference) * scale, np.float64), bins.coarse(counts)


def _distance(reference: Floats, window: Counts, dispersion: Dispersion, alpha: float) -> tuple[float, float, float]:
    """Jensen-Shannon distance, its excess over noise, and the distance that noise stays below.

    Of n and m rows in k bins with design effect phi, noise alone gives ``JS^2`` a mean of
    ``(k - 1) * phi * (1/n + 1/m) / (8 ln 2)`` (Grosse et al. 2002, see `significance.noise_floor`);
    the excess is the root of what is left of the squared distance.
    """
    distance = drift.js_distance(reference, window)
    a, b = significance.merge_rare(reference, window)
    n, m, k = float(a.sum()), float(b.sum()), int(a.size)
    if not n or not m:
        return distance, 0.0, 0.0
    expected = (k - 1) * dispersion.effect * (1 / n + 1 / m) / (8 * math.log(2))
    excess = math.sqrt(max(drift.js_distance(a, b) ** 2 - expected, 0.0))
    return distance, excess, significance.noise_floor(m, n, k, alpha, dispersion)


def describe(bins: ReferenceBins, counts: Counts, reference: ColumnStatistics, window: ColumnStatistics) -> str:
    """Describe the largest change: nulls, values beyond the reference's range, the mean or a category."""
    p, q = (bins.coarse(c) / max(c.sum(), 1) for c in (bins.reference, counts))
    change = np.abs(q - p)
    null = len(p) - 1
    if change[null] >= change[:null].max(initial=0.0):
        return f"nulls {formats.percent(p[null])} → {formats.percent(q[null])}"
    if bins.ordered:
        return _describe_numbers(bins, p, q, reference, window)
    top = int(change[:null].argmax())
    name = "rare or unknown values" if top == null - 1 else f"'{bins.labels[top]}'"
    return f"{name} {formats.percent(p[top])} → {formats.percent(q[top])}"


def _describe_numbers(
    bins: ReferenceBins, p: Floats, q: Floats, reference: ColumnStatistics, window: ColumnStatistics
) -> str:
    changes = []
    for index, end in ((0, "minimum"), (len(p) - 2, "maximum")):
        if q[index] > max(0.01, 2 * p[index]):
            changes.append(f"{formats.percent(q[index])} of rows {bins.labels[index]}, the {end} of the reference")
    if reference.numbers is not None and window.numbers is not None:
        old, new = reference.numbers.moments, window.numbers.moments
        sd = f" ({(new.mean - old.mean) / old.stddev:+.2g} sd)" if old.stddev else ""
        changes.append(f"mean {formats.number(old.mean)} → {formats.number(new.mean)}{sd}")
    return "; ".join(changes)

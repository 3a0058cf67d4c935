"""Shifts of a window's columns against the reference, and the rule that makes a shift an alarm.

A column raises an alarm when its shift is *large* (its Jensen-Shannon distance, less what
noise explains, reaches the floor) and *certain* (the p-value, adjusted for all columns of the
window, is at most the stated false-alarm rate). Large alone would name every small window,
certain alone every large one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

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
        return dict(vars(self))


@dataclass(frozen=True)
class ColumnChange:
    """Difference of one column of one window from the reference, before it is known what noise alone would give.

    Attributes
    ----------
    js_distance, pooled_distance
        Jensen-Shannon distance in the coarse bins, and in those that are left when rare ones are pooled.
    statistic
        Pearson's, in the pooled bins; NaN where either side has no rows.
    bins
        Number of the pooled bins.
    reference_rows, window_rows
        Rows of either side, those of the reference reduced by the noise of its sketch.
    effect, outside, detail
        As in `Shift`.
    """

    js_distance: float
    pooled_distance: float
    statistic: float
    bins: int
    reference_rows: float
    window_rows: float
    effect: float | None
    outside: float
    detail: str

    @classmethod
    def of(cls, bins: ReferenceBins, counts: Counts, effect: float | None, detail: str) -> Self:
        """Compare the rows of a window in the bins of a column with the reference."""
        reference, window = _pair(bins, counts)
        a, b = significance.merge_rare(reference, window)
        n, m = float(a.sum()), float(b.sum())
        statistic = drift.chi_squared_test(a, b).statistic if n and m else math.nan
        distances = drift.js_distance(reference, window), drift.js_distance(a, b) if n and m else math.nan
        return cls(*distances, statistic, int(a.size), n, m, effect, bins.outside(counts), detail)

    def beyond_noise(self, dispersion: Dispersion, alpha: float) -> tuple[float, float]:
        """The excess of the distance over noise, and the distance that noise stays below.

        Of n and m rows in k bins with design effect phi, noise alone gives ``JS^2`` a mean of
        ``(k - 1) * phi * (1/n + 1/m) / (8 ln 2)`` (Grosse et al. 2002, see `significance.noise_floor`);
        the excess is the root of what is left of the squared distance.
        """
        n, m, k = self.reference_rows, self.window_rows, self.bins
        if not n or not m:
            return 0.0, 0.0
        expected = (k - 1) * dispersion.effect * (1 / n + 1 / m) / (8 * math.log(2))
        excess = math.sqrt(max(self.pooled_distance**2 - expected, 0.0))
        return excess, significance.noise_floor(m, n, k, alpha, dispersion)


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
    """Compare every column of one window with the reference; `effects` and `details` are those of `ColumnChange`."""
    changes = {name: ColumnChange.of(*pair, effects.get(name), details[name]) for name, pair in columns.items()}
    return alarms(changes, dispersion, rule, outputs=outputs, target=target, num_others=num_others)


def alarms(
    changes: Mapping[str, ColumnChange],
    dispersion: Mapping[str, Dispersion],
    rule: AlarmRule,
    *,
    outputs: Collection[str] = (),
    target: str | None = None,
    num_others: int = 0,
) -> list[Shift]:
    """Hold the changes of all columns of one window against the noise of all windows.

    Alarms that matter come first, those that move the predictions most before the others, then the largest excess.

    Parameters
    ----------
    outputs
        Columns that are the predictions themselves: each of their alarms matters.
    target
        Column of the labels, whose drift moves no prediction: performance says what it does.
    num_others
        Tests of the same window that are made later, for which these leave room.
    """
    # 1. Certain: p-values adjusted for all columns
    tested = [
        significance.corrected(change.statistic, change.bins, dispersion[name]).pvalue
        for name, change in changes.items()
    ]
    pvalues = [1.0 if math.isnan(pvalue) else pvalue for pvalue in tested]
    adjusted = significance.benjamini_hochberg([*pvalues, *[1.0] * num_others])[: len(pvalues)]
    # 2. Large: distances beyond noise
    shifts = []
    for (name, change), pvalue, p in zip(changes.items(), pvalues, adjusted.tolist(), strict=True):
        excess, noise = change.beyond_noise(dispersion[name], rule.rate)
        alarmed, effect = excess >= rule.floor and p <= rule.rate, change.effect
        moves = name in outputs or effect is None or effect >= rule.min_effect
        matters = alarmed and moves and name != target
        distances = change.js_distance, excess, noise
        shifts.append(Shift(name, *distances, pvalue, p, effect, change.outside, alarmed, change.detail, matters))
    ranks = {shift.column: math.inf if shift.effect is None else shift.effect for shift in shifts if shift.matters}
    return sorted(shifts, key=lambda shift: (-ranks.get(shift.column, -1.0), -shift.excess))


def _pair(bins: ReferenceBins, counts: Counts) -> tuple[Floats, Counts]:
    """Reference and window in the coarse bins, the reference scaled to its effective rows."""
    scale = bins.effective_rows / max(bins.num_rows, 1)
    return np.asarray(bins.coarse(bins.reference) * scale, np.float64), bins.coarse(counts)


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

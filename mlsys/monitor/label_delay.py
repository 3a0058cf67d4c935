"""The delay of labels by class, learned from labels that came with the time at which they were known.

A fraud is known in days and a good payment in weeks, so the labels of a young window are no sample of its rows: the
class that is known early is too frequent in them. The distribution F_k of the delay of a class k says how many of its
labels have arrived at an age, and a row whose label has arrived stands for 1 / F_k(age) rows of its class and age
(Horvitz & Thompson 1952, JASA 47:663; for censored data Robins & Rotnitzky 1992, AIDS Epidemiology, 297-331).

F_k is 1 less the product-limit estimate S_k of Kaplan & Meier (1958), JASA 53:457: labels that have not come yet are
censored at their age. Their class is not known. They count for each class with the probability that it has, by the
scores of their window, for a label that has not come by that age: ``pi_k S_k(age) / sum_j pi_j S_j(age)``, in turns
with S until neither moves (the self-consistency of Efron 1967, Proc. 5th Berkeley Symposium 4:831).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys.evaluate import recalibration
from mlsys.monitor.reference import PREDICTION, SCORE
from mlsys.monitor.window_results import WindowResults
from mlsys.monitor.windows import LabelledRows, Window
from mlsys.recipe import MonitorSection
from mlsys.schema import Task, TaskKind
from mlsys.statistics.arrays import Floats

MIN_LABELS = 100
"""Labels with a time from which on delays are learned: a share has a standard error of at most 5 points then."""

MIN_CLASS_LABELS = 20
"""Labels of a class that its own delay is learned from, and old rows that wait for one of which few have come."""

MIN_TIMED = 0.9
"""Share of the labels that has to say when it was known."""

MIN_ARRIVED = 0.5
"""Share of each class that has to have arrived at the age of a row, for a weight of 2 at most."""

MIN_READY = 0.5
"""Share of a window's rows that has to be of such an age."""

MAX_CLASSES = 10
"""Classes with a delay of their own; labels of more, and of numbers, have one in common."""

RESOLUTION, MAX_ROUNDS = 1_000, 200


@dataclass(frozen=True)
class ProductLimit:
    """Share of labels that has not arrived yet, by the time since the row: a step function.

    Attributes
    ----------
    times, survival
        Delays at which labels arrived, rising, and the share that has not arrived after each.
    """

    times: Floats
    survival: Floats

    @classmethod
    def of(cls, times: Floats, arrived: NDArray[np.bool_], weight: Floats | None = None) -> Self:
        """Estimate from delays of labels that have `arrived` and ages of rows whose labels have not.

        ``S(t) = prod over t_i <= t of (1 - d_i / n_i)``: d_i labels arrived at t_i, and n_i had not before.

        >>> ProductLimit.of(np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, True])).survival.tolist()
        [0.75, 0.5, 0.0]
        """
        weight = np.ones(len(times)) if weight is None else weight
        distinct = np.unique(times[arrived])
        order = np.argsort(times)
        running = np.concatenate([[0.0], np.cumsum(weight[order])])
        at_risk = running[-1] - running[np.searchsorted(times[order], distinct, side="left")]
        events = np.bincount(
            np.searchsorted(distinct, times[arrived]), weights=weight[arrived], minlength=len(distinct)
        )
        rest = 1 - np.divide(events, at_risk, out=np.zeros(len(distinct)), where=at_risk > 0)
        return cls(distinct, np.cumprod(np.clip(rest, 0.0, 1.0)))

    def waiting(self, ages: Floats) -> Floats:
        """Share of the labels that has not arrived at each age."""
        return np.concatenate([[1.0], self.survival])[np.searchsorted(self.times, ages, side="right")]

    def quantile(self, probability: float) -> float:
        """The least delay by which that share has arrived; NaN where so many have not."""
        reached = np.flatnonzero(1 - self.survival >= probability - 1e-12)
        return float(self.times[reached[0]]) if len(reached) else math.nan


NEVER = ProductLimit(np.empty(0), np.empty(0))
"""The delay of a class of which no label has come."""


@dataclass(frozen=True)
class WaitingRows:
    """Rows whose label has not come, in groups of one age, and the classes that their scores expect.

    Attributes
    ----------
    age, count
        Seconds, and rows, of each group.
    prior
        Share of each class among the rows of the group's window, shape (groups, classes).
    """

    age: Floats
    count: Floats
    prior: Floats


@dataclass(frozen=True)
class LabelDelays:
    """Delays by class, as far as they are known at a time.

    Attributes
    ----------
    observed_at
        Seconds since 1970 at which labels were last heard of.
    block_s
        Seconds of a block of a window.
    names, curves, num_labels, num_waiting
        Of each class, or of all labels together: its name, the delay, labels that came, and rows that are still
        expected to be of it.
    """

    observed_at: float
    block_s: float
    names: tuple[str, ...]
    curves: tuple[ProductLimit, ...]
    num_labels: tuple[int, ...]
    num_waiting: tuple[float, ...]

    def arrived(self, y: Floats, ages: Floats) -> Floats:
        """Share of the labels of each row's class that has arrived at its age."""
        shares = np.stack([1 - curve.waiting(ages) for curve in self.curves])
        return np.asarray(shares[y.astype(np.int64) if len(self.curves) > 1 else 0, np.arange(len(ages))])

    def is_ready(self, ages: Floats) -> NDArray[np.bool_]:
        """Tell of rows of these ages whether every class has arrived often enough to stand for its rows."""
        return np.asarray(np.min([1 - curve.waiting(ages) for curve in self.curves], axis=0) >= MIN_ARRIVED)

    def to_json(self) -> list[dict[str, Any]]:
        """For each class: labels, rows that still wait, and quantiles of the delay in seconds, None where unknown."""
        columns = zip(self.names, self.curves, self.num_labels, self.num_waiting, strict=True)
        return [
            {
                "class": name,
                "num_labels": labels,
                "num_waiting": round(waiting, 1),
                **{key: _known(curve.quantile(share)) for key, share in (("median_s", 0.5), ("p90_s", 0.9))},
            }
            for name, curve, labels, waiting in columns
        ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def learn(
    windows: Sequence[Window],
    task: Task,
    block_s: float,
    observed_at: float | None = None,
    results: WindowResults | None = None,
) -> LabelDelays | None:
    """Learn the delays from all windows; None where too few labels say when they were known.

    `block_s` is the length of a block in seconds, and `observed_at` the time at which labels were asked for, in seconds
    since 1970; by default that of the last label. `results` has what the last run counted in windows that have not
    changed.
    """
    timed = [window.labelled for window in windows if window.labelled.y]
    if task.is_ranking or not timed:
        return None
    y, delay, time = (
        np.concatenate([part for rows in timed for part in getattr(rows, name)]) for name in ("y", "delay", "time")
    )
    known = np.isfinite(delay)
    if known.sum() < max(MIN_LABELS, MIN_TIMED * len(y)):
        return None
    last = float((time + delay)[known].max())
    observed = last if observed_at is None else observed_at
    is_by_class = task.kind is TaskKind.BINARY or (
        task.kind is TaskKind.MULTICLASS and len(task.classes) <= MAX_CLASSES
    )
    names = tuple(task.class_names) if is_by_class else ("all",)
    waiting = _waiting(windows, block_s, observed, len(names), results or WindowResults())
    step = max(float(delay[known].max()), 1.0) / RESOLUTION
    delays = np.ceil(np.maximum(delay[known], 0.0) / step - 1e-9) * step
    classes = y[known].astype(np.int64) if is_by_class else np.zeros(int(known.sum()), np.int64)
    curves, num_labels, num_waiting = _fit(delays, classes, waiting, len(names))
    return LabelDelays(observed, block_s, names, curves, num_labels, num_waiting)


def _waiting(
    windows: Sequence[Window], block_s: float, observed_at: float, num_classes: int, results: WindowResults
) -> WaitingRows:
    """Rows without a label, by the blocks of their windows."""
    ages, counts, priors = [], [], []
    for window in windows:
        pending = _pending_by_block(window, results)
        age = observed_at - block_times(window, block_s, len(pending))
        is_past = (pending > 0) & (age > 0)
        ages.append(age[is_past])
        counts.append(pending[is_past])
        prior = results.of(window, "prior", functools.partial(_prior, window, num_classes), num_classes)
        priors.append(np.tile(np.array(prior, np.float64), (int(is_past.sum()), 1)))
    return WaitingRows(np.concatenate(ages), np.concatenate(counts), np.concatenate(priors))


def _rows_by_block(window: Window, results: WindowResults) -> Floats | None:
    """Rows of each block of a window; None where its predictions are not counted."""

    def count() -> list[int] | None:
        counts = window.counts.get(SCORE, window.counts.get(PREDICTION))
        rows: list[int] | None = None if counts is None else counts.sum(axis=1).tolist()
        return rows

    rows = results.of(window, "rows by block", count)
    return None if rows is None else np.array(rows, np.float64)


def _pending_by_block(window: Window, results: WindowResults) -> Floats:
    """Rows of each block of a window whose label may still come."""
    rows = _rows_by_block(window, results)
    if rows is None:
        return np.array([float(window.num_pending)])
    for blocks in (*window.labelled.block, *window.labelled.void_block):
        rows -= np.bincount(blocks, minlength=len(rows))[: len(rows)]
    return np.asarray(np.maximum(rows, 0.0), np.float64)


def block_times(window: Window, block_s: float, num_blocks: int) -> Floats:
    """Seconds since 1970 in the middle of each block of a window."""
    if num_blocks == 1:
        return np.array([(window.start.timestamp() + window.end.timestamp()) / 2])
    return np.asarray(window.start.timestamp() + block_s * (np.arange(num_blocks) + 0.5), np.float64)


def _prior(window: Window, num_classes: int) -> list[float]:
    """Share of each class that the model's probabilities expect in a window."""
    if num_classes == 1 or not len(window.scores):
        return [1 / num_classes] * num_classes
    p = np.repeat(special.expit(recalibration.logits()), 2)
    shares = window.scores @ p / np.maximum(window.scores.sum(axis=1), 1)
    shares = np.array([1 - shares[0], shares[0]]) if len(shares) == 1 else shares
    expected: list[float] = (shares / shares.sum()).tolist()
    return expected


def _fit(
    delays: Floats, classes: NDArray[np.int64], waiting: WaitingRows, num_classes: int
) -> tuple[tuple[ProductLimit, ...], tuple[int, ...], tuple[float, ...]]:
    """Delay of each class and class of each waiting row, in turns until neither moves; and labels and rows of each."""
    numbers = np.bincount(classes, minlength=num_classes)
    share, curves = waiting.prior, [NEVER] * num_classes
    for _ in range(MAX_ROUNDS):
        curves = [_curve(delays[classes == k], waiting, share[:, k]) for k in range(num_classes)]
        likely = waiting.prior * np.column_stack([curve.waiting(waiting.age) for curve in curves])
        total = likely.sum(axis=1, keepdims=True)
        posterior = np.divide(likely, total, out=waiting.prior.copy(), where=total > 0)
        if np.abs(posterior - share).max(initial=0.0) < 1e-4:
            break
        share = posterior
    # A class of few labels is late where rows that are older than most delays still wait for it; else it is rare
    late = (waiting.count * (waiting.age > np.quantile(delays, 0.9))) @ share
    together = _curve(delays, waiting, np.ones(len(waiting.age)))
    for k, number in enumerate(numbers):
        if number < MIN_CLASS_LABELS:
            curves[k] = NEVER if late[k] >= MIN_CLASS_LABELS else together
    return tuple(curves), tuple(numbers.tolist()), tuple((waiting.count @ share).tolist())


def _curve(delays: Floats, waiting: WaitingRows, share: Floats) -> ProductLimit:
    arrived = np.arange(len(delays) + len(waiting.age)) < len(delays)
    weight = np.concatenate([np.ones(len(delays)), waiting.count * share])
    return ProductLimit.of(np.concatenate([delays, waiting.age]), arrived, weight)


def mature(
    window: Window, delays: LabelDelays | None, section: MonitorSection, results: WindowResults | None = None
) -> bool:
    """Tell whether a window's performance can be measured, and put the rows to measure it on into ``window.matured``.

    Without `delays` so many of its predictions have to have labels as the recipe says, and these count alike. `results`
    are as for `learn`.
    """
    if delays is None or not window.num_pending:
        return window.coverage >= section.min_label_coverage
    window.ready_fraction = _ready_fraction(window, delays, results or WindowResults())
    if window.ready_fraction < MIN_READY:
        return False
    rows = weighted_rows(window.labelled, delays)
    window.matured = rows
    return len(rows.arrays()[0]) >= section.min_rows / 2


def _ready_fraction(window: Window, delays: LabelDelays, results: WindowResults) -> float:
    """Share of a window's rows that are old enough."""
    counted = _rows_by_block(window, results)
    rows = np.array([1.0]) if counted is None else counted
    ready = delays.is_ready(delays.observed_at - block_times(window, delays.block_s, len(rows)))
    return float(rows @ ready / max(rows.sum(), 1))


def weighted_rows(labelled: LabelledRows, delays: LabelDelays) -> LabelledRows:
    """The rows that are old enough, each with the weight of the rows that it stands for."""
    y, output, block = labelled.arrays()
    if not len(y):
        return labelled
    ages = delays.observed_at - np.concatenate(labelled.time)
    ready = delays.is_ready(ages)
    share = delays.arrived(y[ready], ages[ready])
    known, weight = labelled.utilities, 1 / np.maximum(share, MIN_ARRIVED)
    utility = [] if known is None else [known[ready]]
    return LabelledRows([y[ready]], [output[ready]], [block[ready]], utility=utility, weight=weight)

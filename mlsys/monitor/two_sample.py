"""A classifier two-sample test: whether columns go together in a window as they do in training.

Tests of one column after another see no change of what columns do together, such as a correlation that is lost. A
classifier that is fitted to tell rows of the window from training rows sees both; if it cannot, on rows that it was not
fitted on, the two samples are alike (Friedman 2003; Lopez-Paz & Oquab 2017). Its statistic is the ROC AUC.

Rows of one block of time are alike, so single rows cannot be permuted. The blocks are dealt into two halves, and so
are the training rows; of each half the AUC of the classifier of the *other* half is taken. Given that classifier the
blocks are independent of each other, so the AUC less 1/2 over its standard error follows a t distribution where
nothing moved: clusters of rows on the side of the window (Obuchowski 1997), single rows on that of training (DeLong et
al. 1988), no less in all than for independent rows, and the degrees of freedom of Satterthwaite (1946). The p-value is
twice the smaller one of both halves (Bonferroni), which holds however they depend on each other. It takes its place in
the family of tests of the window (`mlsys.monitor.drift_alarms`).

Columns with an alarm of their own are left out: what moves by itself needs no second word.

References
----------
Lopez-Paz & Oquab (2017), Revisiting classifier two-sample tests, ICLR, arXiv:1610.06545. Friedman (2003), On
multivariate goodness-of-fit and two-sample testing, SLAC-PUB-10325. Kim, Ramdas, Singh & Wasserman (2021),
Classification accuracy as a proxy for two-sample testing, Ann. Stat. 49:411. Obuchowski (1997), Nonparametric analysis
of clustered ROC curve data, Biometrics 53:567. DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlsys import models
from mlsys.models.matrix import Matrix
from mlsys.monitor import drift_alarms, significance
from mlsys.monitor.drift_alarms import AlarmRule, Shift
from mlsys.monitor.row_sample import Codes, RowSample
from mlsys.schema import Task, TaskKind
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats

MIN_SAMPLED, MIN_HALF_BLOCKS = 100, 2
"""Rows of either side, and blocks of time in each half, that the test needs."""

MAX_NAMED, LEAST_SHARE = 4, 0.5
"""Columns that are named at most, and the share of the largest drop of the AUC from which one is."""

_TASK = Task(kind=TaskKind.BINARY, target="window", classes=(False, True))
_PARAMS = {
    "rounds": 40, "early_stopping": 0, "learning_rate": 0.15, "max_depth": 4, "min_child_weight": 4.0,
    "subsample": 0.8, "colsample_bytree": 0.8, "max_bin": 32,
}  # fmt: skip


@dataclass(frozen=True)
class JointShift:
    """Result of the test for one window.

    Attributes
    ----------
    auc
        ROC AUC of telling rows of the window from training rows, the mean of both halves; 0.5 where they are alike.
    pvalue, adjusted
        p-value of the test, and the same adjusted for all tests of the window.
    columns
        The columns by which the two are told apart, those first that do most; empty without an alarm.
    """

    auc: float
    pvalue: float
    adjusted: float
    alarmed: bool
    columns: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "columns": list(self.columns)}


@dataclass(frozen=True)
class JointTest:
    """The test of some columns of a window, before it takes its place among the tests of the others.

    `telling` are the columns by which the two samples are told apart, found when they are asked for.
    """

    auc: float
    pvalue: float
    telling: Callable[[], Sequence[str]]


def compare(trained: Codes, window: RowSample, names: Sequence[str], tested: Sequence[str]) -> JointTest:
    """Test some of the columns of a window together; `names` are those of all that the samples have."""
    places = [names.index(name) for name in tested]
    parts = halves(trained[:, places], RowSample(window.hashes, window.block, window.codes[:, places]))
    return JointTest(*test(parts), functools.partial(telling_columns, parts, tested))


def still(names: Sequence[str], shifts: Sequence[Shift]) -> list[str]:
    """The columns of a window that have no alarm of their own; none where they are fewer than two."""
    alarmed = {shift.column for shift in shifts if shift.alarmed}
    quiet = [name for name in names if name not in alarmed]
    return quiet if len(quiet) >= 2 else []


def conclude(tested: JointTest, shifts: Sequence[Shift], rule: AlarmRule) -> JointShift:
    """Say whether a test is an alarm: if it is certain, as shifts are, and large, an AUC of `drift_alarms.least_auc`.

    `shifts` are those of the window's columns, whose p-values left room for this one.
    """
    adjusted = float(significance.benjamini_hochberg([*(shift.pvalue for shift in shifts), tested.pvalue])[-1])
    is_alarm = tested.auc >= drift_alarms.least_auc(rule.floor) and adjusted <= rule.rate
    return JointShift(tested.auc, tested.pvalue, adjusted, is_alarm, tuple(tested.telling()) if is_alarm else ())


@dataclass(frozen=True)
class Half:
    """The rows that a classifier is tried on, which was fitted on the other half."""

    trained: Codes
    window: Codes
    block: NDArray[np.int64]
    score: functools.partial[Floats]

    @functools.cached_property
    def placements(self) -> tuple[Floats, Floats]:
        """For each row of the window the share of training rows that score less, and the other way round."""
        return _placements(self.score(self.trained), self.score(self.window))

    @property
    def auc(self) -> float:
        return float(self.placements[1].mean())

    @property
    def pvalue(self) -> float:
        """Probability of so large an AUC, or a larger one, if the two samples are alike."""
        of_trained, of_window = self.placements
        single = float(of_window.var(ddof=1)) / len(of_window)
        clustered, freedom = _clustered(of_window, self.block)
        other = float(of_trained.var(ddof=1)) / len(of_trained)
        own = max(single, clustered)
        if own + other <= 0:
            return 1.0
        freedom *= ((own + other) / own) ** 2 if own > 0 else 1.0
        return float(special.stdtr(freedom, -(self.auc - 0.5) / math.sqrt(own + other)))


def is_testable(trained: Codes | None, window: RowSample | None) -> bool:
    """Tell whether both samples are there and large enough, and the window has enough blocks of time."""
    if trained is None or window is None or trained.shape[1] < 2 or trained.shape[1] != window.codes.shape[1]:
        return False
    num_blocks = len(np.unique(window.block))
    return min(len(trained), len(window.hashes)) >= MIN_SAMPLED and num_blocks >= 2 * MIN_HALF_BLOCKS


def halves(trained: Codes, window: RowSample) -> list[Half]:
    """Deal both samples into two halves, and fit a classifier on each for the other one."""
    place = np.searchsorted(np.unique(window.block), window.block)
    sides = [(trained[side::2], window.codes[place % 2 == side], place[place % 2 == side]) for side in (0, 1)]
    scores = [_fitted(*sides[1 - side][:2]) for side in (0, 1)]
    return [Half(*sides[side], scores[side]) for side in (0, 1)]


def test(parts: Sequence[Half]) -> tuple[float, float]:
    """The AUC, and the p-value of both halves together."""
    pvalue = min(1.0, 2 * min(half.pvalue for half in parts))
    return float(np.mean([half.auc for half in parts])), pvalue


def telling_columns(parts: Sequence[Half], names: Sequence[str]) -> tuple[str, ...]:
    """The columns without which the classifiers tell less: by the drop of the AUC where their values are shuffled.

    References
    ----------
    Breiman (2001), Random forests, Machine Learning 45:5, section 10: permutation importance.
    """
    drops = np.array([np.mean([_without(half, number) for half in parts]) for number in range(len(names))])
    order = [int(place) for place in np.argsort(-drops, kind="stable")[:MAX_NAMED]]
    return tuple(names[place] for place in order if drops[place] > 0 and drops[place] >= LEAST_SHARE * drops[order[0]])


def _without(half: Half, column: int) -> float:
    """Drop of the AUC where a column's values are shuffled among the rows of each side."""
    rng = np.random.default_rng(column)
    sides = [half.trained.copy(), half.window.copy()]
    for side in sides:
        side[:, column] = rng.permutation(side[:, column])
    return half.auc - float(_placements(*(half.score(side) for side in sides))[1].mean())


def _fitted(trained: Codes, window: Codes) -> functools.partial[Floats]:
    """The score of a classifier: the larger, the more a row is like those of the window."""
    X = np.ascontiguousarray(np.concatenate([trained, window]), np.float32)
    y = np.repeat([0.0, 1.0], [len(trained), len(window)])
    weight = np.where(y == 1, len(y) / (2 * len(window)), len(y) / (2 * len(trained)))
    names = tuple(f"c{number}" for number in range(X.shape[1]))
    family = models.family("xgboost")
    matrix = Matrix(X, y, names, ("q",) * len(names), weight)
    model = family.fit(matrix, None, _TASK, family.params(**_PARAMS), seed=0, threads=1)
    return functools.partial(_scores, model)


def _scores(model: Any, codes: Codes) -> Floats:
    output = models.family("xgboost").predict(model, np.ascontiguousarray(codes, np.float32))
    return np.asarray(output[:, 1], np.float64)


def _placements(trained: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Placement values of both sides; ties count half."""
    of_trained, of_window = (_share_below(other, own) for own, other in ((trained, window), (window, trained)))
    return of_trained, of_window


def _share_below(others: Floats, values: Floats) -> Floats:
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(others)), np.float64)


def _clustered(values: Floats, block: NDArray[np.int64]) -> tuple[float, float]:
    """Variance of the mean of values that come in blocks, and its degrees of freedom.

    ``B / (B - 1) * sum((sum of the block - its rows * mean)^2) / n^2``, as Obuchowski (1997); blocks of unequal size
    count as fewer of equal size.
    """
    _, place = np.unique(block, return_inverse=True)
    sizes = np.bincount(place)
    deviations = np.bincount(place, weights=values - values.mean())
    variance = len(sizes) / (len(sizes) - 1) * float((deviations**2).sum()) / len(values) ** 2
    return variance, max(min(len(sizes), jackknife.effective_number(sizes)) - 1, 0.5)

"""Metrics of predictions against the truth, each with its formula, its source and its undefined cases.

A metric is prepared once for the rows, then asked for its value under any weighting of them:
unweighted for the value itself, with the counts of a bootstrap resample for its interval.

>>> y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
>>> METRICS["roc_auc"].function(y, p)
0.75
>>> measure("log_loss", y, np.column_stack([1 - p, p])).__round__(4)
0.4723

A value that is not defined is NaN, never 0 and never an error: one class only, no positive
row, nothing called positive, no rows. Each metric says when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys.evaluate import weighted_metrics
from mlsys.evaluate.weighted_metrics import Prepare
from mlsys.schema import TaskKind
from mlsys.statistics import ranking

__all__ = ["METRICS", "Metric", "Predicted", "all_for", "default", "find", "measure"]

Floats = NDArray[np.float64]
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    kinds
        The kinds of task that it is defined for.
    needs
        What `prepare` and `function` take beside `y`: ``label`` class indices (n,);
        ``score`` and ``probability`` the positive class (n,) for binary tasks, else (n, classes);
        ``value`` the predicted number (n,).
    prepare
        From (y, prediction) to the statistic. `y` holds class indices or the target.
    """

    name: str
    title: str
    kinds: frozenset[TaskKind]
    needs: Literal["label", "score", "probability", "value"]
    greater_is_better: bool
    prepare: Prepare
    __doc__: str = ""

    @property
    def ranks(self) -> bool:
        """Whether models can be ordered by it; a mean bias is best in the middle."""
        return self.name != "bias"

    @property
    def sign(self) -> int:
        """+1 where greater is better, else -1: ``sign * difference`` is a gain."""
        return 1 if self.greater_is_better else -1

    def function(self, y: NDArray[Any], prediction: NDArray[Any]) -> float:
        return self.prepare(np.asarray(y), np.asarray(prediction))(None)


@dataclass(frozen=True)
class Predicted:
    """A model's output in the forms that metrics need, for `y` of the same rows.

    Attributes
    ----------
    output
        What a model's ``predict`` gives: (n,) for regression, else probabilities (n, classes).
    threshold
        Binary: the least probability of the positive class that is called positive.
    """

    output: Floats
    threshold: float = 0.5

    @property
    def label(self) -> NDArray[np.int64]:
        if self.output.shape[1] == 2:
            return np.asarray(self.output[:, 1] >= self.threshold, np.int64)
        return np.asarray(self.output.argmax(axis=1), np.int64)

    def of(self, needs: str) -> NDArray[Any]:
        if needs == "value":
            return self.output
        if needs == "label":
            return self.label
        return self.output[:, 1] if self.output.shape[1] == 2 else self.output


def measure(name: str, y: NDArray[Any], output: Floats, threshold: float = 0.5) -> float:
    """Value of a metric for what a model's ``predict`` gave on the rows of `y`."""
    metric = METRICS[name]
    return metric.function(y, Predicted(np.asarray(output, np.float64), threshold).of(metric.needs))


def default(kind: TaskKind | str) -> str:
    """The metric that models are ranked by when the recipe says ``auto``.

    >>> default("binary"), default("multiclass"), default("regression")
    ('roc_auc', 'log_loss', 'rmse')
    """
    return {BINARY: "roc_auc", MULTICLASS: "log_loss", REGRESSION: "rmse"}[TaskKind(kind)]


def all_for(kind: TaskKind | str) -> list[Metric]:
    """The metrics of a kind of task, in the order of a report."""
    return [metric for metric in METRICS.values() if TaskKind(kind) in metric.kinds]


def find(name: str, kind: TaskKind | str, where: str = "recipe: selection.metric", extra: Iterable[str] = ()) -> Metric:
    """The metric of that name; ``auto`` is the default one of the task.

    Raises
    ------
    RecipeError
        There is none of that name for this kind of task; the message names the nearest.
    """
    known = {metric.name: metric for metric in all_for(kind) if metric.ranks}
    if name == "auto":
        return known[default(kind)]
    if name not in known:
        raise errors.RecipeError.build(
            where,
            got=name,
            expected=f"a metric of a {TaskKind(kind).value} task",
            hint=errors.did_you_mean(name, [*known, *extra]),
            field=name,
        )
    return known[name]


def _label(
    name: str, title: str, value: Callable[[Floats], float], text: str, kinds: Iterable[TaskKind] = (BINARY, MULTICLASS)
) -> Metric:
    return Metric(name, title, frozenset(kinds), "label", True, weighted_metrics.of_matrix(value), text)


def _average(name: str, of: Callable[[Floats], Floats], *, weighted: bool) -> Metric:
    how = "weighted" if weighted else "macro"
    text = (
        f"{name} a class, averaged over the classes that occur{' by their rows' if weighted else ''}; see `confusion`"
    )
    return _label(
        f"{name}_{how}",
        f"{name.capitalize()}, {how}",
        lambda c: weighted_metrics.averaged(of(c), c, weighted=weighted),
        text,
    )


def _positive(of: Callable[[Floats], Floats]) -> Callable[[Floats], float]:
    return lambda counts: float(of(counts)[1])


def _number(name: str, title: str, better: bool, prepare: Prepare, text: str) -> Metric:  # noqa: FBT001
    return Metric(name, title, frozenset({REGRESSION}), "value", better, prepare, text)


MEANINGS = {
    "precision": "share of what is called a class that belongs to it",
    "recall": "share of a class that is found",
    "f1": "2 TP / (2 TP + FP + FN)",
}
_CLASSES = frozenset({BINARY, MULTICLASS})
_PER_CLASS = {"precision": weighted_metrics.precision, "recall": weighted_metrics.recall, "f1": weighted_metrics.f1}

_ALL = [
    Metric(
        "roc_auc",
        "ROC AUC",
        _CLASSES,
        "score",
        True,
        weighted_metrics.of_order(ranking.roc_auc),
        "chance that a positive row outranks a negative one, ties count half; several classes: each against the "
        "rest, plain mean",
    ),
    Metric(
        "pr_auc",
        "PR AUC",
        _CLASSES,
        "score",
        True,
        weighted_metrics.of_order(ranking.average_precision),
        "average precision, ∑ (R_k − R_{k−1}) P_k; several classes: each against the rest, plain mean",
    ),
    Metric(
        "log_loss",
        "Log loss",
        _CLASSES,
        "probability",
        False,
        weighted_metrics.mean_of(weighted_metrics.surprise),
        "mean of -ln p(true class) (Good 1952, JRSS B 14, 107-114); p kept 2.2e-16 from 0 and 1",
    ),
    Metric(
        "brier",
        "Brier score",
        _CLASSES,
        "probability",
        False,
        weighted_metrics.mean_of(weighted_metrics.quadratic),
        "mean of (p - y)² for the positive class; several classes: summed over classes (Brier 1950, MWR 78, 1-3)",
    ),
    Metric(
        "ece",
        "Calibration error",
        _CLASSES,
        "probability",
        False,
        weighted_metrics.calibration_error,
        "mean distance of probability and observed rate over bins of equal size (Naeini et al. 2015); several "
        "classes: of the most probable one (Guo et al. 2017); resampling adds noise to it, so its interval lies high",
    ),
    _label("accuracy", "Accuracy", weighted_metrics.accuracy, "share of rows with the right class"),
    _label(
        "balanced_accuracy",
        "Balanced accuracy",
        weighted_metrics.balanced_accuracy,
        "mean recall of the classes; NaN with one class",
    ),
    *(
        _label(
            n,
            f"{n.capitalize()}, positive class",
            _positive(of),
            MEANINGS[n] + ", for the positive class",
            (BINARY,),
        )
        for n, of in _PER_CLASS.items()
    ),
    *(_average(n, of, weighted=weighted) for weighted in (False, True) for n, of in _PER_CLASS.items()),
    _label(
        "mcc",
        "Matthews correlation",
        weighted_metrics.matthews,
        "correlation of truth and prediction (Gorodkin 2004); not defined if either has one class only",
    ),
    _number(
        "rmse",
        "RMSE",
        False,
        weighted_metrics.mean_of(lambda y, p: (y - p) ** 2, lambda m: float(np.sqrt(m))),
        "root of the mean squared error, in the target's unit",
    ),
    _number(
        "mae",
        "MAE",
        False,
        weighted_metrics.mean_of(lambda y, p: np.abs(y - p)),
        "mean absolute error, in the target's unit",
    ),
    _number(
        "median_absolute_error",
        "Median absolute error",
        False,
        weighted_metrics.median_absolute,
        "median of |y - prediction|, in the target's unit",
    ),
    _number(
        "mape",
        "MAPE",
        False,
        weighted_metrics.mean_of(weighted_metrics.relative),
        "mean of |y - prediction| / |y|, a fraction; NaN if any y is 0",
    ),
    _number(
        "r2", "R²", True, weighted_metrics.determination, "1 - residual over total sum of squares; NaN if y is constant"
    ),
    _number(
        "bias",
        "Mean bias",
        False,
        weighted_metrics.mean_of(lambda y, p: p - y),
        "mean of prediction - y; nearer to 0 is better, so bound it on both sides",
    ),
]

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by the name that recipes use, in the order of a report."""

"""Metrics of predictions against the truth: one table, each entry with its formula, source and undefined cases.

A metric is prepared once for the rows, then asked for its value under any weighting of them:
unweighted for the value itself, with the counts of a bootstrap resample for its interval.

>>> y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
>>> METRICS["roc_auc"].function(y, p)
0.75
>>> measure("log_loss", y, np.column_stack([1 - p, p])).__round__(4)
0.4723

A value that is not defined is NaN, never 0 and never an error: one class only, no positive
row, nothing called positive, no rows. Each metric says when.

A metric of your own goes by the same table once it is registered: recipes, gates, reports, intervals and
the monitor know it. One that has no form under weights is computed anew on the rows of each resample::

    from sklearn.metrics import cohen_kappa_score

    metrics.register(Metric("kappa", "Cohen's kappa", CLASSIFICATION, "label", "higher", by_rows(cohen_kappa_score),
                            "agreement beyond chance (Cohen 1960, EPM 20, 37-46)"))
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys.evaluate import deviances, ranking_metrics
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.weighted_metrics import Prepare, by_rows  # noqa: F401 - the other way to make a metric
from mlsys.plugins import Plugins
from mlsys.recipe import Recipe
from mlsys.schema import TargetLoss, Task, TaskKind
from mlsys.statistics import ranking
from mlsys.statistics.arrays import Floats

BINARY = frozenset({TaskKind.BINARY})
MULTICLASS = frozenset({TaskKind.MULTICLASS})
CLASSIFICATION = BINARY | MULTICLASS
REGRESSION = frozenset({TaskKind.REGRESSION})
RANKING = frozenset({TaskKind.RANKING})
MULTILABEL = frozenset({TaskKind.MULTILABEL})
NO_TASK: frozenset[TaskKind] = frozenset()

SHARE, ERROR = (0.0, 1.0), (0.0, math.inf)
"""Least and greatest value of a share and of an error."""


@dataclass(frozen=True)
class Metric:
    """A metric and all that is done with it.

    Attributes
    ----------
    name, title
        Its name in recipes, and its label in reports.
    tasks
        The kinds of task that it is defined for.
    needs
        What `prepare` and `function` take beside `y`: ``label`` class indices (n,);
        ``score`` and ``probability`` the positive class (n,) for binary tasks, else (n, classes);
        ``value`` the predicted number (n,). For several labels, ``labels`` says which a row is said to have and
        ``label_probability`` their probabilities, both (n, labels). ``score`` is for metrics that look at the order of
        rows alone; ``ranked`` the score and the number of the row's group, (n, 2).
    better
        The better direction. Models are not ordered by a metric that is best in the middle, near 0.
    prepare
        Function from (y, prediction) to the value under weights (`weighted_metrics.Prepare`). `y` holds
        class indices, numbers of sets of labels (`mlsys.label_sets`), or the target.
    definition
        Its formula, source and undefined cases, as reports print them.
    functional
        What of the distribution of a numeric target its best prediction is (Gneiting 2011, JASA 106, 746-762).
    loss
        The loss that it is the mean of, where a recipe can name that.
    default_for
        The kinds of task whose models are ordered by it when the recipe says ``auto``.
    monitored_for
        The kinds of task for which the monitor measures it beside the metric that the recipe names.
    in_target_unit
        It has the target's unit, or a power of it; the monitor takes its losses as fractions of its value on the test
        rows.
    is_headline
        Reports draw it beside others on a scale where 1 is perfect.
    bounds
        The least and the greatest value that it can have: no interval goes beyond.
    """

    name: str
    title: str
    tasks: frozenset[TaskKind]
    needs: Literal["label", "score", "probability", "value", "labels", "label_probability", "ranked"]
    better: Literal["higher", "lower", "nearer to 0"]
    prepare: Prepare
    definition: str
    functional: Literal["mean", "median", "mean of logarithms", "quantile"] = "mean"
    loss: TargetLoss | None = None
    default_for: frozenset[TaskKind] = NO_TASK
    monitored_for: frozenset[TaskKind] = NO_TASK
    in_target_unit: bool = False
    is_headline: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def greater_is_better(self) -> bool:
        return self.better == "higher"

    @property
    def sign(self) -> int:
        """The number +1 where greater is better, else -1: ``sign * difference`` is a gain."""
        return 1 if self.greater_is_better else -1

    def function(self, y: NDArray[Any], prediction: NDArray[Any], weight: Floats | None = None) -> float:
        """Compute the value on rows that count alike, or as their weights say."""
        return self.prepare(np.asarray(y), np.asarray(prediction))(weight)

    def under(self, y: NDArray[Any], prediction: NDArray[Any], weight: Floats | None) -> weighted.Statistic:
        """Prepare rows that count as their own weights say, under any further weighting."""
        statistic = self.prepare(y, prediction)
        return statistic if weight is None else lambda more: statistic(weight if more is None else weight * more)


LOSSES = {"mean": "squared", "median": "absolute", "mean of logarithms": "log", "quantile": "squared"}
"""What a metric asks a model to predict → the loss whose least value is there, where the task names none itself."""


@dataclass(frozen=True)
class Predicted:
    """The output of a model, (n,) values or (n, classes) probabilities, in the forms that metrics need.

    `threshold` is the least probability of the positive class that a binary model calls positive; of several labels,
    whose probabilities are (n, labels), that of each. `groups` tell the lists of a ranking apart; without them all rows
    are one list.
    """

    output: Floats
    threshold: float | Sequence[float] = 0.5
    groups: NDArray[Any] | None = None

    @property
    def label(self) -> NDArray[np.int64]:
        """Class index of each row."""
        if self.output.shape[1] == 2:
            return np.asarray(self.output[:, 1] >= np.asarray(self.threshold), np.int64)
        return np.asarray(self.output.argmax(axis=1), np.int64)

    def of(self, needs: str) -> NDArray[Any]:
        """Give the form that `Metric.needs` names."""
        if needs in ("value", "label_probability"):
            return self.output
        if needs == "ranked":
            lists = (
                np.zeros(len(self.output)) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
            )
            return np.column_stack([self.output, lists])
        if needs == "labels":
            return np.asarray(self.output >= np.asarray(self.threshold))
        if needs == "label":
            return self.label
        return self.output[:, 1] if self.output.shape[1] == 2 else self.output


def _mean(name: str, of: Callable[[Floats], Floats], how: str) -> Metric:
    """Make a metric of the mean of a number a class over the classes that occur, plain or by their rows."""
    is_weighted = how == "weighted"
    prepare = weighted.of_matrix(lambda counts: weighted.averaged(of(counts), counts, weighted=is_weighted))
    text = f"{name} a class, averaged over the classes that occur{' by their rows' if is_weighted else ''}"
    return Metric(f"{name}_{how}", f"{name.capitalize()}, {how}", CLASSIFICATION, "label", "higher", prepare,
                  f"{text}; see `confusion`", is_headline=(name, how) == ("f1", "macro"), bounds=SHARE)  # fmt: skip


def _positive(name: str, of: Callable[[Floats], Floats], meaning: str) -> Metric:
    """Make a metric of a number a class for the positive class alone."""
    prepare = weighted.of_matrix(lambda counts: float(of(counts)[1]))
    return Metric(name, f"{name.capitalize()}, positive class", BINARY, "label", "higher", prepare,
                  f"{meaning}, for the positive class", is_headline=name == "f1", bounds=SHARE)  # fmt: skip


_PER_CLASS = {
    "precision": (weighted.precision, "share of what is called a class that belongs to it"),
    "recall": (weighted.recall, "share of a class that is found"),
    "f1": (weighted.f1, "2 TP / (2 TP + FP + FN)"),
}


def at_rank(k: int) -> Metric:
    """The metric of the first `k` ranks of each group; that of ten is the usual one."""
    definition = (
        f"mean over the groups of the discounted cumulative gain of the first {k} ranks, gain 2^grade − 1 and discount "
        "1 / log2(1 + rank), over that of the best order (Järvelin & Kekäläinen 2002); of ties the expected value "
        "(McSherry & Najork 2008); groups without a grade above 0 are left out"
    )
    usual = RANKING if k == USUAL_RANK else NO_TASK
    return Metric(f"ndcg@{k}", f"NDCG@{k}", RANKING, "ranked", "higher", ranking_metrics.ndcg(k), definition,
                  default_for=usual, monitored_for=usual, is_headline=k == USUAL_RANK, bounds=SHARE)  # fmt: skip


USUAL_RANK = 10
"""Ranks that rankings are compared by where a recipe names no number."""

_TABLE = (
    Metric("roc_auc", "ROC AUC", CLASSIFICATION, "score", "higher", weighted.of_order(ranking.roc_auc),
           "chance that a positive row outranks a negative one, ties count half; several classes: each against the "
           "rest, plain mean",
           default_for=BINARY, monitored_for=BINARY, is_headline=True, bounds=SHARE),
    Metric("pr_auc", "PR AUC", CLASSIFICATION, "score", "higher", weighted.of_order(ranking.average_precision),
           "average precision, ∑ (R_k − R_{k−1}) P_k; several classes: each against the rest, plain mean",
           is_headline=True, bounds=SHARE),
    Metric("log_loss", "Log loss", CLASSIFICATION, "probability", "lower", weighted.mean_of(weighted.surprise),
           "mean of -ln p(true class) (Good 1952, JRSS B 14, 107-114); p kept 2.2e-16 from 0 and 1",
           default_for=MULTICLASS, monitored_for=CLASSIFICATION, bounds=ERROR),
    Metric("brier", "Brier score", CLASSIFICATION, "probability", "lower", weighted.mean_of(weighted.quadratic),
           "mean of (p - y)² for the positive class; several classes: summed over classes (Brier 1950, MWR 78, 1-3)",
           monitored_for=BINARY, bounds=ERROR),
    Metric("ece", "Calibration error", CLASSIFICATION, "probability", "lower", weighted.calibration_error,
           "mean distance of probability and observed rate over bins of equal size (Naeini et al. 2015); "
           "several classes: of the most probable one (Guo et al. 2017); resampling adds noise to it, so its interval "
           "lies high", bounds=SHARE),
    Metric("accuracy", "Accuracy", CLASSIFICATION, "label", "higher", weighted.of_matrix(weighted.accuracy),
           "share of rows with the right class", monitored_for=MULTICLASS, is_headline=True, bounds=SHARE),
    Metric("balanced_accuracy", "Balanced accuracy", CLASSIFICATION, "label", "higher",
           weighted.of_matrix(weighted.balanced_accuracy), "mean recall of the classes; NaN with one class",
           is_headline=True, bounds=SHARE),
    *(_positive(name, of, meaning) for name, (of, meaning) in _PER_CLASS.items()),
    *(_mean(name, of, how) for how in ("macro", "weighted") for name, (of, _) in _PER_CLASS.items()),
    Metric("mcc", "Matthews correlation", CLASSIFICATION, "label", "higher", weighted.of_matrix(weighted.matthews),
           "correlation of truth and prediction (Gorodkin 2004); not defined if either has one class only",
           is_headline=True, bounds=(-1.0, 1.0)),
    Metric("rmse", "RMSE", REGRESSION, "value", "lower",
           weighted.mean_of(lambda y, p: (y - p) ** 2, lambda m: float(np.sqrt(m))),
           "root of the mean squared error, in the target's unit",
           default_for=REGRESSION, monitored_for=REGRESSION, in_target_unit=True, bounds=ERROR),
    Metric("mae", "MAE", REGRESSION, "value", "lower", weighted.mean_of(lambda y, p: np.abs(y - p)),
           "mean absolute error, in the target's unit",
           functional="median", monitored_for=REGRESSION, in_target_unit=True, bounds=ERROR),
    Metric("median_absolute_error", "Median absolute error", REGRESSION, "value", "lower", weighted.median_absolute,
           "median of |y - prediction|, in the target's unit", functional="median", in_target_unit=True, bounds=ERROR),
    Metric("mape", "MAPE", REGRESSION, "value", "lower", weighted.mean_of(weighted.relative),
           "mean of |y - prediction| / |y|, a fraction; NaN if any y is 0", functional="median", bounds=ERROR),
    Metric("rmsle", "RMSLE", REGRESSION, "value", "lower",
           weighted.mean_of(weighted.squared_log, lambda m: float(np.sqrt(m))),
           "root of the mean squared difference of sign(x) ln(1 + |x|) of y and prediction",
           functional="mean of logarithms", bounds=ERROR),
    Metric("r2", "R²", REGRESSION, "value", "higher", weighted.determination,
           "1 - residual over total sum of squares; NaN if y is constant", monitored_for=REGRESSION, is_headline=True,
           bounds=(-math.inf, 1.0)),
    Metric("bias", "Mean bias", REGRESSION, "value", "nearer to 0", weighted.mean_of(lambda y, p: p - y),
           "mean of prediction - y; nearer to 0 is better, so bound it on both sides"),
    at_rank(USUAL_RANK),
    Metric("ndcg", "NDCG", RANKING, "ranked", "higher", ranking_metrics.ndcg(),
           f"as ndcg@{USUAL_RANK}, over all ranks of a group", is_headline=True, bounds=SHARE),
    Metric("mrr", "Mean reciprocal rank", RANKING, "ranked", "higher",
           ranking_metrics.of_groups(ranking_metrics.reciprocal_rank_by_group),
           "mean over the groups of 1 / rank of the first row with a grade above 0 (Voorhees 1999, TREC-8, 77-82); "
           "ties, and groups without such a row, as for ndcg", monitored_for=RANKING, is_headline=True, bounds=SHARE),
    Metric("mean_log_loss", "Log loss, mean over labels", MULTILABEL, "label_probability", "lower",
           weighted.over_labels(weighted.mean_of(weighted.surprise)),
           "mean over labels and rows of -ln p(what is true), the loss that binary relevance makes small",
           default_for=MULTILABEL, monitored_for=MULTILABEL, bounds=ERROR),
    Metric("mean_brier", "Brier score, mean over labels", MULTILABEL, "label_probability", "lower",
           weighted.over_labels(weighted.mean_of(weighted.quadratic)), "mean over labels and rows of (p - y)²",
           bounds=SHARE),
    Metric("macro_roc_auc", "ROC AUC, mean over labels", MULTILABEL, "label_probability", "higher",
           weighted.over_labels(weighted.of_order(ranking.roc_auc)),
           "ROC AUC of each label, plain mean over those that some rows have and others lack",
           is_headline=True, bounds=SHARE),
    Metric("macro_pr_auc", "PR AUC, mean over labels", MULTILABEL, "label_probability", "higher",
           weighted.over_labels(weighted.of_order(ranking.average_precision)),
           "average precision of each label, plain mean over those that some rows have", is_headline=True,
           bounds=SHARE),
    Metric("macro_f1", "F1, mean over labels", MULTILABEL, "labels", "higher",
           weighted.over_labels(weighted.of_matrix(lambda counts: float(weighted.f1(counts)[1]))),
           "2 TP / (2 TP + FP + FN) of each label, plain mean over those that occur or are predicted",
           monitored_for=MULTILABEL, is_headline=True, bounds=SHARE),
    Metric("micro_f1", "F1 of all labels together", MULTILABEL, "labels", "higher", weighted.f1_micro,
           "2 TP / (2 TP + FP + FN), summed over all rows and labels", is_headline=True, bounds=SHARE),
    Metric("subset_accuracy", "Subset accuracy", MULTILABEL, "labels", "higher",
           weighted.over_rows(lambda has, called: np.asarray((has == called).all(axis=1), np.float64)),
           "share of rows with exactly their labels (Zhang & Zhou 2014, section 2.2)", is_headline=True, bounds=SHARE),
    Metric("hamming_loss", "Hamming loss", MULTILABEL, "labels", "lower",
           weighted.over_rows(lambda has, called: np.asarray((has != called).mean(axis=1), np.float64)),
           "share of all pairs of a row and a label that are wrong (Zhang & Zhou 2014, section 2.2)",
           monitored_for=MULTILABEL, bounds=SHARE),
)  # fmt: skip


def of_loss(loss: TargetLoss) -> Metric:
    """The metric that is the mean of a loss; its name has the loss's parameter.

    >>> of_loss(TargetLoss.of({"quantile": 0.9})).name, of_loss(TargetLoss.of("poisson")).name
    ('pinball_0.9', 'poisson_deviance')
    """
    suffix = "" if loss.parameter is None else f"_{loss.parameter}"
    prepare = weighted.mean_of(deviances.of_rows(loss))
    how: dict[str, Any] = {"prepare": prepare, "loss": loss, "in_target_unit": True, "bounds": ERROR}
    if loss.name == "quantile":
        text = f"mean of {loss.level:g} times what is too low and {1 - loss.level:g} times what is too high"
        definition = f"{text} (Koenker & Bassett 1978, Econometrica 46, 33-50), in the target's unit"
        how |= {"functional": "quantile", "definition": definition}
        return Metric(f"pinball{suffix}", f"Pinball loss {loss.level:g}", REGRESSION, "value", "lower", **how)
    named = {"poisson": "Poisson", "tweedie": f"Tweedie {loss.parameter}", "gamma": "Gamma"}[loss.name]
    definition = (
        f"mean unit deviance for a variance that goes with the power {loss.power:g} of the mean (Jørgensen 1987, JRSS "
        "B 49, 127-162); NaN if a prediction is not above 0"
    )
    title = f"{named} deviance"
    return Metric(f"{loss.name}_deviance{suffix}", title, REGRESSION, "value", "lower", definition=definition, **how)


_NAMES_OF_LOSSES = re.compile(r"(?:pinball_(?P<quantile>.+)|tweedie_deviance_(?P<tweedie>.+)|(?P<other>.+)_deviance)")


@functools.cache
def _named_by_loss(name: object) -> Metric | None:
    """The metric of a loss by its name, which may hold any number that is a quantile or a power."""
    match = _NAMES_OF_LOSSES.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    if match["other"]:
        return of_loss(TargetLoss(name=match["other"])) if match["other"] in ("poisson", "gamma") else None
    kind, low = ("quantile", 0.0) if match["quantile"] else ("tweedie", 1.0)
    try:
        metric = of_loss(TargetLoss(name=kind, parameter=float(match[kind])))
    except ValueError:  # float of a text that is no number
        return None
    is_inside = metric.loss is not None and low < (metric.loss.parameter or 0.0) < low + 1
    return metric if is_inside and metric.name == name else None


_NAMES_OF_RANKS = re.compile(r"ndcg@([1-9][0-9]{0,5})")


@functools.cache
def _named_by_rank(name: object) -> Metric | None:
    """The metric of the first ranks by its name, which may hold any number of them."""
    match = _NAMES_OF_RANKS.fullmatch(name) if isinstance(name, str) else None
    return None if match is None else at_rank(int(match[1]))


class MetricTable(Plugins[Metric]):
    """Metrics by name; those with a number are there under each of their names, and are listed with their task alone.

    These are the metrics of losses, and of the first ranks.
    """

    def __getitem__(self, name: str) -> Metric:
        return _named_by_loss(name) or _named_by_rank(name) or super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return (_named_by_loss(name) or _named_by_rank(name)) is not None or super().__contains__(name)


METRICS = MetricTable("mlsys.metrics", {metric.name: metric for metric in _TABLE}, {}, Metric)
"""Every metric by the name that recipes use, in the order of a report."""


OF_FORECASTS = ("mase", "skill")
"""Metrics that an evaluation of forecasts has besides, which need the past of a row (`forecast_metrics`)."""


UTILITY = "utility"
"""The metric that an evaluation has besides where the recipe says what a prediction is worth (`utility`)."""


def register(metric: Metric) -> None:
    """Make a metric known in this process; recipes may then name it.

    Other processes see metrics of the entry-point group ``mlsys.metrics`` only.

    Raises
    ------
    TypeError, ValueError
        It is no `Metric`, or mlsys has a metric of that name.
    """
    METRICS.register(getattr(metric, "name", None), metric)


def check_names(recipe: Recipe) -> None:
    """Refuse names of metrics in a recipe that nobody has registered, for whatever task.

    Raises
    ------
    RecipeError
        There is no such metric; the message names the nearest.
    """
    named = [("selection.metric", recipe.selection.metric), *(("evaluate.gate", name) for name in recipe.evaluate.gate)]
    for key, name in named:
        is_beside = key == "evaluate.gate" and (
            (recipe.forecast is not None and name in OF_FORECASTS)
            or (recipe.evaluate.utility is not None and name == UTILITY)
        )
        if name != "auto" and name not in METRICS and not is_beside:
            hint = errors.did_you_mean(name, METRICS)
            raise errors.RecipeError.build(f"recipe: {key}", got=name, expected="a metric", hint=hint, field=name)
    _check_loss(recipe)


def _check_loss(recipe: Recipe) -> None:
    """Refuse to compare models by a loss that they are not fitted to."""
    name, loss = recipe.selection.metric, TargetLoss.of(recipe.loss)
    asked = METRICS[name].loss if name != "auto" else None
    if asked is not None and asked != loss and not (loss and loss.has_log_link and asked.has_log_link):
        got = f"{name} of models that are fitted to {'squared errors' if loss is None else loss}"
        hint = f"loss: {asked} fits it and compares by it; leave selection.metric out"
        where, expected = "recipe: selection.metric", f"loss: {asked}"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint, field=name)


def measure(
    name: str,
    y: NDArray[Any],
    output: Floats,
    threshold: float | Sequence[float] = 0.5,
    weight: Floats | None = None,
    groups: NDArray[Any] | None = None,
) -> float:
    """Compute a metric of what a model's ``predict`` gave on the rows of `y`, which count as their weights say."""
    metric = METRICS[name]
    return metric.function(y, Predicted(np.asarray(output, np.float64), threshold, groups).of(metric.needs), weight)


def default(kind: TaskKind | str) -> str:
    """Name the metric by which models are ordered when the recipe says ``auto``.

    >>> default("binary"), default("multiclass"), default("regression"), default("ranking")
    ('roc_auc', 'log_loss', 'rmse', 'ndcg@10')
    """
    return next(metric.name for metric in METRICS.values() if TaskKind(kind) in metric.default_for)


def usual(task: Task) -> str:
    """Name the metric by which models of a task are ordered when the recipe says ``auto``: that of its loss, if any."""
    return default(task.kind) if task.loss is None else of_loss(task.loss).name


def all_for(kind: TaskKind | str, *named: str) -> list[Metric]:
    """List the metrics of a kind of task, in the order of a report: first those `named` that are not in the table."""
    listed = [metric for metric in METRICS.values() if TaskKind(kind) in metric.tasks]
    names = {metric.name for metric in listed}
    others = [METRICS[name] for name in dict.fromkeys(named) if name not in names and name in METRICS]
    return [*(metric for metric in others if TaskKind(kind) in metric.tasks), *listed]


def find(name: str, kind: TaskKind | str, default_name: str | None = None) -> Metric:
    """Find the metric to order models by; ``auto`` is `default_name`, or else the default one of the task.

    Raises
    ------
    RecipeError
        There is none of that name for this kind of task; the message names the nearest.
    """
    if name == "auto":
        name = default_name or default(kind)
    known = {metric.name: metric for metric in all_for(kind, name) if metric.better != "nearer to 0"}
    if name not in known:
        expected, hint = f"a metric of a {TaskKind(kind).value} task", errors.did_you_mean(name, known)
        raise errors.RecipeError.build("recipe: selection.metric", got=name, expected=expected, hint=hint, field=name)
    return known[name]

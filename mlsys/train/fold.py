"""A fit on some folds that is judged on another: the unit of work of selection and tuning."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mlsys import errors, models
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.models.binary_relevance import Relevance
from mlsys.models.boosting import BoostingFamily
from mlsys.models.class_balance import Balancing
from mlsys.models.interface import Family, FamilyParams
from mlsys.models.matrix import Matrix, joined
from mlsys.models.target_transform import Transform
from mlsys.recipe import Recipe
from mlsys.schema import ROW, Task
from mlsys.statistics import TrainStatistics
from mlsys.train import constraints, samples, training_job

Judge = int | Literal["validation"]

LABEL_ROUNDS = "rounds of label "
"""Begin of the names under which the rounds of each of several labels are noted."""


@dataclass(frozen=True)
class FoldResult:
    """Score, times and sizes of a fit on `num_rows` rows.

    `score` is NaN where the metric is not defined on the judged rows. `predict_us_per_row` are microseconds for
    features and prediction; `best_rounds` are the boosting rounds kept, None for families without rounds; `cut` are
    parameters that the time of the fit ended at less than was asked for (`Family.cut`). `num_bytes` are those of the
    stored model where they were asked for. Of several labels, `best_rounds` are the most of one, `label_rounds` those
    of each.
    """

    score: float
    fit_s: float
    predict_us_per_row: float
    best_rounds: int | None
    num_rows: int
    num_judged: int
    cut: Mapping[str, int] = field(default_factory=dict)
    num_bytes: int | None = None
    label_rounds: tuple[int | None, ...] = ()

    @property
    def reached(self) -> dict[str, int]:
        """The rounds of the model, if it has any, and what its time has cut: a fit of exactly these is the same one."""
        own = {f"{LABEL_ROUNDS}{k}": rounds for k, rounds in enumerate(self.label_rounds) if rounds is not None}
        return {**({} if self.best_rounds is None else {"rounds": self.best_rounds}), **own, **self.cut}


@dataclass(frozen=True)
class Prepared:
    """Matrices to fit and judge on again and again: arrays that can lie in Ray's object store.

    The `stopping` rows say when boosting stops: the judged ones where they are the validation part, else a
    hold-out of the training folds, so that the judged fold is not looked at. `judged_rows` are the numbers of the
    judged rows in the split, by which their columns are found.
    """

    train: Matrix
    stopping: Matrix
    judged: Matrix
    transform_us_per_row: float
    judged_rows: np.ndarray | None = None


def prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    *,
    fit_folds: Iterable[int],
    judge: Judge,
    max_rows: int | None = None,
    stops_on_judged: bool = False,
) -> Prepared:
    """Make the features of the rows to fit on and to judge, fitted on the folds to fit on alone.

    Of more than `max_rows` rows to fit on, and of more to judge, a sample is taken. With `stops_on_judged`, boosting
    stops by the judged rows: all candidates are then too good by about as much, and none loses rows to fit on.

    Raises
    ------
    RecipeError
        The family is not known, or cannot do such a task.
    SealedError
        `judge` is a part that `split` does not open.
    """
    models.for_task(family, task, **training_job.demands(recipe))
    folds = sorted(set(fit_folds))
    fitted = training_job.fit_program(split.schema, statistics.only(folds), recipe, family)
    columns = training_job.columns(fitted, split.schema, task)
    drawn = columns, max_rows, recipe.seed
    table = samples.read_sample(split, "train", *drawn, folds, task.group)
    judged_part = (judge, None) if isinstance(judge, str) else ("train", [judge])
    judged_table = samples.read_sample(split, judged_part[0], *drawn, judged_part[1], task.group)
    began = time.perf_counter()
    judged = training_job.matrix(judged_table, fitted, task)
    per_row = 1e6 * (time.perf_counter() - began) / max(1, judged.num_rows)
    train, numbers = training_job.matrix(table, fitted, task), np.asarray(judged_table[ROW])
    if judge == "validation" or stops_on_judged:
        return Prepared(train, judged, judged, per_row, numbers)
    how: dict[str, Any] = {"forward": split.forward, "seed": recipe.seed, "are_ranked": task.is_ranking}
    out = samples.held_out(table, split.schema, **how)
    between = samples.embargoed(table, split, out)
    return Prepared(train.take(~out & ~between), train.take(out), judged, per_row, numbers)


def fit_prepared(
    prepared: Prepared, task: Task, family: str, params: FamilyParams, metric: str, **how: Any
) -> FoldResult:
    """Fit on prepared rows, with the target transformed, and judge the model by a metric; `how` is that of `judged`."""
    return judged(prepared, task, family, params, metric, **how)[0]


def judged(
    prepared: Prepared,
    task: Task,
    family: str,
    params: FamilyParams,
    metric: str,
    *,
    seed: int,
    threads: int,
    target: Transform | Balancing = "none",
    seconds: float | None = None,
    bins: dict[Hashable, Any] | None = None,
    measures_bytes: bool = False,
    exactly: Mapping[str, int] | None = None,
) -> tuple[FoldResult, np.ndarray]:
    """Fit on prepared rows, judge the model by a metric, and give its predictions of the judged rows, too.

    Parameters
    ----------
    seconds
        Time of the fit.
    bins
        Binned rows of earlier fits on the same rows and with the same `target`; those of this fit are added.
    measures_bytes
        Whether the bytes of the stored model are asked for, which costs writing it.
    exactly
        What a former fit `reached`, where this one ends, too; by default stopping rows and time decide.
    """
    began = time.perf_counter()
    has_rounds = models.family(family).max_rounds(params) is not None
    how: dict[str, Any] = {"seed": seed, "threads": threads, "seconds": seconds}
    if exactly is not None:
        params, rounds = _exact(params, exactly, models.learner(family, task), num_labels=len(task.labels))
        how |= rounds
    rows, scale = _rows(prepared, task, family, target, metric, seed, has_rounds=has_rounds)
    model = _fit(family, rows, task, params, {} if bins is None else bins, **how)
    model = training_job.scaled_back(family, model, scale, prepared.stopping, metric)
    fitted = time.perf_counter()
    output = prepared.judged.of_rows(models.predict(family, model, prepared.judged.X))
    predict_s = time.perf_counter() - fitted
    shape = (prepared.judged.num_rows, *([len(task.output_names)] if task.is_classification else []))
    if np.shape(output) != shape:
        got, expected = f"predictions of shape {np.shape(output)}", f"{shape}, for classes a probability each"
        raise errors.RecipeError.build(f"models: family '{family}'", got=got, expected=expected)
    of_labels = models.label_models(model)
    result = FoldResult(
        score=_score(metric, prepared.judged, output),
        fit_s=fitted - began,
        predict_us_per_row=prepared.transform_us_per_row + 1e6 * predict_s / max(1, prepared.judged.num_rows),
        best_rounds=models.rounds(family, model),
        num_rows=rows[0].num_rows,
        num_judged=prepared.judged.num_rows,
        cut=models.cut(family, model),
        num_bytes=constraints.num_bytes(family, model) if measures_bytes else None,
        label_rounds=() if of_labels is None else tuple(Relevance(models.family(family)).label_rounds(of_labels)),
    )
    return result, output


def _score(metric: str, rows: Matrix, output: np.ndarray) -> float:
    return float(metrics.measure(metric, rows.y, output, weight=rows.weight, groups=rows.groups))


PROBE_ROUNDS = 8
"""Rounds whose time is that of a round: the first one has the start of a fit beside it."""


def round_seconds(
    prepared: Prepared,
    task: Task,
    family: str,
    params: FamilyParams,
    metric: str,
    *,
    seconds: float,
    seed: int,
    threads: int,
    target: Transform | Balancing,
    bins: dict[Hashable, Any],
) -> float:
    """Measure the seconds of a round of boosting, on few rounds; the arguments are those of `judged`.

    Where one round alone takes a good part of the `seconds` of a fit, it is not repeated.
    """
    rows, _ = _rows(prepared, task, family, target, metric, seed, has_rounds=True)

    def time_of(rounds: int) -> float:
        few = params.model_copy(update={"rounds": rounds, "early_stopping": 0})
        began = time.perf_counter()
        _fit(family, rows, task, few, bins, seed=seed, threads=threads)
        return time.perf_counter() - began

    time_of(1)  # which bins the rows
    start = time_of(1)
    if start * PROBE_ROUNDS > seconds / 4:
        return start
    return max(time_of(1 + PROBE_ROUNDS) - start, 1e-6) / PROBE_ROUNDS


def _rows(
    prepared: Prepared,
    task: Task,
    family: str,
    target: Transform | Balancing,
    metric: str,
    seed: int,
    *,
    has_rounds: bool,
) -> tuple[tuple[Matrix, Matrix], training_job.Target]:
    """The rows that count, to fit on and to say when to stop, with the target on its scale, and that scale."""
    is_held_out = has_rounds or target == "log"  # which is smeared over held-out rows
    train = prepared.train if is_held_out and prepared.train.num_rows else _with_stopping(prepared)
    place = training_job.naive_place(train.names, task, family)
    scale = training_job.scale_of(target, train.y, train.weight, task, metric, seed, place)
    stopping = training_job.counted(prepared.stopping, task, scale)
    return (training_job.as_fitted(train, task, scale), stopping), scale


def _exact(
    params: FamilyParams, reached: Mapping[str, int], learner: Family[Any, Any], *, num_labels: int
) -> tuple[FamilyParams, dict[str, int]]:
    """Parameters of a fit that ends where another one did, and the rounds that boosting has to be told apart."""
    cut, rounds = {name: value for name, value in reached.items() if "rounds" not in name}, reached.get("rounds")
    if rounds is None:
        return params.model_copy(update=cut), {}
    if isinstance(learner, Relevance):
        each = [reached.get(f"{LABEL_ROUNDS}{k}") for k in range(num_labels)]
        return learner.of_label_rounds(params.model_copy(update=cut), each), {}
    if isinstance(learner, BoostingFamily):
        return params.model_copy(update=cut), {"exactly": rounds}
    return params.model_copy(update={**cut, "rounds": rounds, "early_stopping": 0}), {}


def _fit(
    family: str,
    rows: tuple[Matrix, Matrix],
    task: Task,
    params: FamilyParams,
    bins: dict[Hashable, Any],
    **how: Any,
) -> Any:
    """Fit a family on rows, the second of which say when to stop, or a boosted one on the bins of earlier fits."""
    chosen = models.learner(family, task)
    if not isinstance(chosen, BoostingFamily):
        return chosen.fit(*rows, task, params, **how)
    key = family, chosen.bins_key(params)
    if key not in bins:
        bins[key] = chosen.bin([rows[0]], rows[1], params, threads=how["threads"])
    return chosen.grow(bins[key], task, params, **how)


def _with_stopping(prepared: Prepared) -> Matrix:
    """Join the stopping rows to the others, for families that do not stop early."""
    if prepared.stopping is prepared.judged:
        return prepared.train
    return joined([prepared.train, prepared.stopping])

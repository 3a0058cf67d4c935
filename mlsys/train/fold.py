"""One fit on some folds, judged on another: what selection and tuning are made of."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlsys import models
from mlsys.dataset import Split
from mlsys.evaluate import metrics
from mlsys.features.training import TrainingProgram
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics import TrainStatistics
from mlsys.train import rows

__all__ = ["FoldResult", "Prepared", "fit_fold", "fit_prepared", "prepare"]

Judge = int | Literal["validation"]


@dataclass(frozen=True)
class FoldResult:
    """How one fit did.

    Attributes
    ----------
    score
        The metric on the judged rows; NaN where it is not defined on them.
    predict_us_per_row
        Microseconds a row for features and prediction, of all judged rows together.
    best_rounds
        Boosting rounds kept; None for families without rounds.
    num_rows, num_judged
        Rows fitted on, and rows judged.
    """

    score: float
    fit_s: float
    predict_us_per_row: float
    best_rounds: int | None
    num_rows: int
    num_judged: int


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be fitted on again and again: arrays that can lie in Ray's object store.

    Attributes
    ----------
    stopping
        Rows that say when boosting stops: the judged ones where they are the validation
        part, else a hold-out of the training folds, so that the judged fold is not looked at.
    transform_us_per_row
        Microseconds a judged row to make its features.
    """

    train: Matrix
    stopping: Matrix
    judged: Matrix
    transform_us_per_row: float


def prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    *,
    fit_folds: Iterable[int],
    judge: Judge,
    seed: int,
    max_rows: int | None = None,
) -> Prepared:
    """Features of the folds to fit on and of the rows to judge, fitted on those folds alone.

    Raises
    ------
    SealedError
        `judge` is a part that `split` does not open.
    """
    folds = sorted(set(fit_folds))
    fitted = rows.fit_program(split.schema, statistics.only(folds), recipe, family)
    wanted = rows.columns(fitted, split.schema, task)
    table = rows.sampled(split.table("train", wanted, folds), max_rows, seed)
    judged_table = split.table(judge, wanted) if isinstance(judge, str) else split.table("train", wanted, [judge])
    judged, transform_s = _timed_matrix(judged_table, fitted, task)
    train = rows.matrix(table, fitted, task)
    per_row = 1e6 * transform_s / max(1, judged.num_rows)
    if judge == "validation":
        return Prepared(train, judged, judged, per_row)
    out = rows.held_out(table, split.schema, forward=split.forward, seed=seed)
    return Prepared(train.take(~out), train.take(out), judged, per_row)


def fit_prepared(
    prepared: Prepared,
    task: Task,
    family: str,
    params: models.Params,
    metric: str,
    *,
    seed: int,
    threads: int,
    progress: models.Progress | None = None,
) -> FoldResult:
    """Fit on prepared rows and judge."""
    module = models.family(family)
    began = time.perf_counter()
    train = prepared.train if _has_rounds(params) else _with_stopping(prepared)
    model = module.fit(train, prepared.stopping, task, params, seed=seed, threads=threads, progress=progress)
    fitted = time.perf_counter()
    output = module.predict(model, prepared.judged.X)
    predict_s = time.perf_counter() - fitted
    return FoldResult(
        score=float(metrics.measure(metric, prepared.judged.y, output)),
        fit_s=fitted - began,
        predict_us_per_row=prepared.transform_us_per_row + 1e6 * predict_s / max(1, prepared.judged.num_rows),
        best_rounds=getattr(model, "rounds", None),
        num_rows=train.num_rows,
        num_judged=prepared.judged.num_rows,
    )


def fit_fold(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    params: models.Params,
    *,
    fit_folds: Iterable[int],
    judge: Judge,
    seed: int,
    threads: int,
    max_rows: int | None = None,
) -> FoldResult:
    """Fit a family on some folds and judge it on another one, or on the validation part."""
    prepared = prepare(
        split, statistics, recipe, task, family, fit_folds=fit_folds, judge=judge, seed=seed, max_rows=max_rows
    )
    metric = metrics.find(recipe.selection.metric, task.kind).name
    return fit_prepared(prepared, task, family, params, metric, seed=seed, threads=threads)


def _timed_matrix(table: Any, fitted: TrainingProgram, task: Task) -> tuple[Matrix, float]:
    began = time.perf_counter()
    made = rows.matrix(table, fitted, task)
    return made, time.perf_counter() - began


def _has_rounds(params: models.Params) -> bool:
    return "early_stopping" in type(params).model_fields


def _with_stopping(prepared: Prepared) -> Matrix:
    """All rows to fit on, for families that need none to know when to stop."""
    if prepared.stopping is prepared.judged:
        return prepared.train
    first, second = prepared.train, prepared.stopping
    return Matrix(np.concatenate([first.X, second.X]), np.concatenate([first.y, second.y]), first.names, first.types)

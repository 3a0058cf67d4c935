"""A candidate fitted on a round of folds and judged on another, as a task of the cluster; and the record of that fit.

The record says how far a fit came in its time, so that it can be made again without a clock: `FoldJob.former`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlsys import cluster, errors, models, train
from mlsys.dataset import Split
from mlsys.models.boosting import BoostingFamily, BoostingParams
from mlsys.models.interface import FamilyParams
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.selection import leaderboard as boards
from mlsys.statistics import TrainStatistics
from mlsys.train import FoldResult, training_job

MEASURED = ("fit_s", "predict_us_per_row")
"""Fields of a result that a clock has measured: another fit of the same rows takes other times."""


@dataclass(frozen=True)
class FoldJob:
    """A candidate to fit on a round of folds: what a task is sent; the recipe is that of its form.

    With the record of a `former` fit, the same fit is made again: of its parameters, as far as it came.
    """

    rows: cluster.Shared[train.Prepared]
    recipe: Recipe
    task: Task
    name: str
    judge: int
    seconds: float | None = None
    until: float = math.inf
    former: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Late:
    """A fit that was not begun, for its time was over."""

    name: str
    judge: int


@dataclass(frozen=True)
class FoldScore:
    """A judged fit as its task sends it back, with the parameters that were used."""

    name: str
    judge: int
    result: FoldResult
    params: FamilyParams

    def to_json(self) -> dict[str, Any]:
        """The fit as a line of the record: what it was of, how far it came, and what it gave."""
        result = self.result
        return {
            "name": self.name,
            "judge": self.judge,
            "params": self.params.model_dump(mode="json"),
            "num_rows": result.num_rows,
            "reached": result.reached,
            "cut": dict(result.cut),
            "score": result.score if math.isfinite(result.score) else None,
            **{name: getattr(result, name) for name in MEASURED},
        }


@dataclass(frozen=True)
class Unfit:
    """A form that could not be fitted, and why."""

    name: str
    judge: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The attempt as a line of the record."""
        return dataclasses.asdict(self)


def prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    fit_folds: tuple[int, ...],
    judge: int,
) -> train.Prepared:
    """Make the rows of a round of folds, which all candidates with the same features share."""
    how: dict[str, Any] = {"fit_folds": fit_folds, "judge": judge, "max_rows": recipe.selection.max_rows}
    return train.prepare(split, statistics, recipe, task, family, **how)


def fit(job: FoldJob) -> FoldScore | Unfit | Late:
    """Fit and judge a candidate; a form that nobody asked for may fail, and is then left out."""
    if time.time() > job.until:
        return Late(job.name, job.judge)
    try:
        return _fold_score(job)
    except errors.MlsysError as error:
        if boards.FORM not in job.name:
            raise
        return Unfit(job.name, job.judge, " ".join(str(error).split()))


def _fold_score(job: FoldJob) -> FoldScore:
    recipe, task, family = job.recipe, job.task, boards.family_of(job.name)
    prepared, target = job.rows.get(), training_job.target_kind(job.recipe, job.task)
    how: dict[str, Any] = {"seed": recipe.seed, "threads": 1, "target": target}
    how["measures_bytes"] = recipe.selection.max_bytes is not None
    metric, former = recipe.selection.metric, job.former
    if former is None or "params" not in former:
        params = _params(job, prepared)
        result = train.fit_prepared(prepared, task, family, params, metric, seconds=job.seconds, **how)
    else:
        params = models.params_of(family, former["params"])
        result = train.fit_prepared(prepared, task, family, params, metric, exactly=former["reached"], **how)
        measured = {name: former[name] for name in MEASURED}
        result = dataclasses.replace(result, cut=former["cut"], **measured)
    return FoldScore(job.name, job.judge, result, params)


def _params(job: FoldJob, prepared: train.Prepared) -> FamilyParams:
    """The parameters of a comparison, and of boosting those that come to their end in the time of the fit."""
    family = models.family(boards.family_of(job.name))
    params: FamilyParams = family.params_for_comparison(
        training_job.params_of(job.recipe, family.name), job.task, prepared.train
    )
    if job.seconds is not None and isinstance(family, BoostingFamily) and isinstance(params, BoostingParams):
        params = family.params_in_time(params, job.task, prepared.train, job.seconds)
    return params

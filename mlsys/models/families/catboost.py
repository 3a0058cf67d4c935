"""Gradient-boosted trees whose levels share a split: CatBoost, with target statistics of categories and their pairs.

Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features", NeurIPS 2018. Categories become means of
the target over the rows before a row in a random order, and so do combinations of categories that a tree splits by.
That is what it has over the other boosters, where categories carry much of the signal; a fit takes several times their
seconds. Boosting stops when the loss on the validation rows has not fallen for some rounds, and the booster is cut to
its best round.

One task fits it, whatever the number of rows. The same seed and rows give the same booster: its file has neither the
time nor the random name that CatBoost writes into it.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import catboost
import numpy as np
from pydantic import Field

from mlsys.limits import MAX_CODES, MAX_KEYS
from mlsys.models.boosting import (
    PROGRESS_ROUNDS,
    STOPPING_RANKS,
    Bins,
    Boosted,
    BoostingFamily,
    BoostingParams,
    Stopping,
    has_log_margins,
    of_groups,
)
from mlsys.models.contributions import Contributions, constant, picked
from mlsys.models.interface import Device, Domain, Integer, Progress, Uniform, loss_named
from mlsys.models.matrix import Matrix, bounded, check_width, joined, outputs
from mlsys.schema import Task, TaskKind

_LOSSES = {
    "binary": "Logloss",
    "multiclass": "MultiClass",
    "squared": "RMSE",
    "absolute": "MAE",
    "quantile": "Quantile:alpha={}",
    "poisson": "Poisson",
    "tweedie": "Tweedie:variance_power={}",
    "ranking": "YetiRank",
}
"""What is made small → CatBoost's name of it; it has no gamma deviance."""
_MOST = max(MAX_CODES, MAX_KEYS)
_CATEGORIES = np.array([b"missing", *(str(code).encode() for code in range(_MOST + 1)), b"unknown"], dtype=object)
"""What CatBoost is told of a category: it takes texts, and whole numbers as texts."""

LEAST_CLASSES = 2
"""Classes in training from which on there are margins."""

_HEAD = b"CBM1"
"""First bytes of CatBoost's binary format."""


class CatBoostParams(BoostingParams):
    """Parameters of CatBoost, under its own names where it has one."""

    learning_rate: float = Field(0.08, gt=0, le=1)
    depth: int = Field(6, ge=1, le=12)
    l2_leaf_reg: float = Field(3.0, ge=0)
    subsample: float = Field(0.9, gt=0, le=1, description="rows drawn for each tree")
    random_strength: float = Field(1.0, ge=0, description="noise on the scores of splits, less in later trees")
    one_hot_max_size: int = Field(15, ge=2, le=255, description="categories up to which a column is split one by one")
    max_ctr_complexity: int = Field(2, ge=1, le=8, description="categories at most whose combinations are tried")
    border_count: int = Field(254, ge=1, le=65_535)


@dataclass(frozen=True)
class Trees:
    """A model of CatBoost; positions of its quantities and of its categories, and the classes that training had.

    `width` is the number of features of the rows, of which it may take some only.
    """

    model: catboost.CatBoost
    quantities: np.ndarray
    categories: np.ndarray
    present: tuple[int, ...]
    width: int


@dataclass(frozen=True)
class PooledRows:
    """Rows as CatBoost holds them, and the number of features that they had, of which it may take some only."""

    pool: catboost.Pool
    width: int


class CatBoostFamily(BoostingFamily[CatBoostParams, Trees, PooledRows]):
    """CatBoost on one machine."""

    name = "catboost"
    complexity = 8
    """After the others: statistics of combined categories are the hardest to give reasons for."""
    params = CatBoostParams
    min_coordinates = None
    speed = 9e6
    losses = frozenset({"quantile", "poisson", "tweedie"})
    monotone = frozenset({"binary", "squared", "quantile", "poisson", "tweedie"})
    """Not rankings: leaves by YetiRank cross the bounds that its splits keep."""
    libraries = ("catboost",)
    sizes = ("depth", "border_count")
    explains = True
    file = "booster.cbm"
    format = "a CatBoost model of mlsys in its binary format"

    def __init__(self, device: Device = "cpu") -> None:
        self.device = device

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        return "CatBoost keeps directions (train.monotone) on the CPU alone" if is_monotone else None

    def on(self, device: Device) -> CatBoostFamily:
        return CatBoostFamily(device)

    def space(self, task: Task) -> dict[str, Domain]:
        """Parameters that move accuracy most; the number of rounds is left to early stopping."""
        return {
            "learning_rate": Uniform(0.02, 0.3, log=True),
            "depth": Integer(4, 8),
            "l2_leaf_reg": Uniform(0.1, 30.0, log=True),
            "subsample": Uniform(0.5, 1.0),
            "random_strength": Uniform(0.1, 10.0, log=True),
        }

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """The defaults: of many tables the best single ones (arXiv:2407.04491)."""
        return [{}]

    def bins_key(self, params: CatBoostParams) -> None:
        """CatBoost bins the rows itself, in each fit: any fit can take them."""

    def bin(
        self, blocks: Sequence[Matrix], validation: Matrix | None, params: CatBoostParams, *, threads: int
    ) -> Bins[PooledRows]:
        """Hand the rows to CatBoost, joined."""
        blocks, validation = of_groups(blocks, validation)
        train = _varied(joined(blocks))
        if validation is None or not validation.num_rows:
            return Bins(_pool(train, threads), None, train.signs)
        return Bins(_pool(train, threads), _pool(validation, threads), train.signs)

    def grow(
        self,
        bins: Bins[PooledRows],
        task: Task,
        params: CatBoostParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        exactly: int | None = None,
    ) -> Boosted[Trees]:
        """Grow a booster, of all `params.rounds` without rows that say when to stop."""
        stopping = Stopping(params.early_stopping, seconds, exactly)
        present = np.unique(bins.train.pool.get_label()).astype(int).tolist() if task.is_classification else []
        settings = _settings(task, params, seed, threads, len(present))
        if any(bins.signs):  # by the names of features, which are positions
            settings["monotone_constraints"] = {str(j): sign for j, sign in enumerate(bins.signs) if sign}
            if task.loss is not None and task.loss.name == "quantile":  # whose leaves would be exact quantiles
                settings["leaf_estimation_method"] = "Gradient"
        if self.device != "cpu":
            settings |= _on_gpu(params, exactly, has_judge=bins.stopping is not None)
        model = catboost.CatBoost(settings)
        sign = -1 if task.is_ranking else 1  # of NDCG more is better
        judged, start = _with_classes(bins.stopping and bins.stopping.pool, present), 0.0
        if has_log_margins(task, params):  # of these losses CatBoost begins at 1, however large the mean is
            start = _start_at_mean(bins.train.pool, judged)
        if self.device == "cpu":
            model.fit(bins.train.pool, eval_set=judged, callbacks=[_Callback(stopping, progress, sign)])
            rounds = stopping.rounds
        else:
            model.fit(bins.train.pool, eval_set=judged)
            rounds = _rounds_on_gpu(model, params, exactly, judged)
        model.shrink(rounds)
        facts = {"task": task.kind, "classes": len(task.classes), "rounds": rounds, "present": present}
        facts["width"] = bins.train.width
        if has_log_margins(task, params):
            model.set_scale_and_bias(1.0, start)
            facts["link"] = "log"
        metadata = model.get_metadata()
        for key in list(metadata.keys()):  # CatBoost's own: the time, a random name, losses, settings
            del metadata[key]
        metadata["mlsys"] = json.dumps(facts)
        return _boosted(model)

    def predict(self, model: Boosted[Trees], X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities from the margins, which CatBoost sums tree by tree in double precision."""
        trees = model.booster
        check_width(X, trees.width, self.name)
        margins = len(trees.present) if model.task is TaskKind.MULTICLASS and len(trees.present) > 1 else 1
        if X.shape[0] == 0:  # CatBoost would print a warning
            return outputs(np.zeros((0, margins)), trees.present, model.classes)
        rows = _features(bounded(X), trees.quantities, trees.categories)
        margin = trees.model.predict(rows, prediction_type="RawFormulaVal", thread_count=1)
        if model.task in (TaskKind.REGRESSION, TaskKind.RANKING):
            return model.outputs(margin)
        return outputs(margin.reshape(-1, margins), trees.present, model.classes)

    def contributions(self, model: Boosted[Trees], X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """CatBoost's ShapValues of its margins."""
        trees, is_class = model.booster, model.task in (TaskKind.BINARY, TaskKind.MULTICLASS)
        check_width(X, trees.width, self.name)
        if is_class and len(trees.present) < LEAST_CLASSES:  # a class that is always the answer
            return constant(np.isin(outputs, trees.present).astype(float), trees.width, "probability")
        pool = catboost.Pool(_features(bounded(X), trees.quantities, trees.categories), thread_count=1)
        raw = np.asarray(trees.model.get_feature_importance(pool, type="ShapValues", thread_count=1))
        places = np.searchsorted(trees.present, outputs) if is_class else outputs
        own = picked(raw, places, model.scale)
        values = np.zeros((len(X), trees.width))
        values[:, np.concatenate([trees.quantities, trees.categories])] = own.values
        return replace(own, values=values)

    def to_bytes(self, model: Boosted[Trees]) -> bytes:
        """Give the model in CatBoost's binary format, which it writes to a file only."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.file
            model.booster.model.save_model(str(file), format="cbm")
            return file.read_bytes()

    def from_bytes(self, data: bytes) -> Boosted[Trees]:
        """Read a model from CatBoost's binary format.

        Raises
        ------
        ValueError
            The bytes are no model, or one that mlsys did not write.
        """
        if not data.startswith(_HEAD):
            raise ValueError("no model of CatBoost")
        try:
            model = catboost.CatBoost().load_model(blob=data)
        except catboost.CatBoostError as error:
            raise ValueError(str(error)) from None
        if "mlsys" not in list(model.get_metadata().keys()):
            raise ValueError("a CatBoost model without the facts of mlsys")
        return _boosted(model)


FAMILY = CatBoostFamily()


def _on_gpu(params: CatBoostParams, exactly: int | None, *, has_judge: bool) -> dict[str, Any]:
    """Settings of a GPU, where CatBoost calls nobody back after a round: its own detector ends the fit."""
    settings: dict[str, Any] = {"task_type": "GPU", "devices": "0", "border_count": min(params.border_count, 255)}
    if exactly is not None:
        return settings | {"iterations": exactly}
    patience = {"od_type": "Iter", "od_wait": params.early_stopping}
    return settings | (patience if has_judge and params.early_stopping else {})


def _rounds_on_gpu(model: catboost.CatBoost, params: CatBoostParams, exactly: int | None, judged: Any) -> int:
    """Rounds to keep of a fit on a GPU: up to the best one, or all where nothing may stop it."""
    best = model.get_best_iteration()
    if exactly is None and judged is not None and params.early_stopping and best is not None:
        return int(best) + 1
    return int(model.tree_count_)


class _Callback:
    """Report some of the rounds, and ask after each whether it is the last."""

    def __init__(self, stopping: Stopping, progress: Progress | None, sign: int) -> None:
        self.stopping = stopping
        self.progress = progress
        self.sign = sign

    def after_iteration(self, info: Any) -> bool:
        """Answer CatBoost whether to go on."""
        losses = next(iter(info.metrics.get("validation", {}).values()), [None])
        ends = self.stopping.ends(None if losses[-1] is None else self.sign * losses[-1])
        if self.progress and self.stopping.round % PROGRESS_ROUNDS == 0:
            self.progress(self.stopping.round)
        return not ends


def _settings(task: Task, params: CatBoostParams, seed: int, threads: int, classes: int) -> dict[str, Any]:
    loss = _LOSSES[loss_named(task, params.loss)].format(task.loss.parameter if task.loss else "")
    if classes == 1:  # CatBoost has no logistic loss of one class; what it learns of it is not asked
        loss = "RMSE"
    judged = f"NDCG:top={STOPPING_RANKS};type=Exp" if task.is_ranking else loss
    return {
        **params.model_dump(exclude={"rounds", "early_stopping", "loss"}),
        "iterations": params.rounds,
        "loss_function": loss,
        "eval_metric": f"{judged}{';' if ':' in judged else ':'}hints=skip_train~true",
        "boosting_type": "Plain",
        "bootstrap_type": "Bernoulli",
        "allow_const_label": True,
        "use_best_model": False,
        "allow_writing_files": False,
        "logging_level": "Silent",
        "random_seed": seed,
        "thread_count": threads,
    }


def _boosted(model: catboost.CatBoost) -> Boosted[Trees]:
    """A model of CatBoost with what `grow` stored in it."""
    facts = json.loads(model.get_metadata()["mlsys"])
    positions = np.array(model.feature_names_, dtype=np.intp)
    quantities, categories = np.split(positions, [positions.size - len(model.get_cat_feature_indices())])
    trees = Trees(model, quantities, categories, tuple(facts["present"]), facts.get("width", positions.size))
    return Boosted(trees, TaskKind(facts["task"]), facts["classes"], facts["rounds"], facts.get("link") == "log")


def _start_at_mean(*pools: catboost.Pool | None) -> float:
    """Have boosting begin at the logarithm of the mean of the first pool's labels, and return it."""
    known = [pool for pool in pools if pool is not None]
    mean = float(np.average(known[0].get_label(), weights=known[0].get_weight()))
    start = math.log(max(mean, float(np.finfo(np.float32).tiny)))
    for pool in known:
        pool.set_baseline(np.full(pool.num_row(), start))
    return start


def _pool(rows: Matrix, threads: int) -> PooledRows:
    """The rows for CatBoost, without target means where there are numbered categories: it makes its own of those.

    Means over the other folds lead it astray: beside them it ends in a fifth of the rounds, with a larger loss.
    """
    types = np.array(rows.types)
    is_category = np.isin(types, ["c", "k"])
    is_quantity = ~is_category & ((types != "m") | ~np.isin("k", types))
    data = _features(bounded(rows.X), np.flatnonzero(is_quantity), np.flatnonzero(is_category), is_named=True)
    how: dict[str, Any] = {"weight": rows.weight}
    if rows.groups is not None:
        how = {"group_id": np.repeat(np.arange(len(rows.group_sizes)), rows.group_sizes), "group_weight": rows.weight}
    return PooledRows(catboost.Pool(data, rows.y, thread_count=threads, **how), rows.num_features)


def _features(
    X: np.ndarray, quantities: np.ndarray, categories: np.ndarray, *, is_named: bool = False
) -> catboost.FeaturesData:
    """Give rows as CatBoost takes them fastest: quantities first, then categories; names are positions in `X`."""
    parts: dict[str, Any] = {}
    if quantities.size:
        parts["num_feature_data"] = np.ascontiguousarray(X[:, quantities], np.float32)
        parts["num_feature_names"] = list(map(str, quantities)) if is_named else None
    if categories.size:
        codes = X[:, categories]
        places = np.where(np.isnan(codes), 0, np.clip(codes, 0, _MOST + 1) + 1)
        parts["cat_feature_data"] = _CATEGORIES[places.astype(np.intp)]
        parts["cat_feature_names"] = list(map(str, categories)) if is_named else None
    return catboost.FeaturesData(**parts)


def _varied(rows: Matrix) -> Matrix:
    """The rows; where they are all alike, which CatBoost refuses, another value in one place."""
    first = rows.X[0]
    if not ((first == rows.X) | (np.isnan(rows.X) & np.isnan(first))).all():
        return rows
    X = rows.X.copy()
    X[0, 0] = first[0] != 1
    return replace(rows, X=X)


def _with_classes(pool: catboost.Pool | None, present: list[int]) -> catboost.Pool | None:
    """The rows that say when to stop, without classes that training lacks; None where no row is left."""
    if pool is None or not present:
        return pool
    is_known = np.isin(pool.get_label(), present)
    if is_known.all():
        return pool
    return pool.slice(np.flatnonzero(is_known)) if is_known.any() else None

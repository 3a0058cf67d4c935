"""Gradient-boosted trees grown leaf by leaf: LightGBM, with categories as they are.

Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017. Boosting stops when the loss
on the validation rows has not fallen for some rounds, and the booster is cut to its best round.

Leaves are split where that helps most, so that a tree of as many leaves as another is deeper in places; the number of
leaves, and not the depth, says how much a tree can hold. The same seed, rows, threads and workers give the same booster
(``deterministic``, histograms by column), and so does a fit that goes on from a checkpoint.

Workers of a cluster grow trees in step (``tree_learner: data``). They have to be connected before rows are binned, or
each has bins of its own and the first sum of histograms of different lengths ends with "connection reset by peer"; and
they have to stop at the same round, for which each judges all the validation rows, as LightGBM sums no loss.
"""

from __future__ import annotations

import ctypes
import functools
import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, cast

import lightgbm
import numpy as np
from lightgbm import libpath
from pydantic import Field

from mlsys.models.boosting import (
    STOPPING_RANKS,
    Bins,
    Boosted,
    BoostingFamily,
    BoostingParams,
    GrowingBooster,
    Stopping,
    grow_rounds,
    has_log_margins,
    judged_by_squares,
    of_groups,
)
from mlsys.models.contributions import Contributions, picked
from mlsys.models.interface import (
    Checkpoints,
    Device,
    DistributedFamily,
    Domain,
    Integer,
    Progress,
    RowFunction,
    Uniform,
    loss_named,
)
from mlsys.models.matrix import Matrix, bounded, check_width, joined, joined_values
from mlsys.schema import Task, TaskKind

_OBJECTIVES = {
    "binary": ("binary", "binary_logloss"),
    "multiclass": ("multiclass", "multi_logloss"),
    "squared": ("regression", "l2"),
    "absolute": ("regression_l1", "l1"),
    "quantile": ("quantile", "quantile"),
    "poisson": ("poisson", "poisson"),
    "tweedie": ("tweedie", "tweedie"),
    "gamma": ("gamma", "gamma_deviance"),
    "ranking": ("lambdarank", "ndcg"),
}
"""What is made small → objective and loss on the rows that say when to stop."""
NOT_BUILT = "was not enabled in this build"
"""What LightGBM says of a device for which it was not built."""
_PARAMETERS = {"quantile": "alpha", "tweedie": "tweedie_variance_power"}
SMALL = 20_000
"""Training rows below which a search begins with small trees, too, and above which with large ones."""

_HEAD = b"mlsys "
"""First bytes of a stored model; facts as JSON follow on the line, then LightGBM's own text."""


class LightGBMParams(BoostingParams):
    """Parameters of LightGBM, under its own names where it has one."""

    num_leaves: int = Field(50, ge=2, le=4096)
    min_data_in_leaf: int = Field(20, ge=0, description="training rows a leaf at least")
    bagging_fraction: float = Field(0.75, gt=0, le=1, description="rows drawn for each tree")
    feature_fraction: float = Field(0.8, gt=0, le=1, description="features drawn for each tree")
    lambda_l1: float = Field(0.0, ge=0)
    lambda_l2: float = Field(1.0, ge=0)
    extra_trees: bool = Field(default=False, description="split at random limits: rougher trees that differ more")
    cat_smooth: float = Field(10.0, ge=0)
    cat_l2: float = Field(10.0, ge=0)
    min_data_per_group: int = Field(20, ge=1, description="training rows a category at least to be split by")
    max_bin: int = Field(255, ge=2, le=4096)


class LightGBMFamily(
    BoostingFamily[LightGBMParams, lightgbm.Booster, lightgbm.Dataset],
    DistributedFamily[LightGBMParams, Boosted[lightgbm.Booster]],
):
    """LightGBM on one machine, or in a worker of Ray Train that knows the machines of the others."""

    name = "lightgbm"
    complexity = 7
    """After the others: leaf-wise trees are deep, so their reasons are longer than those of XGBoost's."""
    params = LightGBMParams
    libraries = ("lightgbm",)
    sizes = ("num_leaves", "max_bin")
    explains = True
    trainer = "ray.train.lightgbm:LightGBMTrainer"
    network = "ray.train.lightgbm:get_network_params"
    shares_validation = False
    file = "booster.txt"
    format = "a LightGBM model of mlsys as text"

    def __init__(self, machines: Mapping[str, Any] | None = None, device: Device = "cpu") -> None:
        self.machines = machines
        self.device = device

    def connected(self, network: Mapping[str, Any]) -> LightGBMFamily:
        """The family in a worker, of LightGBM's own parameters of a network."""
        return LightGBMFamily(network, self.device)

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        return None if _is_built_with_cuda() else "this build of LightGBM has no CUDA (packages of PyPI have none)"

    def on(self, device: Device) -> LightGBMFamily:
        return LightGBMFamily(self.machines, device)

    def space(self, task: Task) -> dict[str, Domain]:
        """Parameters that move accuracy most; the number of rounds is left to early stopping."""
        return {
            "learning_rate": Uniform(0.02, 0.3, log=True),
            "num_leaves": Integer(4, 255, log=True),
            "min_data_in_leaf": Integer(1, 100, log=True),
            "bagging_fraction": Uniform(0.5, 1.0),
            "feature_fraction": Uniform(0.4, 1.0),
            "lambda_l2": Uniform(0.01, 100.0, log=True),
        }

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """Tuned defaults (Holzmüller et al. 2024, arXiv:2407.04491), then points of AutoGluon's portfolio of 2025.

        Where those were meant for long training, the learning rate is larger here. Of many rows, the large trees come
        first: where there is time for two trials alone, they differ most from the defaults.
        """
        is_class = task.is_classification
        tuned: dict[str, Any] = (
            {"num_leaves": 50, "min_data_in_leaf": 40} if is_class else {"num_leaves": 100, "min_data_in_leaf": 3}
        )
        tuned |= {"bagging_fraction": 0.75 if is_class else 0.7, "feature_fraction": 1.0, "lambda_l2": 0.0}
        rough: dict[str, Any] = {"extra_trees": True, "num_leaves": 39, "min_data_in_leaf": 3, "feature_fraction": 0.46}
        rough |= {"bagging_fraction": 0.88, "lambda_l1": 0.24, "lambda_l2": 0.36, "min_data_per_group": 9}
        middle = {"num_leaves": 84, "min_data_in_leaf": 3, "feature_fraction": 0.53, "bagging_fraction": 0.98}
        middle |= {"lambda_l2": 0.84}
        small = {"num_leaves": 8, "min_data_in_leaf": 24, "feature_fraction": 0.94, "bagging_fraction": 0.81}
        large = {"num_leaves": 128, "min_data_in_leaf": 3, "feature_fraction": 0.9}
        return [tuned, rough, middle, small] if num_rows < SMALL else [large, tuned, middle, rough]

    def bins_key(self, params: LightGBMParams) -> int:
        return params.max_bin

    def bin(
        self, blocks: Sequence[Matrix], validation: Matrix | None, params: LightGBMParams, *, threads: int
    ) -> Bins[lightgbm.Dataset]:
        """Bin the blocks without joining them; the rows that say when to stop are cut where the others are.

        In a worker that is done later, once `grow` has connected it with the others; they are joined there, for
        LightGBM goes on from a checkpoint on one matrix alone.
        """
        blocks, validation = of_groups(blocks if self.machines is None else [joined(blocks)], validation)
        X: Any = bounded(blocks[0].X) if len(blocks) == 1 else [bounded(block.X) for block in blocks]
        y, weight = np.concatenate([b.y for b in blocks]), joined_values([b.weight for b in blocks])
        categories = [j for j, kind in enumerate(blocks[0].types) if kind == "c"]
        settings = {
            "max_bin": params.max_bin,
            "num_threads": threads,
            "feature_pre_filter": False,
            "verbosity": -1,
            **_placed(self.device),
        }
        how: dict[str, Any] = {"weight": weight, "group": _groups(blocks[0]), "params": settings}
        data, held_out = lightgbm.Dataset(X, y, categorical_feature=categories, **how), None
        if validation is not None and validation.num_rows:
            how |= {"weight": validation.weight, "group": _groups(validation)}
            held_out = data.create_valid(bounded(validation.X), validation.y, **how)
        if self.machines is None:
            (held_out or data).construct()  # and what it refers to
        return Bins(data, held_out, blocks[0].signs)

    def grow(
        self,
        bins: Bins[lightgbm.Dataset],
        task: Task,
        params: LightGBMParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        checkpoints: Checkpoints | None = None,
        exactly: int | None = None,
    ) -> Boosted[lightgbm.Booster]:
        """Grow a booster, of all `params.rounds` without rows that say when to stop."""
        stopping = Stopping(params.early_stopping, seconds, exactly)
        settings = library_params(task, params, seed, threads) | _placed(self.device) | self._parallel()
        if any(bins.signs):
            settings["monotone_constraints"] = list(bins.signs)
        latest = checkpoints.latest if checkpoints else None
        growth = _LightGBMGrowth(settings, bins, None if latest is None else latest.model)
        if latest is not None:
            stopping.resume(latest.stopping)
        grow_rounds(growth, params.rounds, stopping, progress, checkpoints)
        made = _alone(growth.booster, task, params, max(1, stopping.rounds))
        if self.machines is not None:
            growth.booster.free_network()
        return made

    def _parallel(self) -> dict[str, Any]:
        """Settings of a worker among others."""
        if self.machines is None or self.machines.get("num_machines", 1) == 1:
            return {}
        return {"tree_learner": "data", "pre_partition": True, **self.machines}

    def predict(self, model: Boosted[lightgbm.Booster], X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities from the margins, which LightGBM sums tree by tree in double precision."""
        check_width(X, model.booster.num_feature(), self.name)
        outputs = model.classes if model.task is TaskKind.MULTICLASS else 1
        if X.shape[0] == 0:
            return model.outputs(np.zeros((0, outputs)))
        rows = np.ascontiguousarray(bounded(X))
        margin = np.asarray(model.booster.predict(rows, raw_score=True, num_threads=1), np.float64)
        return model.outputs(margin.reshape(-1, outputs))

    def row_function(self, model: Boosted[lightgbm.Booster]) -> RowFunction:
        """Call LightGBM's own function of single rows, with its predictor made once."""
        margins = _SingleRowCall(model.booster, model.classes if model.task is TaskKind.MULTICLASS else 1)
        return lambda X: model.outputs(margins(X))

    def contributions(self, model: Boosted[lightgbm.Booster], X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """Contributions by TreeSHAP, which LightGBM computes."""
        check_width(X, model.booster.num_feature(), self.name)
        classes = model.classes if model.task is TaskKind.MULTICLASS else 1
        rows = np.ascontiguousarray(bounded(X))
        raw = np.asarray(model.booster.predict(rows, pred_contrib=True, num_threads=1), np.float64)
        table = raw.reshape(len(rows), classes, X.shape[1] + 1)
        return picked(table, outputs if classes > 1 else np.zeros_like(outputs), model.scale)

    def to_bytes(self, model: Boosted[lightgbm.Booster]) -> bytes:
        """Give the model as LightGBM's text, after a line of facts."""
        link = {"link": "log"} if model.is_log else {}
        facts = json.dumps({"task": str(model.task), "classes": model.classes, "rounds": model.rounds, **link})
        return _HEAD + facts.encode() + b"\n" + model.booster.model_to_string(importance_type="split").encode()

    def from_bytes(self, data: bytes) -> Boosted[lightgbm.Booster]:
        """Read a model from its text.

        Raises
        ------
        ValueError
            The bytes are no model, or one that mlsys did not write.
        """
        first, _, text = data.partition(b"\n")
        if not first.startswith(_HEAD):
            raise ValueError("no model of mlsys")
        facts = json.loads(first.removeprefix(_HEAD))
        try:
            booster = lightgbm.Booster(model_str=text.decode())
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from None
        is_log = facts.get("link") == "log"
        return Boosted(booster, TaskKind(facts["task"]), int(facts["classes"]), int(facts["rounds"]), is_log)


FAMILY = LightGBMFamily()


@functools.cache
def _library() -> ctypes.PyDLL:
    """LightGBM's library, whose functions keep Python's lock: to wait for it after each row takes longer than a row."""
    library = ctypes.PyDLL(libpath._LIB._name)  # noqa: SLF001 - of which there is one, wherever it was found
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


class _SingleRowCall:
    """The margins of one row, by LightGBM's function of single rows and the arguments of `predict`."""

    RAW_SCORE, FLOAT32 = 1, 0
    """Numbers of LightGBM's C interface."""

    def __init__(self, booster: lightgbm.Booster, outputs: int) -> None:
        self.booster = booster  # whose memory the predictor reads
        self.kind = ctypes.c_double * outputs
        self.predictor, handle = ctypes.c_void_p(), booster._handle  # noqa: SLF001 - the C interface knows it by this
        self.width, rounds = booster.num_feature(), (0, -1)
        facts = (self.RAW_SCORE, *rounds, self.FLOAT32, ctypes.c_int32(self.width), b"num_threads=1")
        _check(_library().LGBM_BoosterPredictForMatSingleRowFastInit(handle, *facts, ctypes.byref(self.predictor)))
        weakref.finalize(self, _library().LGBM_FastConfigFree, self.predictor)
        self.function = _library().LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, X: np.ndarray) -> np.ndarray:
        check_width(X, self.width, LightGBMFamily.name)
        row, margins = bounded(X), self.kind()
        _check(self.function(self.predictor, ctypes.c_void_p(row.ctypes.data), ctypes.byref(ctypes.c_int64()), margins))
        return np.array([margins[:]])


def _check(code: int) -> None:
    if code:
        raise lightgbm.basic.LightGBMError(_library().LGBM_GetLastError().decode())


def _placed(device: Device) -> dict[str, Any]:
    """The parameter that names the device; none for the CPU."""
    return {} if device == "cpu" else {"device_type": device}


@functools.cache
def _is_built_with_cuda() -> bool:
    """Ask LightGBM for a tree on a GPU, of four rows: a build without CUDA says that it is one, and nothing else."""
    rows = lightgbm.Dataset(np.arange(4.0)[:, None], np.arange(4.0), params={"verbosity": -1})
    try:
        lightgbm.Booster({"device_type": "cuda", "verbosity": -1}, rows)
    except lightgbm.basic.LightGBMError as error:
        return NOT_BUILT not in str(error)
    return True


class _LightGBMGrowth(GrowingBooster):
    """A booster on its binned rows, new or from the trees of a checkpoint."""

    booster: lightgbm.Booster

    def __init__(self, settings: dict[str, Any], bins: Bins[lightgbm.Dataset], trees: bytes | None = None) -> None:
        self.settings = settings
        self.bins = bins
        self.is_resumed = trees is not None
        if trees is not None:
            self.booster = lightgbm.Booster(model_str=trees.decode())
            return
        self.booster = lightgbm.Booster(settings, bins.train)
        if bins.stopping is not None:
            self.booster.add_valid(bins.stopping, "v")

    def grow_round(self, number: int) -> bool:
        if not self.is_resumed:
            return bool(self.booster.update())
        self.is_resumed = False
        lightgbm.train(
            self.settings,
            self.bins.train,
            1,
            valid_sets=None if self.bins.stopping is None else [self.bins.stopping],
            valid_names=["v"],
            init_model=self.booster,
            keep_training_booster=True,
            callbacks=[_FirstRound(self, number)],
        )
        return False

    def loss(self) -> float | None:
        if self.bins.stopping is None:
            return None
        judged = self.booster.eval_valid()[0]  # names of rows and loss, its value, and whether more of it is better
        return -float(judged[2]) if judged[3] else float(judged[2])

    def to_bytes(self) -> bytes:
        return _trees(self.booster).encode()

    def forget(self, number: int) -> None:
        """Seed all that is drawn anew: rows are drawn by generators that are made when their fraction changes."""
        fraction = self.settings["bagging_fraction"]
        if fraction < 1:  # all rows are not drawn, and LightGBM would draw some where it had been told to for a moment
            self.booster.reset_parameter({"bagging_fraction": 0.5 if fraction != 0.5 else 0.6})
        self.booster.reset_parameter({"bagging_fraction": fraction, "seed": (self.settings["seed"] + number) % 2**31})


class _FirstRound:
    """A callback that takes the new booster, before its first round after a checkpoint."""

    before_iteration = True

    def __init__(self, growth: _LightGBMGrowth, number: int) -> None:
        self.growth = growth
        self.number = number

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        self.growth.booster = cast("lightgbm.Booster", env.model)  # of `lightgbm.cv` it would be several
        self.growth.forget(self.number)


def library_params(task: Task, params: LightGBMParams, seed: int, threads: int) -> dict[str, Any]:
    """The parameters of a fit under the names of LightGBM."""
    objective, loss = _OBJECTIVES[loss_named(task, params.loss)]
    loss = _OBJECTIVES["squared"][1] if judged_by_squares(task, params) else loss
    settings: dict[str, Any] = {
        **params.model_dump(exclude={"rounds", "early_stopping", "loss", "max_bin"}),
        "bagging_freq": 1,
        "objective": objective,
        "metric": loss,
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    if task.loss is not None and task.loss.name in _PARAMETERS:
        settings[_PARAMETERS[task.loss.name]] = task.loss.parameter
    if task.is_ranking:
        settings["eval_at"] = [STOPPING_RANKS]
    return settings | ({"num_class": len(task.classes)} if task.kind is TaskKind.MULTICLASS else {})


def _groups(rows: Matrix) -> np.ndarray | None:
    """Sizes of the groups of a ranking, whose rows stand group after group."""
    return None if rows.groups is None else rows.group_sizes


def _alone(booster: lightgbm.Booster, task: Task, params: LightGBMParams, rounds: int) -> Boosted[lightgbm.Booster]:
    """The booster's first `rounds` as a model of its own, without its data."""
    own, is_log = lightgbm.Booster(model_str=_trees(booster, rounds)), has_log_margins(task, params)
    return Boosted(own, task.kind, len(task.classes), rounds, is_log)


def _trees(booster: lightgbm.Booster, rounds: int | None = None) -> str:
    """The booster as text, without what the machine was set to."""
    return booster.model_to_string(num_iteration=rounds, importance_type="split").partition("\nparameters:")[0]

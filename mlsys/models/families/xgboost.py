"""Gradient-boosted trees: XGBoost's histogram algorithm with categories as they are.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016,
doi:10.1145/2939672.2939785. Boosting stops when the loss on the validation rows has not
fallen for some rounds, and the booster is cut to its best round.

One task and every worker of a cluster run the same function over blocks of training rows: inside
XGBoost's communicator, where there is one, histograms are summed over the workers. The same seed,
rows, threads and workers give the same booster, and so does a fit that goes on from a checkpoint.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xgboost
from pydantic import Field

from mlsys.models import xgboost_trees
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
from mlsys.models.matrix import Matrix, bounded, check_width
from mlsys.schema import Task, TaskKind

_OBJECTIVES = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "squared": ("reg:squarederror", "rmse"),
    "absolute": ("reg:absoluteerror", "mae"),
    "quantile": ("reg:quantileerror", "quantile"),
    "poisson": ("count:poisson", "poisson-nloglik"),
    "tweedie": ("reg:tweedie", "tweedie-nloglik@{}"),
    "gamma": ("reg:gamma", "gamma-deviance"),
    "ranking": ("rank:ndcg", f"ndcg@{STOPPING_RANKS}"),
}
"""What is made small → objective and loss on the rows that say when to stop."""
_PARAMETERS = {"quantile": "quantile_alpha", "tweedie": "tweedie_variance_power"}


class XGBoostParams(BoostingParams):
    """Parameters of XGBoost, under its own names where it has one."""

    max_depth: int = Field(6, ge=1, le=20)
    min_child_weight: float = Field(1.0, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.6, gt=0, le=1)
    reg_lambda: float = Field(1.0, ge=0)
    reg_alpha: float = Field(0.0, ge=0)
    max_bin: int = Field(256, ge=2, le=4096)


class XGBoostFamily(
    BoostingFamily[XGBoostParams, xgboost.Booster, xgboost.DMatrix],
    DistributedFamily[XGBoostParams, Boosted[xgboost.Booster]],
):
    """XGBoost on one machine, or on Ray Train's workers."""

    name = "xgboost"
    complexity = 4
    params = XGBoostParams
    libraries = ("xgboost",)
    sizes = ("max_depth", "max_bin")
    explains = True
    trainer = "mlsys.models.xgboost_workers:RejoiningTrainer"
    group = "mlsys.models.xgboost_workers:XGBoostGroup"
    streams = True
    file = "booster.ubj"
    format = "an XGBoost model of mlsys in UBJSON"

    def __init__(self, device: Device = "cpu") -> None:
        self.device = device

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        return None if xgboost.build_info().get("USE_CUDA") else "this build of XGBoost has no CUDA"

    def on(self, device: Device) -> XGBoostFamily:
        return XGBoostFamily(device)

    def space(self, task: Task) -> dict[str, Domain]:
        """Parameters that move accuracy most; the number of rounds is left to early stopping."""
        return {
            "learning_rate": Uniform(0.02, 0.3, log=True),
            "max_depth": Integer(3, 10),
            "min_child_weight": Uniform(0.5, 100.0, log=True),
            "subsample": Uniform(0.5, 1.0),
            "colsample_bytree": Uniform(0.4, 1.0),
            "reg_lambda": Uniform(0.1, 100.0, log=True),
        }

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """Tuned defaults: Holzmüller et al. 2024, arXiv:2407.04491."""
        if task.is_classification:
            own = {"max_depth": 6, "min_child_weight": 1e-5, "subsample": 0.65, "learning_rate": 0.08}
        else:
            own = {"max_depth": 9, "min_child_weight": 2.0, "subsample": 0.7, "colsample_bytree": 1.0}
        return [{**own, "reg_lambda": 0.0}]

    def bins_key(self, params: XGBoostParams) -> int:
        return params.max_bin

    def bin(
        self, blocks: Sequence[Matrix], validation: Matrix | None, params: XGBoostParams, *, threads: int
    ) -> Bins[xgboost.DMatrix]:
        """Quantise the blocks; many rows that say when to stop are cut where the others are, few stay numbers."""
        how: dict[str, Any] = {"nthread": threads, "enable_categorical": True}
        blocks, validation = of_groups(blocks, validation)
        rows = _Blocks(blocks)
        data = xgboost.QuantileDMatrix(rows, max_bin=params.max_bin, **how)
        if validation is None or not validation.num_rows:
            return Bins(data, None, rows.signs)
        if self.device == "cpu" and _is_small(validation):
            return Bins(data, xgboost.DMatrix(**_fields(validation), **how), rows.signs)
        return Bins(data, xgboost.QuantileDMatrix(_Blocks([validation]), ref=data, **how), rows.signs)

    def grow(
        self,
        bins: Bins[xgboost.DMatrix],
        task: Task,
        params: XGBoostParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        checkpoints: Checkpoints | None = None,
        exactly: int | None = None,
    ) -> Boosted[xgboost.Booster]:
        """Grow a booster, of all `params.rounds` without rows that say when to stop."""
        stopping = Stopping(params.early_stopping, seconds, exactly)
        settings = library_params(task, params, seed, threads, self.device)
        if any(bins.signs):
            settings["monotone_constraints"] = bins.signs
        latest = checkpoints.latest if checkpoints else None
        growth = _XGBoostGrowth(settings, bins, None if latest is None else latest.model)
        if latest is not None:
            stopping.resume(latest.stopping)
        grow_rounds(growth, params.rounds, stopping, progress, checkpoints)
        if self.device != "cpu":  # predictions are made on the CPU
            growth.booster.set_param({"device": "cpu"})
        return _cut(growth.booster.reset(), task, params, stopping.rounds)

    def predict(self, model: Boosted[xgboost.Booster], X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities from the float32 margins in double precision."""
        check_width(X, model.booster.num_features(), self.name)
        outputs = model.classes if model.task is TaskKind.MULTICLASS else 1
        if X.shape[0] == 0:  # the shape that XGBoost gives then depends on its version
            return model.outputs(np.zeros((0, outputs), dtype=np.float32))
        margin = model.booster.inplace_predict(bounded(X), predict_type="margin", missing=np.nan)
        return model.outputs(margin.reshape(-1, outputs))

    def row_function(self, model: Boosted[xgboost.Booster]) -> RowFunction:
        """Look the leaves up by `LeafMasks`, or call what `inplace_predict` calls, without what it asks first."""
        outputs = model.classes if model.task is TaskKind.MULTICLASS else 1
        width = model.booster.num_features()
        try:
            masks = xgboost_trees.masks_of(model.booster, outputs)
        except ValueError:
            margins = _InplaceCall(model.booster, outputs)
            return lambda X: model.outputs(margins(X))

        def predict(X: np.ndarray) -> np.ndarray:
            check_width(X, width, self.name)
            return model.outputs(masks(X[0])[None, :])

        return predict

    def contributions(self, model: Boosted[xgboost.Booster], X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """XGBoost's TreeSHAP, which it computes in float32."""
        check_width(X, model.booster.num_features(), self.name)
        how: dict[str, Any] = {"feature_types": model.booster.feature_types, "enable_categorical": True, "nthread": 1}
        rows = xgboost.DMatrix(bounded(X), missing=np.nan, **how)
        raw = model.booster.predict(rows, pred_contribs=True, validate_features=False)
        return picked(raw, outputs, model.scale)

    def to_bytes(self, model: Boosted[xgboost.Booster]) -> bytes:
        """Give the model as UBJSON."""
        return bytes(model.booster.save_raw("ubj"))

    def from_bytes(self, data: bytes) -> Boosted[xgboost.Booster]:
        """Read a model from its UBJSON.

        Raises
        ------
        ValueError
            The bytes are no model, or one that mlsys did not write.
        """
        if data[:1] != b"{":
            raise ValueError("no UBJSON object")
        try:
            booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
        except xgboost.core.XGBoostError as error:
            raise ValueError(str(error)) from None
        kind, classes, rounds = (booster.attr(f"mlsys_{name}") for name in ("task", "classes", "rounds"))
        if kind not in set(TaskKind) or classes is None or rounds is None:
            raise ValueError("an XGBoost model without the attributes of mlsys")
        return Boosted(booster, TaskKind(kind), int(classes), int(rounds), booster.attr("mlsys_link") == "log")


FAMILY = XGBoostFamily()


@functools.cache
def _library() -> ctypes.PyDLL:
    """XGBoost's library, whose functions keep Python's lock: to wait for it after each row takes longer than a row."""
    library = ctypes.PyDLL(xgboost.core._LIB._name)  # noqa: SLF001 - of which there is one, wherever it was found
    library.XGBGetLastError.restype = ctypes.c_char_p
    return library


class _InplaceCall:
    """The margins of one row, by the C function of `inplace_predict` and the same arguments."""

    ARGUMENTS = (
        b'{"type": 1, "training": false, "iteration_begin": 0, "iteration_end": 0, "missing": NaN, '
        b'"strict_shape": false, "cache_id": 0}'
    )

    def __init__(self, booster: xgboost.Booster, outputs: int) -> None:
        self.booster = booster  # whose memory the handle names
        self.outputs = outputs
        self.width = booster.num_features()
        self.array = b'{"data": [%%d, true], "shape": [1, %d], "typestr": "<f4", "version": 3}' % self.width
        self.function = _library().XGBoosterPredictFromDense

    def __call__(self, X: np.ndarray) -> np.ndarray:
        check_width(X, self.width, XGBoostFamily.name)
        row = bounded(X)
        shape, dims, margins = _Sizes(), ctypes.c_uint64(), _Margins()
        outcome = ctypes.byref(shape), ctypes.byref(dims), ctypes.byref(margins)
        if self.function(self.booster.handle, self.array % row.ctypes.data, self.ARGUMENTS, None, *outcome):
            raise xgboost.core.XGBoostError(_library().XGBGetLastError().decode())
        return np.array([margins[: self.outputs]])


_Sizes = ctypes.POINTER(ctypes.c_uint64)
_Margins = ctypes.POINTER(ctypes.c_float)


class _Blocks(xgboost.DataIter):
    """An iterator over blocks of rows, as XGBoost asks for them; it passes over them more than once."""

    def __init__(self, blocks: Sequence[Matrix]) -> None:
        super().__init__()
        self.blocks = blocks
        self.position = 0
        self.signs: tuple[int, ...] = ()

    def next(self, input_data: Any) -> bool:
        if self.position == len(self.blocks):
            return False
        block = self.blocks[self.position]
        self.signs = block.signs
        if not block.num_rows:  # whose rows count for nothing
            self.position += 1
            return self.next(input_data)
        input_data(**_fields(block))
        self.position += 1
        return True

    def reset(self) -> None:
        self.position = 0


def _fields(block: Matrix) -> dict[str, Any]:
    """Rows under the names that XGBoost's matrices take them by."""
    types = ["c" if kind == "c" else "q" for kind in block.types]
    how: dict[str, Any] = {"weight": block.weight}
    if block.groups is not None:
        how = {"weight": block.group_weights, "group": block.group_sizes}
    return {"data": bounded(block.X), "label": block.y, "feature_types": types, **how}


SMALL_VALUES = 5_000_000
"""Values up to which rows that say when to stop stay numbers, of 8 bytes: a round predicts them in half the time."""


def _is_small(rows: Matrix) -> bool:
    """True of few values in a process of its own; workers of a cluster have to do the same, however many each has."""
    return rows.num_rows * rows.num_features <= SMALL_VALUES and not xgboost.collective.is_distributed()


class _XGBoostGrowth(GrowingBooster):
    """A booster on its binned rows, new or from the trees of a checkpoint."""

    def __init__(self, settings: dict[str, Any], bins: Bins[xgboost.DMatrix], trees: bytes | None = None) -> None:
        self.bins = bins
        self.sign = -1 if settings["objective"] == _OBJECTIVES["ranking"][0] else 1
        matrices = [bins.train] if bins.stopping is None else [bins.train, bins.stopping]
        model = None if trees is None else bytearray(trees)
        self.booster = xgboost.Booster(settings, matrices, model_file=model)

    def grow_round(self, number: int) -> bool:
        self.booster.update(self.bins.train, number)
        return False

    def loss(self) -> float | None:
        if self.bins.stopping is None:
            return None
        return self.sign * float(self.booster.eval(self.bins.stopping, "v").rpartition(":")[2])

    def to_bytes(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))

    def forget(self, number: int) -> None:
        """Have a new updater of trees made: the old one's sampler of columns draws on, and is saved nowhere.

        The new one's is seeded by the number of the round. XGBoost makes updaters anew when another method of
        growing trees is configured, which `save_config` makes it do at once.
        """
        for method in ("approx", "hist"):
            self.booster.set_param({"tree_method": method})
            self.booster.save_config()


def library_params(
    task: Task, params: XGBoostParams, seed: int, threads: int, device: Device = "cpu"
) -> dict[str, Any]:
    """The parameters of a fit under the names of XGBoost."""
    objective, loss = _OBJECTIVES[loss_named(task, params.loss)]
    loss = _OBJECTIVES["squared"][1] if judged_by_squares(task, params) else loss
    settings: dict[str, Any] = {
        **params.model_dump(exclude={"rounds", "early_stopping", "loss"}),
        "tree_method": "hist",
        "objective": objective,
        "eval_metric": loss.format(task.loss.parameter if task.loss else ""),
        "seed": seed,
        "seed_per_iteration": True,  # a tree's sample depends on its number, not on what was drawn before
        "nthread": threads,
        "verbosity": 0,
        **({} if device == "cpu" else {"device": device}),
    }
    if task.loss is not None and task.loss.name in _PARAMETERS:
        settings[_PARAMETERS[task.loss.name]] = task.loss.parameter
    return settings | ({"num_class": len(task.classes)} if task.kind is TaskKind.MULTICLASS else {})


def _cut(booster: xgboost.Booster, task: Task, params: XGBoostParams, rounds: int) -> Boosted[xgboost.Booster]:
    """Cut a booster to its first `rounds` and store in it what `from_bytes` has to know."""
    classes = len(task.classes)
    if rounds < booster.num_boosted_rounds():
        booster = booster[:rounds]
    booster.set_attr(mlsys_task=str(task.kind), mlsys_classes=str(classes), mlsys_rounds=str(rounds))
    is_log = has_log_margins(task, params)
    if is_log:
        booster.set_attr(mlsys_link="log")
    return Boosted(booster, task.kind, classes, rounds, is_log)

"""Gradient-boosted trees: XGBoost's histogram algorithm with categories as they are.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016,
doi:10.1145/2939672.2939785. Boosting stops when the loss on the validation rows has not
fallen for some rounds, and the booster is cut to its best round.

One task and every worker of a cluster run the same function over blocks of training rows: inside
XGBoost's communicator, where there is one, histograms are summed over the workers. The same seed,
rows, threads and workers give the same booster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xgboost
from pydantic import Field

from mlsys.models.boosting import PROGRESS_ROUNDS, Boosted, BoostingFamily, BoostingParams
from mlsys.models.interface import Domain, Integer, Progress, Uniform
from mlsys.models.matrix import Matrix, bounded, check_width, probabilities
from mlsys.schema import Task, TaskKind

_OBJECTIVES = {
    TaskKind.BINARY: ("binary:logistic", "logloss"),
    TaskKind.MULTICLASS: ("multi:softprob", "mlogloss"),
    TaskKind.REGRESSION: ("reg:squarederror", "rmse"),
}
_ABSOLUTE = ("reg:absoluteerror", "mae")


class XGBoostParams(BoostingParams):
    """Parameters of XGBoost, under its own names where it has one."""

    max_depth: int = Field(6, ge=1, le=20)
    min_child_weight: float = Field(1.0, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.6, gt=0, le=1)
    reg_lambda: float = Field(1.0, ge=0)
    reg_alpha: float = Field(0.0, ge=0)
    max_bin: int = Field(256, ge=2, le=4096)


class XGBoostFamily(BoostingFamily[XGBoostParams, xgboost.Booster]):
    """XGBoost on one machine, or on Ray Train's workers."""

    name = "xgboost"
    complexity = 3
    params = XGBoostParams
    libraries = ("xgboost",)
    trainer = "ray.train.xgboost:XGBoostTrainer"
    file = "booster.ubj"
    format = "an XGBoost model of mlsys in UBJSON"

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

    def fit_blocks(
        self,
        blocks: Sequence[Matrix],
        validation: Matrix | None,
        task: Task,
        params: XGBoostParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
    ) -> Boosted[xgboost.Booster]:
        """Quantise the blocks one after another and grow a booster, of all `params.rounds` without validation rows."""
        how: dict[str, Any] = {"nthread": threads, "enable_categorical": True}
        data = xgboost.QuantileDMatrix(_Blocks(blocks), max_bin=params.max_bin, **how)
        watch, callbacks = [], list[Any]()
        if validation is not None and validation.num_rows:
            judged = xgboost.QuantileDMatrix(_Blocks([validation]), ref=data, **how)
            watch.append((judged, "v"))
            callbacks.append(xgboost.callback.EarlyStopping(rounds=params.early_stopping))
            if progress is not None:
                callbacks.append(_Report(judged, task.kind, progress))
        settings = _settings(task, params, seed, threads)
        booster = xgboost.train(settings, data, params.rounds, evals=watch, callbacks=callbacks, verbose_eval=False)
        return _cut(booster, task, stopped=bool(watch))

    def predict(self, model: Boosted[xgboost.Booster], X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities from the float32 margins in double precision."""
        check_width(X, model.booster.num_features(), self.name)
        outputs = model.classes if model.task is TaskKind.MULTICLASS else 1
        if X.shape[0] == 0:  # the shape that XGBoost gives then depends on its version
            return _outputs(np.zeros((0, outputs), dtype=np.float32), model.task)
        margin = model.booster.inplace_predict(bounded(X), predict_type="margin", missing=np.nan)
        return _outputs(margin.reshape(-1, outputs), model.task)

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
        return Boosted(booster, TaskKind(kind), int(classes), int(rounds))


FAMILY = XGBoostFamily()


class _Blocks(xgboost.DataIter):
    """An iterator over blocks of rows, as XGBoost asks for them; it passes over them more than once."""

    def __init__(self, blocks: Sequence[Matrix]) -> None:
        super().__init__()
        self.blocks = blocks
        self.position = 0

    def next(self, input_data: Any) -> bool:
        if self.position == len(self.blocks):
            return False
        block = self.blocks[self.position]
        types = ["c" if kind == "c" else "q" for kind in block.types]
        input_data(data=bounded(block.X), label=block.y, feature_types=types)
        self.position += 1
        return True

    def reset(self) -> None:
        self.position = 0


class _Report(xgboost.callback.TrainingCallback):
    """Report the predictions of the validation rows every `PROGRESS_ROUNDS` rounds; XGBoost has them at hand."""

    def __init__(self, rows: xgboost.DMatrix, task: TaskKind, progress: Progress) -> None:
        super().__init__()
        self.rows = rows
        self.task = task
        self.progress = progress

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Any) -> bool:
        if (epoch + 1) % PROGRESS_ROUNDS == 0:
            self.progress(epoch + 1, _outputs(model.predict(self.rows, output_margin=True), self.task))
        return False


def _settings(task: Task, params: XGBoostParams, seed: int, threads: int) -> dict[str, Any]:
    is_absolute = task.kind is TaskKind.REGRESSION and params.loss == "absolute"
    objective, loss = _ABSOLUTE if is_absolute else _OBJECTIVES[task.kind]
    settings = {
        **params.model_dump(exclude={"rounds", "early_stopping", "loss"}),
        "tree_method": "hist",
        "objective": objective,
        "eval_metric": loss,
        "seed": seed,
        "seed_per_iteration": True,  # a tree's sample depends on its number, not on what was drawn before
        "nthread": threads,
        "verbosity": 0,
    }
    return settings | ({"num_class": len(task.classes)} if task.kind is TaskKind.MULTICLASS else {})


def _cut(booster: xgboost.Booster, task: Task, *, stopped: bool) -> Boosted[xgboost.Booster]:
    """Cut a booster to its best round and store in it what `from_bytes` has to know."""
    if stopped:
        booster = booster[: booster.best_iteration + 1]
    rounds, classes = booster.num_boosted_rounds(), len(task.classes)
    booster.set_attr(best_iteration=None, best_score=None)
    booster.set_attr(mlsys_task=str(task.kind), mlsys_classes=str(classes), mlsys_rounds=str(rounds))
    return Boosted(booster, task.kind, classes, rounds)


def _outputs(margin: np.ndarray, task: TaskKind) -> np.ndarray:
    """Probabilities or values of XGBoost's float32 margins, in float64."""
    if task is TaskKind.REGRESSION:
        return margin.astype(np.float64).reshape(-1)
    return probabilities(margin)

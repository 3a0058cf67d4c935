"""Gradient-boosted trees: XGBoost's histogram algorithm with categories as they are.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016,
doi:10.1145/2939672.2939785. Boosting stops when the loss on the validation rows has not
fallen for some rounds, and the booster is cut to its best round.

:func:`grow` takes the training rows as blocks and is what one task and every worker of a
cluster run: inside XGBoost's communicator, where there is one, histograms are summed over
the workers. The same seed, rows, threads and workers give the same booster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from pydantic import BaseModel, ConfigDict, Field

from mlsys.models import Params as _Params
from mlsys.models import Progress
from mlsys.models.links import probabilities
from mlsys.models.matrix import Matrix, bounded, check_width
from mlsys.models.model_files import damaged, read_facts, write_facts
from mlsys.models.search_space import Domain, Integer, Uniform
from mlsys.schema import Task, TaskKind

NAME = "xgboost"
ENCODING = "codes"
COMPLEXITY = 3

PROGRESS_ROUNDS = 25
"""Rounds between two reports."""

_OBJECTIVES = {
    TaskKind.BINARY: ("binary:logistic", "logloss"),
    TaskKind.MULTICLASS: ("multi:softprob", "mlogloss"),
    TaskKind.REGRESSION: ("reg:squarederror", "rmse"),
}


class Params(_Params):
    """Parameters of XGBoost, under its own names where it has one."""

    rounds: int = Field(600, ge=1, description="trees a class at most")
    early_stopping: int = Field(30, ge=1, description="rounds without gain on validation before stopping")
    learning_rate: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(6, ge=1, le=20)
    min_child_weight: float = Field(1.0, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.6, gt=0, le=1)
    reg_lambda: float = Field(1.0, ge=0)
    reg_alpha: float = Field(0.0, ge=0)
    max_bin: int = Field(256, ge=2, le=4096)


class BoostingFacts(BaseModel):
    """What is checked before XGBoost reads the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str


@dataclass(frozen=True)
class Boosted:
    """A booster, its kind of task and its number of classes (0 for regression); `rounds` trees a class."""

    booster: xgboost.Booster
    task: TaskKind
    classes: int
    rounds: int


def space(task: Task) -> dict[str, Domain]:  # noqa: ARG001
    """Parameters that move accuracy most; the number of rounds is left to early stopping."""
    return {
        "learning_rate": Uniform(0.02, 0.3, log=True),
        "max_depth": Integer(3, 10),
        "min_child_weight": Uniform(0.5, 100.0, log=True),
        "subsample": Uniform(0.5, 1.0),
        "colsample_bytree": Uniform(0.4, 1.0),
        "reg_lambda": Uniform(0.1, 100.0, log=True),
    }


def fit(
    train: Matrix,
    validation: Matrix | None,
    task: Task,
    params: Params,
    *,
    seed: int,
    threads: int,
    progress: Progress | None = None,
) -> Boosted:
    """Grow a booster; without validation rows all `params.rounds` are grown."""
    return grow([train], validation, task, params, seed=seed, threads=threads, progress=progress)


def grow(
    train: Sequence[Matrix],
    validation: Matrix | None,
    task: Task,
    params: Params,
    *,
    seed: int,
    threads: int,
    progress: Progress | None = None,
) -> Boosted:
    """`fit` over blocks of training rows, which are quantised one after another and not copied together."""
    data = xgboost.QuantileDMatrix(_Blocks(train), max_bin=params.max_bin, nthread=threads, enable_categorical=True)
    watch = []
    if validation is not None and validation.num_rows:
        watch = [
            (xgboost.QuantileDMatrix(_Blocks([validation]), ref=data, nthread=threads, enable_categorical=True), "v")
        ]
    callbacks: list[Any] = []
    if watch:
        callbacks.append(xgboost.callback.EarlyStopping(rounds=params.early_stopping))
        if progress is not None:
            callbacks.append(_Report(watch[0][0], task.kind, progress))
    booster = xgboost.train(
        _settings(task, params, seed, threads),
        data,
        params.rounds,
        evals=watch,
        callbacks=callbacks,
        verbose_eval=False,
    )
    return _cut(booster, task, stopped=bool(watch))


def predict(model: Boosted, X: np.ndarray) -> np.ndarray:
    """Values, or probabilities from the float32 margins in double precision."""
    check_width(X, model.booster.num_features(), NAME)
    outputs = model.classes if model.task is TaskKind.MULTICLASS else 1
    if X.shape[0] == 0:  # the shape that XGBoost gives then depends on its version
        return _outputs(np.zeros((0, outputs), dtype=np.float32), model.task)
    margin = model.booster.inplace_predict(bounded(X), predict_type="margin", missing=np.nan)
    return _outputs(margin.reshape(-1, outputs), model.task)


def save(model: Boosted, folder: Path) -> None:
    """Write ``booster.ubj``, and its digest into ``booster.json``."""
    data = to_bytes(model)
    (folder / "booster.ubj").write_bytes(data)
    write_facts(folder / "booster.json", BoostingFacts(sha256=hashlib.sha256(data).hexdigest()))


def load(folder: Path) -> Boosted:
    """Read ``booster.ubj`` once its digest is found right: XGBoost's reader may crash on damaged bytes."""
    facts = read_facts(folder / "booster.json", BoostingFacts)
    file = folder / "booster.ubj"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise damaged(file, str(error), "a readable file") from None
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise damaged(file, "missing or changed bytes", f"SHA-256 {facts.sha256[:12]}…")
    try:
        return from_bytes(data)
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise damaged(file, str(error).strip().splitlines()[0], "an XGBoost model of mlsys in UBJSON") from None


def to_bytes(model: Boosted) -> bytes:
    """The model as UBJSON."""
    return bytes(model.booster.save_raw("ubj"))


def from_bytes(data: bytes) -> Boosted:
    """The model of its UBJSON.

    Raises
    ------
    ValueError
        The bytes are no model, or one that mlsys did not write.
    """
    if data[:1] != b"{":
        raise ValueError("no UBJSON object")
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
    kind, classes, rounds = (booster.attr(f"mlsys_{name}") for name in ("task", "classes", "rounds"))
    if kind not in set(TaskKind) or classes is None or rounds is None:
        raise ValueError("an XGBoost model without the attributes of mlsys")
    return Boosted(booster, TaskKind(kind), int(classes), int(rounds))


class _Blocks(xgboost.DataIter):
    """Blocks of rows, as XGBoost asks for them (it passes over them more than once)."""

    def __init__(self, blocks: Sequence[Matrix]) -> None:
        super().__init__()
        self.blocks = blocks
        self.at = 0

    def next(self, input_data: Any) -> bool:
        if self.at == len(self.blocks):
            return False
        block = self.blocks[self.at]
        input_data(
            data=bounded(block.X), label=block.y, feature_types=["c" if kind == "c" else "q" for kind in block.types]
        )
        self.at += 1
        return True

    def reset(self) -> None:
        self.at = 0


class _Report(xgboost.callback.TrainingCallback):
    """Hand the validation predictions on, every `PROGRESS_ROUNDS` rounds; XGBoost has them at hand."""

    def __init__(self, rows: xgboost.DMatrix, task: TaskKind, progress: Progress) -> None:
        super().__init__()
        self.rows = rows
        self.task = task
        self.progress = progress

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
        if (epoch + 1) % PROGRESS_ROUNDS == 0:
            self.progress(epoch + 1, _outputs(model.predict(self.rows, output_margin=True), self.task))
        return False


def _settings(task: Task, params: Params, seed: int, threads: int) -> dict[str, Any]:
    objective, loss = _OBJECTIVES[task.kind]
    settings = {
        **params.model_dump(exclude={"rounds", "early_stopping"}),
        "tree_method": "hist",
        "objective": objective,
        "eval_metric": loss,
        "seed": seed,
        "seed_per_iteration": True,  # a tree's sample depends on its number, not on what was drawn before
        "nthread": threads,
        "verbosity": 0,
    }
    return settings | ({"num_class": len(task.classes)} if task.kind is TaskKind.MULTICLASS else {})


def _cut(booster: xgboost.Booster, task: Task, *, stopped: bool) -> Boosted:
    """The booster up to its best round, with what `from_bytes` has to know."""
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

"""The interface of a model family, and the domains in which its parameters are searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from mlsys import errors
from mlsys.models.contributions import Contributions
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

Progress = Callable[[int], None]
"""Called as ``progress(round)``, after some of the rounds, by families that have rounds."""


RowFunction = Callable[[np.ndarray], np.ndarray]
"""Predictions of a row, (1, features) float32 in C order, with the bits of `Family.predict`."""


Device = Literal["cpu", "cuda"]
"""Where a model is fitted; predictions are made on the CPU."""


@dataclass(frozen=True)
class Uniform:
    """A real number between `low` and `high`, uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of some values without an order."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Domain = Uniform | Integer | Choice


class FamilyParams(BaseModel):
    """Base of the parameters of a family: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=FamilyParams)
M = TypeVar("M")
T = TypeVar("T")


class Family(ABC, Generic[P, M]):
    """A kind of model: how it is fitted, predicts, is stored, and what may be asked of it.

    Only the abstract methods and the first four attributes have to be given.

    Attributes
    ----------
    name
        The name that recipes use.
    encoding
        What its features have to be: ``codes`` (categories as whole numbers, for trees), ``dense`` (numbers
        on which distances and sums mean something), ``pixels`` (the same with pictures as they are, of which there has
        to be one), or ``none`` for a family that looks at no feature.
    complexity
        Its place in the order of simplicity: of families with equal scores the one with the least is preferred.
    params
        Its parameters, with their defaults and bounds.
    tasks
        The kinds of task that it can learn.
    losses
        Losses of a number that a recipe names (`mlsys.schema.TargetLoss`) which it can be fitted to.
    takes_weights
        It counts rows as `Matrix.weight` says.
    monotone
        Losses with which its predictions keep to `Matrix.signs`: names of losses, ``squared``, ``binary``,
        ``ranking``.
    min_coordinates
        It is compared by default where at least so many features are coordinates of an embedding;
        None: only where a recipe names it.
    is_searched_by_default
        It is searched beside others by its portfolio; False: only where a recipe names it.
    libraries
        Distributions that fit it, beside NumPy; their versions are kept with the model.
    sizes
        Whole parameters that the memory of a fit goes with.
    explains
        It has `contributions`.
    """

    name: ClassVar[str]
    encoding: ClassVar[Literal["codes", "dense", "pixels", "none"]]
    complexity: ClassVar[int]
    params: type[P]
    tasks: ClassVar[frozenset[TaskKind]] = frozenset(TaskKind)
    losses: ClassVar[frozenset[str]] = frozenset()
    takes_weights: ClassVar[bool] = False
    monotone: ClassVar[frozenset[str]] = frozenset()
    min_coordinates: ClassVar[int | None] = None
    is_searched_by_default: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]] = ()
    explains: ClassVar[bool] = False

    @abstractmethod
    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: P,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> M:
        """Fit a model; `validation` rows only say when to stop, and only where there are rounds.

        `progress` is given to families with rounds alone, which call it after some of them; where it answers true,
        the last of them was the last one. With `seconds`, a fit ends by then: of fewer rounds, trees, steps or rows
        (`cut` says which), as soon as it can, and never without a model.
        """

    @abstractmethod
    def predict(self, model: M, X: np.ndarray) -> np.ndarray:
        """Float64 predictions: (n,) values, or (n, classes) probabilities in the order of `Task.classes`.

        A row's result has the same bits whatever rows are predicted beside it.
        """

    def row_function(self, model: M) -> RowFunction | None:
        """Prepare a faster way than `predict` for single rows; None where there is none.

        Whoever uses it compares its bits with those of `predict` first (`mlsys.predict.row_path`).
        """
        return None

    def contributions(self, model: M, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """Exact contributions of the features to one output of each row: the position of a class, or 0 of a number.

        Raises
        ------
        RequestError
            This model has none.
        """
        raise errors.RequestError.unexplained(f"model of family '{self.name}'", "no exact contributions", "another")

    @abstractmethod
    def save(self, model: M, folder: Path) -> None:
        """Write the model in formats that run no code when read; same model, same bytes."""

    @abstractmethod
    def load(self, folder: Path) -> M:
        """Read what `save` wrote; a `BundleError` for anything else."""

    def cut(self, model: M) -> dict[str, Any]:
        """Parameters that a model got less of than was asked for, for its time was over.

        A fit with these and without a clock gives the same model. Rounds are told by `rounds`. Empty for a model that
        was read from its files.
        """
        return {}

    def lacks(self, task: Task, *, is_monotone: bool = False, is_weighted: bool = False) -> str | None:
        """Say what such a task asks for that the family cannot do, as ``loss: gamma``; None where it can do all.

        With `is_monotone`, predictions must not fall, or not rise, along some features; with `is_weighted`, rows count
        by their class. Of several labels each is a task of its own.
        """
        task = task.fitted
        if task.kind not in self.tasks:
            return f"a {task.kind.value} task"
        if task.loss is not None and task.loss.name not in self.losses:
            return f"loss: {task.loss}"
        if is_monotone and loss_named(task) not in self.monotone:
            return f"train.monotone for {task.kind.value if task.loss is None else f'loss: {task.loss}'}"
        if is_weighted and not self.takes_weights:
            return "train.balance: weights"
        return "train.weight" if task.weight is not None and not self.takes_weights else None

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        """Say why it cannot be fitted on a GPU, here or for what is asked; None where it can.

        The library says whether its build can; whether there is a GPU is not asked.
        """
        return f"{self.name} is fitted on the CPU alone"

    def on(self, device: Device) -> Family[P, M]:
        """The family that fits on a device; itself for the CPU."""
        if device != "cpu":
            raise ValueError(f"{self.name} on {device}")  # `lacks_cuda` says so before
        return self

    def space(self, task: Task) -> dict[str, Domain]:
        """Domain of each parameter that is worth searching; none by default."""
        return {}

    def max_rounds(self, params: P) -> int | None:
        """Most rounds that a fit takes, if it has rounds and stops early on the validation rows; else None."""
        return None

    def rounds(self, model: M) -> int | None:
        """Rounds of a fitted model; None if the family has none."""
        return None

    def of_rounds(self, params: P, rounds: int) -> P:
        """The parameters of a fit that ends after so many rounds, whatever the validation rows say."""
        ending = {"rounds": rounds, "early_stopping": 0}
        return params.model_copy(update={name: ending[name] for name in ending.keys() & type(params).model_fields})

    def params_of_refit(self, params: P, model: M, growth: float) -> P | None:
        """The parameters of a fit on more rows: with as many rounds as `model` has, times `growth`.

        None if the family has rounds and cannot be told how many.
        """
        rounds = self.rounds(model)
        if rounds is None:
            return params
        if "rounds" not in type(params).model_fields:
            return None
        return self.grown(params.model_copy(update={"rounds": rounds}), growth)

    def grown(self, params: P, growth: float) -> P:
        """Parameters for more rows: with `growth` times the rounds, if there are any."""
        rounds = getattr(params, "rounds", None)
        return params if rounds is None else params.model_copy(update={"rounds": round(rounds * growth)})

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """Parameters with which a search begins, beside the defaults: what is best for many tables, the best first."""
        return []

    def params_for_search(self, params: P) -> P:
        """Cheaper parameters under which others compare as with the full ones; the final fit has `params`."""
        return params

    def params_for_comparison(self, params: P, task: Task, rows: Matrix) -> P:
        """Cheaper parameters under which the family compares with others on `rows` as with the full ones."""
        return self.params_for_search(params)

    def smaller(self, params: P) -> dict[str, int]:
        """Parameters with which a fit needs less memory: half of its `sizes`; none where the family has no such."""
        values = {name: int(getattr(params, name)) for name in self.sizes}
        return {name: max(2, value // 2) for name, value in values.items() if value > 2}

    def cost(self, params: P) -> float:
        """The time of a fit beside one with other parameters, on the same rows; only if `params_for_search` differ."""
        return 1.0

    def note_on_cheaper(self, params: P, used: Sequence[P]) -> str | None:
        """A sentence for readers of scores that come from the `used` parameters where `params` were asked for."""
        return None


def loss_named(task: Task, usual: str = "squared") -> str:
    """Name what fits make small: the kind of classes or ``ranking``, or the loss of a number, else its `usual` one."""
    if task.is_classification or task.is_ranking:
        return task.kind.value
    return usual if task.loss is None else task.loss.name


@dataclass(frozen=True)
class Checkpoint:
    """A fit after some of its rounds: the bytes of its trees so far, and what decides when it ends."""

    rounds: int
    model: bytes
    stopping: Mapping[str, Any]


class Checkpoints(Protocol):
    """The place in which a fit leaves its state every some rounds and at its end, and finds it again."""

    @property
    def every(self) -> int:
        """Rounds from one state to the next."""

    @property
    def latest(self) -> Checkpoint | None:
        """The last state that was left, if there is one."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Leave a state, in the place of those before."""


class Group(Protocol):
    """The workers of a fit, as one of them sees them."""

    def run(self, fit: Callable[[], T]) -> T:
        """Call `fit` connected with the others; once more whenever one of them was replaced before it was done."""

    def agreed(self, value: T) -> T:
        """The value of the first worker, which all get."""


class BlockwiseFamily(Family[P, M]):
    """A family that one task can fit on more rows than memory holds: it reads them block by block, several times."""

    @abstractmethod
    def lacks_blocks(self, task: Task, width: int) -> str | None:
        """Say why a fit on so many features needs all rows at once, or None."""

    @abstractmethod
    def fit_by_blocks(self, blocks: Sequence[Matrix], task: Task, params: P) -> M:
        """Fit on blocks of which one is in memory at a time: the model of `fit` on all of them, but for rounding."""


class DistributedFamily(Family[P, M]):
    """A family that Ray Train can fit on rows spread over a cluster.

    Attributes
    ----------
    trainer
        ``module:class`` of the trainer that lets the library's workers talk to each other.
    network
        ``module:function`` that tells a worker, as keywords, how to reach the others; empty where the trainer
        connects them itself.
    group
        ``module:class`` of the `Group` that a worker is in, if a new worker can take the place of one that died;
        empty where all of them begin again.
    shares_validation
        True if the library sums the loss over the workers; where it does not, each worker judges all rows.
    streams
        True if `fit_blocks` asks for one block at a time, so that the rows need not be in memory.
    workers_on_gpus
        True if its workers can have a GPU each.
    """

    trainer: ClassVar[str]
    network: ClassVar[str] = ""
    group: ClassVar[str] = ""
    shares_validation: ClassVar[bool] = True
    streams: ClassVar[bool] = False
    workers_on_gpus: ClassVar[bool] = True

    def connected(self, network: Mapping[str, Any]) -> DistributedFamily[P, M]:
        """The family in a worker that reaches the others as `network` says."""
        return self

    def fit(self, train: Matrix, validation: Matrix | None, task: Task, params: P, **how: Any) -> M:
        """Fit on rows that are one block."""
        return self.fit_blocks([train], validation, task, params, **how)

    @abstractmethod
    def fit_blocks(
        self,
        blocks: Sequence[Matrix],
        validation: Matrix | None,
        task: Task,
        params: P,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> M:
        """Fit on the blocks of one worker, in step with the other workers; each of them ends with the same model.

        A fit that goes on from one of its `checkpoints` ends with the bytes of one that was never interrupted.
        """

    @abstractmethod
    def to_bytes(self, model: M) -> bytes:
        """The model as bytes that `from_bytes` reads."""

    @abstractmethod
    def from_bytes(self, data: bytes) -> M:
        """The model of its bytes; a `ValueError` for other bytes."""

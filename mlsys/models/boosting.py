"""The common part of gradient-boosted families: parameters, when boosting ends, cheaper fits to compare by, and files.

A family of boosted trees adds its library: how blocks of rows are binned, how trees are grown on bins, and how a
booster becomes bytes. Binned rows serve many fits. The bytes lie beside their digest, which is checked before the
library reads them: readers of models may crash on damaged bytes.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from mlsys.models.contributions import Scale
from mlsys.models.deadline import Deadline
from mlsys.models.interface import Checkpoint, Checkpoints, Family, FamilyParams, Progress
from mlsys.models.matrix import Matrix, exponential, joined, probabilities
from mlsys.models.model_files import ModelFacts, damaged, read_checked, read_facts, write_facts
from mlsys.schema import Task, TaskKind

PROGRESS_ROUNDS = 25
"""Rounds between two reports."""

MAX_TREES = 6_000
"""Trees of a model that is only compared with other families: 600 rounds of ten classes, a tree a class and round."""

MAX_CELLS = 2_000_000_000
"""Trees × rows × features of such a model: a quarter of a minute of one core."""

LARGEST_STEP = 0.3
"""Learning rate up to which larger steps make up for fewer rounds; XGBoost's own default."""

RATE_ROUNDS, LARGEST_RATE, LARGEST_OF_CLASSES = 20.0, 0.2, 0.1
"""Learning rate × rounds of boosting that has come to its end, roughly, and the rate that is raised to at most; with a
tree a class, those of rare classes stand on second derivatives near zero, and larger steps overshoot."""


class BoostingParams(FamilyParams):
    """Parameters that every boosted family has."""

    rounds: int = Field(600, ge=1, description="trees a class at most")
    early_stopping: int = Field(
        30, ge=0, description="rounds without gain on validation before stopping; 0 grows all rounds and keeps them"
    )
    learning_rate: float = Field(0.05, gt=0, le=1)
    loss: Literal["squared", "absolute", "poisson"] = Field(
        "squared",
        description="loss of a number where the recipe's own `loss` names none; absolute errors ask for the median and "
        "do not heed a tail; poisson fits the logarithm of the mean of values that are never negative",
    )


B = TypeVar("B")
D = TypeVar("D")


@dataclass(frozen=True)
class Bins(Generic[D]):
    """Rows as a library bins them: those that trees grow on, and those that say when to stop; `signs` of a matrix."""

    train: D
    stopping: D | None
    signs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Boosted(Generic[B]):
    """A booster of a library, its kind of task and its number of classes (0 without); `rounds` trees a class.

    With `is_log` its margins are logarithms of values.
    """

    booster: B
    task: TaskKind
    classes: int
    rounds: int
    is_log: bool = False

    @property
    def scale(self) -> Scale:
        """The scale of its margins."""
        if self.task is TaskKind.BINARY:
            return "log_odds"
        if self.task in (TaskKind.MULTICLASS, TaskKind.RANKING):
            return "score"
        return "log" if self.is_log else "value"

    def outputs(self, margin: np.ndarray) -> np.ndarray:
        """Turn margins, (n, outputs), into float64 values or probabilities."""
        if self.task in (TaskKind.BINARY, TaskKind.MULTICLASS):
            return probabilities(margin)
        return exponential(margin) if self.is_log else margin.astype(np.float64).reshape(-1)


class Stopping:
    """The end of boosting, asked for after each round: without gain for some rounds, or at the end of its time.

    Parameters
    ----------
    patience
        Rounds without gain after which it ends; 0 for never.
    seconds
        Time from now on after which it ends; None for no limit.
    exactly
        Rounds after which it ends and which it keeps, whatever else; None where the others decide.

    Examples
    --------
    >>> stopping = Stopping(patience=2)
    >>> [stopping.ends(loss) for loss in (0.5, 0.4, 0.4, 0.4)], stopping.best_round
    ([False, False, False, True], 2)
    >>> stopping = Stopping(patience=1, exactly=2)
    >>> [stopping.ends(loss) for loss in (0.5, 0.6)], stopping.rounds
    ([False, True], 2)
    """

    def __init__(self, patience: int, seconds: float | None = None, exactly: int | None = None) -> None:
        self.patience = patience
        self.exactly = exactly
        self.deadline = Deadline(seconds)
        self.round = self.best_round = 0
        self.least = math.inf
        self.ended = False

    def ends(self, loss: float | None) -> bool:
        """Note the loss of the round that is over, if there are rows to judge it on; true if it was the last."""
        self.round += 1
        if loss is not None and loss < self.least:
            self.least, self.best_round = loss, self.round
        is_late = self.deadline.is_over
        self.ended = is_late or (loss is not None and 0 < self.patience <= self.round - self.best_round)
        if self.exactly is not None:
            self.ended = self.round >= self.exactly
        return self.ended

    def state(self) -> dict[str, Any]:
        """The state for `resume`, of numbers that JSON keeps to the last bit."""
        return {"round": self.round, "best_round": self.best_round, "least": self.least, "ended": self.ended}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from where the fit that gave `state` was."""
        self.round, self.best_round, self.least, self.ended = (
            state[name] for name in ("round", "best_round", "least", "ended")
        )

    @property
    def rounds(self) -> int:
        """Rounds to keep: up to the best one, or all of them where nothing was judged or nothing may stop it."""
        if self.exactly is not None:
            return self.round
        return self.best_round if self.best_round and self.patience else self.round


class GrowingBooster(ABC):
    """A booster of a library while it grows."""

    @abstractmethod
    def grow_round(self, number: int) -> bool:
        """Grow the trees of round `number`, from 0 on; true if there is nothing left to split."""

    @abstractmethod
    def loss(self) -> float | None:
        """The loss on the rows that say when to stop, if there are any; of a ranking, NDCG below zero."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The trees so far, from which another process can go on."""

    @abstractmethod
    def forget(self, number: int) -> None:
        """Forget what is not in the bytes: from round `number` on it draws as a fit that begins with them."""


def grow_rounds(
    growth: GrowingBooster, rounds: int, stopping: Stopping, progress: Progress | None, checkpoints: Checkpoints | None
) -> None:
    """Grow rounds until `stopping` ends it, or there are `rounds` of them."""
    while not stopping.ended and stopping.round < rounds:
        is_grown = growth.grow_round(stopping.round)
        number = stopping.round + 1
        if progress and number % PROGRESS_ROUNDS == 0:
            progress(number)
        stopping.ended = stopping.ends(growth.loss()) or is_grown
        is_last = stopping.ended or number == rounds
        if checkpoints and (is_last or number % checkpoints.every == 0):
            checkpoints.save(Checkpoint(number, growth.to_bytes(), stopping.state()))
            if not is_last:
                growth.forget(number)


class BoostingFacts(ModelFacts):
    """Digest of the model file, checked before the library reads it."""

    sha256: str


P = TypeVar("P", bound=BoostingParams)


class BoostingFamily(Family[P, Boosted[B]], Generic[P, B, D]):
    """Base of the boosted families; one that Ray Train can spread is a `DistributedFamily`, too.

    Attributes
    ----------
    speed
        Training values (rows × features × trees) that a round passes in a second of one core, roughly: what a search
        expects before it has seen a fit.
    file
        Name of the file of the booster.
    format
        What that file holds, for messages.
    """

    encoding = "codes"
    losses: ClassVar[frozenset[str]] = frozenset({"quantile", "poisson", "tweedie", "gamma"})
    takes_weights = True
    monotone: ClassVar[frozenset[str]] = frozenset({"binary", "squared", "poisson", "tweedie", "gamma", "ranking"})
    """Not absolute errors and quantiles: libraries set those leaves anew when a tree is grown, whatever lies beside."""
    min_coordinates: ClassVar[int | None] = 0
    speed: ClassVar[float] = 60e6
    file: ClassVar[str]
    format: ClassVar[str]

    @abstractmethod
    def bin(self, blocks: Sequence[Matrix], validation: Matrix | None, params: P, *, threads: int) -> Bins[D]:
        """Bin the blocks one after another, and the rows that say when to stop, for fits with the same `bins_key`."""

    @abstractmethod
    def grow(
        self,
        bins: Bins[D],
        task: Task,
        params: P,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        exactly: int | None = None,
    ) -> Boosted[B]:
        """Grow trees on binned rows, of all `params.rounds` without rows that say when to stop.

        With `exactly` it ends after so many rounds and keeps them, as a fit of the same parameters that ended later and
        kept as many: not every library grows the same first trees where it is asked for fewer rounds.
        """

    @abstractmethod
    def bins_key(self, params: P) -> Hashable:
        """The parameters that binned rows depend on: fits in which they are equal share their bins."""

    def fit(self, train: Matrix, validation: Matrix | None, task: Task, params: P, **how: Any) -> Boosted[B]:
        """Fit on rows that are one block."""
        return self.fit_blocks([train], validation, task, params, **how)

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
    ) -> Boosted[B]:
        """Bin the blocks and grow trees on them; `checkpoints` are for families that Ray Train can spread."""
        deadline = Deadline(seconds)
        bins = self.bin(blocks, validation if params.early_stopping else None, params, threads=threads)
        left = deadline.left if deadline.is_set else None
        how: dict[str, Any] = {} if checkpoints is None else {"checkpoints": checkpoints}
        return self.grow(bins, task, params, seed=seed, threads=threads, progress=progress, seconds=left, **how)

    @abstractmethod
    def to_bytes(self, model: Boosted[B]) -> bytes:
        """The model as bytes that `from_bytes` reads."""

    @abstractmethod
    def from_bytes(self, data: bytes) -> Boosted[B]:
        """The model of its bytes; a `ValueError` for other bytes, whatever the library raises."""

    def max_rounds(self, params: P) -> int:
        return params.rounds

    def rounds(self, model: Boosted[B]) -> int:
        return model.rounds

    def params_for_comparison(self, params: P, task: Task, rows: Matrix) -> P:
        """At most `MAX_TREES` trees and `MAX_CELLS`: fewer rounds and larger steps, which rank families as well."""
        trees = min(MAX_TREES, MAX_CELLS // max(1, rows.num_rows * rows.num_features))
        rounds = max(1, trees // trees_a_round(task))
        if params.rounds <= rounds:
            return params
        rate = min(max(LARGEST_STEP, params.learning_rate), params.learning_rate * params.rounds / rounds)
        return params.model_copy(update={"rounds": rounds, "learning_rate": rate})

    def params_in_time(self, params: P, task: Task, rows: Matrix, seconds: float) -> P:
        """Parameters with a learning rate at which a fit on `rows` should end in so many seconds of one core."""
        rounds = seconds * self.speed / max(1, rows.num_rows * rows.num_features * trees_a_round(task))
        return params.model_copy(update={"learning_rate": rate_in_time(params.learning_rate, rounds, task)})

    def note_on_cheaper(self, params: P, used: Sequence[P]) -> str | None:
        rounds, rate = min(each.rounds for each in used), max(each.learning_rate for each in used)
        if rounds == params.rounds and rate == params.learning_rate:
            return None
        most = "" if rounds == params.rounds else f"{rounds} rounds at most and "
        return f"{self.name}: compared with {most}larger steps, to limit the cost"

    def save(self, model: Boosted[B], folder: Path) -> None:
        """Write the booster, and its digest into ``booster.json``."""
        data = self.to_bytes(model)
        (folder / self.file).write_bytes(data)
        write_facts(folder / "booster.json", BoostingFacts(sha256=hashlib.sha256(data).hexdigest()))

    def load(self, folder: Path) -> Boosted[B]:
        """Read the booster once its digest is found right."""
        facts, file = read_facts(folder / "booster.json", BoostingFacts), folder / self.file
        data = read_checked(file, facts.sha256)
        try:
            return self.from_bytes(data)
        except ValueError as error:
            raise damaged(file, str(error).strip().splitlines()[0], self.format) from None


STOPPING_RANKS = 10
"""Ranks of each group whose NDCG says when boosting of a ranking stops."""


def of_groups(blocks: Sequence[Matrix], validation: Matrix | None) -> tuple[Sequence[Matrix], Matrix | None]:
    """Rows to bin: of a ranking as one block, group after group, and without rows to stop by where these rank nothing.

    Groups of one grade have the same NDCG in each round, so that boosting would end with its first one.
    """
    if blocks[0].groups is None:
        return blocks, validation
    stopping = None if validation is None else validation.by_group()
    return [joined(blocks).by_group()], stopping if stopping is not None and stopping.can_rank else None


def has_log_margins(task: Task, params: BoostingParams) -> bool:
    """True if the sum of the trees is the logarithm of a value."""
    if task.loss is None:
        return task.kind is TaskKind.REGRESSION and params.loss == "poisson"
    return task.loss.has_log_link


def judged_by_squares(task: Task, params: BoostingParams) -> bool:
    """True if the logarithm of the mean is fitted for a metric of squared errors, which says when to stop, too."""
    return task.loss is None and has_log_margins(task, params)


def rate_in_time(rate: float, rounds: float, task: Task) -> float:
    """The learning rate of a fit that has time for so many rounds: at least the one that it would have.

    Boosting needs rounds in inverse proportion to its rate (Friedman 2001, "Greedy function approximation: a gradient
    boosting machine", Annals of Statistics 29(5), section 5). Where there is no time for them, a larger rate loses
    less than an early end.

    >>> task = Task(kind="regression", target="y")
    >>> [rate_in_time(0.05, rounds, task) for rounds in (800, 200, 10)], rate_in_time(0.5, 10, task)
    ([0.05, 0.1, 0.2], 0.5)
    """
    largest = LARGEST_OF_CLASSES if trees_a_round(task) > 1 else LARGEST_RATE
    return max(rate, min(largest, round(RATE_ROUNDS / max(rounds, 1.0), 4)))


def rounds_to_end(params: BoostingParams) -> int:
    """Rounds in which boosting comes to its end, roughly, by its learning rate.

    >>> rounds_to_end(BoostingParams(learning_rate=0.1))
    200
    """
    return round(RATE_ROUNDS / params.learning_rate)


def trees_a_round(task: Task) -> int:
    """Trees that a round of boosting grows: one, or one a class where there are more than two."""
    return len(task.labels) or (len(task.classes) if task.kind is TaskKind.MULTICLASS else 1)

"""The common part of gradient-boosted families: parameters, cheaper fits to compare by, and files.

A family of boosted trees adds its library: how blocks of rows become a booster, and a booster bytes. The bytes lie
beside their digest, which is checked before the library reads them: readers of models may crash on damaged bytes.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from mlsys.models.interface import DistributedFamily, FamilyParams
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import ModelFacts, damaged, read_facts, write_facts
from mlsys.schema import Task, TaskKind

PROGRESS_ROUNDS = 25
"""Rounds between two reports."""

MAX_TREES = 6_000
"""Trees of a model that is only compared with other families: 600 rounds of ten classes, a tree a class and round."""

MAX_CELLS = 2_000_000_000
"""Trees × rows × features of such a model: a quarter of a minute of one core."""

LARGEST_STEP = 0.3
"""Learning rate up to which larger steps make up for fewer rounds; XGBoost's own default."""


class BoostingParams(FamilyParams):
    """Parameters that every boosted family has."""

    rounds: int = Field(600, ge=1, description="trees a class at most")
    early_stopping: int = Field(30, ge=1, description="rounds without gain on validation before stopping")
    learning_rate: float = Field(0.05, gt=0, le=1)
    loss: Literal["squared", "absolute"] = Field(
        "squared", description="loss of a number; absolute errors ask for the median and do not heed a tail"
    )


B = TypeVar("B")


@dataclass(frozen=True)
class Boosted(Generic[B]):
    """A booster of a library, its kind of task and its number of classes (0 for regression); `rounds` trees a class."""

    booster: B
    task: TaskKind
    classes: int
    rounds: int


class BoostingFacts(ModelFacts):
    """Digest of the model file, checked before the library reads it."""

    sha256: str


P = TypeVar("P", bound=BoostingParams)


class BoostingFamily(DistributedFamily[P, Boosted[B]], Generic[P, B]):
    """Base of the boosted families.

    Attributes
    ----------
    file
        Name of the file of the booster.
    format
        What that file holds, for messages.
    """

    encoding = "codes"
    min_coordinates: ClassVar[int | None] = 0
    file: ClassVar[str]
    format: ClassVar[str]

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

    def note_on_cheaper(self, params: P, used: Sequence[P]) -> str | None:
        rounds = min(each.rounds for each in used)
        if rounds == params.rounds:
            return None
        return f"{self.name}: compared with {rounds} rounds at most and larger steps, to limit the cost"

    def save(self, model: Boosted[B], folder: Path) -> None:
        """Write the booster, and its digest into ``booster.json``."""
        data = self.to_bytes(model)
        (folder / self.file).write_bytes(data)
        write_facts(folder / "booster.json", BoostingFacts(sha256=hashlib.sha256(data).hexdigest()))

    def load(self, folder: Path) -> Boosted[B]:
        """Read the booster once its digest is found right."""
        facts, file = read_facts(folder / "booster.json", BoostingFacts), folder / self.file
        try:
            data = file.read_bytes()
        except OSError as error:
            raise damaged(file, str(error), "a readable file") from None
        if hashlib.sha256(data).hexdigest() != facts.sha256:
            raise damaged(file, "missing or changed bytes", f"SHA-256 {facts.sha256[:12]}…")
        try:
            return self.from_bytes(data)
        except ValueError as error:
            raise damaged(file, str(error).strip().splitlines()[0], self.format) from None


def trees_a_round(task: Task) -> int:
    """Trees that a round of boosting grows: one, or one a class where there are more than two."""
    return len(task.classes) if task.kind is TaskKind.MULTICLASS else 1

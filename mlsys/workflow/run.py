"""One run of a recipe: what its steps produced, and when a step need not run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys.code_graph import code_digest
from mlsys.console import Console
from mlsys.dataset import Snapshot, Split
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.store import Store, digest_json, write_atomic

if TYPE_CHECKING:
    from mlsys.bundle import Bundle
    from mlsys.features.online.views import FeatureView
    from mlsys.statistics import TrainStatistics

__all__ = ["NUMBERS", "Record", "Run"]

NUMBERS = {
    "collect": 1,
    "explore": 2,
    "features": 3,
    "selection": 4,
    "train": 5,
    "evaluate": 6,
    "tune": 7,
    "deploy": 8,
    "monitor": 9,
}
"""The steps as the field counts them."""

Record = dict[str, Any]
"""What a step leaves: digests and small facts; ``summary`` is its line, ``objects`` what must still be there."""


@dataclass
class Run:
    """One recipe on one store.

    Attributes
    ----------
    records
        What each finished step of this run left.
    labels
        File of labels for the monitor, in place of those of the production part.
    """

    recipe: Recipe
    store: Store
    console: Console = field(default_factory=Console)
    records: dict[str, Record] = field(default_factory=dict)
    labels: Path | None = None

    @cached_property
    def folder(self) -> Path:
        return self.store.run_folder(self.recipe.name)

    @cached_property
    def snapshot(self) -> Snapshot:
        return Snapshot.open(self.store, self.records["collect"]["snapshot"])

    @cached_property
    def split(self) -> Split:
        return Split.open(self.store, self.records["collect"]["split"])

    @cached_property
    def tables(self) -> dict[str, Snapshot]:
        """The feature tables that rows were joined with, by name of the join."""
        return {name: Snapshot.open(self.store, digest) for name, digest in self.records["collect"]["tables"].items()}

    @cached_property
    def views(self) -> list[FeatureView]:
        """What an endpoint needs to know to look their columns up; none if it shall not."""
        from mlsys.features.online import views

        recipe = self.recipe
        if recipe.deploy.lookup == "none":
            return []
        return [
            views.define(
                name,
                join,
                self.tables[name].schema,
                self.split.schema,
                owner=recipe.name,
                timezone=recipe.data.timezone,
            )
            for name, join in recipe.features.joins.items()
        ]

    @cached_property
    def task(self) -> Task:
        return Task.model_validate(self.records["collect"]["task"])

    @cached_property
    def statistics(self) -> TrainStatistics:
        from mlsys.statistics import TrainStatistics

        return TrainStatistics.from_json(self.store.get_json("profile", self.records["explore"]["statistics"]))

    @cached_property
    def bundle(self) -> Bundle:
        from mlsys import bundle

        return bundle.open(self.store, self.records["train"]["bundle"])

    def step(self, name: str, inputs: Mapping[str, Any], code: str, work: Callable[[], Record]) -> None:
        """Do the work of a step unless it was done with exactly these inputs, and say which."""
        began = time.monotonic()
        record, is_new = self.recall(name, inputs, code, work)
        self.tell(name, record["summary"], time.monotonic() - began if is_new else None)

    def recall(
        self, name: str, inputs: Mapping[str, Any], code: str, work: Callable[[], Record]
    ) -> tuple[Record, bool]:
        """The record of a step, and whether its work had to be done now.

        The key is the digest of the inputs, the seed and the code of the function
        `code`. A record counts only while the objects that it names are in the store.
        """
        key = digest_json({"inputs": inputs, "seed": self.recipe.seed, "code": code_digest(self.store, code)})
        record = self.store.recall(name, key)
        is_new = record is None or not all(self.store.has(kind, digest) for kind, digest in record.get("objects", []))
        if record is None or is_new:
            began = time.monotonic()
            with self.console.during(f"{NUMBERS[name]} {name}"):
                record = work()
            record["seconds"] = round(time.monotonic() - began, 1)
            self.store.remember(name, key, record)
        self.records[name] = record
        return record, is_new

    def report(self, step: str, page: str) -> str:
        """Write a step's HTML page and return its path."""
        path = self.folder / "reports" / f"{step}.html"
        write_atomic(path, page.encode())
        return str(path)

    def tell(self, name: str, summary: str, seconds: float | None) -> None:
        """The one line of a finished step; without seconds there was nothing to do."""
        ending = "unchanged" if seconds is None else f"{seconds:.1f} s"
        self.console.line(f"{NUMBERS[name]} {name:<10} {summary}   {ending}")

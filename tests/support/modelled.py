"""A generated table through the steps from collection to the gate, in this process and without Ray."""

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from mlsys import recipe, selection, train
from mlsys.collect import snapshot, split, task
from mlsys.evaluate import scoring
from mlsys.explore import scan
from mlsys.recipe import Recipe
from mlsys.store import Store


@dataclass(frozen=True)
class Rows:
    """A collected, divided and profiled table."""

    store: Store
    settings: Recipe
    task: Any
    parts: Any
    statistics: Any

    def ranking(self, progress=lambda _: None):
        return selection.rank(self.parts.only("train"), self.statistics, self.settings, self.task, progress=progress)

    def fit(self, ranking, family=None):
        """The bundle of a family, by default the preferred one, with what the comparison decided."""
        settings, rows = self.settings.having(ranking.decided), self.parts.only("train", "validation")
        return train.fit(self.store, rows, self.statistics, settings, self.task, family or ranking.family, {})

    def evaluation(self, bundle):
        return scoring.score(self.store, bundle, self.parts, self.settings)


def collected(folder, table, target="y", **sections):
    """A table as rows; `sections` are those of the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "rows.parquet")
    data = {"source": str(folder / "rows.parquet"), **sections.pop("data", {})}
    values = {"name": "generated", "target": target, "evaluate": {"bootstrap": 50}, "data": data, **sections}
    settings, store = recipe.Recipe.model_validate(values), Store.open(folder / "store")
    taken = snapshot.take(store, settings.data, target=target, folder=folder / "run")
    what = task.decide(taken.snapshot, settings)
    parts = split.divide(store, taken.snapshot, settings, what)
    return Rows(store, settings, what, parts, scan.profile(parts.only("train"), what).statistics)

"""A world small enough to judge in a second: a split on disk and a linear model of it, one a kind of task."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import bundle, models, recipe
from mlsys.dataset import Split
from mlsys.features import plan, program
from mlsys.models.matrix import Matrix
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema, Task
from mlsys.statistics import TableStatistics, encode_target
from mlsys.store import Store

KINDS = ("binary", "multiclass", "regression")
CLASSES = {"binary": (False, True), "multiclass": ("Adelie", "Chinstrap", "Gentoo"), "regression": ()}
TARGETS = {"binary": "bool", "multiclass": "string", "regression": "double"}


@dataclass
class World:
    store: Store
    split: Split
    bundle: bundle.Bundle
    recipe: recipe.Recipe

    def with_evaluate(self, **settings):
        return self.recipe.model_copy(
            update={"evaluate": recipe.EvaluateSection(**{"min_slice_rows": 30, "bootstrap": 60} | settings)}
        )


def rows(kind, num_rows, seed):
    """Two features that matter, one that does not, and a group; the target follows a logistic or a linear law."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=num_rows), rng.normal(size=num_rows)
    origin = rng.choice(["EWR", "JFK", "LGA"], num_rows, p=[0.5, 0.3, 0.2])
    signal = 1.2 * x + np.select([origin == "JFK", origin == "LGA"], [-1.0, 0.5])
    target = {
        "binary": rng.random(num_rows) < 1 / (1 + np.exp(-signal)),
        "multiclass": np.array(CLASSES["multiclass"])[np.digitize(signal + rng.logistic(size=num_rows), [-1, 1])],
        "regression": 10 + 3 * signal + rng.normal(size=num_rows),
    }[kind]
    columns = {"x": x, "noise": noise, "origin": origin, "carrier": rng.integers(0, 40, num_rows), "y": target}
    return pa.table({**columns, ROW: np.arange(num_rows), FOLD: pa.array(np.zeros(num_rows), pa.int8())})


def schema_for(kind, *, grouped=False):
    group = Column(name="carrier", type="int64", kind=Kind.CATEGORICAL, role=Role.GROUP if grouped else Role.IGNORE)
    return Schema(
        columns=(
            Column(name="x", type="double", kind=Kind.NUMERIC),
            Column(name="noise", type="double", kind=Kind.NUMERIC),
            Column(name="origin", type="string", kind=Kind.CATEGORICAL),
            group,
            Column(
                name="y",
                type=TARGETS[kind],
                kind=Kind.NUMERIC if kind == "regression" else Kind.CATEGORICAL,
                role=Role.TARGET,
            ),
        )
    )


def stored_split(store, kind, sizes, *, grouped=False):
    schema = schema_for(kind, grouped=grouped)

    def write(folder):
        for seed, (part, num_rows) in enumerate(sizes.items()):
            table = rows(kind, num_rows, seed)
            (folder / part).mkdir()
            half = num_rows // 2
            pq.write_table(table.slice(0, half), folder / part / "part-00000.parquet")
            pq.write_table(table.slice(half), folder / part / "part-00001.parquet")
        return {"schema": schema.model_dump(mode="json"), "num_rows": sizes, "num_folds": 1, "forward": False}

    return Split.open(store, store.put("split", write))


def fitted_bundle(store, split, kind, *, family="linear", threshold=0.5, columns=None):
    task = Task(kind=kind, target="y", classes=CLASSES[kind])
    train = split.table("train")
    statistics = TableStatistics.empty(split.schema, task)
    statistics.update(train)
    made = program.fit(
        plan.choose(split.schema, statistics, recipe.FeaturesSection(columns=columns or {}), "dense"), statistics
    )
    y = np.asarray(encode_target(train["y"], task), np.float64)
    module = models.family(family)
    data = Matrix(made.transform(train), y, tuple(made.names), tuple(made.types))
    model = module.fit(data, None, task, module.params(), seed=0, threads=1)
    return bundle.write(
        store, task=task, schema=split.schema, program=made, family=family, model=model, params={},
        threshold=threshold if kind == "binary" else None, reference=bundle.Reference(statistics), provenance={},
        example={"x": 0.1, "noise": 0.2, "origin": "EWR"},
    )  # fmt: skip


def build(folder, kind, *, num_test=600, family="linear", grouped=False, columns=None):
    store = Store.open(folder)
    split = stored_split(store, kind, {"train": 800, "test": num_test}, grouped=grouped)
    made = fitted_bundle(store, split, kind, family=family, columns=columns)
    chosen = recipe.Recipe(name="demo", target="y", data=recipe.DataSection(source="x.csv"))
    world = World(store, split, made, chosen)
    world.recipe = world.with_evaluate()
    return world


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def make_world(tmp_path):
    """A function from a kind of task to a world of its own."""
    return lambda kind, **options: build(tmp_path, kind, **options)


@pytest.fixture
def world(make_world, kind):
    return make_world(kind)


@pytest.fixture
def binary_world(make_world):
    return make_world("binary")

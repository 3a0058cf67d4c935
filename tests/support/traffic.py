"""A world whose truth is known: rows, a model that knows the true probabilities, and its prediction log."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import bundle, models
from mlsys.features import plan, program
from mlsys.models.matrix import Matrix
from mlsys.recipe import Recipe
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from mlsys.store import Store

UTC = dt.UTC
MONDAY = dt.datetime(2024, 1, 1, tzinfo=UTC)
WEEK = dt.timedelta(weeks=1)
COLOURS = np.array(["blue", "green", "red", "white"])
TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
SCHEMA = Schema(
    columns=(
        Column(name="id", type="string", kind=Kind.TEXT, role=Role.ID),
        Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        Column(name="a", type="double", kind=Kind.NUMERIC),
        Column(name="b", type="double", kind=Kind.NUMERIC),
        Column(name="seats", type="int64", kind=Kind.NUMERIC),
        Column(name="colour", type="string", kind=Kind.CATEGORICAL),
        Column(name="night", type="bool", kind=Kind.BOOLEAN),
        Column(name="late", type="bool", kind=Kind.BOOLEAN, role=Role.TARGET),
    )
)


@dataclass
class Traffic:
    """Rows of the world; what is changed is said by the arguments of `draw`."""

    num_rows: int
    a: np.ndarray
    b: np.ndarray
    colour: np.ndarray
    night: np.ndarray
    seats: np.ndarray
    score: np.ndarray
    late: np.ndarray
    ids: list[str] = field(default_factory=list)

    @classmethod
    def draw(cls, num_rows, seed, *, shift=0.0, nulls=0.05, red=0.1, odds=0.0, blind=False):
        """`shift` of a's mean, `nulls` in b, share of `red`, `odds` of being late that the model does not know.

        A `blind` model's scores belong to other rows.
        """
        rng = np.random.default_rng(seed)
        a, b = rng.normal(shift, 1, num_rows), rng.normal(5, 2, num_rows)
        b[rng.random(num_rows) < nulls] = np.nan
        rest = 1 - red
        colour = COLOURS[rng.choice(4, num_rows, p=[0.5 * rest, 0.3 * rest, red, 0.2 * rest])]
        night, seats = rng.random(num_rows) < 0.3, rng.integers(50, 300, num_rows)
        logit = 1.5 * (a - shift) - 0.8 + night
        score = 1 / (1 + np.exp(-logit))
        late = rng.random(num_rows) < 1 / (1 + np.exp(-logit - odds))
        if blind:
            score = rng.permutation(score)
        ids = [f"{seed}-{number}" for number in range(num_rows)]
        return cls(num_rows, a, b, colour, night, seats, score, late, ids)

    def features(self):
        return {
            "a": self.a,
            "b": pa.array(self.b, mask=np.isnan(self.b)),
            "seats": self.seats,
            "colour": self.colour,
            "night": self.night,
        }

    def labels(self, **columns):
        return pa.table({"id": self.ids, "late": self.late, **columns})


def logged(traffic, start, span=WEEK, *, digest, version="1", event_at=True):
    """The log of rows spread evenly over a span of time."""
    steps = (np.arange(traffic.num_rows) + 0.5) / traffic.num_rows
    times = pa.array([start + span * float(step) for step in steps], pa.timestamp("us", "UTC"))
    count = traffic.num_rows
    return pa.table(
        {
            "prediction_id": traffic.ids,
            "logged_at": times,
            "event_at": times if event_at else pa.nulls(count, pa.timestamp("us", "UTC")),
            "model_version": [version] * count,
            "bundle": [digest] * count,
            "prediction": ["true" if score >= 0.5 else "false" for score in traffic.score],
            "score": traffic.score,
            "probabilities": np.column_stack([1 - traffic.score, traffic.score]).tolist(),
            "latency_ms": [1.0] * count,
            "unseen": pa.array([0] * count, pa.int32()),
            **traffic.features(),
        }
    )


@dataclass
class World:
    """A store with a bundle whose reference is 20,000 rows of the unchanged world."""

    store: Store
    bundle: bundle.Bundle
    folder: object
    baseline: dict

    def write(self, weeks, start=MONDAY, span=WEEK, **options):
        """One log file a window, from traffic in order of time."""
        for number, traffic in enumerate(weeks):
            self.add(logged(traffic, start + span * number, span, digest=self.bundle.digest, **options))
        return self.folder

    def add(self, table):
        day = self.folder / "2024-01-01"
        day.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, day / f"{len(list(day.iterdir())):04d}.parquet")

    @staticmethod
    def recipe(**monitor):
        return Recipe.model_validate(
            {"name": "world", "target": "late", "data": {"source": "-", "id": "id", "time": "at"}, "monitor": monitor}
        )


def statistics_of(traffic):
    found = TableStatistics.empty(SCHEMA, TASK)
    found.update(pa.table({**traffic.features(), "late": traffic.late}))
    return found


def predictions_of(traffic):
    schema = Schema(
        columns=(
            Column(name="prediction", type="string", kind=Kind.CATEGORICAL),
            Column(name="score", type="double", kind=Kind.NUMERIC),
        )
    )
    found = TableStatistics.empty(schema, TASK)
    said = np.where(traffic.score >= 0.5, "true", "false")
    found.update(pa.table({"prediction": said, "score": traffic.score, "late": traffic.late}))
    return found


def fit(store):
    """A stored bundle of a model that stands for any; the log says what it answered."""
    train, validation = Traffic.draw(20_000, 1_000), Traffic.draw(10_000, 1_001)
    statistics = statistics_of(train)
    return stand_in(store, SCHEMA, bundle.Reference(statistics, predictions_of(validation)))


def stand_in(store, schema, reference):
    """A stored bundle of `schema` whose model is the dummy; its features are those of `SCHEMA`."""
    family = models.family("dummy")
    fitted = program.fit(plan.choose(SCHEMA, reference.inputs, encoding="codes"), reference.inputs)
    matrix = Matrix(np.zeros((2, 0), np.float32), np.array([0.0, 1.0]), (), ())
    return bundle.write(
        store,
        task=TASK,
        schema=schema,
        program=fitted,
        family="dummy",
        model=family.fit(matrix, None, TASK, family.params(), seed=0, threads=1),
        params={},
        threshold=0.5,
        reference=reference,
        provenance={},
        example={},
    )


def with_split(store, made, train):
    """The bundle as one that was trained on a stored split whose training rows are `train`."""

    def fill(folder):
        (folder / "train").mkdir()
        pq.write_table(pa.table(train.features()), folder / "train" / "part-0.parquet")
        facts = {"num_rows": {"train": train.num_rows}, "num_folds": 5, "forward": False}
        return {"schema": SCHEMA.model_dump(mode="json"), **facts}

    provenance = {"split": store.put("split", fill)}
    return dataclasses.replace(made, manifest={**made.manifest, "provenance": provenance})

"""Small models of generated rows, fitted and stored by the package's own parts, for tests that serve them."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import bundle, models
from mlsys import label_sets as labels
from mlsys.dataset import Split
from mlsys.features import plan, program
from mlsys.models.matrix import Matrix
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics, encode_target
from mlsys.statistics.hashing import hash_exactly

UTC = dt.UTC
LABELS = ("far", "night")
CLASSES = {
    TaskKind.BINARY: (False, True),
    TaskKind.MULTICLASS: ("blue", "green", "red"),
    TaskKind.MULTILABEL: ("[]", '["far"]', '["night"]', labels.OTHER_SETS),
}
TARGET_TYPE = {
    TaskKind.BINARY: "bool",
    TaskKind.MULTICLASS: "string",
    TaskKind.MULTILABEL: "string",
    TaskKind.REGRESSION: "double",
    TaskKind.RANKING: "int64",
}
GROUP_ROWS = 10
"""Rows of a group of a ranking."""


def schema(kind=TaskKind.BINARY):
    group = Column(name="route", type="string", kind=Kind.CATEGORICAL, role=Role.GROUP)
    return Schema(
        columns=(
            *([group] if kind is TaskKind.RANKING else []),
            Column(name="flight", type="string", kind=Kind.TEXT, role=Role.ID),
            Column(name="scheduled", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
            Column(name="distance", type="double", kind=Kind.NUMERIC, unit="km"),
            Column(name="seats", type="int64", kind=Kind.NUMERIC, nullable=False, minimum=0),
            Column(name="load", type="float", kind=Kind.NUMERIC),
            Column(name="carrier", type="string", kind=Kind.CATEGORICAL),
            Column(name="night", type="bool", kind=Kind.BOOLEAN),
            Column(name="departs", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME),
            Column(name="constant", type="int64", kind=Kind.NUMERIC),
            Column(name="y", type=TARGET_TYPE[kind], kind=Kind.CATEGORICAL, role=Role.TARGET),
        )
    )


def three_files(folder, kind=TaskKind.BINARY):
    """A split whose test part is 900 such rows, in three files of the folder."""
    table = rows(900, 5, kind)
    (folder / "test").mkdir()
    for k in range(3):
        pq.write_table(table.slice(300 * k, 300), folder / "test" / f"part-{k}.parquet")
    return Split("d", folder, schema(kind), {"test": 900}, 2, forward=False)


def rows(num_rows, seed=0, kind=TaskKind.BINARY):
    """Rows with nulls in every column that may have them, and a target that depends on three of them."""
    rng = np.random.default_rng(seed)
    start = dt.datetime(2013, 1, 1, tzinfo=UTC)
    distance = rng.gamma(2.0, 400.0, num_rows)
    carrier = rng.choice(["AA", "B6", "UA", "WN"], num_rows)
    night = rng.random(num_rows) < 0.3
    value = distance / 500 + (carrier == "B6") - night + rng.normal(0, 0.5, num_rows)
    answer = {
        TaskKind.BINARY: lambda: value > np.median(value),
        TaskKind.MULTICLASS: lambda: np.array(CLASSES[kind])[np.digitize(value, np.quantile(value, [0.3, 0.7]))],
        TaskKind.MULTILABEL: lambda: np.array(
            labels.texts((value > np.median(value)) + 2.0 * (night ^ (rng.random(num_rows) < 0.1)), LABELS).to_pylist()
        ),
        TaskKind.REGRESSION: lambda: value,
        TaskKind.RANKING: lambda: np.digitize(value, np.quantile(value, [0.4, 0.8])),
    }[kind]()
    departs = [start + dt.timedelta(minutes=int(minute)) for minute in rng.integers(0, 500_000, num_rows)]

    def holed(values, fraction=0.1):
        return [None if hole else value for value, hole in zip(values, rng.random(num_rows) < fraction, strict=True)]

    groups = [f"R{number // GROUP_ROWS}" for number in range(num_rows)]
    return pa.table(
        {
            **({"route": groups} if kind is TaskKind.RANKING else {}),
            "flight": [f"F{seed}-{number}" for number in range(num_rows)],
            "scheduled": departs,
            "distance": holed(distance.tolist()),
            "seats": rng.integers(50, 400, num_rows).tolist(),
            "load": holed(rng.random(num_rows).astype(np.float32).tolist()),
            "carrier": holed(carrier.tolist()),
            "night": holed(night.tolist()),
            "departs": holed(departs),
            "constant": [7] * num_rows,
            "y": answer.tolist(),
        },
        schema=schema(kind).arrow(),
    )


def requests(table):
    """Rows of a table as a client would send them: JSON values, without the target."""
    records = table.drop_columns(["y"]).to_pylist()
    return [
        {name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in record.items()}
        for record in records
    ]


def fit(store, kind=TaskKind.BINARY, family="xgboost", seed=0, num_rows=400, **changes):
    """A stored bundle of a model that was fitted on generated rows."""
    own = LABELS if kind is TaskKind.MULTILABEL else ()
    task = Task(kind=kind, target="y", classes=CLASSES.get(kind, ()), labels=own)
    if task.is_ranking:
        task = task.model_copy(update={"group": "route"})
    table = rows(num_rows, seed, kind)
    example = requests(table.slice(0, 1))[0]
    return stored(store, table, schema(kind), task, family, seed, **{"example": example, **changes})


def stored(store, table, schema, task, family="xgboost", seed=0, features=None, *, settings=None, **changes):
    """A stored bundle of a model that was fitted on a table; `settings` are parameters of the family."""
    statistics = TableStatistics.empty(schema, task)
    statistics.update(table)
    module, own = models.learner(family, task), models.family(family).params
    encoding = "codes" if module.encoding == "none" else module.encoding
    fitted = program.fit(plan.choose(schema, statistics, features, encoding), statistics)
    params = own(**(settings or ({"rounds": 8} if family == "xgboost" else {})))
    y = labels.numbers(table[task.target], task.labels) if task.labels else encode_target(table[task.target], task)
    matrix = Matrix(
        fitted.transform(table),
        y.astype(np.float64),
        tuple(fitted.names),
        tuple(fitted.types),
        groups=None if task.group is None else hash_exactly(table[task.group]),
    )
    parts = {
        "task": task,
        "schema": schema,
        "program": fitted,
        "family": family,
        "model": module.fit(matrix, None, task, params, seed=seed, threads=1),
        "params": params.model_dump(mode="json"),
        "threshold": {TaskKind.BINARY: 0.4, TaskKind.MULTILABEL: (0.4, 0.6)}.get(task.kind),
        "reference": bundle.Reference(statistics),
        "provenance": {"seed": seed},
    }
    return bundle.write(store, **{**parts, **changes})

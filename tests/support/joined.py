"""A model of rows joined with two feature tables: weather by place and hour, aircraft by name; as a run makes it."""

import datetime as dt

import numpy as np
import pyarrow as pa

from mlsys import bundle, models, recipe
from mlsys.features import plan, program
from mlsys.features.joins import asof
from mlsys.features.online import views
from mlsys.models.matrix import Matrix
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics, encode_target

NAME = "joined"
STAMP = pa.timestamp("us", "UTC")
START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
HOURS = 24 * 20
TASK = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))


def column(name, kind, of=Kind.NUMERIC, **facts):
    return Column(name=name, type=kind, kind=of, **facts)


ROWS = Schema(
    columns=(
        column("flight", "string", Kind.TEXT, role=Role.ID),
        column("at", str(STAMP), Kind.DATETIME, role=Role.TIME),
        column("origin", "string", Kind.CATEGORICAL),
        column("tail", "string", Kind.CATEGORICAL, role=Role.IGNORE),
        column("distance", "double"),
        column("y", "bool", Kind.BOOLEAN, role=Role.TARGET),
    )
)
WEATHER = Schema(columns=(column("station", "string"), column("hour", str(STAMP)), column("temp", "float"),
                          column("wind", "int32")))  # fmt: skip
PLANES = Schema(
    columns=(column("tail", "string"), column("seats", "int64"), column("maker", "string", Kind.CATEGORICAL))
)
JOINS = {
    "weather": recipe.Join(source="weather.csv", keys={"origin": "station"}, time="hour", lookback="2h"),
    "planes": recipe.Join(source="planes.csv", keys=("tail",), prefix="plane_"),
}
TABLES = {"weather": WEATHER, "planes": PLANES}


def tables(seed=0, hours=HOURS):
    """Weather with gaps, nulls and two reports in some hours; aircraft of which some are not known."""
    rng = np.random.default_rng(seed)
    hour = np.sort(rng.integers(0, hours, 2 * hours))
    weather = pa.table(
        {
            "station": rng.choice(["EWR", "JFK"], len(hour)).tolist(),
            "hour": [START + dt.timedelta(hours=int(one)) for one in hour],
            "temp": [
                None if rng.random() < 0.1 else float(np.float32(value)) for value in rng.normal(50, 20, len(hour))
            ],
            "wind": rng.integers(0, 40, len(hour)).tolist(),
        },
        schema=WEATHER.arrow(),
    )
    tails = [f"N{n}" for n in range(30)]
    planes = pa.table({"tail": tails, "seats": rng.integers(50, 400, 30).tolist(),
                       "maker": rng.choice(["AIRBUS", "BOEING"], 30).tolist()}, schema=PLANES.arrow())  # fmt: skip
    return {"weather": weather, "planes": planes}


def rows(num_rows, seed=0, hours=HOURS):
    """Rows of any minute; some places and aircraft are in no table, some are null."""
    rng = np.random.default_rng(seed + 1)
    minutes = rng.integers(0, hours * 60, num_rows)
    distance = rng.gamma(2.0, 400.0, num_rows)
    return pa.table(
        {
            "flight": [f"F{seed}-{n}" for n in range(num_rows)],
            "at": [START + dt.timedelta(minutes=int(one)) for one in minutes],
            "origin": [[None, "EWR", "JFK", "LGA"][at] for at in rng.choice(4, num_rows, p=[0.05, 0.45, 0.4, 0.1])],
            "tail": [None if n > 32 else f"N{n}" for n in rng.integers(0, 34, num_rows)],
            "distance": distance.tolist(),
            "y": (distance + 400 * rng.normal(size=num_rows) > 800).tolist(),
        },
        schema=ROWS.arrow(),
    )


def join(table, of=None):
    """The rows as collect joins them."""
    for name, spec in JOINS.items():
        table, _ = asof.join(table, (of or tables())[name], spec, "at", name)
    return table


def schema(table):
    kinds = {"plane_maker": Kind.CATEGORICAL}
    added = [
        column(name, str(table.schema.field(name).type), kinds.get(name, Kind.NUMERIC))
        for name in table.column_names[len(ROWS) :]
    ]
    return Schema(columns=(*ROWS, *added))


def requests(table, *, keys_only=True):
    """Rows as a client would send them: JSON values, keys in place of the joined columns."""
    names = [name for name in (ROWS.names if keys_only else table.column_names) if name != "y"]
    records = table.select(names).to_pylist()
    return [
        {name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in record.items()}
        for record in records
    ]


def fit(store, num_rows=600, **changes):
    """A stored bundle with the two views."""
    table = join(rows(num_rows))
    whole = schema(table)
    statistics = TableStatistics.empty(whole, TASK)
    statistics.update(table)
    fitted = program.fit(plan.choose(whole, statistics, encoding="codes"), statistics)
    family = models.family("xgboost")
    params = family.params(rounds=8)
    matrix = Matrix(fitted.transform(table), encode_target(table["y"], TASK).astype(np.float64), tuple(fitted.names),
                    tuple(fitted.types))  # fmt: skip
    parts = {
        "task": TASK,
        "schema": whole,
        "program": fitted,
        "family": "xgboost",
        "model": family.fit(matrix, None, TASK, params, seed=0, threads=1),
        "params": params.model_dump(mode="json"),
        "threshold": 0.5,
        "reference": bundle.Reference(statistics),
        "provenance": {},
        "example": requests(table.slice(0, 1), keys_only=False)[0],
        "views": [views.define(name, spec, TABLES[name], whole, owner=NAME) for name, spec in JOINS.items()],
    }
    return bundle.write(store, **{**parts, **changes})

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from mlsys import recipe
from mlsys.features import derive, plan, program
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics

ZONE = "America/New_York"
NOTHING = recipe.FeaturesSection()
TASK = Task(kind=TaskKind.REGRESSION, target="y")

SCHEMA = Schema(
    columns=(
        Column(name="x", type="double", kind=Kind.NUMERIC),
        Column(name="i", type="int64", kind=Kind.NUMERIC),
        Column(name="c", type="string", kind=Kind.CATEGORICAL),
        Column(name="m", type="int16", kind=Kind.CATEGORICAL),
        Column(name="f", type="string", kind=Kind.CATEGORICAL),
        Column(name="b", type="bool", kind=Kind.BOOLEAN),
        Column(name="t", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME),
        Column(name="e", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        Column(name="w", type="timestamp[us]", kind=Kind.DATETIME),
        Column(name="d", type="date32[day]", kind=Kind.DATETIME),
        Column(name="s", type="string", kind=Kind.TEXT),
        Column(name="l", type="list<item: double>", kind=Kind.LIST),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)

NAIVE = dt.datetime(2012, 1, 1)  # noqa: DTZ001 - a clock without zone is the point
ROWS = [
    {
        "x": None if i % 7 == 0 else (i * 37 % 101) / 8,
        "i": i * i - 500,
        "c": None if i % 11 == 0 else ["EWR", "JFK", "LGA", "", "ü"][i % 5],
        "m": [1, 2, 3][i % 3],
        "f": f"N{i % 13}" if i % 17 else None,
        "b": None if i % 5 == 0 else i % 2 == 0,
        "t": NAIVE.replace(tzinfo=dt.UTC) + dt.timedelta(hours=101 * i),
        "e": None if i % 23 == 0 else NAIVE.replace(tzinfo=dt.UTC) + dt.timedelta(minutes=i * i),
        "w": NAIVE + dt.timedelta(hours=67 * i),
        "d": None if i % 19 == 0 else NAIVE.date() + dt.timedelta(days=5 * i),
        "s": "so it goes " * (i % 4),
        "l": None if i % 13 == 0 else [i / 7, None, float(i), -1.5][: i % 5],
        "y": float(i),
    }
    for i in range(150)
]


def scanned(table, schema=SCHEMA, features=NOTHING, task=TASK):
    statistics = TableStatistics.empty(derive.extend(schema, features.derive), task)
    statistics.update(derive.add(table, features.derive))
    return statistics


def fitted(table, schema=SCHEMA, features=NOTHING, encoding="codes", zone=ZONE, task=TASK):
    statistics = scanned(table, schema, features, task)
    return program.fit(plan.choose(schema, statistics, features, encoding, zone), statistics)


@pytest.fixture(scope="session")
def schema():
    return SCHEMA


@pytest.fixture(scope="session")
def scan():
    """Function (table, schema, features): statistics of a table with its derived features."""
    return scanned


@pytest.fixture(scope="session")
def fit():
    """Function (table, schema, features, encoding): the program fitted on all its rows."""
    return fitted


@pytest.fixture(scope="session")
def rows():
    return pa.Table.from_pylist(ROWS, schema=SCHEMA.arrow())


@pytest.fixture(scope="session")
def programs(rows):
    """One program of every operation in each encoding; of derived features too."""
    wanted = recipe.FeaturesSection(columns={"f": "frequency"})
    derived = recipe.FeaturesSection(
        derive={
            "xi": "x * i",
            "local": "t",
            "late": "x > 5",
            "h": "EXTRACT(hour FROM w) * 60 + m",
            "u": "UPPER(c) || m",
        }
    )
    numbers = recipe.FeaturesSection(
        columns={
            "x": [
                {"operation": "numeric", "log": True, "scale": "robust", "impute": -3, "indicator": True},
                {"operation": "numeric", "bins": 5},
                {"operation": "numeric", "scale": "none"},
            ],
            "i": [
                {"operation": "numeric", "log": True},
                {"operation": "numeric", "scale": "robust", "impute": "mean"},
                {"operation": "onehot", "min_rows": 1, "max_categories": 3},
            ],
            "f": ["target", "frequency", {"operation": "hash", "buckets": 7}],
            "c": ["codes", {"operation": "hash", "buckets": 300}],
            "b": ["boolean", "hash", "target"],
            "l": {"operation": "list", "elements": 3},
            "w": [{"operation": "elapsed", "since": "d"}, {"operation": "elapsed", "since": "t"}],
            "d": ["datetime", {"operation": "elapsed", "since": "w"}],
            "m": [{"operation": "target", "smoothing": 3, "min_rows": 60}, "hash"],
            "t": [{"operation": "datetime", "parts": ["hour"], "cyclic": True}, {"operation": "elapsed", "since": "e"}],
        }
    )
    made = {f"{e}": fitted(rows, SCHEMA, wanted, e) for e in ("codes", "dense")}
    made |= {f"options {e}": fitted(rows, SCHEMA, numbers, e) for e in ("codes", "dense")}
    return made | {f"derived {e}": fitted(rows, SCHEMA, derived, e) for e in ("codes", "dense")}

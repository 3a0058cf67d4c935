"""Joins as of a time in plain loops: what `mlsys.features.joins.asof` must give, and tables to try it on."""

import datetime as dt
import math
import random
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import recipe
from mlsys.dataset import Snapshot
from mlsys.schema import Column, Kind, Role, Schema

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
STAMP = pa.timestamp("us", "UTC")
HOUR = dt.timedelta(hours=1)
FUNCTIONS = ("count", "sum", "mean", "min", "max", "distinct")


def at(hour):
    return None if hour is None else START + hour * HOUR


def aggregates(*hours):
    """Every function over the column v in windows of these lengths, and the distinct texts."""
    made = {
        f"{function}_{length}": recipe.Aggregate(
            function=function, column=None if function == "count" else "v", window=f"{length}h"
        )
        for length in hours
        for function in FUNCTIONS
    }
    texts = {f"labels_{n}": recipe.Aggregate(function="distinct", column="label", window=f"{n}h") for n in hours}
    return made | texts


def spec(**settings):
    return recipe.Join(**{"source": "unused.csv", "keys": {"key": "other"}, **settings})


def rows_of(asked, kind="int64"):
    """Pairs of key and hour as rows to be joined."""
    keys = pa.array([key for key, _ in asked], kind, from_pandas=False)
    return pa.table({"key": keys, "t": pa.array([at(h) for _, h in asked], STAMP)})


def table_of(events):
    """Tuples of key, hour, hour it was known, number and label as a feature table."""
    columns = list(zip(*events, strict=True)) or [[]] * 5
    return pa.table(
        {
            "other": pa.array(columns[0], pa.int64()),
            "time": pa.array([at(h) for h in columns[1]], STAMP),
            "known": pa.array([at(h) for h in columns[2]], STAMP),
            "v": pa.array(columns[3], pa.float64()),
            "label": pa.array(columns[4], pa.string()),
        }
    )


def reference(asked, events, *, lookback=None, known_at=False, hours=()):
    """Columns v and label and the aggregates of `hours` for each row, and what became of the rows."""
    found = [_one(key, hour, events, lookback, known_at, hours) for key, hour in asked]
    states = [state for state, _ in found]
    return [values for _, values in found], {
        "matched": states.count("matched"),
        "missing": states.count("missing") + states.count("without_key"),
        "too_old": states.count("too_old"),
        "without_key": states.count("without_key"),
    }


def nothing(name):
    """What an aggregate of this name is of no events."""
    return 0 if name.startswith(("count", "distinct", "labels")) else None


def _one(key, hour, events, lookback, known_at, hours):
    names = [*aggregates(*hours)]
    if key is None or math.isnan(key) or hour is None:
        return "without_key", dict.fromkeys(["v", "label"]) | {name: nothing(name) for name in names}
    seen = []
    for place, (other, time, known, v, label) in enumerate(events):
        learned = known if known_at else time
        if None not in (other, time, learned) and other == key and time <= hour and learned <= hour:
            seen.append((time, learned, place, v, label))
    best = max(seen, key=lambda event: event[:3], default=None)
    fits = best is not None and (lookback is None or hour - best[0] <= lookback)
    state = "matched" if fits else "missing" if best is None else "too_old"
    values = {"v": best[3] if fits else None, "label": best[4] if fits else None}
    for length in hours:
        window = [event for event in seen if hour - length < event[0]]
        numbers = [event[3] + 0.0 for event in window if event[3] is not None and abs(event[3]) <= 3.4e38]
        exact = float(sum(map(Fraction, numbers)))
        values |= {
            f"count_{length}": len(window),
            f"sum_{length}": exact if numbers else None,
            f"mean_{length}": exact / len(numbers) if numbers else None,
            f"min_{length}": min(numbers, default=None),
            f"max_{length}": max(numbers, default=None),
            f"distinct_{length}": len(set(numbers)),
        }
        values[f"labels_{length}"] = len({event[4] for event in window} - {None})
    return state, {name: values[name] for name in ["v", "label", *names]}


def crowd(seed, num_rows=300):
    """Rows and events of few keys and hours: ties, late rows, versions, equal values, boundaries hit many times."""
    rng = random.Random(seed)
    keys, hours = [0, 0, 0, 0, 1, 2, None], range(30)
    asked = [(rng.choice([*keys, 3]), rng.choice(hours)) for _ in range(num_rows)]
    events = []
    for _ in range(num_rows // 3):
        hour = rng.choice(hours)
        events.append(
            (rng.choice(keys), hour, hour + rng.choice([-1, 0, 0, 1, 2, 9]), rng.choice(CROWDED), rng.choice("abc"))
        )
    return asked, events


CROWDED = (1.0, 1.0, 2.0, 0.1, 1e16, -1e16, -0.0, None)


def stored(store, table, columns, pieces, groups=1 << 17):
    """A snapshot of a table: a file for each (start, stop) of `pieces`, in row groups of so many rows."""

    def write(folder):
        (folder / "data").mkdir()
        for number, (start, stop) in enumerate(pieces):
            path = folder / "data" / f"part-{number:05d}.parquet"
            pq.write_table(table.slice(start, stop - start), path, row_group_size=groups)
        schema = Schema(columns=tuple(columns))
        return {"schema": schema.model_dump(mode="json"), "num_rows": table.num_rows}

    return Snapshot.open(store, store.put("snapshot", write))


def stored_rows(store, asked, pieces, groups):
    table = rows_of(asked).append_column("__row", pa.array(range(len(asked)), pa.int64()))
    columns = [
        Column(name="key", type=str(table["key"].type), kind=Kind.CATEGORICAL),
        Column(name="t", type=str(STAMP), kind=Kind.DATETIME, role=Role.TIME),
    ]
    return stored(store, table, columns, pieces, groups)


def stored_table(store, events, pieces, groups):
    columns = [
        Column(name="other", type="int64", kind=Kind.CATEGORICAL),
        Column(name="time", type=str(STAMP), kind=Kind.DATETIME, role=Role.TIME),
        Column(name="known", type=str(STAMP), kind=Kind.DATETIME),
        Column(name="v", type="double", kind=Kind.NUMERIC, unit="mm"),
        Column(name="label", type="string", kind=Kind.CATEGORICAL),
    ]
    return stored(store, table_of(events), columns, pieces, groups)

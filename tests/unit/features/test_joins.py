from __future__ import annotations

import datetime as dt

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, recipe
from mlsys.dataset import Snapshot
from mlsys.features import joins
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.store import Store

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
STAMP = pa.timestamp("us", "UTC")
KEYS = st.sampled_from(["EWR", "JFK", "", None])
HOURS = st.none() | st.integers(-3, 6)


def at(hour):
    return None if hour is None else START + dt.timedelta(hours=hour)


def spec(**settings):
    return recipe.Join(source="unused.csv", **settings)


def as_of(rows, table, lookback):
    """The rule in plain words: the last value of the key at or before the row's time, if not too old."""
    values, counts = [], {"matched": 0, "missing": 0, "too_old": 0}
    for key, when in rows:
        best = None
        for other, known, value in table:
            usable = None not in (key, when, other, known) and other == key and known <= when
            if usable and (best is None or known >= best[0]):
                best = (known, value)
        fits = best is not None and (lookback is None or when - best[0] <= lookback)
        counts["matched" if fits else "missing" if best is None else "too_old"] += 1
        values.append(best[1] if fits else None)
    return values, counts


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, HOURS), max_size=12),
    st.lists(st.tuples(KEYS, HOURS, st.none() | st.integers(0, 99)), max_size=12),
    st.sampled_from([None, 0, 1, 3]),
    st.booleans(),
)
def test_join_as_of_gives_what_the_plain_rule_gives(rows, table, lookback, cut):
    left = pa.table(
        {"origin": pa.array([k for k, _ in rows], pa.string()), "time": pa.array([at(h) for _, h in rows], STAMP)}
    )
    right = pa.table(
        {
            "station": pa.array([k for k, _, _ in table], pa.string()),
            "seen": pa.array([at(h) for _, h, _ in table], STAMP),
            "temp": pa.array([v for _, _, v in table], pa.int32()),
        }
    )
    if cut:  # chunks change nothing
        left, right = (pa.concat_tables([t.slice(0, t.num_rows // 2), t.slice(t.num_rows // 2)]) for t in (left, right))
    wanted = spec(keys={"origin": "station"}, time="seen", lookback=None if lookback is None else f"{lookback}h")
    joined, counts = joins.join(left, right, wanted, "time")
    assert (joined["temp"].to_pylist(), counts) == as_of(rows, table, lookback)
    assert joined["temp"].type == pa.int32()
    assert joined.select(["origin", "time"]).to_pylist() == left.to_pylist()
    assert sum(counts.values()) == len(rows)


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.none() | st.integers(0, 3)), max_size=12), st.sets(st.tuples(KEYS, st.integers(0, 3)))
)
def test_join_without_time_looks_each_key_up(rows, keys):
    left = pa.table({"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.int8())})
    table = sorted(keys, key=repr)
    right = pa.table(
        {
            "a": pa.array([a for a, _ in table], pa.large_string()),
            "b": pa.array([b for _, b in table], pa.int64()),
            "v": [*map(repr, table)],
        }
    )
    joined, counts = joins.join(left, right, spec(keys=("a", "b"), prefix="t_"), None)
    known = {key: repr(key) for key in table if None not in key}
    assert joined["t_v"].to_pylist() == [known.get(key) for key in rows]
    assert counts == {
        "matched": sum(r in known for r in rows),
        "missing": sum(r not in known for r in rows),
        "too_old": 0,
    }


PLANES = pa.table({"tailnum": ["N1", "N2", "N1"], "year": [1999, 2004, 2001]})
FLIGHTS = pa.table({"tailnum": ["N2"], "year": [2013], "time": pa.array([START], STAMP)})


@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"keys": ("tailnum",)}, errors.FeatureError, ["2 rows with tailnum = 'N1'", "time: column"]),
        ({"keys": ("tailnumber",)}, errors.RecipeError, ["did you mean 'tailnum'"]),
        ({"keys": ("tailnum",), "columns": ("yeer",)}, errors.RecipeError, ["did you mean 'year'"]),
        ({"keys": ("tailnum",), "time": "year"}, errors.FeatureError, ["the row's time", "the table's year is Int64"]),
        ({"keys": ("tailnum",), "lookback": "3h"}, errors.FeatureError, ["lookback without time"]),
        ({"keys": ("tailnum",), "time": "year", "lookback": "3 moons"}, errors.RecipeError, ["3 moons", "3h or 2d"]),
        ({"keys": ()}, errors.FeatureError, ["no keys"]),
        (
            {"keys": {"tail": "tailnum"}, "time": "year"},
            errors.FeatureError,
            ["no column 'tail' in the rows", "did you mean 'tailnum'"],
        ),
    ],
)
def test_a_join_that_cannot_be_meant_is_refused(settings, error, parts):
    with pytest.raises(error) as caught:
        joins.join(FLIGHTS.drop_columns(["year"]), PLANES, spec(**settings), "time", name="planes")
    for part in parts:
        assert part in str(caught.value)


def test_a_name_that_is_there_already_is_refused_with_the_prefix_to_write():
    with pytest.raises(errors.FeatureError, match="prefix: planes_"):
        joins.join(FLIGHTS, PLANES.slice(0, 2), spec(keys=("tailnum",)), None, name="planes")


def test_keys_of_different_types_and_times_with_and_without_zone_are_refused():
    with pytest.raises(errors.FeatureError, match=r"tailnum is String, the table's year is Int64"):
        joins.join(FLIGHTS, PLANES.slice(0, 2), spec(keys={"tailnum": "year"}, prefix="p_"), None)
    naive = pa.table({"tailnum": ["N2"], "seen": pa.array([dt.datetime(2013, 1, 1)], pa.timestamp("us")), "v": [1]})  # noqa: DTZ001
    with pytest.raises(errors.FeatureError, match=r"data\.timezone"):
        joins.join(FLIGHTS, naive, spec(keys=("tailnum",), time="seen"), "time")
    with pytest.raises(errors.FeatureError, match=r"data\.time: column"):
        joins.join(FLIGHTS, naive, spec(keys=("tailnum",), time="seen"), None)


def test_whole_numbers_match_whole_floats_and_nan_matches_nothing():
    rows = pa.table({"k": pa.array([1.0, float("nan"), 2.0])})
    table = pa.table({"k": pa.array([1, 2], pa.int16()), "v": ["one", "two"]})
    assert joins.join(rows, table, spec(keys=("k",)), None)[0]["v"].to_pylist() == ["one", None, "two"]


def stored(store, table, columns, parts):
    """A snapshot of a table, cut into part files."""

    def write(folder):
        (folder / "data").mkdir()
        for number, (start, stop) in enumerate(parts):
            pq.write_table(table.slice(start, stop - start), folder / "data" / f"part-{number:05d}.parquet")
        schema = Schema(columns=tuple(columns))
        return {"schema": schema.model_dump(mode="json"), "num_rows": table.num_rows}

    return Snapshot.open(store, store.put("snapshot", write))


def test_assemble_writes_a_snapshot_with_the_joined_columns_file_by_file(tmp_path):
    store = Store.open(tmp_path)
    rows = pa.table(
        {
            "origin": ["EWR", "JFK", "EWR", None],
            "time": pa.array([at(2), at(2), at(9), at(1)], STAMP),
            "__row": [0, 1, 2, 3],
        }
    )
    columns = [
        Column(name="origin", type="string", kind=Kind.CATEGORICAL),
        Column(name="time", type=str(STAMP), kind=Kind.DATETIME, role=Role.TIME),
    ]
    flights = stored(store, rows, columns, [(0, 3), (3, 4)])
    weather = pa.table(
        {"origin": ["EWR", "EWR"], "hour": pa.array([at(1), at(2)], STAMP), "temp": [39.0, 40.5], "__row": [0, 1]}
    )
    told = [
        Column(name="origin", type="string", kind=Kind.CATEGORICAL, nullable=False),
        Column(name="hour", type=str(STAMP), kind=Kind.DATETIME),
        Column(name="temp", type="double", kind=Kind.NUMERIC, nullable=False, unit="°F"),
    ]
    wanted = spec(keys=("origin",), time="hour", lookback="3h", prefix="weather_")
    tables = {"weather": (wanted, stored(store, weather, told, [(0, 2)]))}
    joined = joins.assemble(store, flights, tables)
    assert joined.table()["weather_temp"].to_pylist() == [40.5, None, None, None]
    assert joined.schema["weather_temp"] == Column(name="weather_temp", type="double", kind=Kind.NUMERIC, unit="°F")
    assert [path.name for path in joined.paths] == [path.name for path in flights.paths]
    assert store.facts("snapshot", joined.digest)["joins"] == {"weather": {"matched": 1, "missing": 2, "too_old": 1}}
    assert joined.num_rows == flights.num_rows
    assert joins.assemble(store, flights, tables).digest == joined.digest


def test_a_table_without_rows_joins_nulls():
    empty = pa.table({"tailnum": pa.array([], pa.string()), "seats": pa.array([], pa.int32())})
    joined, counts = joins.join(FLIGHTS, empty, spec(keys=("tailnum",)), None)
    assert joined["seats"].to_pylist() == [None]
    assert counts == {"matched": 0, "missing": 1, "too_old": 0}
    assert pl.from_arrow(joined).height == 1

"""Stored tables, divided and put back: the same snapshot however they are cut."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.dataset import Snapshot
from mlsys.features.joins import asof, assembly
from mlsys.schema import Column, Kind
from mlsys.store import Store
from point_in_time import aggregates, crowd, rows_of, spec, stored, stored_rows, stored_table, table_of

HOURS = st.none() | st.integers(-3, 12)
EVENTS = st.tuples(
    st.none() | st.sampled_from([0, 0, 0, 1, 2]), HOURS, HOURS, st.none() | st.floats(-1e6, 1e6), st.sampled_from("ab")
)
ASKED = st.tuples(st.none() | st.sampled_from([0, 0, 0, 1, 2, 3]), HOURS)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("store"))


def pieces(length, cut):
    return [(0, length)] if cut is None else [(0, min(cut, length)), (min(cut, length), length)]


def work(store, snapshot, tables, part_bytes):
    digest, done = assembly._assemble(store, snapshot, tables, part_bytes)
    return store.facts("snapshot", digest), digest, done


@settings(max_examples=15)
@given(
    st.lists(ASKED, max_size=20),
    st.lists(EVENTS, max_size=20),
    st.none() | st.integers(0, 4),
    st.booleans(),
    st.none() | st.integers(0, 10),
    st.integers(1, 7),
)
def test_parts_and_ranges_of_time_give_what_the_whole_gives(store, asked, events, lookback, known_at, cut, groups):
    wanted = spec(
        time="time",
        known_at="known" if known_at else None,
        columns=("v", "label"),
        lookback=None if lookback is None else f"{lookback}h",
        aggregates=aggregates(1, 4),
    )
    whole, counts = asof.join(rows_of(asked), table_of(events), wanted, "t")
    rows = stored_rows(store, asked, pieces(len(asked), cut), groups)
    tables = {"events": (wanted, stored_table(store, events, pieces(len(events), cut), groups))}
    once = assembly.assemble(store, rows, tables).snapshot
    facts, digest, _ = work(store, rows, tables, 150)  # bytes: a few rows each
    assert digest == once.digest
    assert facts["joins"] == {"events": counts}
    assert once.table().drop_columns(["__row"]).equals(whole)
    assert once.table()["__row"].to_pylist() == list(range(len(asked)))


@pytest.mark.parametrize("known_at", ["known", None])
@pytest.mark.parametrize(("lookback", "hours"), [("6h", (1, 4)), (None, ())])
def test_crowded_keys_divided_by_time_see_what_the_whole_sees(store, known_at, lookback, hours):
    asked, events = crowd(seed=5)
    if not hours:  # long after the last event its value still counts
        events = [event for event in events if event[1] < 8]
    wanted = spec(
        time="time", known_at=known_at, columns=("v", "label"), lookback=lookback, aggregates=aggregates(*hours)
    )
    tables = {"events": (wanted, stored_table(store, events, [(0, 10), (10, len(events))], 5))}
    rows = stored_rows(store, asked, [(0, 100), (100, 300)], 30)
    whole, counts = asof.join(rows_of(asked), table_of(events), wanted, "t")
    facts, digest, done = work(store, rows, tables, 1_000)
    assert done["events"]["split"] >= 1
    assert done["events"]["tasks"] > 10
    assert Snapshot.open(store, digest).table().drop_columns(["__row"]).equals(whole)
    assert facts["joins"] == {"events": counts}
    assert digest == assembly.assemble(store, rows, tables).snapshot.digest


def test_a_part_of_one_frequent_key_is_divided_by_time(store):
    asked = [(1, hour) for hour in range(400)] + [(2, 0)]
    events = [(1, hour, hour, float(hour), "x") for hour in range(400)]
    wanted = {"events": (spec(time="time"), stored_table(store, events, [(0, 400)], 50))}
    rows = stored_rows(store, asked, [(0, 401)], 50)
    _, digest, done = work(store, rows, wanted, 8_000)
    assert digest == assembly.assemble(store, rows, wanted).snapshot.digest
    assert done["events"]["split"] == 1
    assert done["events"]["tasks"] >= 4
    assert done["events"]["largest_task_bytes"] < 10_000  # keys, times and values of all: over 30,000


def test_a_file_without_rows_has_no_row_group_and_joins_nulls(store):
    wanted = spec(time="time", columns=("v",), aggregates=aggregates(1))
    empty = stored_table(store, [], [(0, 0)], 1)
    pq.ParquetWriter(empty.paths[0], empty.schema.arrow()).close()
    assert pq.read_metadata(empty.paths[0]).num_row_groups == 0
    rows = stored_rows(store, [(1, 1), (None, 1)], [(0, 2)], 10)
    joined = assembly.assemble(store, rows, {"events": (wanted, empty)}).snapshot.table()
    assert joined["v"].to_pylist() == [None, None]
    assert joined["count_1"].to_pylist() == [0, 0]


def test_a_table_may_be_joined_on_what_another_has_brought(store):
    events = stored_table(store, [(1, 0, 0, 2.0, "a")], [(0, 1)], 10)
    table = pa.table({"label": ["a", "b"], "colour": ["red", "blue"]})
    colours = stored(
        store, table, [Column(name=n, type="string", kind=Kind.CATEGORICAL) for n in ("label", "colour")], [(0, 2)]
    )
    rows = stored_rows(store, [(1, 1), (2, 1)], [(0, 1), (1, 2)], 10)
    first = spec(time="time", columns=("v", "label"), prefix="last_")
    second = spec(keys={"last_label": "label"}, lookback=None)
    done = assembly.assemble(store, rows, {"events": (first, events), "colours": (second, colours)})
    assert done.snapshot.table()["colour"].to_pylist() == ["red", None]
    assert done.snapshot.schema.names == ["key", "t", "last_v", "last_label", "colour"]
    assert done.report["joins"]["colours"]["matched"] == 1


def test_the_schema_tells_types_and_units_of_what_was_joined(store):
    told = aggregates(1)
    events = stored_table(store, [(1, 0, 0, 2.0, "a")], [(0, 1)], 10)
    rows = stored_rows(store, [(1, 1)], [(0, 1)], 10)
    joined = assembly.assemble(store, rows, {"events": (spec(time="time", columns=("v",), aggregates=told), events)})
    schema = joined.snapshot.schema
    assert schema["v"] == Column(name="v", type="double", kind=Kind.NUMERIC, unit="mm")
    assert schema["mean_1"] == Column(name="mean_1", type="double", kind=Kind.NUMERIC, unit="mm")
    assert schema["count_1"] == Column(name="count_1", type="int64", kind=Kind.NUMERIC)
    assert schema["labels_1"] == Column(name="labels_1", type="int64", kind=Kind.NUMERIC)
    assert joined.snapshot.table().schema.equals(pq.read_schema(joined.snapshot.paths[0]))
    assert [str(joined.snapshot.table()[c.name].type) for c in schema] == [c.type for c in schema]


def test_a_key_that_is_twice_in_a_table_without_time_is_refused_in_any_plan(store):
    events = stored_table(store, [(1, 0, 0, 2.0, "a"), (1, 1, 1, 3.0, "b")], [(0, 1), (1, 2)], 10)
    rows = stored_rows(store, [(1, 1)], [(0, 1)], 10)
    for part_bytes in (None, 50):
        with pytest.raises(errors.FeatureError, match="2 rows with other = 1"):
            work(store, rows, {"events": (spec(columns=("v",)), events)}, part_bytes)


def test_the_plan_is_told_with_its_reason(store):
    events = stored_table(store, [(1, 0, 0, 2.0, "a")], [(0, 1)], 10)
    said = []
    done = assembly.assemble(
        store, stored_rows(store, [(1, 1)], [(0, 1)], 10), {"events": (spec(time="time"), events)}, said.append
    )
    assert done.report["plan"]["kind"] == "task"
    assert done.report["plan"]["reason"] in said[0]
    assert done.report["joins"]["events"]["work"]["tasks"] == 1

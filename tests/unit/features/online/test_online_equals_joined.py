"""A row at prediction time gets what the row of that moment got for training, bit for bit."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import recipe
from mlsys.features.joins import asof
from mlsys.features.online import events, lookup, publishing, views
from mlsys.features.online.lookup import open_store
from mlsys.schema import Column, Kind, Role, Schema

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
STAMP = pa.timestamp("us", "UTC")
FAR = START + dt.timedelta(days=1000)
KEYS = st.sampled_from(["EWR", "JFK", "Zürich", "", '"', None])
GATES = st.sampled_from([-1.0, -0.0, 0.0, 7.0, 0.5, float("nan"), None])
HOURS = st.none() | st.integers(-3, 6)
TEMPS = st.none() | st.integers(-9, 99)
RAIN = st.none() | st.floats(width=32)
EVENTS = st.lists(st.tuples(KEYS, GATES, HOURS, HOURS, TEMPS, RAIN), max_size=14)
ROWS = st.lists(st.tuples(KEYS, st.none() | st.integers(-1, 8), st.none() | st.integers(-4, 9)), min_size=1, max_size=8)

TABLE = Schema(
    columns=(
        Column(name="station", type="string", kind=Kind.CATEGORICAL),
        Column(name="gate", type="double", kind=Kind.NUMERIC),
        Column(name="seen", type=str(STAMP), kind=Kind.DATETIME),
        Column(name="written", type=str(STAMP), kind=Kind.DATETIME),
        Column(name="temp", type="int32", kind=Kind.NUMERIC),
        Column(name="rain", type="float", kind=Kind.NUMERIC),
    )
)
REQUEST = Schema(
    columns=(
        Column(name="origin", type="string", kind=Kind.CATEGORICAL),
        Column(name="gate", type="int64", kind=Kind.NUMERIC),
        Column(name="at", type=str(STAMP), kind=Kind.DATETIME, role=Role.TIME),
    )
)


def when(hour):
    return None if hour is None else START + dt.timedelta(hours=hour)


def table_of(found):
    columns = list(zip(*found, strict=True)) or [[]] * 6
    parts = [columns[0], columns[1], [when(h) for h in columns[2]], [when(h) for h in columns[3]], *columns[4:]]
    return pa.table([pa.array(list(part), field.type) for part, field in zip(parts, TABLE.arrow(), strict=True)],
                    schema=TABLE.arrow())  # fmt: skip


def rows_of(asked):
    keys, gates, hours = zip(*asked, strict=True)
    parts = [keys, gates, [when(h) for h in hours]]
    return pa.table([pa.array(list(part), f.type) for part, f in zip(parts, REQUEST.arrow(), strict=True)],
                    schema=REQUEST.arrow())  # fmt: skip


def join(*, two_keys=False, **settings):
    keys = {"origin": "station"} | ({"gate": "gate"} if two_keys else {})
    plain = {"columns": ("temp", "rain"), "prefix": "w_", "time": "seen"}
    return recipe.Join(source="unused.csv", keys=keys, **(plain | settings))


def online(view, store, rows):
    """What each row is answered: status by status, value by value."""
    records = rows.to_pylist()
    keys = [view.key([record[key.column] for key in view.keys]) for record in records]
    state = store.read({view.id: {key for key in keys if key}})[view.id]
    times = [None if record["at"] is None else views.micros(record["at"]) for record in records]
    return [
        lookup.look_up(view, state.values.get(key), moment) for key, moment in zip(keys, times, strict=True)
    ], events.ViewFacts(**state.facts)  # fmt: skip


def publish(store, view, table, **settings):
    return publishing.publish(store, view, table, **({"history": "400d", "until": FAR} | settings))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    return open_store("sqlite", tmp_path_factory.mktemp("parity"))


@pytest.fixture(scope="module")
def redis(redis_server, tmp_path_factory):
    return open_store(redis_server, tmp_path_factory.mktemp("parity"))


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def store(request):
    return request.getfixturevalue(request.param)


def as_bits(values):
    """Values whose equality tells 0.0 from -0.0, 1 from 1.0, and finds NaN equal to NaN."""
    return [(type(value), repr(value)) for value in values]


def check(store, found, asked, wanted, **settings):
    """The online answer equals the joined row, for every moment that the store answers for."""
    table, rows = table_of(found), rows_of(asked)
    view = views.define("weather", wanted, TABLE, REQUEST, owner="flights")
    publish(store, view, table, whole=True, **settings)
    joined, counts = asof.join(rows, table, wanted, "at")
    answers, facts = online(view, store, rows)
    for row, answer, expected in zip(rows.to_pylist(), answers, joined.select(view.names).to_pylist(), strict=True):
        asked_us = None if row["at"] is None else views.micros(row["at"])
        if facts.since_us is None or asked_us is None or asked_us >= facts.since_us:
            assert as_bits(answer.values.values()) == as_bits(expected.values())
    if facts.since_us is None:
        statuses = [answer.status for answer in answers]
        told = ("matched", "missing", "too_old")
        assert [statuses.count(status) for status in told] == [counts[status] for status in told]


AGGREGATES = {
    "n": {"function": "count", "window": "2h"},
    "sum": {"function": "sum", "column": "rain", "window": "3h"},
    "mean": {"function": "mean", "column": "rain", "window": "1h"},
    "low": {"function": "min", "column": "rain", "window": "3h"},
    "high": {"function": "max", "column": "temp", "window": "3h"},
    "kinds": {"function": "distinct", "column": "temp", "window": "4h"},
}
WANTED = st.builds(
    join,
    two_keys=st.booleans(),
    lookback=st.sampled_from([None, "0h", "2h"]),
    known_at=st.sampled_from([None, "written"]),
    columns=st.sampled_from([("temp", "rain"), ("rain",), ()]),
    aggregates=st.sampled_from([{}, AGGREGATES]),
).filter(lambda wanted: wanted.columns or wanted.aggregates)


@settings(max_examples=50)
@given(EVENTS, ROWS, WANTED)
def test_an_online_row_equals_the_training_row_of_the_same_moment(store, found, asked, wanted):
    check(store, found, asked, wanted)


@settings(max_examples=50)
@given(EVENTS, ROWS, WANTED, st.sampled_from(["0h", "1h", "4h"]))
def test_a_bounded_history_answers_alike_from_its_beginning_on(sqlite, found, asked, wanted, history):
    check(sqlite, found, asked, wanted, history=history)

"""Remembered events answer as the store would, and never for a state that has passed."""

import datetime as dt
import json
import threading

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import recipe
from mlsys.features.online import event_cache, publishing, views
from mlsys.features.online.event_cache import EventCache
from mlsys.features.online.lookup import PointQuery, StoreSource, look_up, open_store
from mlsys.schema import Column, Kind, Role, Schema

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
STAMP = "timestamp[us, tz=UTC]"
TABLE = Schema(
    columns=(
        Column(name="k", type="string", kind=Kind.CATEGORICAL),
        Column(name="t", type=STAMP, kind=Kind.DATETIME),
        Column(name="v", type="double", kind=Kind.NUMERIC),
    )
)
REQUEST = Schema(
    columns=(
        Column(name="k", type="string", kind=Kind.CATEGORICAL),
        Column(name="at", type=STAMP, kind=Kind.DATETIME, role=Role.TIME),
    )
)
MEAN = {"mean": {"function": "mean", "window": "3h", "column": "v"}}


def hour(number):
    return START + dt.timedelta(hours=number)


@pytest.fixture(scope="module")
def view():
    join = recipe.Join(source="w.csv", keys=("k",), time="t", columns=("v",), aggregates=MEAN)
    return views.define("weather", join, TABLE, REQUEST, owner="flights")


def publish(store, view, rows):
    keys, hours, values = zip(*rows, strict=True)
    times = pa.array([hour(number) for number in hours], pa.timestamp("us", "UTC"))
    table = pa.table({"k": keys, "t": times, "v": pa.array(values, pa.float64())})
    publishing.publish(store, view, table, history="100d", until=hour(1_000))


class Counting:
    """A store that counts what it is asked, and may be written to while it is read."""

    def __init__(self, store):
        self.store, self.reads, self.before_read = store, 0, []

    def read_versioned(self, asked):
        self.reads += bool(asked)
        if asked and self.before_read:
            self.before_read.pop(0)()
        return self.store.read_versioned(asked)

    def read(self, asked):
        self.reads += 1
        return self.store.read(asked)


@pytest.fixture(params=["sqlite", "redis"])
def address(request):
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis_server")


@pytest.fixture
def world(tmp_path, view, address):
    """A writer, and a reader of another connection."""
    writer = open_store(address, tmp_path)
    for name in writer.views():
        writer.drop(name)
    publish(writer, view, [("a", number, float(number)) for number in range(10)] + [("b", 0, 7.0)])
    return writer, Counting(open_store(address, tmp_path))


def ask(source, view, *pairs):
    found = source.rows([PointQuery(view, {"k": key, "at": hour(number)}) for key, number in pairs])
    return [(features.status, *features.values.values()) for features in found]


@given(text=st.text() | st.sampled_from(['"', "\\", "\n\x00\x7f", "é\u2028", "\ud800"]))
def test_a_key_of_text_is_written_as_json_writes_a_list_of_it(text):
    keys = ({"column": "k", "of_table": "k", "kind": "text"},)
    join = recipe.Join(source="w.csv", keys=("k",))
    view = views.FeatureView(
        name="w", id="w", join=join, timezone="UTC", keys=keys, clock=None, stored={"v": "double"}, columns={"v": "v"}
    )
    assert view.key([text]) == json.dumps([text], ensure_ascii=False)
    assert view.key([None]) is None


def test_what_was_asked_for_before_is_not_read_again(world, view):
    _, store = world
    source = StoreSource(store)
    pairs = [("a", 4), ("b", 2), ("nobody", 3), (None, 3)]
    first = ask(source, view, *pairs)
    assert first == [("matched", 4.0, 3.0), ("matched", 7.0, 7.0), ("missing", None, None), ("missing", None, None)]
    assert store.reads == 1
    assert ask(source, view, *pairs, ("a", 9)) == [*first, ("matched", 9.0, 8.0)]
    assert store.reads == 1


def test_remembered_events_answer_as_stored_ones_at_every_moment(world, view):
    _, store = world
    source, key = StoreSource(store), view.key(["a"])
    value = store.store.read({view.id: [key]})[view.id].values[key]
    for number in [*range(12), *range(12)]:
        (answer,) = source.rows([PointQuery(view, {"k": "a", "at": hour(number)})])
        assert answer == look_up(view, value, views.micros(hour(number)))


def test_answers_are_the_callers_to_change(world, view):
    source = StoreSource(world[1])
    query = PointQuery(view, {"k": "a", "at": hour(3)})
    source.rows([query])[0].values.clear()
    assert source.rows([query])[0].values == {"v": 3.0, "mean": 2.0}


def test_what_another_connection_writes_is_seen_by_the_next_request(world, view):
    writer, store = world
    source = StoreSource(store)
    assert ask(source, view, ("a", 9))[0][1] == 9.0
    publish(writer, view, [("a", 9, -1.0)])
    assert ask(source, view, ("a", 9))[0][1] == -1.0
    publish(store.store, view, [("a", 9, -2.0)])
    assert ask(source, view, ("a", 9))[0][1] == -2.0, "nor does a connection miss what it writes itself"


def test_a_write_between_remembered_and_read_keys_gives_no_mixture(world, view):
    """The request has two keys that a writer changes together; one of them is remembered."""
    writer, store = world
    source = StoreSource(store)

    def write(value):
        return lambda: publish(writer, view, [("a", 9, value), ("b", 9, value)])

    write(1.0)()
    assert ask(source, view, ("a", 9))[0][1] == 1.0
    store.before_read = [write(2.0)]
    assert {answer[1] for answer in ask(source, view, ("a", 9), ("b", 9))} == {2.0}
    store.before_read = [write(float(number)) for number in range(3, 20)]
    publish(writer, view, [("a", 9, 2.5)])
    answers = {answer[1] for answer in ask(source, view, ("a", 9), ("b", 9))}
    assert len(answers) == 1, "however often somebody writes"
    assert store.before_read, "and it does not try for ever"


def test_memory_is_bounded_and_the_oldest_go_first(world, view, monkeypatch):
    writer, store = world
    publish(writer, view, [(f"k{number}", 0, 1.0) for number in range(20)])
    monkeypatch.setattr(event_cache, "MAX_KEYS", 5)
    source = StoreSource(store)
    for number in (*range(20), 19, 18):
        ask(source, view, (f"k{number}", 1))
    assert store.reads == 20
    ask(source, view, ("k0", 1))
    assert store.reads == 21
    monkeypatch.setattr(event_cache, "MAX_BYTES", 0)
    assert ask(source, view, *((f"k{number}", 1) for number in range(20))) == [("matched", 1.0, 1.0)] * 20
    assert len(source._events._remembered()._events) == 0


def test_many_rows_at_once_push_nothing_out(world, view):
    _, store = world
    source = StoreSource(store)
    ask(source, view, ("a", 1))
    ask(source, view, *[("b", 1)] * (event_cache.MAX_PAIRS + 1))
    assert store.reads == 2
    ask(source, view, ("a", 1))
    assert store.reads == 2


def test_each_thread_remembers_by_the_version_of_its_own_connection(world, view):
    writer, store = world
    source = StoreSource(store)
    answers = []

    def work():
        for _ in range(50):
            answers.extend(ask(source, view, ("a", 4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    publish(writer, view, [("b", 1, 0.0)])
    for thread in threads:
        thread.join()
    assert answers == [("matched", 4.0, 3.0)] * 200


def test_a_state_without_a_name_is_read_each_time(world, view):
    _, store = world
    named, store.read_versioned = store.read_versioned, lambda asked: (None, named(asked)[1])
    cache = EventCache(store)
    for _ in range(3):
        ((facts, events),) = cache.read([(view, view.key(["a"]))])
        assert facts["since_us"] is None or facts["since_us"] <= views.micros(START)
        assert len(events.times) == 10
    assert store.reads == 3
    assert cache.read([]) == []


def test_a_redis_server_that_lost_its_data_and_got_others_is_read_anew(redis_server, tmp_path, view):
    import redis

    writer, source = open_store(redis_server, tmp_path), StoreSource(open_store(redis_server, tmp_path))
    for value in (1.0, 2.0):
        with redis.Redis.from_url(redis_server) as admin:
            admin.flushall()
        publish(writer, view, [("a", 9, value)])
        assert ask(source, view, ("a", 9))[0][1] == value

"""Files behind those that the store has taken: it ends as if all had been read again."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import recipe
from mlsys.dataset import Snapshot
from mlsys.features.online import lookup, publishing, views
from mlsys.features.online.lookup import open_store
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.store import Store

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
NOW = START + dt.timedelta(days=100)
STAMP = pa.timestamp("us", "UTC")
KEYS = "abc"
JOINS = {
    "last": {},
    "recent": {"lookback": "3h"},
    "known": {"known_at": "known"},
    "counted": {
        "known_at": "known",
        "aggregates": {
            "n": {"function": "count", "window": "5h"},
            "s": {"function": "sum", "column": "v", "window": "5h"},
        },
    },
}  # fmt: skip


def column(name, kind, **facts):
    return Column(name=name, type=kind, kind=Kind.NUMERIC, **facts)


TABLE = Schema(
    columns=(column("k", "string"), column("t", str(STAMP)), column("known", str(STAMP)), column("v", "double"))
)
REQUEST = Schema(columns=(column("k", "string"), column("at", str(STAMP), role=Role.TIME)))


def view(name):
    join = recipe.Join(source="w/", keys=("k",), time="t", columns=("v",), **JOINS[name])
    return views.define("weather", join, TABLE, REQUEST, owner="flights")


def snapshot(store, files):
    """Files of rows (key, hour, value, hour when known)."""

    def fill(folder):
        (folder / "data").mkdir()
        for number, rows in enumerate(files):
            key, hour, value, known = zip(*rows, strict=True) if rows else ((), (), (), ())
            times = [pa.array([START + dt.timedelta(hours=h) for h in hours], STAMP) for hours in (hour, known)]
            columns = [pa.array(key, pa.string()), *times, pa.array(value, pa.float64())]
            pq.write_table(
                pa.table(columns, names=["k", "t", "known", "v"]), folder / f"data/part-{number:05d}.parquet"
            )
        return {"schema": TABLE.model_dump(mode="json"), "num_rows": sum(map(len, files))}

    return Snapshot.open(store, store.put("snapshot", fill))


def bring(online, of, taken, **changes):
    asked = {"history": "20h", "until": NOW, "digest": "", "whole": False}
    return publishing.publish_snapshot(online, of, taken, **(asked | changes))


def answers(online, of):
    """Facts, and what each key is answered at every hour that the store remembers."""
    texts = [of.key([key]) for key in KEYS]
    found = online.read({of.id: texts})[of.id]
    hours = [views.micros(START + dt.timedelta(hours=hour)) for hour in range(70)]
    remembered = [at for at in hours if at >= ((found.facts or {}).get("since_us") or 0)]
    return found.facts, [lookup.look_up(of, found.values.get(text), at) for text in texts for at in remembered]


ROWS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(0, 60), st.integers(0, 9), st.integers(0, 6)).map(
        lambda row: (row[0], row[1], float(row[2]), row[1] + row[3])
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5), st.sampled_from(list(JOINS)))
def test_one_file_after_another_is_all_files_at_once(tmp_path_factory, files, name):
    """Rows in no order, at equal moments, later than they were known: every answer is equal."""
    root = tmp_path_factory.mktemp("s")
    store, of = Store.open(root), view(name)
    steps, once = open_store("sqlite", root / "a"), open_store("sqlite", root / "b")
    for number in range(1, len(files) + 1):
        done = bring(steps, of, snapshot(store, files[:number]))
        assert done.num_files == 1
    bring(once, of, snapshot(store, files))
    assert answers(steps, of) == answers(once, of)


A, B, C = [("a", 1, 1.0, 1), ("b", 2, 2.0, 2)], [("a", 1, 5.0, 1), ("a", 0, 7.0, 3)], [("c", 4, 3.0, 4)]


@pytest.fixture
def world(tmp_path):
    return Store.open(tmp_path), open_store("sqlite", tmp_path)


def test_only_new_files_are_read_and_a_second_time_none(world):
    store, online = world
    of = view("counted")
    assert bring(online, of, snapshot(store, [A, B])).num_files == 2
    assert bring(online, of, snapshot(store, [A, B, C])).num_files == 1
    before = answers(online, of)
    again = bring(online, of, snapshot(store, [A, B, C]))
    assert (again.num_files, again.num_keys) == (0, 0)
    assert answers(online, of) == before


@pytest.mark.parametrize("files", [[C, A, B], [A, C], [B, A, C], [[*A, *C], B]])
def test_a_file_that_went_changed_or_came_between_means_that_all_are_read(world, files):
    store, online = world
    of = view("counted")
    bring(online, of, snapshot(store, [A, B]))
    assert bring(online, of, snapshot(store, files)).num_files == len(files)
    assert bring(online, of, snapshot(store, [*files, A])).num_files == len(files) + 1  # what is held is a mixture
    bring(online, of, snapshot(store, files), whole=True)
    assert bring(online, of, snapshot(store, [*files, A])).num_files == 1


def test_a_late_row_of_a_new_file_does_not_overwrite_a_newer_value(world):
    store, online = world
    of = view("last")
    for files in ([A], [A, [("a", 0, 9.0, 0)]]):
        bring(online, of, snapshot(store, files))
    found = answers(online, of)
    fresh = open_store("sqlite", store.root / "fresh")
    bring(fresh, of, snapshot(store, [[*A, ("a", 0, 9.0, 0)]]))
    assert found[1] == answers(fresh, of)[1]


def test_while_a_row_lies_in_the_future_all_files_are_read_for_it_becomes_the_newest_one_day(world):
    store, online = world
    of, files = view("recent"), [A, [("a", 24 * 200, 1.0, 24 * 200)]]
    for number in (1, 2, 2):
        done = bring(online, of, snapshot(store, files[:number]))
    assert done.num_files == 2
    later = bring(online, of, snapshot(store, files), until=START + dt.timedelta(days=300))
    assert later.newest_us == views.micros(START + dt.timedelta(days=200))


def test_a_table_without_time_is_read_whole_for_a_key_may_stand_in_it_once(world):
    store, online = world
    join = recipe.Join(source="w/", keys=("k",), columns=("v",))
    of = views.define("weather", join, TABLE, REQUEST, owner="flights")
    for files in ([A], [A, C]):
        assert bring(online, of, snapshot(store, files)).num_files == len(files)


SCRIPT = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[4])
    from pathlib import Path
    from test_publishing_new_files import bring, view
    from mlsys.dataset import Snapshot
    from mlsys.features.online.sqlite_store import SQLiteStore
    from mlsys.store import Store

    def wait(where):
        if sys.argv[3] == where:
            print(where, flush=True)
            sys.stdin.read()

    class Slow(SQLiteStore):
        def update(self, view, keys, change):
            def slow(state):
                made = change(state)
                wait("within")
                return made
            super().update(view, keys, slow)
            wait("after")

    store = Store.open(sys.argv[1])
    bring(Slow(store.root / "online" / "features.sqlite"), view("counted"), Snapshot.open(store, sys.argv[2]))
""")


@pytest.mark.parametrize(("where", "num_files"), [("within", 1), ("after", 0)])
def test_a_process_killed_while_it_publishes_leaves_each_row_taken_exactly_once(world, where, num_files):
    store, online = world
    of, after = view("counted"), snapshot(store, [A, B])
    bring(online, of, snapshot(store, [A]))
    arguments = [str(store.root), after.digest, where, str(Path(__file__).parent)]
    with subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline().decode().strip() == where
        os.kill(process.pid, signal.SIGKILL)
    assert bring(online, of, after).num_files == num_files
    fresh = open_store("sqlite", store.root / "fresh")
    bring(fresh, of, after)
    assert answers(online, of) == answers(fresh, of)

"""What publishing does to a view: idempotent, in any order, bounded, and safe from one wrong date."""

import datetime as dt
import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, recipe
from mlsys.dataset import Snapshot
from mlsys.features.online import events, lookup, publishing, views
from mlsys.features.online.lookup import open_store
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.store import Store

START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
STAMP = pa.timestamp("us", "UTC")
NOW = START + dt.timedelta(days=100)
HOUR_US = 3_600_000_000
COUNT = {"n": {"function": "count", "window": "2h"}}


def column(name, kind, **facts):
    return Column(name=name, type=kind, kind=Kind.NUMERIC, **facts)


TABLE = Schema(
    columns=(column("k", "string"), column("t", str(STAMP)), column("known", str(STAMP)), column("v", "double"))
)
REQUEST = Schema(columns=(column("k", "string"), column("at", str(STAMP), role=Role.TIME)))


def hours(*values):
    return pa.array([START + dt.timedelta(hours=value) for value in values], STAMP)


def table(*rows):
    """Rows of (key, hour, value), or (key, hour, value, hour when known)."""
    return pa.table(
        {
            "k": pa.array([row[0] for row in rows], pa.string()),
            "t": hours(*(row[1] for row in rows)),
            "v": pa.array([row[2] for row in rows], pa.float64()),
            "known": hours(*(row[3] if len(row) > 3 else row[1] for row in rows)),
        }
    )


def view(**changes):
    join = recipe.Join(**({"source": "w.csv", "keys": ("k",), "time": "t", "columns": ("v",)} | changes))
    return views.define("weather", join, TABLE, REQUEST, owner="flights")


@pytest.fixture
def store(tmp_path):
    return open_store("sqlite", tmp_path)


def publish(store, of, rows, **changes):
    return publishing.publish(store, of, rows, **({"history": "1d", "until": NOW} | changes))


def at(store, of, key, hour):
    text = of.key([key])
    state = store.read({of.id: [text]})[of.id]
    found = lookup.look_up(of, state.values.get(text), views.micros(START) + int(hour * HOUR_US))
    return found.status, found.age_us, *found.values.values()


def kept(store, of, key="a"):
    text = of.key([key])
    value = store.read({of.id: [text]})[of.id].values.get(text)
    return [] if value is None else [round((t - views.micros(START)) / HOUR_US) for t in
                                     events.read_events(of, value).column(0).to_pylist()]  # fmt: skip


def facts(store, of):
    return store.read({of.id: []})[of.id].facts


def test_publishing_twice_changes_nothing(store):
    of, rows = view(), table(("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 3.0))
    assert publish(store, of, rows, digest="x").num_keys == 2
    before = facts(store, of), kept(store, of)
    assert publish(store, of, rows, digest="x").num_keys == 0
    assert (facts(store, of), kept(store, of)) == before


def test_a_late_event_takes_its_place_by_its_time(store):
    of = view()
    publish(store, of, table(("a", 0, 1.0), ("a", 4, 5.0)))
    assert publish(store, of, table(("a", 2, 3.0))).num_keys == 1
    assert [at(store, of, "a", hour)[2] for hour in (1, 2, 3, 4)] == [1.0, 3.0, 3.0, 5.0]


def test_a_corrected_event_replaces_the_one_of_its_moment(store):
    of = view(aggregates=COUNT)
    publish(store, of, table(("a", 1, 1.0), ("a", 1, 1.5)))
    assert at(store, of, "a", 1) == ("matched", 0, 1.5, 2)
    publish(store, of, table(("a", 1, 2.0)))
    assert at(store, of, "a", 1) == ("matched", 0, 2.0, 1)


CHUNKS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 9)), max_size=10, unique_by=lambda e: e[:2]
)


@settings(max_examples=15)
@given(CHUNKS, st.integers(0, 10), st.sampled_from([{}, {"lookback": "2h"}, {"aggregates": COUNT}]), st.data())
def test_tables_in_parts_and_in_any_order_are_the_whole_table(rows, cut, changes, data):
    import tempfile
    from pathlib import Path

    of = view(**changes)
    parts = data.draw(st.permutations([rows[:cut], rows[cut:], rows[cut // 2 : cut]]))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole, pieces = open_store("sqlite", Path(one)), open_store("sqlite", Path(other))
        publish(whole, of, table(*rows))
        for part in parts:
            publish(pieces, of, table(*part))
        for key, hour in itertools.product("ab", range(8)):
            assert at(whole, of, key, hour) == at(pieces, of, key, hour)
        assert facts(whole, of) == facts(pieces, of) or not rows


def test_events_older_than_the_history_and_the_horizon_are_dropped(store):
    rows = table(*(("a", hour, float(hour)) for hour in range(100)))
    limited, unlimited = view(lookback="3h"), view(columns=("v", "known"))
    for of in (limited, unlimited):
        publish(store, of, rows)
    assert kept(store, limited) == list(range(72, 100))  # a look-up at hour 75, a day before 99, goes back to 72
    assert kept(store, unlimited) == list(range(75, 100))
    assert facts(store, limited)["since_us"] == views.micros(START) + 75 * HOUR_US


def test_the_last_value_is_kept_however_old_where_it_counts_for_ever(store):
    of = view()
    publish(store, of, table(("old", 0, 1.0), ("old", 1, 2.0), ("a", 50, 3.0)))
    assert (kept(store, of, "old"), at(store, of, "old", 60)) == ([1], ("matched", 59 * HOUR_US, 2.0))


def test_a_key_of_which_nothing_can_count_any_more_is_dropped(store):
    of = view(lookback="3h")
    publish(store, of, table(("gone", 0, 1.0), ("a", 1, 1.0)))
    publish(store, of, table(("a", 90, 2.0)))
    assert (kept(store, of, "gone"), kept(store, of, "a")) == ([], [90])


def test_of_values_known_late_those_that_are_the_last_known_one_at_some_moment_are_kept(store):
    """Of hour 3 first 3.5 was known, then 3.0: looked up from hour 10 on, no earlier hour can be the last one again."""
    of = view(known_at="known")
    publish(store, of, table(("a", 1, 1.0, 1), ("a", 2, 2.0, 12), ("a", 3, 3.0, 15), ("a", 4, 4.0, 20), ("a", 34, 9.0)))
    assert kept(store, of) == [1, 2, 3, 4, 34]
    assert [at(store, of, "a", hour)[2] for hour in (10, 12, 15, 20, 34)] == [1.0, 2.0, 3.0, 4.0, 9.0]
    publish(store, of, table(("a", 3, 3.5, 5)))
    assert kept(store, of) == [3, 3, 4, 34]
    assert [at(store, of, "a", hour)[2] for hour in (10, 14, 15, 19, 20)] == [3.5, 3.5, 3.0, 3.0, 4.0]


def test_one_wrong_date_in_the_future_does_not_make_the_store_forget(store):
    of = view(lookback="3h")
    publish(store, of, table(("a", 1, 1.0), ("a", 24 * 365 * 80, 9.0)))
    assert facts(store, of)["newest_us"] == views.micros(START) + HOUR_US
    assert at(store, of, "a", 2) == ("matched", HOUR_US, 1.0)


def test_a_longer_history_does_not_bring_back_what_was_dropped(store):
    of = view(lookback="3h")
    publish(store, of, table(("a", 0, 1.0), ("a", 90, 2.0)))
    publish(store, of, table(("a", 91, 2.0)), history="90d")
    assert facts(store, of)["since_us"] == views.micros(START) + 66 * HOUR_US
    publish(store, of, table(("a", 0, 1.0), ("a", 91, 2.0)), history="90d", whole=True)
    assert facts(store, of)["since_us"] is None
    assert kept(store, of) == [0, 91]


def test_the_store_knows_the_table_of_the_last_deployment_whatever_came_since(store):
    of = view()
    assert not publishing.holds_table(store, of, "first")
    publish(store, of, table(("a", 0, 1.0)), digest="first", whole=True)
    publish(store, of, table(("a", 1, 1.0)))
    publish(store, of, table(("a", 2, 1.0)), whole=True)
    assert publishing.holds_table(store, of, "first")
    publish(store, of, table(("a", 3, 1.0)), digest="second", whole=True)
    assert not publishing.holds_table(store, of, "first")


def test_a_table_without_time_is_looked_up_by_key_alone(store):
    of = view(time=None)
    rows = table(("a", 0, 1.0), ("b", 0, None))
    publish(store, of, rows)
    text = [of.key([key]) for key in "abc"]
    values = store.read({of.id: text})[of.id].values
    found = [lookup.look_up(of, values.get(key), None) for key in text]
    assert [(one.status, one.age_us, one.values["v"]) for one in found] == [
        ("matched", None, 1.0), ("matched", None, None), ("missing", None, None)
    ]  # fmt: skip
    with pytest.raises(errors.FeatureError, match="2 rows with k = 'a'"):
        publish(store, of, table(("a", 0, 1.0), ("a", 1, 1.0)))


def test_a_column_that_changed_its_type_is_refused_unless_nothing_is_lost(store):
    of, rows = view(), table(("a", 0, 1.0))
    whole = rows.set_column(2, "v", pa.array([3], pa.int64()))
    publish(store, of, whole)
    assert at(store, of, "a", 1)[2] == 3.0
    with pytest.raises(errors.ContractError, match=r"(?s)column 'v'.*double, as when the model was trained"):
        publish(store, of, rows.set_column(2, "v", pa.array(["warm"])))
    assert at(store, of, "a", 1)[2] == 3.0


def test_a_column_that_is_gone_is_named_with_the_one_that_may_be_meant(store):
    of, rows = view(columns=None), table(("a", 0, 1.0))
    message = r"(?s)column 'v'.*got: +no such column.*double, as when the model was trained.*did you mean 'vv'"
    with pytest.raises(errors.ContractError, match=message):
        publish(store, of, rows.rename_columns(["vv" if name == "v" else name for name in rows.column_names]))


def test_the_name_in_the_store_changes_with_the_definition_alone():
    assert view().id == view().id
    assert len({view().id, view(lookback="3h").id, view(columns=("v", "known")).id, view(prefix="w_").id}) == 4
    assert view().id.startswith("flights/weather/")


def test_a_view_is_json_and_back():
    of = view(lookback="3h", aggregates=COUNT, known_at="known")
    assert views.FeatureView.model_validate_json(of.model_dump_json()) == of


def test_a_key_that_cannot_be_looked_up_online_is_refused_with_the_way_out():
    odd = Schema(columns=tuple(retyped(c, "k", "time64[us]") for c in REQUEST))
    other = Schema(columns=tuple(retyped(c, "k", "time64[us]") for c in TABLE))
    join = recipe.Join(source="w.csv", keys=("k",), time="t", columns=("v",))
    with pytest.raises(errors.FeatureError, match=r"(?s)key 'k'.*got: +Time.*deploy\.lookup: none"):
        views.define("weather", join, other, odd, owner="flights")


def retyped(found, name, kind):
    return found.model_copy(update={"type": kind}) if found.name == name else found


def test_the_latest_snapshot_is_found_by_its_view(tmp_path):
    store = Store.open(tmp_path)
    digest = store.put("snapshot", lambda _: {"schema": TABLE.model_dump(mode="json"), "num_rows": 0})
    with pytest.raises(errors.StoreError, match=r"(?s)table 'weather'.*mlsys materialize"):
        publishing.snapshot_of(store, view())
    publishing.record_snapshot(store, view(), Snapshot.open(store, digest))
    assert publishing.snapshot_of(store, view()).digest == digest

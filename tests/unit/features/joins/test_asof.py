from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, recipe
from mlsys.features.domains import domain_of
from mlsys.features.joins import asof
from mlsys.features.joins.window_aggregates import WindowEvents, aggregate, windows_of
from point_in_time import STAMP, START, aggregates, crowd, nothing, reference, rows_of, spec, table_of

KEYS = st.sampled_from(["EWR", "JFK", "", None])
TEXTS = st.sampled_from(["a", "b", "", None])
HOURS = st.none() | st.integers(-3, 9)
NUMBERS = st.none() | st.sampled_from([0.1, -0.0, 1e16, 1.0, -1e16, 5e-324, 1e39, -2.5]) | st.floats(-1e6, 1e6)
EVENTS = st.tuples(st.none() | st.integers(0, 2), HOURS, HOURS, NUMBERS, TEXTS)
ASKED = st.tuples(st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0, 0.5, float("nan")]), HOURS)


@settings(max_examples=60)
@given(
    st.lists(ASKED, max_size=12),
    st.lists(EVENTS, max_size=20),
    st.none() | st.integers(0, 4),
    st.booleans(),
    st.booleans(),
)
def test_a_join_gives_what_plain_loops_give(asked, events, lookback, known_at, cut):
    left, right = rows_of(asked, "float64"), table_of(events)
    if cut:  # chunks change nothing
        left, right = (pa.concat_tables([t.slice(0, t.num_rows // 2), t.slice(t.num_rows // 2)]) for t in (left, right))
    wanted = spec(
        time="time",
        known_at="known" if known_at else None,
        columns=("v", "label"),
        lookback=None if lookback is None else f"{lookback}h",
        aggregates=aggregates(1, 4),
    )
    joined, counts = asof.join(left, right, wanted, "t")
    values, states = reference(asked, events, lookback=lookback, known_at=known_at, hours=(1, 4))
    assert repr(joined.drop_columns(["key", "t"]).to_pylist()) == repr(values)  # to the bit: -0.0 is not 0.0
    assert {state: counts[state] for state in states} == states
    assert counts["matched"] + counts["missing"] + counts["too_old"] == len(asked)
    assert counts["empty"] == {name: sum(row[name] == nothing(name) for row in values) for name in counts["empty"]}
    assert repr(joined.select(["key", "t"]).to_pylist()) == repr(left.to_pylist())
    assert [joined[name].type for name in ("v", "label")] == [pa.float64(), pa.string()]


@pytest.mark.parametrize("lookback", [None, 0, 2])
@pytest.mark.parametrize("known_at", [False, True])
def test_a_join_of_crowded_keys_and_hours_gives_what_plain_loops_give(lookback, known_at):
    asked, events = crowd(seed=0 if lookback is None else lookback + 1)
    wanted = spec(
        time="time",
        known_at="known" if known_at else None,
        columns=("v", "label"),
        lookback=None if lookback is None else f"{lookback}h",
        aggregates=aggregates(1, 4, 12),
    )
    joined, counts = asof.join(rows_of(asked), table_of(events), wanted, "t")
    values, states = reference(asked, events, lookback=lookback, known_at=known_at, hours=(1, 4, 12))
    assert repr(joined.drop_columns(["key", "t"]).to_pylist()) == repr(values)
    assert {state: counts[state] for state in states} == states


@settings(max_examples=40)
@given(st.lists(st.tuples(HOURS, HOURS, NUMBERS, TEXTS), max_size=20), st.integers(-3, 12))
def test_whole_tables_and_the_definition_for_one_moment_give_the_same_bits(events, hour):
    whole = [(0, time, known, v, label) for time, known, v, label in events if None not in (time, known)]
    wanted = spec(time="time", known_at="known", columns=(), aggregates=aggregates(1, 3, 5))
    joined, _ = asof.join(rows_of([(0, hour)]), table_of(whole), wanted, "t")
    in_order = sorted(whole, key=lambda event: event[1])
    read = domain_of(pa.float64()).reader("v")
    one = WindowEvents(
        [time * 3_600_000_000 for _, time, *_ in in_order],
        [known * 3_600_000_000 for *_, known, _, _ in in_order],
        {"v": [read(v) for *_, v, _ in in_order], "label": [label for *_, label in in_order]},
    )
    told = aggregate(windows_of(wanted), one, hour * 3_600_000_000)
    assert repr(joined.drop_columns(["key", "t"]).to_pylist()) == repr([told])


@settings(max_examples=60)
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
    joined, counts = asof.join(left, right, spec(keys=("a", "b"), prefix="t_"), None)
    known = {key: repr(key) for key in table if None not in key}
    assert joined["t_v"].to_pylist() == [known.get(key) for key in rows]
    told = ("matched", "missing", "too_old", "without_key")
    assert [counts[state] for state in told] == [
        sum(row in known for row in rows),
        sum(row not in known for row in rows),
        0,
        sum(None in row for row in rows),
    ]


PLANES = pa.table({"tailnum": ["N1", "N2", "N1"], "year": [1999, 2004, 2001]})
FLIGHTS = pa.table({"tailnum": ["N2"], "year": [2013], "time": pa.array([START], STAMP)})


@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"keys": ("tailnum",)}, errors.FeatureError, ["2 rows with tailnum = 'N1'", "time: column"]),
        ({"keys": ("tailnumber",)}, errors.RecipeError, ["did you mean 'tailnum'"]),
        ({"keys": ("tailnum",), "columns": ("yeer",)}, errors.RecipeError, ["did you mean 'year'"]),
        (
            {"keys": ("tailnum",), "time": "year"},
            errors.FeatureError,
            ["the row's time", "table's year is integers"],
        ),
        ({"keys": ("tailnum",), "lookback": "3h"}, errors.FeatureError, ["lookback without time"]),
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
        asof.join(FLIGHTS.drop_columns(["year"]), PLANES, spec(**settings), "time", name="planes")
    for part in parts:
        assert part in str(caught.value)


def test_a_name_that_is_there_already_is_refused_with_the_prefix_to_write():
    with pytest.raises(errors.FeatureError, match="prefix: planes_"):
        asof.join(FLIGHTS, PLANES.slice(0, 2), spec(keys=("tailnum",)), None, name="planes")


def test_keys_of_different_types_and_times_with_and_without_zone_are_refused():
    with pytest.raises(errors.FeatureError, match=r"tailnum is text, the table's year is integers"):
        asof.join(FLIGHTS, PLANES.slice(0, 2), spec(keys={"tailnum": "year"}, prefix="p_"), None)
    naive = pa.table({"tailnum": ["N2"], "seen": pa.array([dt.datetime(2013, 1, 1)], pa.timestamp("us")), "v": [1]})  # noqa: DTZ001
    with pytest.raises(errors.FeatureError, match=r"data\.timezone"):
        asof.join(FLIGHTS, naive, spec(keys=("tailnum",), time="seen"), "time")
    with pytest.raises(errors.FeatureError, match=r"data\.time: column"):
        asof.join(FLIGHTS, naive, spec(keys=("tailnum",), time="seen"), None)


def test_whole_numbers_match_whole_floats_and_nan_matches_nothing():
    rows = pa.table({"k": pa.array([1.0, float("nan"), 2.0])})
    table = pa.table({"k": pa.array([1, 2], pa.int16()), "v": ["one", "two"]})
    assert asof.join(rows, table, spec(keys=("k",)), None)[0]["v"].to_pylist() == ["one", None, "two"]


def test_a_table_without_rows_joins_nulls():
    empty = pa.table({"tailnum": pa.array([], pa.string()), "seats": pa.array([], pa.int32())})
    joined, counts = asof.join(FLIGHTS, empty, spec(keys=("tailnum",)), None)
    assert joined["seats"].to_pylist() == [None]
    assert counts == {
        "matched": 0,
        "missing": 1,
        "too_old": 0,
        "without_key": 0,
        "table": {"rows": 0, "without_key": 0, "repeated": 0},
    }


def test_a_row_written_late_changes_nothing_before_it_was_written():
    asked = [(1, hour) for hour in range(8)]
    before = [(1, 2, 2, 10.0, "a"), (1, 4, 4, 20.0, "b")]
    late = [(1, 4, 6, 25.0, "b, corrected"), (1, 3, 5, 15.0, "late")]
    wanted = spec(time="time", known_at="known", columns=("v",), aggregates=aggregates(3))
    old, new = (asof.join(rows_of(asked), table_of(table), wanted, "t")[0] for table in (before, before + late))
    assert new.slice(0, 5).equals(old.slice(0, 5))
    assert new["v"].to_pylist() == [None, None, 10.0, 10.0, 20.0, 20.0, 25.0, 25.0]
    assert new["sum_3"].to_pylist() == [None, None, 10.0, 10.0, 30.0, 35.0, 45.0, None]


def test_a_value_known_before_it_holds_counts_from_when_it_holds():
    forecast = table_of([(1, 5, 2, 1.0, "for 5 o'clock, made at 2")])
    joined, _ = asof.join(rows_of([(1, 4), (1, 5)]), forecast, spec(time="time", known_at="known"), "t")
    assert joined["v"].to_pylist() == [None, 1.0]


def test_of_several_values_of_one_time_the_last_known_is_taken_then_the_last_in_the_table():
    table = table_of([(1, 1, 3, 1.0, ""), (1, 1, 2, 2.0, ""), (1, 1, 3, 3.0, ""), (1, 0, 4, 4.0, "")])
    wanted = spec(time="time", known_at="known", columns=("v",))
    joined, counts = asof.join(rows_of([(1, h) for h in (1, 2, 3, 4)]), table, wanted, "t")
    assert joined["v"].to_pylist() == [None, 2.0, 3.0, 3.0]
    assert counts["table"] == {"rows": 4, "without_key": 0, "repeated": 1}


def test_table_rows_without_key_or_time_are_counted_and_match_nothing():
    table = table_of([(None, 1, 1, 1.0, ""), (1, None, 1, 2.0, ""), (1, 1, None, 3.0, ""), (1, 1, 1, 4.0, "")])
    told = spec(time="time", known_at="known", columns=("v",))
    joined, counts = asof.join(rows_of([(1, 2), (None, 2)]), table, told, "t")
    assert joined["v"].to_pylist() == [4.0, None]
    assert counts["table"] == {"rows": 4, "without_key": 3, "repeated": 0}


def test_a_key_that_is_always_null_matches_nothing():
    asked = pa.table({"key": pa.nulls(2), "t": rows_of([(1, 1), (1, 2)])["t"]})
    for table in (table_of([(1, 1, 1, 1.0, "")]), pa.table({"other": pa.nulls(2), "v": [1, 2]})):
        joined, counts = asof.join(asked, table, spec(columns=("v",)), "t")
        assert joined["v"].to_pylist() == [None, None]
        assert counts["without_key"] == counts["missing"] == 2


def test_a_whole_number_beyond_53_bits_matches_itself_alone():
    rows = pa.table({"k": pa.array([2**53, 2**53 + 1, 2**63 - 1, None])})
    table = pa.table({"k": pa.array([float(2**53), 0.5, 2.0**63]), "v": ["big", "half", "bigger"]})
    assert asof.join(rows, table, spec(keys=("k",)), None)[0]["v"].to_pylist() == ["big", None, None, None]
    mirrored = pa.table({"k": rows["k"].slice(0, 2), "v": ["even", "odd"]})
    assert asof.join(table.select(["k"]), mirrored, spec(keys=("k",)), None)[0]["v"].to_pylist() == [
        "even",
        None,
        None,
    ]


def test_times_in_other_zones_are_the_same_instants():
    zone = pa.timestamp("ns", "America/New_York")
    table = table_of([(1, 5, 5, 1.0, "")])
    table = table.set_column(1, "time", table["time"].cast(zone))
    wanted = spec(time="time", columns=("v",), aggregates={"n": recipe.Aggregate(function="count", window="1h")})
    joined, _ = asof.join(rows_of([(1, 4), (1, 5), (1, 6)]), table, wanted, "t")
    assert joined.select(["v", "n"]).to_pylist() == [{"v": None, "n": 0}, {"v": 1.0, "n": 1}, {"v": 1.0, "n": 0}]


def test_very_many_keys_over_a_very_long_time_are_told_apart():
    hours = [0, 70_000_000]  # 8000 years: keys times microseconds are beyond 63 bits
    events = [(key, hour, hour, float(key + hour), "") for key in range(300) for hour in hours]
    asked = [(key, hour + 1) for key in reversed(range(300)) for hour in hours]
    wanted = spec(time="time", columns=("v",), aggregates=aggregates(2))
    joined, _ = asof.join(rows_of(asked), table_of(events), wanted, "t")
    assert joined["v"].to_pylist() == joined["sum_2"].to_pylist() == [float(key + hour - 1) for key, hour in asked]


def test_a_window_longer_than_all_time_holds_all_events():
    events = [(1, hour, hour, 1.0, "") for hour in range(5)]
    told = {"n": recipe.Aggregate(function="count", window="999999999999d")}
    joined, _ = asof.join(rows_of([(1, 3), (1, 9)]), table_of(events), spec(time="time", aggregates=told), "t")
    assert joined["n"].to_pylist() == [4, 5]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            {"aggregates": {"a": recipe.Aggregate(function="sum", column="label", window="1h")}},
            ["sum of 'label'", "string"],
        ),
        (
            {"columns": ("v",), "aggregates": {"v": recipe.Aggregate(function="count", window="1h")}},
            ["column 'v' is there"],
        ),
        ({"time": None, "known_at": "known"}, ["known_at without time"]),
        (
            {"time": None, "aggregates": {"n": recipe.Aggregate(function="count", window="1h")}},
            ["aggregates without time"],
        ),
        ({"known_at": "v"}, ["the row's time is times", "the table's v is decimals"]),
    ],
)
def test_aggregates_that_cannot_be_meant_are_refused(settings, parts):
    with pytest.raises(errors.FeatureError) as caught:
        asof.join(rows_of([(1, 1)]), table_of([]), spec(**{"time": "time", **settings}), "t")
    for part in parts:
        assert part in str(caught.value)


def test_a_column_of_an_aggregate_that_is_not_there_is_answered_with_the_nearest():
    told = {"a": recipe.Aggregate(function="distinct", column="lable", window="1h")}
    with pytest.raises(errors.RecipeError, match="did you mean 'label'"):
        asof.join(rows_of([(1, 1)]), table_of([]), spec(time="time", aggregates=told), "t")

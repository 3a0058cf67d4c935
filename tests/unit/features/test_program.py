from __future__ import annotations

import datetime as dt
import json
import math
import pickle
from collections import Counter
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.features import executors, small_columns, small_tables
from mlsys.features.domains import Domain
from mlsys.features.operations.numeric import Numeric
from mlsys.features.operations.operation import Scaling
from mlsys.features.program import FeatureProgram
from mlsys.limits import FLOAT32_MAX
from mlsys.schema import arrow_type

NAIVE = dt.datetime(2013, 1, 1)  # noqa: DTZ001 - without a zone on purpose
US = dt.timedelta(microseconds=1)
FIRST, LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001
# Clock changes of New York: an hour skipped, an hour repeated, and before there were zones.
EDGES = [dt.datetime(2013, 3, 10, 7), dt.datetime(2013, 11, 3, 6), dt.datetime(1883, 11, 18, 17), FIRST, LAST]  # noqa: DTZ001
clocks = st.datetimes(FIRST, LAST) | st.builds(
    lambda edge, us: min(max(edge, FIRST + 2 * us * US), LAST - 2 * us * US) + us * US,
    st.sampled_from(EDGES),
    st.integers(0, 10**11),
)
ZONES = [
    dt.UTC,
    dt.timezone(dt.timedelta(hours=5, minutes=30)),
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/New_York"),
]


def in_zone(clock, zone):
    """The clock's time in a zone; in UTC where it would leave the calendar there."""
    near_end = not FIRST + dt.timedelta(days=2) < clock < LAST - dt.timedelta(days=2)
    return clock.replace(tzinfo=dt.UTC if near_end else zone)


instants = st.builds(in_zone, clocks, st.sampled_from(ZONES))
RECORDS = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats() | st.sampled_from([-0.0, 3.4028234663852886e38, 3.5e38, 1e-46, 12.5]),
        "i": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
        "c": st.none() | st.text() | st.sampled_from(["EWR", "", "ü", "__other__"]),
        "m": st.none() | st.integers(-(2**15), 2**15 - 1) | st.integers(0, 4),
        "f": st.none() | st.sampled_from(["N1", "N2", "n1", "N99"]),
        "b": st.none() | st.booleans(),
        "t": st.none() | instants,
        "e": st.none() | instants,
        "w": st.none() | clocks,
        "l": st.none() | st.lists(st.none() | st.floats() | st.floats(-1e3, 1e3), max_size=6),
        "d": st.none() | st.dates(),
        "s": st.none() | st.text() | st.sampled_from(["a\tb\nc", " a  b ", "\x1c\x85\u2003", "日本 語"]),
    }
)


def table_of(records, program):
    return pa.Table.from_pylist(
        records, pa.schema([(name, arrow_type(kind)) for name, kind in program.columns.items()])
    )


def bits(X):
    return np.ascontiguousarray(X).view(np.uint32).tolist()


@pytest.mark.parametrize("name", ["codes", "dense", "options codes", "options dense"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=12))
def test_rows_and_columns_give_the_same_bits(programs, name, records):
    program = programs[name]
    X = program.transform(table_of(records, program))
    row = program.row()
    assert bits(X) == [bits(row(record)) for record in records]
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.shape == (len(records), program.width)
    assert np.isfinite(X).all() if "dense" in name else not np.isinf(X).any()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.none() | st.floats() | st.sampled_from([FLOAT32_MAX, -FLOAT32_MAX]), min_size=1, max_size=5),
    center=st.floats(-FLOAT32_MAX, FLOAT32_MAX),
    scale=st.floats(1e-300, FLOAT32_MAX) | st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    fill=st.none() | st.floats(-FLOAT32_MAX, FLOAT32_MAX),
    log=st.booleans(),
)
def test_scaled_numbers_are_the_same_bits_in_rows_and_columns_and_never_infinite(values, center, scale, fill, log):
    scaling = Scaling(center, scale, fill, log=log)
    program = FeatureProgram({"x": "double"}, (Numeric("x", Domain("number"), scaling),))
    X = program.transform(pa.table({"x": pa.array(values, pa.float64())}))
    row = program.row()
    assert bits(X) == [bits(row({"x": value})) for value in values]
    assert not np.isinf(X).any()


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_a_column_is_scaled_as_one_value_is_where_division_and_the_inverse_round_to_different_floats(num_rows):
    value, scaling = 27.65001101493835, Scaling(1.25, 3.3)
    divided, multiplied = (value - 1.25) / 3.3, (value - 1.25) * (1 / 3.3)
    assert np.float32(divided) != np.float32(multiplied)
    program = FeatureProgram({"x": "double"}, (Numeric("x", Domain("number"), scaling),))
    X = program.transform(pa.table({"x": [value] * num_rows}))
    assert bits(X) == [bits(program.row()({"x": value}))] * num_rows


@pytest.mark.parametrize("name", ["derived codes", "derived dense"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=5))
def test_rows_and_columns_give_the_same_bits_of_derived_features(programs, name, records):
    program = programs[name]
    row = program.row()
    assert bits(program.transform(table_of(records, program))) == [bits(row(record)) for record in records]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=12))
def test_rare_categories_are_counted_alike_in_rows_and_columns(programs, records):
    program = programs["options codes"]
    counted = program.rare(table_of(records, program))
    by_row = [column for record in records for column in program.rare_row()(record)]
    assert counted == {column: by_row.count(column) for column in set(by_row)}
    few = [record["m"] for record in records].count(3)  # in 50 of 150 rows, and 60 are asked for
    assert counted.get("m", 0) >= few


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=12))
def test_unseen_categories_are_counted_alike_in_rows_and_columns(programs, records):
    program = programs["options codes"]
    counted = program.unseen(table_of(records, program))
    by_row = [column for record in records for column in program.unseen_row()(record)]
    assert counted == {column: by_row.count(column) for column in set(by_row)}


@pytest.mark.parametrize("name", ["codes", "options codes", "options dense", "derived codes"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, max_size=12))
def test_one_reading_gives_the_features_and_the_counts_of_single_rows(programs, name, records):
    program = programs[name]
    X, counts = program.transform_counted(table_of(records, program))
    single = program.row_program()
    assert bits(X) == [bits(single.features(record)) for record in records]
    unseen = Counter(column for record in records for column in single.unseen(record))
    rare = Counter(column for record in records for column in single.rare(record))
    assert counts == (dict(unseen), dict(rare))


@pytest.mark.parametrize("name", ["codes", "dense", "options codes", "options dense", "derived codes", "derived dense"])
def test_nan_of_either_sign_is_the_same_missing_value_in_small_and_large_tables_and_rows(programs, name):
    program = programs[name]
    records = [dict.fromkeys(program.columns) | {"x": value} for value in (math.nan, math.copysign(math.nan, -1), 1.5)]
    table = table_of(records, program)
    assert program.prepare_small()
    X = program.transform(table)
    assert bits(program.transform_small(table).X) == bits(X) == [bits(program.row()(record)) for record in records]
    assert bits(X[:1]) == bits(X[1:2])


@pytest.mark.parametrize("name", ["codes", "dense", "options codes", "options dense", "derived codes", "derived dense"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=40))
def test_small_tables_have_the_features_and_the_counts_of_large_ones(programs, name, records):
    program = programs[name]
    table = table_of(records, program)
    assert program.prepare_small()
    small = program.transform_small(table)
    X, counts = program.transform_counted(table)
    assert bits(small.X) == bits(X)
    assert small.counts == counts
    assert (small.unseen_by_row, small.rare_by_row) == (program.unseen_by_row(table), program.rare_by_row(table))


def test_small_tables_of_other_types_or_many_rows_go_the_way_of_large_ones(programs, rows, monkeypatch):
    program = programs["codes"]
    assert program.prepare_small()
    table = rows.slice(0, 9)
    narrow = table.set_column(0, "x", table["x"].cast(pa.float32()))
    assert program.transform_small(table) is not None
    assert program.transform_small(narrow) is None
    assert program.transform_small(table.slice(0, 0)) is None
    monkeypatch.setattr(small_tables, "SMALL_ROWS", 8)
    assert program.transform_small(table) is None


def test_small_tables_that_get_other_bits_are_not_computed_apart(programs, monkeypatch):
    operations, columns = programs["codes"].operations, programs["codes"].columns
    assert small_tables.compile_small(operations, columns, {}) is not None
    monkeypatch.setattr(small_columns, "OTHER", 1)
    assert small_tables.compile_small(operations, columns, {}) is None


def test_counts_of_blocks_are_summed(programs, rows, monkeypatch):
    program = programs["options codes"]
    whole = program.rare(rows)
    assert sum(whole.values()) > 100
    monkeypatch.setattr(executors, "BLOCK_ROWS", 40)
    assert program.transform_counted(rows)[1][1] == whole


def test_chunks_and_dictionaries_change_nothing(programs, rows):
    program = programs["codes"]
    whole = program.transform(rows)
    cut = pa.concat_tables([rows.slice(start, 40) for start in range(0, rows.num_rows, 40)])
    coded = cut.set_column(cut.schema.get_field_index("c"), "c", cut["c"].dictionary_encode())
    assert bits(program.transform(coded)) == bits(whole)


@pytest.mark.parametrize("name", ["codes", "dense", "derived dense"])
def test_blocks_and_strips_change_nothing(programs, rows, name, monkeypatch):
    program = programs[name]
    whole = bits(program.transform(rows))
    monkeypatch.setattr(executors, "BLOCK_ROWS", 40)
    monkeypatch.setattr(executors, "STRIP_ROWS", 7)
    assert bits(program.transform(rows)) == whole
    monkeypatch.setattr(executors, "BLOCK_CELLS", 1)
    assert bits(program.transform(rows)) == whole


def test_a_fault_in_a_later_block_is_told(programs, rows, monkeypatch):
    monkeypatch.setattr(executors, "BLOCK_ROWS", 40)
    wide = pa.array([2**40 if at == 120 else 1 for at in range(rows.num_rows)])
    wrong = rows.set_column(rows.schema.get_field_index("m"), "m", wide)
    with pytest.raises(errors.RequestError) as caught:
        programs["derived codes"].transform(wrong)
    assert caught.value.violations[0]["field"] == "m"


def test_whole_numbers_are_taken_where_training_had_fractions(programs, rows):
    program = programs["codes"]
    whole = rows.set_column(0, "x", pa.array(range(rows.num_rows), pa.int32()))
    assert program.transform(whole)[:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert program.row()({**rows.to_pylist()[0], "x": 7})[0] == 7.0


def test_features_of_one_name_are_told_apart_whatever_the_columns_are_called():
    number = Domain("number")
    operations = tuple(Numeric(name, number) for name in ("x", "x #2", "x", "x[1]", "x(1)"))
    program = FeatureProgram({"x": "double", "x #2": "double", "x[1]": "double", "x(1)": "double"}, operations)
    assert program.names == ["x", "x #2", "x #3", "x(1)", "x(1) #2"]


def test_no_rows_give_no_rows(programs, rows):
    for program in programs.values():
        assert program.transform(rows.slice(0, 0)).shape == (0, program.width)


@pytest.mark.parametrize("name", ["codes", "options dense"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("x", "1.5"),
        ("x", True),
        ("i", "7"),
        ("c", 1),
        ("b", 1),
        ("b", "true"),
        ("s", 1.0),
        ("t", "2013-01-01"),
        ("t", NAIVE),
        ("w", dt.datetime(2013, 1, 1, tzinfo=dt.UTC)),
        ("w", dt.date(2013, 1, 1)),
        ("m", "1"),
        ("l", 1.0),
        ("l", "1, 2"),
        ("l", ["1", "2"]),
        ("l", [True]),
        ("e", NAIVE),
    ],
)
def test_a_value_of_another_type_is_refused_alike_in_rows_and_columns(programs, rows, name, column, value):
    program = programs[name]
    record = {**rows.to_pylist()[1], column: value}
    wrong = rows.slice(1, 1).set_column(rows.schema.get_field_index(column), column, pa.array([value]))
    for refused in (lambda: program.row()(record), lambda: program.transform(wrong)):
        with pytest.raises(errors.RequestError) as caught:
            refused()
        assert caught.value.violations[0]["field"] == column


def test_a_missing_field_is_refused_alike_in_rows_and_columns(programs, rows):
    program = programs["codes"]
    record = {key: value for key, value in rows.to_pylist()[0].items() if key != "c"}
    for refused in (lambda: program.row()(record), lambda: program.transform(rows.drop_columns(["c"]))):
        with pytest.raises(errors.RequestError, match="field 'c': got no such field"):
            refused()


def test_a_program_comes_back_from_its_text_with_the_same_digest(programs, rows):
    for program in programs.values():
        back = FeatureProgram.from_json(json.loads(json.dumps(program.to_json(), allow_nan=False)))
        assert back == program
        assert back.digest == program.digest
        assert bits(back.transform(rows)) == bits(program.transform(rows))


def test_a_program_travels_between_processes(programs, rows):
    program = programs["derived dense"]
    program.row()
    assert pickle.loads(pickle.dumps(program)) == program


def test_a_program_of_another_format_or_with_an_unknown_operation_is_refused(programs):
    told = programs["codes"].to_json()
    with pytest.raises(errors.BundleError, match="got:      format 99"):
        FeatureProgram.from_json({**told, "format": 99})
    told["operations"][0]["operation"] = "numerical"
    with pytest.raises(errors.BundleError, match="did you mean 'numeric'"):
        FeatureProgram.from_json(told)


def test_every_feature_has_one_name_and_one_type(programs):
    for program in programs.values():
        assert len(program.names) == len(set(program.names)) == len(program.types) == program.width
        assert not any(character in name for name in program.names for character in "[]<")

import datetime as dt
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlsys import errors
from mlsys.predict.validation import MAX_VIOLATIONS, RequestValidator
from mlsys.readers import conversion
from mlsys.schema import Column, Kind, Role, Schema

UTC = dt.UTC
NOON = dt.datetime(2013, 10, 1, 12, tzinfo=UTC)


def contract(type_name, *, nullable=True, timezone=None, **facts):
    column = Column(name="x", type=type_name, kind=Kind.NUMERIC, nullable=nullable, **facts)
    return RequestValidator(Schema(columns=(column,)), ["x"], timezone)


def one(type_name, value, **facts):
    return contract(type_name, **facts).records([{"x": value}])[0]["x"]


def refused(type_name, value, **facts):
    with pytest.raises(errors.RequestError) as caught:
        one(type_name, value, **facts)
    (violation,) = caught.value.violations
    assert violation["row"] == 0
    assert violation["field"] == "x"
    return violation["got"], violation["expected"]


@pytest.mark.parametrize(
    ("type_name", "value", "result"),
    [
        ("double", 3, 3.0),
        ("double", 2.5, 2.5),
        ("double", 2**53, float(2**53)),
        ("float", 0.1, float(np.float32(0.1))),
        ("int64", 3.0, 3),
        ("int64", -(2**63), -(2**63)),
        ("uint8", 255, 255),
        ("bool", True, True),
        ("string", "", ""),
        ("string", "☃", "☃"),
        ("timestamp[us, tz=UTC]", "2013-10-01T12:00:00Z", NOON),
        ("timestamp[us, tz=UTC]", "2013-10-01 08:00:00-04:00", NOON),
        ("timestamp[us, tz=UTC]", NOON, NOON),
        ("timestamp[us]", "2013-10-01T12:00:00", dt.datetime(2013, 10, 1, 12)),  # noqa: DTZ001
        ("date32", "2013-10-01", dt.date(2013, 10, 1)),
        ("binary", "AAE=", b"\x00\x01"),
        ("list<item: double>", [1, 2.5, None], [1.0, 2.5, None]),
        ("decimal128(5, 2)", 1.25, Decimal("1.25")),
        ("double", None, None),
        ("double", math.nan, None),
        ("double", np.float64(1.5), 1.5),
        ("int64", np.int32(7), 7),
    ],
)
def test_what_loses_nothing_is_taken_over(type_name, value, result):
    taken = one(type_name, value)
    assert taken == result
    assert type(taken) is type(result)


def test_a_text_in_the_notation_of_files_is_refused_with_the_place_where_it_is_read():
    notation = "1,234.56 kg"
    expected = "a number; texts written as 1,234.56 kg are read in files alone"
    assert refused("double", "57.7 kg", notation=notation) == ("text '57.7 kg'", expected)
    assert refused("double", True, notation=notation) == ("true", "a number")


@pytest.mark.parametrize(
    ("type_name", "value", "got", "expected"),
    [
        ("double", "3", "text '3'", "a number"),
        ("double", True, "true", "a number"),
        ("double", 2**53 + 1, "number 9007199254740993", "a number"),
        ("double", [1], "list [1]", "a number"),
        ("float", 1e39, "number 1e+39", "a number"),
        ("int64", 3.5, "number 3.5", "an integer (int64)"),
        ("int64", "3", "text '3'", "an integer (int64)"),
        ("int64", False, "false", "an integer (int64)"),
        ("int64", 2**63, "number 9223372036854775808", "an integer (int64)"),
        ("int64", 1e300, "number 1e+300", "an integer (int64)"),
        ("int64", math.inf, "number inf", "an integer (int64)"),
        ("uint8", -1, "number -1", "an integer (uint8)"),
        ("bool", 1, "number 1", "true or false"),
        ("bool", "true", "text 'true'", "true or false"),
        ("string", 1, "number 1", "text"),
        ("string", "\ud800", "text '\\ud800'", "text"),
        ("string", {"a": 1}, "object {'a': 1}", "text"),
        ("date32", "2013-13-01", "text '2013-13-01'", "an ISO 8601 date, e.g. 2013-10-01"),
        ("date32", "20131001", "text '20131001'", "an ISO 8601 date, e.g. 2013-10-01"),
        ("date32", 20131001, "number 20131001", "an ISO 8601 date, e.g. 2013-10-01"),
        ("binary", "no base64!", "text 'no base64!'", "base64 text"),
        ("list<item: double>", 1, "number 1", "a list of which each is a number"),
        ("list<item: double>", ["a"], "list ['a']", "a list of which each is a number"),
        ("decimal128(5, 2)", 1.255, "number 1.255", "a number with at most 2 decimals"),
    ],
)
def test_what_would_lose_something_is_refused_with_what_was_got_and_expected(type_name, value, got, expected):
    assert refused(type_name, value) == (got, expected)


ZONED = "an ISO 8601 time with a zone, e.g. 2013-10-01T08:00:00Z"


@pytest.mark.parametrize(
    "value",
    [
        "2013-10-01T12:00:00",
        "yesterday",
        1380628800,
        "20131001T120000Z",
        "2013-W40-2T12:00:00Z",
        "2013-02-30T00:00:00Z",
    ],
)
def test_a_time_that_is_not_the_whole_truth_is_refused(value):
    assert refused("timestamp[us, tz=UTC]", value)[1] == ZONED


def test_digits_beyond_microseconds_are_cut_as_in_a_file():
    assert one("timestamp[us, tz=UTC]", "2013-10-01T12:00:00.1234567Z") == NOON.replace(microsecond=123_456)


WRITTEN_TIMES = st.builds(
    "{}-{:02}-{:02}{}{}{}{}".format,
    st.sampled_from(["0001", "1883", "1969", "2013", "9999"]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from([" ", "T"]),
    st.sampled_from(["", "00", "02:30", "23:59:59", "24:00", "12:60", "10:11:12.5", "10:11:12,1234567", "1:02"]),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "Z", "+05", "-0530", "+14:00", "-00:16:08", "+05:60", "+24:00"]),
) | st.sampled_from(["", " 2013-03-10 02:30 ", "2013-11-03 01:30", "20131001", "9999-12-31 23:59:59.999999"])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin"])
@example(["0001-01-01T00:00:00"])
@given(st.lists(WRITTEN_TIMES, min_size=1, max_size=5))
def test_a_request_takes_the_times_that_a_file_holds_and_no_others(zone, texts):
    """One rule for both: a cell of a file and a text of a request."""
    request = contract("timestamp[us, tz=UTC]", timezone=zone)
    read = conversion.as_type(pa.array(texts), conversion.TIME, zone)
    table, faults = request.check({"x": texts}, len(texts))
    assert table["x"].to_pylist() == read.to_pylist()
    assert {fault["row"] for fault in faults} == {row for row, value in enumerate(read.to_pylist()) if value is None}


def test_a_time_with_a_zone_is_refused_where_the_column_has_none():
    assert refused("timestamp[us]", "2013-10-01T12:00:00Z")[1].startswith("an ISO 8601 time without a zone")


@pytest.mark.parametrize(
    ("text", "universal"),
    [("2013-10-01T08:00:00", NOON), ("2013-11-03T01:30:00", dt.datetime(2013, 11, 3, 5, 30, tzinfo=UTC))],
)
def test_with_a_zone_given_times_without_one_are_its_wall_clock_and_the_first_of_two(text, universal):
    assert one("timestamp[us, tz=UTC]", text, timezone="America/New_York") == universal


def test_a_wall_clock_time_that_the_clocks_skip_is_refused():
    expected = "an ISO 8601 time with an offset, or local in America/New_York, e.g. 2013-10-01T08:00:00Z"
    assert refused("timestamp[us, tz=UTC]", "2013-03-10T02:30:00", timezone="America/New_York")[1] == expected


def test_null_needs_a_nullable_column():
    assert refused("double", None, nullable=False) == ("null", "a number, never null")
    assert refused("double", math.nan, nullable=False)[1] == "a number, never null"


@pytest.mark.parametrize(
    ("facts", "value", "expected"),
    [
        ({"minimum": 0}, -1, "a number of at least 0"),
        ({"maximum": 1.5}, 2, "a number of at most 1.5"),
        ({"minimum": 0, "maximum": 1}, 2, "a number from 0 to 1"),
        ({"allowed": (1.0, 2.0)}, 3, "one of 1.0, 2.0"),
    ],
)
def test_bounds_of_the_schema_hold_for_requests(facts, value, expected):
    assert refused("double", value, **facts)[1] == expected
    with pytest.raises(errors.RequestError, match="row 1, field 'x'"):
        contract("double", **facts).table(pa.table({"x": [1.0, float(value)]}))
    assert contract("double", **facts).table(pa.table({"x": [1.0, None]})).num_rows == 2


SCHEMA = Schema(
    columns=(
        Column(name="id", type="string", kind=Kind.TEXT, role=Role.ID, nullable=False),
        Column(name="age", type="int64", kind=Kind.NUMERIC, nullable=False),
        Column(name="city", type="string", kind=Kind.CATEGORICAL),
        Column(name="unused", type="double", kind=Kind.NUMERIC, nullable=False),
    )
)
PEOPLE = RequestValidator(SCHEMA, ["age", "city"])


def test_every_fault_of_every_row_is_listed_in_order():
    with pytest.raises(errors.RequestError) as caught:
        PEOPLE.records([{"age": "3", "city": 5}, {"age": 1}, {"agee": 1, "id": None}])
    assert caught.value.violations == [
        {"row": 0, "field": "age", "got": "text '3'", "expected": "an integer (int64)"},
        {"row": 0, "field": "city", "got": "number 5", "expected": "text"},
        {
            "row": 2,
            "field": "agee",
            "got": "a column that the model does not know",
            "expected": "only the model's columns; did you mean 'age'?",
        },
        {"row": 2, "field": "id", "got": "null", "expected": "text, never null"},
        {"row": 2, "field": "age", "got": "nothing", "expected": "an integer (int64)"},
    ]


def test_columns_that_the_model_does_not_read_may_be_absent_and_nullable_ones_are_null():
    assert PEOPLE.records([{"age": 1}]) == [{"age": 1, "city": None}]
    assert PEOPLE.columns({"age": [1]}).to_pylist() == [{"age": 1, "city": None}]
    assert PEOPLE.table(pa.table({"age": [1]})).to_pylist() == [{"age": 1, "city": None}]


def test_columns_refuse_unknown_names_and_tables_ignore_them():
    with pytest.raises(errors.RequestError, match="only the model's columns; did you mean 'city'"):
        PEOPLE.columns({"age": [1], "cty": ["x"]})
    assert PEOPLE.table(pa.table({"age": [1], "cty": ["x"]})).column_names == ["age", "city"]


def test_a_missing_column_of_a_table_is_a_fault_of_all_rows():
    with pytest.raises(errors.RequestError) as caught:
        PEOPLE.table(pa.table({"city": ["a", "b"]}))
    assert caught.value.violations == [
        {"row": "all", "field": "age", "got": "nothing", "expected": "an integer (int64)"}
    ]


def test_two_columns_of_one_name_are_a_fault():
    table = pa.table([pa.array([1]), pa.array([2])], names=["age", "age"])
    with pytest.raises(errors.RequestError, match="2 columns of this name"):
        PEOPLE.table(table)


def test_an_answer_lists_at_most_a_hundred_faults():
    with pytest.raises(errors.RequestError) as caught:
        PEOPLE.columns({"age": ["x"] * 500})
    assert len(caught.value.violations) == MAX_VIOLATIONS


def test_a_table_says_the_row_of_each_fault_and_keeps_the_rest():
    table, faults = PEOPLE.check({"age": pa.chunked_array([[1.0], [2.5, None]])}, 3)
    assert table["age"].to_pylist() == [1, None, None]
    assert [(fault["row"], fault["got"]) for fault in faults] == [(1, "number 2.5"), (2, "null")]


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("double", pa.array([1, 2, None], pa.int32())),
        ("double", pa.array([1.5, None], pa.float32())),
        ("int64", pa.array([1.0, float("nan")])),
        ("float", pa.array([0.1, 1e30])),
        ("string", pa.array(["a", None]).dictionary_encode()),
        ("string", pa.array(["a"], pa.large_string())),
        ("timestamp[us, tz=UTC]", pa.array([0], pa.timestamp("ms", "America/New_York"))),
        ("timestamp[us, tz=UTC]", pa.array(["2013-10-01T12:00:00Z"])),
        ("double", pa.nulls(2)),
    ],
)
def test_a_column_and_its_values_one_by_one_conform_to_the_same(type_name, values):
    whole = contract(type_name).table(pa.table({"x": values}))["x"].to_pylist()
    single = [one(type_name, value) for value in values.to_pylist()]
    assert whole == single


numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.just(1e39)
)


small, texts = st.integers(-3, 3), st.text(max_size=3) | st.just("\ud800")
values_of_few_types = st.one_of(
    st.lists(kind | st.none(), max_size=8) for kind in (small, small | st.floats(-3, 3), st.booleans(), texts)
)


@given(
    st.sampled_from(["double", "float", "int64", "int8", "bool", "string"]),
    st.lists(numbers, max_size=8) | values_of_few_types,
    st.sampled_from([{}, {"nullable": False}, {"minimum": -1.0, "maximum": 2.0}]),
)
def test_records_and_columns_agree_on_any_json_values(type_name, values, facts):
    """The same values are taken over, to the same result, and the same are refused."""
    model = contract(type_name, **(facts if type_name not in {"bool", "string"} or "minimum" not in facts else {}))

    def by_row():
        return [row["x"] for row in model.records([{"x": value} for value in values])]

    def by_column():
        return model.columns({"x": values})["x"].to_pylist()

    assert outcome(by_row) == outcome(by_column)


offsets = st.just("Z") | st.builds(
    "{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 24), st.integers(0, 60)
)
written_times = st.builds(
    "{}{}{}{}".format,
    st.datetimes(dt.datetime(1890, 1, 1), dt.datetime(2209, 1, 1)).map(lambda time: time.isoformat(" ", "seconds")),  # noqa: DTZ001
    st.sampled_from(["", ".5", ".123456", ".1234567", ",5"]),
    st.sampled_from(["", " "]),
    offsets,
)
odd_times = st.sampled_from(["2013-02-29T10:00:00Z", "2013-10-01", "2013-10-01T24:00:00Z", "", "x", "\ud800"])


@given(
    st.lists(written_times | written_times | odd_times | st.none(), max_size=5),
    st.sampled_from([{}, {"nullable": False}, {"timezone": "America/New_York"}]),
)
def test_records_and_columns_agree_on_times_however_they_are_written(texts, facts):
    model = contract("timestamp[us, tz=UTC]", **facts)
    by_row = outcome(lambda: [row["x"] for row in model.records([{"x": text} for text in texts])])
    by_column = outcome(lambda: list(model.columns({"x": texts})["x"].to_pylist()))
    assert by_column == by_row


@given(st.lists(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2199, 12, 31)), min_size=1, max_size=5))  # noqa: DTZ001
def test_a_column_of_times_with_offsets_is_what_python_reads(times):
    texts = [f"{time.isoformat(timespec='microseconds')}+05:30" for time in times]
    columns = contract("timestamp[us, tz=UTC]").columns({"x": texts})
    assert columns["x"].to_pylist() == [dt.datetime.fromisoformat(text).astimezone(UTC) for text in texts]


def outcome(run):
    try:
        return run(), None
    except errors.RequestError as error:
        return None, error.violations


@given(st.sampled_from(["float", "int64", "int8", "double"]), st.lists(st.one_of(st.floats(), st.none()), max_size=8))
def test_arrow_columns_and_records_agree_on_any_floats(type_name, values):
    table, faults = contract(type_name).check({"x": pa.array(values, pa.float64())}, len(values))
    for row, (value, taken) in enumerate(zip(values, table["x"].to_pylist(), strict=True)):
        wrong = any(fault["row"] == row for fault in faults)
        if wrong:
            refused(type_name, value)
        else:
            assert one(type_name, value) == taken


def test_a_text_that_counted_as_missing_in_training_is_null_in_a_request_and_any_other_is_refused():
    column = Column(name="x", type="int64", kind="numeric", null_values=("?", "closed"))
    contract = RequestValidator(Schema(columns=(column,)), ["x"])
    assert contract.records([{"x": "?"}, {"x": " closed "}, {"x": 3}]) == [{"x": None}, {"x": None}, {"x": 3}]
    with pytest.raises(errors.RequestError) as caught:
        contract.records([{"x": "-"}])
    assert caught.value.violations == [{"row": 0, "field": "x", "got": "text '-'", "expected": "an integer (int64)"}]


@pytest.mark.parametrize("missing", [Decimal("sNaN"), Decimal("NaN"), pd.NA, pd.NaT, np.float64("nan"), None])
@pytest.mark.parametrize("type_name", ["double", "int64", "string", "timestamp[us, tz=UTC]", "list<item: double>"])
def test_every_missing_value_of_python_is_null(type_name, missing):
    assert one(type_name, missing) is None


def test_an_array_is_a_list_and_for_other_columns_no_value():
    assert one("list<item: double>", np.array([1.0, 2.5])) == [1.0, 2.5]
    assert refused("double", np.array([1.0, 2.5])) == ("ndarray array([1. , 2.5])", "a number")

"""Columns of pandas hold any object: each value is taken as it is, or its row is named."""

import datetime as dt
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.predict import columns_of
from mlsys.predict.validation import RequestValidator
from mlsys.schema import Column, Kind, Schema

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
MIDNIGHT, NOON = dt.datetime.fromisoformat("2013-01-01"), dt.datetime.fromisoformat("2013-01-01T12:00")
UTC_TIME = "timestamp[us, tz=UTC]"


def objects(*values):
    return pd.Series(list(values), dtype=object)


def read(type_name, values, timezone="America/New_York"):
    column = Column(name="x", type=type_name, kind=Kind.NUMERIC)
    contract = RequestValidator(Schema(columns=(column,)), ["x"], timezone)
    return contract.columns(columns_of(pd.DataFrame({"x": values})))["x"].to_pylist()


def refused(type_name, values):
    with pytest.raises(errors.RequestError) as caught:
        read(type_name, values)
    return [(each["row"], each["got"]) for each in caught.value.violations]


@pytest.mark.parametrize(
    ("type_name", "values", "expected"),
    [
        ("double", objects(1, 2.5, np.float32(0.5), None, pd.NA, float("nan")), [1.0, 2.5, 0.5, None, None, None]),
        ("double", objects(2**53, 0.5), [2.0**53, 0.5]),
        ("double", objects(2**70, 1), [2.0**70, 1.0]),
        ("double", pd.Series(np.array([1.5], np.longdouble)), [1.5]),
        ("double", pd.Series(pd.arrays.SparseArray([0.0, 1.5])), [0.0, 1.5]),
        ("list<item: double>", objects(np.array([1.0, 2.0]), [3]), [[1.0, 2.0], [3.0]]),
        ("string", objects("a", None, "b"), ["a", None, "b"]),
        ("string", pd.Series(pd.Categorical(["a", None])), ["a", None]),
        ("binary", objects(b"ab", "YWI="), [b"ab", b"ab"]),
    ],
)
def test_values_of_several_types_are_converted_one_by_one(type_name, values, expected):
    assert read(type_name, values) == expected


@pytest.mark.parametrize(
    ("values", "hours"),
    [
        (objects(MIDNIGHT, MIDNIGHT.replace(tzinfo=NEW_YORK)), [5, 5]),
        (objects(MIDNIGHT.replace(tzinfo=NEW_YORK), MIDNIGHT), [5, 5]),
        (objects(pd.Timestamp("2013-01-01"), pd.Timestamp("2013-01-01", tz="UTC"), pd.NaT), [5, 0, None]),
        (objects(pd.Timestamp("2013-01-01T03:00:00.000000001Z"), "2013-01-01T04:00:00Z"), [3, 4]),
        (objects(np.datetime64("2013-01-01T00:00", "ns"), "2013-01-01T04:00:00Z"), [5, 4]),
        (pd.Series(pd.to_datetime(["2013-01-01", None])), [5, None]),
        (pd.Series(pd.to_datetime(["2013-01-01T04:00:00.000000001Z"])), [4]),
    ],
)
def test_times_are_the_same_whatever_stands_beside_them(values, hours):
    """A time without a zone is local in New York, five hours behind UTC."""
    assert [None if time is None else time.hour for time in read(UTC_TIME, values)] == hours


@pytest.mark.parametrize("kind", [object, "category"])
def test_a_time_among_days_does_not_lose_its_hours(kind):
    values = pd.Series(objects(dt.date(2013, 1, 1), NOON)).astype(kind)
    ((row, got),) = refused("date32", values)
    assert row == 1
    assert "2013, 1, 1, 12" in got
    ((row, _),) = refused(UTC_TIME, values)
    assert row == 0


@pytest.mark.parametrize(
    ("type_name", "values", "row"),
    [
        ("double", objects(1, "2"), 1),
        ("double", objects(True, 1), 0),
        ("int64", objects(1, 2**70), 1),
        ("int64", objects(np.datetime64("2013-01-01", "ns"), 1), 0),
        ("int64", objects(np.timedelta64(1, "ns"), 1), 0),
        ("string", objects("a", "\ud800"), 1),
        ("int64", pd.Series([1, 2j]), 1),
        ("int64", pd.Series(pd.PeriodIndex(["2013-01", None], freq="M")), 0),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_row(type_name, values, row):
    assert row in [number for number, _ in refused(type_name, values)]


def test_a_column_of_one_type_stays_an_arrow_array():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": objects(1, 2.5)})
    columns = columns_of(frame)
    assert [columns[name].type for name in "ac"] == [pa.int64(), pa.float64()]
    assert all(isinstance(column, pa.ChunkedArray) for column in columns.values())

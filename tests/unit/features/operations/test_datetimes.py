"""Times as features, against the calendar."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest

from mlsys import recipe
from mlsys.schema import Column, Kind, Role, Schema
from one_column import NAN, Y, one_column, transformed


def between(fit, first, second, kinds, encoding="codes", **roles):
    columns = tuple(
        Column(name=name, type=str(kind), kind=Kind.DATETIME, role=roles.get(name, Role.FEATURE))
        for name, kind in zip("ab", kinds, strict=True)
    )
    schema = Schema(columns=(*columns, Y))
    table = pa.table({"a": pa.array(first, kinds[0]), "b": pa.array(second, kinds[1]), "y": [0.0] * len(first)})
    wanted = recipe.FeaturesSection(columns={"a": {"operation": "elapsed", "since": "b"}})
    return fit(table, schema, wanted, encoding), table


UTC, CLOCK = pa.timestamp("us", "UTC"), pa.timestamp("us")


def test_days_since_another_column_are_counted_between_instants_and_not_between_clocks(fit):
    # The night in which New York's clocks go from 02:00 to 03:00 has 23 hours.
    first = [dt.datetime(2013, 3, 10, 12, tzinfo=dt.UTC), dt.datetime(2013, 3, 9, tzinfo=dt.UTC), None]
    second = [dt.datetime(2013, 3, 9, 12, tzinfo=dt.UTC), dt.datetime(2013, 3, 19, 6, tzinfo=dt.UTC), first[0]]
    made, table = between(fit, first, second, (UTC, UTC))
    at = made.names.index("a: days since b")
    np.testing.assert_array_equal(made.transform(table)[:, at], [1, -10.25, NAN])
    dense, _ = between(fit, first, second, (UTC, UTC), "dense")
    at = dense.names.index("a: days since b")
    expected = [[math.log(2), 0], [-math.log(11.25), 0], [0, 1]]
    np.testing.assert_allclose(dense.transform(table)[:, at : at + 2], expected, rtol=1e-6)


def test_an_instant_beside_a_time_without_zone_is_read_from_the_clock_on_the_wall(fit):
    summer = dt.datetime(2013, 7, 1, 4, tzinfo=dt.UTC)  # midnight in New York
    made, table = between(fit, [summer] * 2, [dt.datetime(2013, 6, 30)] * 2, (UTC, CLOCK))  # noqa: DTZ001
    assert made.transform(table)[:, made.names.index("a: days since b")].tolist() == [1, 1]
    made, table = between(fit, [summer] * 2, [dt.date(2013, 6, 1)] * 2, (UTC, pa.date32()))
    assert made.row()(table.to_pylist()[0])[made.names.index("a: days since b")] == 30


YEAR = [dt.datetime(2012, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=35 * i) for i in range(300)]


@pytest.mark.parametrize(
    ("utc", "hour", "weekday", "yearday"),
    [
        # 15 USC 260a: in 2013 New York's clocks went from 02:00 to 03:00 on 10 March and back on 3 November.
        (dt.datetime(2013, 3, 10, 6, 59, tzinfo=dt.UTC), 1 + 59 / 60, 6, 68),
        (dt.datetime(2013, 3, 10, 7, 0, tzinfo=dt.UTC), 3, 6, 68),
        (dt.datetime(2013, 11, 3, 5, 30, tzinfo=dt.UTC), 1.5, 6, 306),
        (dt.datetime(2013, 11, 3, 6, 30, tzinfo=dt.UTC), 1.5, 6, 306),
        (dt.datetime(2012, 12, 31, 20, 15, tzinfo=dt.UTC), 15.25, 0, 365),  # a leap year
        (
            dt.datetime(1969, 7, 21, 2, 56, 15, tzinfo=dt.UTC),
            22 + 56 / 60,
            6,
            200,
        ),  # the first step on the Moon
        (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), NAN, NAN, NAN),  # "never"
        (None, NAN, NAN, NAN),
    ],
)
def test_parts_of_a_time_follow_the_wall_clock_of_the_zone(fit, utc, hour, weekday, yearday):
    made = fit(*one_column(Kind.DATETIME, YEAR, pa.timestamp("us", "UTC")))
    assert made.names == ["a: hour", "a: weekday", "a: yearday"]
    np.testing.assert_array_equal(made.row()({"a": utc}), np.array([hour, weekday, yearday], np.float32))


def test_a_time_in_another_unit_or_zone_is_the_same_time(fit):
    made = fit(*one_column(Kind.DATETIME, YEAR, pa.timestamp("us", "UTC")))
    expected = made.transform(pa.table({"a": pa.array(YEAR, pa.timestamp("us", "UTC"))}))
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("s", "Europe/Berlin"), pa.timestamp("ms", "+05:30")):
        np.testing.assert_array_equal(transformed(made, YEAR, kind), expected)
    tokyo = dt.timezone(dt.timedelta(hours=9))
    np.testing.assert_array_equal(made.row()({"a": YEAR[7].astimezone(tokyo)}), expected[7])


def test_linear_models_get_points_on_the_circle_where_midnight_is_near_midnight(fit):
    values = [*YEAR, None]
    made = fit(*one_column(Kind.DATETIME, values, pa.timestamp("us", "UTC")), encoding="dense")
    row = made.row()
    late, early = (
        row({"a": dt.datetime(2013, 1, 15, h, m, tzinfo=dt.UTC)})[:2] for h, m in ((4, 59), (5, 1))
    )  # 23:59 and 00:01
    assert np.linalg.norm(late - early) < 0.01
    assert row({"a": None}).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_a_date_has_no_hour(fit):
    made = fit(*one_column(Kind.DATETIME, [day.date() for day in YEAR], pa.date32()))
    assert made.names == ["a: weekday", "a: yearday"]
    assert made.row()({"a": dt.date(1970, 1, 1)}).tolist() == [3, 0]

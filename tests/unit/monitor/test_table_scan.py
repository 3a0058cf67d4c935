"""Windows of a table hold each row once, with the numbers of the rows themselves."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.monitor.table_scan import NO_TARGET, CustomMetrics, TableScan, is_identifier, reference_of
from mlsys.monitor.windows import Calendar
from mlsys.schema import Column, Kind, Schema
from mlsys.statistics import TableStatistics

SCHEMA = Schema(
    columns=(
        Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME),
        Column(name="x", type="double", kind=Kind.NUMERIC),
        Column(name="c", type="string", kind=Kind.CATEGORICAL),
    )
)
NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
ROW = st.tuples(
    st.none() | st.integers(0, 20 * 86_400).map(lambda s: dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(0, s)),
    st.none() | st.integers(-50, 50).map(float),
    st.none() | st.sampled_from(["a", "b"]),
)


def table_of(rows):
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table({name: pa.array(values, kind.type) for name, values, kind in
                     zip(SCHEMA.names, columns, SCHEMA.arrow(), strict=True)})  # fmt: skip


def statistics_of(table):
    statistics = TableStatistics.empty(SCHEMA, NO_TARGET)
    statistics.update(table)
    return statistics


@given(st.lists(ROW, min_size=1, max_size=60), st.integers(1, 4), st.sampled_from(["1 hour", "1 day", "1 week"]))
@settings(max_examples=40, deadline=None)
def test_each_row_with_a_time_is_in_one_window(rows, parts, granularity):
    table = table_of(rows)
    reference = reference_of(statistics_of(table), "at")
    scan = TableScan(SCHEMA, reference, Calendar(granularity, "Europe/Berlin"), "at", ("c",), NOW)
    for part in range(parts):
        scan.add(table.filter(pa.array(np.arange(table.num_rows) % parts == part)))
    timed = [row for row in rows if row[0] is not None]
    windows = [window for window in scan.ordered() if window.slice_key is None]
    assert sum(window.num_rows for window in windows) == len(timed)
    assert scan.num_untimed == len(rows) - len(timed)
    for window in windows:
        own = [row for row in timed if window.start <= row[0] < window.end]
        values = [row[1] for row in own if row[1] is not None]
        numbers = window.statistics.columns["x"].numbers
        assert (window.num_rows, numbers.moments.n) == (len(own), len(values))
        assert numbers.moments.mean == pytest.approx(np.mean(values) if values else 0.0)
        assert window.total("x").sum() == window.total("c").sum() == len(own)
    slices = [window for window in scan.ordered() if window.slice_key == "c"]
    assert sum(window.num_rows for window in slices) == sum(row[2] is not None for row in timed)


@given(st.lists(ROW, min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_custom_metrics_are_those_of_polars_on_the_rows(tmp_path_factory, rows):
    table = table_of(rows)
    reference = reference_of(statistics_of(table), "at")
    scan = TableScan(SCHEMA, reference, Calendar("1 day"), "at", ("c",), NOW)
    sql = {"ratio": "sum(x) / count(x)", "share": "avg(x > 0)", "top": "max(x)"}
    metrics = CustomMetrics(sql, SCHEMA, tmp_path_factory.mktemp("metrics") / "rows")
    metrics.add(*scan.add(table))
    values = metrics.values(("c",))
    frame = pl.from_arrow(table).drop_nulls("at").with_columns(pl.col("at").dt.truncate("1d").alias("day"))
    for (day, key, value), computed in values.items():
        own = frame.filter(pl.col("day") == day)
        own = own if key is None else own.filter(pl.col("c") == value)
        known = own["x"].drop_nulls()
        assert computed["ratio"] == pytest.approx(known.mean() if len(known) else None)
        assert computed["share"] == pytest.approx((known > 0).mean() if len(known) else None)
        assert computed["top"] == known.max()
    assert len([key for key in values if key[1] is None]) == frame["day"].n_unique()


@pytest.mark.parametrize(
    ("values", "kind", "names_rows"),
    [
        (list(range(1_000)), Kind.NUMERIC, True),
        ([k * 1_000 for k in range(1_000)], Kind.NUMERIC, False),
        ([k + 0.5 for k in range(1_000)], Kind.NUMERIC, False),
        ([k % 400 for k in range(1_000)], Kind.NUMERIC, False),
        ([f"c{k}" for k in range(1_000)], Kind.CATEGORICAL, True),
        ([f"c{k % 300}" for k in range(1_000)], Kind.CATEGORICAL, False),
    ],
)
def test_columns_that_name_rows_are_told_from_others(values, kind, names_rows):
    statistics = TableStatistics.empty(Schema(columns=(Column(name="x", type="string", kind=kind),)), NO_TARGET)
    statistics.update(pa.table({"x": values}))
    assert is_identifier(statistics, "x") is names_rows

"""Longer windows of shorter ones are those of one scan, and no row is read for them again."""

from __future__ import annotations

import datetime as dt
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.monitor import judge, roll_up
from mlsys.monitor.table_scan import NO_TARGET, TableScan, reference_of
from mlsys.monitor.windows import Calendar
from mlsys.schema import Column, Kind, Schema
from mlsys.statistics import TableStatistics
from traffic import MONDAY, Traffic, World, logged

SCHEMA = Schema(
    columns=(
        Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME),
        Column(name="x", type="double", kind=Kind.NUMERIC),
        Column(name="c", type="string", kind=Kind.CATEGORICAL),
    )
)
START = dt.datetime(2024, 3, 28, tzinfo=dt.UTC)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 9 * 86_400),
        st.none() | st.floats(-1e6, 1e6, allow_nan=False),
        st.none() | st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=80,
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
PAIRS = st.sampled_from(
    [("1 hour", "1 day"), ("1 hour", "1 week"), ("1 hour", "1 month"), ("1 day", "1 week"), ("1 day", "1 month")]
)


def scanned(table, calendar):
    statistics = TableStatistics.empty(SCHEMA, NO_TARGET)
    statistics.update(table)
    scan = TableScan(SCHEMA, reference_of(statistics, "at"), calendar, "at", ("c",), START)
    scan.add(table)
    return scan.windows


@given(ROWS, ZONES, PAIRS)
@settings(max_examples=60, deadline=None)
def test_windows_of_parts_are_those_of_one_scan(rows, zone, pair):
    """Also over the hours that clocks skip and repeat: 31 March in Berlin."""
    times, values, names = zip(*rows, strict=True)
    at = pa.array([START + dt.timedelta(seconds=second) for second in times], pa.timestamp("us", "UTC"))
    table = pa.table({"at": at, "x": pa.array(values, pa.float64()), "c": pa.array(names, pa.string())})
    fine, coarse = (Calendar(each, zone) for each in pair)
    once = scanned(table, coarse)
    rolled = roll_up.roll_up(scanned(table, fine).values(), coarse)
    assert rolled.keys() == once.keys()
    for key, window in rolled.items():
        other = once[key]
        assert (window.num_rows, window.end, window.label) == (other.num_rows, other.end, other.label)
        assert window.blocks_seen == other.blocks_seen
        for name in ("x", "c"):
            np.testing.assert_array_equal(window.counts[name], other.counts[name])
        own, whole = window.statistics.columns["x"], other.statistics.columns["x"]
        assert (own.num_rows, own.num_nulls) == (whole.num_rows, whole.num_nulls)
        assert own.counts() == whole.counts()  # up to 512 different values are counted, so quantiles are exact, too
        assert (own.numbers.minimum, own.numbers.maximum) == (whole.numbers.minimum, whole.numbers.maximum)
        assert own.numbers.moments.n == whole.numbers.moments.n
        assert own.numbers.moments.mean == pytest.approx(whole.numbers.moments.mean, rel=1e-9, abs=1e-6)
        assert own.numbers.moments.m2 == pytest.approx(whole.numbers.moments.m2, rel=1e-9, abs=1e-3)


def test_moments_have_the_same_bits_where_sums_are_exact():
    """Two hours of four small whole numbers each: every sum and every quotient is a double."""
    at = pa.array([START + dt.timedelta(minutes=15 * k) for k in range(8)], pa.timestamp("us", "UTC"))
    table = pa.table({"at": at, "x": [0.0, 3.0, 1.0, 8.0, 5.0, 2.0, 2.0, 7.0], "c": ["a"] * 8})
    day = (START, None, None)
    once = scanned(table, Calendar("1 day"))[day]
    rolled = roll_up.roll_up(scanned(table, Calendar("1 hour")).values(), Calendar("1 day"))[day]
    assert rolled.statistics.columns["x"].numbers.moments == once.statistics.columns["x"].numbers.moments
    assert once.statistics.columns["x"].numbers.moments.mean == 3.5


def test_sketches_of_parts_keep_their_stated_error():
    """20,000 different values in 48 hours: ranks of the whole within the bound of the sketch."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=20_000)
    seconds = rng.integers(0, 2 * 86_400, 20_000).tolist()
    at = pa.array([MONDAY + dt.timedelta(seconds=each) for each in seconds], pa.timestamp("us", "UTC"))
    table = pa.table({"at": at, "x": values, "c": ["a"] * 20_000})
    rolled = roll_up.roll_up(scanned(table, Calendar("1 hour")).values(), Calendar("1 week"))
    (window,) = (each for each in rolled.values() if each.slice_key is None)
    column = window.statistics.columns["x"]
    points = np.quantile(values, np.arange(1, 20) / 20)
    errors = np.abs(column.cdf(points) - [(values <= point).mean() for point in points])
    assert 0 < errors.max() <= column.numbers.rank_error
    assert column.num_distinct == pytest.approx(20_000, rel=0.05)


@pytest.fixture
def kept(made, tmp_path):
    """A world whose state lies in a store of its own."""
    store, bundle = made
    copy = type(store).open(tmp_path / "store")
    shutil.copytree(store.path("bundle", bundle.digest), copy.root / "objects" / "bundle" / bundle.digest)
    baseline = {"metrics": {"roc_auc": {"value": 0.8206, "low": 0.8126, "high": 0.8286, "error": 0.004}}}
    return World(copy, bundle, tmp_path / "log", baseline)


def judged(world, labels=None, *, is_stored=True, compared=None, **monitor):
    recipe, how = world.recipe(**monitor), {"is_stored": is_stored, "baseline": world.baseline, "compared": compared}
    return judge.compare(world.store, "world", world.bundle, world.folder, labels, recipe, **how)


def facts(judgement):
    """All that is judged; statistics by sketches may differ by how rows were read."""
    names = ("label", "num_rows", "verdict", "labels", "reasons")
    return [
        [
            *(window[name] for name in names),
            {name: round(metric["value"], 9) for name, metric in window["metrics"].items()},
            [(shift["column"], shift["js_distance"]) for shift in window["shifts"]],
        ]
        for window in judgement.value["windows"]
    ]


def test_the_monitor_makes_weeks_of_the_days_that_it_has_read(kept):
    traffic = [Traffic.draw(1_400, k, shift=0.8 * (k == 1)) for k in range(3)]
    kept.write(traffic[:2])
    labels = pa.concat_tables([each.labels() for each in traffic])
    judged(kept, labels, granularity="1 day", slices=["colour"])
    (state,) = (kept.store.root / "monitor" / "world" / "log").iterdir()
    kept.add(logged(traffic[2], MONDAY + dt.timedelta(weeks=2), digest=kept.bundle.digest))
    weeks = judged(kept, labels, granularity="1 week", slices=["colour"])
    assert list((kept.store.root / "monitor" / "world" / "log").iterdir()) == [state]
    assert [window["num_rows"] for window in weeks.value["windows"]] == [1_400] * 3
    assert facts(weeks) == facts(judged(kept, labels, is_stored=False, granularity="1 week", slices=["colour"]))


def test_several_granularities_are_in_one_table_and_the_first_is_judged(kept):
    kept.write([Traffic.draw(1_400, k) for k in range(2)])
    made = judged(kept, granularity=["1 week", "1 day"])
    assert [window["num_rows"] for window in made.value["windows"]] == [1_400, 1_400]
    assert made.value["rules"]["granularity"] == "1 week"
    table = pl.read_parquet(made.folder / "profile.parquet").filter(pl.col("column_name") == ":table")
    rows = table.group_by("granularity", maintain_order=True).agg(pl.col("count").sum(), pl.len())
    assert rows.rows() == [("1 week", 2_800, 2), ("1 day", 2_800, 14)]


def test_labels_count_once_in_a_day_of_one_hour(kept):
    traffic = Traffic.draw(600, 7)
    kept.write([traffic], span=dt.timedelta(hours=1))
    made = judged(kept, traffic.labels(), granularity=["1 day", "1 hour"])
    table = pl.read_parquet(made.folder / "profile.parquet").filter(column_name="late", log_type="INPUT")
    assert table.select("granularity", "count", "num_nulls").rows() == [("1 day", 600, 0), ("1 hour", 600, 0)]


def test_two_windows_are_compared_with_intervals(kept):
    kept.write([Traffic.draw(2_000, 1), Traffic.draw(2_000, 2), Traffic.draw(2_000, 3, shift=0.8)])
    made = judged(kept, compared=("week of 2024-01-01", "2024-01-17"))
    first = made.comparison["columns"][0]
    assert made.comparison["windows"] == ["week of 2024-01-01", "week of 2024-01-15"]
    assert first["column"] in {"a", "score"}
    assert first["alarmed"]
    assert 0 < first["low"] < first["js_distance"] < first["high"] < 1

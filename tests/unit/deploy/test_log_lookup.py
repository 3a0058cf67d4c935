"""A row of the log is found by its id, and no more is read for it than its id or its time leaves open."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.deploy import log_compaction, log_lookup, prediction_log, row_ids
from mlsys.deploy.prediction_log import SPANS, Span

UTC = dt.UTC
TIMES = pa.timestamp("us", "UTC")
FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"


def put(folder, day, ids, *, writer="w", first=0, bundles=None, rows_a_group=None):
    """A file of the log, as its writer names it, with these ids in this order."""
    at = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(12), UTC)
    table = pa.table({
        "prediction_id": pa.array(ids, pa.string()),
        "logged_at": pa.array([at + dt.timedelta(seconds=k) for k in range(len(ids))], TIMES),
        "model_version": ["1"] * len(ids),
        "bundle": bundles or ["b" * 64] * len(ids),
        "score": [k / 10 for k in range(len(ids))],
    })  # fmt: skip
    path = folder / day / f"{writer}-{first:012d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({SPANS: prediction_log.packed([Span(writer, first, len(ids))])})
    pq.write_table(table, path, row_group_size=rows_a_group, write_page_checksum=True)
    return path


def test_an_id_is_found_with_its_file_its_row_and_the_number_that_it_keeps(tmp_path):
    put(tmp_path, FIRST, ["a", "b"], first=40)
    search = log_lookup.find(tmp_path, "b")
    (row,) = search.rows
    assert (row.file, row.row, row.writer, row.number) == (f"{FIRST}/w-{40:012d}.parquet", 1, "w", 41)
    assert row.values["score"] == 0.1
    assert row.values["logged_at"] == dt.datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
    assert (search.num_files, search.num_row_groups, search.days, search.faults) == (1, 1, (FIRST,), ())
    assert log_lookup.find(tmp_path, "c").rows == ()
    assert log_lookup.find(tmp_path / "nothing", "a").rows == ()


def test_the_footer_tells_in_which_row_group_an_id_may_be(tmp_path):
    put(tmp_path, FIRST, [f"{k:04d}" for k in range(1_000)], rows_a_group=100)
    search = log_lookup.find(tmp_path, "0731")
    assert [row.row for row in search.rows] == [731]
    assert search.num_row_groups == 1
    assert log_lookup.find(tmp_path, "2000").num_row_groups == 0


def test_days_are_read_from_the_time_on_outwards_and_else_from_the_newest(tmp_path):
    for day, name in ((FIRST, "a"), (SECOND, "b"), (THIRD, "c")):
        put(tmp_path, day, [name])
    assert log_lookup.find(tmp_path, "c").days == (THIRD,)
    assert log_lookup.find(tmp_path, "a").days == (THIRD, SECOND, FIRST)
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert log_lookup.find(tmp_path, "a", noon).days == (FIRST,)
    assert log_lookup.find(tmp_path, "c", noon).days == (FIRST, SECOND, THIRD)
    late = dt.datetime(2026, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=5)))  # still the first in UTC
    assert log_lookup.find(tmp_path, "a", late).days == (FIRST,)


def test_an_id_that_an_endpoint_drew_leads_to_its_day(tmp_path):
    drawn = row_ids.new_ids(40)
    today = dt.datetime.now(UTC).date().isoformat()
    put(tmp_path, FIRST, ["old"])
    put(tmp_path, today, drawn)
    (name,) = drawn[7:8]
    search = log_lookup.find(tmp_path, name, row_ids.time_of(name))
    assert ([row.row for row in search.rows], search.days) == ([7], (today,))


def test_an_id_that_came_again_has_all_its_rows_of_the_day_the_newest_last(tmp_path):
    put(tmp_path, FIRST, ["x", "a"], writer="v")
    put(tmp_path, FIRST, ["b", "c", "a"], writer="w")
    rows = log_lookup.find(tmp_path, "a").rows
    assert [(row.writer, row.row) for row in rows] == [("v", 1), ("w", 2)]


def test_a_row_keeps_writer_and_number_when_files_are_merged(tmp_path):
    for first in range(0, 40, 2):
        put(tmp_path, FIRST, [f"{first:02d}", f"{first + 1:02d}"], first=first)
    before = log_lookup.find(tmp_path, "31").rows[0]
    log_compaction.compact(tmp_path, dt.datetime(2026, 1, 5, tzinfo=UTC))
    after = log_lookup.find(tmp_path, "31").rows[0]
    assert (after.writer, after.number, after.values) == (before.writer, before.number, before.values) == (
        "w", 31, before.values
    )  # fmt: skip
    assert after.file.startswith(f"{FIRST}/merged-")


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path):
    put(tmp_path, FIRST, ["a"])
    broken = put(tmp_path, FIRST, ["b"], writer="x")
    broken.write_bytes(b"PAR1 and nothing")
    search = log_lookup.find(tmp_path, "a")
    assert (len(search.rows), search.faults) == (1, (f"{FIRST}/{broken.name}",))
    assert log_lookup.rows_by_bundle(tmp_path) == {"b" * 64: {FIRST: 1}}


def test_rows_are_counted_by_bundle_and_day(tmp_path):
    put(tmp_path, FIRST, ["a", "b", "c"], bundles=["1", "1", "2"])
    put(tmp_path, SECOND, ["d", "e"], bundles=["1", "1"])
    put(tmp_path, SECOND, ["f"], writer="x", bundles=[None])
    assert log_lookup.rows_by_bundle(tmp_path) == {"1": {FIRST: 2, SECOND: 2}, "2": {FIRST: 1}}
    assert log_lookup.rows_by_bundle(tmp_path / "nothing") == {}


@given(
    files=st.lists(
        st.tuples(st.sampled_from([FIRST, SECOND]), st.lists(st.text("abc", min_size=1, max_size=3), min_size=1)),
        min_size=1,
        max_size=6,
    ),
    rows_a_group=st.integers(1, 4),
)
def test_the_rows_are_those_that_a_reading_of_the_newest_day_with_the_id_finds(tmp_path_factory, files, rows_a_group):
    folder, expected = tmp_path_factory.mktemp("log"), {}
    for number, (day, ids) in enumerate(files):
        put(folder, day, ids, writer=f"w{number}", rows_a_group=rows_a_group)
        for place, name in enumerate(ids):
            expected.setdefault(name, {}).setdefault(day, set()).add((f"w{number}", place))
    for name in {*expected, "zzzz"}:
        rows = log_lookup.find(folder, name).rows
        newest = expected.get(name, {})
        assert {(row.writer, row.number) for row in rows} == (newest[max(newest)] if newest else set())


@pytest.mark.parametrize("name", ["order-7", "", "9f8a2c1e-7d3b-4a5f-8c6d-1e2f3a4b5c6d"])
def test_an_id_of_a_client_or_of_an_older_version_holds_no_time(name):
    assert row_ids.time_of(name) is None

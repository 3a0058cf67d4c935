"""The layout of the log: rows keep their numbers, and merging files loses and doubles none."""

import datetime as dt
import errno
import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors, locks
from mlsys.deploy import log_compaction, prediction_log
from mlsys.deploy.prediction_log import SPANS, RowSpans, Span
from mlsys.store import Store

TODAY = dt.datetime(2013, 11, 5, 12, tzinfo=dt.UTC)
TOMORROW = TODAY + dt.timedelta(days=1)


def put(folder, writer, first, count=3, day="2013-11-05", **columns):
    """A file as the writer writes it; the number of a row is its value."""
    ids = [f"{writer}{number}" for number in range(first, first + count)]
    table = pa.table({"prediction_id": ids, **{name: [value] * count for name, value in columns.items()}})
    path = folder / day / f"{writer}-{first:012d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = prediction_log.packed([Span(writer, first, count)])
    half = path.with_name(f".{path.name}.half")
    pq.write_table(table.replace_schema_metadata({SPANS: packed}), half, write_page_checksum=True)
    half.rename(path)
    return ids


def ids(tables):
    return sorted(name for table in tables for name in table["prediction_id"].to_pylist())


def whole(folder):
    return ids(prediction_log.read(folder))


def test_the_files_of_a_day_that_is_over_become_one_with_the_same_rows(tmp_path):
    store = Store.open(tmp_path)
    folder = prediction_log.folder_of(store, "late")
    expected = [name for first in range(0, 30, 3) for name in put(folder, "a", first) + put(folder, "b", first)]
    done = log_compaction.compact(folder, TOMORROW)
    assert (done.num_merged, done.num_written) == (20, 1)
    assert len(list(folder.rglob("*.parquet"))) == 1
    assert whole(folder) == sorted(expected)
    (merged,) = prediction_log.files(folder)
    assert merged.spans == (Span("a", 0, 30), Span("b", 0, 30))
    assert log_compaction.compact(folder, TOMORROW) == log_compaction.Compacted()


def test_of_a_day_that_goes_on_few_files_stay_and_many_are_merged(tmp_path):
    for first in range(0, 3 * (log_compaction.FEW_FILES - 1), 3):
        put(tmp_path, "a", first)
    assert log_compaction.compact(tmp_path, TODAY).num_merged == 0
    put(tmp_path, "a", 1000)
    assert log_compaction.compact(tmp_path, TODAY).num_merged == log_compaction.FEW_FILES


def test_files_of_other_columns_stay_apart(tmp_path):
    expected = (
        put(tmp_path, "a", 0) + put(tmp_path, "a", 3) + put(tmp_path, "b", 0, seats=1) + put(tmp_path, "b", 3, seats=1)
    )
    log_compaction.compact(tmp_path, TOMORROW)
    assert sorted(len(log_file.schema.names) for log_file in prediction_log.files(tmp_path)) == [1, 2]
    assert whole(tmp_path) == sorted(expected)


def test_a_reader_gets_each_row_once_whatever_was_merged_between_two_readings(tmp_path):
    first = put(tmp_path, "a", 0) + put(tmp_path, "b", 0)
    seen = RowSpans()
    assert ids(prediction_log.read(tmp_path, seen)) == sorted(first)
    later = put(tmp_path, "a", 3) + put(tmp_path, "c", 0, day="2013-11-06")
    log_compaction.compact(tmp_path, TOMORROW + dt.timedelta(days=1))
    again = RowSpans.from_json(seen.to_json())
    assert ids(prediction_log.read(tmp_path, again)) == sorted(later)
    assert ids(prediction_log.read(tmp_path, again)) == []


def test_files_that_are_merged_while_they_are_read_come_once(tmp_path):
    expected = [name for first in range(0, 15, 3) for name in put(tmp_path, "a", first)]
    reading = prediction_log.read(tmp_path)
    taken = [next(reading)]
    log_compaction.compact(tmp_path, TOMORROW)
    taken += list(reading)
    assert ids(taken) == sorted(expected)


def test_a_merge_that_was_killed_before_it_removed_its_files_doubles_nothing(tmp_path, monkeypatch):
    expected = put(tmp_path, "a", 0) + put(tmp_path, "a", 3)
    monkeypatch.setattr(log_compaction, "_remove", lambda paths: 0)
    log_compaction.compact(tmp_path, TOMORROW)
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    assert whole(tmp_path) == sorted(expected)
    monkeypatch.undo()
    assert log_compaction.compact(tmp_path, TOMORROW).num_removed == 2
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert whole(tmp_path) == sorted(expected)


def test_a_merge_that_was_killed_half_way_leaves_what_was_there(tmp_path):
    expected = put(tmp_path, "a", 0)
    half = tmp_path / "2013-11-05" / ".merged-1.parquet"
    half.write_bytes(b"half")
    assert whole(tmp_path) == sorted(expected)
    log_compaction.compact(tmp_path, TOMORROW)
    assert half.exists(), "somebody may still be writing it"
    os.utime(half, (0, 0))
    log_compaction.compact(tmp_path, TOMORROW)
    assert not half.exists()


def test_a_damaged_file_is_named_and_stays_and_holds_up_no_other(tmp_path):
    expected = put(tmp_path, "a", 0) + put(tmp_path, "a", 3)
    damaged = tmp_path / "2013-11-05" / "zero.parquet"
    damaged.write_bytes(b"")
    assert [log_file.path for log_file in prediction_log.files(tmp_path) if log_file.fault] == [damaged]
    log_compaction.compact(tmp_path, TOMORROW)
    assert damaged.exists()
    assert whole(tmp_path) == sorted(expected)


def damage(path, column=0, row_group=0):
    """Turn a byte of a page over, behind a footer that stays whole."""
    place = pq.ParquetFile(path).metadata.row_group(row_group).column(column).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 40] ^= 255
    path.write_bytes(content)


def test_rows_that_cannot_be_read_hold_up_no_merge_and_are_set_aside_with_the_reason(tmp_path):
    lost, expected = put(tmp_path, "a", 0), put(tmp_path, "a", 3) + put(tmp_path, "b", 0)
    (damaged,) = tmp_path.rglob("a-000000000000.parquet")
    damage(damaged)
    assert whole(tmp_path) == sorted(expected)
    seen, faults = RowSpans(), {}
    done = log_compaction.compact(tmp_path, TOMORROW)
    assert (done.num_merged, done.num_written, done.num_damaged) == (3, 1, 1)
    assert ids(prediction_log.read(tmp_path, seen, faults)) == sorted(expected)
    assert not damaged.exists()
    (aside,) = tmp_path.rglob("damaged/2013-11-05/*.parquet")
    assert pq.read_metadata(aside).num_rows == len(lost)
    ((name, reason),) = faults.items()
    assert name == "damaged/2013-11-05/a-000000000000.parquet"
    assert reason.startswith("3 rows: ")
    assert [loss.num_rows for loss in prediction_log.losses(tmp_path)] == [3]
    assert log_compaction.compact(tmp_path, TOMORROW) == log_compaction.Compacted()


def test_one_damaged_row_group_costs_no_rows_beside_it(tmp_path):
    expected = put(tmp_path, "b", 0)
    table = pa.table({"prediction_id": [f"a{number}" for number in range(9)]})
    table = table.replace_schema_metadata({SPANS: prediction_log.packed([Span("a", 0, 4), Span("a", 10, 5)])})
    path = tmp_path / "2013-11-05" / "large.parquet"
    pq.write_table(table, path, row_group_size=3, write_page_checksum=True)
    damage(path, row_group=1)
    expected += [f"a{number}" for number in (0, 1, 2, 6, 7, 8)]
    seen, faults = RowSpans(), {}
    assert ids(prediction_log.read(tmp_path, seen, faults)) == sorted(expected)
    assert list(faults) == ["2013-11-05/large.parquet"]
    assert seen.ranges["a"] == [(0, 3), (12, 15)]
    log_compaction.compact(tmp_path, TOMORROW)
    assert whole(tmp_path) == sorted(expected)
    (merged,) = prediction_log.files(tmp_path)
    assert merged.spans == (Span("a", 0, 3), Span("a", 12, 3), Span("b", 0, 3))


def test_where_no_row_can_be_read_no_file_is_made_of_them(tmp_path):
    put(tmp_path, "a", 0)
    put(tmp_path, "a", 3)
    for path in tmp_path.rglob("*.parquet"):
        damage(path)
    assert log_compaction.compact(tmp_path, TOMORROW) == log_compaction.Compacted(2, 0, 2, 0)
    assert whole(tmp_path) == []
    assert not list((tmp_path / "2013-11-05").iterdir())


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), pa.ArrowMemoryError("malloc")])
def test_an_error_of_the_machine_is_no_damage(tmp_path, monkeypatch, error):
    expected = put(tmp_path, "a", 0) + put(tmp_path, "a", 3)

    def fails(self, number):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetFile, "read_row_group", fails)
        with pytest.raises((errors.StoreError, MemoryError)):
            log_compaction.compact(tmp_path, TOMORROW)
    assert whole(tmp_path) == sorted(expected)
    assert not list(tmp_path.rglob(".merged*"))


def test_a_log_that_another_process_compacts_is_left_alone(tmp_path):
    put(tmp_path, "a", 0)
    put(tmp_path, "a", 3)
    with locks.hold(tmp_path / ".compact.lock", "another"):
        assert log_compaction.compact(tmp_path, TOMORROW) == log_compaction.Compacted()
    assert log_compaction.compact(tmp_path, TOMORROW).num_merged == 2


def test_files_of_earlier_versions_are_read_and_merged_too(tmp_path):
    (tmp_path / "2013-11-05").mkdir()
    for name in ("x", "y"):
        pq.write_table(pa.table({"prediction_id": [name]}), tmp_path / "2013-11-05" / f"{name}.parquet")
    seen = RowSpans()
    assert ids(prediction_log.read(tmp_path, seen)) == ["x", "y"]
    log_compaction.compact(tmp_path, TOMORROW)
    assert ids(prediction_log.read(tmp_path, seen)) == []
    assert whole(tmp_path) == ["x", "y"]


FOR_EVER = """
import sys, time
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from mlsys.deploy import log_compaction, prediction_log as log
folder, what = Path(sys.argv[1]), sys.argv[2]
(folder / "2013-11-05").mkdir(parents=True, exist_ok=True)
for first in range(0, 3_000_000, 3):
    if what == "compact":
        log_compaction.compact(folder)
        continue
    table = pa.table({"prediction_id": [f"w{number}" for number in range(first, first + 3)]})
    half = folder / ".half"
    pq.write_table(table.replace_schema_metadata({log.SPANS: log.packed([log.Span("w", first, 3)])}), half)
    half.rename(folder / "2013-11-05" / f"w-{first:012d}.parquet")
    time.sleep(0.001)
"""


def test_killed_while_a_reader_reads_and_a_writer_writes_it_loses_and_doubles_no_row(tmp_path):
    def started(what):
        return subprocess.Popen([sys.executable, "-c", FOR_EVER, str(tmp_path), what])

    writer, seen, taken, num_merged = started("write"), RowSpans(), [], 0
    for _ in range(3):
        compacting, before = started("compact"), num_merged
        end = time.monotonic() + 60
        while num_merged < before + 2 and time.monotonic() < end:
            taken += ids(prediction_log.read(tmp_path, seen))
            num_merged += any(log_file.path.name.startswith("merged") for log_file in prediction_log.files(tmp_path))
        compacting.kill()
        compacting.wait()
    writer.kill()
    writer.wait()
    taken += ids(prediction_log.read(tmp_path, seen))
    numbers = sorted(int(name[1:]) for name in taken)
    assert len(numbers) > 30
    assert numbers == list(range(len(numbers)))
    assert len(whole(tmp_path)) == len(numbers)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), max_size=12), st.integers(0, 25), st.integers(1, 8))
def test_what_is_missing_of_a_span_is_what_no_span_in_the_set_has(spans, first, count):
    seen, numbers = RowSpans(), set()
    for start, size in spans:
        seen.add(Span("w", start, size))
        numbers |= set(range(start, start + size))
    missing = seen.missing(Span("w", first, count))
    assert [n for part in missing for n in range(part.first, part.end)] == [
        n for n in range(first, first + count) if n not in numbers
    ]
    assert seen.missing(Span("v", first, count)) == [Span("v", first, count)]

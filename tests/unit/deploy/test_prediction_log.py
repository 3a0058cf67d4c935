"""The layout of the log: rows keep their numbers, and merging files loses and doubles none."""

import datetime as dt
import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from mlsys.deploy import prediction_log
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
    pq.write_table(table.replace_schema_metadata({SPANS: packed}), half)
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
    done = prediction_log.compact(store, "late", TOMORROW)
    assert (done.num_merged, done.num_written) == (20, 1)
    assert len(list(folder.rglob("*.parquet"))) == 1
    assert whole(folder) == sorted(expected)
    (merged,) = prediction_log.files(folder)
    assert merged.spans == (Span("a", 0, 30), Span("b", 0, 30))
    assert prediction_log.compact(store, "late", TOMORROW) == prediction_log.Compacted()


def test_of_a_day_that_goes_on_few_files_stay_and_many_are_merged(tmp_path):
    for first in range(0, 3 * (prediction_log.FEW_FILES - 1), 3):
        put(tmp_path, "a", first)
    assert prediction_log.compact_folder(tmp_path, TODAY).num_merged == 0
    put(tmp_path, "a", 1000)
    assert prediction_log.compact_folder(tmp_path, TODAY).num_merged == prediction_log.FEW_FILES


def test_files_of_other_columns_stay_apart(tmp_path):
    expected = (
        put(tmp_path, "a", 0) + put(tmp_path, "a", 3) + put(tmp_path, "b", 0, seats=1) + put(tmp_path, "b", 3, seats=1)
    )
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert sorted(len(log_file.schema.names) for log_file in prediction_log.files(tmp_path)) == [1, 2]
    assert whole(tmp_path) == sorted(expected)


def test_a_reader_gets_each_row_once_whatever_was_merged_between_two_readings(tmp_path):
    first = put(tmp_path, "a", 0) + put(tmp_path, "b", 0)
    seen = RowSpans()
    assert ids(prediction_log.read(tmp_path, seen)) == sorted(first)
    later = put(tmp_path, "a", 3) + put(tmp_path, "c", 0, day="2013-11-06")
    prediction_log.compact_folder(tmp_path, TOMORROW + dt.timedelta(days=1))
    again = RowSpans.from_json(seen.to_json())
    assert ids(prediction_log.read(tmp_path, again)) == sorted(later)
    assert ids(prediction_log.read(tmp_path, again)) == []


def test_files_that_are_merged_while_they_are_read_come_once(tmp_path):
    expected = [name for first in range(0, 15, 3) for name in put(tmp_path, "a", first)]
    reading = prediction_log.read(tmp_path)
    taken = [next(reading)]
    prediction_log.compact_folder(tmp_path, TOMORROW)
    taken += list(reading)
    assert ids(taken) == sorted(expected)


def test_a_merge_that_was_killed_before_it_removed_its_files_doubles_nothing(tmp_path, monkeypatch):
    expected = put(tmp_path, "a", 0) + put(tmp_path, "a", 3)
    monkeypatch.setattr(prediction_log, "_remove", lambda paths: 0)
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    assert whole(tmp_path) == sorted(expected)
    monkeypatch.undo()
    assert prediction_log.compact_folder(tmp_path, TOMORROW).num_removed == 2
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert whole(tmp_path) == sorted(expected)


def test_a_merge_that_was_killed_half_way_leaves_what_was_there(tmp_path):
    expected = put(tmp_path, "a", 0)
    half = tmp_path / "2013-11-05" / ".merged-1.parquet"
    half.write_bytes(b"half")
    assert whole(tmp_path) == sorted(expected)
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert half.exists(), "somebody may still be writing it"
    os.utime(half, (0, 0))
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert not half.exists()


def test_a_damaged_file_is_named_and_stays_and_holds_up_no_other(tmp_path):
    expected = put(tmp_path, "a", 0) + put(tmp_path, "a", 3)
    damaged = tmp_path / "2013-11-05" / "zero.parquet"
    damaged.write_bytes(b"")
    assert [log_file.path for log_file in prediction_log.files(tmp_path) if log_file.fault] == [damaged]
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert damaged.exists()
    assert whole(tmp_path) == sorted(expected)


def test_files_of_earlier_versions_are_read_and_merged_too(tmp_path):
    (tmp_path / "2013-11-05").mkdir()
    for name in ("x", "y"):
        pq.write_table(pa.table({"prediction_id": [name]}), tmp_path / "2013-11-05" / f"{name}.parquet")
    seen = RowSpans()
    assert ids(prediction_log.read(tmp_path, seen)) == ["x", "y"]
    prediction_log.compact_folder(tmp_path, TOMORROW)
    assert ids(prediction_log.read(tmp_path, seen)) == []
    assert whole(tmp_path) == ["x", "y"]


FOR_EVER = """
import sys, time
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from mlsys.deploy import prediction_log as log
folder, what = Path(sys.argv[1]), sys.argv[2]
(folder / "2013-11-05").mkdir(parents=True, exist_ok=True)
for first in range(0, 3_000_000, 3):
    if what == "compact":
        log.compact_folder(folder)
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

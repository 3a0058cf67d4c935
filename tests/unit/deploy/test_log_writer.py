import datetime as dt
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundles import fit, requests, rows, schema, stored
from mlsys import recipe
from mlsys.deploy import log_writer, prediction_log
from mlsys.deploy.log_writer import LoggedRequest, PredictionLog
from mlsys.predict import Predictor
from mlsys.registry import LedgerEntry
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.store import Store

NOW = dt.datetime(2013, 11, 5, 23, 59, 59, 5, tzinfo=dt.UTC)
FOREVER_S = 3600.0


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("log"))
    return {kind: Predictor(fit(store, kind)) for kind in TaskKind}


def logged(predictor, records, *, ids=None, at=NOW, version=1):
    conformed = predictor.contract.records(records)
    ids = ids or [f"p{number}" for number in range(len(records))]
    entry = LedgerEntry("late", version, predictor.bundle.digest)
    return LoggedRequest(predictor, entry, conformed, predictor.conformed_rows(conformed), ids, at, 1.5)


def files(folder):
    return sorted(folder.rglob("*.parquet"))


def written(folder):
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files(folder)])


def test_a_row_of_the_log_says_all_about_a_prediction(tmp_path, predictors):
    predictor = predictors[TaskKind.BINARY]
    record = requests(rows(1, seed=4))[0] | {"carrier": "??", "scheduled": "2013-11-05T10:00:00Z"}
    said = predictor.rows([record])
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    writer.add(logged(predictor, [record]))
    writer.close()
    (row,) = written(tmp_path).to_pylist()
    assert row["prediction_id"] == "p0"
    assert row["logged_at"] == NOW
    assert row["event_at"] == dt.datetime(2013, 11, 5, 10, tzinfo=dt.UTC)
    assert row["model_version"] == "1"
    assert row["bundle"] == predictor.bundle.digest
    assert json.loads(row["prediction"]) is bool(said.prediction[0])
    assert row["score"] == said.score[0]
    assert row["probabilities"] == said.probabilities[0].tolist()
    assert row["latency_ms"] == 1.5
    assert row["unseen"] == 1
    assert {name: row[name] for name in ("seats", "carrier", "night")} == {
        name: record[name] for name in ("seats", "carrier", "night")
    }


def test_the_types_of_the_log_are_fixed_whatever_the_task(tmp_path, predictors):
    for kind, prediction in ((TaskKind.MULTICLASS, pa.string()), (TaskKind.REGRESSION, pa.float64())):
        writer = PredictionLog(tmp_path / kind, flush_s=FOREVER_S)
        writer.add(logged(predictors[kind], [{"seats": 1}]))
        writer.close()
        columns = written(tmp_path / kind).schema
        assert columns.names[: len(prediction_log.OWN)] == list(prediction_log.OWN)
        assert columns.field("prediction").type == prediction
        assert columns.field("probabilities").type == pa.list_(pa.float64())
        assert columns.field("event_at").type == pa.timestamp("us", "UTC")
        assert columns.field("unseen").type == pa.int32()
        assert columns.field("load").type == pa.float32()


def test_the_id_of_the_entity_is_logged_beside_that_of_the_prediction(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1, "flight": "F1"}, {"seats": 1}], ids=["a", "b"]))
    writer.close()
    assert written(tmp_path).select(["prediction_id", "flight"]).to_pylist() == [
        {"prediction_id": "a", "flight": "F1"},
        {"prediction_id": "b", "flight": None},
    ]


def test_without_a_time_of_its_own_a_row_happened_when_it_was_logged(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}, {"seats": 1, "scheduled": "2013-01-01T00:00:00Z"}]))
    writer.close()
    assert written(tmp_path)["event_at"].to_pylist() == [NOW, dt.datetime(2013, 1, 1, tzinfo=dt.UTC)]


def test_a_day_as_the_time_of_a_row_begins_at_midnight_where_the_source_was_written(tmp_path):
    """2013-07-01 in New York begins at 04:00 UTC."""
    table = rows(300, seed=4)
    days = table["scheduled"].cast(pa.date32())
    dated = table.set_column(table.column_names.index("scheduled"), "scheduled", days)
    as_day = {"type": "date32[day]"}
    columns = [column.model_copy(update=as_day if column.name == "scheduled" else {}) for column in schema()]
    options = recipe.ReadOptions(timezone="America/New_York")
    task = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))
    store, of_days = Store.open(tmp_path / "store"), Schema(columns=tuple(columns))
    of = stored(store, dated, of_days, task, example={}, read_options=options)
    writer = PredictionLog(tmp_path / "log", flush_s=FOREVER_S)
    writer.add(logged(Predictor(of), [{"seats": 1, "scheduled": "2013-07-01"}, {"seats": 1}]))
    writer.close()
    assert written(tmp_path / "log")["event_at"].to_pylist() == [dt.datetime(2013, 7, 1, 4, tzinfo=dt.UTC), NOW]


def test_records_and_tables_are_logged_alike(tmp_path, predictors):
    predictor = predictors[TaskKind.BINARY]
    records = [*requests(rows(5, seed=6)), {"seats": 3, "carrier": "??"}]
    conformed = predictor.contract.records(records)
    one = logged(predictor, records)
    table = predictor.contract.arrow(conformed)
    other = LoggedRequest(predictor, one.entry, table, predictor.conformed_table(table), one.ids, NOW, 1.5)
    assert one.arrow().equals(other.arrow())
    assert one.arrow()["unseen"].to_pylist() == [0, 0, 0, 0, 0, 1]


def test_a_feature_with_a_name_of_the_log_is_set_apart(tmp_path, predictors, monkeypatch):
    predictor = predictors[TaskKind.BINARY]
    entry = logged(predictor, [{"seats": 1}])
    columns = (Column(name="score", type="double", kind=Kind.NUMERIC), *predictor.bundle.schema)
    monkeypatch.setitem(predictor.bundle.__dict__, "schema", Schema(columns=columns))
    names = entry.arrow().schema.names
    assert "input.score" in names
    assert names.count("score") == 1


def test_rows_of_two_days_and_two_models_are_in_files_of_their_own(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    tomorrow = NOW + dt.timedelta(seconds=1)
    for at in (NOW, tomorrow):
        for kind in (TaskKind.BINARY, TaskKind.REGRESSION):
            writer.add(logged(predictors[kind], [{"seats": 1}], at=at))
    writer.close()
    assert [file.parent.name for file in files(tmp_path)] == ["2013-11-05"] * 2 + ["2013-11-06"] * 2
    assert [file.metadata.num_rows for file in map(pq.ParquetFile, files(tmp_path))] == [1] * 4


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited 30 s"
        time.sleep(0.01)


def test_a_file_is_written_when_enough_rows_wait(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_rows=4, flush_s=FOREVER_S)
    for number in range(4):
        writer.add(logged(predictors[TaskKind.BINARY], [{"seats": number}]))
    wait_until(lambda: writer.stats()["logged"] == 4)
    assert sum(pq.ParquetFile(file).metadata.num_rows for file in files(tmp_path)) == 4
    writer.close()


def test_a_file_is_written_when_a_row_has_waited_long_enough(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=0.05)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}]))
    wait_until(lambda: writer.stats()["logged"] == 1)
    assert writer.stats() == {"logged": 1, "pending": 0, "dropped": 0, "error": None, "restarts": 0}
    writer.close()


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S, max_pending_rows=3)
    for number in range(5):
        writer.add(logged(predictors[TaskKind.BINARY], [{"seats": number}]))
    assert writer.stats() == {"logged": 0, "pending": 3, "dropped": 2, "error": None, "restarts": 0}
    writer.close()
    assert written(tmp_path)["seats"].to_pylist() == [0, 1, 2]


def test_the_queue_is_full_by_bytes_too(tmp_path, predictors):
    one = logged(predictors[TaskKind.BINARY], [{"seats": 1}])
    rows = [replace(one, rows=[{**one.rows[0], "carrier": "x" * 10_000}]) for _ in range(3)]
    assert [10_000 < row.num_bytes() < 11_000 for row in rows] == [True] * 3
    table = replace(one, rows=pa.table({"seats": [1], "picture": [bytes(50_000)]}))
    assert table.num_bytes() > 50_000
    assert rows[0].num_bytes(body_bytes=10_400) < 12_000
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S, max_pending_bytes=25_000)
    for row in (*rows, table, one):
        writer.add(row)
    assert writer.stats() == {"logged": 0, "pending": 3, "dropped": 2, "error": None, "restarts": 0}
    writer.close()
    assert writer.stats()["logged"] == 3


def test_what_waits_is_written_on_closing_and_later_rows_are_dropped(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}]))
    writer.close()
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 2}]))
    assert writer.stats() == {"logged": 1, "pending": 0, "dropped": 1, "error": None, "restarts": 0}


def test_a_disk_that_cannot_be_written_keeps_rows_waiting_until_it_can(tmp_path, predictors):
    folder = tmp_path / "log"
    folder.write_text("a file where the folder should be")
    writer = PredictionLog(folder, flush_s=0.05)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}]))
    wait_until(lambda: writer.stats()["error"] is not None)
    assert writer.stats()["pending"] == 1
    folder.unlink()
    wait_until(lambda: writer.stats()["logged"] == 1)
    assert writer.stats()["error"] is None
    writer.close()


def test_no_row_is_lost_or_written_twice_under_many_threads(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_rows=50, flush_s=0.01)

    def send(thread):
        for number in range(40):
            writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}], ids=[f"{thread}-{number}"]))

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    ids = written(tmp_path)["prediction_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 160
    assert writer.stats()["logged"] == 160


def test_only_finished_files_have_the_name_of_one(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_rows=1, flush_s=0.01)
    for number in range(20):
        writer.add(logged(predictors[TaskKind.BINARY], [{"seats": number}]))
        for file in files(tmp_path):
            if not file.name.startswith("."):
                assert pq.ParquetFile(file).metadata.num_rows >= 1
    writer.close()
    assert not list(tmp_path.rglob(".*"))


def test_values_that_training_never_saw_or_too_seldom_are_counted_by_row(predictors, tmp_path):
    predictor = predictors[TaskKind.BINARY]
    carriers = np.array(["B6"] * 50, dtype=object)
    carriers[[3, 17, 49]] = "??"
    table = predictor.contract.table(pa.table({"seats": [1] * 50, "carrier": carriers.tolist()}))
    counts, _ = predictor.counts_by_row(table)
    assert [row for row, count in enumerate(counts) if count] == [3, 17, 49]
    assert sum(counts) == 3
    few = recipe.FeaturesSection(columns={"carrier": {"operation": "codes", "min_rows": 1_000}})
    seldom = Predictor(fit(Store.open(tmp_path), features=few))
    assert logged(seldom, [{"seats": 1, "carrier": name} for name in ("B6", "??", None)]).arrow().select(
        ["unseen", "rare"]
    ).to_pylist() == [{"unseen": 0, "rare": 1}, {"unseen": 1, "rare": 0}, {"unseen": 0, "rare": 0}]


def test_counting_by_row_evaluates_each_column_once_however_many_rows_are_unseen(predictors, monkeypatch):
    predictor, calls = predictors[TaskKind.BINARY], []
    program = type(predictor.bundle.program)
    read = program.read
    monkeypatch.setattr(program, "read", lambda self, table: calls.append(1) or read(self, table))
    entry = logged(predictor, [{"seats": 1, "carrier": f"?{number}"} for number in range(300)])
    calls.clear()
    assert entry.arrow()["unseen"].to_pylist() == [1] * 300
    assert len(calls) <= 2


def test_what_the_answers_have_counted_is_not_counted_again(predictors, monkeypatch):
    predictor = predictors[TaskKind.BINARY]
    one = [logged(predictor, [{"seats": 1, "carrier": name}], ids=[str(name)]) for name in ("??", "B6", None)]
    few = logged(predictor, [{"seats": 1}, {"seats": 2}])
    expected = log_writer.table_of([*one, few])["unseen"].to_pylist()
    monkeypatch.setattr(Predictor, "counts_by_row", None)
    assert log_writer.table_of([*one, few])["unseen"].to_pylist() == expected == [1, 0, 0, 0, 0]


def test_requests_of_records_are_written_as_one_table(predictors):
    """One row at a time, as they come, and all at once are the same rows of the log."""
    predictor = predictors[TaskKind.BINARY]
    records = requests(rows(6, seed=8))
    alone = [logged(predictor, [record], ids=[f"p{number}"]) for number, record in enumerate(records)]
    as_table = predictor.contract.arrow(predictor.contract.records(records[2:4]))
    mixed = [*alone[:2], replace(logged(predictor, records[2:4], ids=["p2", "p3"]), rows=as_table), *alone[4:]]
    together = logged(predictor, records).arrow()
    assert log_writer.table_of(alone).equals(together)
    assert log_writer.table_of(mixed).combine_chunks().equals(together.combine_chunks())


def test_one_row_that_no_file_can_hold_costs_no_other_and_the_log_goes_on(tmp_path, predictors):
    predictor = predictors[TaskKind.BINARY]
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    for name in ("a", "\ud800", "b", "c"):
        writer.add(logged(predictor, [{"seats": 1}], ids=[name]))
    writer.flush_rows = 1
    writer.add(logged(predictor, [{"seats": 2}], ids=["d"]))
    wait_until(lambda: writer.stats()["logged"] == 4)
    assert writer.stats()["dropped"] == 1
    writer.add(logged(predictor, [{"seats": 3}], ids=["e"]))
    writer.close()
    assert sorted(written(tmp_path)["prediction_id"].to_pylist()) == ["a", "b", "c", "d", "e"]
    (loss,) = prediction_log.losses(tmp_path)
    assert loss.num_rows == 1
    assert "UnicodeEncodeError" in loss.reason


def test_a_thread_that_died_is_started_again_and_counted(tmp_path, predictors, monkeypatch):
    monkeypatch.setattr(PredictionLog, "_run", lambda self: None)
    writer = PredictionLog(tmp_path, flush_s=0.01)
    writer._thread.join()
    monkeypatch.undo()
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}], ids=["a"]))
    wait_until(lambda: writer.stats()["logged"] == 1)
    assert writer.stats()["restarts"] == 1
    assert not writer.revive()
    writer.close()


def test_rows_that_the_end_does_not_leave_time_for_are_counted_and_noted(tmp_path, predictors, monkeypatch):
    go_on = threading.Event()
    write = PredictionLog._write_file
    monkeypatch.setattr(PredictionLog, "_write_file", lambda self, part: go_on.wait(30) and write(self, part))
    writer = PredictionLog(tmp_path, flush_s=FOREVER_S)
    for number in range(3):
        writer.add(logged(predictors[TaskKind.BINARY], [{"seats": number}]))
    assert writer.close(timeout_s=0.05) == 3
    go_on.set()
    assert writer.stats()["dropped"] == 3
    (loss,) = prediction_log.losses(tmp_path)
    assert (loss.num_rows, loss.reason) == (3, "not written within 0.05 s of the end")


def test_dropped_rows_are_noted_beside_the_log(tmp_path, predictors):
    writer = PredictionLog(tmp_path, flush_s=0.01, max_pending_rows=1)
    writer.add(logged(predictors[TaskKind.BINARY], [{"seats": 1}, {"seats": 2}]))
    writer.close()
    assert [(loss.num_rows, loss.reason) for loss in prediction_log.losses(tmp_path)] == [(2, "the queue is full")]


def test_compaction_waits_for_a_pause_of_the_rows_but_not_for_ever(tmp_path, predictors, monkeypatch):
    compacted = []
    monkeypatch.setattr(log_writer, "COMPACT_FILES", 1)
    monkeypatch.setattr(log_writer, "BUSY_FILES", 3)
    monkeypatch.setattr(log_writer.log_compaction, "compact", lambda folder: compacted.append(len(files(folder))))
    writer = PredictionLog(tmp_path, flush_rows=2, flush_s=0.01)
    for number, records in enumerate([[{"seats": 1}] * 2] * 4 + [[{"seats": 1}]], start=1):
        writer.add(logged(predictors[TaskKind.BINARY], records, ids=[f"{number}-{row}" for row in range(len(records))]))
        while writer.stats()["pending"]:
            time.sleep(0.001)
    writer.close()
    assert compacted in ([3, 5], [3])  # the thread may be told of the end before it looks at the last file

"""Rows of the log: each is counted once, none ends a run, and none is read twice."""

from __future__ import annotations

import datetime as dt
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.deploy import log_compaction, prediction_log
from mlsys.monitor import judge as step
from mlsys.monitor import log_state
from mlsys.monitor.log_rows import FAR_TIME, NO_PROBABILITIES, NO_SCORE, UNREADABLE_TIME
from mlsys.monitor.log_scan import TOO_MANY
from traffic import MONDAY, WEEK, Traffic, World, logged

ROWS = 400
UTC = dt.UTC


def judge(world, labels=None, *, is_stored=False, **section):
    recipe = world.recipe(**section)
    return step.compare(
        world.store, "world", world.bundle, world.folder, labels, recipe, baseline=world.baseline, is_stored=is_stored
    )


def with_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def a_week(world, seed=1, *, number=0, rows=ROWS, **options):
    return logged(Traffic.draw(rows, seed), MONDAY + WEEK * number, digest=world.bundle.digest, **options)


def times(table, some):
    """The log with other times of its own in the first rows."""
    at = [*some, *table["event_at"].to_pylist()[len(some) :]]
    return with_column(table, "event_at", pa.array(at, pa.timestamp("us", "UTC")))


def test_a_row_of_the_year_9999_or_1_is_left_out_with_its_reason_and_ends_no_run(world):
    years = [(9999, 12, 31, 23), (1, 1, 1), (2300, 1, 1)]
    far = [dt.datetime(*year, tzinfo=UTC) for year in years]
    world.add(times(a_week(world), far))
    judgement = judge(world)
    assert judgement.value["log"]["rejected"] == {FAR_TIME: 3}
    assert {row["prediction_id"] for row in judgement.value["log"]["examples"]} == {"1-0", "1-1", "1-2"}
    assert [window["num_rows"] for window in judgement.value["windows"]] == [ROWS - 3]
    assert judgement.value["messages"] == [f"3 rows of the log left out: {FAR_TIME}."]


@pytest.mark.parametrize(
    "values",
    [["2024-01-02T10:00:00Z", "yesterday"], [float("nan"), 5.5], [1, 2], [True, False]],
)
def test_a_time_of_another_type_is_read_or_left_out_and_ends_no_run(world, values):
    table = a_week(world, rows=2)
    world.add(with_column(table, "event_at", pa.array(values)))
    log = judge(world).value["log"]
    assert log["num_rows"] + log["num_rejected"] == 2
    if isinstance(values[0], str):
        assert log["rejected"] == {UNREADABLE_TIME: 1}


def test_rows_without_a_score_or_with_the_probabilities_of_another_task_are_left_out(world):
    table = a_week(world)
    score = [None, float("nan"), float("inf"), *table["score"].to_pylist()[3:]]
    lists = table["probabilities"].to_pylist()
    lists[3:6] = [None, [0.2, 0.3, 0.5], [0.5, None]]
    world.add(with_column(with_column(table, "score", pa.array(score)), "probabilities", pa.array(lists)))
    judgement = judge(world)
    assert judgement.value["log"]["rejected"] == {NO_PROBABILITIES: 3, NO_SCORE: 3}
    assert judgement.value["log"]["num_rows"] == ROWS - 6


def test_a_column_of_another_type_in_another_version_is_told_and_compared_within_its_own(world):
    world.add(a_week(world))
    other = logged(Traffic.draw(50, 9), MONDAY, digest="another", version="2")
    world.add(with_column(other, "seats", pa.array(["many"] * 50)))
    value = judge(world).value
    assert (value["log"]["num_rows"], value["log"]["others"], value["log"]["misread"]) == (ROWS, {"2": 50}, {})
    assert "Column 'seats' is of type string in another version; it is compared within its own." in value["messages"]


def test_values_that_are_not_of_their_columns_type_are_null_and_counted(world):
    seats = pa.array(["50"] * (ROWS - 3) + ["many", "2.5", None])
    world.add(with_column(a_week(world), "seats", seats))
    value = judge(world).value
    assert value["log"]["misread"] == {"seats": 2}
    assert "2 values of 'seats' in the log are not of its type and count as null." in value["messages"]


def broken(path, kind):
    """Make a file of the log unreadable in one of several ways."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "torn":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "torn rows":  # the footer is whole
        data = bytearray(path.read_bytes())
        data[4:2_000] = b"\xff" * 1_996
        path.write_bytes(data)
    elif kind == "foreign":
        pq.write_table(pa.table({"x": [1]}), path)
    else:
        pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata({prediction_log.SPANS: b"nonsense"}), path)


@pytest.mark.parametrize("kind", ["empty", "torn", "torn rows", "foreign", "spans"])
def test_a_file_that_cannot_be_read_is_named_and_ends_no_run(world, kind):
    world.write([Traffic.draw(ROWS, 1), Traffic.draw(ROWS, 2)])
    bad = min(world.folder.rglob("*.parquet"))
    broken(bad, kind)
    for judgement in (judge(world), judge(world, is_stored=True), judge(world, is_stored=True)):
        assert judgement.value["log"]["num_rows"] == ROWS
        assert list(judgement.value["log"]["faults"]) == [f"2024-01-01/{bad.name}"]
        assert any(bad.name in line for line in judgement.value["messages"])


def test_an_entity_that_is_scored_again_each_week_counts_each_time(world):
    for number in range(3):
        table = a_week(world, 1, number=number)  # the same customers with the same values
        world.add(table)
    assert [window["num_rows"] for window in judge(world).value["windows"]] == [ROWS] * 3


def test_a_retry_of_an_entitys_row_counts_once_also_without_a_time_of_its_own(world):
    start = dt.datetime(2024, 1, 1, 10, tzinfo=UTC)
    traffic = Traffic.draw(ROWS, 1)
    for minutes in (0, 5):
        at = start + dt.timedelta(minutes=minutes)
        world.add(logged(traffic, at, dt.timedelta(minutes=1), digest=world.bundle.digest, event_at=False))
    log = judge(world).value["log"]
    assert (log["num_rows"], log["num_duplicates"]) == (ROWS, ROWS)


def test_rows_with_ids_of_their_own_count_once_whenever_they_are_sent_again(world):
    """As a replay sends them: the entity's id beside that of the prediction."""
    for number in range(2):
        table = a_week(world, 1, number=number, event_at=False)
        own = pa.array([f"replay-{k}" for k in range(ROWS)])
        world.add(with_column(table, "prediction_id", own).append_column("id", table["prediction_id"]))
    log = judge(world).value["log"]
    assert (log["num_rows"], log["num_duplicates"]) == (ROWS, ROWS)


def test_times_without_end_open_no_windows_without_end(world, monkeypatch):
    monkeypatch.setattr("mlsys.monitor.log_scan.MAX_WINDOWS", 3)
    table = a_week(world, rows=300)
    world.add(times(table, [dt.datetime(1950 + k, 1, 1, tzinfo=UTC) for k in range(20)]))
    value = judge(world).value
    assert value["log"]["rejected"] == {TOO_MANY: 18}
    assert [window["num_rows"] for window in value["windows"]][-1] == 280


@pytest.mark.parametrize("count", [1, 300])
def test_a_log_of_one_row_or_of_one_second_is_reported(world, count):
    traffic = Traffic.draw(count, 1)
    world.add(logged(traffic, MONDAY, dt.timedelta(seconds=1), digest=world.bundle.digest))
    judgement = judge(world, traffic.labels())
    (window,) = judgement.value["windows"]
    assert (window["num_rows"], window["partial"]) == (count, True)


def test_a_clock_that_goes_backwards_changes_nothing(world):
    table = a_week(world)
    back = with_column(table, "logged_at", table["logged_at"][::-1])
    world.add(table.slice(0, 10))
    world.add(with_column(back, "event_at", table["event_at"]).slice(10))
    assert judge(world).value["log"]["num_rows"] == ROWS


def facts(judgement):
    """All that is judged; statistics by sketches may differ by how rows were read."""
    value = judgement.value
    log = {name: value["log"][name] for name in ("num_rows", "num_duplicates", "rejected", "others")}
    windows = [
        (w["label"], w["num_rows"], w["verdict"], w["labels"], [(s["column"], s["js_distance"]) for s in w["shifts"]])
        for w in value["windows"]
    ]
    return log, windows, value["decision"], value["labels"]


@pytest.fixture
def kept(made, tmp_path):
    """A world whose state lies in a store of its own."""
    store, of = made
    copy = type(store).open(tmp_path / "store")
    shutil.copytree(store.path("bundle", of.digest), copy.root / "objects" / "bundle" / of.digest)
    baseline = {"metrics": {"roc_auc": {"value": 0.8206, "low": 0.8126, "high": 0.8286, "error": 0.004}}}
    return World(copy, of, tmp_path / "log", baseline)


def test_what_is_read_in_parts_is_what_is_read_at_once(kept):
    """New files, late labels, a merge of the log, another version's rows and repeats between the runs."""
    traffic = [Traffic.draw(ROWS, k, shift=0.6 * (k > 2)) for k in range(5)]
    labels = pa.concat_tables([each.labels() for each in traffic])
    for number, each in enumerate(traffic):
        kept.add(logged(each, MONDAY + WEEK * number, digest=kept.bundle.digest))
        if number == 1:
            kept.add(logged(each, MONDAY + WEEK, digest=kept.bundle.digest).slice(0, 50))
            kept.add(logged(Traffic.draw(30, 70), MONDAY, digest="another"))
        if number == 3:
            assert log_compaction.compact(kept.folder).num_merged > 1
        judge(kept, labels.slice(0, ROWS * number) if number else None, is_stored=True, slices=["colour"])
    parts, whole = judge(kept, labels, is_stored=True, slices=["colour"]), judge(kept, labels, slices=["colour"])
    assert facts(parts) == facts(whole)
    for name in ("profile", "drift"):
        tables = [pq.read_table(each.folder / f"{name}.parquet") for each in (parts, whole)]
        assert tables[0].num_rows == tables[1].num_rows


def test_only_new_files_are_read_and_nothing_is_written_where_there_are_none(kept):
    kept.write([Traffic.draw(ROWS, 1), Traffic.draw(ROWS, 2)])
    judge(kept, is_stored=True)
    (state,) = (kept.store.root / "monitor" / "world" / "log").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in state.glob("[!.]*")}
    for path in kept.folder.rglob("*.parquet"):  # the rows stay known by their numbers; a second reading would fail
        table = pq.ParquetFile(path).read()
        span = prediction_log.Span(path.stem, 0, ROWS)
        pq.write_table(table.replace_schema_metadata({prediction_log.SPANS: prediction_log.packed([span])}), path)
        broken(path, "torn rows")
    again = judge(kept, is_stored=True)
    assert [window["num_rows"] for window in again.value["windows"]] == [ROWS, ROWS]
    assert again.value["log"]["faults"] == {}
    assert {path.name: path.stat().st_mtime_ns for path in state.glob("[!.]*")} == before


@pytest.mark.parametrize("damage", ["state", "windows", "rows", "killed"])
def test_a_state_that_is_damaged_or_half_written_is_made_again(kept, damage, monkeypatch):
    kept.write([Traffic.draw(ROWS, 1), Traffic.draw(ROWS, 2)])
    first = judge(kept, is_stored=True)
    (state,) = (kept.store.root / "monitor" / "world" / "log").iterdir()
    if damage == "killed":
        kept.add(a_week(kept, 3, number=2))
        with monkeypatch.context() as patch:
            patch.setattr(log_state, "write_json", _kill)
            with pytest.raises(KeyboardInterrupt):
                judge(kept, is_stored=True)
        assert [w["num_rows"] for w in judge(kept, is_stored=True).value["windows"]] == [ROWS] * 3
        return
    for path in state.glob(f"{damage}*"):
        path.write_bytes(path.read_bytes()[:50])
    assert facts(judge(kept, is_stored=True)) == facts(first)


def _kill(*_, **__):
    raise KeyboardInterrupt


def test_many_small_parts_of_the_index_are_put_together(kept, monkeypatch):
    monkeypatch.setattr(log_state, "MAX_PARTS", 3)
    traffic = [Traffic.draw(60, k) for k in range(8)]
    for number, each in enumerate(traffic):
        kept.add(logged(each, MONDAY + dt.timedelta(hours=number), dt.timedelta(hours=1), digest=kept.bundle.digest))
        judge(kept, is_stored=True)
    (state,) = (kept.store.root / "monitor" / "world" / "log").iterdir()
    assert len(list(state.glob("rows-*"))) <= 4
    labels = pa.concat_tables([each.labels() for each in traffic])
    (window,) = judge(kept, labels, is_stored=True).value["windows"]
    assert (window["num_rows"], window["labels"]["num_resolved"]) == (480, 480)
    assert np.isclose(window["labels"]["coverage"], 1)


def test_of_many_states_the_latest_are_kept(kept, monkeypatch):
    monkeypatch.setattr(log_state, "MAX_STATES", 2)
    kept.write([Traffic.draw(ROWS, 1)])
    for column in ("colour", "night", "seats", "a"):
        judge(kept, is_stored=True, slices=[column])
    assert len(list((kept.store.root / "monitor" / "world" / "log").iterdir())) == 2

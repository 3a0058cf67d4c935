"""A call that is killed goes on, and one that is repeated does nothing: rows are written once."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundles import fit, rows
from mlsys import errors, registry
from mlsys.deploy import batch, batch_output, batch_worker
from mlsys.deploy.batch_job import Share
from mlsys.deploy.batch_roots import Roots
from mlsys.deploy.batch_staging import DiscardedRunError
from mlsys.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("runs"))
        registry.set_alias(store, "late", "champion", registry.register(store, "late", fit(store)), "test")
    return store


@pytest.fixture(scope="module")
def table():
    return rows(300, seed=31).drop_columns(["y"])


def write(path, table):
    pq.write_table(table, path)
    return path


def read(folder):
    return pq.read_table(folder)


def bits(folder):
    """Everything of an output that follows from its rows: all but the time of the run."""
    return read(folder).drop_columns(["predicted_at"])


@pytest.fixture
def source(table, tmp_path):
    """Three files of a hundred rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.parquet", table.slice(number * 100, 100))
    return folder


@pytest.fixture
def interrupt(monkeypatch):
    """Have the worker interrupted after so many fragments; the list of those that it read."""
    predict_fragment = batch_worker.BatchPredictor.predict_fragment
    state, lock = {"left": 0, "read": []}, threading.Lock()

    def counted(self, numbered):
        with lock:
            if not state["left"]:
                raise KeyboardInterrupt
            state["left"] -= 1
            state["read"].append(numbered.number)
        return predict_fragment(self, numbered)

    def after(count):
        state["left"], state["read"] = count, []
        return state["read"]

    monkeypatch.setattr(batch_worker.BatchPredictor, "predict_fragment", counted)
    return after


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_an_interrupted_call_goes_on_after_the_fragments_that_were_finished(
    store, source, tmp_path, interrupt, finished
):
    interrupt(3)
    batch.predict(store, "late", source, tmp_path / "whole")
    before = interrupt(finished)
    with pytest.raises(KeyboardInterrupt):
        batch.predict(store, "late", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    numbers = interrupt(9)
    result = batch.predict(store, "late", source, tmp_path / "out")
    assert (len(before), sorted(before + numbers)) == (finished, [0, 1, 2])
    assert (result.num_rows, result.num_fragments, result.num_reused) == (300, 3, finished)
    assert bits(tmp_path / "out").equals(bits(tmp_path / "whole"))
    assert len(set(read(tmp_path / "out")["predicted_at"].to_pylist())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_result.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"
    ]  # fmt: skip


def test_rows_that_were_rejected_before_an_interruption_are_counted_once(store, table, tmp_path, interrupt):
    bad = table.set_column(table.schema.get_field_index("seats"), "seats", pa.array([-1] * 3 + [1] * 297))
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "0.parquet", bad)
    write(tmp_path / "in" / "1.parquet", table)
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        batch.predict(store, "late", tmp_path / "in", tmp_path / "out")
    interrupt(1)
    result = batch.predict(store, "late", tmp_path / "in", tmp_path / "out")
    assert (result.num_rows, result.num_rejected) == (600, 3)
    assert pq.read_table(tmp_path / "out" / "_rejected").num_rows == 3
    assert read(tmp_path / "out").num_rows == 597


def test_what_an_attempt_wrote_and_did_not_note_is_no_row(store, source, tmp_path, interrupt):
    """As if it was killed between the two, or is not dead yet and writes on."""
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        batch.predict(store, "late", source, tmp_path / "out")
    (staged,) = tmp_path.glob(".out.*")
    (stray,) = staged.glob("part-*.parquet")
    for number in range(3):
        (staged / f"part-0000{number}-00000000.parquet").write_bytes(stray.read_bytes())
    interrupt(9)
    batch.predict(store, "late", source, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    assert read(tmp_path / "out").num_rows == 300


def test_a_call_that_is_interrupted_while_it_publishes_reads_nothing_again(store, source, tmp_path, interrupt):
    interrupt(3)
    batch.predict(store, "late", source, tmp_path / "whole")
    interrupt(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_output, "_replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            batch.predict(store, "late", source, tmp_path / "out")
    numbers = interrupt(0)
    result = batch.predict(store, "late", source, tmp_path / "out")
    assert numbers == []
    assert (result.num_rows, result.num_reused) == (300, 3)
    assert bits(tmp_path / "out").equals(bits(tmp_path / "whole"))


def test_a_file_that_changed_meanwhile_is_read_again(store, table, source, tmp_path, interrupt):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        batch.predict(store, "late", source, tmp_path / "out")
    write(source / "0.parquet", table.slice(0, 50))
    numbers = interrupt(9)
    assert batch.predict(store, "late", source, tmp_path / "out").num_rows == 250
    assert sorted(numbers) == [0, 1, 2]


def test_a_complete_run_is_not_done_again(store, source, tmp_path, interrupt):
    interrupt(3)
    first = batch.predict(store, "late", source, tmp_path / "out")
    numbers = interrupt(0)
    again = batch.predict(store, "late", source, tmp_path / "out")
    assert numbers == []
    assert (again.run_id, again.predicted_at, again.num_reused) == (first.run_id, first.predicted_at, 3)
    assert again.summary.endswith("all parts of the source were finished before")


@pytest.mark.parametrize("change", ["file", "keys", "settings", "output", "run"])
def test_a_run_that_differs_in_anything_is_done(store, table, source, tmp_path, interrupt, change):
    interrupt(3)
    batch.predict(store, "late", source, tmp_path / "out")
    if change == "file":
        write(source / "1.parquet", table.slice(0, 100))
    if change == "output":
        (tmp_path / "out" / "part-00001.parquet").unlink()
    how = {
        "keys": {"keys": ["carrier"]}, "settings": {"settings": ["timezone=Europe/Berlin"]}, "run": {"run_id": "mine"}
    }.get(change, {})  # fmt: skip
    numbers = interrupt(3)
    assert batch.predict(store, "late", source, tmp_path / "out", **how).num_reused == 0
    assert sorted(numbers) == [0, 1, 2]
    assert read(tmp_path / "out").num_rows == 300


def test_runs_are_appended_each_once(store, table, source, tmp_path):
    first = batch.predict(store, "late", source, tmp_path / "out", append=True)
    batch.predict(store, "late", source, tmp_path / "out", append=True)
    write(tmp_path / "b.parquet", table.slice(0, 10))
    second = batch.predict(store, "late", tmp_path / "b.parquet", tmp_path / "out", append=True, run_id="monday")
    rows = read(tmp_path / "out")
    assert rows.group_by("run_id").aggregate([("flight", "count")]).sort_by("flight_count").to_pylist() == [
        {"run_id": "monday", "flight_count": 10}, {"run_id": first.run_id, "flight_count": 300}
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run=monday", f"run={first.run_id}"]
    assert second.output == str(tmp_path / "out" / "run=monday")
    write(tmp_path / "b.parquet", table.slice(0, 20))
    batch.predict(store, "late", tmp_path / "b.parquet", tmp_path / "out", append=True, run_id="monday")
    assert read(tmp_path / "out").num_rows == 320


def test_a_folder_of_one_run_and_one_of_several_are_not_mixed(store, source, tmp_path):
    batch.predict(store, "late", source, tmp_path / "single")
    with pytest.raises(errors.StoreError, match="the output of one run"):
        batch.predict(store, "late", source, tmp_path / "single", append=True)
    batch.predict(store, "late", source, tmp_path / "several", append=True)
    with pytest.raises(errors.StoreError, match="something else is there"):
        batch.predict(store, "late", source, tmp_path / "several")


def test_a_failed_source_keeps_what_was_finished(store, table, source, tmp_path):
    """A damaged file is named; once it is whole, only the run with other files is a new one."""
    (source / "2.parquet").write_bytes(b"no parquet")
    with pytest.raises(errors.SourceError, match=r"2\.parquet"):
        batch.predict(store, "late", source, tmp_path / "out")
    write(source / "2.parquet", table.slice(200, 100))
    assert batch.predict(store, "late", source, tmp_path / "out").num_rows == 300


def test_the_death_of_workers_is_an_error_after_which_the_next_call_goes_on(store, source, tmp_path, monkeypatch):
    from ray.exceptions import ActorDiedError

    predict_fragments = batch.predict_fragments

    def die_after_the_first(job, fragments, share):
        predict_fragments(job, fragments[:1], share)
        raise ActorDiedError

    with monkeypatch.context() as patch:
        patch.setattr(batch, "predict_fragments", die_after_the_first)
        with pytest.raises(errors.ClusterError, match="ActorDiedError: its process died"):
            batch.predict(store, "late", source, tmp_path / "out")
    assert batch.predict(store, "late", source, tmp_path / "out").num_reused == 1


def test_the_share_of_a_run_is_told_of_its_progress_and_may_end_it(store, source, tmp_path):
    totals, numbers = [], []
    share = Share(1, totals.append, lambda finished: numbers.append(finished.number))
    batch.predict(store, "late", source, tmp_path / "out", plan="cluster", share=share)
    assert (totals, sorted(numbers)) == ([3], [0, 1, 2])

    def give_up():
        raise DiscardedRunError

    with pytest.raises(DiscardedRunError):
        batch.predict(store, "late", source, tmp_path / "no", plan="cluster", share=Share(while_waiting=give_up))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_rows_of_files_outside_of_the_roots_are_not_read(store, source, tmp_path):
    (source / "3.parquet").symlink_to(write(tmp_path / "secret.parquet", read(source)))
    with pytest.raises(errors.RequestError, match="lies outside of the roots"):
        batch.predict(store, "late", source, tmp_path / "out", roots=Roots((str(source),)))

"""Records of batch predictions: one for each run and output, whatever ends the run, and none that grows."""

import pytest

from bundles import fit, rows
from mlsys import errors, registry
from mlsys.deploy import batch, batch_records
from mlsys.store import Store, digest_of_file, read_json


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("records"))
        registry.set_alias(store, "late", "champion", registry.register(store, "late", fit(store)), "test")
    return store


@pytest.fixture
def source(tmp_path):
    import pyarrow.parquet as pq

    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        pq.write_table(rows(30, seed=number).drop_columns(["y"]), folder / f"{number}.parquet")
    return folder


def of(store, output):
    return [record for record in batch_records.records(store, "late") if record.output == str(output)]


def test_a_run_that_is_repeated_has_one_record_and_each_output_its_own(store, source, tmp_path):
    for name in ("a", "a", "b"):
        made = batch.predict(store, "late", source, tmp_path / name, plan="task")
    for name in ("a", "b"):
        (record,) = of(store, tmp_path / name)
        assert (record.run_id, record.run_key, record.num_rows, record.error) == (made.run_id, made.run_key, 60, None)
    assert [(file["name"], file["sha256"]) for file in record.files] == [
        (f"{number}.parquet", digest_of_file(source / f"{number}.parquet")) for number in range(2)
    ]
    assert record.began_at <= record.ended_at
    assert not record.is_job


def test_a_record_that_is_lost_is_written_again_by_a_call_that_finds_its_output(store, source, tmp_path):
    batch.predict(store, "late", source, tmp_path / "out", plan="task")
    (before,) = of(store, tmp_path / "out")
    for file in (store.root / "registry" / "batch" / "late").glob("*.json"):
        if read_json(file)["output"] == before.output:
            file.write_text('{"run_id"')  # a disk that lost its end
    assert of(store, tmp_path / "out") == []
    batch.predict(store, "late", source, tmp_path / "out", plan="task")
    (after,) = of(store, tmp_path / "out")
    assert (after.run_key, after.num_rows, after.files) == (before.run_key, before.num_rows, before.files)


def test_a_run_that_fails_says_why_until_it_succeeds(store, source, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"seats": ["none"] * 3}), source / "0.parquet")
    with pytest.raises(errors.MlsysError) as caught:
        batch.predict(store, "late", source, tmp_path / "out", plan="task")
    (record,) = of(store, tmp_path / "out")
    assert (record.status, record.error, record.num_rows) == ("failed", str(caught.value), 0)


def test_files_beyond_a_number_and_bytes_beyond_a_size_are_counted(store, source, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_records, "MAX_DIGESTED", (source / "0.parquet").stat().st_size)
    batch.predict(store, "late", source, tmp_path / "size", plan="task")
    (record,) = of(store, tmp_path / "size")
    assert [file["sha256"] is None for file in record.files] == [False, True]
    monkeypatch.setattr(batch_records, "MAX_FILES", 1)
    batch.predict(store, "late", source, tmp_path / "number", plan="task")
    (record,) = of(store, tmp_path / "number")
    assert (len(record.files), record.num_files) == (1, 2)


def test_the_oldest_records_are_forgotten(store, source, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_records, "MAX_RECORDS", 2)
    for name in ("1", "2", "3"):
        batch.predict(store, "late", source, tmp_path / name, plan="task")
    assert [record.output for record in batch_records.records(store, "late")] == [str(tmp_path / each) for each in "32"]


def test_passwords_are_masked():
    assert batch_records._shown("postgresql://app:hidden@host/db") == "postgresql://app:***@host/db"

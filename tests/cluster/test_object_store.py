"""Batch prediction reads from an object store and writes to one, whatever is killed on the way."""

import time

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

import batch_kills
from bundles import fit, rows
from mlsys import bundle, cluster, registry
from mlsys.deploy import batch, batch_jobs
from mlsys.deploy.batch_queue import JobQueue, JobSpec
from mlsys.predict import Predictor
from object_store import BUCKET

FILES, ROWS, KILLS = 20, 25, 6
LIMIT_S = 200.0


@pytest.fixture(scope="module")
def model(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fitted = fit(store, seed=5)
        registry.register(store, "remote", fitted)
    return Predictor(bundle.open(store, fitted.digest))


@pytest.fixture(scope="module")
def table(model):
    """Rows in small objects below a prefix."""
    whole = rows(FILES * ROWS, seed=100).drop_columns(["y"])
    storage, path = pafs.FileSystem.from_uri(f"{BUCKET}/in")
    for number in range(FILES):
        pq.write_table(whole.slice(ROWS * number, ROWS), f"{path}/{number:02d}.parquet", filesystem=storage)
    return whole


def test_rows_are_those_of_the_process_and_can_be_replaced(store, model, table):
    truth = model.table(table)
    for source in (f"{BUCKET}/in", f"{BUCKET}/in/*.parquet"):
        result = batch.predict(store, "remote@1", source, f"{BUCKET}/scored", plan="task")
        storage, path = pafs.FileSystem.from_uri(f"{BUCKET}/scored")
        found = pq.read_table(path, filesystem=storage)
        assert found["prediction"].to_pylist() == truth.prediction.tolist()
        assert found["flight"].to_pylist() == table["flight"].to_pylist()
        assert (result.num_rows, result.num_rejected, result.num_fragments) == (FILES * ROWS, 0, FILES)
    listed = storage.get_file_info(pafs.FileSelector(path, recursive=True))
    names = {entry.base_name for entry in listed if entry.type is pafs.FileType.File}
    assert names == {"_result.json", *(f"part-{number:05d}.parquet" for number in range(FILES))}


@pytest.mark.parametrize("append", [False, True], ids=["replaced", "appended"])
def test_no_row_is_lost_and_none_comes_twice_after_kills_at_random_moments(store, table, append):
    output = f"{BUCKET}/killed-{append}"
    prediction = batch_kills.Prediction(str(store.root), "remote@1", f"{BUCKET}/in", output, append)
    facts = batch_kills.measure(prediction, KILLS // 2, head=None, seed=7 + append)
    assert facts["same_rows"]
    assert (facts["kills"], facts["rows"]) == (KILLS // 2, FILES * ROWS)
    assert facts["reused"] > 0


def test_the_cluster_does_a_job_below_a_root_in_an_object_store(store, model, table):
    spec = JobSpec("remote", "1", 1, f"{BUCKET}/in", f"{BUCKET}/jobs/scored", roots=(BUCKET,))
    job = JobQueue(store).submit(spec)
    batch_jobs.start(store)
    end = time.monotonic() + LIMIT_S
    try:
        while not (job := JobQueue(store).get("remote", job.id)).is_over:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        cluster.stop_detached(batch_jobs.actor_name(store))
    assert (job.state, job.error) == ("succeeded", None)
    storage, path = pafs.FileSystem.from_uri(f"{BUCKET}/jobs/scored")
    found = pq.read_table(path, filesystem=storage)
    assert found["flight"].equals(table["flight"].cast(pa.string()))

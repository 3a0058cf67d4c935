"""A worker does the jobs of a queue, and notes how each ended."""

import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from bundles import fit, rows
from mlsys import errors, registry
from mlsys.deploy import batch_jobs, batch_queue, batch_worker
from mlsys.deploy.batch_jobs import JobWorker, work
from mlsys.deploy.batch_queue import MAX_ATTEMPTS, JobQueue, JobSpec
from mlsys.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("jobs"))
        registry.register(store, "late", fit(store))
    return store


@pytest.fixture
def queue(store):
    queue = JobQueue(store)
    yield queue
    for job in queue.jobs():
        queue.cancel("late", job.id)
        queue.end(job.id, "w1", "canceled")


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        pq.write_table(rows(100, seed=number).drop_columns(["y"]), tmp_path / "in" / f"{number}.parquet")
    roots = (str(tmp_path),)
    return JobSpec("late", "1", 1, str(tmp_path / "in"), str(tmp_path / "out"), roots=roots, max_running=9)


def done(queue, spec):
    """The job after a worker did it."""
    job = queue.submit(spec)
    claimed = queue.claim("w1")
    assert claimed.id == job.id
    work(queue, claimed, "w1")
    return queue.get("late", job.id)


def test_a_job_ends_with_its_rows_and_its_progress(queue, spec, tmp_path):
    job = done(queue, spec)
    assert (job.state, job.done, job.total, job.num_rows, job.error) == ("succeeded", 3, 3, 300, None)
    assert job.result["num_rows"] == pq.read_table(tmp_path / "out").num_rows == 300
    assert job.result["files"] == [f"part-0000{number}.parquet" for number in range(3)]


def test_a_job_that_was_done_before_is_complete_at_once(queue, spec):
    first = done(queue, spec)
    again = done(queue, spec)
    assert (again.state, again.done, again.total) == ("succeeded", 3, 3)
    assert again.result["run_id"] == first.result["run_id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "elsewhere.csv"}, "nothing there"),
        ({"keys": ("carier",)}, "did you mean 'carrier'"),
        ({"version": 7}, "late"),
        ({"roots": ("nowhere",)}, "lies outside of the roots"),
    ],
)
def test_what_cannot_be_done_fails_with_the_reason(queue, spec, change, message):
    job = done(queue, replace(spec, **change))
    assert job.state == "failed"
    assert message in job.error


def test_a_job_is_given_up_between_two_fragments(queue, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_jobs, "RENEW_S", 0.01)
    predict_fragment = batch_worker.BatchPredictor.predict_fragment

    def cancelled(self, numbered):
        for job in queue.jobs():
            queue.cancel("late", job.id)
        time.sleep(0.3)
        return predict_fragment(self, numbered)

    monkeypatch.setattr(batch_worker.BatchPredictor, "predict_fragment", cancelled)
    job = done(queue, spec)
    assert (job.state, job.result) == ("canceled", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_worker_whose_lease_ran_out_leaves_the_job_to_the_other(queue, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_jobs, "RENEW_S", 0.01)
    monkeypatch.setattr(batch_queue, "LEASE_S", -1.0)
    predict_fragment = batch_worker.BatchPredictor.predict_fragment

    def taken(self, numbered):
        if numbered.number == 0:
            assert queue.claim("w2") is not None
            time.sleep(0.3)
        return predict_fragment(self, numbered)

    monkeypatch.setattr(batch_worker.BatchPredictor, "predict_fragment", taken)
    job = done(queue, spec)
    assert (job.state, job.result) == ("running", None)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    work(queue, job, "w2")
    job = queue.get("late", job.id)
    assert (job.state, job.result["num_rows"]) == ("succeeded", 300)
    assert job.result["num_reused"] >= 1


def test_a_job_whose_processes_died_waits_again(queue, spec, monkeypatch):
    def died(*_, **__):
        raise errors.ClusterError("a worker died")

    monkeypatch.setattr(batch_jobs.batch, "predict", died)
    assert done(queue, spec).state == "queued"


def test_a_fault_of_ours_ends_a_job_without_its_details(queue, spec, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(batch_jobs.batch, "predict", broken)
    job = done(queue, spec)
    assert job.state == "failed"
    assert "secret" not in job.error


def test_a_job_that_kills_its_workers_is_not_tried_for_ever(queue, spec):
    job = queue.submit(spec)
    for _ in range(MAX_ATTEMPTS + 1):
        claimed = queue.claim("w1")
        if claimed.attempts <= MAX_ATTEMPTS:
            queue.release(job.id, "w1")
    work(queue, claimed, "w1")
    assert queue.get("late", job.id).state == "failed"
    assert "workers died of it" in queue.get("late", job.id).error


def test_without_a_cluster_no_worker_is_started(store, queue, spec):
    queue.submit(spec)
    batch_jobs.start(store)
    batch_jobs.resume(store)
    assert queue.unfinished() == 1


def test_a_worker_takes_jobs_as_they_come(queue, spec, store, monkeypatch):
    monkeypatch.setattr(batch_jobs, "POLL_S", 0.01)
    worker = JobWorker(str(store.root))
    job = queue.submit(spec)
    end = time.monotonic() + 60
    while not queue.get("late", job.id).is_over and time.monotonic() < end:
        time.sleep(0.01)
    worker.close()
    assert queue.get("late", job.id).state == "succeeded"

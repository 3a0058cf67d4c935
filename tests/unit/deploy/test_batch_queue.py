"""The queue of batch jobs: one worker a job, none lost, none twice."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mlsys import errors
from mlsys.deploy import batch_queue
from mlsys.deploy.batch_queue import LEASE_S, MAX_ATTEMPTS, JobQueue, JobSpec
from mlsys.store import Store

SPEC = JobSpec("late", "champion", 3, "in.csv", "out", ("flight",), ("timezone=UTC",), roots=("s3://b/in",))


@pytest.fixture
def queue(tmp_path):
    return JobQueue(Store.open(tmp_path))


@pytest.fixture
def clock(monkeypatch):
    """Seconds of the queue's clock, which a test moves."""

    class Clock:
        now = 1_000.0

        def time(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(batch_queue, "time", clock)
    return clock


def test_a_job_comes_back_as_it_was_ordered(queue):
    job = queue.submit(SPEC)
    assert queue.get("late", job.id) == job
    assert (job.spec, job.state, job.total) == (SPEC, "queued", None)
    assert queue.jobs() == queue.jobs("late") == [job]
    assert queue.jobs("other") == []


def test_a_queue_that_nobody_used_is_empty_and_makes_no_file(queue):
    assert (queue.jobs(), queue.unfinished(), queue.exists) == ([], 0, False)


def test_an_id_that_is_not_there_or_of_another_model_is_refused(queue):
    job = queue.submit(SPEC)
    for name, job_id in (("other", job.id), ("late", "nothing")):
        with pytest.raises(errors.RegistryError, match="no such job"):
            queue.get(name, job_id)


def test_jobs_are_claimed_in_their_order_and_at_most_so_many_run(queue, clock):
    first = queue.submit(SPEC)
    clock.now += 1
    second = queue.submit(SPEC)
    assert queue.claim("w1").id == first.id
    assert queue.claim("w2") is None
    queue.end(first.id, "w1", "succeeded", result={"num_rows": 5})
    assert queue.claim("w2").id == second.id
    assert queue.get("late", first.id).result == {"num_rows": 5}


def test_more_run_where_the_recipe_allows_more(queue):
    spec = replace(SPEC, max_running=2)
    ids = {queue.submit(spec).id for _ in range(3)}
    claimed = {queue.claim(worker).id for worker in ("w1", "w2")}
    assert len(claimed) == 2
    assert claimed < ids
    assert queue.claim("w3") is None


def test_many_workers_at_once_get_one_job_each(queue):
    spec = replace(SPEC, max_running=100)
    ids = {queue.submit(spec).id for _ in range(12)}
    with ThreadPoolExecutor(8) as pool:
        claimed = [job.id for job in pool.map(queue.claim, map(str, range(24))) if job is not None]
    assert sorted(claimed) == sorted(ids)


def test_the_job_of_a_worker_that_is_gone_is_claimed_by_another(queue, clock):
    job = queue.submit(SPEC)
    queue.claim("w1")
    clock.now += LEASE_S - 1
    assert queue.renew(job.id, "w1", 3, 10, 300) == "held"
    clock.now += LEASE_S - 1
    assert queue.claim("w2") is None
    clock.now += 2
    again = queue.claim("w2")
    assert (again.id, again.attempts, again.done, again.total) == (job.id, 2, 3, 10)
    assert queue.renew(job.id, "w1", 4, 10, 400) == "lost"
    queue.end(job.id, "w1", "failed", error="late")
    assert queue.get("late", job.id).state == "running"


def test_attempts_are_counted_from_the_last_fragment_that_was_finished(queue, clock):
    job = queue.submit(SPEC)
    for number in range(MAX_ATTEMPTS):
        worker = f"w{number}"
        assert queue.claim(worker).attempts == number + 1
        queue.renew(job.id, worker, 0, 10, 0)
        clock.now += LEASE_S + 1
    queue.claim("next")
    queue.renew(job.id, "next", 1, 10, 100)
    assert queue.get("late", job.id).attempts == 1
    clock.now += LEASE_S + 1
    assert queue.claim("last").attempts == 2
    queue.renew(job.id, "last", 0, 10, 0)
    assert (queue.get("late", job.id).attempts, queue.get("late", job.id).done) == (2, 1)


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_at_the_next_renewal(queue):
    waiting, running = queue.submit(SPEC), queue.submit(SPEC)
    claimed = queue.claim("w1")
    other = waiting if claimed.id == running.id else running
    assert queue.cancel("late", other.id).state == "canceled"
    stopped = queue.cancel("late", claimed.id)
    assert (stopped.state, stopped.is_canceling) == ("running", True)
    assert queue.renew(claimed.id, "w1", 0, None, 0) == "cancel"
    queue.end(claimed.id, "w1", "canceled")
    assert queue.cancel("late", claimed.id).state == "canceled"
    assert queue.claim("w2") is None


def test_a_job_that_is_over_stays_as_it_is(queue):
    job = queue.submit(SPEC)
    queue.claim("w1")
    queue.end(job.id, "w1", "succeeded", result={})
    assert queue.cancel("late", job.id).state == "succeeded"


def test_a_key_makes_one_job_and_another_order_needs_another_key(queue):
    with ThreadPoolExecutor(8) as pool:
        ids = {job.id for job in pool.map(lambda _: queue.submit(SPEC, key="k1"), range(16))}
    assert len(ids) == 1
    moved = replace(SPEC, version=4, cpu_share=1.0)
    assert {queue.submit(moved, key="k1").id} == ids
    with pytest.raises(errors.RequestError, match="Idempotency-Key"):
        queue.submit(replace(SPEC, output="elsewhere"), key="k1")
    assert queue.submit(replace(SPEC, name="other"), key="k1").id not in ids


def test_a_full_queue_says_when_to_come_again(queue):
    job = queue.submit(SPEC, most=1)
    with pytest.raises(errors.ClusterError, match=r"1 jobs that wait\n.*fewer than 1\n.*deploy.batch.queue"):
        queue.submit(SPEC, most=1)
    queue.claim("w1")
    assert queue.submit(SPEC, most=1).id != job.id


def test_a_job_that_could_not_be_done_waits_again(queue):
    job = queue.submit(SPEC)
    queue.claim("w1")
    queue.release(job.id, "w1")
    assert queue.get("late", job.id).state == "queued"
    assert queue.claim("w2").id == job.id


def test_the_oldest_jobs_that_ended_are_forgotten(queue, clock, monkeypatch):
    monkeypatch.setattr(batch_queue, "MAX_ENDED", 2)
    ids = []
    for _ in range(4):
        ids.append(queue.submit(SPEC).id)
        queue.cancel("late", ids[-1])
        clock.now += 1
    last = queue.submit(SPEC)
    assert [job.id for job in queue.jobs()] == [last.id, ids[3], ids[2]]


def test_a_damaged_file_is_an_error_of_the_store(queue, tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / batch_queue.FILE).write_bytes(b"no database at all, but a text of some length" * 100)
    with pytest.raises(errors.StoreError, match="batch: queue"):
        queue.submit(SPEC)


def test_a_failed_statement_changes_nothing(queue):
    job = queue.submit(SPEC)

    def fail():
        with queue._opened() as table:
            table.execute("UPDATE jobs SET state = 'failed'")
            raise sqlite3.OperationalError

    with pytest.raises(errors.StoreError):
        fail()
    assert queue.get("late", job.id).state == "queued"

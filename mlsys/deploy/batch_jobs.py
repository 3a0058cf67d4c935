"""The worker of batch jobs: it claims jobs of the queue and does them, each with `mlsys.deploy.batch`.

It is an actor that nobody owns (`mlsys.cluster.detached`), started by whoever submits a job and by each replica that
starts while jobs wait. So it outlives the replica and Serve; when its process or its machine dies, Ray starts another,
and when the whole cluster dies, the next one does. The job of a dead worker is claimed again once its lease has run
out, and goes on after the fragments that were finished.

A job runs in workers of its own, one CPU each and at most its share of the cluster's, which leave the CPU to endpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict

from mlsys import cluster, errors
from mlsys.deploy import batch
from mlsys.deploy.batch_job import FinishedFragment, Share
from mlsys.deploy.batch_queue import LEASE_S, MAX_ATTEMPTS, JobQueue, QueuedJob
from mlsys.deploy.batch_roots import Roots
from mlsys.deploy.batch_staging import DiscardedRunError
from mlsys.store import Store

POLL_S = 0.5
"""Seconds between two looks at an empty queue."""

RENEW_S = LEASE_S / 15
"""Seconds between two renewals of a lease: a few may fail."""

_logger = logging.getLogger("ray.serve")


def start(store: Store) -> None:
    """Have a worker on the cluster to which this process is connected; without a cluster nothing happens."""
    if cluster.is_connected():
        cluster.start_detached(actor_name(store), JobWorker, str(store.root))


def resume(store: Store) -> None:
    """Have a worker if jobs of before wait or run; a queue that cannot be read holds up nothing."""
    with contextlib.suppress(errors.StoreError):
        if JobQueue(store).unfinished():
            start(store)


def actor_name(store: Store) -> str:
    """The name of a store's worker on its cluster."""
    return f"batch-{hashlib.sha256(str(store.root).encode()).hexdigest()[:16]}"


class JobWorker:
    """Claims the jobs of a store, and does each in a thread, as long as this process lives."""

    def __init__(self, root: str) -> None:
        self._queue = JobQueue(Store.open(root))
        self._name = uuid.uuid4().hex
        self._is_closed = threading.Event()
        threading.Thread(target=self._claim_all, daemon=True, name="batch-queue").start()

    def close(self) -> None:
        """Claim no more jobs; those that were claimed are done."""
        self._is_closed.set()

    def _claim_all(self) -> None:
        while not self._is_closed.is_set():
            job = None
            try:
                job = self._queue.claim(self._name)
            except errors.StoreError:
                _logger.exception("the queue of batch jobs cannot be read")
            if job is None:
                time.sleep(POLL_S)
            else:
                threading.Thread(target=work, args=(self._queue, job, self._name), daemon=True).start()


def work(queue: JobQueue, job: QueuedJob, worker: str) -> None:
    """Do a job that this worker has claimed, and note how it ended."""
    if job.attempts > MAX_ATTEMPTS:
        error = f"batch: job {job.id}\n  got:      {MAX_ATTEMPTS} workers died of it without finishing a fragment"
        queue.end(job.id, worker, "failed", error=f"{error}\n  hint:     is there memory for its largest rows?")
        return
    with _lease(queue, job, worker) as lease:
        try:
            result = _predicted(queue.store, job, lease)
        except _LeaseLostError:
            return
        except DiscardedRunError:
            queue.end(job.id, worker, "canceled")
        except errors.ClusterError as error:  # its processes died: what they finished is there
            _logger.warning("batch job %s goes on later: %s", job.id, error)
            queue.release(job.id, worker)
        except errors.MlsysError as error:
            queue.end(job.id, worker, "failed", error=str(error))
        except Exception:
            _logger.exception("batch job %s", job.id)
            queue.end(job.id, worker, "failed", error="internal error; the log of the worker has the details")
        else:
            lease.renew()
            queue.end(job.id, worker, "succeeded", result=asdict(result))


def _predicted(store: Store, job: QueuedJob, lease: _Lease) -> batch.BatchResult:
    spec = job.spec
    workers = max(1, int(cluster.num_cpus() * spec.cpu_share))
    result = batch.predict(
        store,
        f"{spec.name}@{spec.version}",
        spec.input,
        spec.output,
        keys=spec.keys,
        settings=spec.settings,
        max_rejected_fraction=spec.max_rejected_fraction,
        plan="cluster",
        append=spec.append,
        run_id=spec.run_id,
        explain=spec.explain,
        roots=None if spec.roots is None else Roots(spec.roots),
        share=Share(workers, lease.begin, lease.finished, lease.check),
    )
    lease.done = lease.total = result.num_fragments
    lease.num_rows = result.num_rows
    return result


class _LeaseLostError(Exception):
    """The lease ran out, and another worker has the job."""


class _Lease:
    """The lease of a job, which a thread renews with the progress that is made."""

    def __init__(self, job: QueuedJob, renew: Callable[[int, int | None, int], str]) -> None:
        self._renew = renew
        self._state = "held"
        self.done, self.total, self.num_rows = job.done, job.total, job.num_rows

    def begin(self, total: int) -> None:
        """Count from the beginning: what earlier attempts finished comes first."""
        self.done, self.total, self.num_rows = 0, total, 0

    def finished(self, fragment: FinishedFragment) -> None:
        """Count a fragment that is finished."""
        self.done += 1
        self.num_rows += fragment.counts.num_rows
        self.check()

    def check(self) -> None:
        """End the run if the job was cancelled or belongs to another worker."""
        if self._state == "cancel":
            raise DiscardedRunError
        if self._state == "lost":
            raise _LeaseLostError

    def renew(self) -> None:
        with contextlib.suppress(errors.StoreError):  # the next renewal may succeed
            self._state = self._renew(self.done, self.total, self.num_rows)


@contextlib.contextmanager
def _lease(queue: JobQueue, job: QueuedJob, worker: str) -> Iterator[_Lease]:
    """Renew the lease of a job in a thread, as long as the block runs."""
    lease = _Lease(job, lambda *progress: queue.renew(job.id, worker, *progress))
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(RENEW_S):
            lease.renew()

    lease.renew()
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        is_over.set()
        thread.join()

"""The queue of batch jobs: a table in SQLite beside the registry, which outlives whoever submits and works.

A worker *claims* the oldest job that waits and holds it by a lease, which it renews while it works. A lease that ran
out means that the worker is gone: the job is then claimed like one that waits, and goes on where its files are
(`mlsys.deploy.batch`). Each change is one statement of SQLite, so that of two workers one gets a job, and of two
requests with one idempotency key one makes it.

==============  =====================================================================
``queued``      waits; or was cancelled before anybody began: then it is ``canceled``
``running``     claimed; with ``cancel`` its worker gives it up at the next renewal
``succeeded``   the output is complete
``failed``      the error says why
``canceled``    given up, without an output
==============  =====================================================================
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.store import Store, digest_json

FILE = "batch.sqlite"
"""The table's file in the folder of the registry."""

LEASE_S = 15.0
"""Seconds after the last renewal at which a job belongs to nobody."""

MAX_ATTEMPTS = 5
"""Claims of a job after which no fragment was finished: then it is what kills its workers."""

MAX_ENDED = 1_000
"""Jobs that ended and are listed; older ones are forgotten. Their outputs stay."""

BUSY_S = 10.0
"""Longest wait for another process that writes the table."""

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued',
    idempotency_key TEXT, created REAL NOT NULL, started REAL, ended REAL, worker TEXT, renewed REAL,
    attempts INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
    total INTEGER, num_rows INTEGER NOT NULL DEFAULT 0, result TEXT, error TEXT, UNIQUE (name, idempotency_key)
)
"""

_CLAIM = """
UPDATE jobs SET state = 'running', worker = :worker, renewed = :now, attempts = attempts + 1,
    started = coalesce(started, :now)
WHERE id = (
    SELECT id FROM jobs AS job
    WHERE (state = 'queued' OR (state = 'running' AND renewed < :expired))
        AND (SELECT count(*) FROM jobs WHERE state = 'running' AND renewed >= :expired)
            < json_extract(job.spec, '$.max_running')
    ORDER BY created, id LIMIT 1
) RETURNING *
"""

_RENEW = """
UPDATE jobs SET renewed = :now, attempts = iif(:total IS total AND :done > done, 1, attempts), total = :total,
    done = iif(:total IS total, max(:done, done), :done),
    num_rows = iif(:total IS total, max(:num_rows, num_rows), :num_rows)
WHERE id = :id AND worker = :worker AND state = 'running' RETURNING cancel
"""

_END = """
UPDATE jobs SET state = :state, ended = :now, result = :result, error = :error
WHERE id = :id AND worker = :worker AND state = 'running'
"""

_CANCEL = """
UPDATE jobs SET cancel = 1, state = iif(state = 'queued', 'canceled', state), ended = iif(state = 'queued', :now, ended)
WHERE name = :name AND id = :id AND state IN ('queued', 'running')
"""

_FORGET = """
DELETE FROM jobs WHERE ended IS NOT NULL AND id NOT IN (
    SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT ?)
"""


@dataclass(frozen=True)
class JobSpec:
    """The order of a job.

    Attributes
    ----------
    which, version
        Alias, version or digest that was asked for, empty for that of the endpoint, and the version that it meant: each
        attempt takes the same.
    roots
        Places that may be read and written; None for whoever has the store anyway.
    max_running, cpu_share
        Jobs that run at a time, and the fraction of the cluster's CPUs that this one takes at most.
    explain
        Columns whose contributions to each prediction are written; 0 for none.
    """

    name: str
    which: str
    version: int
    input: str
    output: str
    keys: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    append: bool = False
    run_id: str | None = None
    max_rejected_fraction: float = 0.01
    roots: tuple[str, ...] | None = None
    max_running: int = 1
    cpu_share: float = 0.5
    explain: int = 0

    @property
    def digest(self) -> str:
        """Digest of what was ordered: not of the settings of the endpoint, nor of what an alias meant then."""
        own = {"version", "roots", "max_running", "cpu_share"}
        own |= set() if self.explain else {"explain"}  # as orders were told before there was one
        return digest_json({name: value for name, value in asdict(self).items() if name not in own})


@dataclass(frozen=True)
class QueuedJob:
    """A job as the table has it; times are seconds of the Unix epoch."""

    id: str
    spec: JobSpec
    state: str
    created: float
    started: float | None
    ended: float | None
    attempts: int
    is_canceling: bool
    done: int
    total: int | None
    num_rows: int
    result: dict[str, Any] | None
    error: str | None

    @property
    def is_over(self) -> bool:
        return self.state in ("succeeded", "failed", "canceled")


class JobQueue:
    """The queue of one store; safe to use from any thread and process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._file: Path = store.root / "registry" / FILE

    @property
    def exists(self) -> bool:
        """False as long as nobody submitted a job."""
        return self._file.is_file()

    def submit(self, spec: JobSpec, *, key: str | None = None, most: int = 100) -> QueuedJob:
        """Put a job at the end of the queue; the job of before, if the key was given with the same order.

        Raises
        ------
        ClusterError
            So many jobs wait already.
        RequestError
            The key belongs to another order.
        """
        with self._opened() as table:
            query = "SELECT * FROM jobs WHERE name = ? AND idempotency_key = ?"
            before = None if key is None else table.execute(query, (spec.name, key)).fetchone()
            if before is not None:
                job = _job(before)
                if job.spec.digest != spec.digest:
                    raise _other_order(str(key), job.id)
                return job
            (waiting,) = table.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= most:
                raise errors.ClusterError.build(
                    "batch: queue", got=f"{waiting:,} jobs that wait", expected=f"fewer than {most:,}",
                    hint="come again when one has ended, or raise deploy.batch.queue",
                )  # fmt: skip
            values = (uuid.uuid4().hex, spec.name, json.dumps(asdict(spec)), key, time.time())
            insert = "INSERT INTO jobs (id, name, spec, idempotency_key, created) VALUES (?, ?, ?, ?, ?) RETURNING *"
            row = table.execute(insert, values).fetchone()
            table.execute(_FORGET, (MAX_ENDED,))
            return _job(row)

    def get(self, name: str | None, job_id: str) -> QueuedJob:
        """A job by its id, of one model or of any.

        Raises
        ------
        RegistryError
            There is none.
        """
        with self._opened() as table:
            query = "SELECT * FROM jobs WHERE id = :id AND (:name IS NULL OR name = :name)"
            row = table.execute(query, {"id": job_id, "name": name}).fetchone()
        if row is None:
            expected = "the id of a job of this model" if name else "the id of a job"
            raise errors.RegistryError.build(
                f"batch: job '{job_id[:64]}'", got="no such job", expected=expected,
                hint=f"the last {MAX_ENDED:,} jobs that ended are kept; `mlsys batch` lists them",
            )  # fmt: skip
        return _job(row)

    def jobs(self, name: str | None = None, most: int = 100) -> list[QueuedJob]:
        """The newest jobs, of one model or of all, newest first."""
        if not self.exists:
            return []
        with self._opened() as table:
            query = "SELECT * FROM jobs WHERE :name IS NULL OR name = :name ORDER BY created DESC, id LIMIT :most"
            return [_job(row) for row in table.execute(query, {"name": name, "most": most}).fetchall()]

    def unfinished(self) -> int:
        """Number of jobs that wait or run."""
        if not self.exists:
            return 0
        with self._opened() as table:
            (count,) = table.execute("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')").fetchone()
        return int(count)

    def cancel(self, name: str, job_id: str) -> QueuedJob:
        """Give a job up: at once if it waits, else at its worker's next renewal; one that is over stays as it is.

        Raises
        ------
        RegistryError
            There is none.
        """
        with self._opened() as table:
            table.execute(_CANCEL, {"name": name, "id": job_id, "now": time.time()})
        return self.get(name, job_id)

    def claim(self, worker: str) -> QueuedJob | None:
        """The oldest job that waits or whose worker is gone, which belongs to this worker from now on."""
        now = time.time()
        with self._opened() as table:
            row = table.execute(_CLAIM, {"worker": worker, "now": now, "expired": now - LEASE_S}).fetchone()
        return None if row is None else _job(row)

    def renew(self, job_id: str, worker: str, done: int, total: int | None, num_rows: int) -> str:
        """Renew a lease and note progress: ``held``, ``cancel`` if the job is to be given up, or ``lost``."""
        values = {"id": job_id, "worker": worker, "now": time.time(), "done": done, "total": total}
        with self._opened() as table:
            row = table.execute(_RENEW, {**values, "num_rows": num_rows}).fetchone()
        return "lost" if row is None else "cancel" if row["cancel"] else "held"

    def end(
        self, job_id: str, worker: str, state: str, *, result: dict[str, Any] | None = None, error: str | None = None
    ) -> None:
        """Note how a job ended; a worker whose lease ran out and was claimed by another changes nothing."""
        values = {"id": job_id, "worker": worker, "state": state, "now": time.time(), "error": error}
        with self._opened() as table:
            table.execute(_END, {**values, "result": None if result is None else json.dumps(result)})

    def release(self, job_id: str, worker: str) -> None:
        """Put a job back, for a worker that could not do its work."""
        with self._opened() as table:
            table.execute("UPDATE jobs SET state = 'queued' WHERE id = ? AND worker = ? AND state = 'running'",
                          (job_id, worker))  # fmt: skip

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes; nothing changes if the block raises."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=BUSY_S, isolation_level=None)
            with contextlib.closing(connection):
                connection.row_factory = sqlite3.Row
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, errors.MlsysError):
                raise
            expected = "a queue that can be read and written"
            raise errors.StoreError.build(f"batch: queue '{FILE}'", got=str(error), expected=expected) from error


def _other_order(key: str, job_id: str) -> errors.RequestError:
    got = f"'{key[:64]}', which is that of job {job_id} with another order"
    error = errors.RequestError.build("batch: header Idempotency-Key", got=got, expected="a new key for a new order")
    error.violations = []
    return error


def _job(row: sqlite3.Row) -> QueuedJob:
    tree: dict[str, Any] = json.loads(row["spec"])
    spec: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()}
    plain = ("id", "state", "created", "started", "ended", "attempts", "done", "total", "num_rows", "error")
    result = None if row["result"] is None else json.loads(row["result"])
    is_canceling = bool(row["cancel"]) and row["state"] == "running"
    return QueuedJob(spec=JobSpec(**spec), is_canceling=is_canceling, result=result, **{n: row[n] for n in plain})

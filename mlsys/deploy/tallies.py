"""Tallies of a canary: what each replica counted of both versions, in files that outlive it.

::

    canaries/<name>/<trial>/<replica>.json        step → requests, errors and fallbacks of both versions; the reason
                                                  if the canary does not load
    canaries/<name>/<trial>/<replica>-*.records   the first request of each key (`mlsys.deploy.first_requests`)

A replica only adds in its requests; a thread writes its files once a second. What a replica counted still counts when
it is gone, and of one that is killed the last second is lost. Whoever judges sums the files.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from mlsys import errors
from mlsys.deploy import first_requests
from mlsys.deploy.first_requests import (
    ANSWERED,
    CANARY,
    FAILED,
    FELL_BACK,
    STABLE,
    Observation,
    RecordFile,
    Records,
    folder_of,
)
from mlsys.statistics.sequential import SampleMoments
from mlsys.store import Store, read_json, write_json

WRITE_S = 1.0
"""Seconds between two writes of what was counted."""

_logger = logging.getLogger("ray.serve")


@dataclass
class ArmTally:
    """Counts of one version.

    Attributes
    ----------
    requests, errors, fallbacks
        Requests that were drawn for it; those that it failed, because it raised or put out a number that is none; and
        those of the canary that stable answered in its place. Faults of clients are none.
    latency
        Count, sum and sum of squares of a number that grows with the latency: of each key the first answer.
    scores
        Mean scores of the same requests, counted between the edges of the trial.
    erring_keys, fallback_keys
        Keys of which it failed a request, and of which stable answered one in its place.
    """

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    latency: SampleMoments = field(default_factory=SampleMoments)
    scores: list[int] = field(default_factory=list)
    erring_keys: int = 0
    fallback_keys: int = 0

    def to_json(self) -> dict[str, int]:
        """Return what a replica counts of every request."""
        return {"requests": self.requests, "errors": self.errors, "fallbacks": self.fallbacks}

    @classmethod
    def total(cls, counts: Iterable[Mapping[str, int]], records: Records, edges: Sequence[float]) -> Self:
        """The counts of all replicas, and what records of this version say."""
        whole = cls()
        for each in counts:
            whole.requests += each["requests"]
            whole.errors += each["errors"]
            whole.fallbacks += each["fallbacks"]
        answered, failed = records[records["outcome"] == ANSWERED], records[records["outcome"] != ANSWERED]
        latency, scores = (answered[name][np.isfinite(answered[name])] for name in ("latency", "score"))
        whole.latency = SampleMoments(len(latency), float(latency.sum()), float((latency**2).sum()))
        if len(scores):
            bins = np.searchsorted(np.array(edges, np.float64), scores, side="right")
            whole.scores = np.bincount(bins, minlength=len(edges) + 1).tolist()
        whole.erring_keys = len(failed)
        whole.fallback_keys = int((failed["outcome"] == FELL_BACK).sum())
        return whole


@dataclass
class StepTally:
    """Counts of both versions while the canary had one share of the traffic."""

    stable: ArmTally = field(default_factory=ArmTally)
    canary: ArmTally = field(default_factory=ArmTally)

    @property
    def summary(self) -> dict[str, int]:
        """The counts that a line of the ledger names."""
        stable, canary = self.stable, self.canary
        return {
            "stable_requests": stable.requests,
            "stable_errors": stable.errors,
            "canary_requests": canary.requests,
            "canary_errors": canary.errors,
            "fallbacks": canary.fallbacks,
        }


class ReplicaTallies:
    """The counts of one replica in a trial; `close` writes them for the last time.

    The key of a request is a hash of 64 bits. Its observation is asked for if the request is the first of its key.
    """

    def __init__(self, folder: Path, replica: str, num_outputs: int = 0, every_s: float = WRITE_S) -> None:
        self._folder, self._replica = folder, replica
        self._num_outputs, self._every_s = num_outputs, every_s
        self._steps: dict[int, tuple[ArmTally, ArmTally]] = {}
        self._records: RecordFile | None = None
        self._unwritten: list[tuple[RecordFile, list[tuple[Any, ...]]]] = []
        self._refused: str | None = None
        self._written: dict[str, Any] | None = None
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True, name="canary-tallies")
        self._thread.start()

    def answered(self, step: int, arm: int, key: int, observe: Callable[[], Observation]) -> None:
        """Count a request that a version answered."""
        with self._lock:
            records = self._counted(step, arm)
            if records is not None and records.answered.is_new(key):
                records.add(key, time.time(), arm, ANSWERED, observe())

    def pair(self, step: int, key: int, stable: Observation, canary: Observation | None) -> None:
        """Count a request that both versions computed, one after the other; None if the canary failed it."""
        with self._lock:
            self._counted(step, STABLE)
            records = self._counted(step, CANARY)
            if canary is None:
                self._add_error(step, CANARY, key, FAILED)
            if records is not None and records.answered.is_new(key):
                at = time.time()
                records.add(key, at, STABLE, ANSWERED, stable)
                if canary is not None:
                    records.add(key, at, CANARY, ANSWERED, canary)

    def failed(self, step: int, arm: int, key: int, *, is_fallback: bool = False) -> None:
        """Count a request that a version failed."""
        with self._lock:
            self._counted(step, arm)
            self._add_error(step, arm, key, FELL_BACK if is_fallback else FAILED)

    def refuse(self, reason: str) -> None:
        """Note that the canary does not load here, or that its process is gone, at once."""
        self._refused = reason
        self.write()

    def write(self) -> None:
        """Write the files, if anything was counted since the last time."""
        with self._writing:
            with self._lock:
                counted = {
                    str(step): {"stable": arms[STABLE].to_json(), "canary": arms[CANARY].to_json()}
                    for step, arms in self._steps.items()
                }
                self._take_records()
            while self._unwritten:
                file, records = self._unwritten[0]
                file.write(records)
                del self._unwritten[0]
            value = {"steps": counted, "refused": self._refused}
            if value != self._written:
                write_json(self._folder / f"{self._replica}.json", value, indent=None)
                self._written = value

    def close(self) -> None:
        """Stop the thread and write what was counted since the last time."""
        self._is_closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._try_to_write()

    def _counted(self, step: int, arm: int) -> RecordFile | None:
        """Count a request, and return the records of its step; None if a later step has begun here."""
        self._steps.setdefault(step, (ArmTally(), ArmTally()))[arm].requests += 1
        if self._records is None or self._records.step < step:
            self._take_records()
            self._records = RecordFile(self._folder, self._replica, step, self._num_outputs)
        return self._records if self._records.step == step else None

    def _add_error(self, step: int, arm: int, key: int, outcome: int) -> None:
        tally, records = self._steps[step][arm], self._records
        tally.errors += 1
        tally.fallbacks += outcome == FELL_BACK
        if records is not None and records.step == step and records.erred.is_new(key ^ arm):
            records.add(key, time.time(), arm, outcome, Observation())

    def _take_records(self) -> None:
        """Move what waits to what the thread writes."""
        if self._records is not None and (records := self._records.taken()):
            self._unwritten.append((self._records, records))

    def _write_on(self) -> None:
        while not self._is_closed.wait(self._every_s):
            self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self.write()
        except (errors.StoreError, OSError):
            _logger.exception("the tallies of a canary are not written; the next second tries again")


def of_replica(store: Store, name: str, trial: str, num_outputs: int = 0) -> ReplicaTallies:
    """Tallies of this process for a trial, in files of their own."""
    return ReplicaTallies(folder_of(store, name, trial), uuid.uuid4().hex, num_outputs)


def total(store: Store, name: str, trial: str, step: int, edges: Sequence[float] = ()) -> StepTally:
    """Sum what all replicas counted in a step of a trial; `edges` are those between the bins of scores."""
    values = [read_json(file) for file in _files(store, name, trial)]
    counts = [value["steps"][str(step)] for value in values if str(step) in value["steps"]]
    records = first_requests.read(folder_of(store, name, trial), step)
    arms = ((arm, records[records["arm"] == number]) for number, arm in enumerate(("stable", "canary")))
    return StepTally(*(ArmTally.total([each[arm] for each in counts], of_arm, edges) for arm, of_arm in arms))


def refusal(store: Store, name: str, trial: str) -> str | None:
    """Why a replica cannot load the canary, or has lost it, if one has."""
    reasons = (read_json(file)["refused"] for file in _files(store, name, trial))
    return next((str(reason) for reason in reasons if reason), None)


def forget(store: Store, name: str, trial: str) -> None:
    """Delete the files of the trials of a name that are over: all but this one."""
    for folder in (store.root / "canaries" / name).glob("*"):
        if folder.name != trial:
            shutil.rmtree(folder, ignore_errors=True)


def _files(store: Store, name: str, trial: str) -> list[Path]:
    return sorted(folder_of(store, name, trial).glob("[!.]*.json"))

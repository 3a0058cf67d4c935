"""Divide the requests of a replica between two versions that it holds: stable, and a canary.

A request goes to the canary if the hash of its key, modulo 10,000, is below the canary's weight. So the same key gets
the same version in every replica, and keys that the canary had stay with it when it is widened. The key is the value of
a column that the recipe names, or the id of the row, or that of the request; a request without any is drawn. One answer
comes from one version: a request of several rows goes where its first row goes.

What the canary fails, by an exception or by a number that is none, stable answers in the same request, and it counts. A
shadow computes requests that stable has answered, off their path: nobody waits for it, and nobody sees what it says.

There is a router only while there is a canary; otherwise requests pass nothing of this. The canary is in this process,
or in one of its own (`mlsys.deploy.canary_process`), for which a thread waits and not the event loop.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import errors
from mlsys.deploy import row_losses
from mlsys.deploy.canary_process import CanaryFailedError, CanaryGoneError, CanaryProcess
from mlsys.deploy.canary_verdict import log_latency
from mlsys.deploy.first_requests import CANARY, STABLE, Observation, hash_of
from mlsys.deploy.requests import Request
from mlsys.deploy.service import Answer, LoadedModel, Responder, Service, check_finite, load
from mlsys.deploy.tallies import ReplicaTallies, of_replica
from mlsys.registry import LedgerEntry
from mlsys.schema import Task
from mlsys.store import Store

BASIS_POINTS = 10_000
"""Parts into which hashes of keys divide the requests."""

WAITING = 256
"""Requests that wait for a shadow at most; of more it computes none, and they count for neither version."""

TOGETHER = 32
"""Requests that a shadow computes before it lets others have the processor for a while."""

_logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class TrafficSplit:
    """The division of the requests by a trial, in one of its steps.

    Attributes
    ----------
    trial
        Id of the trial, which salts the hash: the next trial meets other keys first.
    weight
        Parts of `BASIS_POINTS` that go to the canary.
    key
        Column whose value is the key; None for the id of the row or the request.
    is_shadow
        The canary computes its part beside stable, and answers nothing.
    is_isolated
        The canary has a process of its own.
    """

    trial: str
    step: int
    weight: int
    key: str | None = None
    is_shadow: bool = False
    is_isolated: bool = False

    def hash_of(self, key: str) -> int:
        """Hash a key to 64 bits, the same in every process."""
        return hash_of(f"{self.trial}\0{key}")

    def takes(self, key: int) -> bool:
        """Tell whether the canary has the requests of a key, which is given as its hash."""
        return key % BASIS_POINTS < self.weight


def key_of(request: Request, column: str | None, id_column: str | None) -> str:
    """The key of a request: of its first row the column's value or the id, or the request's id, or a new one."""
    if column is None and request.ids and request.ids[0]:
        return str(request.ids[0])
    name = column or id_column
    value = None if name is None else _first(request, name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a whole number in JSON is read as one or the other, by the length of the body
    if value is not None and value != "":
        return str(value)
    return request.id or os.urandom(8).hex()


def _first(request: Request, column: str) -> Any:
    if request.records is not None:
        row: Mapping[str, Any] = request.records[0] if request.records else {}
        return row.get(column)
    values: Sequence[Any] = request.columns.get(column, ())
    value = values[0] if len(values) else None
    return value.as_py() if isinstance(value, pa.Scalar) else value


class CanaryRouter:
    """Answers the requests of a `Service` by stable or by the canary, and counts both."""

    def __init__(
        self, service: Service, canary: LoadedModel | CanaryProcess, split: TrafficSplit, tallies: ReplicaTallies
    ) -> None:
        self.canary, self.split = canary, split
        self._service, self._tallies = service, tallies
        self._is_given_up = False
        self._shadow = Shadow(self) if split.is_shadow else None

    def answer(self, stable: LoadedModel, request: Request) -> Answer:
        """Answer a request that was parsed for stable; errors are those of `Service.answer` with stable."""
        respond, _ = self.divide(stable, request)
        return respond(stable, request)

    def divide(self, stable: LoadedModel, request: Request) -> tuple[Responder, bool]:
        """The way of a request, and whether it is answered by the process of a canary, for which somebody waits."""
        key = self.split.hash_of(key_of(request, self.split.key, stable.id_column))
        is_drawn = self.split.takes(key)
        if self._shadow is not None:
            beside = functools.partial(self._beside, key=key, shadow=self._shadow)
            return (beside if is_drawn else self._service.answer), False
        if not is_drawn:
            return functools.partial(self._by_stable, key=key), False
        return functools.partial(self._by_canary, key=key), isinstance(self.canary, CanaryProcess)

    def close(self) -> None:
        """End what the shadow has not begun."""
        if self._shadow is not None:
            self._shadow.close()

    def _by_stable(self, stable: LoadedModel, request: Request, key: int) -> Answer:
        answer = self._service.finish(self._computed(stable, request, key))
        self._count(STABLE, key, answer)
        return answer

    def _computed(self, stable: LoadedModel, request: Request, key: int) -> Answer:
        """Compute a request with stable; what it fails, and the client is not to blame for, counts."""
        try:
            return self._service.compute(stable, request)
        except errors.RequestError:
            raise
        except Exception:
            self._tallies.failed(self.split.step, STABLE, key)
            raise

    def _by_canary(self, stable: LoadedModel, request: Request, key: int) -> Answer:
        try:
            answer = self._by_canary_alone(request)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, a panic of Polars or an exit too, stable answers
            return self._fallen_back(stable, request, key, error)
        self._count(CANARY, key, answer)
        return self._service.finish(answer)

    def _by_canary_alone(self, request: Request, *, is_shown: bool = True) -> Answer:
        """Compute a request with the canary; a process that is gone is given up, and the tallies say why."""
        if isinstance(self.canary, LoadedModel):
            answer = self._service.compute(self.canary, request)
            check_finite(answer)
            return answer
        try:
            return self.canary.compute(request, is_shown=is_shown)
        except CanaryGoneError as error:
            if not self._is_given_up:
                self._is_given_up = True
                self._tallies.refuse(f"a replica has lost it: {error}")
            raise

    def _fallen_back(self, stable: LoadedModel, request: Request, key: int, error: BaseException) -> Answer:
        """Answer by stable; what stable refuses as well, no version is to blame for."""
        try:
            answer = self._service.answer(stable, request)
        except errors.RequestError:
            raise
        except Exception:
            self._tallies.failed(self.split.step, CANARY, key)
            raise
        self._tallies.failed(self.split.step, CANARY, key, is_fallback=True)
        if not self._is_given_up:
            _logger.warning("canary version %s: %s: %s", entry_of(self.canary).version, type(error).__name__, error)
        return answer

    def _beside(self, stable: LoadedModel, request: Request, key: int, shadow: Shadow) -> Answer:
        """Answer by stable, and have the canary compute the same request later."""
        began = time.thread_time()
        answer = self._computed(stable, request, key)
        seconds = time.thread_time() - began
        self._service.finish(answer)
        if answer.ids:
            latency = math.nan if request.explain else log_latency(seconds)  # the shadow explains nothing
            shadow.add(request, key, observed(answer, latency))
        return answer

    def count_pair(self, request: Request, key: int, stable: Observation) -> None:
        """Compute a request of the shadow and count it for both versions, which met the same one.

        The latencies of both are the processor time of their threads: that of the shadow waits for requests to be
        answered, which is no fault of the canary. Of one in a process of its own it is what that says.
        """
        began = time.thread_time()
        try:
            answer = self._by_canary_alone(request, is_shown=False)
        except BaseException:  # noqa: BLE001 - it counts, and nobody waits for it
            self._tallies.pair(self.split.step, key, stable, None)
        else:
            is_here = isinstance(self.canary, LoadedModel)
            seconds = time.thread_time() - began if is_here else answer.latency_ms / 1e3
            canary = observed(answer, log_latency(seconds))
            self._tallies.pair(self.split.step, key, stable, canary._replace(row=stable.row, entity=stable.entity))

    def _count(self, arm: int, key: int, answer: Answer) -> None:
        if answer.ids:
            observe = functools.partial(observed, answer, log_latency(answer.latency_ms / 1e3))
            self._tallies.answered(self.split.step, arm, key, observe)


def observed(answer: Answer, latency: float) -> Observation:
    """The facts of an answer by which versions are compared."""
    column = answer.model.id_column
    entity = None if column is None else _first(answer.request, column)
    return Observation(
        score=float(np.mean(answer.predictions.score)),
        latency=latency,
        row=hash_of(answer.ids[0]),
        entity=0 if entity is None else hash_of(str(entity)),
        outputs=row_losses.outputs_of(answer.predictions),
    )


def entry_of(canary: LoadedModel | CanaryProcess) -> LedgerEntry:
    """The registry's entry of a canary, whichever process has it."""
    return canary.entry if isinstance(canary, LoadedModel) else canary.model.entry


def task_of(canary: LoadedModel | CanaryProcess) -> Task:
    """The task of a canary, whichever process has it."""
    return canary.predictor.task if isinstance(canary, LoadedModel) else canary.model.task


class CanarySlot:
    """The place of a canary in a replica: filled, its router answers the requests; empty, the service does."""

    def __init__(self, store: Store, service: Service, lookup: str = "none", log: dict[str, Any] | None = None) -> None:
        self._store, self._service, self._lookup, self._log = store, service, lookup, log
        self._router: CanaryRouter | None = None
        self._trial: tuple[str, ReplicaTallies] | None = None

    def model(self, entry: LedgerEntry) -> LoadedModel | None:
        """The model of the canary, if it is that version and in this process."""
        canary = None if self._router is None else self._router.canary
        return canary if isinstance(canary, LoadedModel) and canary.entry == entry else None

    def fill(self, entry: LedgerEntry, split: TrafficSplit) -> None:
        """Load a canary, unless it is, and give it its part of the requests; if it does not load, it gets none."""
        identity = {"version": entry.version, "digest": entry.digest, "trial": split.trial, "step": split.step}
        try:
            canary = self._loaded(entry, split)
        except Exception as error:
            _logger.exception("canary version %s does not load", entry.version)
            self._answer_with(None, {**identity, "error": type(error).__name__})
            message = str(error) if isinstance(error, CanaryFailedError) else f"{type(error).__name__}: {error}"
            self._tallies(split.trial).refuse(f"a replica cannot load it: {' '.join(message.split())}")
            return
        tasks = [task_of(each) for each in (self._service.model, canary) if each is not None]
        num_outputs = max(row_losses.num_outputs(task) for task in tasks)
        router = CanaryRouter(self._service, canary, split, self._tallies(split.trial, num_outputs))
        self._answer_with(router, {**identity, "percent": split.weight / 100, "shadow": split.is_shadow})

    def _loaded(self, entry: LedgerEntry, split: TrafficSplit) -> LoadedModel | CanaryProcess:
        """The canary that is there, if it is that version in that kind of process, or a new one."""
        canary = None if self._router is None else self._router.canary
        kind = CanaryProcess if split.is_isolated else LoadedModel
        if canary is not None and isinstance(canary, kind) and entry_of(canary) == entry:
            return canary
        if split.is_isolated:
            return CanaryProcess(self._store, entry, self._lookup, self._log)
        return load(self._store, entry, self._lookup)

    def clear(self) -> None:
        """Let the service answer all requests, and write what was counted last."""
        self._answer_with(None, None)
        if self._trial is not None:
            self._trial[1].close()
            self._trial = None

    def _answer_with(self, router: CanaryRouter | None, identity: dict[str, Any] | None) -> None:
        before, self._router = self._router, router
        is_far = router is not None and isinstance(router.canary, CanaryProcess)
        self._service.divide = router.divide if router is not None and is_far else None
        self._service.respond = self._service.answer if router is None else router.answer
        self._service.canary = identity
        if before is not None:
            before.close()
            if isinstance(before.canary, CanaryProcess) and (router is None or router.canary is not before.canary):
                before.canary.close()

    def _tallies(self, trial: str, num_outputs: int = 0) -> ReplicaTallies:
        """Those of the trial; of an earlier one they are closed."""
        if self._trial is not None and self._trial[0] == trial:
            return self._trial[1]
        if self._trial is not None:
            self._trial[1].close()
        self._trial = trial, of_replica(self._store, self._service.name, trial, num_outputs)
        return self._trial[1]


class Shadow:
    """A bounded queue of answered requests, and the thread in which the canary computes them."""

    def __init__(self, router: CanaryRouter) -> None:
        self._router = router
        self._waiting: deque[tuple[Request, int, Observation]] = deque()
        self._is_filled = threading.Event()
        self._is_closed = False
        threading.Thread(target=self._work, daemon=True, name="canary-shadow").start()

    def add(self, request: Request, key: int, stable: Observation) -> None:
        """Queue a request, and what stable said, unless as many wait as may."""
        if len(self._waiting) < WAITING:
            self._waiting.append((replace(request, explain=0), key, stable))
            self._is_filled.set()

    def close(self) -> None:
        """Begin nothing more."""
        self._is_closed = True
        self._is_filled.set()

    def _work(self) -> None:
        while not self._is_closed:
            self._is_filled.wait()
            self._is_filled.clear()
            while self._waiting and not self._is_closed:
                for _ in range(min(TOGETHER, len(self._waiting))):
                    self._router.count_pair(*self._waiting.popleft())
                time.sleep(0.001)

"""XGBoost on Ray Train, whose workers go on when one of them dies: another process takes its place among them.

Ray starts one process, at the rank and in the room of the dead one, while the others keep their rows. Their next sum
over all workers fails meanwhile, for the connection to the dead one is closed. Each of them then waits until all are
connected anew, by a new coordinator, and all go on from the latest checkpoint. Where a worker was not yet connected,
or is no longer, the whole group is given up, and `mlsys.train.distributed` starts another.

The coordinator of XGBoost's workers ends once all of them have. As a group of workers ends, Ray waits for it, for five
seconds at most: after a fit it has ended by then, and after the death of a worker it never does. It is a daemon thread
of the process that looks after the group, and ends with that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
import xgboost
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.worker_group import ReplicaGroup, WorkerGroup
from ray.train.xgboost import XGBoostConfig, XGBoostTrainer
from ray.train.xgboost.config import _get_xgboost_args as coordinator

T = TypeVar("T")

NOTICED_S = 20.0
"""Seconds within which Ray notices that a worker is dead, even on a busy machine; usually it takes less than one."""

REPLACED_S = 180.0
"""Seconds for which the others wait until another process has taken the place of the dead one; usually some ten."""

POLL_S = 0.05

Backend: Any = XGBoostConfig().backend_cls
"""Ray's way to start the coordinator, which depends on the release of XGBoost."""


class RejoiningBackend(Backend):  # type: ignore[misc]  # a class that Ray chooses when it is imported
    """The coordinator as Ray starts it, once for all workers and once more whenever one of them was replaced."""

    has_replica_groups = True
    """Ray replaces the dead worker alone; each worker is a group of its own to Ray."""

    workers: WorkerGroup

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Connect all workers, also where `worker_group` is one that takes the place of another."""
        if isinstance(worker_group, WorkerGroup):
            self.workers = worker_group
        super().on_training_start(self.workers, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Tell the others that a worker is replaced; the coordinator ends with its process, and is not waited for.

        Raises
        ------
        RuntimeError
            One of the others would not hear of it, or the machine of the dead worker is gone.
        """
        if not isinstance(worker_group, ReplicaGroup):
            return
        dead = worker_group.get_workers()[0]
        machines = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        others = [each for each in self.workers.get_workers() if each is not dead]
        asked: list[Any] = [each.execute_async(_expect_another) for each in others]
        if dead.metadata.node_id not in machines or not all(ray.get(asked)):
            raise RuntimeError("no worker can take the place of the one that was lost")


@dataclass
class RejoiningConfig(XGBoostConfig):
    """Settings of `XGBoostTrainer` with that backend; workers connect themselves, by `XGBoostGroup`."""

    @property
    def backend_cls(self) -> Any:
        return RejoiningBackend

    @property
    def train_func_context(self) -> Any:
        return contextlib.nullcontext


class RejoiningTrainer(XGBoostTrainer):
    """A trainer with those settings; its arguments are those of `XGBoostTrainer`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, xgboost_config=RejoiningConfig(), **settings)


class Membership:
    """The place of this process among the workers: connected with the others, and waiting for a new one, or not."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_member = False
        self.is_expecting = threading.Event()

    def join(self) -> None:
        """Note that all are connected."""
        with self.lock:
            self.is_member = True

    def leave(self) -> bool:
        """Note that this worker is done; false if it has to go on, for one that is not is being replaced."""
        with self.lock:
            self.is_member = self.is_expecting.is_set()
            return not self.is_member

    def expect(self) -> bool:
        """Note that a worker is being replaced; false if this one could not go on with the new one."""
        with self.lock:
            if self.is_member:
                self.is_expecting.set()
            return self.is_member

    def begin_again(self) -> None:
        """Note that nobody is connected, and nobody missed."""
        with self.lock:
            self.is_member = False
            self.is_expecting.clear()


_MEMBERSHIP = Membership()


def _expect_another() -> bool:
    """Let a worker know that one of the others is being replaced, and ask whether it is connected with them."""
    return _MEMBERSHIP.expect()


class XGBoostGroup:
    """The workers among which this process is one."""

    def run(self, fit: Callable[[], T]) -> T:
        """Call `fit` connected with the others; once more whenever one of them was replaced before it was done."""
        while True:
            used = coordinator()
            try:
                with xgboost.collective.CommunicatorContext(**used):
                    _MEMBERSHIP.join()
                    fitted = fit()
                if _MEMBERSHIP.leave():
                    return fitted
            except xgboost.core.XGBoostError as error:
                if not _is_of_others(error) or not _MEMBERSHIP.is_expecting.wait(NOTICED_S):
                    raise
            _await_another(used)

    def agreed(self, value: T) -> T:
        """The value of the first worker."""
        return xgboost.collective.broadcast(value, 0)


def _is_of_others(error: Exception) -> bool:
    """True of an error of XGBoost's communication, which a worker has when another one is gone."""
    return "src/collective/" in str(error)


def _await_another(used: dict[str, Any]) -> None:
    """Wait until there is another coordinator than the one that was `used`, and all workers can be connected.

    Ray waits without end for room for the new worker. Where it takes too long, the process that looks after the group
    is ended, and with it the group.
    """
    end = time.monotonic() + REPLACED_S
    while coordinator() is used:
        if time.monotonic() > end:
            ray.kill(get_train_context().controller_actor)
            raise TimeoutError(f"no other worker for {REPLACED_S:g} s")
        time.sleep(POLL_S)
    _MEMBERSHIP.begin_again()

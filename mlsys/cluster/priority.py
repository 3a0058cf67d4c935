"""Priority of processes on one machine: endpoints before the work of steps, whichever of them started first.

Ray gives all of its workers one niceness. A cluster of ours gives them 0 (`mlsys.cluster.settings`), and a process that
works for a step makes itself nicer with its first task. Nobody without privileges can take that back, and Ray hands
a task's process, once it is idle, to whatever is started next. So Serve has an environment of its own, `ENDPOINTS`,
which its replicas and proxies get from its controller: Ray shares no process between environments.

Where something is served, a step computes besides only when nobody else wants the CPU (``SCHED_IDLE``, sched(7)). By
niceness alone a replica gets its share, but not at once: it waits until the step's slice is over, and Linux does not
look for a CPU on which only such work runs. That is the policy of the thread that computes and of those that it starts;
the threads by which Ray knows that the process lives keep the niceness.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

ENDPOINTS: dict[str, Any] = {"env_vars": {"MLSYS_SERVES": "1"}}
"""Runtime environment of the processes of endpoints."""

STEP = 15
"""Niceness of steps, which is what Ray gives all workers by default; 0 gets 28 times its share of a CPU (sched(7))."""

BELOW, LAST = 4, 19
"""Steps are nicer than they were started by as much at least, and never beyond the last: in a cluster whose workers
all have Ray's 15, a step gets 19."""

SERVING = "serving.json"
"""File beside the cluster's state: the address of the cluster on which something is served."""

_THREADS = Path("/proc/self/task")


def give_way() -> None:
    """Let endpoints go before this process, and before this thread and those that it will start where one is served."""
    _be_nicer()
    if hasattr(os, "SCHED_IDLE") and _is_beside_an_endpoint() and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):  # where a container forbids it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _is_beside_an_endpoint() -> bool:
    root = os.environ.get("MLSYS_STORE")
    return root is not None and Path(root, "cluster", SERVING).is_file()


@functools.cache
def _be_nicer() -> None:
    """Make this process nicer than an endpoint's, once; on Linux each thread has a niceness, which its own get."""
    niceness = step_niceness(os.getpriority(os.PRIO_PROCESS, 0))
    threads = [int(each.name) for each in _THREADS.iterdir()] if _THREADS.is_dir() else [0]
    for thread in threads:
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def step_niceness(started: int) -> int:
    """The niceness of a step's process that was started with another one.

    >>> step_niceness(0), step_niceness(15), step_niceness(18)
    (15, 19, 19)
    """
    return min(LAST, max(STEP, started + BELOW))

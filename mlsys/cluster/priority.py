"""Priority of processes on one machine: endpoints before the work of steps, whichever of them started first.

Ray gives all of its workers one niceness. A cluster of ours gives them 0 (`mlsys.cluster.settings`), and a process that
works for a step makes itself nicer with its first task. Nobody without privileges can take that back, and Ray hands
a task's process, once it is idle, to whatever is started next. So Serve has an environment of its own, `ENDPOINTS`,
which its replicas and proxies get from its controller: Ray shares no process between environments.

Where something is served, a step computes besides only when nobody else wants the CPU (``SCHED_IDLE``, sched(7)). By
niceness alone a replica gets its share, but not at once: it waits until the step's slice is over, and Linux does not
look for a CPU on which only such work runs. That is the policy of the thread that computes and of those that it starts;
the threads by which Ray knows that the process lives keep the niceness.

Linux may weigh sessions before it weighs processes (autogroups, sched(7); a container has none), and all processes of a
node are of one. The session then has hardly any weight on a CPU where nothing but such a thread runs, and what it has
used up of its share there the replica that wakes on that CPU has to wait for: seconds. So a step leaves the session.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
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

_AUTOGROUP, _HAS_AUTOGROUPS = Path("/proc/self/autogroup"), Path("/proc/sys/kernel/sched_autogroup_enabled")

_TRIES, _PAUSE_S = 100, 0.1
"""Linux takes the niceness of a session ten times a second at most, from all users without privileges together: a node
may start a hundred workers at once."""


def give_way() -> None:
    """Let endpoints go before this process, and before this thread and those that it will start where one is served."""
    _be_nicer()
    if hasattr(os, "SCHED_IDLE") and _is_beside_an_endpoint() and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(OSError):  # where a container forbids it
            _leave_session()
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _is_beside_an_endpoint() -> bool:
    root = os.environ.get("MLSYS_STORE")
    return root is not None and Path(root, "cluster", SERVING).is_file()


@functools.cache
def _leave_session() -> None:
    """Have a session of this process's own, of the least weight, where Linux weighs sessions; once.

    Ray ends a worker by its process group, which has the number of the process before and after.
    """
    if not _HAS_AUTOGROUPS.is_file() or _HAS_AUTOGROUPS.read_text().strip() != "1":
        return
    if os.getpgid(0) == os.getpid():  # who leads a group cannot leave its session
        os.setpgid(0, os.getpgid(os.getppid()))
    try:
        os.setsid()
    except PermissionError:  # a child is in the group: the group stays, which Ray would end, and so does the session
        os.setpgid(0, 0)
        raise
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            _AUTOGROUP.write_text(str(LAST))
            return
        time.sleep(_PAUSE_S)


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

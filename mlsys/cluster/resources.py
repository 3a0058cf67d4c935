"""The size of the cluster that this process is connected to, and what of it is free; this machine's without one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SETTLE_TRIES, _SETTLE_S = 25, 0.02  # a task that just ended gives its CPUs back a moment later

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Folder in which the driver of NVIDIA lists the GPUs of a machine."""


@dataclass(frozen=True)
class Resources:
    """CPUs, bytes of memory and GPUs of a machine, all of them or those that nothing has reserved."""

    cpus: float
    memory: float
    gpus: float = 0.0


def is_connected() -> bool:
    """True if this process talks to a cluster; never imports Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def num_cpus() -> int:
    """CPUs of the cluster, or of this machine without one."""
    if is_connected():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return os.cpu_count() or 1


def num_gpus() -> int:
    """GPUs of the cluster, or of this machine without one, as its driver lists them."""
    if is_connected():
        import ray

        return int(ray.cluster_resources().get("GPU", 0))
    return len(list(NVIDIA.iterdir())) if NVIDIA.is_dir() else 0


def nodes() -> list[Resources]:
    """All that Ray may use of each machine of the cluster, whoever has reserved it."""
    if not is_connected():
        return free_nodes()
    import ray

    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [_resources(node) for node in alive]


def num_nodes() -> int:
    """Machines of the cluster that are alive; 1 without one."""
    if not is_connected():
        return 1
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def node_cpus() -> int:
    """CPUs of a node that are free: what one task can have now.

    Replicas of endpoints keep theirs, so work beside a served model gets the rest.
    """
    return max(1, int(max((node.cpus for node in free_nodes()), default=1)))


def free_nodes() -> list[Resources]:
    """CPUs and memory that are free on each machine of the cluster, once tasks that just ended gave theirs back."""
    if not is_connected():
        import psutil

        return [Resources(os.cpu_count() or 1, psutil.virtual_memory().available)]
    from ray._private.state import available_resources_per_node  # for one number a node there is nothing public

    most: list[Resources] = []
    for _ in range(_SETTLE_TRIES):
        each = available_resources_per_node().values()
        free = [_resources(node) for node in each]
        most = max(most, free, key=_cpus)
        if _cpus(most) >= num_cpus():
            break
        time.sleep(_SETTLE_S)
    return most


def _resources(node: Mapping[str, float]) -> Resources:
    return Resources(node.get("CPU", 0.0), node.get("memory", 0.0), node.get("GPU", 0.0))


def _cpus(machines: list[Resources]) -> float:
    return sum(machine.cpus for machine in machines)

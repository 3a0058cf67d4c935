"""The only package that starts or joins Ray, and the one place where Ray's settings stand.

A laptop cluster is a head node in a session of its own, so that endpoints outlive the command that
deployed them. On a real cluster, or inside ``ray job submit``, :func:`connect` joins what is there.

=============  =============================================================
`settings`     Ray's settings, each with its reason; the token
`ports`        a block of ports that the head holds
`head`         a head node of our own: start, find, join, stop
`resources`    the size of the cluster, and what of it is free
`tasks`        plans by size, and the tasks themselves
`priority`     endpoints before steps
`worker_start` the same from the start of a worker on
`detached`     actors that outlive whoever starts them
`replacement`  what is done about a worker of a fit that died
=============  =============================================================
"""

from __future__ import annotations

from mlsys.cluster.detached import detached_process, start_detached, stop_detached
from mlsys.cluster.head import client_environment, connect, down, is_gone, is_serving, status, up
from mlsys.cluster.priority import ENDPOINTS, give_way
from mlsys.cluster.resources import Resources, free_nodes, is_connected, node_cpus, nodes, num_cpus, num_gpus, num_nodes
from mlsys.cluster.settings import SETTINGS, environment
from mlsys.cluster.tasks import (
    ExecutionPlan,
    Shared,
    call,
    map,  # noqa: A004
    plan,
    share,
    warm,
)

__all__ = [
    "ENDPOINTS",
    "SETTINGS",
    "ExecutionPlan",
    "Resources",
    "Shared",
    "call",
    "client_environment",
    "connect",
    "detached_process",
    "down",
    "environment",
    "free_nodes",
    "give_way",
    "is_connected",
    "is_gone",
    "is_serving",
    "map",
    "node_cpus",
    "nodes",
    "num_cpus",
    "num_gpus",
    "num_nodes",
    "plan",
    "share",
    "start_detached",
    "status",
    "stop_detached",
    "up",
    "warm",
]

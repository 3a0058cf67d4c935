"""The only package that starts or joins Ray, and the one place where Ray's settings stand.

A laptop cluster is a head node in a session of its own, so that endpoints outlive the command that
deployed them. On a real cluster, or inside ``ray job submit``, :func:`connect` joins what is there.

==========  ===============================================================
`settings`  Ray's settings, each with its reason; the token; free ports
`head`      a head node of our own: start, find, join, stop
`tasks`     plans by size, and the tasks themselves
==========  ===============================================================
"""

from __future__ import annotations

from mlsys.cluster.head import client_environment, connect, down, status, up
from mlsys.cluster.settings import SETTINGS, environment
from mlsys.cluster.tasks import (
    ExecutionPlan,
    Shared,
    call,
    is_connected,
    map,  # noqa: A004
    node_cpus,
    num_cpus,
    num_nodes,
    plan,
    share,
    warm,
)

__all__ = [
    "SETTINGS",
    "ExecutionPlan",
    "Shared",
    "call",
    "client_environment",
    "connect",
    "down",
    "environment",
    "is_connected",
    "map",
    "node_cpus",
    "num_cpus",
    "num_nodes",
    "plan",
    "share",
    "status",
    "up",
    "warm",
]

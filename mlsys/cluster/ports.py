"""Ports and files that two clusters on one machine must not share."""

from __future__ import annotations

import contextlib
import secrets
import socket

from mlsys import errors

__all__ = ["free", "of_haproxy"]

_REPLICA_PORTS = 100


def free(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def of_haproxy() -> dict[str, str]:
    """Files and ports of HAProxy, apart for each cluster: two on one machine collide otherwise."""
    stats_port, metrics_port = free(2)
    folder = f"/tmp/ray/haproxy-{stats_port}"  # noqa: S108  (Ray's temp folder; socket paths must be short)
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),  # bound even if its metrics are off
        **_replica_ports(),
    }


def _replica_ports() -> dict[str, str]:
    """Ports that HAProxy reaches replicas at, apart for each cluster.

    While a replica starts, HAProxy may already send requests to the first port of the range:
    with Ray's fixed range that is a replica of another cluster on this machine.
    """
    for start in secrets.SystemRandom().sample(range(20_000, 32_000, _REPLICA_PORTS), k=120):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(start, start + _REPLICA_PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            last = start + _REPLICA_PORTS - 1
            return {
                "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(start),
                "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
            }
    raise errors.ClusterError.build(
        "cluster: ports for replicas", got="none", expected=f"{_REPLICA_PORTS} free ports between 20000 and 32000"
    )

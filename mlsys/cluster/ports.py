"""Ports of one cluster: a block of a hundred, of which the head listens at the first as long as it lives.

Ray wants the ports of HAProxy, of the fallback proxy and of replicas when a head starts, and binds them when something
is served, perhaps days later. So they are none of those that the system gives to outgoing connections (from 32768 on
by default), and no other cluster of this machine takes them meanwhile: it sees that the first port is in use.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlsys import errors, locks

FIRST, LAST = 20_000, 31_999
"""Where blocks lie."""

SIZE = 100
"""Ports of a block; those from the ninth on are for replicas."""


@dataclass(frozen=True)
class Ports:
    """The ports of one cluster, by what listens there; the block begins at `gcs`."""

    gcs: int

    @property
    def dashboard(self) -> int:
        """Ray's dashboard and the address of its jobs."""
        return self.gcs + 1

    @property
    def agent(self) -> int:
        """The dashboard's agent on the head node."""
        return self.gcs + 2

    @property
    def client(self) -> int:
        """Ray's client server."""
        return self.gcs + 3

    @property
    def haproxy(self) -> tuple[int, int]:
        """HAProxy's pages of figures and of metrics."""
        return self.gcs + 4, self.gcs + 5

    @property
    def serving(self) -> dict[str, str]:
        """Variables with the ports of the proxy that answers while HAProxy has no replica, and of the replicas.

        Ray has the same for all clusters and lets several processes listen at one: while a replica starts or is away,
        another cluster's model would answer.
        """
        return {
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self.gcs + 6),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(self.gcs + 7),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(self.gcs + 8),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(self.gcs + SIZE - 1),
        }


@contextlib.contextmanager
def choose(folder: Path) -> Iterator[Ports]:
    """Choose a block that is free, and keep others that use the same folder of locks from it during a block of code.

    Raises
    ------
    ClusterError
        In each block something listens.
    """
    starts = range(FIRST, LAST, SIZE)
    for start in secrets.SystemRandom().sample(starts, k=len(starts)):
        with locks.hold_if_free(folder / str(start), "starting a cluster") as is_held:
            if is_held and all(map(_is_free, range(start, start + SIZE))):
                yield Ports(start)
                return
    raise errors.ClusterError.build(
        "cluster: ports", got="none", expected=f"{SIZE} free ports between {FIRST} and {LAST}"
    )


def _is_free(port: int) -> bool:
    """True if nothing listens at a port of the loopback interface at this moment."""
    with contextlib.suppress(OSError), socket.socket() as opened:
        opened.bind(("127.0.0.1", port))
        return True
    return False

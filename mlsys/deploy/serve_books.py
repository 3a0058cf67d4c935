"""The books that Ray Serve keeps of a replica's requests, for requests that are answered before its wrappers.

Serve counts a request that waits for a place, one that is in progress, and one that is done, with its latency. A
request that is answered in one turn of the event loop neither waits nor is in progress whenever anything else looks:
what looks runs in the same loop. So only the last entry is to be made, by the functions that Serve's own wrappers call
(``ray/serve/_private/replica.py``, `Replica._direct_ingress_asgi` and `_record_errors_and_metrics`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Self

from ray.serve._private.common import RequestProtocol
from ray.serve._private.http_util import RequestIdMiddleware
from ray.serve._private.replica import Replica
from ray.serve._private.tracing_utils import is_tracing_enabled

_SERVE = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class ServeBooks:
    """The part of a replica that says whether it has a free place, and that counts what was answered."""

    replica: Any
    route: str

    @classmethod
    def of(cls, app: Any) -> Self | None:
        """Find the replica behind the app that Serve gives to its middlewares; None where it is another app."""
        replica = getattr(getattr(app, "_app", None), "__self__", None)
        if type(app) is not RequestIdMiddleware or not isinstance(replica, Replica):
            return None
        return cls(replica, replica._route_prefix or "")  # noqa: SLF001 - Serve shows a middleware nothing else

    def is_free(self) -> bool:
        """True if a request need not wait for a place, and Serve would neither trace nor log it."""
        if is_tracing_enabled() or _SERVE.isEnabledFor(logging.INFO):
            return False
        return not self.replica._semaphore.locked()  # noqa: SLF001 - as above

    def record(self, latency_ms: float) -> None:
        """Count a request that was answered with status 200."""
        replica, route = self.replica, self.route
        metrics, owner = replica._metrics_manager, replica._deployment_id  # noqa: SLF001 - as above
        metrics.record_request_metrics(route=route, latency_ms=latency_ms, is_error=False, exception_type=None)
        metrics.record_ingress_request_metrics(
            protocol=RequestProtocol.HTTP,
            method="POST",
            route=route,
            app_name=owner.app_name,
            deployment_name=owner.name,
            latency_ms=latency_ms,
            is_error=False,
            status_code="200",
        )

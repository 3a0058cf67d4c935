"""The doorkeeper of an ASGI app: which requests need an API key, what the key must be allowed to do, and how often.

=========================================  ==========================================================
request                                    key
=========================================  ==========================================================
health and readiness                       none, so that load balancers can ask
predictions                                ``predict``
``…/batch``                                ``batch``
``…/labels``                               ``labels``
``/stats``, ``/metrics``                   ``admin``
contract, docs, metadata                   any
``/console`` of a gateway                  that of `mlsys.web_console.routes`
=========================================  ==========================================================

A key comes as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. What is wrong with it is answered before a byte of
the body is read: 401 without a valid key, 403 where it may not do this, 429 with ``Retry-After`` if it asks too often.
The rate is that of a replica: a token bucket of one second's requests (RFC 2698 calls its size the burst).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException

from mlsys.deploy.api_keys import ApiKey, KeyRing
from mlsys.deploy.dispatch import RawHeaders, route_of
from mlsys.deploy.front import App, Scope, answer
from mlsys.recipe import names

OPEN = frozenset({"/health", "/ready", "/ping", "/version", "/v2/health/live", "/v2/health/ready"})
"""Paths below the model's, or the gateway's, that need no key."""

ENDS = {"invocations": "predict", "infer": "predict", "batch": "batch", "labels": "labels"}
"""Last part of a path, before ids of batch jobs → the scope that it needs."""

ADMIN = frozenset({"/stats", "/metrics"})

CONSOLE = f"/{names.CONSOLE}"
"""Path below which the gateway has the console, which has rules of its own (`mlsys.web_console.routes`)."""

_MODEL = re.compile(r"^(?:/v2/models|(?:/api/2\.0)?/endpoints)/([^/]+)")
_READY = re.compile(r"^/v2/models/[^/]+(/versions/[^/]+)?/ready$")
_BATCH = re.compile(r"^/batch/[^/]+$")


@dataclass
class Bucket:
    """Tokens of a key: as many as the requests that it may send at once, filled up at its rate."""

    tokens: float
    filled_at: float

    def take(self, rate: float, now: float) -> float:
        """Take a token; 0, or the seconds until there is one.

        >>> bucket = Bucket(tokens=1.0, filled_at=0.0)
        >>> bucket.take(0.5, now=0.0), bucket.take(0.5, now=1.0), bucket.take(0.5, now=2.0)
        (0.0, 1.0, 0.0)
        """
        self.tokens = min(max(1.0, rate), self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / rate
        self.tokens -= 1
        return 0.0


@dataclass
class Guard:
    """ASGI app that passes on the requests that may be answered.

    Attributes
    ----------
    rings
        The keys that open a model, by its name; of all models for None, where a path names none.
    model
        The model behind the app; None for a gateway, whose paths name it.
    """

    app: App
    rings: Callable[[str | None], Sequence[KeyRing]]
    model: str | None = None
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = route_of(scope)
            try:
                self._check(path, scope["headers"])
            except HTTPException as error:
                await answer(error, send, as_text="/v2/" in path)
                return
        await self.app(scope, receive, send)

    def opens(self, path: str, headers: RawHeaders) -> bool:
        """Tell whether a request needs no key, or has one that may do this and is not counted."""
        rings = self.rings(self.model)
        if all(ring.is_open() for ring in rings):
            return True
        try:
            key = _key(rings, headers)
        except HTTPException:
            return False
        return key.may(scope_of(path), self.model) and key.requests_per_second is None

    def _check(self, path: str, headers: RawHeaders) -> None:
        named = None if self.model else _MODEL.match(path)
        model = named[1] if named else self.model
        rings = self.rings(model)
        is_console = self.model is None and (path == CONSOLE or path.startswith(f"{CONSOLE}/"))
        if is_console or all(ring.is_open() for ring in rings) or path in OPEN or _READY.match(path):
            return
        key = _key(rings, headers)
        needed = scope_of(path)
        if not key.may(needed, model):
            reason = f"not for '{model}'" if key.may(needed, None) else f"not allowed to {_DOES[needed]}"
            raise HTTPException(403, f"this API key is {reason}")
        if key.requests_per_second is not None:
            self._take(key, key.requests_per_second)

    def _take(self, key: ApiKey, rate: float) -> None:
        now = time.monotonic()
        bucket = self._buckets.setdefault(key.id, Bucket(max(1.0, rate), now))
        wait = bucket.take(rate, now)
        if wait:
            headers = {"Retry-After": str(math.ceil(wait))}
            raise HTTPException(429, f"this API key may send {rate:g} requests a second to a replica", headers=headers)


def _key(rings: Sequence[KeyRing], headers: RawHeaders) -> ApiKey:
    text = presented(headers)
    keys = [] if text is None else [key for ring in rings if (key := ring.find(text)) is not None]
    if not keys:
        reason = "an API key is needed" if text is None else "this API key is not valid"
        detail = f"{reason}: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'; `mlsys keys add` makes one"
        raise HTTPException(401, detail, headers={"WWW-Authenticate": 'Bearer realm="mlsys"'})
    return keys[0]


_DOES = {
    "predict": "ask for predictions",
    "batch": "start or see batch jobs",
    "labels": "send labels",
    "admin": "read statistics and metrics",
    None: "ask this",
}
"""Scope → what it is needed for, as a message says it."""


def scope_of(path: str) -> str | None:
    """The scope that a path needs; None where any key will do.

    >>> [scope_of(path) for path in ("/invocations", "/v2/models/a/infer", "/batch/12ab", "/stats", "/docs")]
    ['predict', 'predict', 'batch', 'admin', None]
    """
    if path in ADMIN:
        return "admin"
    return "batch" if _BATCH.match(path) else ENDS.get(path.rpartition("/")[2])


def presented(headers: RawHeaders) -> str | None:
    """The key that a request carries, or None."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer":
                return text.strip()
    return None

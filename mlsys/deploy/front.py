"""The first look at a request, before Ray Serve handles it: what Serve itself would answer with 500, or keep in memory.

Serve decodes headers as UTF-8, takes a request's id for its logs, reads the bodies of requests that wait, and lets a
client switch time limits off. So a header that is no text is refused here with 400, a body that is announced as too
long with 413, and the headers that steer Serve are taken away. Here the time of a client begins, too
(`mlsys.deploy.deadlines`), before a request waits for a place in a replica.
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names `middlewares`, which Serve calls in each replica and each proxy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

from mlsys import errors
from mlsys.deploy import bodies, deadlines
from mlsys.deploy.answer_writes import written_at_once
from mlsys.deploy.direct_posts import DirectPosts
from mlsys.deploy.dispatch import RawHeaders
from mlsys.deploy.responses import error_body, headers_of, status_of

UNWATCHED = b"x-request-disconnect-disabled"
STEERING = (UNWATCHED, b"x-request-timeout-seconds", deadlines.NOTED.encode())
"""Headers by which a client would switch off what protects the others, or that are ours."""

TIMEOUT = deadlines.TIMEOUT.encode()

SMALL_BODY = 64 * 1024
"""Bytes of a body up to which Serve does not watch whether the client is still there: the answer is made at once, and
the watch costs as much as a third of an answer. A body that does not come has the time limit of `mlsys.deploy.asgi`."""

MAX_ID_BYTES = 256
"""Bytes of ``X-Request-ID`` at most."""

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Callable[[MutableMapping[str, Any]], Awaitable[None]]], Awaitable[None]]

body_bytes: int | None = None
"""Bytes of a body at most in this process, as its model allows; None where no model is."""


direct: DirectPosts | None = None
"""What this process answers before Serve's wrappers; None where no model is."""


def answer_directly(posts: DirectPosts) -> None:
    """Answer these requests in this process before Serve's wrappers."""
    global direct  # noqa: PLW0603 - as `limit_bodies`
    direct = posts


def limit_bodies(most: int) -> None:
    """Refuse bodies in this process that are announced as longer."""
    global body_bytes  # noqa: PLW0603 - Serve makes the middleware, without an argument and before the model
    body_bytes = most


def middlewares() -> list[Middleware]:
    """The middlewares that Serve puts before everything else."""
    return [Middleware(Front)]


class Front:
    """ASGI app that refuses requests by their headers, and passes the others on.

    Serve reads each request's body ahead and waits for the client to go away meanwhile, unless a header says not to;
    where a model is, small ones get that header here.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if direct is not None and await self._answered(direct, scope, send):
                return
            error = _fault(scope["headers"])
            if error is not None:
                if error.reason == "too_large" and body_bytes is not None:
                    await bodies.drain(receive, body_bytes)
                await answer(error, send, as_text="/v2/" in scope["path"])
                return
            headers = deadlines.noted([pair for pair in scope["headers"] if pair[0] not in STEERING])
            if body_bytes is not None and scope["method"] == "POST" and _is_small(headers):
                headers.append((UNWATCHED, b"?1"))
            scope = {**scope, "headers": headers}
            send = written_at_once(send)
        await self._app(scope, receive, send)

    async def _answered(self, posts: DirectPosts, scope: Scope, send: Any) -> bool:
        if posts.answer(self._app, scope, send):
            return True
        return await posts.has_come(scope, send) and posts.answer(self._app, scope, send)


def _is_small(headers: list[tuple[bytes, bytes]]) -> bool:
    """True for a request that announces a small body; its length has been looked at before."""
    for name, value in headers:
        if name == b"content-length":
            return len(value) <= 5 and value.isdigit() and int(value) <= SMALL_BODY
    return False


def _fault(headers: RawHeaders) -> errors.PayloadError | None:
    for name, value in headers:
        if name == b"content-length" and body_bytes is not None and value.isdigit():
            if len(value) > 18 or int(value) > body_bytes:
                return errors.PayloadError.too_large(body_bytes)
        elif name == b"x-request-id" and not (value.isascii() and value.decode().isprintable()):
            return errors.PayloadError.header("X-Request-ID", "bytes that are no ASCII", "letters, digits and signs")
        elif name == b"x-request-id" and len(value) > MAX_ID_BYTES:
            return errors.PayloadError.header("X-Request-ID", f"{len(value):,} bytes", f"at most {MAX_ID_BYTES}")
        elif name == TIMEOUT and not deadlines.is_timeout(value):
            return deadlines.refusal(value.decode("latin-1"))
        elif not value.isascii() and not _is_text(value):
            return errors.PayloadError.header(name.decode("ascii", "replace"), "bytes that are no UTF-8", "text")
    return None


def is_refused(headers: RawHeaders) -> bool:
    """Tell whether a request of these headers is refused here."""
    return _fault(headers) is not None


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


async def answer(error: Exception, send: Any, *, as_text: bool) -> None:
    """Answer a request with an error as JSON, from an ASGI app that has no framework."""
    body = error_body(error, as_text=as_text)
    headers = {"content-type": "application/json", "content-length": str(len(body)), **headers_of(error)}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status_of(error), "headers": raw})
    await send({"type": "http.response.body", "body": body})

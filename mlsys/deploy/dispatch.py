"""The first turn of a request in the app: prediction requests go straight to their handler, all others to a framework.

Middlewares, routes, and objects for request and answer cost a framework some fifty microseconds, a quarter of a whole
prediction request. What is sent by the thousand a second needs none of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mlsys.deploy.bodies import JSON

RawHeaders = Sequence[tuple[bytes, bytes]]
PostHandler = Callable[[RawHeaders, Receive], Awaitable[Response]]

_JSON_HEADER = (b"content-type", JSON.encode())


class Dispatch:
    """ASGI app that answers ``POST`` to some paths with a handler each, and passes everything else on.

    Parameters
    ----------
    posts
        Path below the app's root → function from headers and body to an answer; it raises nothing.
    app
        The app for all other paths and methods, for the lifespan of the server, and for WebSockets.
    """

    def __init__(self, posts: Mapping[str, PostHandler], app: ASGIApp) -> None:
        self._posts = dict(posts)
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = self._posts.get(route_of(scope))
            if handler is not None:
                answer = await handler(scope["headers"], receive)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def route_of(scope: Scope) -> str:
    """The path of a request below the place where its app is mounted (ASGI, *HTTP connection scope*)."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if root and below.startswith("/") and below != path else path


class JSONBytes(Response):
    """An answer of 200 with JSON, its headers written as they are sent."""

    media_type = JSON

    def __init__(self, body: bytes) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON_HEADER]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as Starlette calls it
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})

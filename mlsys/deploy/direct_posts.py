"""Answer small requests for predictions in the turn of the event loop in which they came, before Serve's wrappers.

Serve makes a dozen objects for each request, copies its headers four times and passes each message of the answer
through five functions: a third of the time that such a request takes. What comes whole with its headers, is small, and
is answered with 200 needs none of it. Everything else is left as it came, to go the usual way: what has to wait for a
place or for the rest of its body, or takes long; what is at fault, and so gets an answer that names every fault; what
asks for more by a header, such as a deadline.

uvicorn keeps a request with its body in an object of its own, of which the function for the answer is a method. The
answer is written to its connection with the bytes that uvicorn would write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlsys import errors
from mlsys.deploy import bodies, deadlines, row_ids
from mlsys.deploy.dispatch import RawHeaders

DirectPost = Callable[[bytes], bytes | None]
"""Function of a body that gives the JSON of an answer with status 200, or None and has done nothing."""

USUAL_WAY = frozenset(
    {"content-encoding", "transfer-encoding", "expect", "upgrade", bodies.JSON_LENGTH, deadlines.TIMEOUT}
)
"""Headers that ask for more than a small body and its answer."""

MAX_BYTES = 16 * 1024
"""Length of a body at most: of a larger one more is asked than its way."""

BODY_S = 0.005
"""Seconds for which a body is awaited that is not there with its headers: many clients send the two one after another,
and a body that takes longer has the time limit of `mlsys.deploy.asgi`."""

MAX_HEADERS = 1_000
"""Sets of headers that are remembered: clients send few, unless they mean harm."""

_MODULE = "uvicorn.protocols.http.httptools_impl"
_PARTS = {
    "body", "default_headers", "disconnected", "flow", "keep_alive", "message_event", "more_body", "on_response",
    "response_complete", "response_started", "transport", "waiting_for_100_continue",
}  # fmt: skip
"""The module of uvicorn's objects for requests, and what is used of them; another server's are left alone."""

_REQUEST_ID = b"x-request-id"
_USUAL_WAY = frozenset(name.encode() for name in USUAL_WAY)


class Books(Protocol):
    """The books of the server about its requests, as `mlsys.deploy.serve_books` keeps those of Ray Serve."""

    def is_free(self) -> bool: ...

    def record(self, latency_ms: float) -> None: ...


class DirectPosts:
    """The paths whose small requests are answered at once.

    Parameters
    ----------
    posts
        Path → function of a body.
    opens
        Function (path, headers) that tells whether a request may be answered, as far as its API key goes.
    is_refused
        Function of headers that tells whether they are at fault.
    books_of
        Function that finds the books behind the app of a middleware; where it finds none, nothing is answered here.
    """

    def __init__(
        self,
        posts: Mapping[str, DirectPost],
        opens: Callable[[str, RawHeaders], bool],
        is_refused: Callable[[RawHeaders], bool],
        books_of: Callable[[Any], Books | None],
    ) -> None:
        self._posts = dict(posts)
        self._opens, self._is_refused, self._books_of = opens, is_refused, books_of
        self._app: Any = None
        self._books: Books | None = None
        self._kinds: dict[type, bool] = {}
        self._known: dict[tuple[tuple[bytes, bytes], ...], bool] = {}
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._head = b""

    def answer(self, app: Any, scope: Mapping[str, Any], send: Any) -> bool:
        """Answer a request that is on its way to this app, or leave it untouched and return false."""
        path = scope["path"]
        post = self._posts.get(path)
        if post is None or scope["method"] != "POST" or scope["root_path"]:
            return False
        if app is not self._app:
            self._app, self._books = app, self._books_of(app)
        cycle, books = self._cycle(send), self._books
        if books is None or cycle is None or not _is_whole(cycle):
            return False
        headers = scope["headers"]
        request_id = self._request_id(headers)
        if request_id is None or not books.is_free() or not self._opens(path, headers):
            return False
        began = time.perf_counter()
        body = post(bytes(cycle.body))
        if body is None:
            return False
        self._write(cycle, request_id, body)
        books.record((time.perf_counter() - began) * 1e3)
        return True

    async def has_come(self, scope: Mapping[str, Any], send: Any) -> bool:
        """Wait a moment for the body of a request that `answer` could answer; false where there is nothing to await."""
        is_ours = self._books is not None and scope["path"] in self._posts and scope["method"] == "POST"
        cycle = self._cycle(send) if is_ours else None
        if cycle is None or not cycle.more_body or cycle.waiting_for_100_continue:
            return False
        came = cycle.message_event  # set too early it makes uvicorn give a first part of no bytes
        waiting = asyncio.get_running_loop().call_later(BODY_S, came.set)
        await came.wait()
        waiting.cancel()
        return not cycle.more_body

    def _cycle(self, send: Any) -> Any:
        """The object that uvicorn has for a request, with its body and connection; None of another server."""
        cycle = getattr(send, "__self__", None)
        kind = type(cycle)
        if kind not in self._kinds:
            self._kinds[kind] = kind.__module__ == _MODULE and vars(cycle).keys() >= _PARTS
        return cycle if self._kinds[kind] else None

    def _request_id(self, headers: RawHeaders) -> bytes | None:
        """The id of a request whose headers ask for nothing, a new one where it has none; None for other requests."""
        own = [pair for pair in headers if pair[0] == _REQUEST_ID]
        key = tuple([pair for pair in headers if pair[0] != _REQUEST_ID]) if own else tuple(headers)
        known = self._known.get(key)
        if known is None:
            if len(self._known) == MAX_HEADERS:
                self._known.clear()
            known = self._known[key] = _is_plain(key) and not self._is_refused(key)
        if not known:
            return None
        if not own:
            return row_ids.new_ids(1)[0].encode()
        return own[0][1] if len(own) == 1 and own[0][1] and not self._is_refused(own) else None

    def _write(self, cycle: Any, request_id: bytes, body: bytes) -> None:
        """Write an answer as uvicorn would, and end the request as it does."""
        if cycle.default_headers is not self._defaults:  # uvicorn makes them anew each second, with the date
            self._defaults = cycle.default_headers
            lines = b"".join(b"%b: %b\r\n" % pair for pair in self._defaults)
            self._head = b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: "
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(
            b"%b%d\r\ncontent-type: application/json\r\nx-request-id: %b\r\n%b\r\n%b"
            % (self._head, len(body), request_id, closing, body)
        )
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _is_whole(cycle: Any) -> bool:
    """True for a request that has come whole, of a client that is there and takes its answer."""
    is_open = not (cycle.disconnected or cycle.response_started or cycle.flow.write_paused)
    is_here = not (cycle.more_body or cycle.waiting_for_100_continue)
    return is_open and is_here and len(cycle.body) <= MAX_BYTES


def _is_plain(headers: RawHeaders) -> bool:
    """True for headers of JSON that ask for nothing else; those that a client must not send are none of them."""
    names = [name for name, _ in headers]
    if not _USUAL_WAY.isdisjoint(names) or names.count(b"content-length") != 1:
        return False
    kinds = [value for name, value in headers if name == b"content-type"]
    try:
        for kind in kinds[:1]:
            bodies.check_json(kind.decode("latin-1"))
    except errors.PayloadError:
        return False
    return True

"""Read the body of a request within bounds: of a kind that is understood, of a size, and of a time.

A body that is announced or turns out to be larger than allowed is refused with 413 and one that does not come with 408,
so that a client that stalls gives its place back. ``Content-Encoding: gzip`` and ``deflate`` (RFC 9110, 8.4.1) are
unpacked up to the same size, by `unpacked`, which takes time and so belongs into a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import zlib
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import errors
from mlsys.deploy import deadlines

JSON, OCTETS = "application/json", "application/octet-stream"

ARROW = "application/vnd.apache.arrow.stream"
"""Type of a table in Arrow's IPC stream format (IANA, *Media types*)."""

JSON_LENGTH = "inference-header-content-length"
"""Header with the bytes of the JSON, where those of tensors follow it (`mlsys.deploy.binary_tensors`)."""

WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Content encoding → window of zlib; ``deflate`` is a zlib stream, or a bare one as some clients send it."""

MAX_MEMBERS = 100
"""Members of a packed body at most: each costs a copy of what follows it, and clients write one."""

DRAIN_S, DRAIN_TIMES = 2.0, 4
"""Seconds for which the rest of a body is read that is too long, and how many times the limit of it."""

CHARSETS = re.compile(r"^\"?(utf-?8|us-ascii)\"?$", re.IGNORECASE)

HEADERS = {
    name.encode(): name
    for name in ("content-type", "content-encoding", "content-length", JSON_LENGTH, deadlines.TIMEOUT, deadlines.NOTED)
}
"""The headers that say what a body is and how long its answer is waited for, as they come and as text."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


@dataclass(frozen=True)
class Body:
    """The bytes of a body as they came, and the encoding in which they are packed.

    Attributes
    ----------
    json_bytes
        Bytes of the JSON at the beginning of the unpacked body; None where there is nothing else.
    deadline
        When the client stops waiting, in seconds of the wall clock; None where it does not say.
    is_arrow
        The body is a table (`mlsys.deploy.arrow_bodies`), not JSON.
    """

    sent: bytes
    encoding: str | None = None
    json_bytes: int | None = None
    deadline: float | None = None
    is_arrow: bool = False


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete; nobody waits for an answer."""


def texts(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Read the headers that say what a body is; of one that comes several times the first counts.

    >>> texts([(b"content-type", b"text/csv"), (b"accept", b"*/*"), (b"content-type", b"text/html")])
    {'content-type': 'text/csv'}
    """
    return {HEADERS[name]: value.decode("latin-1") for name, value in reversed(headers) if name in HEADERS}


async def read(
    headers: Mapping[str, str], receive: Receive, max_bytes: int, max_seconds: float,
    *, tensors: bool = False, tables: bool = False,
) -> Body:  # fmt: skip
    """Read the body of a JSON request, behind which bytes of `tensors` may come, or a table where `tables` may.

    Raises
    ------
    PayloadError
        It is no JSON by its headers, too long, does not come in time, or comes when nobody waits for the answer.
    ClientGoneError
        The client went away.
    """
    deadline = deadlines.of(headers)
    deadlines.check(deadline)
    json_bytes = _json_bytes(headers.get(JSON_LENGTH)) if tensors else None
    kind = headers.get("content-type", JSON)
    is_arrow = tables and kind.lower() == ARROW
    if not is_arrow and (json_bytes is None or kind != OCTETS):
        check_json(kind)
    encoding = _encoding(headers.get("content-encoding", ""))
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        await drain(receive, max_bytes)
        raise errors.PayloadError.too_large(max_bytes)
    begun = _begun(receive)
    if not isinstance(begun, _Waiting) and not begun.get("more_body", False):
        return Body(await _whole(receive, max_bytes, begun), encoding, json_bytes, deadline, is_arrow)
    try:
        async with asyncio.timeout(max_seconds):
            message: Message = await begun if isinstance(begun, _Waiting) else begun
            return Body(await _whole(receive, max_bytes, message), encoding, json_bytes, deadline, is_arrow)
    except TimeoutError:
        raise errors.PayloadError.too_slow(max_seconds) from None


class _Waiting:
    """A coroutine that ran until it had to wait, and is awaited from there."""

    def __init__(self, steps: Any, awaited: Any) -> None:
        self._steps = steps
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            yield self._awaited
        except BaseException as error:
            self._steps.throw(error)
            raise
        return (yield from self._steps)


def _begun(receive: Receive) -> Message | _Waiting:
    """The first message if it is there, as for most requests, else what to await: a timer costs more than a message."""
    steps = receive().__await__()
    try:
        awaited = next(steps)
    except StopIteration as done:
        message: Message = done.value
        return message
    return _Waiting(steps, awaited)


async def drain(receive: Receive, max_bytes: int) -> None:
    """Read on and throw away, for a while: a client that is answered while it sends may never see the answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while size <= DRAIN_TIMES * max_bytes:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


async def _whole(receive: Receive, max_bytes: int, message: Message) -> bytes:
    """Read on after the first message, to the end of the body."""
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            if message.get("more_body", False):
                await drain(receive, max_bytes)
            raise errors.PayloadError.too_large(max_bytes)
        if part:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def unpacked(body: Body, max_bytes: int) -> bytes:
    """Unpack a body; no more than `max_bytes` are ever made of it.

    Raises
    ------
    PayloadError
        It is damaged, or larger than that.
    """
    if body.encoding is None:
        return body.sent
    window = WINDOWS[body.encoding]
    if body.encoding == "deflate" and not _is_zlib(body.sent):
        window = -zlib.MAX_WBITS
    parts: list[bytes] = []
    rest, size = body.sent, 0
    try:
        while rest or not parts:  # a gzip file may have several members
            if len(parts) == MAX_MEMBERS:
                raise errors.PayloadError.unpacking(body.encoding)
            member = zlib.decompressobj(window)
            parts.append(member.decompress(rest, max_bytes + 1 - size))
            size += len(parts[-1])
            if size > max_bytes:
                raise errors.PayloadError.too_large(max_bytes)
            if not member.eof:
                raise errors.PayloadError.unpacking(body.encoding)
            rest = member.unused_data
    except zlib.error:
        raise errors.PayloadError.unpacking(body.encoding) from None
    return b"".join(parts)


def _is_zlib(data: bytes) -> bool:
    """True if bytes begin as a zlib stream does (RFC 1950, 2.2: method 8, and a checksum modulo 31)."""
    return len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _json_bytes(header: str | None) -> int | None:
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) <= 18):
        name = "Inference-Header-Content-Length"
        raise errors.PayloadError.header(name, ascii(header[:40]), "the bytes of the JSON, as digits")
    return int(header)


@functools.lru_cache(maxsize=64)
def check_json(header: str) -> None:
    """Refuse a content type that is not JSON in UTF-8; those that are accepted are remembered."""
    kind, *params = (part.strip() for part in header.split(";"))
    if kind.lower() != JSON:
        raise errors.PayloadError.content_type(kind[:100])
    for param in params:
        name, _, value = param.partition("=")
        if name.strip().lower() == "charset" and not CHARSETS.match(value.strip()):
            raise errors.PayloadError.content_type(header[:100])


def _encoding(header: str) -> str | None:
    if not header:
        return None
    encodings = [part for text in header.split(",") if (part := text.strip().lower()) not in {"", "identity"}]
    if not encodings:
        return None
    if len(encodings) > 1 or encodings[0] not in WINDOWS:
        raise errors.PayloadError.encoding(header[:100], ("gzip", "deflate"))
    return encodings[0]

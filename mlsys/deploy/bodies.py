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
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import errors

JSON = "application/json"

WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Content encoding → window of zlib; ``deflate`` is a zlib stream, or a bare one as some clients send it."""

MAX_MEMBERS = 100
"""Members of a packed body at most: each costs a copy of what follows it, and clients write one."""

DRAIN_S, DRAIN_TIMES = 2.0, 4
"""Seconds for which the rest of a body is read that is too long, and how many times the limit of it."""

CHARSETS = re.compile(r"^\"?(utf-?8|us-ascii)\"?$", re.IGNORECASE)

HEADERS = {name.encode(): name for name in ("content-type", "content-encoding", "content-length")}
"""The headers that say what a body is, as they come and as text."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(frozen=True)
class Body:
    """The bytes of a body as they came, and the encoding in which they are packed."""

    sent: bytes
    encoding: str | None = None


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete; nobody waits for an answer."""


def texts(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Read the headers that say what a body is; of one that comes several times the first counts.

    >>> texts([(b"content-type", b"text/csv"), (b"accept", b"*/*"), (b"content-type", b"text/html")])
    {'content-type': 'text/csv'}
    """
    return {HEADERS[name]: value.decode("latin-1") for name, value in reversed(headers) if name in HEADERS}


async def read(headers: Mapping[str, str], receive: Receive, max_bytes: int, max_seconds: float) -> Body:
    """Read the body of a JSON request.

    Raises
    ------
    PayloadError
        It is no JSON by its headers, too long, or does not come in time.
    ClientGoneError
        The client went away.
    """
    _check_type(headers.get("content-type", JSON))
    encoding = _encoding(headers.get("content-encoding", ""))
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        await drain(receive, max_bytes)
        raise errors.PayloadError.too_large(max_bytes)
    try:
        async with asyncio.timeout(max_seconds):
            return Body(await _whole(receive, max_bytes), encoding)
    except TimeoutError:
        raise errors.PayloadError.too_slow(max_seconds) from None


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


async def _whole(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
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


@functools.lru_cache(maxsize=64)
def _check_type(header: str) -> None:
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

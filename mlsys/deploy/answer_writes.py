"""Write the head of an answer and its body at once.

uvicorn writes each message of ASGI to the connection as it comes, and uvloop asks the system to send each of them: two
calls and two packets an answer, which wake HAProxy twice. Here the head waits for the body, and what uvicorn writes for
both is collected in the place of its transport. Another server gets the messages as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def written_at_once(send: Send) -> Send:
    """Make a function that sends the head of an answer with the first part of its body."""
    cycle = getattr(send, "__self__", None)
    if getattr(cycle, "transport", None) is None:
        return send
    return _HeadAndBody(send, cycle)


class _HeadAndBody:
    def __init__(self, send: Send, cycle: Any) -> None:
        self._send = send
        self._cycle = cycle
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        head, self._head = self._head, None
        if head is None:
            await self._send(message)
            return
        transport = self._cycle.transport
        collected = self._cycle.transport = _Collected(transport)
        try:
            await self._send(head)
            await self._send(message)
        finally:
            self._cycle.transport = transport
            collected.flush()


class _Collected:
    """Stands for a transport and keeps what is written, until all is written or the connection is to close."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts = []

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

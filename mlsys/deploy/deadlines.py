"""Deadlines of clients: a request whose time is over when its turn comes is answered without work.

``X-Request-Timeout-Ms: 500`` counts from the moment at which the first process sees the headers of the request
(`mlsys.deploy.front`), before it waits for a place in a replica. That process notes the end in a header of its own, in
seconds of the wall clock, since the request may go on to another machine. The answer is 504, HTTP's status for gRPC's
``DEADLINE_EXCEEDED`` (``google/rpc/code.proto``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from mlsys import errors

TIMEOUT = "x-request-timeout-ms"
"""Header of a client: milliseconds for which it waits."""

NOTED = "x-request-deadline"
"""Header of ours: when that time is over; a client's own is taken away."""

MAX_DIGITS = 9
"""Digits of a time at most: eleven days."""

_TIMEOUT, _NOTED = TIMEOUT.encode(), NOTED.encode()


def is_timeout(value: bytes) -> bool:
    """Tell whether the value of a header is a whole number of milliseconds above 0.

    >>> is_timeout(b"250"), is_timeout(b"0"), is_timeout(b"1e3"), is_timeout(b"-1")
    (True, False, False, False)
    """
    return value.isdigit() and len(value) <= MAX_DIGITS and int(value) > 0


def noted(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of a request, with the end of its time where it has one; its first header counts."""
    for name, value in headers:
        if name == _TIMEOUT and is_timeout(value):
            return [*headers, (_NOTED, b"%.6f" % (time.time() + int(value) / 1e3))]
    return headers


def of(headers: Mapping[str, str]) -> float | None:
    """The time at which a client stops waiting, in seconds of the wall clock; None where it does not say.

    Raises
    ------
    PayloadError
        The time is no whole number of milliseconds.
    """
    at, timeout = headers.get(NOTED), headers.get(TIMEOUT)
    if at is not None:
        with contextlib.suppress(ValueError):  # a client's own, where no front took it away
            return float(at)
    if timeout is None:
        return None
    if not timeout.isascii() or not is_timeout(timeout.encode()):
        raise refusal(timeout)
    return time.time() + int(timeout) / 1e3


def check(deadline: float | None) -> None:
    """Refuse a request whose client waits no more; `PayloadError`, status 504."""
    if deadline is not None and time.time() >= deadline:
        raise errors.PayloadError.too_late()


def refusal(value: str) -> errors.PayloadError:
    """The answer to a header that gives no time."""
    expected = f"milliseconds, 1 to {10**MAX_DIGITS - 1:,}, as digits"
    return errors.PayloadError.header("X-Request-Timeout-Ms", ascii(value[:40]), expected)

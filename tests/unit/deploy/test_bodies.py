"""Bodies: whole whether they are there at once or come in parts, in time, and given up with their request."""

import asyncio

import pytest

from mlsys import errors
from mlsys.deploy import bodies

HEADERS = {"content-type": "application/json"}


def receiver(*steps):
    """A function that gives the parts in turn; a number is a time to wait, and the last part ends the body."""
    waiting = list(steps)

    async def receive():
        if isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    return receive


def read(*steps, max_bytes=100, max_seconds=10.0):
    return asyncio.run(bodies.read(HEADERS, receiver(*steps), max_bytes, max_seconds)).sent


@pytest.mark.parametrize(
    "steps", [(b"{}",), (b"{", b"}"), (0.001, b"{}"), (0.001, b"{", 0.001, b"}"), (b"{", 0.001, b"}"), (b"", b"{}")]
)
def test_a_body_is_whole_however_it_comes(steps):
    assert read(*steps) == b"{}"


@pytest.mark.parametrize("steps", [(3600.0, b"{}"), (b"{", 3600.0, b"}"), (0.001, b"{", 3600.0, b"}")])
def test_a_body_that_does_not_come_has_its_time_wherever_it_stops(steps):
    with pytest.raises(errors.PayloadError) as caught:
        read(*steps, max_seconds=0.02)
    assert caught.value.reason == "too_slow"


@pytest.mark.parametrize("steps", [(b"x" * 101,), (0.001, b"x" * 101), (b"x" * 60, b"x" * 60)])
def test_a_body_that_is_too_long_is_refused_however_it_comes(steps):
    with pytest.raises(errors.PayloadError) as caught:
        read(*steps)
    assert caught.value.reason == "too_large"


def test_a_request_that_is_given_up_gives_up_the_wait_for_its_body():
    ended = []

    async def receive():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def give_up():
        task = asyncio.ensure_future(bodies.read(HEADERS, receive, 100, 10.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert ended == [True]


@pytest.mark.parametrize("wait", [(), (0.001,)])
def test_a_client_that_went_away_is_told_apart(wait):
    async def receive():
        for seconds in wait:
            await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    with pytest.raises(bodies.ClientGoneError):
        asyncio.run(bodies.read(HEADERS, receive, 100, 10.0))

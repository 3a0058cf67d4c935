"""An answer of one body goes to the connection in one write, with the bytes that uvicorn would send in two."""

import asyncio
import http.client

import pytest
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mlsys.deploy.answer_writes import written_at_once
from mlsys.deploy.front import Front
from uvicorn_server import Recording, served

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


def writes(app, protocol=HttpToolsProtocol, request=REQUEST):
    """What is written to a connection that a request came from."""

    async def answered():
        config = Config(app, lifespan="off", log_config=None, server_header=False, date_header=False)
        config.load()
        handler, transport = protocol(config, ServerState(), {}, asyncio.get_running_loop()), Recording()
        handler.connection_made(transport)
        handler.data_received(request)
        while handler.server_state.tasks:
            await asyncio.gather(*handler.server_state.tasks)
        written = list(transport.writes)
        handler.connection_lost(None)
        return written

    return asyncio.run(answered())


async def whole(scope, receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"abcd"})


async def in_parts(scope, receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd"})


async def failing(scope, receive, send):
    await send(START)
    raise ValueError


@pytest.mark.parametrize("protocol", [HttpToolsProtocol, H11Protocol])
def test_head_and_body_are_one_write_of_the_same_bytes(protocol):
    plain, at_once = writes(whole, protocol), writes(Front(whole), protocol)
    assert len(plain) >= 2
    assert at_once == [b"".join(plain)]


def test_further_parts_are_written_as_they_come():
    plain = writes(in_parts)
    assert writes(Front(in_parts)) == [plain[0] + plain[1], plain[2]]


def test_a_connection_that_is_to_close_is_closed_after_the_answer():
    request = REQUEST.replace(b"Host: a", b"Host: a\r\nConnection: close")
    first, *rest = writes(Front(whole), request=request)
    assert first.endswith(b"\r\n\r\nabcd")
    assert rest == ["closed"]


def test_an_app_that_fails_before_its_body_is_answered_with_500():
    answer = b"".join(part for part in writes(Front(failing)) if part != "closed")
    assert answer.startswith(b"HTTP/1.1 500 ")


def test_another_server_gets_the_messages_as_they_are():
    async def send(message):
        pass

    assert written_at_once(send) is send


def test_connections_are_used_again_over_a_real_socket():
    with served(Front(whole)) as address:
        connection = http.client.HTTPConnection(address, timeout=60)
        for _ in range(3):
            connection.request("POST", "/", b"{}")
            assert connection.getresponse().read() == b"abcd"
        connection.close()

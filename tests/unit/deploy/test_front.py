import asyncio
import json

import pytest

from asgi_client import call
from mlsys.deploy import front


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": scope["headers"]})
    await send({"type": "http.response.body", "body": b"{}"})


def status(*headers, path="/late/invocations"):
    got, _, body = asyncio.run(call(front.Front(app), "POST", path, b"", headers))
    json.loads(body)
    return got


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("X-Request-ID", b"\xff")], 400),
        ([("X-Request-ID", "ü".encode())], 400),
        ([("X-Request-ID", b"a\x00b")], 400),
        ([("X-Request-ID", b"x" * 257)], 400),
        ([("X-Request-ID", b"b2f1-7")], 200),
        ([("X-Session-ID", b"\xff")], 400),
        ([("serve_multiplexed_model_id", b"\xc3")], 400),
        ([("X-Name", "Zürich".encode())], 200),
        ([("Content-Length", b"1001")], 413),
        ([("Content-Length", b"9" * 5_000)], 413),
        ([("Content-Length", b"1000")], 200),
    ],
)
def test_headers_that_serve_would_stumble_over_have_a_status_of_the_client(headers, expected, monkeypatch):
    monkeypatch.setattr(front, "body_bytes", 1_000)
    assert status(*headers) == expected
    assert status(*headers, path="/v2/models/late/infer") == expected


def test_a_client_cannot_switch_off_what_protects_the_others():
    sent = [("X-Request-Timeout-Seconds", b"0"), ("X-Request-Disconnect-Disabled", b"?1"), ("Accept", b"*/*")]
    _, headers, _ = asyncio.run(call(front.Front(app), "POST", "/", b"", sent))
    assert headers == {b"accept": b"*/*"}


@pytest.mark.parametrize(
    ("method", "length", "watched"),
    [
        ("POST", b"500", False),
        ("POST", b"65536", False),
        ("POST", b"65537", True),
        ("POST", b"", True),
        ("POST", None, True),
        ("GET", b"5", True),
    ],
)
def test_serve_does_not_watch_clients_of_small_requests(method, length, watched, monkeypatch):
    """Whatever the client says of it; and it watches all where no model is, which bounds the time of a body."""
    headers = [("X-Request-Disconnect-Disabled", b"?1"), *([] if length is None else [("Content-Length", length)])]
    name = b"x-request-disconnect-disabled"
    monkeypatch.setattr(front, "body_bytes", 1_000_000)
    _, passed, _ = asyncio.run(call(front.Front(app), method, "/late/invocations", b"", headers))
    assert passed.get(name) == (None if watched else b"?1")
    monkeypatch.setattr(front, "body_bytes", None)
    _, passed, _ = asyncio.run(call(front.Front(app), method, "/late/invocations", b"", headers))
    assert name not in passed


def test_serve_takes_the_middlewares():
    from ray.serve._private.http_util import validate_http_proxy_callback_return

    assert validate_http_proxy_callback_return(front.middlewares())

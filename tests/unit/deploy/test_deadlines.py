import asyncio
import json
import time
import zlib

import pytest

from asgi_client import call
from bundles import fit
from mlsys import errors
from mlsys.deploy import asgi, bodies, deadlines
from mlsys.deploy.front import Front
from mlsys.deploy.service import Service, load
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

BODY = b'{"instances": [{"seats": 1}]}'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("deadlines"))
    return load(store, LedgerEntry("late", 1, fit(store).digest))


@pytest.fixture
def service(model):
    service = Service("late", log=None)
    service.model = model
    return service


def test_the_time_begins_where_the_headers_are_seen_first():
    before = time.time()
    *_, (name, value) = deadlines.noted([(b"x-request-timeout-ms", b"1500")])
    assert name == b"x-request-deadline"
    assert before + 1.499 <= float(value) <= time.time() + 1.501
    assert deadlines.of({"x-request-timeout-ms": "60000", "x-request-deadline": value.decode()}) == float(value)


def test_without_the_header_there_is_none():
    assert deadlines.noted([(b"accept", b"*/*")]) == [(b"accept", b"*/*")]
    assert deadlines.of({}) is None
    deadlines.check(None)


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "", "soon", "1" * 10, "٣", "1e3", "\xb2"])
def test_a_time_that_is_none_is_refused_by_the_front_and_by_the_app(value):
    with pytest.raises(errors.PayloadError, match="expected: milliseconds, 1 to 999,999,999"):
        deadlines.of({"x-request-timeout-ms": value})

    async def app(scope, receive, send):
        raise AssertionError("it is answered before")

    headers = [("x-request-timeout-ms", value.encode())]
    status, _, answer = asyncio.run(call(Front(app), "POST", "/late/invocations", BODY, headers))
    assert status == 400
    assert "X-Request-Timeout-Ms" in json.loads(answer)["error"]["message"]


def test_a_clients_own_deadline_is_taken_away():
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = [("x-request-deadline", b"99999999999"), ("x-request-timeout-ms", b"5")]
    asyncio.run(call(Front(app), "POST", "/", b"", headers))
    assert [name for name, _ in seen] == [b"x-request-timeout-ms", b"x-request-deadline"]
    assert float(seen[1][1]) < time.time() + 1


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/late/infer"])
@pytest.mark.parametrize("left", [-1.0, 30.0])
def test_a_request_whose_time_is_over_is_answered_without_work(service, path, left):
    body = BODY if path == "/invocations" else (
        b'{"inputs": [{"name": "seats", "shape": [1], "datatype": "INT64", "data": [1]}]}'
    )  # fmt: skip
    app = asgi.app(asgi.RequestHandler(service, LimitsSection()))
    headers = [("x-request-deadline", b"%f" % (time.time() + left))]
    status, _, answer = asyncio.run(call(app, "POST", path, body, headers))
    assert status == (504 if left < 0 else 200)
    assert service.stats()["rows"] == int(left > 0)
    assert left > 0 or "X-Request-Timeout-Ms" in json.dumps(json.loads(answer)["error"])


def test_a_request_that_waited_too_long_for_a_thread_is_answered_without_work(service):
    """Packed bodies are answered in threads, of which there are two."""
    handler = asgi.RequestHandler(service, LimitsSection())
    app = Front(asgi.app(handler))

    async def run():
        busy = [handler._threads.submit(time.sleep, 0.4) for _ in range(asgi.THREADS)]
        headers = [("content-encoding", b"deflate"), ("x-request-timeout-ms", b"100")]
        answer = await call(app, "POST", "/invocations", zlib.compress(BODY), headers)
        assert all(each.done() or each.running() for each in busy)
        return answer

    status, _, answer = asyncio.run(run())
    assert (status, json.loads(answer)["error"]["code"]) == (504, "gateway_timeout")
    assert service.stats()["rows"] == 0
    assert service.stats()["errors"] == {"504": 1}


def test_no_byte_of_a_body_is_read_when_nobody_waits():
    async def receive():
        raise AssertionError("not to be read")

    with pytest.raises(errors.PayloadError) as caught:
        asyncio.run(bodies.read({"x-request-deadline": "1"}, receive, 100, 1.0))
    assert caught.value.reason == "too_late"


@pytest.mark.parametrize("value", ["", "nan", "x", "-inf", "1e400"])
def test_an_odd_deadline_where_no_front_took_it_away_is_no_error_of_ours(service, value):
    app = asgi.app(asgi.RequestHandler(service, LimitsSection()))
    status, *_ = asyncio.run(call(app, "POST", "/invocations", BODY, [("x-request-deadline", value.encode())]))
    assert status in {200, 504}

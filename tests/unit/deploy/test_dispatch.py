"""Which requests pass the framework, and that nobody can tell from the answer."""

import asyncio
import json
import time
import uuid

import pytest

from asgi_client import call
from bundles import fit
from mlsys.deploy import asgi, row_ids
from mlsys.deploy.dispatch import Dispatch
from mlsys.deploy.service import Service, load
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

BODY = json.dumps({"instances": [{"seats": 1}], "params": {"prediction_ids": ["a"]}}).encode()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("dispatch"))
    service = Service("late", log=None)
    service.model = load(store, LedgerEntry("late", 1, fit(store).digest))
    return asgi.app(asgi.RequestHandler(service, LimitsSection()))


def send(app, method, path, body=BODY, headers=(), root_path=""):
    async def mounted(scope, receive, send):
        await app({**scope, "root_path": root_path, "path": root_path + path}, receive, send)

    return asyncio.run(call(mounted, method, path, body, headers))


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/late/infer"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, []),
        (BODY, [("Content-Type", b"application/json; charset=utf-8")]),
        (BODY, [("Content-Type", b"text/csv")]),
        (BODY, [("Content-Encoding", b"br")]),
        (b'{"instances": [{"seats": "x"}]}', []),
        (b'{"inputs": [{"name": "seats", "shape": [1], "datatype": "INT64", "data": [1]}], "id": "r"}', []),
        (b"{", [("Content-Length", b"1")]),
        (b"{}", [("Content-Length", b"999999999")]),
        (b'{"instances": [{"a": 1, "a": 2}]}', []),
    ],
)
def test_the_framework_would_have_answered_the_same(app, path, body, headers):
    """But for ids that are drawn."""
    fast, framework = send(app, "POST", path, body, headers), send(app._app, "POST", path, body, headers)
    assert (fast[0], fast[1]) == (framework[0], framework[1])
    if b"prediction_id" not in fast[2]:
        assert fast[2] == framework[2]
    else:
        assert fast[2][:40] == framework[2][:40]


def test_a_prefix_of_the_address_is_the_servers(app):
    assert send(app, "POST", "/invocations", root_path="/late")[0] == 200
    assert send(app, "POST", "/x/invocations", root_path="/late")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("PUT", "/invocations", 405), ("POST", "/v2/models/other/infer", 404),
     ("POST", "/health", 405), ("GET", "/health", 200), ("POST", "/invocations/", 307)],
)  # fmt: skip
def test_everything_else_is_the_frameworks(app, method, path, status):
    assert send(app, method, path)[0] == status


def test_the_lifespan_of_the_server_is_the_frameworks(app):
    async def live():
        sent, waiting = [], [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive():
            return waiting.pop(0)

        async def send(message):
            sent.append(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_error_that_nobody_foresaw_is_answered_too(app):
    """There is no framework behind the handler that would turn it into an answer."""

    async def broken():
        sent = []

        async def receive():
            raise ZeroDivisionError

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]

    assert asyncio.run(broken()) == (500, "internal_server_error")


def test_each_answer_has_headers_of_its_own():
    """Serve adds the id of a request to the list that it gets."""

    async def app(scope, receive, send):
        raise AssertionError("not asked")

    async def handler(headers, receive):
        return asgi.JSONBytes(b"{}")

    lists = []

    async def send(message):
        if "headers" in message:
            lists.append(message["headers"])
            message["headers"].append((b"x-request-id", b"1"))

    dispatch = Dispatch({"/x": handler}, app)
    for _ in range(2):
        asyncio.run(dispatch({"type": "http", "method": "POST", "path": "/x", "headers": []}, None, send))
    assert [len(headers) for headers in lists] == [3, 3]


@pytest.mark.parametrize("at_once", [1, 2_000])
def test_new_ids_are_uuids_that_hold_the_time_and_are_random_else(at_once):
    began = time.time_ns() // 1_000_000
    ids = [name for _ in range(0, 2_000, at_once) for name in row_ids.new_ids(at_once)]
    assert len(set(ids)) == 2_000
    for name in ids:
        drawn = int(name[:8] + name[9:13], 16)  # RFC 9562, section 5.7: 48 bits of Unix time in milliseconds
        assert began <= drawn <= time.time_ns() // 1_000_000
        assert row_ids.time_of(name).timestamp() * 1000 == pytest.approx(drawn)
    for name in ids:
        parsed = uuid.UUID(name)
        assert (str(parsed), parsed.version, parsed.variant) == (name, 7, uuid.RFC_4122)
    assert {name[19] for name in ids} == set("89ab")
    for place in set(range(15, 36)) - {18, 19, 23}:
        assert {name[place] for name in ids} == set("0123456789abcdef")
    assert row_ids.new_ids(0) == []

"""A small request that is answered before the app gets the app's answer; others reach the app untouched."""

import asyncio
import json
import re

import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bundles import fit
from mlsys import recipe
from mlsys.deploy import asgi, front
from mlsys.deploy.direct_posts import DirectPosts
from mlsys.deploy.front import Front
from mlsys.deploy.service import Service, load
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store
from uvicorn_server import Recording

PATH = "/late/invocations"
BODY = json.dumps({"instances": [{"seats": 100}]}).encode()
IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9a-f]{32}")


class Books:
    """Books of a server that has a free place or none."""

    def __init__(self, *, free=True):
        self.free, self.latencies = free, []

    def is_free(self):
        return self.free

    def record(self, latency_ms):
        self.latencies.append(latency_ms)


@pytest.fixture(scope="module", params=list(TaskKind))
def model(request, tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("direct"))
    return load(store, LedgerEntry("late", 3, fit(store, request.param).digest))


@pytest.fixture
def service(model):
    service = Service("late", log=None)
    service.model = model
    return service


def posted(body=BODY, path=PATH, **headers):
    """The bytes of a request; a header of None is left out."""
    given = {"host": "a", "content-type": "application/json", "content-length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}\r\n" for name, value in given.items() if value is not None]
    return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1") + body


def answered(service, monkeypatch, *parts, books=None, is_open=True):
    """Bytes of the answers to a request that comes in parts, and whether it reached the app."""
    handler = asgi.RequestHandler(service, recipe.LimitsSection())
    app, reached = asgi.app(handler), []

    async def below(scope, receive, send):
        reached.append(scope["path"])
        await app({**scope, "root_path": "/late"}, receive, send)

    posts = asgi.direct_posts(handler, "/late")
    direct = DirectPosts(posts, lambda *_: is_open, front.is_refused, lambda _: books)
    monkeypatch.setattr(front, "direct", direct if books else None)
    monkeypatch.setattr(front, "body_bytes", 1_000_000)

    async def run():
        config = Config(Front(below), lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Tue, 01 Dec 2026 12:00:00 GMT"), (b"server", b"uvicorn")]
        protocol, transport = HttpToolsProtocol(config, state, {}, asyncio.get_running_loop()), Recording()
        protocol.connection_made(transport)
        for part in parts:
            if part == "gone":
                protocol.connection_lost(None)
            elif isinstance(part, float):
                await asyncio.sleep(part)
            else:
                protocol.data_received(part)
                await asyncio.sleep(0)
        while state.tasks:
            await asyncio.gather(*state.tasks)
        written, requests = list(transport.writes), state.total_requests
        return written, requests

    written, requests = asyncio.run(run())
    return written, requests, bool(reached)


def without_ids(written):
    return [part if part == "closed" else IDS.sub(b"ID", part) for part in written]


@pytest.mark.parametrize(
    "request_bytes",
    [
        posted(),
        posted(connection="close"),
        posted(content_type=None),
        posted(content_type="application/json; charset=utf-8"),
        posted(x_request_timeout_seconds="0", x_request_disconnect_disabled="?1"),
        posted(json.dumps({"dataframe_split": {"columns": ["seats"], "data": [[1], [2]]}}).encode()),
        posted(json.dumps({"inputs": {"seats": [1]}, "params": {"counts": True, "probabilities": False}}).encode()),
        posted(json.dumps({"inputs": {"seats": [1]}, "params": {"prediction_ids": ["ä-1"]}}).encode()),
        posted(
            json.dumps({"inputs": [{"name": "seats", "datatype": "INT64", "shape": [1], "data": [1]}]}).encode(),
            "/late/v2/models/late/infer",
        ),
    ],
)
def test_an_answer_at_once_has_the_bytes_of_the_usual_one(request_bytes, service, monkeypatch):
    usual, count, is_reached = answered(service, monkeypatch, request_bytes)
    assert (service.num_at_once, count, is_reached) == (0, 1, True)
    books = Books()
    direct, count, is_reached = answered(service, monkeypatch, request_bytes, books=books)
    assert (service.num_at_once, count, is_reached) == (1, 1, False)
    own_id = b"\r\nx-request-id: ID"  # which Serve adds, and no server here
    assert without_ids(usual) == [
        part if part == "closed" else part.replace(own_id, b"") for part in without_ids(direct)
    ]
    assert (len(books.latencies), service.stats()["requests"], service.stats()["errors"]) == (1, 2, {})


def test_the_id_of_a_request_comes_back(service, monkeypatch):
    (written,), _, _ = answered(service, monkeypatch, posted(x_request_id="b2f1-7"), books=Books())
    assert b"\r\nx-request-id: b2f1-7\r\n" in written
    (first,), _, _ = answered(service, monkeypatch, posted(), books=Books())
    assert len(IDS.findall(first.partition(b"\r\n\r\n")[0])) == 1


def test_a_connection_is_used_again(service, monkeypatch):
    books = Books()
    written, count, _ = answered(service, monkeypatch, posted(), posted(), posted(), books=books)
    assert (len(written), count, len(books.latencies)) == (3, 3, 3)


@pytest.mark.parametrize(
    "parts",
    [
        [posted(expect="100-continue")],
        [posted(content_encoding="gzip")],
        [posted(x_request_timeout_ms="1000")],
        [posted(content_type="text/csv")],
        [posted(x_request_id="a\xff")],
        [posted(x_request_id="a", X_Request_ID="b")],
        [posted(path="/late/v2/models/late/versions/3/infer")],
        [posted(path="/late/invocations/")],
        [posted().replace(b"POST", b"PUT")],
        [posted(b'{"instances": [{"seats": "many"}]}')],
        [posted(b'{"instances": [{"seats": 1, "seats": 2}]}')],
        [posted(b"{")],
        [posted(json.dumps({"instances": [{"seats": 1}] * 1_000}).encode())],
        [posted(json.dumps({"instances": [{"seats": 1}]}).encode() + b" " * 17_000)],
        [posted(json.dumps({"instances": [{"seats": 1}], "params": {"explain": 1}}).encode())],
    ],
)
def test_other_requests_go_the_usual_way_with_all_that_came(parts, service, monkeypatch):
    usual = answered(service, monkeypatch, *parts)
    books = Books()
    other = answered(service, monkeypatch, *parts, books=books)
    assert (without_ids(other[0]), other[1:]) == (without_ids(usual[0]), usual[1:])
    assert (service.num_at_once, books.latencies) == (0, [])


def test_a_body_that_comes_right_after_its_headers_is_answered_at_once(service, monkeypatch):
    head, _, body = posted().partition(b"\r\n\r\n")
    (whole,), _, _ = answered(service, monkeypatch, posted(), books=Books())
    (apart,), count, is_reached = answered(service, monkeypatch, head + b"\r\n\r\n", body, books=Books())
    assert (IDS.sub(b"ID", apart), count, is_reached) == (IDS.sub(b"ID", whole), 1, False)


@pytest.mark.parametrize("parts", [[posted()[:-1], 0.05, posted()[-1:]], [posted()[:-31], 0.05, posted()[-31:]]])
def test_a_body_that_takes_its_time_goes_the_usual_way(parts, service, monkeypatch):
    usual, count, _ = answered(service, monkeypatch, posted())
    written, *others = answered(service, monkeypatch, *parts, books=Books())
    assert (without_ids(written), others) == (without_ids(usual), [count, True])
    assert service.num_at_once == 0


def test_a_client_that_goes_away_before_its_body_came_leaves_nothing_behind(service, monkeypatch):
    head = posted().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert answered(service, monkeypatch, head, "gone", books=Books()) == (["closed"], 0, True)


def test_a_request_that_must_wait_or_may_not_pass_goes_the_usual_way(service, monkeypatch):
    for books, is_open in ((Books(free=False), True), (Books(), False)):
        _, _, is_reached = answered(service, monkeypatch, posted(), books=books, is_open=is_open)
        assert (is_reached, service.num_at_once, books.latencies) == (True, 0, [])


def test_while_a_router_divides_the_requests_they_go_its_way(service, monkeypatch):
    def respond(model, request):
        return service.answer(model, request)

    service.respond = respond
    assert answered(service, monkeypatch, posted(), books=Books())[2]


def test_no_request_is_answered_at_once_without_a_model(service, monkeypatch):
    service.model = None
    (written,), _, is_reached = answered(service, monkeypatch, posted(), books=Books())
    assert is_reached
    assert written.startswith(b"HTTP/1.1 503 ")

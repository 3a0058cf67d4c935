"""Which requests an endpoint answers, by the key that they carry."""

import asyncio
import json

import pytest

from asgi_client import call
from mlsys.deploy import api_keys, guard
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.dispatch import route_of
from mlsys.store import Store


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(api_keys, "CHECK_S", 0.0)
    return Store.open(tmp_path)


@pytest.fixture
def ask(store):
    """Status, headers and JSON of a request to the model `late`."""
    ring = KeyRing(api_keys.file_of(store))
    guarded = guard.Guard(app, lambda _: (ring,), "late")

    def asked(path, *headers, method="POST"):
        status, answered, body = asyncio.run(call(guarded, method, path, b"", headers))
        return status, answered, json.loads(body)

    return asked


def bearer(made):
    return ("Authorization", f"Bearer {made.text}".encode())


def test_everything_is_answered_while_there_are_no_keys(ask):
    assert [ask(path)[0] for path in ("/invocations", "/stats", "/health")] == [200, 200, 200]


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping", "/v2/health/live", "/v2/models/late/ready"])
def test_health_needs_no_key(store, ask, path):
    api_keys.add(store, ["predict"])
    assert ask(path)[0] == 200


@pytest.mark.parametrize(
    "path", ["/invocations", "/v2/models/late/infer", "/labels", "/batch", "/stats", "/docs", "/x"]
)
def test_without_a_valid_key_everything_else_is_401(store, ask, path):
    api_keys.add(store, ["predict"])
    for headers in ([], [("X-API-Key", b"mls_a_b")], [("Authorization", b"Basic abc")], [("Authorization", b"\xff")]):
        status, answered, body = ask(path, *headers)
        assert status == 401
        assert answered[b"www-authenticate"].startswith(b"Bearer")
        message = body["error"] if "/v2/" in path else body["error"]["message"]
        assert "mlsys keys add" in message


@pytest.mark.parametrize(
    ("scope", "path", "status"),
    [
        ("predict", "/invocations", 200),
        ("predict", "/v2/models/late/infer", 200),
        ("predict", "/docs", 200),
        ("predict", "/labels", 403),
        ("predict", "/batch", 403),
        ("predict", "/stats", 403),
        ("labels", "/labels", 200),
        ("labels", "/invocations", 403),
        ("batch", "/batch", 200),
        ("batch", "/batch/12ab", 200),
        ("batch", "/labels", 403),
        ("admin", "/stats", 200),
        ("admin", "/labels", 200),
    ],
)
def test_a_key_opens_what_its_scope_says(store, ask, scope, path, status):
    made = api_keys.add(store, [scope])
    assert ask(path, bearer(made))[0] == status
    assert ask(path, ("X-API-Key", made.text.encode()))[0] == status


def test_a_key_of_another_model_is_refused_with_the_reason(store, ask):
    made = api_keys.add(store, ["predict"], models=["other"])
    status, _, body = ask("/invocations", bearer(made))
    assert (status, body["error"]["message"]) == (403, "this API key is not for 'late'")


def test_more_requests_than_its_rate_are_told_when_to_come_back(store, ask):
    made = api_keys.add(store, ["predict"], requests_per_second=2)
    answers = [ask("/invocations", bearer(made)) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1][b"retry-after"] == b"1"
    other = api_keys.add(store, ["predict"])
    assert ask("/invocations", bearer(other))[0] == 200


def test_a_bucket_fills_at_its_rate_and_no_higher_than_a_second():
    bucket = guard.Bucket(10.0, filled_at=0.0)
    taken = [bucket.take(10.0, now=100.0) for _ in range(11)]
    assert taken == [0.0] * 10 + [0.1]
    assert bucket.take(10.0, now=100.25) == 0.0


def test_a_gateway_asks_the_keys_of_the_model_that_the_path_names(store, tmp_path):
    other = Store.open(tmp_path / "other")
    made = api_keys.add(other, ["predict"])
    rings = {"late": KeyRing(api_keys.file_of(store)), "early": KeyRing(api_keys.file_of(other))}
    guarded = guard.Guard(app, lambda name: [rings[name]] if name in rings else list(rings.values()))

    def status(path, *headers):
        return asyncio.run(call(guarded, "POST", path, b"", headers))[0]

    assert status("/v2/models/late/infer") == 200
    assert status("/v2/models/early/infer") == 401
    assert status("/v2/models/early/infer", bearer(made)) == 200
    assert status("/") == 401
    assert status("/", bearer(made)) == 200
    assert status("/v2/health/ready") == 200


def test_the_prefix_of_the_app_is_no_part_of_its_paths():
    assert route_of({"path": "/late/stats", "root_path": "/late"}) == "/stats"
    assert route_of({"path": "/late", "root_path": "/late"}) == "/late"
    assert route_of({"path": "/later/stats", "root_path": "/late"}) == "/later/stats"
    assert route_of({"path": "/stats"}) == "/stats"

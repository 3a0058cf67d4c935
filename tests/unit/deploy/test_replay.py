"""Rows that are sent to an endpoint: whose answers count."""

import http.server
import json
import threading
from types import SimpleNamespace

import pytest

from mlsys import errors
from mlsys.deploy import replay, replay_rows
from mlsys.recipe import LimitsSection

LIMITS = LimitsSection()


class Endpoint(http.server.BaseHTTPRequestHandler):
    """An endpoint that answers with the bundle `a…`."""

    protocol_version = "HTTP/1.1"

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"predictions": [1], "model": {"name": "late", "version": 1, "digest": "a" * 64}})

    def do_GET(self):
        self.answer({"log": None})

    def log_message(self, *_):
        pass


@pytest.fixture
def url(monkeypatch):
    chunk = SimpleNamespace(body=b"{}", ids=["1"])
    monkeypatch.setattr(replay_rows, "chunks", lambda *_, **__: iter([chunk]))
    monkeypatch.setattr(replay, "STATS_POLL_S", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/late"
        server.shutdown()


def test_rows_that_the_bundle_answers_are_counted(url):
    assert replay.send(None, "production", None, url, "a" * 64, LIMITS).num_rows == 1


def test_an_answer_of_another_bundle_is_refused(url):
    with pytest.raises(errors.ClusterError) as caught:
        replay.send(None, "production", None, url, "b" * 64, LIMITS)
    assert str(caught.value) == (
        f"deploy: replay to {url}\n  got:      an answer of bundle aaaaaaaaaaaa\n  expected: bundle bbbbbbbbbbbb\n"
        "  hint:     another deployment, or another store's cluster at this address; run the command again"
    )

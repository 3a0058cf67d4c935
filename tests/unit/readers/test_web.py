"""Tables of web servers: a real one on loopback, within bounds of size and time, and without a word of its secrets."""

import hashlib
import http.server
import threading
import time
from types import SimpleNamespace

import pytest

from mlsys import errors
from mlsys.readers import registry, web
from mlsys.recipe import Reading

CSV = b"n,y\n1,a\n2,b\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path: see the tests."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.respond(with_body=False)

    def do_GET(self):
        self.respond(with_body=True)

    def respond(self, *, with_body):
        state, path = self.server.state, self.path.partition("?")[0]
        state["asked"].append((self.command, self.path, dict(self.headers)))
        if path == "/missing.csv":
            self.send_error(404)
            return
        if path == "/moved.csv":
            self.send_response(302)
            self.send_header("Location", state["elsewhere"])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/private.csv" and self.headers.get("Authorization") != "Basic dXNlcjpoaWRkZW4=":
            self.send_error(401)
            return
        if path == "/get-only.csv" and self.command == "HEAD":
            self.send_error(405)
            return
        if path == "/slow.csv" and with_body:
            time.sleep(1.5)
        if state["etag"] and self.headers.get("If-None-Match") == state["etag"]:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if path == "/page.csv" else "text/csv")
        cut = 3 if path == "/cut.csv" else 0
        self.send_header("Content-Length", str(len(state["body"]) + cut))
        if state["etag"]:
            self.send_header("ETag", state["etag"])
        self.end_headers()
        if with_body:
            self.wfile.write(state["body"])
        self.close_connection = True

    def log_message(self, *_):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = {"asked": [], "body": CSV, "etag": '"1"', "elsewhere": ""}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    running = serve()
    yield running
    running.shutdown()
    running.server_close()


def url(server, path, user=""):
    return f"http://{user}127.0.0.1:{server.server_port}{path}"


@pytest.mark.parametrize("path", ["/a.csv", "/get-only.csv", "/export?format=csv&id=7", "/a.csv?token=hidden"])
def test_a_table_of_a_web_server_is_collected(take, server, path):
    taken = take(url(server, path))
    assert taken.snapshot.table()["n"].to_pylist() == [1, 2]
    (source,) = taken.report["sources"]
    assert "hidden" not in str(taken.report)
    assert source["name"].startswith(f"http://127.0.0.1:{server.server_port}/")
    assert source["sha256"]


def test_what_did_not_change_is_downloaded_once(server):
    (fragment,) = registry.find(url(server, "/a.csv"), Reading())
    changed, digest = fragment.changed(), fragment.digest()
    assert [batch.table.num_rows for batch in registry.batches(fragment, Reading(), [])] == [2]
    bodies = [headers.get("If-None-Match") for method, _, headers in server.state["asked"] if method == "GET"]
    assert bodies == [None, '"1"']
    server.state |= {"etag": '"2"', "body": CSV + b"3,a\n"}
    assert (fragment.changed() != changed, fragment.digest() != digest) == (True, True)
    server.state["etag"] = ""  # a server that says nothing of the state: its bytes do
    before = fragment.changed()
    server.state["body"] += b"4,b\n"
    assert fragment.changed() != before


@pytest.mark.parametrize(("path", "words"), [
    ("/missing.csv", "HTTP 404 Not Found"),
    ("/private.csv", r"HTTP 401 Unauthorized[\s\S]*https://USER:\$\{PASSWORD\}@"),
    ("/page.csv", "an HTML page"),
    ("/cut.csv", "12 of 15 bytes|IncompleteRead"),
    ("/slow.csv", "no byte for 0.5 s"),
    ("/large.csv", "more than 20 bytes"),
])  # fmt: skip
def test_an_answer_that_is_no_table_is_named(take, server, path, words, monkeypatch):
    monkeypatch.setattr(web, "STALL_S", 0.5)
    if path == "/large.csv":
        monkeypatch.setattr(web, "MAX_BYTES", 20)
        server.state["body"] = CSV * 10
    with pytest.raises(errors.SourceError, match=words):
        take(url(server, path + "?token=hidden"))


def test_a_server_that_is_not_there_is_named(take, server):
    address = url(server, "/a.csv", "user:hidden@")
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.SourceError, match="refused") as raised:
        take(address)
    assert "hidden" not in str(raised.value)


def test_a_password_comes_from_the_environment_and_goes_to_its_host_alone(take, server, monkeypatch):
    other = serve()
    other.state["etag"] = '"9"'
    server.state["elsewhere"] = f"http://localhost:{other.server_port}/a.csv"
    monkeypatch.setenv("WEB_PASSWORD", "hidden")
    assert take(url(server, "/private.csv", "user:${WEB_PASSWORD}@")).snapshot.num_rows == 2
    take(url(server, "/moved.csv", "user:hidden@"), evolution="accept")
    assert server.state["asked"][-1][2]["Authorization"]
    assert other.state["asked"]
    assert not [headers for *_, headers in other.state["asked"] if "Authorization" in headers]
    other.shutdown()
    other.server_close()


def test_a_full_disk_is_told_as_that_and_not_as_a_fault_of_the_network(take, server, tmp_path, monkeypatch):
    address = url(server, "/a.csv")
    (tmp_path / f"{hashlib.sha256(address.encode()).hexdigest()}.part").symlink_to("/dev/full")
    monkeypatch.setattr(web, "_folder", [SimpleNamespace(name=str(tmp_path))])
    with pytest.raises(errors.SourceError) as raised:
        take(address)
    got, hint = "No space left on device after 12 bytes", "set TMPDIR to a folder on a larger disk"
    assert f"got:      {got}" in str(raised.value)
    assert f"hint:     {hint}" in str(raised.value)

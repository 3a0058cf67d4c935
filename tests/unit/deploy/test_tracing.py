"""Spans reach a collector that OpenTelemetry's own variables name."""

import http.server
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from mlsys.deploy import tracing


@pytest.fixture
def received(monkeypatch):
    bodies = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield bodies
        server.shutdown()


def test_a_span_reaches_the_collector(received):
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in tracing.otlp():
        provider.add_span_processor(processor)
    with provider.get_tracer("test").start_as_current_span("a request"):
        pass
    assert provider.force_flush()
    provider.shutdown()
    ((path, body),) = received
    request = ExportTraceServiceRequest.FromString(body)
    assert path == "/v1/traces"
    assert [span.name for part in request.resource_spans for each in part.scope_spans for span in each.spans] == [
        "a request"
    ]


def test_ray_serve_takes_the_function():
    from ray.serve._private.tracing_utils import _validate_tracing_exporter, _validate_tracing_exporter_processors

    _validate_tracing_exporter(tracing.otlp)
    processors = tracing.otlp()
    _validate_tracing_exporter_processors(processors)
    for processor in processors:
        processor.shutdown()

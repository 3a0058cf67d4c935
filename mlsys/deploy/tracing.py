"""Traces of requests by OpenTelemetry: off, unless one variable of the cluster's environment names `otlp`.

::

    RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=mlsys.deploy.tracing:otlp mlsys up

Ray Serve then makes a span of each request that a replica answers, below that of the client's header ``traceparent``
(W3C Trace Context) if it sent one; ``RAY_SERVE_TRACING_SAMPLING_RATIO`` says of which share of the others. They go to
the collector that OpenTelemetry's own variables name, ``OTEL_EXPORTER_OTLP_ENDPOINT`` first of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor


def otlp() -> list[SpanProcessor]:
    """Send spans in batches by OTLP over HTTP; needs the extra ``tracing``."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return [BatchSpanProcessor(OTLPSpanExporter())]

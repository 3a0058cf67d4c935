"""Metrics of an endpoint for Prometheus, sent once a second through Ray's own pipeline.

A request only adds to integers of the `Service`; a thread sends what was added. Ray gives each metric the prefix
``ray_`` and tags for application, deployment and replica, and its agent on each node has all of them at one address,
which ``prom_metrics_service_discovery.json`` in Ray's folder lists. ``serve_configs/grafana.json`` shows them.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

SEND_S = 1.0
"""Seconds between two sends; Prometheus asks every 15 s or so."""

BOUNDS_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
"""Upper bounds of the buckets of latencies: a factor of two or less where an endpoint should be."""

Tags = tuple[tuple[str, str], ...]
"""Names and values of the tags of a series, in the order of the names."""


@dataclass
class Histogram:
    """Counts of latencies by bucket, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    sum_ms: float = 0.0

    def add(self, latency_ms: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, latency_ms)] += 1
        self.sum_ms += latency_ms

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Upper bound of each bucket, as Prometheus writes it, and the number of latencies up to it.

        >>> histogram = Histogram()
        >>> histogram.add(1.0)
        >>> list(histogram.cumulative())[:3]
        [('0.5', 0), ('1', 1), ('2', 1)]
        """
        total = 0
        for bound, count in zip((*map(_text, BOUNDS_MS), "+Inf"), self.counts, strict=True):
            total += count
            yield bound, total


@dataclass(frozen=True)
class MetricValues:
    """The state of an endpoint: totals since it started, and gauges, each by metric and tags."""

    totals: Mapping[tuple[str, Tags], float]
    gauges: Mapping[tuple[str, Tags], float]


@dataclass(frozen=True)
class Description:
    """The meaning of a metric, and the names of its tags."""

    text: str
    tags: tuple[str, ...] = ()


COUNTERS = {
    "mlsys_requests": Description("answered requests by HTTP status", ("status",)),
    "mlsys_rows": Description("predicted rows"),
    "mlsys_latency_ms_bucket": Description("requests that took at most `le` milliseconds", ("le",)),
    "mlsys_latency_ms_sum": Description("milliseconds of all requests"),
    "mlsys_unseen_values": Description("values that training never saw"),
    "mlsys_lookups": Description("looked-up rows by what was found", ("view", "status")),
    "mlsys_log_rows": Description("rows written to the prediction log"),
    "mlsys_log_lost_rows": Description("rows that were answered and could not be logged"),
}
GAUGES = {
    "mlsys_log_pending_rows": Description("rows that wait for the prediction log"),
    "mlsys_refused_version": Description("1 while a version is asked for that does not load"),
}

MODEL_COUNTERS = COUNTERS | {
    "mlsys_model_requests": Description("answered requests of a model that shares its replica", ("model", "status")),
    "mlsys_model_rows": Description("predicted rows of a model that shares its replica", ("model",)),
    "mlsys_model_loads": Description("times that a model was loaded", ("model",)),
    "mlsys_model_failed_loads": Description("times that a model did not load", ("model",)),
    "mlsys_model_evictions": Description("times that a model made room for others", ("model",)),
    "mlsys_model_load_seconds": Description("seconds in which a model was loaded", ("model",)),
}
"""Counters of a replica that holds many models (`mlsys.deploy.model_shelf`); the first ones are of all together."""

MODEL_GAUGES = GAUGES | {
    "mlsys_models_loaded": Description("models in memory"),
    "mlsys_models_most_bytes": Description("memory that all models of a replica may take"),
    "mlsys_model_bytes": Description("memory of a model, 0 while it is not loaded", ("model",)),
}


class RayMetric(Protocol):
    """A metric of Ray, of which a counter has `inc` and a gauge `set`."""

    def inc(self, value: float, tags: dict[str, str]) -> None: ...

    def set(self, value: float, tags: dict[str, str]) -> None: ...


class Exporter:
    """Sends what was added since the last time to the metrics of `make`, by a thread that ends with the process."""

    def __init__(
        self,
        read: Callable[[], MetricValues],
        make: Callable[[str, str, Description], RayMetric],
        counters: Mapping[str, Description] = COUNTERS,
        gauges: Mapping[str, Description] = GAUGES,
    ) -> None:
        self._read = read
        self._counters = {name: make("counter", name, each) for name, each in counters.items()}
        self._gauges = {name: make("gauge", name, each) for name, each in gauges.items()}
        self._sent: dict[tuple[str, Tags], float] = {}
        self._ending = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def stop(self) -> None:
        self._ending.set()

    def send(self) -> None:
        """Add to each counter what came since the last time, and set each gauge."""
        reading = self._read()
        for (name, tags), total in reading.totals.items():
            added = total - self._sent.get((name, tags), 0)
            if added > 0:
                self._counters[name].inc(added, dict(tags))
                self._sent[name, tags] = total
        for (name, tags), value in reading.gauges.items():
            self._gauges[name].set(value, dict(tags))

    def _run(self) -> None:
        while not self._ending.wait(SEND_S):
            try:
                self.send()
            except Exception:
                logging.getLogger("ray.serve").exception("mlsys: metrics were not sent")


def of_models(read: Callable[[], MetricValues]) -> Exporter:
    """An exporter of a replica that holds many models."""
    return Exporter(read, of_ray, MODEL_COUNTERS, MODEL_GAUGES)


def of_ray(kind: str, name: str, description: Description) -> Any:
    """A metric of Ray Serve, which adds the tags of the replica."""
    from ray.serve import metrics

    made: Any = metrics.Counter if kind == "counter" else metrics.Gauge  # whose annotation allows one tag alone
    return made(name, description=description.text, tag_keys=description.tags)


def _text(bound: float) -> str:
    return f"{bound:g}"

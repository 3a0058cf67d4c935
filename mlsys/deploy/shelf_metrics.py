"""Metrics of a replica that holds many models: those of an endpoint, summed, and how each model is loaded and asked.

A model that makes room for others takes its counts with it; they are kept here, because a counter never falls.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping

from mlsys.deploy.service import Service
from mlsys.deploy.telemetry import MetricValues, Tags

BY_MODEL = {"mlsys_requests": "mlsys_model_requests", "mlsys_rows": "mlsys_model_rows"}
"""Counters that are told by model, too."""

Totals = defaultdict[tuple[str, Tags], float]


class ShelfMetrics:
    """The counts of what happened to the models of a replica, for `mlsys.deploy.telemetry`; of use in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Totals = defaultdict(float)

    def loaded(self, name: str, seconds: float) -> None:
        """Count that a model was loaded."""
        self._add(name, mlsys_model_loads=1, mlsys_model_load_seconds=seconds)

    def failed(self, name: str) -> None:
        """Count that a model did not load."""
        self._add(name, mlsys_model_failed_loads=1)

    def evicted(self, name: str, service: Service) -> None:
        """Count that a model made room, and keep what its service counted; nothing is counted there any more."""
        with self._lock:
            _add_service(self._totals, name, service.metric_values())
        self._add(name, mlsys_model_evictions=1)

    def totals(self) -> Totals:
        """Everything that was counted, but for what the models in memory count."""
        with self._lock:
            return self._totals.copy()

    def _add(self, name: str, **counts: float) -> None:
        with self._lock:
            for metric, count in counts.items():
                self._totals[metric, (("model", name),)] += count


def summed(
    totals: Totals, services: Mapping[str, Service], held: Mapping[str, int], names: Iterable[str]
) -> MetricValues:
    """All totals and gauges, of models that went and of those in memory.

    Parameters
    ----------
    totals
        Those of `ShelfMetrics.totals`, from before the next two were read; they are added to.
    services
        Those of the models in memory.
    held
        Bytes that each of these models takes.
    names
        All models that may be asked for.
    """
    readings = {name: service.metric_values() for name, service in services.items()}
    for name, reading in readings.items():
        _add_service(totals, name, reading)
    gauges: dict[tuple[str, Tags], float] = {("mlsys_models_loaded", ()): len(held)}
    for name in names:
        gauges["mlsys_model_bytes", (("model", name),)] = held.get(name, 0)
    for gauge in ("mlsys_log_pending_rows", "mlsys_refused_version"):
        gauges[gauge, ()] = sum(reading.gauges[gauge, ()] for reading in readings.values())
    return MetricValues(totals, gauges)


def _add_service(totals: Totals, name: str, reading: MetricValues) -> None:
    """Add the totals of a model's service, some of them by model besides."""
    for (metric, tags), total in reading.totals.items():
        totals[metric, tags] += total
        if metric in BY_MODEL:
            totals[BY_MODEL[metric], (("model", name), *tags)] += total

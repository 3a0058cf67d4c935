"""The models that one process holds, bounded by bytes: loaded when they are first asked for, the least used of late go.

What a model takes is measured when it is loaded: the growth of the process, and at least the size of its files. One is
loaded at a time, in a thread, while others answer. A model with requests in flight stays; so does the one that was just
loaded, however large it is. An alias is looked up again every second in which its model is asked for: another version
is loaded beside the one that answers, and takes its place between two requests, or is refused and told by ``/ready``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlsys.deploy import shelf_metrics
from mlsys.deploy.front import App
from mlsys.deploy.service import LoadedModel, Service
from mlsys.deploy.shelf_metrics import ShelfMetrics
from mlsys.deploy.telemetry import MetricValues
from mlsys.registry import LedgerEntry

ALIAS_S = 1.0
"""Seconds after which an alias is looked up again."""

RETRY_S = 5.0
"""Seconds for which a model that does not load is not tried again: others would wait for it meanwhile."""

_logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class ModelSource:
    """The ways to a model: the version that its name means now, that version in memory, and its app."""

    resolve: Callable[[str], LedgerEntry]
    load: Callable[[LedgerEntry], LoadedModel]
    app: Callable[[str, LoadedModel], tuple[Service, App]]


@dataclass
class ShelvedModel:
    """A model in memory: what answers its requests, what it takes, and how many are in flight."""

    service: Service
    app: App
    num_bytes: int
    checked_at: float
    in_flight: int = 0


class ModelShelf:
    """Models by name, of `most_bytes` together; to be used in one event loop."""

    def __init__(self, source: ModelSource, most_bytes: int) -> None:
        self._source, self._most_bytes = source, most_bytes
        self._shelved: OrderedDict[str, ShelvedModel] = OrderedDict()
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._loads = asyncio.Lock()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._metrics = ShelfMetrics()

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes that each loaded model takes, the least recently used first."""
        return {name: model.num_bytes for name, model in self._shelved.items()}

    def metric_values(self, names: Iterable[str]) -> MetricValues:
        """The state of all models for `mlsys.deploy.telemetry`; `names` are those that may be asked for."""
        totals = self._metrics.totals()  # before the models: one that goes meanwhile does not count twice
        shelved = dict(self._shelved)
        services = {name: model.service for name, model in shelved.items()}
        values = shelf_metrics.summed(
            totals, services, {name: model.num_bytes for name, model in shelved.items()}, names
        )
        return MetricValues(values.totals, {**values.gauges, ("mlsys_models_most_bytes", ()): self._most_bytes})

    async def take(self, name: str) -> ShelvedModel:
        """The model of a name, for one request, after which it is to be put back.

        Raises
        ------
        Exception
            It does not load; whatever the reason is, others are not touched.
        """
        model = self._shelved.get(name)
        if model is None:
            model = await self._loaded(name)
        model.in_flight += 1
        self._shelved.move_to_end(name)
        if time.monotonic() - model.checked_at > ALIAS_S and name not in self._checks:
            check = asyncio.create_task(self._check(name, model))
            self._checks[name] = check
            check.add_done_callback(lambda _: self._checks.pop(name, None))
        return model

    def put_back(self, model: ShelvedModel) -> None:
        """End a request."""
        model.in_flight -= 1
        self._make_room()

    def close(self) -> None:
        """Write what the logs of all models still hold."""
        for model in self._shelved.values():
            model.service.close()
        self._shelved.clear()

    async def _loaded(self, name: str) -> ShelvedModel:
        async with self._loads:
            if name in self._shelved:  # another request loaded it
                return self._shelved[name]
            failed_at, error = self._failed.get(name, (0.0, None))
            if error is not None and time.monotonic() - failed_at < RETRY_S:
                raise error
            try:
                loaded, num_bytes = await asyncio.to_thread(self._load, name, None)
                service, app = self._source.app(name, loaded)
            except Exception as failure:
                self._failed[name] = time.monotonic(), failure
                self._metrics.failed(name)
                _logger.warning("model %s does not load: %s: %s", name, type(failure).__name__, failure)
                raise
            self._failed.pop(name, None)
            model = ShelvedModel(service, app, num_bytes, time.monotonic())
            self._shelved[name] = model
            self._make_room(but=name)
            return model

    def _load(self, name: str, entry: LedgerEntry | None) -> tuple[LoadedModel, int]:
        """A version in memory, and the bytes that it takes."""
        process, began = psutil.Process(), time.monotonic()
        before = process.memory_info().rss
        loaded = self._source.load(entry or self._source.resolve(name))
        grown = process.memory_info().rss - before
        self._metrics.loaded(name, time.monotonic() - began)
        return loaded, max(grown, _bytes_of(loaded.predictor.bundle.folder))

    async def _check(self, name: str, model: ShelvedModel) -> None:
        """Answer with the version that the alias means now, if that is another."""
        model.checked_at = time.monotonic()
        service, entry = model.service, None
        try:
            entry = await asyncio.to_thread(self._source.resolve, name)
            if service.model is not None and service.model.entry == entry:
                service.refused = None
                return
            async with self._loads:
                service.model, model.num_bytes = await asyncio.to_thread(self._load, name, entry)
            service.refused = None
            self._make_room(but=name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the version before goes on answering
            self._metrics.failed(name)
            _logger.warning("model %s keeps its version: %s: %s", name, type(error).__name__, error)
            service.refused = {"digest": entry.digest if entry else "", "error": type(error).__name__}

    def _make_room(self, but: str | None = None) -> None:
        """Let the least recently used models go until the others fit."""
        for name in list(self._shelved):
            if sum(self.num_bytes.values()) <= self._most_bytes or len(self._shelved) == 1:
                return
            model = self._shelved[name]
            if name != but and not model.in_flight and name not in self._checks:
                del self._shelved[name]
                asyncio.get_running_loop().run_in_executor(None, self._evicted, name, model.service)

    def _evicted(self, name: str, service: Service) -> None:
        service.close()
        self._metrics.evicted(name, service)


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

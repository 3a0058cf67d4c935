"""Answer requests with a loaded model: the work of an endpoint, independent of HTTP and of Ray.

The model can be replaced while requests run: each request keeps the model that it started
with, and the next one takes the new model.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mlsys import bundle, errors, images
from mlsys.deploy import row_ids
from mlsys.deploy.log_writer import LoggedRequest, PredictionLog
from mlsys.deploy.requests import Request
from mlsys.deploy.split_bodies import SplitReader
from mlsys.deploy.telemetry import Histogram, MetricValues, Tags
from mlsys.features.online.lookup import StoreSource, open_store
from mlsys.features.online.online_store import is_remote
from mlsys.features.online.views import instant
from mlsys.predict import Predictions, Predictor
from mlsys.predict.explanations import Explanations
from mlsys.predict.feature_lookup import LookupResult
from mlsys.predict.image_measures import pictures
from mlsys.predict.validation import refuse, violation
from mlsys.registry import LedgerEntry
from mlsys.schema import Role, arrow_type
from mlsys.store import Store

FEW_ROWS = 16
"""Requests of up to this many rows are predicted row by row, larger ones as an Arrow table."""

EXPLAINED_ROWS = 100
"""Rows of a request that are explained at most: of a large forest a row takes tenths of a second."""

LATENCIES = 2_048
"""Number of the last requests over which latency quantiles are taken."""


@dataclass(frozen=True)
class LoadedModel:
    """Model in memory with its entry in the registry.

    Where it `waits`, its look-ups wait for a network, and its requests are better answered in a thread.
    """

    entry: LedgerEntry
    predictor: Predictor
    waits: bool = False

    @cached_property
    def takes_pictures(self) -> bool:
        """True if requests carry pictures, which take tens of milliseconds each to decode."""
        return bool(pictures(self.predictor.bundle.schema))

    @cached_property
    def split_reader(self) -> SplitReader:
        """Reader of long bodies in the form ``dataframe_split``."""
        return SplitReader(self.predictor.contract)

    @cached_property
    def id_column(self) -> str | None:
        """Column that names a row, if the model's table had one."""
        return self.predictor.bundle.schema.name_of(Role.ID)

    @cached_property
    def num_columns(self) -> int:
        """Columns that a request may carry."""
        return len(self.predictor.bundle.schema.names)

    @cached_property
    def binary(self) -> frozenset[str]:
        """Columns whose values are bytes, which JSON carries in base64."""
        return frozenset(c.name for c in self.predictor.bundle.schema if pa.types.is_binary(arrow_type(c.type)))

    @property
    def required(self) -> frozenset[str]:
        """Columns that a request must carry: those that the model reads, keys in place of looked-up ones."""
        needed, lookup = self.predictor.contract.needed, self.predictor.lookup
        if lookup is None:
            return needed
        return (needed - lookup.names) | {key.column for view in lookup.views for key in view.keys} - lookup.names

    def example(self) -> dict[str, Any]:
        """An example row to send: with look-ups, the keys alone and the newest time of the online store.

        The time of the bundle's own example may lie before all that the store remembers.
        """
        full, lookup = self.predictor.bundle.example, self.predictor.lookup
        if lookup is None or not isinstance(lookup.source, StoreSource):
            return full
        try:
            newest = lookup.source.newest_us([view for view in lookup.views if view.clock])
        except errors.StoreError:
            return full
        row = {name: value for name, value in full.items() if name not in lookup.names}
        return row if lookup.clock is None or newest is None else {**row, lookup.clock: instant(newest).isoformat()}

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.entry.name, "version": self.entry.version, "digest": self.entry.digest}


class AnsweringModel(Protocol):
    """The model that gave an answer, as far as answers name it: this process need not have it."""

    @property
    def entry(self) -> LedgerEntry: ...

    @property
    def id_column(self) -> str | None: ...

    @property
    def identity(self) -> dict[str, Any]: ...


@dataclass(slots=True)  # not frozen, as `Request`
class Answer:
    """Predictions for a request, with the ids of its rows, what was looked up, its conformed rows, and the time.

    Without `rows` it was logged elsewhere.
    """

    model: AnsweringModel
    predictions: Predictions
    ids: list[str]
    request: Request
    looked: LookupResult | None = None
    rows: pa.Table | list[dict[str, Any]] | None = None
    latency_ms: float = 0.0
    explanations: Explanations | None = None


Responder = Callable[[LoadedModel, Request], Answer]
"""The way from a request to its answer: that of a service, or that of a router between two versions."""

Division = Callable[[LoadedModel, Request], tuple[Responder, bool]]
"""The way of a request, and whether it leads to another process, for which the event loop is not to wait."""


def load(store: Store, entry: LedgerEntry, lookup: str = "none") -> LoadedModel:
    """Open and verify a bundle, and prepare it so that the first request is not slow.

    `lookup` is the address of the online store of features, as ``deploy.lookup`` of a recipe.

    Raises
    ------
    StoreError, BundleError
        There is no such bundle, or it is damaged.
    """
    source = None if lookup == "none" else StoreSource(open_store(lookup, store.root))
    predictor = Predictor(bundle.open(store, entry.digest), source=source)
    predictor.prepare()
    return LoadedModel(entry, predictor, waits=predictor.lookup is not None and is_remote(lookup))


class Service:
    """Answers requests with one model, logs the predictions if there is a log, and counts requests."""

    def __init__(self, name: str, log: PredictionLog | None) -> None:
        self.name = name
        self.log = log
        self.model: LoadedModel | None = None
        self.respond: Responder = self.answer  # while there is a canary, the router's
        self.divide: Division | None = None  # while a canary has a process of its own, the router's
        self.canary: dict[str, Any] | None = None
        self.refused: dict[str, str] | None = None  # the version that did not load, while the one before answers
        self.started_at = dt.datetime.now(dt.UTC)
        self._statuses: Counter[int] = Counter()
        self._looked: dict[str, Counter[str]] = {}
        self.num_at_once = 0  # requests that `mlsys.deploy.direct_posts` answered
        self._num_rows = 0
        self._num_unseen = 0
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._histogram = Histogram()

    def answer(self, model: LoadedModel, request: Request) -> Answer:
        """Predict and log the rows of a request.

        Raises
        ------
        RequestError
            The rows do not fit the model.
        StoreError
            The online store of features does not answer, or lacks a table.
        """
        return self.finish(self.compute(model, request))

    def compute(self, model: LoadedModel, request: Request) -> Answer:
        """Predict the rows of a request, and neither log nor count them; errors are those of `answer`."""
        start = time.perf_counter()
        predictor = model.predictor
        if request.explain and request.num_rows > EXPLAINED_ROWS:
            expected = f"at most {EXPLAINED_ROWS} rows a request; `mlsys predict --explain` takes any number"
            refuse([violation("all", "params.explain", f"{request.num_rows:,} rows", expected)])
        rows, looked = _conformed(predictor, request)
        ids = row_ids.of_rows(model.id_column, request, rows, request.num_rows)
        predictions = predictor.conformed_table(rows) if isinstance(rows, pa.Table) else predictor.conformed_rows(rows)
        explained = predictor.explain(rows, predictions) if request.explain else None
        latency_ms = (time.perf_counter() - start) * 1e3
        return Answer(model, predictions, ids, request, looked, rows, latency_ms, explained)

    def finish(self, answer: Answer) -> Answer:
        """Log and count what was computed, because it is what the client gets."""
        model, predictions, ids, looked = answer.model, answer.predictions, answer.ids, answer.looked
        if looked is not None:
            for name, counts in looked.counts.items():
                total = self._looked.setdefault(name, Counter())
                for status, count in counts.items():
                    total[status] += count
        self._num_rows += len(ids)
        if predictions.unseen:
            self._num_unseen += sum(predictions.unseen.values())
        if self.log is not None and ids and answer.rows is not None and isinstance(model, LoadedModel):
            now = dt.datetime.now(dt.UTC)
            facts = (answer.rows, predictions, ids, now, answer.latency_ms, looked)
            self.log.add(LoggedRequest(model.predictor, model.entry, *facts), answer.request.num_bytes)
        return answer

    @property
    def canary_routes(self) -> bool:
        """True while a router divides the requests between two versions."""
        return self.respond != self.answer

    def count(self, status: int, latency_ms: float) -> None:
        """Count a finished request."""
        self._statuses[status] += 1
        self._latencies_ms.append(latency_ms)
        self._histogram.add(latency_ms)

    def check_log(self) -> bool:
        """Tell whether the thread that writes the log lives; one that has died is started again at once."""
        return self.log is None or not self.log.revive()

    def stats(self) -> dict[str, Any]:
        """Counts since this replica started, and latency quantiles in milliseconds over the last requests."""
        latencies = np.array(self._latencies_ms)
        percentiles = (50, 90, 99) if len(latencies) else ()
        return {
            "model": self.model.identity if self.model else None,
            "refused": self.refused,
            "canary": self.canary,
            "paths": self.model.predictor.paths() if self.model else {},
            "started_at": self.started_at.isoformat(),
            "requests": self._statuses.total(),
            "at_once": self.num_at_once,
            "rows": self._num_rows,
            "errors": {str(status): count for status, count in sorted(self._statuses.items()) if status >= 400},
            "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 3) for q in percentiles},
            "lookup": {name: dict(sorted(counts.items())) for name, counts in self._looked.items()},
            "log": self.log.stats() if self.log else None,
        }

    def metric_values(self) -> MetricValues:
        """The state of this replica for `mlsys.deploy.telemetry`."""
        log = self.log.stats() if self.log else {"logged": 0, "dropped": 0, "pending": 0}
        totals: dict[tuple[str, Tags], float] = {
            ("mlsys_rows", ()): self._num_rows,
            ("mlsys_unseen_values", ()): self._num_unseen,
            ("mlsys_latency_ms_sum", ()): self._histogram.sum_ms,
            ("mlsys_log_rows", ()): log["logged"],
            ("mlsys_log_lost_rows", ()): log["dropped"],
        }
        for status, count in list(self._statuses.items()):
            totals["mlsys_requests", (("status", str(status)),)] = count
        for bound, count in self._histogram.cumulative():
            totals["mlsys_latency_ms_bucket", (("le", bound),)] = count
        for view, counts in list(self._looked.items()):
            for outcome, count in list(counts.items()):
                totals["mlsys_lookups", (("view", view), ("status", outcome))] = count
        gauges: dict[tuple[str, Tags], float] = {
            ("mlsys_log_pending_rows", ()): log["pending"],
            ("mlsys_refused_version", ()): float(self.refused is not None),
        }
        return MetricValues(totals, gauges)

    def close(self) -> None:
        """Write the rows that the log still holds."""
        if self.log is not None:
            self.log.close()


def _conformed(predictor: Predictor, request: Request) -> tuple[pa.Table | list[dict[str, Any]], LookupResult | None]:
    """Validate the rows of a request, look up their features, and return few rows as records, others as a table."""
    contract, lookup, is_few = predictor.contract, predictor.lookup, request.num_rows <= FEW_ROWS
    if request.records is None and not is_few:
        return _conformed_columns(predictor, request.columns)
    if request.records is not None and not is_few:
        columns = _same_columns(request.records)
        if columns is not None and (lookup is None or lookup.is_given(columns)):
            with contextlib.suppress(errors.RequestError):  # whose faults are told row by row, below
                return _conformed_columns(predictor, columns)
    sent = request.as_records()
    records, looked = (contract.records(sent), None) if lookup is None else lookup.records(sent)
    return (records if is_few else contract.arrow(records)), looked


def _conformed_columns(
    predictor: Predictor, columns: Mapping[str, Sequence[Any]]
) -> tuple[pa.Table, LookupResult | None]:
    lookup = predictor.lookup
    return (predictor.contract.columns(columns), None) if lookup is None else lookup.columns(columns)


def _same_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    """The columns of records that all have the same names; None where they differ."""
    names = list(records[0])
    if any(len(record) != len(names) for record in records):
        return None
    try:
        return {name: [record[name] for record in records] for name in names}
    except KeyError:
        return None


def check_finite(answer: Answer) -> None:
    """Refuse an answer with a number that is none, in its predictions or in what explains them.

    Raises
    ------
    ArithmeticError
        There is one.
    """
    predictions, explained = answer.predictions, answer.explanations
    numbers = [predictions.score if predictions.probabilities is None else predictions.probabilities]
    if explained is not None:
        numbers += [explained.base, explained.contributions]
    for each in numbers:
        if not math.isfinite(float(np.sum(each))) and not np.isfinite(each).all():
            raise ArithmeticError("a number that is not finite")


def check_pixels(predictor: Predictor, request: Request, most: int) -> None:
    """Refuse pictures of more than `most` pixels in all by what their headers say, before one is decoded.

    Raises
    ------
    PayloadError
        They have more, status 413.
    """
    pixels = 0
    for name in pictures(predictor.bundle.schema):
        sent = request.columns.get(name, ()) if request.records is None else (row.get(name) for row in request.records)
        for text in sent:
            pixels += _stated_pixels(text)
            if pixels > most:
                raise errors.PayloadError.too_many("pictures of more pixels", f"{most:,} pixels", "pixels")


def _stated_pixels(text: Any) -> int:
    """Pixels that the header of a picture, bytes or base64, states; 0 for what is none, which is refused later."""
    if isinstance(text, bytes):
        return images.stated_pixels(text)
    if not isinstance(text, str):
        return 0
    with contextlib.suppress(ValueError):
        return images.stated_pixels(base64.b64decode(text))
    return 0

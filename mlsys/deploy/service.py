"""A model that answers requests: what an endpoint does, without HTTP and without Ray.

The model can be exchanged while requests run: each request keeps the one that it started
with, and the next takes the new one.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import bundle, errors
from mlsys.deploy.log import Logged, PredictionLog
from mlsys.deploy.payload import Request
from mlsys.predict import Predictions, Predictor
from mlsys.predict.conform import violation
from mlsys.registry import Entry
from mlsys.schema import Role
from mlsys.store import Store

__all__ = ["FEW_ROWS", "Answer", "Loaded", "Service", "load"]

FEW_ROWS = 16
"""Up to so many rows go through the row closures; more are worth a table."""

LATENCIES = 2_048
"""Requests that the latency quantiles are taken over: the last ones."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory and what it is registered as."""

    entry: Entry
    predictor: Predictor

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.entry.name, "version": self.entry.version, "digest": self.entry.digest}


@dataclass(frozen=True)
class Answer:
    """What is said about the rows of a request."""

    model: Loaded
    predictions: Predictions
    ids: list[str]
    request: Request


def load(store: Store, entry: Entry) -> Loaded:
    """Open the bundle, check it, and predict its example, so that the first request is not the slow one.

    Raises
    ------
    StoreError, BundleError
        There is no such bundle, or it is damaged.
    """
    predictor = Predictor(bundle.open(store, entry.digest))
    predictor.rows([predictor.bundle.example])
    return Loaded(entry, predictor)


class Service:
    """Answers requests with one model, logs them and counts.

    Parameters
    ----------
    name
        Of the model, as in the registry.
    log
        None logs nothing.
    """

    def __init__(self, name: str, log: PredictionLog | None) -> None:
        self.name = name
        self.log = log
        self.model: Loaded | None = None
        self.started_at = dt.datetime.now(dt.UTC)
        self._statuses: Counter[int] = Counter()
        self._num_rows = 0
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)

    def answer(self, model: Loaded, request: Request) -> Answer:
        """Predict and log the rows of a request.

        Raises
        ------
        RequestError
            They do not fit the model.
        """
        start = time.perf_counter()
        rows, predictions = _predict(model.predictor, request)
        ids = _ids(model.predictor, request, rows, len(predictions))
        self._num_rows += len(ids)
        if self.log is not None and ids:
            latency_ms = (time.perf_counter() - start) * 1e3
            now = dt.datetime.now(dt.UTC)
            self.log.add(Logged(model.predictor, model.entry, rows, predictions, ids, now, latency_ms))
        return Answer(model, predictions, ids, request)

    def count(self, status: int, latency_ms: float) -> None:
        """Note that a request ended."""
        self._statuses[status] += 1
        self._latencies_ms.append(latency_ms)

    def stats(self) -> dict[str, Any]:
        """Counts since the start of this replica; latencies in milliseconds over the last requests."""
        latencies = np.array(self._latencies_ms)
        at = (50, 90, 99) if len(latencies) else ()
        return {
            "model": self.model.identity if self.model else None,
            "started_at": self.started_at.isoformat(),
            "requests": self._statuses.total(),
            "rows": self._num_rows,
            "errors": {str(status): count for status, count in sorted(self._statuses.items()) if status >= 400},
            "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 3) for q in at},
            "log": self.log.stats() if self.log else None,
        }

    def close(self) -> None:
        """Write what the log still holds."""
        if self.log is not None:
            self.log.close()


def _predict(predictor: Predictor, request: Request) -> tuple[pa.Table | list[dict[str, Any]], Predictions]:
    if request.num_rows <= FEW_ROWS:
        records = predictor.contract.records(request.as_records())
        return records, predictor.conformed_rows(records)
    if request.records is not None:
        table = predictor.contract.arrow(predictor.contract.records(request.records))
    else:
        table = predictor.contract.columns(request.columns)
    return table, predictor.conformed_table(table)


def _ids(predictor: Predictor, request: Request, rows: pa.Table | Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """The client's own ids where it sent them, else new ones.

    Raises
    ------
    RequestError
        There are not as many ids as rows.
    """
    if request.ids is not None and len(request.ids) != count:
        raise errors.RequestError.of(
            [violation("all", "prediction_ids", f"{len(request.ids)} ids", f"{count}, one a row")]
        )
    if request.ids is not None:
        return request.ids
    column = predictor.bundle.schema.one(Role.ID)
    if column is None:
        sent: list[Any] = [None] * count
    elif isinstance(rows, pa.Table):
        sent = rows[column].to_pylist() if column in rows.column_names else [None] * count
    else:
        sent = [row.get(column) for row in rows]
    return [str(uuid.uuid4()) if value is None else str(value) for value in sent]

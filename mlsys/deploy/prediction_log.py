"""Log every prediction to Parquet without delaying the answer.

The thread of a request puts its rows in a bounded queue and goes on; a background thread
writes them. A full queue drops rows and counts them; while the disk is full they
wait. Files appear whole or not at all::

    <store>/predictions/<name>/<yyyy-mm-dd>/<uuid>.parquet

==============  =======================  ==================================================
column          type                     meaning
==============  =======================  ==================================================
prediction_id   string                   id in the answer; labels are joined by it
logged_at       timestamp[us, tz=UTC]    when the request was answered
event_at        timestamp[us, tz=UTC]    the row's own time if it was sent, otherwise logged_at
model_version   string                   version in the registry
bundle          string                   digest
prediction      string or double         class as JSON scalar text, or the value
score           double                   positive or highest probability, or the value
probabilities   list<double>             in the order of the classes; null for regression
latency_ms      double                   of the whole request
unseen          int32                    values of this row that training never saw
rare            int32                    values that training saw too seldom to keep apart
unknown         int32                    joins for which the look-up of this row found nothing usable
<feature>       as in the bundle         one column for each feature, null where absent
==============  =======================  ==================================================

A feature with the name of a column above is logged as ``input.<feature>``.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.predict import Predictions, Predictor
from mlsys.predict.feature_lookup import LookupResult
from mlsys.registry import LedgerEntry
from mlsys.schema import Role
from mlsys.store import write_atomic

_UTC = pa.timestamp("us", "UTC")
OWN: dict[str, pa.DataType | None] = {
    "prediction_id": pa.string(),
    "logged_at": _UTC,
    "event_at": _UTC,
    "model_version": pa.string(),
    "bundle": pa.string(),
    "prediction": None,
    "score": pa.float64(),
    "probabilities": pa.list_(pa.float64()),
    "latency_ms": pa.float64(),
    "unseen": pa.int32(),
    "rare": pa.int32(),
    "unknown": pa.int32(),
}
"""Columns of the log that are not features, in order, with their types; that of a prediction depends on the task."""


def logged_name(feature: str) -> str:
    """Column of the log that holds a feature.

    >>> logged_name("seats"), logged_name("score")
    ('seats', 'input.score')
    """
    return f"input.{feature}" if feature in OWN else feature


@dataclass(frozen=True, eq=False)
class LoggedRequest:
    """An answered request: its validated rows, the predictions and what was looked up."""

    predictor: Predictor
    entry: LedgerEntry
    rows: pa.Table | Sequence[Mapping[str, Any]]
    predictions: Predictions
    ids: Sequence[str]
    logged_at: dt.datetime
    latency_ms: float
    looked: LookupResult | None = None

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of the parts that can be large: tables, and pictures in rows."""
        if isinstance(self.rows, pa.Table):
            return int(self.rows.nbytes)
        return sum(len(value) for row in self.rows for value in row.values() if isinstance(value, bytes))

    def arrow(self) -> pa.Table:
        """The request as rows of the log."""
        rows = self.rows if isinstance(self.rows, pa.Table) else self.predictor.contract.arrow(self.rows)
        count, predictions = len(self.ids), self.predictions
        # 1. The log's own columns
        logged_at = pa.repeat(pa.scalar(self.logged_at, _UTC), count)
        values = predictions.prediction.tolist()
        probabilities = None if predictions.probabilities is None else predictions.probabilities.tolist()
        own = [
            pa.array(self.ids, pa.string()),
            logged_at,
            self._event_at(rows, logged_at),
            pa.repeat(str(self.entry.version), count),
            pa.repeat(self.entry.digest, count),
            pa.array([json.dumps(value) for value in values] if predictions.task.is_classification else values),
            pa.array(predictions.score),
            pa.nulls(count, pa.list_(pa.float64())) if probabilities is None else pa.array(probabilities),
            pa.repeat(self.latency_ms, count),
            pa.array(count_by_row(self.predictor.unseen, rows), pa.int32()),
            pa.array(count_by_row(self.predictor.rare, rows), pa.int32()),
            pa.array((self.looked and self.looked.unknown()) or [0] * count, pa.int32()),
        ]
        # 2. The features, null where they were not sent
        columns, sent = dict(zip(OWN, own, strict=True)), frozenset(rows.column_names)
        schema, needed = self.predictor.bundle.schema, self.predictor.contract.needed
        for column, field in zip(schema, schema.arrow(), strict=True):
            if column.role is Role.FEATURE or column.name in needed:
                sent_values = rows[column.name] if column.name in sent else pa.nulls(count, field.type)
                columns[logged_name(column.name)] = sent_values
        return pa.table(columns)

    def _event_at(self, rows: pa.Table, logged_at: pa.Array) -> pa.Array | pa.ChunkedArray:
        time = self.predictor.bundle.schema.name_of(Role.TIME)
        if time is None or time not in rows.column_names or not pa.types.is_timestamp(rows[time].type):
            return logged_at
        event_at = rows[time] if rows[time].type.tz else rows[time].cast(pa.timestamp("us")).cast(_UTC)
        return pc.coalesce(event_at.cast(_UTC), logged_at)


def count_by_row(count: Callable[[pa.Table], dict[str, int]], rows: pa.Table) -> list[int]:
    """Counts by row from a function that counts by column, which is asked again only for halves that have any."""
    total = sum(count(rows).values())
    if not total or rows.num_rows == 1:
        return [total] * rows.num_rows
    half = rows.num_rows // 2
    return count_by_row(count, rows.slice(0, half)) + count_by_row(count, rows.slice(half))


class PredictionLog:
    """Bounded queue of answered requests and the thread that writes them to files.

    A file is written when `flush_rows` rows wait or the oldest has waited `flush_s` seconds; rows
    beyond the limits of the queue are dropped and counted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        flush_rows: int = 5_000,
        flush_s: float = 1.0,
        max_pending_rows: int = 100_000,
        max_pending_bytes: int = 1 << 28,
    ) -> None:
        self.folder = folder
        self.flush_rows = flush_rows
        self.flush_s = flush_s
        self.max_pending_rows = max_pending_rows
        self.max_pending_bytes = max_pending_bytes
        self._waiting: deque[LoggedRequest] = deque()
        self._changed = threading.Condition()
        self._pending = self._pending_bytes = self._logged = self._dropped = 0
        self._error: str | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, request: LoggedRequest) -> None:
        """Queue the rows, or drop them if the queue is full; never wait for the disk."""
        count = len(request.ids)
        with self._changed:
            full = self._pending + count > self.max_pending_rows
            full = full or self._pending_bytes + request.num_bytes > self.max_pending_bytes
            if self._closing or full:
                self._dropped += count
                return
            self._waiting.append(request)
            self._pending += count
            self._pending_bytes += request.num_bytes
            if self._pending >= self.flush_rows or len(self._waiting) == 1:
                self._changed.notify()

    def stats(self) -> dict[str, Any]:
        """Rows on disk, waiting and dropped, and the error that keeps them waiting, if any."""
        with self._changed:
            return {"logged": self._logged, "pending": self._pending, "dropped": self._dropped, "error": self._error}

    def close(self, timeout_s: float = 10.0) -> None:
        """Write the waiting rows and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Wait for rows, wait for more of them, write; until the log is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(lambda: self._closing or self._pending >= self.flush_rows, self.flush_s)
                batch, last = list(self._waiting), self._closing
            written = self._write(batch)
            if last:
                return
            if not written:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self.flush_s)

    def _write(self, batch: Sequence[LoggedRequest]) -> bool:
        """Write a batch and take it off the queue; on a disk error leave it there and return false."""
        for part in _files(batch):
            try:
                day = part[0].logged_at.date().isoformat()
                write_atomic(self.folder / day / f"{uuid.uuid4().hex}.parquet", _parquet(part))
            except errors.StoreError as error:
                self._error = str(error)
                return False
            except pa.ArrowException as error:  # rows that no file can hold must not keep the others waiting
                self._error = str(error)
                self._done(part, logged=False)
            else:
                self._error = None
                self._done(part, logged=True)
        return True

    def _done(self, part: Sequence[LoggedRequest], *, logged: bool) -> None:
        count = sum(len(request.ids) for request in part)
        with self._changed:
            for request in part:
                self._waiting.remove(request)
                self._pending_bytes -= request.num_bytes
            self._pending -= count
            self._logged += count if logged else 0
            self._dropped += 0 if logged else count


def _parquet(part: Sequence[LoggedRequest]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables([request.arrow() for request in part]), sink)
    return sink.getvalue()


def _files(batch: Sequence[LoggedRequest]) -> list[list[LoggedRequest]]:
    """Group requests by file: those of one bundle and one day belong together."""
    parts: dict[tuple[str, dt.date], list[LoggedRequest]] = {}
    for request in batch:
        parts.setdefault((request.entry.digest, request.logged_at.date()), []).append(request)
    return list(parts.values())

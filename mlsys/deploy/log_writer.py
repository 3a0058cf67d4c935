"""Log every prediction without delaying the answer: a bounded queue, and the thread that writes it.

The thread of a request puts its rows in the queue and goes on; a background thread writes all that waits as a file of
`mlsys.deploy.prediction_log`, at the latest `flush_s` seconds after they came. So a process that is killed by
``kill -9`` loses the rows of its last second, and what had piled up before the disk; one that ends in order writes
them. A full queue drops rows; while the disk is full they wait. A row that no file can hold is dropped alone. What was
dropped is counted in `stats` and noted beside the log.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.deploy import log_compaction, prediction_log
from mlsys.deploy.prediction_log import OWN, SPANS, UTC, Loss, Span, is_logged, logged_name
from mlsys.predict import Predictions, Predictor
from mlsys.predict.feature_lookup import LookupResult
from mlsys.registry import LedgerEntry
from mlsys.schema import Role
from mlsys.store import write_atomic

VALUE_BYTES = 64
"""Memory of a value of a row beside its text: a Python object and its place in a dict."""

UNIQUE = frozenset({"prediction_id"})
"""Texts of the log that never repeat, and cannot be packed. Of other texts a writer makes dictionaries, and it packs by
the fastest way; dictionaries of numbers are a third of the work of a file, and are left to compaction."""

TOGETHER, PAUSE_S = 128, 0.004
"""Requests that are made Arrow arrays, or let go, before the event loop has the interpreter alone for a while: those of
a second at once would delay every request of that moment by tens of milliseconds."""

COMPACT_FILES, BUSY_FILES = 64, 1_024
"""Files after which a writer compacts the log, so that it stays small where nobody else does: a minute's under load.
While rows come faster than they are waited for, compaction would hold them up, and more files are let be."""


@dataclass(slots=True, eq=False)  # not frozen, as `Request`
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

    def num_bytes(self, body_bytes: int | None = None) -> int:
        """Bytes of memory that the rows take, about: texts and pictures by their length, or by that of the body."""
        ids = sum(map(len, self.ids))
        if isinstance(self.rows, pa.Table):
            return int(self.rows.get_total_buffer_size()) + ids
        if body_bytes is not None:  # texts of the rows stood in it
            return ids + body_bytes + VALUE_BYTES * sum(map(len, self.rows))
        values = (value for row in self.rows for value in row.values())
        return ids + sum(VALUE_BYTES + (len(value) if isinstance(value, str | bytes) else 0) for value in values)

    def arrow(self) -> pa.Table:
        """The request as rows of the log."""
        return table_of([self])


def table_of(requests: Sequence[LoggedRequest]) -> pa.Table:
    """Rows of the log for requests that one bundle answered, in their order."""
    parts = [_part(list(part)) for _, part in itertools.groupby(requests, _kind)]
    return pa.concat_tables(parts)


def _kind(request: LoggedRequest) -> int:
    """Requests of records that follow one another make one table; a table stays its own."""
    return id(request.rows) if isinstance(request.rows, pa.Table) else 0


def _part(requests: Sequence[LoggedRequest]) -> pa.Table:
    """Rows of the log for requests of records, or for one of a table."""
    first = requests[0]
    predictor = first.predictor
    if isinstance(first.rows, pa.Table):
        rows = first.rows
    else:
        rows = predictor.contract.arrow([row for request in requests for row in request.rows])
    # 1. The log's own columns
    counts = [len(request.ids) for request in requests]
    logged_at = _repeated([request.logged_at for request in requests], counts, UTC)
    scores = np.concatenate([request.predictions.score for request in requests])
    unseen, rare = _counts_by_row(requests, rows)
    own = [
        pa.array([name for request in requests for name in request.ids], pa.string()),
        logged_at,
        _event_at(predictor, rows, logged_at),
        _repeated([str(request.entry.version) for request in requests], counts, pa.string()),
        _repeated([request.entry.digest for request in requests], counts, pa.string()),
        _values(requests),
        pa.array(scores, pa.float64()),
        _probabilities(requests, counts),
        _repeated([request.latency_ms for request in requests], counts, pa.float64()),
        pa.array(unseen, pa.int32()),
        pa.array(rare, pa.int32()),
        pa.array([count for request in requests for count in _unknown(request)], pa.int32()),
    ]
    # 2. The features, the id of the row's entity and the group of a ranking, null where they were not sent
    columns, sent = dict(zip(OWN, own, strict=True)), frozenset(rows.column_names)
    schema, needed = predictor.bundle.schema, predictor.contract.needed
    for column, field in zip(schema, schema.arrow(), strict=True):
        if is_logged(column, needed, predictor.task):
            sent_values = rows[column.name] if column.name in sent else pa.nulls(rows.num_rows, field.type)
            columns[logged_name(column.name)] = sent_values
    return pa.table(columns)


def _values(requests: Sequence[LoggedRequest]) -> pa.Array:
    """The predicted numbers, or classes as JSON, each of which is written once."""
    if not requests[0].predictions.task.is_classification:
        return pa.array([value for request in requests for value in request.predictions.prediction.tolist()])
    values = [value for request in requests for value in request.predictions.prediction.tolist()]
    texts = {value: json.dumps(value) for value in set(values)}
    return pa.array([texts[value] for value in values])


def _repeated(values: Sequence[Any], counts: Sequence[int], kind: pa.DataType) -> pa.Array:
    if len(values) == 1:
        return pa.repeat(pa.scalar(values[0], kind), counts[0])
    return pa.array([value for value, count in zip(values, counts, strict=True) for _ in range(count)], kind)


def _probabilities(requests: Sequence[LoggedRequest], counts: Sequence[int]) -> pa.Array:
    kind = pa.list_(pa.float64())
    if requests[0].predictions.probabilities is None:
        return pa.nulls(sum(counts), kind)
    rows = np.concatenate([request.predictions.probabilities for request in requests])
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(ends, pa.array(rows.ravel(), pa.float64()))


def _counts_by_row(requests: Sequence[LoggedRequest], rows: pa.Table) -> tuple[list[int], list[int]]:
    """Values of each row that training never saw, and those seen too seldom: as the answers know, else by the rows."""
    unseen: list[int] = []
    rare: list[int] = []
    for request in requests:
        counts = _known_counts(request)
        if counts is None:
            return request.predictor.counts_by_row(rows)
        unseen += counts[0]
        rare += counts[1]
    return unseen, rare


def _known_counts(request: LoggedRequest) -> tuple[Sequence[int], Sequence[int]] | None:
    """Counts of each row that the predictions hold, as they do of few rows, or where there is nothing to count."""
    predictions = request.predictions
    if predictions.unseen_by_row is not None and predictions.rare_by_row is not None:
        return predictions.unseen_by_row, predictions.rare_by_row
    none = [0] * len(request.ids)
    return None if predictions.unseen or predictions.rare else (none, none)


def _unknown(request: LoggedRequest) -> list[int]:
    return (request.looked and request.looked.unknown()) or [0] * len(request.ids)


def _event_at(predictor: Predictor, rows: pa.Table, logged_at: pa.Array) -> pa.Array | pa.ChunkedArray:
    time_column = predictor.bundle.schema.name_of(Role.TIME)
    if time_column is None or time_column not in rows.column_names:
        return logged_at
    event_at = rows[time_column]
    if pa.types.is_date(event_at.type):  # a day begins at midnight where the source was written
        zone = predictor.bundle.read_options.timezone
        event_at = pc.assume_timezone(
            event_at.cast(pa.timestamp("us")), zone, ambiguous="earliest", nonexistent="latest"
        )
    if not pa.types.is_timestamp(event_at.type):
        return logged_at
    event_at = event_at if event_at.type.tz else event_at.cast(pa.timestamp("us")).cast(UTC)
    return pc.coalesce(event_at.cast(UTC), logged_at)


class PredictionLog:
    """Bounded queue of answered requests and the thread that writes them to files.

    A file is written when `flush_rows` rows wait or the oldest has waited `flush_s` seconds; rows
    beyond the limits of the queue are dropped and counted. A thread that died is started again by the next
    request, or by `revive`.
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
        self.writer = uuid.uuid4().hex
        self._waiting: deque[tuple[LoggedRequest, int]] = deque()
        self._changed = threading.Condition()
        self._pending = self._pending_bytes = self._logged = self._dropped = self._restarts = 0
        self._noted = self._num_files = 0
        self._error: str | None = None
        self._reason = ""
        self._closing = self._is_over = False
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, request: LoggedRequest, body_bytes: int | None = None) -> None:
        """Queue the rows, or drop them if the queue is full; never wait for the disk.

        `body_bytes` is the length of the body that they came in, which spares looking at each value.
        """
        count, size = len(request.ids), request.num_bytes(body_bytes)
        with self._changed:
            full = self._pending + count > self.max_pending_rows
            full = full or self._pending_bytes + size > self.max_pending_bytes
            if self._closing or full:
                self._drop(count, "the log is closed" if self._closing else "the queue is full")
                return
            self._waiting.append((request, size))
            self._pending += count
            self._pending_bytes += size
            if not self._thread.is_alive():
                self.revive()
            if self._pending >= self.flush_rows or len(self._waiting) == 1:
                self._changed.notify()

    def stats(self) -> dict[str, Any]:
        """Rows on disk, waiting and dropped, the error that keeps them waiting, if any, and restarts of the thread."""
        with self._changed:
            return {
                "logged": self._logged,
                "pending": self._pending,
                "dropped": self._dropped,
                "error": self._error,
                "restarts": self._restarts,
            }

    def revive(self) -> bool:
        """Start the thread again if it has died, so that what waits is written; return whether it had."""
        with self._changed:
            if self._closing or self._thread.is_alive():
                return False
            self._restarts += 1
            self._start()
            return True

    def close(self, timeout_s: float = 10.0) -> int:
        """Write the waiting rows and end the thread; return the number that was not written in time, and note it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            left, self._waiting = self._pending, deque()
            self._pending = self._pending_bytes = 0
            self._is_over = True
            if left:
                self._drop(left, self._error or f"not written within {timeout_s:g} s of the end")
        self._note()
        return left

    def _drop(self, count: int, reason: str) -> None:
        self._dropped += count
        self._reason = reason

    def _run(self) -> None:
        """Write what waits until the log is closed, whatever happens to one file."""
        is_over = False
        while not is_over:
            try:
                is_over = self._turn()
            except Exception as error:
                self._error = f"{type(error).__name__}: {error}"
                logging.getLogger("ray.serve").exception("mlsys: prediction log failed")
                time.sleep(min(self.flush_s, 1.0))

    def _turn(self) -> bool:
        """Wait for rows, wait for more of them, write; true once the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(lambda: self._closing or self._pending >= self.flush_rows, self.flush_s)
            batch, last = [request for request, _ in self._waiting], self._closing
        written, is_busy = self._write(batch), _num_rows(batch) >= self.flush_rows
        if last:
            return True
        while batch:  # thousands of objects, whose end would stop the loop as well
            del batch[-TOGETHER:]
            time.sleep(0)
        self._note()
        if not written:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self.flush_s)
        elif self._num_files >= (BUSY_FILES if is_busy else COMPACT_FILES):
            self._num_files = 0
            log_compaction.compact(self.folder)
        return False

    def _write(self, batch: Sequence[LoggedRequest]) -> bool:
        """Write a batch and take it off the queue; on a disk error leave it there and return false."""
        for part in _files(batch, self.flush_rows):
            if self._is_over:
                return False
            try:
                self._write_file(part)
            except errors.StoreError as error:
                self._error = str(error)
                return False
            except Exception as error:  # noqa: BLE001 - rows that no file can hold must not keep the others waiting
                if len(part) > 1:  # halves, until the row is alone
                    half = len(part) // 2
                    if not (self._write(part[:half]) and self._write(part[half:])):
                        return False
                    continue
                self._error = f"{type(error).__name__}: {error}"
                self._done(part, logged=False)
            else:
                self._error = None
                self._done(part, logged=True)
        return True

    def _write_file(self, part: Sequence[LoggedRequest]) -> None:
        table = pa.concat_tables([table_of(piece) for piece in self._pieces(part)])
        span = Span(self.writer, self._logged, table.num_rows)
        sink = io.BytesIO()
        table = table.combine_chunks().replace_schema_metadata({SPANS: prediction_log.packed([span])})
        repeated = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name not in UNIQUE]
        packing = {name: "none" if name in UNIQUE else "lz4" for name in table.column_names}
        pq.write_table(table, sink, write_page_checksum=True, use_dictionary=repeated, compression=packing)
        day = part[0].logged_at.date().isoformat()
        write_atomic(self.folder / day / f"{self.writer}-{span.first:012d}.parquet", sink.getvalue())
        self._num_files += 1

    def _pieces(self, part: Sequence[LoggedRequest]) -> Iterator[Sequence[LoggedRequest]]:
        """Some requests of a file at a time, with a pause between while the log is open."""
        for begin in range(0, len(part), TOGETHER):
            if begin and not self._closing:
                time.sleep(PAUSE_S)
            yield part[begin : begin + TOGETHER]

    def _done(self, part: Sequence[LoggedRequest], *, logged: bool) -> None:
        count = _num_rows(part)
        done = {id(request) for request in part}
        with self._changed:
            if self._is_over:  # they are counted as lost, although the last ones arrived
                return
            left = deque((request, size) for request, size in self._waiting if id(request) not in done)
            self._waiting, self._pending_bytes = left, sum(size for _, size in left)
            self._pending -= count
            if logged:
                self._logged += count
            else:
                self._drop(count, self._error or "")

    def _note(self) -> None:
        """Note the losses beside the log, if there are new ones; a disk that cannot be written is not asked twice."""
        with self._changed:
            dropped, reason = self._dropped, self._reason
        if dropped == self._noted:
            return
        until = dt.datetime.now(dt.UTC).isoformat()
        try:
            prediction_log.note_loss(self.folder, self.writer, Loss(dropped, reason, until))
        except errors.StoreError:
            logging.getLogger("ray.serve").exception("mlsys: prediction log: %d rows lost: %s", dropped, reason)
        self._noted = dropped


def _num_rows(batch: Sequence[LoggedRequest]) -> int:
    return sum(len(request.ids) for request in batch)


def _files(batch: Sequence[LoggedRequest], max_rows: int) -> Iterator[list[LoggedRequest]]:
    """Group requests by file: those of one bundle and one day belong together, about `max_rows` rows of them."""
    parts: dict[tuple[str, dt.date], list[LoggedRequest]] = {}
    for request in batch:
        parts.setdefault((request.entry.digest, request.logged_at.date()), []).append(request)
    for part in parts.values():
        begin = num_rows = 0
        for place, request in enumerate(part):
            if num_rows and num_rows + len(request.ids) > max_rows:
                yield part[begin:place]
                begin, num_rows = place, 0
            num_rows += len(request.ids)
        yield part[begin:]

"""Replay of stored rows: they are sent to an endpoint over HTTP in order of time, as clients would send them."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.dataset import Split
from mlsys.schema import Role, Schema

ROWS_PER_REQUEST = 500
"""As few as a client might send, and enough that the overhead of HTTP does not dominate."""

TIMEOUT_S = 60.0
"""Longest wait for an answer, and for the log to be on disk."""

IDLE_POLLS, POLL_S = 5, 0.25
"""Polls in a row that find the log idle, and seconds between them: together longer than the log waits to write."""


@dataclass(frozen=True)
class Replayed:
    """Rows that were answered with a prediction, the requests that carried them, and how long it took."""

    num_rows: int
    num_requests: int
    seconds: float


def send(split: Split, part: str, schema: Schema, url: str) -> Replayed:
    """Send the rows of a part to ``<url>/invocations`` and wait until their log is on disk.

    Rows may be sent again: their ids are the same, and the monitor counts an id once. `schema` has
    the columns of a request, id and time among them.

    Raises
    ------
    ClusterError
        The endpoint refuses rows that its own schema allows, or does not answer.
    """
    began = time.monotonic()
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    num_rows = num_requests = 0
    for body, count in _bodies(split, part, schema):
        connection.request("POST", f"{address.path}/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise errors.ClusterError.build(
                f"deploy: replay to {url}", got=f"{answer.status}: {text[:300]!r}", expected="200"
            )
        num_rows += count
        num_requests += 1
    connection.close()
    _wait_for_log(url)
    return Replayed(num_rows, num_requests, round(time.monotonic() - began, 1))


def _bodies(split: Split, part: str, schema: Schema) -> Iterator[tuple[bytes, int]]:
    """Bodies in the form ``dataframe_split`` with their numbers of rows; each file is sorted by time if it has one."""
    names, time_column = schema.names, schema.name_of(Role.TIME)
    for path in split.paths(part):
        table = pq.read_table(path, columns=names)
        if time_column:
            table = table.sort_by(time_column)
        for start in range(0, table.num_rows, ROWS_PER_REQUEST):
            chunk = table.slice(start, ROWS_PER_REQUEST)
            data = list(zip(*(_json_values(chunk[name]) for name in names), strict=True))
            yield json.dumps({"dataframe_split": {"columns": names, "data": data}}).encode(), chunk.num_rows


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    """Convert values to those of JSON: times to ISO text in UTC, NaN to null."""
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ").to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.to_pylist()  # type: ignore[no-any-return]


def _wait_for_log(url: str) -> None:
    """Wait until no prediction waits in memory for the log.

    A connection reaches one replica, and new connections are spread over all of them, so several
    idle polls in a row speak for the whole endpoint.
    """
    end, idle = time.monotonic() + TIMEOUT_S, 0
    while time.monotonic() < end and idle < IDLE_POLLS:
        with urllib.request.urlopen(f"{url}/stats", timeout=TIMEOUT_S) as answer:  # noqa: S310 - http, by construction
            log = json.load(answer)["log"]
        idle = idle + 1 if log is None or not log["pending"] else 0
        time.sleep(POLL_S)
    if idle < IDLE_POLLS:
        raise errors.ClusterError.build(
            f"deploy: prediction log of {url}", got="rows in memory", expected=f"all on disk within {TIMEOUT_S:.0f} s"
        )

"""Rows at rest sent to an endpoint over HTTP in the order of their time, as clients would send them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.dataset import Split
from mlsys.schema import Role, Schema

__all__ = ["Sent", "send"]

ROWS_PER_REQUEST = 500
"""Small enough to be a request that a client would send, large enough that HTTP is not what is measured."""

PATIENCE_S = 60.0
"""Longest wait for an answer, and for the log to be on disk."""

QUIET_LOOKS, LOOK_S = 5, 0.25
"""Looks at an idle log, and seconds between them: together longer than the log waits before it writes."""


@dataclass(frozen=True)
class Sent:
    """What was sent; `num_rows` counts the rows that were answered with a prediction."""

    num_rows: int
    num_requests: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def send(split: Split, part: str, schema: Schema, url: str) -> Sent:
    """Send a part's rows to ``<url>/invocations`` and wait until their log is on disk.

    Sending them again does no harm: their ids are the same, and the monitor counts an id once.

    Parameters
    ----------
    schema
        Columns of a request, id and time among them.

    Raises
    ------
    ClusterError
        The endpoint refuses rows that its own schema allows, or does not answer.
    """
    began = time.monotonic()
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
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
    _settle(address, url)
    return Sent(num_rows, num_requests, round(time.monotonic() - began, 1))


def _bodies(split: Split, part: str, schema: Schema) -> Iterator[tuple[bytes, int]]:
    """JSON bodies of ``dataframe_split``, file by file in order of time where there is one."""
    names, clock = schema.names, schema.one(Role.TIME)
    for path in split.paths(part):
        table = pq.read_table(path, columns=names)
        if clock:
            table = table.sort_by(clock)
        for start in range(0, table.num_rows, ROWS_PER_REQUEST):
            chunk = table.slice(start, ROWS_PER_REQUEST)
            data = list(zip(*(_json_values(chunk[name]) for name in names), strict=True))
            yield json.dumps({"dataframe_split": {"columns": names, "data": data}}).encode(), chunk.num_rows


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    """Values as JSON has them: times as ISO text in UTC, NaN as null."""
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ").to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.to_pylist()  # type: ignore[no-any-return]


def _settle(address: SplitResult, url: str) -> None:
    """Wait until no logged prediction is still in memory.

    A connection meets one replica; new ones are spread over all of them, so a few quiet
    looks in a row stand for the whole endpoint.
    """
    end, quiet = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < end and quiet < QUIET_LOOKS:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
        connection.request("GET", f"{address.path}/stats")
        log = json.loads(connection.getresponse().read())["log"]
        connection.close()
        quiet = quiet + 1 if log is None or not log["pending"] else 0
        time.sleep(LOOK_S)
    if quiet < QUIET_LOOKS:
        raise errors.ClusterError.build(
            f"deploy: prediction log of {url}", got="rows in memory", expected=f"all on disk within {PATIENCE_S:.0f} s"
        )

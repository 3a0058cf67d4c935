"""Replay stored rows: send them to an endpoint over HTTP in order of time, as clients would send them."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mlsys import errors
from mlsys.dataset import Split
from mlsys.deploy import replay_rows
from mlsys.recipe import LimitsSection
from mlsys.schema import Schema

TIMEOUT_S = 60.0
"""Longest wait for an answer, and for the log to be on disk."""

IDLE_POLLS, STATS_POLL_S = 5, 0.25
"""Polls in a row that find the log idle, and seconds between them: together longer than the log waits to write."""


@dataclass(frozen=True)
class Replayed:
    """Rows that were answered with a prediction, the requests that carried them, and how long it took."""

    num_rows: int
    num_requests: int
    seconds: float


def send(
    split: Split,
    part: str,
    schema: Schema,
    url: str,
    digest: str,
    limits: LimitsSection,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Replayed:
    """Send the rows of a part to ``<url>/invocations`` and wait until their log is on disk.

    Rows may be sent again: their ids are the same (`replay_rows`), and the monitor counts an id once. `schema` has
    the columns of a request, id and time among them. Each answer has to name the bundle's digest: on a machine with
    two clusters, another store's model of the same name may answer. `limits` are those of the endpoint, and
    `headers` carry the API key if it asks for one.

    Raises
    ------
    ClusterError
        The endpoint refuses rows that its own schema allows, answers with another bundle, or does not answer.
    """
    began = time.monotonic()
    address = urllib.parse.urlsplit(url)
    num_rows = num_requests = 0
    headers = {"Content-Type": "application/json", **headers}
    client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    with contextlib.closing(client) as connection:
        for chunk in replay_rows.chunks(split, part, schema, limits=limits):
            connection.request("POST", f"{address.path}/invocations", chunk.body, headers)
            answer = connection.getresponse()
            _check_answer(url, answer.status, answer.read(), digest)
            num_rows += len(chunk.ids)
            num_requests += 1
    _wait_for_log(url, headers)
    return Replayed(num_rows, num_requests, round(time.monotonic() - began, 1))


def _check_answer(url: str, status: int, text: bytes, digest: str) -> None:
    where = f"deploy: replay to {url}"
    if status != http.HTTPStatus.OK:
        raise errors.ClusterError.build(where, got=f"{status}: {text[:300]!r}", expected="200")
    answered = json.loads(text)["model"]["digest"]
    if answered != digest:
        got, expected = f"an answer of bundle {answered[:12]}", f"bundle {digest[:12]}"
        hint = "another deployment, or another store's cluster at this address; run the command again"
        raise errors.ClusterError.build(where, got=got, expected=expected, hint=hint)


def _wait_for_log(url: str, headers: Mapping[str, str]) -> None:
    """Wait until no prediction waits in memory for the log.

    A connection reaches one replica, and new connections are spread over all of them, so several
    idle polls in a row speak for the whole endpoint.
    """
    end, idle = time.monotonic() + TIMEOUT_S, 0
    while time.monotonic() < end and idle < IDLE_POLLS:
        request = urllib.request.Request(f"{url}/stats", headers=dict(headers))  # noqa: S310 - http, by construction
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            log = json.load(answer)["log"]
        idle = idle + 1 if log is None or not log["pending"] else 0
        time.sleep(STATS_POLL_S)
    if idle < IDLE_POLLS:
        raise errors.ClusterError.build(
            f"deploy: prediction log of {url}", got="rows in memory", expected=f"all on disk within {TIMEOUT_S:.0f} s"
        )

"""Fuzz an endpoint with 24,000 hostile requests, and measure what 64 KB bodies cost its event loop.

``python benchmarks/fuzz.py [--count N] [--seed S] [--url URL]``: in this process through the ASGI app, or with ``--url
http://127.0.0.1:8000/NAME`` against a server, whose costs are not measured: two thirds of the requests as they are, one
third as bytes of connections whose lengths may lie. A status of 500 and more (but 504, of clients that do not wait), or
an answer that is no JSON, is printed and ends it with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import json
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import hostile
from asgi_client import call
from bundles import fit, requests, rows
from mlsys import registry
from mlsys.deploy import api_keys, asgi, batch_endpoint, batch_jobs, label_intake
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.front import Front
from mlsys.deploy.guard import Guard
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.recipe import BatchSection, LimitsSection
from mlsys.store import Store

LIMIT_MS = 50.0


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=24_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--url")
    chosen = options.parse_args()
    if chosen.url:
        return over_http(chosen)
    with tempfile.TemporaryDirectory() as folder:
        return in_process(chosen, requests(rows(3, seed=5)), Store.open(folder))


def in_process(chosen: argparse.Namespace, records: list[dict[str, Any]], store: Store) -> int:
    log = PredictionLog(store.root / "predictions" / "late")
    service = Service("late", log)
    registry.register(store, "late", fit(store))
    service.model = load(store, registry.resolve(store, "late", 1))
    gc.collect()
    gc.freeze()  # as Ray Serve does once a replica has started
    limits = LimitsSection(body_seconds=0.2)
    jobs = batch_endpoint.routes(store, "late", BatchSection(queue=10**9), lambda: "1")
    batch_jobs.start = lambda store: None  # noqa: ARG005 - no cluster runs them
    handler = asgi.app(asgi.RequestHandler(service, limits), [label_intake.route(store, service, limits), *jobs])
    app = Front(Guard(handler, lambda _: (KeyRing(api_keys.file_of(store)),), "late"))
    statuses: Counter[int] = Counter()
    costs: list[float] = []
    bad: list[object] = []

    async def ask(method: str, path: str, headers: Any, body: bytes) -> None:
        began = time.thread_time()
        status, found, answer = await cast("Any", call)(app, method, path, body, headers)
        costs.append((time.thread_time() - began) * 1e3)
        statuses[status] += 1
        is_json_by_type = found.get(b"content-type") == b"application/json" and method != "HEAD"
        if is_ours(status) or (is_json_by_type and not is_json(answer)):
            bad.append((status, method, path, headers, body[:200]))

    async def run() -> list[float]:
        for request in hostile.requests(chosen.seed, chosen.count, records, "late"):
            await ask(*request)
        fuzzed, costs[:] = list(costs), []
        for kind, body in hostile.heavy(records).items():
            packed = [("content-encoding", b"gzip")] if "packed" in kind else []
            worst = 0.0
            for _ in range(5):
                await ask("POST", "/invocations", packed, body)
                worst = max(worst, costs[-1])
            print(f"  64 KB of {kind:<16} {worst:8.1f} ms of event loop at worst of 5")
        return fuzzed

    fuzzed = sorted(asyncio.run(run()))
    slow = sum(cost > LIMIT_MS for cost in fuzzed)
    middle, late = (fuzzed[min(int(q * len(fuzzed)), len(fuzzed) - 1)] for q in (0.5, 0.999))
    print(f"{len(fuzzed):,} requests: statuses {dict(sorted(statuses.items()))}, {len(bad)} bad")
    quantiles = f"median {middle:.2f} ms, 99.9 % {late:.1f} ms, worst {fuzzed[-1]:.1f} ms"
    print(f"event loop: {quantiles}, {slow} above {LIMIT_MS:g} ms")
    print(f"log: {log.stats()}")
    service.close()
    for request in bad[:10]:
        print(request)
    return 1 if bad or slow > len(fuzzed) / 1000 else 0


def over_http(chosen: argparse.Namespace) -> int:
    address = urllib.parse.urlsplit(chosen.url)
    name = address.path.strip("/")
    statuses: Counter[object] = Counter()
    num_bad = 0
    records, num_wire = [example(chosen.url)] * 3, chosen.count // 3
    for data in hostile.wire(chosen.seed, num_wire, records, name, prefix=address.path):
        answer = hostile.exchange((str(address.hostname), address.port or 80), data, 60.0)
        came = hostile.statuses(answer) or ["closed"]
        statuses.update(came)
        if any(isinstance(status, int) and is_ours(status) for status in came):
            num_bad += 1
            print(came, data[:300], answer[:300])
    for method, path, headers, body in hostile.requests(
        chosen.seed, chosen.count - num_wire, records, name, with_jobs=False
    ):
        status: object
        kind, answer = "", b""
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        try:
            target = address.path + urllib.parse.quote(path.encode("utf-8", "surrogatepass"), safe="/%?=")
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("host", "x")
            sent = {key for key, _ in headers}
            for key, value in headers:
                connection.putheader(key, value)
            if "content-length" not in sent:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            status, kind, answer = response.status, response.headers.get_content_type(), response.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            status = type(error).__name__
        finally:
            connection.close()
        statuses[status] += 1
        is_json_by_type = kind == "application/json" and method != "HEAD" and status != 204
        if (isinstance(status, int) and is_ours(status)) or (is_json_by_type and not is_json(answer)):
            num_bad += 1
            print(status, method, path[:100], headers, body[:200], answer[:200])
    print(f"{sum(statuses.values()):,} requests over HTTP: {dict(statuses)}, {num_bad} bad")
    return int(num_bad > 0)


def example(url: str) -> dict[str, Any]:
    """The row that the endpoint gives as an example of its own."""
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=60) as answer:
        record: dict[str, Any] = json.load(answer)["components"]["schemas"]["Record"]["example"]
    return record


def is_ours(status: int) -> bool:
    """True for a fault of the server; 504 is for clients that do not wait."""
    return status >= 500 and status != 504


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())

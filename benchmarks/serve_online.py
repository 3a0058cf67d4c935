"""One row a request over HTTP, beside a no-op deployment of Ray Serve, FastAPI, MLflow's server and BentoML.

Claims: with 32 connections at least 0.6 times the requests a second of the no-op with all columns sent, and 0.45 times
with two tables looked up; with one connection at most 1.6 times its p50; at least 15 times as fast as FastAPI with
pandas, 1.2 times as FastAPI with NumPy, 5 times as `mlflow models serve` and twice as BentoML; and 1,000 rows in one
request at half the rate of the library alone on the finished matrix, sent as JSON and as an Arrow stream; the library
predicts with as many threads as the endpoint has it do, one. The no-op stands on the same cluster with the same
settings, reads the body and answers a constant.

The model is XGBoost on a generated table of 23 columns, or with ``--flights`` on the flights of the recipe, whose
weather and aircraft are looked up besides. The peers predict with a booster of as many rounds on the same columns.
``wrk`` drives all of them from the same machine, one after another in each repeat, each a few seconds; so a number of
requests a second is what two cores give to driver, HAProxy and replica together.

What bounds the rate is the event loop of the replica. Of a request with 32 connections it takes 122 to 141 µs of
processor time, and 96 to 114 µs of a request to the no-op, counted by thread (``/proc/PID/task/*/schedstat``) with
other work on the machine, which makes all of these longer; HAProxy takes 32 to 40 and 24 to 32, wrk some 10 of both,
and the thread that writes the log 7 to 13. The loop took 249 to 264 while Serve's wrappers, which the no-op has, were
around it and each request was made of frozen objects: what was saved is Python's own work, and no wait for its lock or
the system. Of what is left a third is the prediction and the checks before it, and the rest uvicorn, its connection and
the system.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mlsys
import serve_peers
from measured import median, options, repeat, say, spread
from mlsys import bundle, cluster, models
from mlsys.dataset import Split
from mlsys.deploy import bodies, serving
from mlsys.predict import Predictor
from mlsys.store import Store, read_json

CLAIM = "one row a request over HTTP"
NOOP = "no-op deployment"
PEERS = {
    "pandas": "FastAPI + pandas", "numpy": "FastAPI + NumPy",
    "mlflow": "mlflow models serve + pandas", "bentoml": "BentoML + NumPy",
}  # fmt: skip
OF_FASTAPI = ("pandas", "numpy")
"""Peers that our own environment can run."""
READY = {"mlflow": "ping", "bentoml": "livez"}
"""Paths that are answered as soon as a peer is up."""
CONNECTIONS = (1, 32)
MANY = 1_000
"""Rows of the large request."""

QUICK = {
    "train.family": "xgboost", "train.rounds": serve_peers.ROUNDS, "tune.trials": 0, "selection.families": ["xgboost"],
    "deploy.port": 0, "deploy.max_replicas": 1, "deploy.replay": False, "evaluate.bootstrap": 50,
}  # fmt: skip

SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "{kind}"
done = function(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format("RESULT %f %f %f %d\\n", latency:percentile(50), latency:percentile(99),
    summary.requests / summary.duration * 1e6,
    failed.status + failed.connect + failed.read + failed.write + failed.timeout))
end
"""
"""Program of wrk; its times are in microseconds."""


@dataclass(frozen=True)
class Case:
    """A contender: where it listens, and the body that is sent to it."""

    name: str
    url: str
    body: bytes
    kind: str = bodies.JSON


@dataclass(frozen=True)
class Load:
    """What one run of wrk found: milliseconds, and requests a second."""

    p50: float
    p99: float
    rate: float


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--flights", action="store_true", help="the flights of jobs/recipes/flights.yaml")
    parser.add_argument("--store", type=Path, help="store of the model, made if it is not there (a temporary one)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a run of wrk (4)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="whom to measure beside us (all that can be)")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with mlflow and bentoml")
    wanted = parser.parse_args()
    peers = wanted.peers if wanted.peers is not None else [*PEERS] if wanted.peer_python else [*OF_FASTAPI]
    if not wanted.peer_python and not set(peers) <= set(OF_FASTAPI):
        raise SystemExit("mlflow and bentoml are measured with --peer-python PYTHON alone")
    if shutil.which("wrk") is None:
        raise SystemExit("no program wrk\n  hint: apt-get install wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = stack.enter_context(endpoint(wanted.store or folder / "store", folder, flights=wanted.flights))
        cases = [no_op(served), *ours(served)]
        if peers:
            serve_peers.prepare(folder, served.rows, served.target)
        for name in peers:
            url = stack.enter_context(peer(name, folder, wanted.peer_python))
            cases.append(Case(PEERS[name], url, cases[1].body))
        loads = measure(cases, folder, wanted.repeats, wanted.seconds)
        rows = many_rows(served, folder, wanted.repeats, wanted.seconds)
    report(loads, rows, as_json=wanted.json)


@dataclass(frozen=True)
class Served:
    """A model behind its endpoint, and rows that it was trained on."""

    url: str
    predictor: Predictor
    rows: pa.Table
    target: str
    looked_up: dict[str, Any] | None


@contextmanager
def endpoint(root: Path, folder: Path, *, flights: bool) -> Iterator[Served]:
    """Train the model if the store lacks it, and serve it on a cluster of our own."""
    store = Store.open(root)
    recipe: Any = "jobs/recipes/flights.yaml" if flights else generated(folder)
    try:
        cluster.up(store)
        done = mlsys.run(recipe, "deploy", set=QUICK, store=root, quiet=True)
        if done.url is None or done.bundle is None:
            raise SystemExit("the model did not pass its gate")
        split = Split.open(store, read_json(done.folder / "result.json")["collect"]["split"])
        predictor = Predictor(bundle.open(store, done.bundle))
        names = [*predictor.bundle.schema.names, done.recipe.target]
        rows = split.table("train", list(dict.fromkeys(str(name) for name in names))).slice(0, 50_000)
        yield Served(done.url, predictor, rows, str(done.recipe.target), example(done.url) if flights else None)
    finally:
        cluster.down(store)


def generated(folder: Path) -> dict[str, Any]:
    """The recipe of a table of 23 columns, as many as those of flights, on which the target depends."""
    rng = np.random.default_rng(12)
    n = 20_000
    columns: dict[str, Any] = {f"x{k}": rng.normal(size=n).round(4) for k in range(13)}
    columns |= {f"n{k}": rng.integers(0, 1_000, n) for k in range(5)}
    columns |= {f"c{k}": rng.choice([f"level-{k}-{v}" for v in range(4 + 20 * k)], n) for k in range(5)}
    columns["late"] = columns["x0"] + columns["x1"] * columns["x2"] + (columns["c0"] == "level-0-1") > 0.5
    pq.write_table(pa.table(columns), folder / "generated.parquet")
    return {"name": "generated", "target": "late", "data": {"source": str(folder / "generated.parquet")}}


def example(url: str) -> dict[str, Any]:
    """The row that the endpoint's documentation shows: keys alone, at the newest time that the store knows."""
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        schemas = json.load(answer)["components"]["schemas"]
    return dict(schemas["Record"]["example"])


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as a client sends them."""
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in table.to_pylist()
    ]


def ours(served: Served) -> list[Case]:
    """A row with all columns, and the same endpoint with two tables looked up."""
    (row,) = records(served.rows.drop_columns([served.target]).slice(0, 1))
    url = f"{served.url}/invocations"
    cases = [Case("mlsys, all columns sent", url, _body([row]))]
    if served.looked_up is not None:
        cases.append(Case("mlsys, two tables looked up", url, _body([served.looked_up])))
    return cases


def _body(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"dataframe_records": rows}).encode()


def no_op(served: Served) -> Case:
    """A deployment with the settings of ours, which reads the request and answers a constant."""
    from ray import serve
    from starlette.responses import Response

    @serve.deployment(
        ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64, max_queued_requests=64,
        logging_config=serving.LOGGING,
    )  # fmt: skip
    class NoOp:
        async def __call__(self, request: Any) -> Response:
            await request.body()
            return Response(b'{"predictions":[false]}', media_type="application/json")

    serve.run(cast("Any", NoOp).bind(), name="noop", route_prefix="/noop")
    root = served.url.rpartition("/")[0]
    return Case(NOOP, f"{root}/noop", ours(served)[0].body)


@contextmanager
def peer(name: str, folder: Path, python: Path | None) -> Iterator[str]:
    """A server of `serve_peers.py` or `serve_frameworks.py`; gives the address to which rows are sent."""
    port = serving.check_port("127.0.0.1", 0)
    file = Path(__file__).with_name("serve_peers.py" if name in OF_FASTAPI else "serve_frameworks.py")
    program = sys.executable if name in OF_FASTAPI else python
    command = [str(program), str(file), name, str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/{READY.get(name, 'openapi.json')}")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def measure(cases: list[Case], folder: Path, repeats: int, seconds: float) -> dict[str, dict[int, list[Load]]]:
    """Runs of every case with one and with many connections, all cases in turn in each repeat."""
    loads: dict[str, dict[int, list[Load]]] = {case.name: {number: [] for number in CONNECTIONS} for case in cases}
    for case in cases:
        drive(case, folder, CONNECTIONS[-1], 1)
    for _ in range(repeats):
        for case in cases:
            for number in CONNECTIONS:
                loads[case.name][number].append(drive(case, folder, number, seconds))
    return loads


def drive(case: Case, folder: Path, connections: int, seconds: float) -> Load:
    """One run of wrk; an answer other than 200 ends the benchmark."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        "20s",
        "-s",
        str(program(case, folder)),
        case.url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    load, failed = load_of(done.stdout)
    if failed or not load.rate:
        raise SystemExit(f"{case.name}: {failed} failed requests\n{_answer(case)}")
    return load


def program(case: Case, folder: Path) -> Path:
    """Write the body of a case and the program by which wrk sends it; the path of the program."""
    body, path = folder / "body.json", folder / "post.lua"
    body.write_bytes(case.body)
    path.write_text(SCRIPT.format(body=body, kind=case.kind))
    return path


def load_of(output: str) -> tuple[Load, int]:
    """What the program `SCRIPT` printed at the end of a run of wrk: the load, and the number of failed requests."""
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT")]
    p50, p99, rate, failed = map(float, line.split()[1:])
    return Load(p50 / 1e3, p99 / 1e3, rate), int(failed)


def _answer(case: Case) -> str:
    request = urllib.request.Request(case.url, case.body, {"Content-Type": case.kind})
    try:
        with urllib.request.urlopen(request) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def many_rows(served: Served, folder: Path, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Rows a second of one large request after another, and of the library on the matrix of the same rows."""
    rows = served.rows.slice(0, MANY).drop_columns([served.target])
    sent = {"columns": rows.column_names, "data": [list(row.values()) for row in records(rows)]}
    stream, url = pa.BufferOutputStream(), f"{served.url}/invocations"
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    cases = [
        Case("JSON", url, json.dumps({"dataframe_split": sent}).encode()),
        Case("Arrow", url, stream.getvalue().to_pybytes(), bodies.ARROW),
    ]
    rates: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            rates[case.name].append(drive(case, folder, 1, seconds).rate * MANY)
    X = served.predictor.bundle.program.transform(served.predictor.conform(rows))
    model, family = served.predictor.bundle.model(), served.predictor.bundle.family
    alone = repeat(lambda: models.predict(family, model, X), 20)
    return {**rates, "library alone": [MANY / run for run in alone]}


def report(loads: Mapping[str, dict[int, list[Load]]], rows: Mapping[str, list[float]], *, as_json: bool) -> None:
    """Print p50, p99 and rate of each case beside the no-op, and the rows a second of the large request."""
    one, many = CONNECTIONS
    facts: dict[str, dict[str, float]] = {}
    base = loads[NOOP]
    headings = f"{'p50, 1':>10}{'x no-op':>9}{'p99, 32':>10}{'a second, 32':>14}{'x no-op':>9}{'spread':>8}"
    print(f"{CLAIM}\n  {'':<30}{headings}")
    for name, found in loads.items():
        p50, rate = median(load.p50 for load in found[one]), median(load.rate for load in found[many])
        p99 = median(load.p99 for load in found[many])
        slower = p50 / median(load.p50 for load in base[one])
        share = rate / median(load.rate for load in base[many])
        wide = spread(load.rate for load in found[many])
        print(f"  {name:<30}{p50:>7.2f} ms{slower:>9.2f}{p99:>7.1f} ms{rate:>14,.0f}{share:>9.2f}{wide:>8.0%}")
        facts[name] = {"p50_ms": p50, "p50_ratio": slower, "p99_ms": p99, "rate": rate, "rate_ratio": share}
    alone = median(rows["library alone"])
    shares = {kind: median(rates) / alone for kind, rates in rows.items() if kind != "library alone"}
    for kind, share in shares.items():
        found_rate = f"{median(rows[kind]):,.0f} rows a second (spread {spread(rows[kind]):.0%})"
        print(f"  {MANY} rows a request as {kind}: {found_rate}, {share:.2f} x the library alone")
    if as_json:
        mine = [name for name in loads if name.startswith("mlsys")]
        ratios = {name: facts[mine[0]]["rate"] / facts[name]["rate"] for name in loads if name not in mine}
        wide = spread(load.rate for load in loads[mine[0]][many])
        say(CLAIM, ratios, wide, MANY, {"cases": facts, "many_rows_ratios": shares})


if __name__ == "__main__":
    main()

"""Kill the processes of a batch prediction, run it again, and compare its rows with those of a call nobody disturbed.

Claim: whatever is killed with SIGKILL at whatever moment (the driver; a worker; both) and however often, the output has
each row once, with the same bits and in the same order, and fragments that were finished are not read again.

Moments are drawn with a fixed seed: after a number of finished fragments, while the output is published, or at some
time after the start. Drivers are forked from a process that has imported everything, as starting Python takes longer
than the prediction. ``--files`` files of ``--rows`` rows are predicted; once a call is complete, the next one begins
anew. ``--kills`` and ``--seed`` make pieces of any length: each is whole, and other seeds draw other moments.
``--on-cluster`` has a cluster do all calls, so that every second kill is of a worker, or of one and the driver;
``--object-store`` has input and output in a bucket of moto's S3 server.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mlsys import cluster
from mlsys.deploy import batch
from mlsys.deploy.batch_staging import entries, open_storage
from mlsys.store import Store

CLAIM = "the same rows after kills, none lost and none twice"
POLL_S = 0.005
DRIVERS = "--drivers"
"""Runs this file as the process from which drivers are forked."""
KINDS = ("driver", "worker", "both")
PLANS = ("here", "here", "here", "here", "cluster", "task")
"""Plans in the frequency in which they are drawn: a worker of a cluster takes seconds to import what it needs."""

ON_CLUSTER = ("cluster", "task")
SEED = 2013

IMPORTS = ("polars", "pyarrow.dataset", "ray", "xgboost", "mlsys.deploy.batch")


@dataclass(frozen=True)
class Prediction:
    """The call that is disturbed, and where its staging folder lies."""

    root: str
    model: str
    source: str
    output: str
    append: bool = False

    def call(self, plan: str) -> None:
        """Predict, or go on with it: on the cluster by a plan, or without one in this process."""
        store, plans = Store.open(self.root), {"here": "task"}
        if plan != "here":
            cluster.connect(store)
        batch.predict(store, self.model, self.source, self.output, plan=plans.get(plan, plan), append=self.append)

    def staged(self) -> list[str]:
        """Files of the staging folder, while there is one."""
        storage, path = open_storage(self.output)
        if not isinstance(storage, pafs.LocalFileSystem):
            return [entry.path for entry in entries(storage, path, recursive=True) if "/_staging-" in entry.path]
        output = Path(path)
        folder, pattern = (output, ".run=*") if self.append else (output.parent, f".{output.name}.*")
        with suppress(OSError):  # it may take its place while it is listed
            return [str(file) for staged in folder.glob(pattern) for file in staged.rglob("*.json")]
        return []

    def num_finished(self) -> int:
        """Fragments that are finished, of a call that is not complete."""
        return sum("/_progress/0" in file for file in self.staged())

    def is_committed(self) -> bool:
        return any(file.endswith("/_commit.json") for file in self.staged())

    def rows(self) -> pa.Table:
        """All rows of the output but for the time of the run."""
        storage, path = open_storage(self.output)
        return pq.read_table(path, filesystem=storage).drop_columns(["predicted_at"])

    def result(self) -> dict[str, Any]:
        """The result that lies in the output."""
        storage, path = open_storage(self.output)
        (file,) = [e.path for e in entries(storage, path, recursive=True) if e.base_name == "_result.json"]
        with storage.open_input_stream(file) as opened:
            return dict(json.loads(opened.read()))

    def clear(self) -> None:
        storage, path = open_storage(self.output)
        storage.delete_dir(path)


class Drivers:
    """Processes that predict, one after another, forked from one that has imported what they need."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, DRIVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, prediction: Prediction, plan: str) -> int:
        """Start a driver; its process id."""
        self._stdin.write(json.dumps([asdict(prediction), plan]) + "\n")
        self._stdin.flush()
        return int(self._stdout.readline())

    def wait(self) -> int:
        """Wait for the driver; 0 if it ended well."""
        return int(self._stdout.readline())

    def close(self) -> None:
        self._stdin.close()
        self._stdout.close()
        self._server.wait()

    @property
    def _stdin(self) -> Any:
        return self._server.stdin

    @property
    def _stdout(self) -> Any:
        return self._server.stdout


def drivers() -> None:
    """Fork a driver for each line of the standard input."""
    for name in IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        prediction, plan = json.loads(line)
        process = os.fork()
        if not process:
            os.close(1)
            try:
                Prediction(**prediction).call(plan)
                os._exit(0)
            except Exception:  # noqa: BLE001  (whatever it is, the parent is told)
                traceback.print_exc()
                os._exit(1)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)


def disturb(
    prediction: Prediction,
    num_kills: int,
    drawn: random.Random,
    started: Drivers,
    head: int | None,
    plans: Sequence[str] = PLANS,
) -> int:
    """Predict with at most so many kills on the way; how many there were until it was complete."""
    num_killed = 0
    while True:
        plan = "here" if head is None else drawn.choice(plans)
        driver = started.start(prediction, plan)
        if num_killed < num_kills and wait_for(prediction, driver, drawn):
            kill("driver" if plan == "here" else drawn.choice(KINDS), driver, head)
            num_killed += 1
        if started.wait() == 0:
            return num_killed


def wait_for(prediction: Prediction, driver: int, drawn: random.Random) -> bool:
    """Wait for a moment that is drawn; false if the driver ends before."""
    moment = drawn.random()
    more, seconds = prediction.num_finished() + drawn.randint(1, 6), drawn.random()
    began = time.monotonic()
    while psutil.pid_exists(driver) and psutil.Process(driver).status() != psutil.STATUS_ZOMBIE:
        if moment < 0.1:
            if time.monotonic() - began > seconds:
                return True
        elif prediction.num_finished() >= more or prediction.is_committed():
            return True
        time.sleep(POLL_S)
    return False


def kill(kind: str, driver: int, head: int | None) -> None:
    """Kill the driver, a worker of the cluster that is at work, or both."""
    if kind != "driver" and head is not None:
        for process in workers(head)[:1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    if kind != "worker":
        with suppress(ProcessLookupError):
            os.kill(driver, 9)


def workers(head: int) -> list[psutil.Process]:
    """Workers of the cluster that predict now."""
    processes = []
    for process in psutil.Process(head).children(recursive=True):
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and ("_Worker" in title or "predict_fragments" in title):
                processes.append(process)
    return processes


def measure(
    prediction: Prediction, num_kills: int, head: int | None, seed: int = SEED, plans: Sequence[str] = PLANS
) -> dict[str, Any]:
    """Compare calls with so many kills in all with one that nobody disturbs.

    `head` is the process of a cluster on which some of the calls run; without one all run in the driver alone.
    """
    drawn, started = random.Random(seed), Drivers()
    try:
        started.start(prediction, "here")
        assert started.wait() == 0
        whole = prediction.rows()
        facts: dict[str, Any] = {"kills": 0, "calls": 0, "same_rows": True, "reused": 0, "rows": whole.num_rows}
        while facts["kills"] < num_kills:
            prediction.clear()
            facts["kills"] += disturb(prediction, num_kills - facts["kills"], drawn, started, head, plans)
            facts["calls"] += 1
            facts["same_rows"] &= prediction.rows().equals(whole)
            facts["reused"] += prediction.result()["num_reused"]
    finally:
        started.close()
    return facts


def main() -> None:
    from batch_model import flights_model
    from measured import options, say

    parser = options(__doc__, repeats=1)
    parser.add_argument("--kills", type=int, default=100, help="processes to kill at random moments (100)")
    parser.add_argument("--files", type=int, default=60, help="files of the source (60)")
    parser.add_argument("--rows", type=int, default=2_000, help="rows of a file (2,000)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the moments ({SEED})")
    parser.add_argument("--on-cluster", action="store_true", help="all calls on the cluster")
    parser.add_argument("--object-store", action="store_true", help="input and output in a bucket, by moto")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _bucket(wanted.object_store) as bucket:
        store = Store.open(Path(folder, "store"))
        try:
            cluster.up(store)
            source = str(flights_model(store, Path(folder, "in"), wanted.files, wanted.rows))
            output = str(Path(folder, "out"))
            if bucket:
                pafs.copy_files(source, f"{bucket}/in")
                source, output = f"{bucket}/in", f"{bucket}/out"
            began = time.monotonic()
            prediction = Prediction(str(store.root), "flights@1", source, output)
            plans = ON_CLUSTER if wanted.on_cluster else PLANS
            facts = measure(prediction, wanted.kills, int((cluster.status(store) or {})["pid"]), wanted.seed, plans)
        finally:
            cluster.down(store)
    same = "the same rows each time" if facts["same_rows"] else "OTHER ROWS"
    seconds = time.monotonic() - began
    kills = f"seed {wanted.seed}: {facts['kills']} kills of {facts['calls']} calls"
    print(f"{kills}, {facts['rows']:,} rows: {same}, {seconds:.0f} s")
    if wanted.json:
        say(CLAIM, {}, 0.0, facts.pop("rows"), facts)


@contextmanager
def _bucket(is_wanted: bool) -> Iterator[str]:  # noqa: FBT001 - an option
    """A bucket in an object store on this machine, or an empty text."""
    if not is_wanted:
        yield ""
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    with importlib.import_module("object_store").running() as bucket:
        yield bucket


if __name__ == "__main__":
    drivers() if sys.argv[1:] == [DRIVERS] else main()

"""Kill the processes of a fit by several workers, and compare its model with that of a fit that nobody disturbed.

Claim: whatever is killed with SIGKILL at whatever moment (a worker; the driver, which is then run again; a machine,
which is a node of `ray.cluster_utils.Cluster` and comes back) the model ends in the same bytes. And with one worker
killed in the middle, a fit takes at most 1.2 times as long.

Moments are drawn with ``--seed``: a round, and a time after the checkpoint before it. ``--scale`` copies of the
flights table are fitted by two workers on three nodes of one CPU each; ``--family network`` trains a small network on
a sample of ``--rows`` of each worker's rows, whose rounds are epochs.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flights_split import divided, job_of, program_of
from measured import options, say
from mlsys import cluster
from mlsys.cluster import settings
from mlsys.store import Store
from mlsys.train import checkpoints, distributed

CLAIM = "the same bytes after kills, and the time of a fit with one kill in the middle"
WORKERS, NODES = 2, 3
KINDS = ("worker", "driver", "worker", "node")
"""Victims in turn."""

PARAMS = {"xgboost": {"early_stopping": 0}, "network": {"width": 64, "batch_rows": 128}}

SEED = 2013
POLL_S = 0.05


def main() -> None:
    parser = options(__doc__, scale=1, repeats=1)
    parser.add_argument("--kills", type=int, default=20, help="processes to kill at random moments (20)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the moments ({SEED})")
    parser.add_argument("--rounds", type=int, default=300, help="rounds of the fit (300)")
    parser.add_argument("--family", choices=sorted(PARAMS), default="xgboost", help="the family to fit (xgboost)")
    parser.add_argument("--rows", type=int, default=4_000, help="rows that a network samples (4,000)")
    parser.add_argument("--no-middle", action="store_true", help="leave out the fit with one kill in the middle")
    parser.add_argument("--drive", type=Path, help="run as the driver of the fit in this folder, which is then killed")
    wanted = parser.parse_args()
    if wanted.drive:
        drive(wanted.drive)
        return
    with tempfile.TemporaryDirectory() as folder, nodes(Path(folder)) as machines:
        prepare(Path(folder), wanted)
        facts = measure(Path(folder), machines, wanted)
    if wanted.json:
        middle = {"undisturbed": facts["undisturbed_s"] / facts["middle_s"]} if "middle_s" in facts else {}
        say(CLAIM, middle, 0.0, facts.pop("rows"), facts)


def measure(folder: Path, machines: Machines, wanted: Any) -> dict[str, Any]:
    """Undisturbed fits, those with random kills, and one with a kill in the middle."""
    fit = Fit(folder, machines)
    first, undisturbed_s = fit.run([])
    print(f"undisturbed: {undisturbed_s:.1f} s, {first[:12]}")
    facts: dict[str, Any] = {"rows": num_rows(folder), "kills": 0, "same_bytes": True}
    drawn = random.Random(wanted.seed)
    while facts["kills"] < wanted.kills:
        number = min(drawn.randint(1, 3), wanted.kills - facts["kills"])
        moments = sorted(drawn.randrange(wanted.rounds) for _ in range(number))
        kills = [Kill(KINDS[(facts["kills"] + i) % len(KINDS)], moment) for i, moment in enumerate(moments)]
        digest, seconds = fit.run(kills)
        kills = kills[: fit.num_killed]
        done = ", ".join(f"{kill.kind} at round {kill.moment}" for kill in kills)
        print(f"{done}: {seconds:.1f} s, {'the same bytes' if digest == first else 'OTHER BYTES'}")
        facts["kills"] += fit.num_killed
        facts["same_bytes"] &= digest == first
    if not wanted.no_middle:  # the first fit of all imported more
        for name, kills in {"undisturbed_s": [], "middle_s": [Kill("worker", wanted.rounds // 2)]}.items():
            digest, facts[name] = fit.run(kills)
            facts["same_bytes"] &= digest == first
        ratio = facts["middle_s"] / facts["undisturbed_s"]
        print(
            f"one worker killed in the middle: {facts['middle_s']:.1f} s, {ratio:.2f} × {facts['undisturbed_s']:.1f} s"
        )
    print(f"{facts['kills']} kills: {'the same bytes each time' if facts['same_bytes'] else 'OTHER BYTES'}")
    return facts


@dataclass(frozen=True)
class Kill:
    """A process to be killed, and the round at which it is."""

    kind: str
    moment: int


@dataclass
class Machines:
    """Nodes of a cluster on this machine; the first is the head, where drivers run."""

    started: Any
    others: list[Any] = field(default_factory=list)

    def add(self) -> None:
        self.others.append(self.started.add_node(num_cpus=1))

    def replace(self, node: Any) -> None:
        """Kill every process of a node at once, as if its machine had lost power, and start another."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.others.remove(node)
        self.started.remove_node(node, allow_graceful=False)
        self.add()

    def workers(self) -> list[tuple[Any, psutil.Process]]:
        """Processes of training workers, each with its node."""
        pairs = []
        for node in (self.started.head_node, *self.others):
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            for process in raylet.children(recursive=True):
                with suppress(psutil.Error):
                    if "RayTrainWorker" in "".join(process.cmdline()[:1]):
                        pairs.append((node, process))
        return pairs


@contextmanager
def nodes(folder: Path) -> Iterator[Machines]:
    """Start the nodes, with our settings; drivers find them by the environment."""
    store = Store.open(folder / "store")
    os.environ.update(cluster.environment(store))
    os.environ["RAY_TMPDIR"] = str(settings.temporary_folder())  # a file that names the newest cluster lies there
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines = Machines(started)
    try:
        os.environ["RAY_ADDRESS"] = started.address
        for _ in range(NODES - 1):
            machines.add()
        yield machines
    finally:
        started.shutdown()


def num_rows(folder: Path) -> int:
    return int(pickle.loads((folder / "job.pickle").read_bytes()).split.num_rows["train"])


def prepare(folder: Path, wanted: Any) -> None:
    """Write the rows, and the job that each driver reads."""
    split, family = divided(folder, wanted.scale, held_out=0.1), wanted.family
    own = {"epochs": wanted.rounds, "rows": wanted.rows} if family == "network" else {"rounds": wanted.rounds}
    params = {**PARAMS[family], **own}
    job = job_of(split, program_of(split, family), family=family, workers=WORKERS, params=params)
    (folder / "job.pickle").write_bytes(pickle.dumps(job))


def drive(folder: Path) -> None:
    """Fit the job of a folder, or go on with it, and leave the digest of the model."""
    store = Store.open(folder / "store")
    cluster.connect(store)
    job = pickle.loads((folder / "job.pickle").read_bytes())
    with store.staging() as state:
        model = distributed.fit(state, job, folder / "checkpoints")
    data = distributed.distributed_family(job.family).to_bytes(model)
    (folder / "digest").write_text(hashlib.sha256(data).hexdigest())


class Fit:
    """Drivers that fit the same job from its first round, each time with other kills."""

    def __init__(self, folder: Path, machines: Machines) -> None:
        self.folder = folder
        self.machines = machines
        self.pace = Pace()
        self.num_killed = 0

    def run(self, kills: list[Kill]) -> tuple[str, float]:
        """Fit with these kills; the digest of the model, and the seconds until it was there."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        (self.folder / "digest").unlink(missing_ok=True)
        began = time.monotonic()
        driver, self.num_killed = self._driver(), 0
        for kill in kills:
            if self._wait(kill.moment, driver):
                driver = self._kill(kill, driver)
                self.num_killed += 1
        self._wait(None, driver)
        if driver.returncode:
            raise SystemExit(f"the driver ended with {driver.returncode}")
        return (self.folder / "digest").read_text(), time.monotonic() - began

    def _driver(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, __file__, "--drive", str(self.folder)])

    def _wait(self, moment: int | None, driver: subprocess.Popen[bytes]) -> bool:
        """Wait for a round, which may lie between two checkpoints; false if the fit ends before."""
        while driver.poll() is None:
            reached = max(map(checkpoints.newest, (self.folder / "checkpoints").glob("*")), default=0)
            self.pace.note(reached)
            if moment is not None and reached >= moment - moment % checkpoints.EVERY and self.machines.workers():
                time.sleep(self.pace.round_s * (moment % checkpoints.EVERY))
                return True
            time.sleep(POLL_S)
        return False

    def _kill(self, kill: Kill, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill a process, and return the driver, which is another one if the first was killed."""
        if kill.kind == "driver":
            driver.kill()
            driver.wait()
            return self._driver()
        pairs = self.machines.workers()
        away = [node for node, _ in pairs if node is not self.machines.started.head_node]
        if kill.kind == "node" and away:
            self.machines.replace(away[0])
        elif pairs:
            with suppress(psutil.NoSuchProcess):
                pairs[kill.moment % len(pairs)][1].kill()
        return driver


@dataclass
class Pace:
    """Seconds of a round, between two checkpoints of an undisturbed fit."""

    round_s: float = 0.0
    latest: tuple[int, float] = (0, 0.0)

    def note(self, reached: int) -> None:
        before, at = self.latest
        if reached == before:
            return
        if reached > before > 0:
            self.round_s = (time.monotonic() - at) / (reached - before)
        self.latest = (reached, time.monotonic())


if __name__ == "__main__":
    main()

"""Answers of an endpoint while its cluster trains another model.

Claim: p99 of the endpoint is at most twice what it is alone, at a load that leaves the machine half idle. A process of
its own runs the steps up to ``train``, with a search, of a table of 200,000 generated rows on the same store and
cluster, as a person would who types ``mlsys run``; meanwhile ``wrk`` asks for single rows by two connections.

Each repeat is a pair: a run alone, then one beside training, so that what else the machine does meets both. A run takes
a minute of the two that the training has: a training lasts minutes, and in a run of some seconds one stall is what p99
says. The claim is about the median of the pairs' ratios; their spread is told.

What bounds p99 alone is the thread of the replica that writes the prediction log each second, and beside training what
steps share with an endpoint whatever their priority: caches, the memory's bandwidth, the driver of the run, which is a
process like any other, and the start of a worker until it gives way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mlsys
from measured import median, options, say, spread
from serve_online import Case, Load, drive, endpoint, ours

CLAIM = "an endpoint beside training"
ROWS, COLUMNS = 200_000, 20
CONNECTIONS = 2
SETTLED_S, ENDED_S = 8.0, 2.0
"""Seconds from the start of training on, after which it is past reading the table, and from its end on, after which its
tasks are gone."""


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--seconds", type=float, default=60, help="length of a run of wrk (60)")
    parser.add_argument("--train", type=Path, help="train in the store of this folder: the process beside the endpoint")
    wanted = parser.parse_args()
    if wanted.train:
        _train(wanted.train)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _table(folder)
        with endpoint(folder / "store", folder, flights=False) as served:
            case = ours(served)[0]
            drive(case, folder, CONNECTIONS, 2)
            pairs = [_pair(case, folder, wanted.seconds) for _ in range(wanted.repeats)]
    _report(pairs, as_json=wanted.json)


def _pair(case: Case, folder: Path, seconds: float) -> tuple[Load, Load]:
    """A run of wrk alone, and one beside training."""
    alone = drive(case, folder, CONNECTIONS, seconds)
    command = [sys.executable, __file__, "--train", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        time.sleep(SETTLED_S)
        beside = drive(case, folder, CONNECTIONS, seconds)
        if process.poll() is not None:
            raise SystemExit("the training ended before the load")
        process.send_signal(2)
    time.sleep(ENDED_S)
    return alone, beside


def _table(folder: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {f"x{k}": rng.normal(size=ROWS) for k in range(COLUMNS)}
    columns["y"] = columns["x0"] + columns["x1"] * columns["x2"] + rng.normal(size=ROWS)
    pq.write_table(pa.table(columns), folder / "beside.parquet")


def _train(folder: Path) -> None:
    recipe = {"name": f"beside-{os.getpid()}", "target": "y", "data": {"source": str(folder / "beside.parquet")}}
    recipe["budget"] = "120s"
    mlsys.run(recipe, "train", store=folder / "store", quiet=True)


def _report(pairs: list[tuple[Load, Load]], *, as_json: bool) -> None:
    print(f"{CLAIM}: {CONNECTIONS} connections, {len(pairs)} pairs of runs")
    print(f"  {'':<10}{'p50':>10}{'p99':>10}{'a second':>10}{'spread of p99':>16}")
    for name, loads in zip(("alone", "beside"), zip(*pairs, strict=True), strict=True):
        p50, p99, rate = (median(getattr(load, field) for load in loads) for field in ("p50", "p99", "rate"))
        print(f"  {name:<10}{p50:>7.2f} ms{p99:>7.1f} ms{rate:>10,.0f}{spread(load.p99 for load in loads):>16.0%}")
    ratios = [beside.p99 / alone.p99 for alone, beside in pairs]
    ratio, wide = median(ratios), spread(ratios)
    each = ", ".join(f"{value:.2f}" for value in ratios)
    print(f"  p99 beside training is {ratio:.2f} x that of the endpoint alone (spread {wide:.0%}; {each})")
    if as_json:
        say(CLAIM, {"alone": 1 / ratio}, wide, ROWS, {"p99_ratios": ratios})


if __name__ == "__main__":
    main()

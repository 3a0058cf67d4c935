"""Versions change places under load: 100 swaps between two versions while 32 connections ask for predictions.

Claim: no request fails, and p99 is at most three times that of the same load without swaps. A swap is what
``mlsys promote`` does: a process of its own opens the version, the replicas take it from the ledger and load it beside
the one that answers, the alias moves. Both versions are XGBoost on the generated table of `serve_online.py`, with other
numbers of rounds.

The load is one process of ``wrk`` that goes on for all swaps; each answer other than 200, each connection that breaks
and each time-out counts as failed. The first two swaps come before it: by them both versions have their certificates,
so the others, like every way back to a version, start no process.

What bounds p99: the thread of the replica that opens the version, proves it and compares it with its library, during
which the event loop has the interpreter for half of the time; and on two cores the processor, which ``wrk``, HAProxy
and the command share with the replica. Serve hears nothing of a swap. Were it given a configuration for each, as it is
where other settings change, its controller would work, and an HAProxy would start to which clients connect anew.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import mlsys
from measured import median, options, say
from mlsys import bundle, registry
from mlsys.deploy import by_name
from mlsys.store import Store
from serve_online import CONNECTIONS, QUICK, Case, Load, endpoint, generated, load_of, ours, program

CLAIM = "hot swaps under load"
SWAPS = 100
FEWER_ROUNDS = 60
"""Rounds of the second version; the first has those of `serve_online.py`."""


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--swaps", type=int, default=SWAPS, help=f"changes of the version ({SWAPS})")
    parser.add_argument("--seconds", type=float, default=10, help="length of a run without swaps (10)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(folder / "store")
        with endpoint(store.root, folder, flights=False) as served:
            case = ours(served)[0]
            versions = _second_version(store, folder)
            steady = [_ended(_start(case, folder, wanted.seconds)) for _ in range(wanted.repeats)]
            swapped, seconds = _swapping(store, case, folder, versions, wanted.swaps)
    _report(steady, swapped, seconds, as_json=wanted.json)


def _second_version(store: Store, folder: Path) -> tuple[str, str]:
    """Train the same table with fewer rounds and register it; the numbers of the version that answers and of this."""
    how = {**QUICK, "train.rounds": FEWER_ROUNDS}
    done = mlsys.run(generated(folder), "train", set=how, store=store.root, quiet=True)
    if done.bundle is None:
        raise SystemExit("the second version was not trained")
    first = registry.resolve(store, "generated", "champion")
    return str(first.version), str(registry.register(store, "generated", bundle.open(store, done.bundle)))


def _start(case: Case, folder: Path, seconds: float) -> subprocess.Popen[str]:
    how = ["-t1", f"-c{CONNECTIONS[-1]}", f"-d{seconds:.0f}s", "--timeout", "10s", "-s", str(program(case, folder))]
    return subprocess.Popen(["wrk", *how, case.url], stdout=subprocess.PIPE, text=True)


def _ended(process: subprocess.Popen[str]) -> tuple[Load, int]:
    output, _ = process.communicate()
    return load_of(output)


def _swapping(
    store: Store, case: Case, folder: Path, versions: tuple[str, str], swaps: int
) -> tuple[tuple[Load, int], list[float]]:
    """Swap to and fro while wrk runs; it is given as long as twice what the first two swaps take for each."""
    seconds = [_swap(store, versions[1 - number % 2]) for number in range(2)]
    process = _start(case, folder, 5 + 2 * swaps * max(seconds))
    time.sleep(1)
    seconds = [_swap(store, versions[1 - number % 2]) for number in range(swaps)]
    time.sleep(1)
    if process.poll() is not None:
        raise SystemExit("the load ended before the last swap")
    process.send_signal(2)  # wrk sums up what it has
    return _ended(process), seconds


def _swap(store: Store, version: str) -> float:
    began = time.perf_counter()
    by_name.promote(store, f"generated@{version}", reason="benchmark", tell=lambda _: None)
    return time.perf_counter() - began


def _report(steady: list[tuple[Load, int]], swapped: tuple[Load, int], seconds: list[float], *, as_json: bool) -> None:
    load, failed = swapped
    usual = median(each.p99 for each, _ in steady)
    print(
        f"{CLAIM}: {len(seconds)} swaps, {median(seconds):.2f} s each (from {min(seconds):.2f} to {max(seconds):.2f})"
    )
    print(f"  {'':<16}{'failed':>8}{'p50':>10}{'p99':>10}{'a second':>10}")
    for name, (each, lost) in {"without swaps": steady[0], "with swaps": swapped}.items():
        print(f"  {name:<16}{lost:>8}{each.p50:>7.1f} ms{each.p99:>7.1f} ms{each.rate:>10,.0f}")
    print(f"  p99 {load.p99 / usual:.2f} x that without swaps (median of {len(steady)})")
    if as_json:
        wide = (max(each.p99 for each, _ in steady) - min(each.p99 for each, _ in steady)) / usual
        say(CLAIM, {"p99 without swaps": usual / load.p99}, wide, len(seconds), {"failed": failed, "p99_ms": load.p99})


if __name__ == "__main__":
    main()

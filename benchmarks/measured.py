"""What all benchmarks share: their options, how runs are summed up, and how results are said.

A benchmark measures us and peers several times in one run, takes the median of each, and
prints a table. With ``--json`` its last line is one JSON object::

    {"claim": …, "ratios": {peer: ratio, …}, "spread": …, "rows": …}

A ratio is the peer's median over ours, so above 1 we are faster; the spread is that of our
runs, (largest - smallest) / median.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import cluster
from mlsys.store import Store

__all__ = ["Measured", "fresh", "local_cluster", "median", "options", "repeat", "report", "say", "spread", "table"]


@dataclass(frozen=True)
class Measured:
    """One contender.

    Attributes
    ----------
    runs
        Seconds of each run.
    notes
        What else the table says of it: heading → text.
    """

    name: str
    runs: tuple[float, ...]
    notes: Mapping[str, str]

    @property
    def median(self) -> float:
        return median(self.runs)


def options(doc: str | None, *, scale: int | None = None, repeats: int = 5) -> argparse.ArgumentParser:
    """The options of every benchmark; ``--scale`` where the table of flights is its input."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if scale is not None:
        parser.add_argument("--scale", type=int, default=scale, help=f"copies of the flights table ({scale})")
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"runs of each, of which the median counts ({repeats})"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser


def median(runs: Iterable[float]) -> float:
    return statistics.median(runs)


def spread(runs: Iterable[float]) -> float:
    """(largest - smallest) / median."""
    found = list(runs)
    return (max(found) - min(found)) / median(found)


def repeat(function: Callable[[], Any], repeats: int) -> tuple[float, ...]:
    """Seconds of each of some calls."""
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        runs.append(time.perf_counter() - began)
    return tuple(runs)


def fresh(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `function` gives in a new process, with ``cpu_s`` and ``peak_mb`` of that process.

    The function times itself, for the process also imports; ``peak_mb`` is of all of it.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_observed, function, arguments).result()


def _observed(function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    began = time.process_time()
    found = function(*arguments)
    return {**found, "cpu_s": time.process_time() - began, "peak_mb": _peak_mb()}


@contextmanager
def local_cluster() -> Iterator[int]:
    """A cluster of its own of all cores, with our settings and its workers started; gives the number of its CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        try:
            cluster.up(store)
            cluster.connect(store)
            cpus = cluster.num_cpus()
            cluster.map(time.sleep, [0.5] * cpus)
            yield cpus
        finally:
            cluster.down(store)


def _peak_mb() -> float:
    """Largest resident memory of this process so far; `getrusage` would count the parent's before `exec`."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(
    claim: str,
    ours: Measured,
    peers: Iterable[Measured],
    *,
    rows: int,
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Print the table, and the line of JSON with `facts` at its end if it is wanted."""
    ratios = table(claim, ours, peers, rows=rows)
    if as_json:
        say(claim, ratios, spread(ours.runs), rows, facts)


def table(claim: str, ours: Measured, peers: Iterable[Measured], *, rows: int) -> dict[str, float]:
    """Print the table and give peer → ratio."""
    contenders = [ours, *peers]
    headings = list(dict.fromkeys(heading for each in contenders for heading in each.notes))
    lines = [["", "median", "spread", "ratio", *headings]]
    for each in contenders:
        ratio = "" if each is ours else f"{each.median / ours.median:.2f}"
        notes = [each.notes.get(heading, "") for heading in headings]
        lines.append([each.name, _seconds(each.median), f"{spread(each.runs):.0%}", ratio, *notes])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"{claim} ({rows:,} rows)")
    for name, *cells in lines:
        shown = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  " + "  ".join([name.ljust(widths[0]), *shown]))
    return {each.name: each.median / ours.median for each in contenders[1:]}


def say(
    claim: str, ratios: Mapping[str, float], spread: float, rows: int, facts: Mapping[str, Any] | None = None
) -> None:
    """The line of JSON."""
    print(json.dumps({"claim": claim, "ratios": dict(ratios), "spread": spread, "rows": rows, **(facts or {})}))


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} µs"

"""The claim: what a run of the monitor costs depends on the rows that are new, not on the days that it has read before.

A log of predictions grows by `--rows` a day. After 1, 10, 30 and 100 days, which the monitor has read, one day more is
written, and a process of its own judges by windows of a day: it reads that day alone. Seconds are those of the
judgement without the start of Python, memory is the peak of the process.

    python benchmarks/monitor_growth.py                                   # 200,000 predictions a day, 20 million in all
    python benchmarks/monitor_growth.py --rows 5000 --days 1,10,30        # a quick look

What a window says by itself is kept, but every run judges all windows together, so a small part of the cost goes with
their number; the table names it by the seconds of a run that finds nothing new.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from mlsys import bundle
from mlsys.monitor import judge
from mlsys.store import Store
from traffic import MONDAY, Traffic, World, fit, logged

DAY = dt.timedelta(days=1)
FILE_ROWS = 50_000
"""Rows of a file of the log, as compaction leaves them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="predictions a day (200,000)")
    parser.add_argument("--days", default="1,10,30,100", help="days that were read before (1,10,30,100)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--judge", nargs=2, metavar=("FOLDER", "DIGEST"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.judge:
        print(json.dumps(judged(Path(wanted.judge[0]), wanted.judge[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = grown(Path(folder), wanted.rows, sorted({int(each) for each in wanted.days.split(",")}))
    first, last = rows[0], rows[-1]
    if wanted.json:
        ratios = {name: last[name] / first[name] for name in ("seconds", "peak_mb")}
        facts = {"claim": "a run of the monitor costs what its new rows cost", "rows_a_day": wanted.rows}
        print(json.dumps({**facts, "rows": rows, "ratios": ratios}))


def grown(folder: Path, num_rows: int, days: list[int]) -> list[dict[str, Any]]:
    """Let a log grow, and measure after some days what one day more costs."""
    digest = fit(Store.open(folder / "store")).digest
    measured: list[dict[str, Any]] = []
    written = 0
    print(f"{'days read':>10} {'new rows':>9} {'seconds':>8} {'nothing new':>12} {'peak MB':>8} {'state MB':>9}")
    for number in days:
        while written < number:
            write_day(folder / "log", written, num_rows, digest)
            written += 1
        child(folder, digest)
        write_day(folder / "log", written, num_rows, digest)
        written += 1
        one_more, again = child(folder, digest), child(folder, digest)
        state = sum(path.stat().st_size for path in (folder / "store" / "monitor").rglob("*") if path.is_file())
        row = {"days": number, "new_rows": one_more["new_rows"], "seconds": one_more["seconds"]}
        row |= {"seconds_nothing_new": again["seconds"], "peak_mb": one_more["peak_mb"], "state_mb": state / 1e6}
        measured.append(row)
        line = "{days:>10} {new_rows:>9,} {seconds:>8.2f} {seconds_nothing_new:>12.2f} {peak_mb:>8.0f} {state_mb:>9.1f}"
        print(line.format_map(row), flush=True)
    return measured


def write_day(log: Path, number: int, num_rows: int, digest: str) -> None:
    """Write the predictions of a day into files as the endpoint leaves them."""
    start = MONDAY + DAY * number
    table = logged(Traffic.draw(num_rows, number), start, DAY, digest=digest)
    folder = log / f"{start:%Y-%m-%d}"
    folder.mkdir(parents=True)
    for first in range(0, num_rows, FILE_ROWS):
        pq.write_table(table.slice(first, FILE_ROWS), folder / f"day{number}-{first}.parquet")


def child(folder: Path, digest: str) -> dict[str, Any]:
    """Judge in a process of its own."""
    command = [sys.executable, __file__, "--judge", str(folder), digest]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def judged(folder: Path, digest: str) -> dict[str, Any]:
    """Judge what is in the log; seconds, peak of memory and rows that were new."""
    store = Store.open(folder / "store")
    opened, recipe = bundle.open(store, digest), World.recipe(granularity="1 day")
    seen = folder / "rows.json"
    before = json.loads(seen.read_text()) if seen.is_file() else 0
    began = time.perf_counter()
    judgement = judge.compare(store, "world", opened, folder / "log", None, recipe, is_stored=True)
    seconds = time.perf_counter() - began
    num_rows = judgement.value["log"]["num_rows"]
    seen.write_text(json.dumps(num_rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "new_rows": num_rows - before}


if __name__ == "__main__":
    main()

"""The profile of every column of a table, in one scan, beside DuckDB's ``SUMMARIZE`` and ydata-profiling.

Claim: faster than ``SUMMARIZE`` on ten copies of the flights table, while computing more.
Ours is `scan.profile` on a local Ray cluster of all cores: per column and fold counts,
moments to the fourth, KLL quantiles, exact or frequent values with the target over them,
HyperLogLog, the distributions by class; pairs of columns; a hash of each row for twins and
duplicates. ``SUMMARIZE`` gives count, nulls, range, mean, deviation, three approximate
quartiles and an approximate number of values. Both read the same Parquet file with as many
threads; Ray is started before, its first tasks too.

ydata-profiling pins older SciPy and pandas and cannot live in this environment:
``--ydata PYTHON`` names the interpreter of one that has it. It is run once, in its minimal
form, on ``--ydata-rows`` rows, and both are then compared in rows a second.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from flights_split import TASK, divided
from measured import Measured, local_cluster, options, repeat, report
from mlsys.dataset import Split
from mlsys.explore import scan
from mlsys.explore.scan import Profile
from mlsys.schema import FOLD, ROW

YDATA = """
import sys, time
import pandas as pd
from ydata_profiling import ProfileReport
frame = pd.read_parquet(sys.argv[1])
began = time.perf_counter()
ProfileReport(frame, minimal=True, progress_bar=False).get_description()
print(time.perf_counter() - began)
"""


def main() -> None:
    parser = options(__doc__, scale=10)
    parser.add_argument("--ydata", metavar="PYTHON", help="interpreter of an environment with ydata-profiling")
    parser.add_argument("--ydata-rows", type=int, default=100_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_cluster() as cpus:
        split = divided(Path(folder), wanted.scale)
        ours = Measured("mlsys, one scan", repeat(lambda: profile(split), wanted.repeats + 1)[1:], {"does": "all"})
        query = f"SUMMARIZE SELECT * EXCLUDE ({ROW}, {FOLD}) FROM '{split.folder}/train/*.parquet'"
        with duckdb.connect(config={"threads": cpus}) as database:
            summarize = repeat(lambda: database.sql(query).fetchall(), wanted.repeats)
        peers = [Measured("DuckDB SUMMARIZE", summarize, {"does": "12 numbers a column"})]
        if wanted.ydata:
            peers.append(ydata(wanted.ydata, split, wanted.ydata_rows))
        rows = split.num_rows["train"]
        report("profile of all columns of flights", ours, peers, rows=rows, as_json=wanted.json)


def profile(split: Split) -> Profile:
    return scan.profile(split, TASK)


def ydata(python: str, split: Split, rows: int) -> Measured:
    """Seconds that the peer would take for all rows, at its rows a second on the first ones."""
    table = pq.read_table(split.paths("train")[0]).slice(0, rows).drop_columns([ROW, FOLD])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pq.write_table(table, path)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
        done = subprocess.run([python, "-c", YDATA, str(path)], capture_output=True, text=True, check=True, env=clean)
    seconds = float(done.stdout.split()[-1])
    scaled = seconds * split.num_rows["train"] / table.num_rows
    return Measured("ydata-profiling", (scaled,), {"does": f"{seconds:.1f} s for {table.num_rows:,} rows, scaled up"})


if __name__ == "__main__":
    main()

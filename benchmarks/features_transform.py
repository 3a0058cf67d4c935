"""Fit and transform of the flights table to a float32 matrix, beside Ray, scikit-learn and Polars by hand.

Claims, on ten copies of the table (3.4 million rows, 20 columns of which 4 categorical), from
a Parquet file to one matrix: at least 25 times as fast as Ray's ``Chain`` of imputers, ordinal
encoder and scaler, 3 times as fast as scikit-learn's ``ColumnTransformer``, and at least half
as fast as the same matrix by hand in Polars. On the shape of ray#39150 (100,000 × 1,000
numbers, standard scaling) at least 10 times as fast as Ray's ``StandardScaler``.

Ours is what a run does: statistics of all columns in one scan, which serve the report and the
monitor too; a plan; a program; its matrix. Ray's preprocessors, and our scan of a thousand
columns, run on a cluster with our settings that is started before. Each run is a process of its
own: CPU time and peak memory are of this process, without its cluster. The matrix by hand is
checked to be ours. At the end stands the peak memory of a worker that fits and transforms a
block at a time and keeps none, as tasks of a cluster do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import features_peers
from features_fit import fit, matrix_of, ours, ours_in_tasks, scanned, worker
from flights_table import ROW_GROUP, flights, on_disk
from measured import Measured, fresh, median, options, say, spread, table

CLAIM = "fit and transform of flights to a float32 matrix, 20 columns of which 4 categorical"
WIDE_CLAIM = "standard scaling, the shape of ray#39150"
WIDE_ROWS, WIDE_COLUMNS = 100_000, 1_000
WIDE_GROUP = 1 << 14  # rows of a row group: 131 MB
WIDE = f"{WIDE_ROWS:,} × {WIDE_COLUMNS:,}"

PEERS = {
    "ray": ("ray Chain", features_peers.ray_chain),
    "sklearn": ("scikit-learn ColumnTransformer", features_peers.scikit_learn),
    "polars": ("polars by hand", features_peers.by_hand),
}
WIDE_PEERS = {
    "ray": (f"ray StandardScaler, {WIDE}", features_peers.ray_scaler),
    "sklearn": (f"scikit-learn StandardScaler, {WIDE}", features_peers.scikit_learn_scaler),
}
TOLERANCE = 1e-5
"""Largest difference to the matrix by hand, relative to values of up to 30 deviations; float32 has 6e-8."""


def main() -> None:
    parser = options(__doc__, scale=10, repeats=3)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to measure beside us")
    parser.add_argument("--ray-repeats", type=int, default=1, help="runs of Ray's preprocessors, which are slow (1)")
    parser.add_argument("--no-wide", action="store_true", help="leave the shape of ray#39150 out")
    wanted = parser.parse_args()
    repeats = {name: wanted.ray_repeats if name == "ray" else wanted.repeats for name in wanted.peers}
    made = flights(wanted.scale)
    with on_disk(flights=made, numbers=features_peers.in_numbers(made)) as paths:
        check(paths["flights"])
        mine = runs("mlsys", ours, paths["flights"], wanted.repeats)
        peers = [
            runs(*PEERS[name], paths["flights" if name == "polars" else "numbers"], n) for name, n in repeats.items()
        ]
        ratios = table(CLAIM, mine, peers, rows=made.num_rows)
    if not wanted.no_wide:
        ratios |= wide({name: n for name, n in repeats.items() if name in WIDE_PEERS}, wanted.repeats)
    peak = memory(sorted({1, 3, wanted.scale}))
    if wanted.json:
        say(CLAIM, ratios, spread(mine.runs), made.num_rows, {"peak_mb": peak})


def runs(name: str, function: Callable[[Path], dict[str, Any]], path: Path, repeats: int) -> Measured:
    """Some runs, each in a new process."""
    found = [fresh(function, path) for _ in range(repeats)]
    middle = {key: median(each[key] for each in found) for key in ("fit_s", "transform_s", "cpu_s", "peak_mb")}
    notes = {key.removesuffix("_s"): f"{middle[key]:.2f} s" for key in ("fit_s", "transform_s", "cpu_s")}
    notes["peak"] = f"{middle['peak_mb']:,.0f} MB"
    return Measured(name, tuple(each["fit_s"] + each["transform_s"] for each in found), notes)


def check(path: Path) -> None:
    """The matrix by hand is ours."""
    mine = matrix_of(path, fit(scanned(path)))
    _, theirs = features_peers.matrix_by_hand(path)
    difference = np.abs(mine - theirs).max() if mine.shape == theirs.shape else np.inf
    if not difference <= TOLERANCE:
        raise SystemExit(f"the matrix by hand is another one: it differs by {difference}")


def wide(repeats: dict[str, int], our_repeats: int) -> dict[str, float]:
    """Ratios on the shape of ray#39150."""
    values = np.random.default_rng(0).normal(size=(WIDE_COLUMNS, WIDE_ROWS))
    made = pa.table({f"x{at}": values[at] for at in range(WIDE_COLUMNS)})
    with on_disk(wide=made, row_group=WIDE_GROUP) as paths:
        mine = runs("mlsys", ours_in_tasks, paths["wide"], our_repeats)
        peers = [runs(*WIDE_PEERS[name], paths["wide"], n) for name, n in repeats.items()]
        return table(WIDE_CLAIM, mine, peers, rows=WIDE_ROWS)


def memory(scales: list[int]) -> dict[int, float]:
    """Peak memory of a worker at each scale, in MB."""
    found = {}
    for scale in scales:
        with on_disk(flights=flights(scale)) as paths:
            found[scale] = fresh(worker, paths["flights"])["peak_mb"]
    print(f"peak memory of a worker that transforms blocks of {ROW_GROUP:,} rows")
    for scale, peak in found.items():
        print(f"  flights × {scale:<3} {peak:,.0f} MB")
    return found


if __name__ == "__main__":
    main()

"""The features of one row of 20 fields, beside Ray's preprocessors and scikit-learn.

Claim: half of the rows take at most 20 µs and 99 of 100 at most 60 µs, from a record of
Python values as a request brings it to the float32 features of a linear model. The peers are
fitted on the same table and get each row as they take it: Ray's ``Chain.transform_batch`` an
Arrow table of one row, scikit-learn's ``ColumnTransformer`` a frame of one row, and to make
these of the record is not counted. Each call is timed by itself; the ratio is of medians.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import features_peers
from features_fit import fit, scanned
from flights_table import flights, on_disk
from measured import Measured, fresh, options, say, spread, table

CLAIM = "features of one row of 20 fields"
P50_US, P99_US = 20.0, 60.0

ROWS, SLOW_ROWS = 5_000, 200
"""Rows a run, spread over the table; of peers that take milliseconds for each."""

PEERS = {
    "ray": ("ray Chain.transform_batch", features_peers.ray_rows),
    "sklearn": ("scikit-learn ColumnTransformer", features_peers.scikit_learn_rows),
}


def main() -> None:
    parser = options(__doc__, scale=1, repeats=5)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to measure beside us")
    wanted = parser.parse_args()
    made = flights(wanted.scale)
    with on_disk(flights=made, numbers=features_peers.in_numbers(made)) as paths:
        runs = [fresh(ours, paths["flights"])["us"] for _ in range(wanted.repeats)]
        peers = [
            measured(PEERS[name][0], [fresh(PEERS[name][1], paths["numbers"], SLOW_ROWS)["us"]])
            for name in wanted.peers
        ]
    mine = measured("mlsys", runs)
    ratios = table(CLAIM, mine, peers, rows=ROWS * wanted.repeats)
    p50, p99 = (float(np.median([np.percentile(run, at) for run in runs])) for at in (50, 99))
    print(f"  p50 {p50:.1f} µs (at most {P50_US:.0f}), p99 {p99:.1f} µs (at most {P99_US:.0f})")
    if wanted.json:
        say(CLAIM, ratios, spread(mine.runs), ROWS * wanted.repeats, {"p50_us": p50, "p99_us": p99})


def measured(name: str, runs: list[list[float]]) -> Measured:
    """Of runs, the microseconds of each of their rows."""
    p99 = np.median([np.percentile(run, 99) for run in runs])
    return Measured(name, tuple(float(np.median(run)) / 1e6 for run in runs), {"p99": f"{p99:,.1f} µs"})


def ours(path: Path) -> dict[str, Any]:
    """Microseconds of each row."""
    fitted = fit(scanned(path))
    records = features_peers.some_rows(path, ROWS).select(fitted.inputs).to_pylist()
    return {"us": features_peers.each(fitted.row(), records)}


if __name__ == "__main__":
    main()

"""From Parquet files to a booster: one task of ours and Ray Train's workers, beside one process written by hand.

Claim, on three copies of the flights table (982,038 labelled rows, 20 columns of which 4 categorical), 100 rounds of
depth 6 with as many threads: at most 1.10 times the time of Polars, a ``QuantileDMatrix`` and ``xgboost.train``, and
at most 1.3 times its peak memory; with Ray Train at most 5 s more, to start workers.

Ours is what a run does: the statistics of all columns and folds, a program of features that is fitted on them, its
matrix, and the family's fit. By hand a category is its code, a time is the seconds since 1970, and nothing is known of
any column. Each run is a process of its own. With ``--growth`` the seconds and the peak memory of one task stand beside
the number of rows: linear, and nothing beside the matrix that grows.

With ``--recipe`` Ray's documented recipe is measured, too, and with ``--spark`` XGBoost on Spark (`booster_peers.py`).
The Python of the latter needs ``pyspark``, ``xgboost`` and ``scikit-learn``, and a Java on the path.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import xgboost

from booster_peers import by_rays_recipe, on_spark
from flights_split import divided, job_of, program_of
from flights_table import CATEGORICAL, FEATURES, TARGET, TIME
from measured import Measured, fresh, local_cluster, median, options, say, spread, table
from mlsys.dataset import Split
from mlsys.train import distributed

CLAIM = "Parquet to booster: flights, 20 columns, 100 rounds of depth 6"
ROUNDS, DEPTH, RATE = 100, 6, 0.1
PARAMS = {"early_stopping": 0, "max_depth": DEPTH, "learning_rate": RATE, "subsample": 1.0, "colsample_bytree": 1.0}
SETTINGS: dict[str, Any] = {"rounds": ROUNDS, "params": PARAMS}
THREADS = os.cpu_count() or 1


def main() -> None:
    parser = options(__doc__, scale=3, repeats=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4], help="workers of Ray Train (1 2 4)")
    parser.add_argument("--growth", type=int, nargs="*", default=[1, 3, 10, 30], help="copies of the table (1 3 10 30)")
    parser.add_argument("--recipe", action="store_true", help="measure Ray's documented recipe, too")
    parser.add_argument("--spark", type=Path, metavar="PYTHON", help="measure XGBoost on Spark, in this environment")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = divided(Path(folder), wanted.scale)
        mine = runs("mlsys, one task", wanted.repeats, in_one_task, split)
        others = [runs("Polars and XGBoost by hand", wanted.repeats, by_hand, split)]
        others += spread_over(split, wanted.workers, wanted.repeats)
        others += spread_by_peers(split, wanted)
        rows = split.num_rows["train"]
        ratios = table(CLAIM, mine, others, rows=rows)
    facts = {"peak": {each.name: each.notes["peak"] for each in (mine, others[0])}}
    growth = {scale: grown(scale) for scale in wanted.growth}
    if wanted.json:
        say(CLAIM, ratios, spread(mine.runs), rows, {**facts, "growth": growth})


def runs(name: str, repeats: int, function: Callable[..., dict[str, Any]], *arguments: Any) -> Measured:
    """Some runs, each in a new process."""
    measured = [fresh(function, *arguments) for _ in range(repeats)]
    middle = {key: median(each[key] for each in measured) for key in measured[0]}
    notes = {key.removesuffix("_s"): f"{value:.2f} s" for key, value in middle.items() if key.endswith("_s")}
    notes["peak"] = f"{middle['peak_mb']:,.0f} MB"
    return Measured(name, tuple(_seconds(each) for each in measured), notes)


def _seconds(phases: dict[str, Any]) -> float:
    return float(sum(phases[name] for name in ("scan_s", "matrix_s", "fit_s")))


def in_one_task(split: Split) -> dict[str, Any]:
    """Statistics, features, matrix and booster, in this process."""
    began = perf_counter()
    job = job_of(split, program_of(split), **SETTINGS)
    scanned = perf_counter()
    rows = job.read("train")
    read = perf_counter()
    job.fit(rows, rows.take(np.arange(0)), THREADS)
    return {"scan_s": scanned - began, "matrix_s": read - scanned, "fit_s": perf_counter() - read}


def by_hand(split: Split) -> dict[str, Any]:
    """The same rows and columns to a booster, as a person would write it."""
    began = perf_counter()
    frame = pl.read_parquet(split.paths("train"), columns=[*FEATURES, TARGET])
    codes = [pl.col(name).cast(pl.Categorical).to_physical() for name in CATEGORICAL]
    columns = frame.select(pl.all().exclude([*CATEGORICAL, TIME, TARGET]), pl.col(TIME).dt.epoch("s"), *codes)
    X = columns.cast(pl.Float32).to_numpy()
    y = frame[TARGET].to_numpy()
    del frame
    read = perf_counter()
    types = ["q"] * (len(FEATURES) - len(CATEGORICAL)) + ["c"] * len(CATEGORICAL)
    data = xgboost.QuantileDMatrix(X, y, feature_types=types, enable_categorical=True, nthread=THREADS)
    settings = {"objective": "binary:logistic", "max_depth": DEPTH, "learning_rate": RATE, "nthread": THREADS}
    xgboost.train(settings, data, ROUNDS)
    return {"scan_s": 0.0, "matrix_s": read - began, "fit_s": perf_counter() - read}


def spread_over(split: Split, workers: list[int], repeats: int) -> list[Measured]:
    """The fit of Ray Train's workers, with the statistics of the scan; a cluster has been started before."""
    if not workers:
        return []
    with local_cluster():
        began = perf_counter()
        program = program_of(split)
        scan_s = perf_counter() - began
        return [_spread_over(split, program, number, scan_s, repeats) for number in workers]


def _spread_over(split: Split, program: Any, workers: int, scan_s: float, repeats: int) -> Measured:
    job, seconds = job_of(split, program, workers=workers, **SETTINGS), []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").mkdir()
            began = perf_counter()
            distributed.fit(Path(folder, "state"), job, Path(folder, "checkpoints"))
            seconds.append(scan_s + perf_counter() - began)
    return Measured(f"mlsys, {workers} workers", tuple(seconds), {"scan": f"{scan_s:.2f} s"})


def spread_by_peers(split: Split, wanted: Any) -> list[Measured]:
    """The peers that were asked for."""
    job = {
        "paths": [str(path) for path in split.paths("train")],
        "features": FEATURES,
        "categorical": CATEGORICAL,
        "time": TIME,
        "target": TARGET,
        "rounds": ROUNDS,
        "settings": {"objective": "binary:logistic", "max_depth": DEPTH, "learning_rate": RATE},
    }
    measured = []
    if wanted.recipe:
        with local_cluster(), tempfile.TemporaryDirectory() as folder:
            runs = tuple(by_rays_recipe({**job, "folder": folder}) for _ in range(wanted.repeats))
        measured.append(Measured("Ray's recipe", runs, {}))
    if wanted.spark:
        runs = tuple(on_spark(job, wanted.spark) for _ in range(wanted.repeats))
        measured.append(Measured("XGBoost on Spark", runs, {}))
    return measured


def grown(scale: int) -> dict[str, Any]:
    """Seconds and peak memory of one task on so many copies."""
    with tempfile.TemporaryDirectory() as folder:
        split = divided(Path(folder), scale)
        phases = fresh(in_one_task, split)
    rows, seconds = split.num_rows["train"], _seconds(phases)
    each = "  ".join(f"{name} {1e6 * phases[f'{name}_s'] / rows:5.2f}" for name in ("scan", "matrix", "fit"))
    print(f"flights × {scale:<3} {rows:>12,} rows {seconds:7.2f} s  {phases['peak_mb']:,.0f} MB  µs a row: {each}")
    return {"rows": rows, "seconds": seconds, "peak_mb": phases["peak_mb"]}


if __name__ == "__main__":
    main()

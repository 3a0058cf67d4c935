"""Prediction of a table of flights from Parquet to Parquet, beside a process by hand and Ray's recipe.

Claim: rows a second at least 0.8 times those of one process by hand, and three times those of Ray's documented recipe
for batch inference, a pool of actors that get pandas frames. The hand reads batches of a million rows, makes codes with
Polars and calls ``inplace_predict`` with all cores; it checks and counts nothing, and does not go on after a kill.
All three have XGBoost models of as many rounds and of the same parameters on the same 20 columns, so that their trees
are about as large, and write the prediction and its probability. (With the library's own parameters each tree of the
hand has three nodes: the delay at arrival, of which the target is made, is a column of all of them.)

Ours is ``mlsys predict`` on a cluster that is up: reading and checking by the rules of the endpoint, unseen values
counted, rejected rows set aside, and fragments that are not read again after a kill.

They take turns, each once the machine is quiet: for seconds after Ray's recipe what it started still ends, and whoever
came next, which was always us, shared the cores with it.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

from batch_model import DEPTH, RATE, ROUNDS, registered, write_flights
from flights_table import CATEGORICAL, FEATURES, TARGET, TIME, flights
from measured import Measured, options, report
from mlsys import cluster, models
from mlsys.deploy import batch
from mlsys.store import Store

CLAIM = "batch prediction"
BATCH_ROWS = 1_000_000
"""Rows that are in memory at once by hand."""

OWN = models.family("xgboost").params()
"""Parameters of our model: with others the trees of the peers would have another size."""

RECIPE_ROWS, ACTORS = 65_536, 2
"""Rows of a frame, and actors, of Ray's recipe on two cores."""

QUIET, QUIET_S, SETTLE_S = 15.0, 0.5, 10.0
"""Percent of the CPUs in use at which the machine is quiet, seconds for which it has to be, and the longest wait."""


def main() -> None:
    wanted = options(__doc__, scale=10, repeats=3).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_flights(folder / "flights.parquet", wanted.scale)
        store = Store.open(folder / "store")
        nodes = num_nodes(registered(store).model().booster)
        peer_nodes = num_nodes(prepare(folder))
        contenders = {
            "mlsys predict": functools.partial(ours, store),
            "by hand": by_hand,
            "Ray's recipe": by_rays_recipe,
        }
        runs: dict[str, list[float]] = {name: [] for name in contenders}
        try:
            cluster.up(store)
            cluster.connect(store)
            for turn in range(wanted.repeats + 1):
                for who, contender in contenders.items():
                    settle()
                    seconds = timed(contender, folder, rows)
                    runs[who] += [seconds] if turn else []  # the first turn starts workers
        finally:
            cluster.down(store)
    measured = [
        Measured(who, tuple(own), {"rows/s": f"{rows / np.median(own):,.0f}", "nodes": f"{number:,}"})
        for (who, own), number in zip(runs.items(), (nodes, peer_nodes, peer_nodes), strict=True)
    ]
    report(CLAIM, measured[0], measured[1:], rows=rows, as_json=wanted.json)


def settle() -> None:
    """Wait until the machine is quiet, or as long as nobody would wait."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end and psutil.cpu_percent(interval=QUIET_S) > QUIET:
        pass


def num_nodes(booster: xgboost.Booster) -> int:
    """Nodes of all trees, leaves among them: what a prediction costs grows with them."""
    return sum(tree.count("\n") for tree in booster.get_dump())


def timed(contender: Any, folder: Path, rows: int) -> float:
    """Seconds of one prediction of all rows, each of which has to be there at the end."""
    output = folder / "output"
    began = time.perf_counter()
    contender(folder, output)
    seconds = time.perf_counter() - began
    files = (
        [output] if output.is_file() else [file for file in output.rglob("*.parquet") if "_rejected" not in file.parts]
    )
    found = sum(pq.read_metadata(file).num_rows for file in files)
    if found != rows:
        raise SystemExit(f"{contender}: {found:,} rows of {rows:,}")
    output.unlink() if output.is_file() else shutil.rmtree(output)
    return seconds


def ours(store: Store, folder: Path, output: Path) -> None:
    batch.predict(store, "flights@1", folder / "flights.parquet", output)


def prepare(folder: Path) -> xgboost.Booster:
    """Fit the model of both peers on one copy of the flights."""
    table = pl.DataFrame(pl.from_arrow(flights())).drop_nulls(TARGET)
    names = {name: table[name].drop_nulls().unique().sort().to_list() for name in CATEGORICAL}
    pl.DataFrame({"column": list(names), "names": list(names.values())}).write_parquet(folder / "names.parquet")
    data = xgboost.DMatrix(
        codes(table, names), table[TARGET].to_numpy(), feature_types=types(), enable_categorical=True
    )
    params = {
        "objective": "binary:logistic", "max_depth": DEPTH, "learning_rate": RATE, "tree_method": "hist",
        "subsample": OWN.subsample, "colsample_bytree": OWN.colsample_bytree,
        "min_child_weight": OWN.min_child_weight, "reg_lambda": OWN.reg_lambda, "max_bin": OWN.max_bin,
    }  # fmt: skip
    booster = xgboost.train(params, data, ROUNDS)
    booster.save_model(folder / "peer.ubj")
    return booster


def known_names(folder: Path) -> dict[str, list[str]]:
    return dict(pl.read_parquet(folder / "names.parquet").iter_rows())


def types() -> list[str]:
    return ["c" if name in CATEGORICAL else "q" for name in FEATURES]


def codes(frame: pl.DataFrame, names: dict[str, list[str]]) -> np.ndarray:
    """The matrix of the model: codes of categories, seconds of times, numbers as they are."""
    made = []
    for name in FEATURES:
        column = pl.col(name)
        if name in CATEGORICAL:
            column = column.cast(pl.Enum(names[name]), strict=False).to_physical()
        made.append((column.dt.epoch("s") if name == TIME else column).cast(pl.Float32))
    return frame.select(made).to_numpy()


def by_hand(folder: Path, output: Path) -> None:
    booster, names = xgboost.Booster(model_file=folder / "peer.ubj"), known_names(folder)
    kind = pa.schema({"prediction": pa.bool_(), "probability": pa.float32()})
    with pq.ParquetWriter(output, kind) as writer:
        for rows in pq.ParquetFile(folder / "flights.parquet").iter_batches(BATCH_ROWS, columns=FEATURES):
            p = booster.inplace_predict(codes(pl.DataFrame(pl.from_arrow(rows)), names))
            writer.write_table(pa.table({"prediction": p >= 0.4, "probability": p}, schema=kind))


class PandasModel:
    """The callable class of Ray's recipe."""

    def __init__(self, folder: Path) -> None:
        self.booster, self.names = xgboost.Booster(model_file=folder / "peer.ubj"), known_names(folder)

    def __call__(self, frame: Any) -> Any:
        import pandas as pd

        frame = frame[FEATURES].copy()
        for name in CATEGORICAL:
            frame[name] = pd.Categorical(frame[name], categories=self.names[name])
        frame[TIME] = frame[TIME].astype("int64") // 10**9
        p = self.booster.predict(xgboost.DMatrix(frame, enable_categorical=True), validate_features=False)
        return pd.DataFrame({"prediction": p >= 0.4, "probability": p})


def by_rays_recipe(folder: Path, output: Path) -> None:
    import ray.data

    rows = ray.data.read_parquet(str(folder / "flights.parquet"), columns=FEATURES)
    predicted = rows.map_batches(
        PandasModel, fn_constructor_args=(folder,), batch_size=RECIPE_ROWS, batch_format="pandas",
        compute=ray.data.ActorPoolStrategy(size=ACTORS), num_cpus=0.5,
    )  # fmt: skip
    predicted.write_parquet(str(output))


if __name__ == "__main__":
    main()

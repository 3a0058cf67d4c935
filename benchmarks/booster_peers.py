"""Peers of `parquet_to_booster.py` that spread a fit: Ray's documented recipe, and XGBoost on Spark.

The recipe is that of "Get started with distributed training using XGBoost" in Ray's documentation: a preprocessor of
Ray Data makes categories of texts, each worker takes its shard of the dataset as one pandas frame, and trains on a
``DMatrix`` of it. On Spark, ``StringIndexer`` makes the codes and `SparkXGBClassifier` fits, with ``local[2]``; it runs
in an environment of its own, that has PySpark and a Java beside it, and imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, cast

__all__ = ["by_rays_recipe", "on_spark"]

WORKERS = 2
"""Cores of this machine that Spark takes; on Ray a worker takes one of them, and its dataset the other."""


def by_rays_recipe(job: dict[str, Any]) -> float:
    """Seconds of Ray's recipe on a cluster that has been started before."""
    import ray.data
    import ray.train
    from ray.data.preprocessors import Categorizer
    from ray.train.xgboost import XGBoostTrainer

    began = perf_counter()
    rows = ray.data.read_parquet(job["paths"], columns=[*job["features"], job["target"]])
    rows = rows.map_batches(cast("Any", _as_seconds), fn_kwargs={"column": job["time"]}, batch_format="pandas")
    rows = Categorizer(columns=job["categorical"]).fit_transform(rows)
    XGBoostTrainer(
        _loop,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(storage_path=job["folder"]),
        datasets={"train": rows},
    ).fit()
    return perf_counter() - began


def _as_seconds(frame: Any, column: str) -> Any:
    return frame.assign(**{column: frame[column].astype("int64") // 10**6})


def _loop(job: dict[str, Any]) -> None:
    import ray.train
    import xgboost

    frame = ray.train.get_dataset_shard("train").materialize().to_pandas()
    data = xgboost.DMatrix(frame.drop(columns=job["target"]), frame[job["target"]], enable_categorical=True)
    xgboost.train({**job["settings"], "tree_method": "hist"}, data, job["rounds"])


def on_spark(job: dict[str, Any], python: Path) -> float:
    """Seconds of XGBoost on Spark, whose session has been started before, in a process of that Python."""
    command = [python.absolute(), Path(__file__).absolute()]
    variables = {**os.environ, "PYSPARK_PYTHON": str(python.absolute())}  # else its workers take the path's python3
    done = subprocess.run(command, input=json.dumps(job), env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Spark ended with {done.returncode}:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _spark(job: dict[str, Any]) -> float:
    from pyspark.ml.feature import StringIndexer
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as sql
    from xgboost.spark import SparkXGBClassifier

    builder = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.driver.memory", "8g")
    spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    spark.range(10).count()
    began = perf_counter()
    rows = spark.read.parquet(*job["paths"]).select(*job["features"], sql.col(job["target"]).cast("int").alias("label"))
    rows = rows.withColumn(job["time"], sql.col(job["time"]).cast("timestamp").cast("long"))
    codes = [f"{name}_code" for name in job["categorical"]]
    indexer = StringIndexer(inputCols=job["categorical"], outputCols=codes, handleInvalid="keep")
    rows = indexer.fit(rows).transform(rows).drop(*job["categorical"])
    names = [name for name in rows.columns if name != "label"]
    rows = rows.select("label", *(sql.col(name).cast("double").alias(name) for name in names))
    types = ["c" if name in codes else "q" for name in names]
    settings = {name: value for name, value in job["settings"].items() if name != "objective"}
    model = SparkXGBClassifier(
        features_col=names,
        label_col="label",
        num_workers=WORKERS,
        n_estimators=job["rounds"],
        feature_types=types,
        **settings,
    )
    model.fit(rows)
    return perf_counter() - began


if __name__ == "__main__":
    print(json.dumps({"seconds": _spark(json.load(sys.stdin))}))

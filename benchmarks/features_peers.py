"""How others fit and transform the flights table: Ray's preprocessors, scikit-learn, Polars by hand.

Each function reads a Parquet file, makes one float32 matrix of it, and tells the seconds of
fit and transform. Ray and scikit-learn have no parts of a time: their file has the time as a
number, which costs them nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flights_table import CATEGORICAL, FEATURES, NUMERIC, TIME
from mlsys import cluster

__all__ = ["CYCLES", "by_hand", "matrix_by_hand", "ray_chain", "ray_scaler", "scikit_learn", "scikit_learn_scaler"]

CYCLES = {"hour": 1440, "weekday": 7, "yearday": 366}


def by_hand(path: Path) -> dict[str, Any]:
    """Polars alone: the same matrix as ours."""
    began = time.perf_counter()
    return _told(began, *matrix_by_hand(path))


def matrix_by_hand(path: Path) -> tuple[float, np.ndarray]:
    """When the fit was done, and the matrix of ours, column by column, as a person with Polars would write it."""
    frame = pl.read_parquet(path, columns=FEATURES)
    numbers = pl.col(NUMERIC)
    means, spreads = (frame.select(expr).row(0, named=True) for expr in (numbers.mean(), numbers.std(ddof=0)))
    holes = frame.null_count().row(0, named=True)
    counts = {name: frame[name].drop_nulls().value_counts() for name in CATEGORICAL}
    fitted = time.perf_counter()
    made: list[pl.Expr] = []
    for name in NUMERIC:
        made.append((pl.col(name).fill_null(means[name]) - means[name]) / (spreads[name] or 1.0))
        made += [pl.col(name).is_null()] if holes[name] else []
    for name, table in counts.items():
        share = table["count"] / frame.height
        mean = float((share * table["count"]).sum() / table["count"].sum())
        std = math.sqrt(((share - mean) ** 2 * table["count"]).sum() / table["count"].sum())
        scaled = pl.col(name).replace_strict(table[name], (share - mean) / std, default=-mean / std)
        made.append(pl.when(pl.col(name).is_null()).then(0.0).otherwise(scaled))
        made += [pl.col(name).is_null()] if holes[name] else []
    clock = pl.col(TIME).dt
    minute = clock.hour().cast(pl.Int32) * 60 + clock.minute()
    for part, length in zip((minute, clock.weekday() - 1, clock.ordinal_day() - 1), CYCLES.values(), strict=True):
        angle = part.cast(pl.Float64) * (2 * math.pi / length)
        made += [angle.sin(), angle.cos()]
    named = (expr.cast(pl.Float32).alias(str(at)) for at, expr in enumerate(made))
    return fitted, frame.select(named).to_numpy(order="c")


def scikit_learn(path: Path) -> dict[str, Any]:
    """`ColumnTransformer` in one process."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
    began = time.perf_counter()
    frame = pd.read_parquet(path, columns=FEATURES)
    # An older scikit-learn takes texts with holes as objects only.
    frame[CATEGORICAL] = frame[CATEGORICAL].astype(object).where(frame[CATEGORICAL].notna(), None)
    transformer = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [*NUMERIC, TIME]),
            (
                "categories",
                make_pipeline(SimpleImputer(missing_values=None, strategy="most_frequent"), encoder),
                CATEGORICAL,
            ),
        ]
    )
    transformer.fit(frame)
    fitted = time.perf_counter()
    return _told(began, fitted, transformer.transform(frame).astype(np.float32))


def ray_chain(path: Path) -> dict[str, Any]:
    """Ray's own preprocessors, on a local cluster of all cores that is started before."""
    from ray.data import preprocessors as ray

    numbers = [*NUMERIC, TIME]
    chain = ray.Chain(
        ray.SimpleImputer(numbers),
        ray.SimpleImputer(CATEGORICAL, strategy="most_frequent"),
        ray.OrdinalEncoder(CATEGORICAL),
        ray.StandardScaler(numbers),
    )
    return _by_ray(chain, path, FEATURES)


def ray_scaler(path: Path) -> dict[str, Any]:
    """Ray's `StandardScaler` on all columns."""
    from ray.data.preprocessors import StandardScaler

    names = pl.read_parquet_schema(path)
    return _by_ray(StandardScaler(list(names)), path, list(names))


def scikit_learn_scaler(path: Path) -> dict[str, Any]:
    """scikit-learn's `StandardScaler` on all columns."""
    from sklearn.preprocessing import StandardScaler

    began = time.perf_counter()
    X = pl.read_parquet(path).to_numpy()
    scaler = StandardScaler(copy=False).fit(X)
    fitted = time.perf_counter()
    return _told(began, fitted, scaler.transform(X).astype(np.float32))


def _by_ray(preprocessor: Any, path: Path, columns: list[str]) -> dict[str, Any]:
    with _local_ray():
        import ray.data

        began = time.perf_counter()
        dataset = ray.data.read_parquet(str(path), columns=columns)
        preprocessor.fit(dataset)
        fitted = time.perf_counter()
        batches = preprocessor.transform(dataset).iter_batches(batch_size=None, batch_format="numpy")
        blocks = [np.column_stack([batch[name] for name in columns]).astype(np.float32) for batch in batches]
        return _told(began, fitted, np.concatenate(blocks))


@contextlib.contextmanager
def _local_ray() -> Iterator[None]:
    """A cluster of this process with the settings that we found fastest, tasks warmed up."""
    os.environ.update({name: value for name, (value, _) in cluster.SETTINGS.items() if name != "RAY_AUTH_MODE"})
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1000).map_batches(lambda batch: batch).materialize()
    try:
        yield
    finally:
        ray.shutdown()


def _told(began: float, fitted: float, matrix: np.ndarray) -> dict[str, Any]:
    ended = time.perf_counter()
    facts = {"rows": len(matrix), "width": matrix.shape[1], "matrix_mb": matrix.nbytes / 2**20}
    return {"fit_s": fitted - began, "transform_s": ended - fitted, **facts}

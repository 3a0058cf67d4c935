"""How others fit and transform the flights table: Ray's preprocessors, scikit-learn, Polars by hand.

A function reads a Parquet file, makes one float32 matrix of it, and tells the seconds of fit
and transform; or it fits on the file and tells the microseconds of single rows. Ray and
scikit-learn have no parts of a time: their file has the time as a number, at no cost to them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # noqa: F401  (pyarrow and scikit-learn import it at first use; no import is to be timed)
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from features_fit import CYCLES
from flights_table import CATEGORICAL, FEATURES, NUMERIC, TIME
from measured import local_cluster

__all__ = [
    "by_hand",
    "each",
    "in_numbers",
    "matrix_by_hand",
    "ray_chain",
    "ray_rows",
    "ray_scaler",
    "scikit_learn",
    "scikit_learn_rows",
    "scikit_learn_scaler",
    "some_rows",
]

NUMBERS = [*NUMERIC, TIME]


def by_hand(path: Path) -> dict[str, Any]:
    """Polars alone: the same matrix as ours."""
    began = time.perf_counter()
    return _told(began, *matrix_by_hand(path))


def matrix_by_hand(path: Path) -> tuple[float, np.ndarray]:
    """When the fit was done, and the matrix of ours, column by column, as a person with Polars would write it."""
    frame = pl.read_parquet(path, columns=FEATURES)
    numbers = pl.col(NUMERIC)
    means: dict[str, Any]
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
        total = int(table["count"].sum())
        mean = float((share * table["count"]).sum()) / total
        std = math.sqrt(float(((share - mean) ** 2 * table["count"]).sum()) / total)
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
    began = time.perf_counter()
    frame = _frame(pq.read_table(path, columns=FEATURES))
    transformer = _column_transformer().fit(frame)
    fitted = time.perf_counter()
    return _told(began, fitted, transformer.transform(frame).astype(np.float32))


def scikit_learn_rows(path: Path, rows: int) -> dict[str, Any]:
    """Microseconds of each of some rows."""
    table = pq.read_table(path, columns=FEATURES)
    transformer = _column_transformer().fit(_frame(table))
    some = some_rows(path, rows)
    frames = [_frame(some.slice(at, 1)) for at in range(rows)]
    return {"us": each(lambda frame: transformer.transform(frame).astype(np.float32), frames)}


def _column_transformer() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
    imputer = SimpleImputer(missing_values=None, strategy="most_frequent")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = make_pipeline(imputer, encoder)
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, CATEGORICAL)])


def _frame(table: pa.Table) -> Any:
    """A pandas frame whose missing texts are None, as scikit-learn's imputer takes them."""
    frame = table.to_pandas()
    frame[CATEGORICAL] = frame[CATEGORICAL].astype(object).where(frame[CATEGORICAL].notna(), None)
    return frame


def ray_chain(path: Path) -> dict[str, Any]:
    """Ray's own preprocessors, on a local cluster of all cores that is started before."""
    with local_cluster():
        _warm_up()
        return _by_ray(_chain(), path, FEATURES)


def ray_rows(path: Path, rows: int) -> dict[str, Any]:
    """Microseconds of each of some rows."""
    with local_cluster():
        import ray.data

        _warm_up()
        chain = _chain().fit(ray.data.read_parquet(str(path), columns=FEATURES))
        some = some_rows(path, rows)
        return {"us": each(chain.transform_batch, [some.slice(at, 1) for at in range(rows)])}


def _chain() -> Any:
    from ray.data import preprocessors as ray

    return ray.Chain(
        ray.SimpleImputer(NUMBERS),
        ray.SimpleImputer(CATEGORICAL, strategy="most_frequent"),
        ray.OrdinalEncoder(CATEGORICAL),
        ray.StandardScaler(NUMBERS),
    )


def ray_scaler(path: Path) -> dict[str, Any]:
    """Ray's `StandardScaler` on all columns."""
    from ray.data import preprocessors as ray

    names = list(pl.read_parquet_schema(path))
    with local_cluster():
        _warm_up()
        return _by_ray(ray.StandardScaler(names), path, names)


def scikit_learn_scaler(path: Path) -> dict[str, Any]:
    """scikit-learn's `StandardScaler` on all columns."""
    began = time.perf_counter()
    X = pl.read_parquet(path).to_numpy()
    scaler = StandardScaler(copy=False).fit(X)
    fitted = time.perf_counter()
    return _told(began, fitted, scaler.transform(X).astype(np.float32))


def in_numbers(made: pa.Table) -> pa.Table:
    """The time as microseconds, for peers that take none."""
    return made.set_column(made.schema.get_field_index(TIME), TIME, made[TIME].cast(pa.int64()).cast(pa.float64()))


def some_rows(path: Path, rows: int) -> pa.Table:
    """Rows spread evenly over the table."""
    table = pq.read_table(path, columns=FEATURES)
    return table.take(np.linspace(0, table.num_rows - 1, rows).astype(np.int64))


def each(function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[float]:
    """Microseconds of each call, after some that do not count."""
    for argument in arguments[:100]:
        function(argument)
    found = []
    for argument in arguments:
        began = time.perf_counter_ns()
        function(argument)
        found.append((time.perf_counter_ns() - began) / 1e3)
    return found


def _by_ray(preprocessor: Any, path: Path, columns: list[str]) -> dict[str, Any]:
    import ray.data

    began = time.perf_counter()
    dataset = ray.data.read_parquet(str(path), columns=columns)
    preprocessor.fit(dataset)
    fitted = time.perf_counter()
    batches = preprocessor.transform(dataset).iter_batches(batch_size=None, batch_format="numpy")
    blocks = [np.column_stack([batch[name] for name in columns]).astype(np.float32) for batch in batches]
    return _told(began, fitted, np.concatenate(blocks))


def _warm_up() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    ray.data.range(1000).map_batches(lambda batch: batch).materialize()


def _told(began: float, fitted: float, matrix: np.ndarray) -> dict[str, Any]:
    ended = time.perf_counter()
    facts = {"rows": len(matrix), "width": matrix.shape[1], "matrix_mb": matrix.nbytes / 2**20}
    return {"fit_s": fitted - began, "transform_s": ended - fitted, **facts}

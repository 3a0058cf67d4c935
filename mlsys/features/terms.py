"""How the keys and times of two tables are compared: on which columns, as which types.

Frames here hold keys as ``__key0`` …, times as ``__time`` and ``__known`` (integers of one
unit), and ``__at``, the number of the row they came from. A table without time is one in
which everything was known before the first row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from mlsys import errors
from mlsys.features.values import in_utc

__all__ = ["Terms", "agree"]

ALWAYS = -1
"""Time of the rows of a table without time; the rows that look things up in it have times from 0 on."""


@dataclass(frozen=True)
class Terms:
    """How two tables are compared: on which columns, as which types.

    Attributes
    ----------
    keys
        Column of the rows → column of the table.
    types
        For each key the type in which both sides are compared.
    time, table_times
        Columns of the rows and of the table (when it holds, when it was known), if the table has a time.
    unit
        Of the times as integers.
    """

    keys: Mapping[str, str]
    types: tuple[pl.DataType, ...]
    time: str | None = None
    table_times: tuple[str, str] | None = None
    unit: Any = "us"

    @property
    def by(self) -> list[str]:
        return [f"__key{at}" for at in range(len(self.types))]

    @property
    def per_us(self) -> int:
        return 1_000 if self.unit == "ns" else 1

    def rows(self, table: pa.Table) -> pl.DataFrame:
        """Keys, ``__time`` and ``__at`` of the rows that have all of them; times are 0 if the table has none."""
        times = {"__time": self.time} if self.time else {}
        frame = self._read(table, dict(zip(self.by, self.keys, strict=True)) | times)
        return frame if times else frame.with_columns(pl.lit(0, pl.Int64).alias("__time"))

    def table(self, table: pa.Table) -> pl.DataFrame:
        """Keys, ``__time``, ``__known`` and ``__at`` of the table's rows that have all of them."""
        times = dict(zip(("__time", "__known"), self.table_times or (), strict=False))
        frame = self._read(table, dict(zip(self.by, self.keys.values(), strict=True)) | times)
        if times:
            return frame
        return frame.with_columns(pl.lit(ALWAYS, pl.Int64).alias("__time"), pl.lit(ALWAYS, pl.Int64).alias("__known"))

    def _read(self, table: pa.Table, columns: Mapping[str, str]) -> pl.DataFrame:
        frame = _plain(table, columns)
        casts = [
            _as_float(pl.col(by)) if kind == pl.Float64 and frame.schema[by] == pl.Int64 else pl.col(by).cast(kind)
            for by, kind in zip(self.by, self.types, strict=True)
        ]
        times = [pl.col(name).dt.cast_time_unit(self.unit).to_physical() for name in columns if name not in self.by]
        return frame.with_columns(*casts, *times).with_row_index("__at").cast({"__at": pl.Int64}).drop_nulls()


def agree(
    rows: pa.Schema,
    table: pa.Schema,
    keys: Mapping[str, str],
    time: str | None,
    table_times: tuple[str, str] | None,
    where: str,
) -> Terms:
    """The types in which both sides can be compared.

    Raises
    ------
    FeatureError
        A column is not there, or the types of two columns do not fit.
    """
    if table_times and time is None:
        expected = "the time of each row, to look up what was known then"
        raise errors.FeatureError.build(where, got="rows without time", expected=expected, hint="data.time: column")
    used = [*keys, *([time] if time and table_times else [])]
    for column in used:
        if column not in rows.names:
            hint = errors.did_you_mean(column, rows.names)
            got = f"no column '{column}' in the rows"
            raise errors.FeatureError.build(where, got=got, expected="each key and the time", hint=hint, field=column)
    ours = _plain(rows.empty_table(), {name: name for name in used}).schema
    theirs = _plain(table.empty_table(), {name: name for name in [*keys.values(), *(table_times or ())]}).schema
    types = [_common(ours[mine], theirs[other], mine, other, where) for mine, other in keys.items()]
    if table_times is None or time is None:
        return Terms(dict(keys), tuple(types))
    units = set()
    for column in table_times:
        if pa.types.is_date(table.field(column).type) and theirs[column] != ours[time]:
            raise _no_moment(column, where)
        same = _common(ours[time], theirs[column], "the row's time", column, where)
        if not isinstance(same, pl.Datetime):
            raise _unlike(ours[time], theirs[column], "the row's time", column, where)
        units.add(same.time_unit)
    return Terms(dict(keys), tuple(types), time, table_times, "ns" if "ns" in units else "us")


def _plain(table: pa.Table, columns: Mapping[str, str]) -> pl.DataFrame:
    """Columns under new names in few types; NaN is null, times are instants in UTC or have no zone."""
    read = in_utc(pa.table({name: table[column] for name, column in columns.items()}))
    return pl.DataFrame(pl.from_arrow(read)).with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String),
        pl.col(pl.Float32, pl.Float64).cast(pl.Float64).fill_nan(None),
        pl.col(pl.Date).cast(pl.Datetime("us")),
        cs.integer().cast(pl.Int64, strict=False),
    )


def _common(ours: pl.DataType, theirs: pl.DataType, mine: str, other: str, where: str) -> pl.DataType:
    """The type in which two columns can be compared.

    A column of nulls alone fits any: it matches nothing.
    """
    if isinstance(ours, pl.Datetime) and isinstance(theirs, pl.Datetime):
        if (ours.time_zone is None) != (theirs.time_zone is None):
            raise _unlike(ours, theirs, mine, other, where)
        unit: Any = "ns" if "ns" in (ours.time_unit, theirs.time_unit) else "us"
        return pl.Datetime(unit, ours.time_zone and "UTC")
    if ours.is_numeric() and theirs.is_numeric():
        return pl.Int64() if ours == theirs == pl.Int64 else pl.Float64()
    if ours != theirs and pl.Null not in (ours, theirs):
        raise _unlike(ours, theirs, mine, other, where)
    return theirs if ours == pl.Null else ours


def _unlike(ours: pl.DataType, theirs: pl.DataType, mine: str, other: str, where: str) -> errors.FeatureError:
    return errors.FeatureError.build(
        where,
        got=f"{mine} is {_called(ours)}, the table's {other} is {_called(theirs)}",
        expected="the same type on both sides",
        hint="derive: in data or in the join makes a column of another type; see data.timezone for times",
    )


def _no_moment(column: str, where: str) -> errors.FeatureError:
    """At its midnight what came during the day was not known: that would look into the future."""
    return errors.FeatureError.build(
        where,
        got=f"the table's {column} is a date, the row's time is not",
        expected="the moment from which it counts",
        hint=f"derive: {{{column}: \"CAST({column} AS TIMESTAMP) + INTERVAL '1 day'\"}} in the join: when it ends",
        field=column,
    )


CALLED: Mapping[type[pl.DataType], str] = {
    pl.String: "text",
    pl.Int64: "integers",
    pl.Float64: "decimals",
    pl.Boolean: "true or false",
    pl.Binary: "bytes",
    pl.Datetime: "times",
}


def _called(kind: pl.DataType) -> str:
    word = CALLED.get(type(kind), str(kind))
    return f"{word} {'in UTC' if kind.time_zone else 'without zone'}" if isinstance(kind, pl.Datetime) else word


def _as_float(key: pl.Expr) -> pl.Expr:
    """Integers as floats; one that no float is equal to as NaN, which no key of the other side is."""
    cast = key.cast(pl.Float64)
    return pl.when(cast.cast(pl.Int64, strict=False).eq_missing(key)).then(cast).otherwise(float("nan"))

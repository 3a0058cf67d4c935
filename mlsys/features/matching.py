"""Which row of a table goes with which row of another: keys, and the last one known at a time.

Frames here hold keys as ``__key0`` …, times as ``__time`` and ``__known`` (integers of one
unit), and ``__at``, the number of the row they came from. A table without time is one in
which everything was known before the first row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs
import pyarrow as pa

from mlsys import errors
from mlsys.features.values import in_utc

__all__ = ["Moments", "Terms", "agree", "latest", "numbered"]

Ints = npt.NDArray[np.int64]

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
        got=f"{mine} is {ours}, the table's {other} is {theirs}",
        expected="the same type on both sides",
        hint="derive: in data or in the join makes a column of another type; see data.timezone for times",
    )


def _as_float(key: pl.Expr) -> pl.Expr:
    """Integers as floats; one that no float is equal to as NaN, which no key of the other side is."""
    cast = key.cast(pl.Float64)
    return pl.when(cast.cast(pl.Int64, strict=False).eq_missing(key)).then(cast).otherwise(float("nan"))


@dataclass(frozen=True)
class Moments:
    """The distinct pairs of key and time that rows ask for, sorted.

    Attributes
    ----------
    places
        Of each moment: a number that grows with key and time.
    of_row
        The moment of each row.
    axis
        The distinct times; None if the times themselves, from `first` to `last`, leave room for the keys.
    """

    places: Ints
    of_row: Ints
    axis: Ints | None
    first: int
    last: int

    @classmethod
    def of(cls, codes: Ints, times: Ints) -> Moments:
        """Moments of rows with key numbers `codes`."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        room = (int(codes.max(initial=0)) + 2) * (last - first + 2)
        axis = None if room < 1 << 62 else _distinct(times)[0]
        unplaced = cls(np.empty(0, np.int64), np.empty(0, np.int64), axis, first, last)
        return cls(*_distinct(unplaced._place(codes, times)), axis, first, last)

    def __len__(self) -> int:
        return len(self.places)

    def keys(self) -> Ints:
        """Key number of each moment."""
        return self.places // self._length()

    def since(self, codes: Ints, times: Ints) -> Ints:
        """For each event the first moment of its key at or after its time; where there is none, of the next key."""
        return np.searchsorted(self.places, self._place(codes, times))

    def _place(self, codes: Ints, times: Ints) -> Ints:
        if self.axis is None:
            return codes * self._length() + (np.clip(times, self.first, self.last + 1) - self.first)
        return codes * self._length() + np.searchsorted(self.axis, times)

    def _length(self) -> int:
        return self.last - self.first + 2 if self.axis is None else len(self.axis) + 1


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Distinct values in order, and for each value which of them it is."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    which = np.empty(len(values), np.int64)
    which[order] = np.cumsum(is_new) - 1
    return ordered[is_new], which


def numbered(asked: pl.DataFrame, index: pl.DataFrame, by: Sequence[str]) -> tuple[Ints, Ints]:
    """Keys of both sides as numbers; -1 for a key that the table does not have."""
    keys = index.select(by).unique().with_row_index("__code")
    ours, theirs = (
        side.select(by).join(keys, on=list(by), how="left", maintain_order="left")["__code"] for side in (asked, index)
    )
    return ours.cast(pl.Int64).fill_null(-1).to_numpy(), theirs.cast(pl.Int64).to_numpy()


def latest(moments: Moments, codes: Ints, since: Ints) -> Ints:
    """For each moment the last event of its key that is seen by then; -1 where there is none.

    Events come in the order in which they prevail: by key, time, when they were known, place
    in the table. So the largest number seen so far is the answer, and if that is of another
    key there is none.
    """
    best = np.full(len(moments) + 1, -1)
    np.maximum.at(best, since, np.arange(len(codes)))
    found = np.maximum.accumulate(best[:-1])
    is_own = (found >= 0) & (codes[found] == moments.keys()) if len(codes) else np.zeros(len(moments), bool)
    return np.where(is_own, found, -1)

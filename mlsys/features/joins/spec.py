"""A join with all its checks done, before a row is read: which columns meet, and what is taken.

How the keys and times of two tables are compared: on which columns, as which types.

Frames here hold keys as ``__key0`` …, times as ``__time`` and ``__known`` (integers of one
unit), and ``__at``, the number of the row they came from. A table without time is one in
which everything was known before the first row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from mlsys import errors, recipe
from mlsys.features.domains import domain_of, in_utc
from mlsys.features.joins.window_aggregates import WindowAggregate, windows_of
from mlsys.recipe.durations import span_us
from mlsys.schema import FOLD, ROW

__all__ = ["JoinKeys", "JoinSpec", "columns_of", "keys_of", "resolve_keys"]

ALWAYS = -1
"""Time of the rows of a table without time; the rows that look things up in it have times from 0 on."""


@dataclass(frozen=True)
class JoinKeys:
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


def resolve_keys(
    rows: pa.Schema,
    table: pa.Schema,
    keys: Mapping[str, str],
    time: str | None,
    table_times: tuple[str, str] | None,
    where: str,
) -> JoinKeys:
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
        return JoinKeys(dict(keys), tuple(types))
    units = set()
    for column in table_times:
        if pa.types.is_date(table.field(column).type) and theirs[column] != ours[time]:
            raise _no_moment(column, where)
        same = _common(ours[time], theirs[column], "the row's time", column, where)
        if not isinstance(same, pl.Datetime):
            raise _unlike(ours[time], theirs[column], "the row's time", column, where)
        units.add(same.time_unit)
    return JoinKeys(dict(keys), tuple(types), time, table_times, "ns" if "ns" in units else "us")


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


@dataclass(frozen=True)
class JoinSpec:
    """How a feature table is joined.

    Attributes
    ----------
    lookback
        In the unit of the times; None without a limit.
    taken
        Columns of the table to take.
    """

    name: str
    terms: JoinKeys
    lookback: int | None
    taken: tuple[str, ...]
    windows: tuple[WindowAggregate, ...]
    prefix: str = ""

    @classmethod
    def of(
        cls, rows: pa.Schema, table: pa.Schema, spec: recipe.Join, time_column: str | None, name: str = "table"
    ) -> Self:
        """Check a join against the columns of both sides; see :func:`join` for what is refused."""
        where = f"features: join '{name}'"
        taken, keys = columns_of(table.names, spec, name), keys_of(spec)
        lookback = None if spec.lookback is None else span_us(spec.lookback)
        times = (spec.time, spec.known_at or spec.time) if spec.time else None
        terms = resolve_keys(rows, table, keys, time_column, times, where)
        lookback = None if lookback is None else lookback * terms.per_us
        windows = windows_of(spec, terms.per_us)
        for window in windows:
            _refuse_unreadable(window, table, where)
        names = [*(spec.prefix + column for column in taken), *(window.name for window in windows)]
        _refuse_collisions(rows.names, names, name)
        return cls(name, terms, lookback, tuple(taken), tuple(windows), spec.prefix)

    @property
    def reads(self) -> list[str]:
        """Columns of the table that are taken or aggregated."""
        return list(dict.fromkeys([*self.taken, *(one.column for one in self.windows if one.column)]))

    @property
    def reach(self) -> int:
        """Length of the longest window."""
        return max((window.length for window in self.windows), default=0)

    def schema(self, table: pa.Schema) -> pa.Schema:
        """The columns that the join adds; those that are not nullable are 0 where nothing is known."""
        fields = [pa.field(self.prefix + column, table.field(column).type) for column in self.taken]
        counts = [one.function in ("count", "distinct") for one in self.windows]
        types = [pa.int64() if is_count else pa.float64() for is_count in counts]
        windows = zip(self.windows, types, counts, strict=True)
        return pa.schema(
            [*fields, *(pa.field(one.name, kind, nullable=not is_count) for one, kind, is_count in windows)]
        )


def keys_of(spec: recipe.Join) -> dict[str, str]:
    """Column of the rows → column of the table."""
    return dict(spec.keys) if isinstance(spec.keys, dict) else {key: key for key in spec.keys}


def columns_of(names: Sequence[str], spec: recipe.Join, name: str = "table") -> list[str]:
    """Columns of a feature table that a join takes: the named ones, or all but keys and times."""
    where = f"features: join '{name}'"
    _refuse_halves(spec, where)
    keys = keys_of(spec).values()
    times = [time for time in (spec.time, spec.known_at) if time]
    read = [one.column for one in spec.aggregates.values() if one.column]
    for column in [*keys, *times, *(spec.columns or ()), *read]:
        if column not in names:
            raise errors.RecipeError.unknown_column(where, column, names)
    if spec.columns is not None:
        return list(spec.columns)
    return [column for column in names if column not in {*keys, *times, ROW, FOLD}]


def _refuse_halves(spec: recipe.Join, where: str) -> None:
    """Settings that mean something only together."""
    build = errors.FeatureError.build
    if not spec.keys:
        raise build(where, got="no keys", expected="at least one", hint="keys: [column]")
    for word, value in (("lookback", spec.lookback), ("known_at", spec.known_at), ("aggregates", spec.aggregates)):
        if value and not spec.time:
            raise build(where, got=f"{word} without time", expected="the table's time column", hint="time: column")


def _refuse_unreadable(window: WindowAggregate, table: pa.Schema, where: str) -> None:
    if window.column is None:
        return
    kind = table.field(window.column).type
    domain = domain_of(kind)
    if domain is None or (window.function != "distinct" and domain.name not in ("number", "boolean")):
        raise errors.FeatureError.build(
            f"{where}: aggregate '{window.name}'",
            got=f"{window.function} of '{window.column}', which is {kind}",
            expected="a column of plain values" if domain is None else "a column of numbers or of true and false",
            hint="derive: in the join makes a column of another type; distinct counts the values of any",
            field=window.column,
        )


def _refuse_collisions(names: Sequence[str], added: Sequence[str], join_name: str) -> None:
    for at, column in enumerate(added):
        if column in names or column in added[:at]:
            raise errors.FeatureError.build(
                f"features: join '{join_name}'",
                got=f"column '{column}' is there already",
                expected="new names",
                hint=f"prefix: {join_name}_ before the table's names, or columns: [the ones to take]",
                field=column,
            )

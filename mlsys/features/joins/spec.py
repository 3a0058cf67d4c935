"""The checked specification of a join, before a row is read: the columns that are compared, and those that are taken.

Frames here hold keys as ``__key0`` …, times as ``__time`` and ``__known`` (integers of one unit), and ``__at``, the
number of the row they came from. A table without time is one in which everything was known before the first row.
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
from mlsys.recipe.columns import span_us
from mlsys.schema import FOLD, ROW

ALWAYS = -1
"""Time of the rows of a table without time; the rows that look things up in it have times from 0 on."""


@dataclass(frozen=True)
class JoinKeys:
    """The key and time columns on which two tables are compared, and the types in which they are.

    Without a key column all rows of both sides have one key, the number 0.

    Attributes
    ----------
    keys
        Column of the rows → column of the table.
    types
        For each key the type in which both sides are compared.
    time, table_times
        Columns of the rows and of the table (when it holds, when it was known), if the table has a time.
    unit
        Unit of the times as integers.
    """

    keys: Mapping[str, str]
    types: tuple[pl.DataType, ...]
    time: str | None = None
    table_times: tuple[str, str] | None = None
    unit: Any = "us"

    @property
    def by(self) -> list[str]:
        return [f"__key{number}" for number in range(max(1, len(self.types)))]

    @property
    def per_us(self) -> int:
        return 1_000 if self.unit == "ns" else 1

    def rows(self, table: pa.Table) -> pl.DataFrame:
        """Read keys, ``__time`` and ``__at`` of the rows that have all of them; times are 0 if the table has none."""
        times = {"__time": self.time} if self.time else {}
        frame = self._read(table, dict(zip(self.by, self.keys, strict=False)) | times)
        return frame if times else frame.with_columns(pl.lit(0, pl.Int64).alias("__time"))

    def table(self, table: pa.Table) -> pl.DataFrame:
        """Read keys, ``__time``, ``__known`` and ``__at`` of the table's rows that have all of them."""
        times = dict(zip(("__time", "__known"), self.table_times or (), strict=False))
        frame = self._read(table, dict(zip(self.by, self.keys.values(), strict=False)) | times)
        if times:
            return frame
        return frame.with_columns(pl.lit(ALWAYS, pl.Int64).alias("__time"), pl.lit(ALWAYS, pl.Int64).alias("__known"))

    def _read(self, table: pa.Table, columns: Mapping[str, str]) -> pl.DataFrame:
        frame = _plain(table, columns)
        casts = [
            _as_float(pl.col(by)) if kind == pl.Float64 and frame.schema[by] == pl.Int64 else pl.col(by).cast(kind)
            for by, kind in zip(self.by, self.types, strict=False)
        ] or [pl.lit(0, pl.Int64).alias(self.by[0])]
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
    """Find the types in which the keys and times of both sides can be compared; `FeatureError` if there are none."""
    # 1. The rows have what is compared.
    if table_times and time is None:
        expected = "the time of each row, to look up what was known then"
        raise errors.FeatureError.build(where, got="rows without time", expected=expected, hint="data.time: column")
    used = [*keys, *([time] if time and table_times else [])]
    for column in used:
        if column not in rows.names:
            hint = errors.did_you_mean(column, rows.names)
            got = f"no column '{column}' in the rows"
            raise errors.FeatureError.build(where, got=got, expected="each key and the time", hint=hint, field=column)
    # 2. The keys have a common type.
    ours = _plain(rows.empty_table(), {name: name for name in used}).schema
    theirs = _plain(table.empty_table(), {name: name for name in [*keys.values(), *(table_times or ())]}).schema
    types = [_common_type(ours[mine], theirs[other], mine, other, where) for mine, other in keys.items()]
    if table_times is None or time is None:
        return JoinKeys(dict(keys), tuple(types))
    # 3. So have the times, in the finer unit.
    units = set()
    for column in table_times:
        if pa.types.is_date(table.field(column).type) and theirs[column] != ours[time]:
            raise _only_date(column, where)
        same = _common_type(ours[time], theirs[column], "the row's time", column, where)
        if not isinstance(same, pl.Datetime):
            raise _different_types(ours[time], theirs[column], "the row's time", column, where)
        units.add(same.time_unit)
    return JoinKeys(dict(keys), tuple(types), time, table_times, "ns" if "ns" in units else "us")


def _plain(table: pa.Table, columns: Mapping[str, str]) -> pl.DataFrame:
    """Rename columns and reduce their types; NaN is null, times are instants in UTC or have no zone."""
    read = in_utc(pa.table({name: table[column] for name, column in columns.items()}))
    return pl.DataFrame(pl.from_arrow(read)).with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String),
        pl.col(pl.Float32, pl.Float64).cast(pl.Float64).fill_nan(None),
        pl.col(pl.Date).cast(pl.Datetime("us")),
        cs.integer().cast(pl.Int64, strict=False),
    )


def _common_type(ours: pl.DataType, theirs: pl.DataType, mine: str, other: str, where: str) -> pl.DataType:
    """The type in which two columns can be compared; a column of nulls alone fits any, and matches nothing."""
    if isinstance(ours, pl.Datetime) and isinstance(theirs, pl.Datetime):
        if (ours.time_zone is None) != (theirs.time_zone is None):
            raise _different_types(ours, theirs, mine, other, where)
        unit: Any = "ns" if "ns" in (ours.time_unit, theirs.time_unit) else "us"
        return pl.Datetime(unit, ours.time_zone and "UTC")
    if ours.is_numeric() and theirs.is_numeric():
        return pl.Int64() if ours == theirs == pl.Int64 else pl.Float64()
    if ours != theirs and pl.Null not in (ours, theirs):
        raise _different_types(ours, theirs, mine, other, where)
    return theirs if ours == pl.Null else ours


def _different_types(ours: pl.DataType, theirs: pl.DataType, mine: str, other: str, where: str) -> errors.FeatureError:
    got = f"{mine} is {_type_words(ours)}, the table's {other} is {_type_words(theirs)}"
    hint = "derive: in data or in the join makes a column of another type; see data.timezone for times"
    return errors.FeatureError.build(where, got=got, expected="the same type on both sides", hint=hint)


def _only_date(column: str, where: str) -> errors.FeatureError:
    """A date stands for its midnight, when the events of the day were not known: that would look into the future."""
    got = f"the table's {column} is a date, the row's time is not"
    hint = f"derive: {{{column}: \"CAST({column} AS TIMESTAMP) + INTERVAL '1 day'\"}} in the join: when it ends"
    expected = "the moment from which it counts"
    return errors.FeatureError.build(where, got=got, expected=expected, hint=hint, field=column)


TYPE_WORDS: Mapping[type[pl.DataType], str] = {
    pl.String: "text",
    pl.Int64: "integers",
    pl.Float64: "decimals",
    pl.Boolean: "true or false",
    pl.Binary: "bytes",
    pl.Datetime: "times",
}


def _type_words(kind: pl.DataType) -> str:
    word = TYPE_WORDS.get(type(kind), str(kind))
    return f"{word} {'in UTC' if kind.time_zone else 'without zone'}" if isinstance(kind, pl.Datetime) else word


def _as_float(key: pl.Expr) -> pl.Expr:
    """Integers as floats; one that equals no float becomes NaN, which matches no key."""
    cast = key.cast(pl.Float64)
    return pl.when(cast.cast(pl.Int64, strict=False).eq_missing(key)).then(cast).otherwise(float("nan"))


@dataclass(frozen=True)
class JoinSpec:
    """A join whose columns were checked on both sides.

    Attributes
    ----------
    join_keys
        The keys and times that are compared.
    lookback
        Largest age of a value, in the unit of the times; None without a limit.
    columns
        Columns of the table to take.
    """

    name: str
    join_keys: JoinKeys
    lookback: int | None
    columns: tuple[str, ...]
    windows: tuple[WindowAggregate, ...]
    prefix: str = ""

    @classmethod
    def of(
        cls, rows: pa.Schema, table: pa.Schema, join: recipe.Join, time_column: str | None, name: str = "table"
    ) -> Self:
        """Check a join against the columns of both sides; `mlsys.features.joins.asof.join` says what is refused."""
        where = f"features: join '{name}'"
        columns, keys = columns_of(table.names, join, name), keys_of(join)
        join_keys = resolve_keys(rows, table, keys, time_column, times_of(join), where)
        lookback = None if join.lookback is None else span_us(join.lookback) * join_keys.per_us
        windows = windows_of(join, join_keys.per_us)
        for window in windows:
            _refuse_unreadable(window, table, where)
        names = [*(join.prefix + column for column in columns), *(window.name for window in windows)]
        _refuse_collisions(rows.names, names, name)
        return cls(name, join_keys, lookback, tuple(columns), tuple(windows), join.prefix)

    @property
    def reads(self) -> list[str]:
        """Columns of the table that are taken or aggregated."""
        return list(dict.fromkeys([*self.columns, *(window.column for window in self.windows if window.column)]))

    @property
    def reach(self) -> int:
        """Length of the longest window."""
        return max((window.length for window in self.windows), default=0)

    def schema(self, table: pa.Schema) -> pa.Schema:
        """The columns that the join adds; those that are not nullable are 0 if nothing is known."""
        fields = [pa.field(self.prefix + column, table.field(column).type) for column in self.columns]
        aggregates = (pa.field(window.name, window.type, nullable=not window.is_count) for window in self.windows)
        return pa.schema([*fields, *aggregates])


def keys_of(join: recipe.Join) -> dict[str, str]:
    """Column of the rows → column of the table."""
    return dict(join.keys) if isinstance(join.keys, dict) else {key: key for key in join.keys}


def times_of(join: recipe.Join) -> tuple[str, str] | None:
    """Columns of the table that say when a row holds and when it was known; None for a table without time."""
    return (join.time, join.known_at or join.time) if join.time else None


def columns_of(names: Sequence[str], join: recipe.Join, name: str = "table") -> list[str]:
    """Columns of a feature table that a join takes: the named ones, or all but keys and times."""
    where = f"features: join '{name}'"
    _refuse_incomplete(join, where)
    keys, times = keys_of(join).values(), times_of(join) or ()
    aggregated = [aggregate.column for aggregate in join.aggregates.values() if aggregate.column]
    for column in [*keys, *times, *(join.columns or ()), *aggregated]:
        if column not in names:
            raise errors.RecipeError.unknown_column(where, column, names)
    if join.columns is not None:
        return list(join.columns)
    return [column for column in names if column not in {*keys, *times, ROW, FOLD}]


def _refuse_incomplete(join: recipe.Join, where: str) -> None:
    """Refuse settings that mean something only together with others."""
    build = errors.FeatureError.build
    if not join.keys and not join.time:
        raise build(where, got="no keys", expected="at least one, or a time", hint="keys: [column]")
    for word, value in (("lookback", join.lookback), ("known_at", join.known_at), ("aggregates", join.aggregates)):
        if value and not join.time:
            raise build(where, got=f"{word} without time", expected="the table's time column", hint="time: column")


def _refuse_unreadable(window: WindowAggregate, table: pa.Schema, where: str) -> None:
    if window.column is None:
        return
    kind = table.field(window.column).type
    domain = domain_of(kind)
    if domain is None or (window.function != "distinct" and domain.name not in ("number", "boolean")):
        got = f"{window.function} of '{window.column}', which is {kind}"
        expected = "a column of plain values" if domain is None else "a column of numbers or of true and false"
        hint = "derive: in the join makes a column of another type; distinct counts the values of any"
        raise errors.FeatureError.build(
            f"{where}: aggregate '{window.name}'", got=got, expected=expected, hint=hint, field=window.column
        )


def _refuse_collisions(names: Sequence[str], added: Sequence[str], join_name: str) -> None:
    for number, column in enumerate(added):
        if column in names or column in added[:number]:
            got = f"column '{column}' is there already"
            hint = f"prefix: {join_name}_ before the table's names, or columns: [the ones to take]"
            where = f"features: join '{join_name}'"
            raise errors.FeatureError.build(where, got=got, expected="new names", hint=hint, field=column)

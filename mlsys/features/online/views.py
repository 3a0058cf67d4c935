"""What the endpoint needs to know of a join, in one JSON value: which keys, which columns, how old."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, Self

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mlsys import errors, recipe
from mlsys.features.domains import domain_of
from mlsys.features.joins import window_aggregates
from mlsys.features.joins.spec import columns_of, keys_of, resolve_keys
from mlsys.recipe.durations import span_us
from mlsys.schema import Role, Schema, arrow_type
from mlsys.store import digest_json

__all__ = ["KNOWN", "TIME", "FeatureView", "ViewKey", "define", "instant", "micros"]

TIME, KNOWN = "__time", "__known"
"""Columns of a stored event, before those of the table: microseconds since 1970, as int64."""

KINDS: dict[str, type[pl.DataType]] = {
    "integer": pl.Int64,
    "float": pl.Float64,
    "text": pl.String,
    "boolean": pl.Boolean,
    "time": pl.Datetime,
    "bytes": pl.Binary,
}
"""Kind of a key → the type in which `mlsys.features.joins.spec` compares it."""

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
TO_TEXT = json.JSONEncoder(ensure_ascii=False).encode
INT64 = range(-(2**63), 2**63)


class _ViewModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViewKey(_ViewModel):
    """A key: column of a request, column of the table, and how the two are compared."""

    column: str
    of_table: str
    kind: Literal["integer", "float", "text", "boolean", "time", "bytes"]


class FeatureView(_ViewModel):
    """A feature table as the endpoint looks it up; part of a bundle.

    Attributes
    ----------
    name
        Of the join in the recipe.
    id
        Name in the store: ``<recipe>/<join>/<digest of the definition>``, so that a model finds
        what was published for its own definition and no other.
    timezone
        Zone of the table's times without one.
    clock
        Column of a request that holds its time; None for a table without time.
    stored
        Columns of the table that are kept → Arrow type.
    columns
        Columns that a request gets → column of the table; without the aggregates.
    """

    name: str
    id: str
    join: recipe.Join
    timezone: str
    keys: tuple[ViewKey, ...]
    clock: str | None
    stored: dict[str, str]
    columns: dict[str, str]

    @cached_property
    def windows(self) -> list[window_aggregates.WindowAggregate]:
        return window_aggregates.windows_of(self.join)

    @cached_property
    def lookback_us(self) -> int | None:
        return None if self.join.lookback is None else span_us(self.join.lookback)

    @cached_property
    def names(self) -> list[str]:
        """Every column that a request gets, in the order of the join."""
        return [*self.columns, *(window.name for window in self.windows)]

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Type of each column that a request gets."""
        columns = {name: arrow_type(self.stored[column]) for name, column in self.columns.items()}
        whole = {"count", "distinct"}
        return columns | {w.name: pa.int64() if w.function in whole else pa.float64() for w in self.windows}

    @cached_property
    def context(self) -> list[str]:
        """Columns of a row that the look-up reads: the keys, and the time where the table has one."""
        return list(dict.fromkeys([*(key.column for key in self.keys), *([self.clock] if self.clock else [])]))

    @cached_property
    def horizon_us(self) -> int:
        """How far before a moment an event may lie and still count, last values without limit apart."""
        return max([self.lookback_us or 0, *(window.length for window in self.windows)])

    @cached_property
    def keeps_last(self) -> bool:
        """The last value counts however old it is."""
        return bool(self.columns) and self.lookback_us is None

    @cached_property
    def places(self) -> dict[str, int]:
        """Position of each stored column."""
        return {column: at for at, column in enumerate(self.stored)}

    @cached_property
    def readers(self) -> dict[str, Callable[[Any], Any]]:
        """How a window reads the values of a column."""
        kinds = {one.column: arrow_type(self.stored[one.column]) for one in self.windows if one.column}
        return {column: domain.reader(column) for column, kind in kinds.items() if (domain := domain_of(kind))}

    @cached_property
    def schema(self) -> pa.Schema:
        """Of a stored event."""
        times = [] if self.clock is None else [TIME, *([KNOWN] if self.join.known_at else [])]
        return pa.schema([
            *(pa.field(name, pa.int64()) for name in times),
            *(pa.field(name, arrow_type(kind)) for name, kind in self.stored.items()),
        ])  # fmt: skip

    def key(self, values: Sequence[Any]) -> str | None:
        """The key of a request's values as the store has it; None where one is null: it matches nothing."""
        parts = [read(value) for read, value in zip(self._readers, values, strict=True)]
        return None if any(part is None for part in parts) else TO_TEXT(parts)

    @cached_property
    def _readers(self) -> list[Callable[[Any], Any]]:
        return [READERS[key.kind] for key in self.keys]

    def owned_by(self, recipe_name: str) -> Self:
        """The view under the name that the store has for it."""
        facts = self.model_dump(mode="json", exclude={"id"})
        return self.model_copy(update={"id": f"{recipe_name}/{self.name}/{digest_json(facts)[:16]}"})


def define(
    name: str, join: recipe.Join, table: Schema, rows: Schema, *, owner: str, timezone: str = "UTC"
) -> FeatureView:
    """The view of a join of `table` to `rows`; `owner` is the recipe's name.

    Raises
    ------
    FeatureError
        A key or a time is of a type that cannot be looked up online.
    """
    clock = rows.one(Role.TIME) if join.time else None
    taken = columns_of(table.names, join, name)
    read = [one.column for one in join.aggregates.values() if one.column]
    view = FeatureView(
        name=name,
        id="",
        join=join,
        timezone=timezone,
        keys=_keys(name, join, table, rows, clock),
        clock=clock,
        stored={column: table[column].type for column in dict.fromkeys([*taken, *read])},
        columns={join.prefix + column: column for column in taken},
    )
    return view.owned_by(owner)


def _keys(name: str, join: recipe.Join, table: Schema, rows: Schema, clock: str | None) -> tuple[ViewKey, ...]:
    where = f"features: join '{name}'"
    times = (join.time, join.known_at or join.time) if join.time else None
    terms = resolve_keys(rows.arrow(), table.arrow(), keys_of(join), clock, times, where)
    if times is not None and terms.unit != "us":
        raise _refused(where, f"time '{join.time}'", f"times in {terms.unit}", "times in microseconds")
    return tuple(
        ViewKey(column=column, of_table=of_table, kind=_kind(where, column, found))
        for (column, of_table), found in zip(terms.keys.items(), terms.types, strict=True)
    )


def _kind(where: str, column: str, found: pl.DataType) -> Any:
    for kind, polars in KINDS.items():
        if isinstance(found, polars):
            return kind
    raise _refused(where, f"key '{column}'", str(found), "a key of " + ", ".join(KINDS))


def _refused(where: str, what: str, got: str, expected: str) -> errors.FeatureError:
    hint = "deploy.lookup: none, and requests carry the joined columns; or derive a column of such a type"
    return errors.FeatureError.build(
        f"{where}: {what}", got=got, expected=f"{expected}, to look it up online", hint=hint
    )


def micros(value: dt.date) -> int:
    """Microseconds since 1970 of a time, of a date at its midnight; without a zone the wall clock counts.

    >>> micros(dt.datetime(1970, 1, 2, tzinfo=dt.UTC)), micros(dt.date(1970, 1, 2))
    (86400000000, 86400000000)
    """
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return (value - EPOCH) // MICROSECOND


def instant(us: int) -> dt.datetime:
    """The time of so many microseconds since 1970, in UTC."""
    return EPOCH + us * MICROSECOND


def _integer(value: Any) -> int | None:
    return None if value is None or value not in INT64 else int(value)


def _float(value: Any) -> float | int | None:
    number = None if value is None else float(value)
    if isinstance(value, int) and number != value:
        return value  # no float is equal to it, so it finds none
    return None if number is None or number != number else number + 0.0  # noqa: PLR0124 - NaN; and -0.0 is 0.0


def _time(value: Any) -> int | None:
    return None if value is None else micros(value)


def _bytes(value: Any) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


READERS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "float": _float,
    "text": lambda value: value,
    "boolean": lambda value: value,
    "time": _time,
    "bytes": _bytes,
}
"""Kind of a key → its value as JSON has it, None for null; one value, one text."""

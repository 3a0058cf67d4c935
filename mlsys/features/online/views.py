"""Feature views: the definition of a join for the endpoint, as one JSON value."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from mlsys import errors, recipe
from mlsys.features.domains import domain_of
from mlsys.features.joins import window_aggregates
from mlsys.features.joins.spec import columns_of, keys_of, resolve_keys, times_of
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.recipe.columns import span_us
from mlsys.schema import Role, Schema, arrow_type
from mlsys.store import digest_json

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

TO_TEXT = json.JSONEncoder(ensure_ascii=False).encode
INT64 = range(-(2**63), 2**63)


class _ViewModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViewKey(_ViewModel):
    """A key: the column of a request, the column of the table, and the type in which they are compared."""

    column: str
    of_table: str
    kind: Literal["integer", "float", "text", "boolean", "time", "bytes"]


class FeatureView(_ViewModel):
    """A feature table as the endpoint looks it up; it is part of a bundle.

    Attributes
    ----------
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
        return list(self.types)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Type of each column that a request gets, in the order of the join."""
        columns = {name: arrow_type(self.stored[column]) for name, column in self.columns.items()}
        return columns | {window.name: window.type for window in self.windows}

    @cached_property
    def context(self) -> list[str]:
        """Columns of a row that the look-up reads: the keys, and the time where the table has one."""
        return list(dict.fromkeys([*(key.column for key in self.keys), *([self.clock] if self.clock else [])]))

    @cached_property
    def horizon_us(self) -> int:
        """Largest age of an event that still counts, apart from last values without a limit."""
        return max([self.lookback_us or 0, *(window.length for window in self.windows)])

    @cached_property
    def keeps_last(self) -> bool:
        """True if the last value counts however old it is."""
        return bool(self.columns) and self.lookback_us is None

    @cached_property
    def places(self) -> dict[str, int]:
        return {column: place for place, column in enumerate(self.stored)}

    @cached_property
    def readers(self) -> dict[str, Callable[[Any], Any]]:
        """Column of a window → function that reads its values."""
        columns = (window.column for window in self.windows if window.column)
        kinds = {column: arrow_type(self.stored[column]) for column in columns}
        return {column: domain.reader(column) for column, kind in kinds.items() if (domain := domain_of(kind))}

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a stored event: its times, then those of the table."""
        times = [] if self.clock is None else [TIME, *([KNOWN] if self.join.known_at else [])]
        return pa.schema([
            *(pa.field(name, pa.int64()) for name in times),
            *(pa.field(name, arrow_type(kind)) for name, kind in self.stored.items()),
        ])  # fmt: skip

    def key(self, values: Sequence[Any]) -> str | None:
        """Write the key of a request as the store has it; None if one of its values is null: it matches nothing.

        A table without key columns has one key, an empty list.
        """
        if self._is_text and type(values[0]) is str:
            return f"[{encode_basestring(values[0])}]"
        parts = [None if value is None else read(value) for read, value in zip(self._readers, values, strict=True)]
        return None if any(part is None for part in parts) else TO_TEXT(parts)

    @cached_property
    def _is_text(self) -> bool:
        """True for a single key of text, which needs no reader and one call to be written."""
        return [key.kind for key in self.keys] == ["text"]

    @cached_property
    def _readers(self) -> list[Callable[[Any], Any]]:
        return [READERS[key.kind] for key in self.keys]


def define(
    name: str, join: recipe.Join, table: Schema, rows: Schema, *, owner: str, timezone: str = "UTC"
) -> FeatureView:
    """Define the view of a join of `table` to `rows`; `owner` is the recipe's name.

    Raises
    ------
    FeatureError
        A key or a time is of a type that cannot be looked up online.
    """
    clock = rows.name_of(Role.TIME) if join.time else None
    columns = columns_of(table.names, join, name)
    aggregated = [aggregate.column for aggregate in join.aggregates.values() if aggregate.column]
    view = FeatureView(
        name=name,
        id="",
        join=join,
        timezone=timezone,
        keys=_keys(name, join, table, rows, clock),
        clock=clock,
        stored={column: table[column].type for column in dict.fromkeys([*columns, *aggregated])},
        columns={join.prefix + column: column for column in columns},
    )
    facts = view.model_dump(mode="json", exclude={"id"})
    return view.model_copy(update={"id": f"{owner}/{name}/{digest_json(facts)[:16]}"})


def _keys(name: str, join: recipe.Join, table: Schema, rows: Schema, clock: str | None) -> tuple[ViewKey, ...]:
    where = f"features: join '{name}'"
    join_keys = resolve_keys(rows.arrow(), table.arrow(), keys_of(join), clock, times_of(join), where)
    if join.time and join_keys.unit != "us":
        raise _refused(where, f"time '{join.time}'", f"times in {join_keys.unit}", "times in microseconds")
    return tuple(
        ViewKey(column=column, of_table=of_table, kind=_kind(where, column, type_))
        for (column, of_table), type_ in zip(join_keys.keys.items(), join_keys.types, strict=True)
    )


def _kind(where: str, column: str, type_: pl.DataType) -> Any:
    for kind, polars in KINDS.items():
        if isinstance(type_, polars):
            return kind
    raise _refused(where, f"key '{column}'", str(type_), "a key of " + ", ".join(KINDS))


def _refused(where: str, subject: str, got: str, expected: str) -> errors.FeatureError:
    hint = "deploy.lookup: none, and requests carry the joined columns; or derive a column of such a type"
    return errors.FeatureError.build(
        f"{where}: {subject}", got=got, expected=f"{expected}, to look it up online", hint=hint
    )


def micros(value: dt.date) -> int:
    """Microseconds since 1970 of a time or of the midnight of a date; without a zone the wall clock counts.

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


def _float(value: Any) -> float | int | None:
    number = float(value)
    if isinstance(value, int) and number != value:
        return value  # no float is equal to it, so it finds none
    return None if math.isnan(number) else number + 0.0  # -0.0 is 0.0


READERS: dict[str, Callable[[Any], Any]] = {
    "integer": lambda value: int(value) if value in INT64 else None,
    "float": _float,
    "text": lambda value: value,
    "boolean": lambda value: value,
    "time": micros,
    "bytes": lambda value: base64.b64encode(value).decode(),
}
"""Kind of a key → its value as JSON has it, None for what matches nothing; one value, one text."""

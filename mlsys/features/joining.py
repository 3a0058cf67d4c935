"""A join with all its checks done, before a row is read: which columns meet, and what is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from mlsys import errors, recipe
from mlsys.features.terms import Terms, agree
from mlsys.features.values import domain_of
from mlsys.features.windows import Window, windows_of
from mlsys.recipe.spans import span_us
from mlsys.schema import FOLD, ROW

__all__ = ["Joining", "columns_of", "keys_of"]


@dataclass(frozen=True)
class Joining:
    """How a feature table is joined.

    Attributes
    ----------
    lookback
        In the unit of the times; None without a limit.
    taken
        Columns of the table to take.
    """

    name: str
    terms: Terms
    lookback: int | None
    taken: tuple[str, ...]
    windows: tuple[Window, ...]
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
        terms = agree(rows, table, keys, time_column, times, where)
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


def _refuse_unreadable(window: Window, table: pa.Schema, where: str) -> None:
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

"""Where rows without the columns of a feature table get them from: the store, or the whole tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from mlsys import errors
from mlsys.features import joins
from mlsys.features.online import publishing
from mlsys.features.online.moments import Found, look_up
from mlsys.features.online.stores import OnlineStore, State
from mlsys.features.online.views import View, micros
from mlsys.schema import Schema
from mlsys.store import Store

__all__ = ["TOO_EARLY", "Asked", "FromStore", "FromTables", "Joined", "Source"]

TOO_EARLY = "too_early"
"""Status of a row whose moment lies before what the store remembers: the answer is not known, so there is none."""


@dataclass(frozen=True)
class Asked:
    """One look-up: a row with the view's keys, and its time where the view has one."""

    view: View
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Joined:
    """The columns of a view for the rows of a table.

    Attributes
    ----------
    counts
        Rows by status.
    found
        What was found for each row, where the source can tell.
    """

    columns: pa.Table
    counts: Counter[str]
    found: list[Found] | None = None


class Source(Protocol):
    """Two entrances with one meaning, for a few rows and for many."""

    def rows(self, asked: Sequence[Asked]) -> list[Found]:
        """What is found for each look-up."""

    def table(self, view: View, rows: pa.Table) -> Joined:
        """The view's columns for rows that have its keys and its clock."""


class FromStore:
    """The latest events of each key, as they were published last.

    Raises
    ------
    StoreError
        From each look-up: the store cannot be reached, or the view was never published.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def rows(self, asked: Sequence[Asked]) -> list[Found]:
        """One read for all views and keys."""
        keys = [one.view.key([one.row[key.column] for key in one.view.keys]) for one in asked]
        wanted: dict[str, set[str]] = {one.view.id: set() for one in asked}
        for one, key in zip(asked, keys, strict=True):
            if key is not None:
                wanted[one.view.id].add(key)
        states = self._store.read(wanted) if wanted else {}
        return [self._found(one, key, states[one.view.id]) for one, key in zip(asked, keys, strict=True)]

    def table(self, view: View, rows: pa.Table) -> Joined:
        found = self.rows([Asked(view, row) for row in rows.to_pylist()])
        columns = {name: pa.array([one.values.get(name) for one in found], kind) for name, kind in view.types.items()}
        return Joined(pa.table(columns), Counter(one.status for one in found), found)

    def newest_us(self, views: Sequence[View]) -> int | None:
        """A moment at which each view knows something: the time of the newest event that all have reached."""
        states = self._store.read({view.id: () for view in views})
        newest = [state.facts["newest_us"] for state in states.values() if state.facts]
        return min((time for time in newest if time is not None), default=None)

    def _found(self, asked: Asked, key: str | None, state: State) -> Found:
        view = asked.view
        if state.facts is None:
            raise errors.StoreError.build(
                f"online store: table '{view.name}'",
                got="never published",
                expected=f"what is known of its keys ({view.id})",
                hint="`mlsys materialize` with the recipe; or send the joined columns with the request",
            )
        moment = asked.row.get(view.clock) if view.clock else None
        moment_us = None if moment is None else micros(moment)
        since = state.facts["since_us"]
        if since is not None and moment_us is not None and moment_us < since:
            return Found(TOO_EARLY, None, dict.fromkeys(view.names), since)
        return look_up(view, None if key is None else state.values.get(key), moment_us)


class FromTables:
    """Whole feature tables in memory, joined as for training; any moment can be asked for.

    Parameters
    ----------
    rows
        Schema that has the keys and clocks of the views.
    open_table
        Gives the table of a view; it is read when it is first looked up in.
    """

    def __init__(self, rows: Schema, open_table: Callable[[View], pa.Table]) -> None:
        self._schema = rows
        self._open = open_table
        self._tables: dict[str, joins.Lookup] = {}

    @classmethod
    def latest(cls, store: Store, rows: Schema) -> FromTables:
        """The tables that were published last; a look-up in one that never was raises `StoreError`."""
        return cls(rows, lambda view: publishing.snapshot_of(store, view).table())

    def rows(self, asked: Sequence[Asked]) -> list[Found]:
        return [self._row(one) for one in asked]

    def table(self, view: View, rows: pa.Table) -> Joined:
        joined, counts = joins.match(rows, self._prepared(view), view.clock)
        columns = joined.select(view.names)
        return Joined(columns.cast(pa.schema(list(view.types.items()))), Counter(counts))

    def _prepared(self, view: View) -> joins.Lookup:
        if view.id not in self._tables:
            self._tables[view.id] = joins.prepare(self._open(view), view.join, view.name)
        return self._tables[view.id]

    def _row(self, asked: Asked) -> Found:
        view = asked.view
        schema = self._schema.select(view.context).arrow()
        joined = self.table(view, pa.Table.from_pylist([{name: asked.row[name] for name in view.context}], schema))
        (status,) = +joined.counts
        return Found(status, None, joined.columns.to_pylist()[0])

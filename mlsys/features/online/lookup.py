"""Point look-ups: the columns of feature views for single rows, from the store or from whole tables.

`look_up` applies the rule of the as-of join (`mlsys.features.joins.asof`) to the stored events of
one key at one moment, and gives the same bits. The two sources answer for many rows and views.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mlsys import errors
from mlsys.features.joins import asof, window_aggregates
from mlsys.features.online import publishing
from mlsys.features.online.event_cache import EventCache, KeyEvents
from mlsys.features.online.online_store import OnlineStore, is_remote, shown
from mlsys.features.online.redis_store import RedisStore
from mlsys.features.online.sqlite_store import SQLiteStore
from mlsys.features.online.views import FeatureView, micros
from mlsys.recipe import secrets
from mlsys.schema import Schema
from mlsys.store import Store


@dataclass(frozen=True)
class PointFeatures:
    """The columns of one view for one row.

    Attributes
    ----------
    status
        ``matched``, ``missing`` (nothing known by then) or ``too_old``, as the join counts them.
    age_us
        Time from the event to the row, also if that is too old.
    values
        Column of the request → value; null unless matched, aggregates apart.
    since_us
        The first moment that the store can answer for, if it cannot for this one.
    """

    status: str
    age_us: int | None
    values: dict[str, Any]
    since_us: int | None = None


def look_up(view: FeatureView, value: bytes | None, moment_us: int | None) -> PointFeatures:
    """Look up a key's events, as they are stored, as of a moment; without events or a moment, nothing is known."""
    return _look_up(view, None if value is None else KeyEvents(view, value), moment_us)


def _look_up(view: FeatureView, events: KeyEvents | None, moment_us: int | None) -> PointFeatures:
    if events is None or (view.clock is not None and moment_us is None):
        return _nothing(view)
    if view.clock is None or moment_us is None:
        return PointFeatures("matched", None, events.values(0))
    features = _last(view, events, moment_us)
    if view.windows:
        features.values.update(_aggregates(view, events, moment_us))
    return features


def _nothing(view: FeatureView) -> PointFeatures:
    values: dict[str, Any] = dict.fromkeys(view.names)
    if view.windows:
        events = window_aggregates.WindowEvents((), (), dict.fromkeys(view.readers, ()))
        values.update(window_aggregates.aggregate(view.windows, events, 0))
    return PointFeatures("missing", None, values)


def _last(view: FeatureView, events: KeyEvents, moment: int) -> PointFeatures:
    """The last value known by the moment, unless it is too old."""
    times, known = events.times, events.known
    event = bisect_right(times, moment) - 1
    while event >= 0 and known[event] > moment:
        event -= 1
    if event < 0:
        return PointFeatures("missing", None, dict.fromkeys(view.columns))
    age = moment - times[event]
    if view.lookback_us is not None and age > view.lookback_us:
        return PointFeatures("too_old", age, dict.fromkeys(view.columns))
    return PointFeatures("matched", age, events.values(event))


def _aggregates(view: FeatureView, events: KeyEvents, moment: int) -> dict[str, float | int | None]:
    """Aggregate the windows; only the events of the longest one are read."""
    start = bisect_left(events.times, moment - view.horizon_us)
    stop = bisect_right(events.times, moment)
    values = {column: events.window(column, start, stop) for column in view.readers}
    cut = window_aggregates.WindowEvents(events.times[start:stop], events.known[start:stop], values)
    return window_aggregates.aggregate(view.windows, cut, moment)


TOO_EARLY = "too_early"
"""Status of a row whose moment lies before what the store remembers: the answer is not known, so there is none."""


@dataclass(frozen=True)
class PointQuery:
    """One look-up: a row with the view's keys, and its time where the view has one."""

    view: FeatureView
    row: Mapping[str, Any]


@dataclass(frozen=True)
class JoinedColumns:
    """The columns of a view for the rows of a table.

    Attributes
    ----------
    counts
        Number of rows by status.
    features
        The result of each row, if the source can tell.
    """

    columns: pa.Table
    counts: Counter[str]
    features: list[PointFeatures] | None = None


class FeatureSource(Protocol):
    """A source of looked-up columns, with the same results for a few rows and for many."""

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        """Answer each look-up."""

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        """Look up the view's columns for rows that have its keys and its clock."""


def open_store(address: str, root: Path) -> OnlineStore:
    """Open the store at an address: ``sqlite``, a file below `root`, or a URL of Redis.

    Nothing is connected to before the first call.
    """
    if is_remote(address):
        return RedisStore(secrets.expand(address))
    if address == "sqlite":
        return SQLiteStore(root / "online" / "features.sqlite")
    got = shown(address)
    expected = "sqlite, none, or an address of Redis"
    raise errors.RecipeError.build(
        "recipe: 'deploy.lookup'", got=got, expected=expected, hint="redis://127.0.0.1:6379/0", field="deploy.lookup"
    )


class StoreSource:
    """The latest events of each key, as published last.

    A look-up raises `StoreError` if the store cannot be reached, or the view was never published.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._events = EventCache(store)

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        """Answer each look-up, all from one state of the store."""
        pairs = [(query.view, query.view.key([query.row[key.column] for key in query.view.keys])) for query in asked]
        known = self._events.read(pairs)
        return [_answer(query, *facts_and_events) for query, facts_and_events in zip(asked, known, strict=True)]

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        features = self.rows([PointQuery(view, row) for row in rows.to_pylist()])
        schema = pa.schema(list(view.types.items()))
        columns = [pa.array([row.values.get(field.name) for row in features], field.type) for field in schema]
        return JoinedColumns(pa.table(columns, schema), Counter(row.status for row in features), features)

    def newest_us(self, views: Sequence[FeatureView]) -> int | None:
        """The latest moment that all views have reached: the earliest of their newest events."""
        states = self._store.read({view.id: () for view in views})
        newest = [state.facts["newest_us"] for state in states.values() if state.facts]
        return min((time for time in newest if time is not None), default=None)


def _answer(query: PointQuery, facts: Mapping[str, Any] | None, events: KeyEvents | None) -> PointFeatures:
    view = query.view
    if facts is None:
        got = "never published"
        hint = "`mlsys materialize` with the recipe; or send the joined columns with the request"
        expected = f"what is known of its keys ({view.id})"
        raise errors.StoreError.build(f"online store: table '{view.name}'", got=got, expected=expected, hint=hint)
    moment = query.row.get(view.clock) if view.clock else None
    moment_us = None if moment is None else micros(moment)
    since = facts["since_us"]
    if since is not None and moment_us is not None and moment_us < since:
        return PointFeatures(TOO_EARLY, None, dict.fromkeys(view.names), since)
    return _look_up(view, events, moment_us)


class TableSource:
    """Whole feature tables in memory, joined as for training; any moment can be asked for.

    `rows` has the keys and clocks of the views; `open_table` gives the table of a view at its first look-up.
    """

    def __init__(self, rows: Schema, open_table: Callable[[FeatureView], pa.Table]) -> None:
        self._schema = rows
        self._open = open_table
        self._tables: dict[str, pa.Table] = {}

    @classmethod
    def latest(cls, store: Store, rows: Schema) -> TableSource:
        """The tables that were published last; a look-up in one that never was raises `StoreError`."""
        return cls(rows, lambda view: publishing.snapshot_of(store, view).table())

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        return [self._row(query) for query in asked]

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        if view.id not in self._tables:
            table = self._open(view)
            asof.check_table(table, view.join, view.name)
            self._tables[view.id] = table
        joined, report = asof.join(rows, self._tables[view.id], view.join, view.clock, view.name)
        columns = joined.select(view.names).cast(pa.schema(list(view.types.items())))
        return JoinedColumns(columns, Counter({status: report[status] for status in ("matched", "missing", "too_old")}))

    def _row(self, query: PointQuery) -> PointFeatures:
        view = query.view
        schema = self._schema.select(view.context).arrow()
        joined = self.table(view, pa.Table.from_pylist([{name: query.row[name] for name in view.context}], schema))
        (status,) = +joined.counts
        return PointFeatures(status, None, joined.columns.to_pylist()[0])

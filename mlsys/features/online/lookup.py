"""Where rows without the columns of a feature table get them from: the store, or the whole tables.

One key, one moment: what a request gets of the events that the store has of its key.

The same rule as the join of whole tables (`mlsys.features.joins.asof`), and the same bits.
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
from mlsys.features.online.events import read_events
from mlsys.features.online.online_store import OnlineStore, StoreState, is_remote, shown
from mlsys.features.online.redis_store import RedisStore
from mlsys.features.online.sqlite_store import SQLiteStore
from mlsys.features.online.views import FeatureView, micros
from mlsys.schema import Schema
from mlsys.store import Store

__all__ = [
    "TOO_EARLY",
    "FeatureSource",
    "JoinedColumns",
    "PointFeatures",
    "PointQuery",
    "StoreSource",
    "TableSource",
    "look_up",
    "open_store",
]


@dataclass(frozen=True)
class PointFeatures:
    """What was looked up of one view for one row.

    Attributes
    ----------
    status
        ``matched``, ``missing`` (nothing known by then) or ``too_old``, as the join counts them.
    age_us
        From the event's time to the row's; also of one that is too old.
    values
        Column of the request → value; null unless matched, aggregates apart.
    since_us
        From when on the store can tell, where it cannot.
    """

    status: str
    age_us: int | None
    values: dict[str, Any]
    since_us: int | None = None


def look_up(view: FeatureView, value: bytes | None, moment_us: int | None) -> PointFeatures:
    """What is known of a key's events at a moment; no events, or no moment, is nothing."""
    if value is None or (view.clock is not None and moment_us is None):
        return _nothing(view)
    batch = read_events(view, value)
    if view.clock is None or moment_us is None:
        return PointFeatures("matched", None, _values(view, batch, 0))
    times = _integers(batch, 0)
    known = _integers(batch, 1) if view.join.known_at else times
    found = _last(view, batch, times, known, moment_us)
    if view.windows:
        found.values.update(_aggregates(view, batch, times, known, moment_us))
    return found


def _nothing(view: FeatureView) -> PointFeatures:
    values: dict[str, Any] = dict.fromkeys(view.names)
    if view.windows:
        values.update(
            window_aggregates.aggregate(
                view.windows, window_aggregates.WindowEvents((), (), _columns(view, lambda _: ())), 0
            )
        )
    return PointFeatures("missing", None, values)


def _last(view: FeatureView, batch: pa.RecordBatch, times: memoryview, known: memoryview, moment: int) -> PointFeatures:
    """The last value known by the moment, unless it is too old."""
    at = bisect_right(times, moment) - 1
    while at >= 0 and known[at] > moment:
        at -= 1
    if at < 0:
        return PointFeatures("missing", None, dict.fromkeys(view.columns))
    age = moment - times[at]
    if view.lookback_us is not None and age > view.lookback_us:
        return PointFeatures("too_old", age, dict.fromkeys(view.columns))
    return PointFeatures("matched", age, _values(view, batch, at))


def _values(view: FeatureView, batch: pa.RecordBatch, at: int) -> dict[str, Any]:
    first = batch.num_columns - len(view.stored)
    places = view.places
    return {name: batch.column(first + places[column])[at].as_py() for name, column in view.columns.items()}


def _aggregates(
    view: FeatureView, batch: pa.RecordBatch, times: memoryview, known: memoryview, moment: int
) -> dict[str, float | int | None]:
    """Only the events of the longest window are read."""
    start = bisect_left(times, moment - view.horizon_us)
    stop = bisect_right(times, moment)
    first = batch.num_columns - len(view.stored)

    def read(column: str) -> list[Any]:
        reader = view.readers[column]
        cut = batch.column(first + view.places[column]).slice(start, stop - start)
        return [reader(value) for value in cut.to_pylist()]

    events = window_aggregates.WindowEvents(times[start:stop], known[start:stop], _columns(view, read))
    return window_aggregates.aggregate(view.windows, events, moment)


def _columns(view: FeatureView, read: Callable[[str], Any]) -> dict[str, Any]:
    """What the windows read, once a column."""
    return {column: read(column) for column in {w.column: None for w in view.windows if w.column}}


def _integers(batch: pa.RecordBatch, column: int) -> memoryview:
    """An int64 column without nulls as it lies in memory."""
    values = batch.column(column)
    return memoryview(values.buffers()[1]).cast("q")[values.offset : values.offset + len(values)]


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
        Rows by status.
    found
        What was found for each row, where the source can tell.
    """

    columns: pa.Table
    counts: Counter[str]
    found: list[PointFeatures] | None = None


class FeatureSource(Protocol):
    """Two entrances with one meaning, for a few rows and for many."""

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        """What is found for each look-up."""

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        """The view's columns for rows that have its keys and its clock."""


def open_store(address: str, root: Path) -> OnlineStore:
    """The store at an address: ``sqlite``, a file below `root`, or a URL of Redis.

    Nothing is connected to before the first call.
    """
    if is_remote(address):
        return RedisStore(address)
    if address == "sqlite":
        return SQLiteStore(root / "online" / "features.sqlite")
    raise errors.RecipeError.build(
        "recipe: 'deploy.lookup'",
        got=shown(address),
        expected="sqlite, none, or an address of Redis",
        hint="redis://127.0.0.1:6379/0",
        field="deploy.lookup",
    )


class StoreSource:
    """The latest events of each key, as they were published last.

    Raises
    ------
    StoreError
        From each look-up: the store cannot be reached, or the view was never published.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        """One read for all views and keys."""
        keys = [one.view.key([one.row[key.column] for key in one.view.keys]) for one in asked]
        wanted: dict[str, set[str]] = {one.view.id: set() for one in asked}
        for one, key in zip(asked, keys, strict=True):
            if key is not None:
                wanted[one.view.id].add(key)
        states = self._store.read(wanted) if wanted else {}
        return [self._found(one, key, states[one.view.id]) for one, key in zip(asked, keys, strict=True)]

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        found = self.rows([PointQuery(view, row) for row in rows.to_pylist()])
        columns = {name: pa.array([one.values.get(name) for one in found], kind) for name, kind in view.types.items()}
        return JoinedColumns(pa.table(columns), Counter(one.status for one in found), found)

    def newest_us(self, views: Sequence[FeatureView]) -> int | None:
        """A moment at which each view knows something: the time of the newest event that all have reached."""
        states = self._store.read({view.id: () for view in views})
        newest = [state.facts["newest_us"] for state in states.values() if state.facts]
        return min((time for time in newest if time is not None), default=None)

    def _found(self, asked: PointQuery, key: str | None, state: StoreState) -> PointFeatures:
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
            return PointFeatures(TOO_EARLY, None, dict.fromkeys(view.names), since)
        return look_up(view, None if key is None else state.values.get(key), moment_us)


class TableSource:
    """Whole feature tables in memory, joined as for training; any moment can be asked for.

    Parameters
    ----------
    rows
        Schema that has the keys and clocks of the views.
    open_table
        Gives the table of a view; it is read when it is first looked up in.
    """

    def __init__(self, rows: Schema, open_table: Callable[[FeatureView], pa.Table]) -> None:
        self._schema = rows
        self._open = open_table
        self._tables: dict[str, asof.PreparedJoin] = {}

    @classmethod
    def latest(cls, store: Store, rows: Schema) -> TableSource:
        """The tables that were published last; a look-up in one that never was raises `StoreError`."""
        return cls(rows, lambda view: publishing.snapshot_of(store, view).table())

    def rows(self, asked: Sequence[PointQuery]) -> list[PointFeatures]:
        return [self._row(one) for one in asked]

    def table(self, view: FeatureView, rows: pa.Table) -> JoinedColumns:
        joined, counts = asof.match(rows, self._prepared(view), view.clock)
        columns = joined.select(view.names)
        return JoinedColumns(columns.cast(pa.schema(list(view.types.items()))), Counter(counts))

    def _prepared(self, view: FeatureView) -> asof.PreparedJoin:
        if view.id not in self._tables:
            self._tables[view.id] = asof.prepare(self._open(view), view.join, view.name)
        return self._tables[view.id]

    def _row(self, asked: PointQuery) -> PointFeatures:
        view = asked.view
        schema = self._schema.select(view.context).arrow()
        joined = self.table(view, pa.Table.from_pylist([{name: asked.row[name] for name in view.context}], schema))
        (status,) = +joined.counts
        return PointFeatures(status, None, joined.columns.to_pylist()[0])

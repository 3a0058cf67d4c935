"""An online store in one SQLite file: no server, for the replicas of one machine.

The file is in write-ahead-log mode: readers never wait for the writer and see whole transactions. SQLite's log needs
memory that all processes share, so the file must not lie on a network file system that several machines use; Redis is
for those. SQLite: "Write-Ahead Logging", https://sqlite.org/wal.html.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.features.online.online_store import Change, StoreState

FORMAT = 1
"""Version of the tables, in the file's ``user_version``; a file of another one is refused."""

PATIENCE_S = 60.0
"""Longest wait of a writer for another one."""

TABLES = f"""
CREATE TABLE views (view TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE events (view TEXT, key TEXT, newest INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (view, key));
CREATE INDEX by_age ON events (view, newest);
PRAGMA user_version = {FORMAT};
"""

VIEW_AND_KEYS = """
SELECT view, NULL, facts FROM views WHERE view = ?
UNION ALL
SELECT events.view, events.key, events.value FROM json_each(?) AS requested
CROSS JOIN events ON events.view = ? AND events.key = requested.value
"""
"""Facts and values of some keys; keys come as one JSON list, whose number SQLite does not bound.
CROSS JOIN keeps this order, so that each key is found by the index."""


FEW_KEYS = 8
"""Keys up to which each is a part of the statement: such a statement is prepared once, and plainer than a list."""


class SQLiteStore:
    """An `OnlineStore` in a SQLite file, which the first update makes.

    Each thread has a connection of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.local()

    def read(self, asked: Mapping[str, Collection[str]]) -> dict[str, StoreState]:
        if not self._path.exists():
            return {view: StoreState() for view in asked}
        with self._failures():
            return _states(self._connection(), asked)

    def read_versioned(self, asked: Mapping[str, Collection[str]]) -> tuple[object | None, dict[str, StoreState]]:
        """Read between two looks at the version; where they differ, the state gets a name that no other has."""
        before = self._version()
        if not asked:
            return before, {}
        states = self.read(asked)
        return (before if self._version() == before else object()), states

    def _version(self) -> object | None:
        """The database's own count of what other connections wrote, and that of this thread's writes."""
        if not self._path.exists():
            return None
        with self._failures():
            connection = self._connection()
            (number,) = connection.execute("PRAGMA data_version").fetchone()
        return number, connection.num_writes

    def update(self, view: str, keys: Collection[str], change: Callable[[StoreState], Change | None]) -> None:
        with self._failures(), self._writing() as connection:
            made = change(_states(connection, {view: keys})[view])
            if made is not None:
                _apply(connection, view, made)

    def views(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._failures():
            return [view for (view,) in self._connection().execute("SELECT view FROM views ORDER BY view")]

    def drop(self, view: str) -> None:
        with self._failures(), self._writing() as connection:
            for table in ("events", "views"):
                connection.execute(f"DELETE FROM {table} WHERE view = ?", (view,))  # noqa: S608 - one of two names

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is alone among writers."""
        connection = self._connection()
        connection.num_writes += 1
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connection(self) -> _Connection:
        connection: _Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = self._open()
        return connection

    def _open(self) -> _Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=PATIENCE_S, isolation_level=None, factory=_Connection, check_same_thread=False
        )
        version = _format(connection)
        if version == 0:  # new: the first of several writers makes the tables
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if _format(connection) == 0:
                for statement in TABLES.strip().split("\n"):
                    connection.execute(statement)
            connection.execute("COMMIT")
            version = _format(connection)
        if version != FORMAT:
            where = f"online store '{self._path.name}'"
            hint = f"delete {self._path} and run `mlsys materialize` with the recipe"
            raise errors.StoreError.build(where, got=f"format {version}", expected=f"format {FORMAT}", hint=hint)
        return connection

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, errors.MlsysError):
                raise
            expected = "a database that can be read and written"
            hint = f"check {self._path.parent}; `mlsys materialize` with the recipe fills a new one"
            where = f"online store '{self._path.name}'"
            raise errors.StoreError.build(where, got=str(error), expected=expected, hint=hint) from error


class _Connection(sqlite3.Connection):
    """A connection that closes itself when its thread or the store has ended, not always in that thread."""

    num_writes = 0
    """Updates that were begun, of which `data_version` says nothing: it counts those of other connections."""

    def __del__(self) -> None:
        self.close()


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _states(connection: sqlite3.Connection, asked: Mapping[str, Collection[str]]) -> dict[str, StoreState]:
    """Read all views in one statement, and so at one moment; facts have a null in place of a key."""
    if sum(map(len, asked.values())) + len(asked) <= FEW_KEYS:
        statement = _plain_statement(tuple(map(len, asked.values())))
        arguments = [word for view, keys in asked.items() for word in (view, *(w for key in keys for w in (view, key)))]
    else:
        statement = " UNION ALL ".join([VIEW_AND_KEYS] * len(asked))
        arguments = [word for view, keys in asked.items() for word in (view, json.dumps(list(keys)), view)]
    facts: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, bytes]] = {view: {} for view in asked}
    if asked:
        for view, key, value in connection.execute(statement, arguments):
            if key is None:
                facts[view] = json.loads(value)
            else:
                values[view][key] = value
    return {view: StoreState(facts.get(view), values[view]) for view in asked}


@functools.lru_cache(maxsize=64)
def _plain_statement(num_keys: tuple[int, ...]) -> str:
    """A statement that reads the facts of some views and so many keys of each, one by one."""
    facts = "SELECT view, NULL, facts FROM views WHERE view = ?"
    value = "SELECT view, key, value FROM events WHERE view = ? AND key = ?"
    return " UNION ALL ".join(part for number in num_keys for part in (facts, *[value] * number))


def _apply(connection: sqlite3.Connection, view: str, change: Change) -> None:
    if change.whole:
        connection.execute("DELETE FROM events WHERE view = ?", (view,))
    rows = ((view, key, newest, value) for key, (newest, value) in change.put.items())
    connection.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)", rows)
    if change.expire_before is not None:
        connection.execute("DELETE FROM events WHERE view = ? AND newest < ?", (view, change.expire_before))
    connection.execute("INSERT OR REPLACE INTO views VALUES (?, ?)", (view, json.dumps(change.facts)))

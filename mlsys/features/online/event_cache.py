"""Keep the events of the keys that were asked for last, decoded, while nothing is written to their store.

A look-up of a key that was asked for before needs neither a statement nor Arrow's columns; the store is asked for its
version alone. What is answered is one state of the store, as without the cache: what is remembered belongs to one
version of it, and what is read in addition is used with it if it is of the same version.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mlsys.features.online.events import read_events
from mlsys.features.online.online_store import OnlineStore, StoreState
from mlsys.features.online.views import FeatureView

MAX_KEYS, MAX_BYTES = 50_000, 1 << 26
"""Keys that a thread remembers, and bytes of their events as stored; those that were not asked for longest go first."""

MAX_PAIRS = 1_000
"""Look-ups at once up to which they are remembered: a file's rows would push out those of requests."""

MAX_WINDOWS = 16
"""Stretches of a column that are kept decoded for each key: those of successive moments are mostly the same."""


class KeyEvents:
    """The events of one key, in order of time; a value is decoded when it is asked for, once."""

    def __init__(self, view: FeatureView, value: bytes) -> None:
        self.num_bytes = len(value)
        self._view = view
        self._batch = read_events(view, value)
        self._first = self._batch.num_columns - len(view.stored)
        self._values: dict[int, dict[str, Any]] = {}
        self._windows: dict[tuple[str, int, int], list[Any]] = {}
        if view.clock is not None:
            self.times = _integers(self._batch, 0)
            self.known = _integers(self._batch, 1) if view.join.known_at else self.times

    def values(self, event: int) -> dict[str, Any]:
        """Columns of the view at an event, in a dict that is the caller's."""
        known = self._values.get(event)
        if known is None:
            known = {name: self._column(column)[event].as_py() for name, column in self._view.columns.items()}
            self._values[event] = known
        return dict(known)

    def window(self, column: str, start: int, stop: int) -> list[Any]:
        """Values of a column that windows aggregate, from one event to before another."""
        place = (column, start, stop)
        known = self._windows.get(place)
        if known is None:
            if len(self._windows) == MAX_WINDOWS:
                self._windows.clear()
            read = self._view.readers[column]
            cut = self._column(column).slice(start, stop - start)
            known = self._windows[place] = [read(value) for value in cut.to_pylist()]
        return known

    def _column(self, name: str) -> pa.Array:
        return self._batch.column(self._first + self._view.places[name])


def _integers(batch: pa.RecordBatch, column: int) -> memoryview:
    """View the memory of an int64 column without nulls."""
    values = batch.column(column)
    return memoryview(values.buffers()[1]).cast("q")[values.offset : values.offset + len(values)]


Pair = tuple[FeatureView, str | None]
"""A look-up: a view, and the key as the store writes it, or None for a row whose key is null."""

Known = tuple[dict[str, Any] | None, KeyEvents | None]
"""The answer: facts of the view, None if it was never published, and events of the key if there are any."""


class _Remembered:
    """Facts and events of one version of a store; those of keys that it does not have are None."""

    def __init__(self) -> None:
        self.version: object = None
        self._facts: dict[str, dict[str, Any] | None] = {}
        self._events: OrderedDict[tuple[str, str], KeyEvents | None] = OrderedDict()
        self._num_bytes = 0

    def become(self, version: object) -> None:
        """Forget everything if this is another version."""
        if version != self.version:
            self.forget()
            self.version = version

    def forget(self) -> None:
        self._facts.clear()
        self._events.clear()
        self.version, self._num_bytes = None, 0

    def missing(self, pairs: Sequence[Pair]) -> dict[str, set[str]]:
        missing: dict[str, set[str]] = {}
        for view, key in pairs:
            if key is not None and (view.id, key) not in self._events:
                missing.setdefault(view.id, set()).add(key)
            elif view.id not in self._facts:
                missing.setdefault(view.id, set())
        return missing

    def add(self, states: Mapping[str, StoreState], keys: Mapping[str, set[str]], views: Sequence[Pair]) -> None:
        of = {view.id: view for view, _ in views}
        for name, state in states.items():
            self._facts[name] = state.facts
            for key in keys[name]:
                value = state.values.get(key)
                self._events[name, key] = None if value is None else KeyEvents(of[name], value)
                self._num_bytes += 0 if value is None else len(value)

    def answers(self, pairs: Sequence[Pair]) -> list[Known]:
        answers: list[Known] = []
        for view, key in pairs:
            events = None
            if key is not None:
                self._events.move_to_end((view.id, key))
                events = self._events[view.id, key]
            answers.append((self._facts[view.id], events))
        return answers

    def shrink(self) -> None:
        """Forget the keys that were not asked for longest, until the others keep the bounds."""
        while len(self._events) > MAX_KEYS or self._num_bytes > MAX_BYTES:
            _, events = self._events.popitem(last=False)
            self._num_bytes -= 0 if events is None else events.num_bytes


class EventCache:
    """Reads facts and events of a store, and remembers them for each thread while the store stays as it is."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._threads = threading.local()

    def read(self, pairs: Sequence[Pair]) -> list[Known]:
        """Answer each look-up; all answers are of one state of the store."""
        if len(pairs) > MAX_PAIRS:
            return self._read_all(pairs)
        remembered = self._remembered()
        missing = remembered.missing(pairs)
        version, states = self._store.read_versioned(missing)
        if version != remembered.version:  # somebody wrote since, and nothing that is remembered may answer
            remembered.become(version)
            every = remembered.missing(pairs)
            if every != missing:
                missing = every
                version, states = self._store.read_versioned(missing)
                remembered.become(version)
        remembered.add(states, missing, pairs)
        answers = remembered.answers(pairs)
        remembered.shrink()
        if version is None:
            remembered.forget()
        return answers

    def _remembered(self) -> _Remembered:
        remembered: _Remembered | None = getattr(self._threads, "remembered", None)
        if remembered is None:
            remembered = self._threads.remembered = _Remembered()
        return remembered

    def _read_all(self, pairs: Sequence[Pair]) -> list[Known]:
        once = _Remembered()
        asked = once.missing(pairs)
        if asked:
            once.add(self._store.read(asked), asked, pairs)
        return once.answers(pairs)

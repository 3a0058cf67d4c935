"""Publish feature tables to the online store, for `deploy` and `mlsys materialize`; whole or not at all.

The store keeps, written with the events at once, a record of the files that they are from. Where a table still begins
with these files, only the files behind them are read and their events added: the store answers as if all had been read
again. A file that changed, went, or came between means that all are read. So does an event of the future, and a table
without time, in which a key may stand only once.

Beside the store of latest values, ``<root>/online/<view>.json`` names the snapshot that was
published last: all of the table's rows, for work on many rows at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from mlsys import errors
from mlsys.dataset import Snapshot
from mlsys.features.online import events
from mlsys.features.online.online_store import Change, OnlineStore, StoreState
from mlsys.features.online.views import FeatureView, instant, micros
from mlsys.recipe.columns import span_us
from mlsys.recipe.forecast import PAST
from mlsys.store import Store, digest_json, read_json, write_json


class _OvertakenError(Exception):
    """Another writer came first: the store holds other files than it did."""


@dataclass(frozen=True)
class Published:
    """The result of publishing a table.

    Attributes
    ----------
    num_keys
        Number of keys whose events changed.
    newest_us
        Time of the newest event, in microseconds since 1970.
    """

    view: str
    num_keys: int
    newest_us: int | None
    num_files: int = 0

    @property
    def summary(self) -> str:
        name = self.view.split("/")[1]
        until = "" if self.newest_us is None else f", known until {instant(self.newest_us).isoformat()}"
        return f"{name}: {self.num_keys:,} keys changed{until}"


def publish_snapshot(
    online: OnlineStore,
    view: FeatureView,
    snapshot: Snapshot,
    *,
    history: str,
    until: dt.datetime,
    digest: str,
    whole: bool,
) -> Published:
    """Publish a stored table as `publish` does, but read only the files that the store lacks, if that is enough."""
    files = snapshot.digests()
    facts = online.read({view.id: ()})[view.id].facts or {}
    stored = "" if whole or view.clock is None else str(facts.get("taken", ""))
    first = int(stored.partition(" ")[0] or 0)
    if not stored or stored != _record(files[:first]):
        stored, first = "", 0
    settings: dict[str, Any] = {"history": history, "until": until, "digest": digest, "whole": whole}
    try:
        table = snapshot.table(first=first)
        published = publish(online, view, table, stored_files=stored, files=_record(files), **settings)
    except _OvertakenError:
        return publish_snapshot(online, view, snapshot, **settings)
    return replace(published, num_files=len(files) - first)


def _record(files: Sequence[str]) -> str:
    """Record files in one short word, however many they are: each look-up reads it."""
    return f"{len(files)} {digest_json(list(files))[:32]}"


def publish(
    online: OnlineStore,
    view: FeatureView,
    table: pa.Table,
    *,
    history: str,
    until: dt.datetime,
    digest: str = "",
    whole: bool = False,
    stored_files: str = "",
    files: str = "",
) -> Published:
    """Bring the events of a feature table into the store.

    Parameters
    ----------
    history
        Length of the time before the newest event in which moments can be looked up, e.g. ``1d``.
    until
        The moment of publication; later events are stored and do not count as the newest.
    digest
        Digest of the table, if it is to be remembered; see `holds_table`.
    whole
        The view shall hold this table and nothing else.
    stored_files
        Record of the files that the store holds, if the table is what comes behind them; see `publish_snapshot`.
    files
        Record of the files that it holds afterwards.

    Raises
    ------
    ContractError
        A column is of another type than when the model was trained.
    FeatureError
        A key stands twice in a table without time.
    StoreError
        The store cannot be written; what was there stays.
    """
    # 1. Arrange the events, which may refuse the table.
    arranged = events.arrange(view, table)
    span = span_us(history)
    published = Published(view.id, 0, None)

    def merge(state: StoreState) -> Change | None:
        nonlocal published
        if stored_files and (state.facts or {}).get("taken") != stored_files:
            raise _OvertakenError
        change = events.merge(
            view, state, arranged, history_us=span, until_us=micros(until),
            whole=whole, appended=bool(stored_files), table=digest, files=files,
        )  # fmt: skip
        facts = change.facts if change else state.facts or {}
        published = Published(view.id, len(change.put) if change else 0, facts.get("newest_us"))
        return change

    # 2. Merge them with the stored ones in one update, again if another writer came first.
    online.update(view.id, events.keys_of(arranged), merge)
    return published


def holds_table(online: OnlineStore, view: FeatureView, digest: str) -> bool:
    """True if the table remembered last is this one; others, not remembered, may have come since."""
    facts = online.read({view.id: ()})[view.id].facts
    return facts is not None and digest == facts["table"]


def record_snapshot(store: Store, view: FeatureView, snapshot: Snapshot) -> None:
    """Remember the snapshot of a feature table as the latest."""
    write_json(store.root / "online" / f"{view.id}.json", {"snapshot": snapshot.digest})


def remember_past(store: Store, views: Sequence[FeatureView], tables: Mapping[str, str]) -> None:
    """Have predictions without an endpoint find the past of a forecast's series, unless a newer one was published.

    `tables` are the digests of the snapshots by the name of their view.
    """
    for view in views:
        if view.join.source == PAST and not (store.root / "online" / f"{view.id}.json").is_file():
            record_snapshot(store, view, Snapshot.open(store, tables[view.name]))


def snapshot_of(store: Store, view: FeatureView) -> Snapshot:
    """Open the latest snapshot of a view's table; `StoreError` if none was published, or it is gone from the store."""
    path = store.root / "online" / f"{view.id}.json"
    if not path.is_file():
        expected = f"the table as of which rows are joined ({view.id})"
        hint = "`mlsys materialize` with the recipe; or send the joined columns with the rows"
        got = "never published"
        raise errors.StoreError.build(f"features: table '{view.name}'", got=got, expected=expected, hint=hint)
    return Snapshot.open(store, str(read_json(path)["snapshot"]))

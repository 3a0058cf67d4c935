"""Feature tables into the online store: by `deploy`, by `mlsys materialize`; whole or not at all.

Beside the store of latest values, ``<root>/online/<view>.json`` names the snapshot that was
published last: all of the table's rows, for work on many rows at once.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pyarrow as pa

from mlsys import errors
from mlsys.dataset import Snapshot
from mlsys.features.online import events
from mlsys.features.online.stores import Change, OnlineStore, State
from mlsys.features.online.views import View, instant, micros
from mlsys.features.spans import span_us
from mlsys.store import Store, read_json, write_json

__all__ = ["Published", "knows", "note", "publish", "snapshot_of"]


@dataclass(frozen=True)
class Published:
    """What came of a table.

    Attributes
    ----------
    num_keys
        Keys whose events changed.
    newest_us
        Time of the newest event, in microseconds since 1970.
    """

    view: str
    num_keys: int
    newest_us: int | None

    @property
    def summary(self) -> str:
        name = self.view.split("/")[1]
        until = "" if self.newest_us is None else f", known until {instant(self.newest_us).isoformat()}"
        return f"{name}: {self.num_keys:,} keys changed{until}"


def publish(
    online: OnlineStore,
    view: View,
    table: pa.Table,
    *,
    history: str,
    until: dt.datetime,
    digest: str = "",
    whole: bool = False,
) -> Published:
    """Bring the events of a feature table into the store.

    Parameters
    ----------
    history
        How far before the newest event moments can be looked up, e.g. ``1d``.
    until
        The moment of publication; later events are stored and do not count as the newest.
    digest
        Of the table, if it is to be remembered; see `knows`.
    whole
        The view shall hold this table and nothing else.

    Raises
    ------
    ContractError
        A column is of another type than when the model was trained.
    FeatureError
        A key stands twice in a table without time.
    StoreError
        The store cannot be written; what was there stays.
    """
    arranged = events.arrange(view, table)
    span = span_us(history, "recipe: 'deploy.history'")
    done = Published(view.id, 0, None)

    def change(state: State) -> Change | None:
        nonlocal done
        made = events.merge(
            view, state, arranged, history_us=span, until_us=micros(until), whole=whole, table=digest
        )  # fmt: skip
        facts = made.facts if made else state.facts or {}
        done = Published(view.id, len(made.put) if made else 0, facts.get("newest_us"))
        return made

    online.update(view.id, events.keys_of(arranged), change)
    return done


def knows(online: OnlineStore, view: View, digest: str) -> bool:
    """Whether the table remembered last is this one; others, not remembered, may have come since."""
    facts = online.read({view.id: ()})[view.id].facts
    return facts is not None and digest == facts["table"]


def note(store: Store, view: View, snapshot: Snapshot) -> None:
    """Remember which snapshot of a feature table is the latest."""
    write_json(store.root / "online" / f"{view.id}.json", {"snapshot": snapshot.digest})


def snapshot_of(store: Store, view: View) -> Snapshot:
    """The latest snapshot of a view's table.

    Raises
    ------
    StoreError
        None was ever published, or it is no longer in the store.
    """
    path = store.root / "online" / f"{view.id}.json"
    if not path.is_file():
        raise errors.StoreError.build(
            f"features: table '{view.name}'",
            got="never published",
            expected=f"the table as of which rows are joined ({view.id})",
            hint="`mlsys materialize` with the recipe; or send the joined columns with the rows",
        )
    return Snapshot.open(store, str(read_json(path)["snapshot"]))

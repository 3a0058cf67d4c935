"""The identity of a batch prediction: the same run is one of the same model on the same rows in the same way.

A run is known by a digest of all that its rows depend on, so that a call which was interrupted, and a call that is
repeated though the first one ended well, are told from a new one without a column of ids. A source that does not say
whether its rows changed, a database server, makes each call a run of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlsys
from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.features.online import publishing
from mlsys.readers.base import Fragment
from mlsys.recipe import ReadOptions
from mlsys.registry import LedgerEntry
from mlsys.store import Store, digest_json

MARK_DIGITS = 8
"""Digits of a digest that name a staging folder."""


@dataclass(frozen=True)
class BatchRun:
    """One run, in all of its attempts.

    Attributes
    ----------
    id
        A name in the output: a letter and 15 hexadecimal digits, or what the caller chose.
    mark
        Digits that name the staging folder of the run.
    key
        Digest of all that the rows depend on.
    fragments
        The key of each fragment: what it is and when it changed last.
    predicted_at
        The beginning of the first attempt, in UTC.
    """

    id: str
    mark: str
    key: str
    fragments: tuple[str, ...]
    predicted_at: dt.datetime

    @property
    def plan(self) -> dict[str, Any]:
        """The run as the staging folder notes it."""
        return {"run": self.id, "predicted_at": self.predicted_at.isoformat(), "fragments": list(self.fragments)}

    def begun(self, plan: Mapping[str, Any]) -> BatchRun:
        """The run as its first attempt noted it."""
        return replace(self, predicted_at=dt.datetime.fromisoformat(plan["predicted_at"]))


def of(
    store: Store,
    opened: Bundle,
    entry: LedgerEntry,
    keys: Sequence[str],
    options: ReadOptions,
    fragments: Sequence[Fragment],
    run_id: str | None = None,
    *,
    explain: int = 0,
) -> BatchRun:
    """The run that predicts these fragments with this version, read in this way."""
    distinct = {(each.location, each.files): each for each in fragments}  # the parts of a file are one file
    times = {key: each.changed() for key, each in distinct.items()}
    own = [_fragment_key(each, times[each.location, each.files]) for each in fragments]
    how = {
        "mlsys": mlsys.__version__,
        "model": [entry.name, entry.version, entry.digest],
        "keys": list(keys),
        "options": options.model_dump(mode="json"),
        "tables": _tables(store, opened),
        **({"explain": explain} if explain else {}),
    }
    digests = tuple(digest_json([how, each]) for each in own)
    digest = digest_json(digests)
    own_id = run_id or f"r{digest[:15]}"
    key = digest_json([own_id, digest])
    return BatchRun(own_id, key[:MARK_DIGITS], key, digests, dt.datetime.now(dt.UTC))


def _fragment_key(fragment: Fragment, changed: str) -> list[Any]:
    where = [fragment.name, fragment.location, fragment.member, fragment.format, fragment.num_bytes]
    return [*where, fragment.version, list(fragment.row_groups), fragment.first_row, changed]


def _tables(store: Store, opened: Bundle) -> list[str | None]:
    """The snapshots of the feature tables in which a model looks columns up; None where none was published."""
    digests: list[str | None] = []
    for view in opened.views:
        try:
            digests.append(publishing.snapshot_of(store, view).digest)
        except errors.StoreError:
            digests.append(None)
    return digests

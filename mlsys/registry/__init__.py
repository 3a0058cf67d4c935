"""Names, versions and aliases of bundles, with MLflow behind it and a ledger in front.

A *version* of a name points at a bundle by its digest. An *alias* such as ``champion``
points at a version; moving one is what puts a model into service. Two records are kept:

``registry/ledger.jsonl``
    Every registration and every alias move, one JSON line each, only ever appended and
    synced. It decides: :func:`resolve` and :func:`rollback` read nothing else, so a replica
    finds its model without importing MLflow.
MLflow
    Runs with parameters, metrics and reports, registered models, versions and aliases for
    people and other tools: in ``registry/mlflow.db``, or on the server that
    ``MLFLOW_TRACKING_URI`` names. Aliases moved there by hand are not followed.

Writers on one store take turns by a file lock, so two runs never get one version number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.registry import ledger
from mlsys.registry.ledger import LedgerEntry, Move
from mlsys.store import Store

__all__ = ["LedgerEntry", "Move", "history", "register", "resolve", "rollback", "set_alias", "versions"]

MIN_DIGEST = 8
"""Hexadecimal digits that are taken for a digest rather than for a version or an alias."""


def register(
    store: Store,
    name: str,
    bundle: Bundle,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    reports: Sequence[Path] = (),
) -> int:
    """Make the bundle a version of `name` and return its number, counted from 1.

    A bundle that is registered under this name keeps its version, and nothing is written. The metrics (names as
    MLflow allows them), tags and report files are logged with the run, the tags with the version too.

    Raises
    ------
    RegistryError
        MLflow's server cannot be reached or refuses.
    """
    with ledger.locked(store):
        for entry in versions(store, name):
            if entry.digest == bundle.digest:
                return entry.version
        number = ledger.add_version(store, name, bundle, metrics=metrics or {}, tags=tags or {}, reports=reports)
        ledger.append(store, Move("register", _now(), name, number, bundle.digest))
    return number


def set_alias(store: Store, name: str, alias: str, version: int, reason: str) -> LedgerEntry:
    """Point the alias at a version; pointing it where it points is no move.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    with ledger.locked(store):
        entry = resolve(store, name, version)
        if _now_served(store, name, alias) != entry:
            _move(store, "move", alias, entry, reason)
    return entry


def rollback(store: Store, name: str, alias: str, reason: str = "rollback") -> LedgerEntry:
    """Point the alias at what it pointed at before; again, and it goes one further back.

    Raises
    ------
    RegistryError
        The alias never pointed at anything else.
    """
    with ledger.locked(store):
        stack = _stack(history(store, name, alias))
        if len(stack) < 2:
            where = f"registry: alias '{alias}' of '{name}'"
            got = f"{len(stack)} version in its history"
            hint = "`mlsys deploy RECIPE` moves it to the version that a recipe makes"
            raise errors.RegistryError.build(where, got=got, expected="an earlier one to go back to", hint=hint)
        _move(store, "rollback", alias, stack[-2], reason)
    return stack[-2]


def resolve(store: Store, name: str, which: str | int = "champion") -> LedgerEntry:
    """The version that an alias, a version number or a digest (or its first digits) means.

    Raises
    ------
    RegistryError
        There is none.
    """
    entries = versions(store, name)
    if not entries:
        known = {move.name for move in ledger.read(store)}
        raise errors.RegistryError.build(
            f"registry: model '{name}'", got="no version", expected="a registered model",
            hint=errors.did_you_mean(name, known) if known else "`mlsys deploy` with a recipe registers one",
        )  # fmt: skip
    served = _now_served(store, name, str(which))
    if served is not None:
        return served
    text = str(which)
    for entry in entries:
        if text == str(entry.version) or (len(text) >= MIN_DIGEST and entry.digest.startswith(text)):
            return entry
    known = {move.alias for move in history(store, name) if move.alias} | {str(entry.version) for entry in entries}
    where = f"registry: model '{name}'"
    expected = "an alias, a version or a digest"
    raise errors.RegistryError.build(where, got=text, expected=expected, hint=errors.did_you_mean(text, known))


def versions(store: Store, name: str) -> list[LedgerEntry]:
    """All versions of a name, oldest first."""
    return [move.entry for move in ledger.read(store) if move.kind == "register" and move.name == name]


def history(store: Store, name: str, alias: str | None = None) -> list[Move]:
    """Moves of one alias, or of all aliases of a name, oldest first."""
    return [move for move in ledger.read(store) if move.alias and move.name == name and alias in (None, move.alias)]


def _now_served(store: Store, name: str, alias: str) -> LedgerEntry | None:
    moves = history(store, name, alias)
    return moves[-1].entry if moves else None


def _stack(moves: Sequence[Move]) -> list[LedgerEntry]:
    """The versions to which the alias was moved, without the moves that were taken back."""
    stack: list[LedgerEntry] = []
    for move in moves:
        if move.kind == "rollback":
            stack.pop()
        else:
            stack.append(move.entry)
    return stack


def _move(store: Store, kind: Literal["move", "rollback"], alias: str, entry: LedgerEntry, reason: str) -> None:
    """Move the alias in MLflow, then in the ledger: at that moment the move takes effect."""
    ledger.set_alias(store, alias, entry)
    ledger.append(store, Move(kind, _now(), *entry, alias, reason))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)

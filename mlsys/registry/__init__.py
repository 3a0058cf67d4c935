"""Names, versions and aliases of bundles: a ledger that decides, and MLflow as its mirror.

A *version* of a name points at a bundle by its digest. An *alias* such as ``champion``
points at a version; moving one is what puts a model into service. Two records are kept:

``registry/ledger.jsonl``
    Everything that happened to a name, one JSON line each (`mlsys.registry.ledger`). It decides: it numbers the
    versions, and `resolve` and `rollback` read nothing else, so a replica finds its model without importing MLflow.
MLflow
    Registered models, versions and aliases for people and other tools, written from the ledger afterwards
    (`mlsys.registry.mlflow_mirror`). Aliases moved there by hand are not followed.

Whoever changes a name holds its lock (`locked`); the endpoint and the alias are moved under it, in the order of
`mlsys.deploy.rollout`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlsys import errors, locks
from mlsys.bundle import Bundle
from mlsys.recipe import names
from mlsys.registry import ledger
from mlsys.registry.ledger import LedgerEntry, Move
from mlsys.reports.formats import count
from mlsys.store import Store

__all__ = [
    "LedgerEntry",
    "Move",
    "before",
    "configure",
    "existing",
    "history",
    "intend",
    "lock_file",
    "locked",
    "meant",
    "model_names",
    "register",
    "resolve",
    "rollback",
    "rolled_back",
    "served_at",
    "set_alias",
    "settings",
    "settle",
    "stack",
    "unfinished",
    "versions",
    "withdraw",
]

MIN_DIGEST = 8
"""Hexadecimal digits that are taken for a digest rather than for a version or an alias."""


def lock_file(store: Store, name: str) -> Path:
    """The lock of a name."""
    return store.root / "registry" / "locks" / name


@contextlib.contextmanager
def locked(
    store: Store, name: str, purpose: str = "a change", tell: Callable[[str], None] = locks.to_stderr
) -> Iterator[None]:
    """Hold the lock of a name: aliases and endpoint of a name change under it alone."""
    what = f"{purpose} of '{name}'"
    with (
        locks.hold(lock_file(store, name), what, tell),
        locks.hold(store.deletion_lock, what, tell, is_shared=True),
    ):
        yield


def register(
    store: Store,
    name: str,
    bundle: Bundle,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    reports: Sequence[Path] = (),
    facts: Mapping[str, Any] | None = None,
) -> int:
    """Make the bundle a version of `name` and return its number, counted from 1.

    A bundle that is registered under this name keeps its version, and nothing is written.

    Parameters
    ----------
    metrics, tags, reports
        Metrics (names as MLflow allows them), tags and report files, which the mirror in MLflow shows, too.
    facts
        Further JSON values of the version.

    Raises
    ------
    RegistryError
        No model may have the name.
    """
    _check("name", name, names.model_name)
    with locked(store, name, "registering"), ledger.locked(store):
        entries = versions(store, name)
        for entry in entries:
            if entry.digest == bundle.digest:
                return entry.version
        number = max((entry.version for entry in entries), default=0) + 1
        own = {"metrics": dict(metrics or {}), "tags": dict(tags or {}), "reports": _in_store(store, reports)}
        own |= {"family": bundle.family, "params": bundle.params, **(facts or {})}
        ledger.write(store, "register", LedgerEntry(name, number, bundle.digest), facts=own)
    return number


def set_alias(store: Store, name: str, alias: str, version: int, reason: str) -> LedgerEntry:
    """Point the alias at a version; pointing it where it points is no move. It changes no endpoint.

    Raises
    ------
    RegistryError
        There is no such version, or no alias may have the name.
    """
    with locked(store, name, "moving an alias"):
        entry = resolve(store, name, version)
        if meant(store, name, alias) != entry:
            settle(store, intend(store, entry, alias, reason=reason))
    return entry


def rollback(store: Store, name: str, alias: str, reason: str = "rollback") -> LedgerEntry:
    """Point the alias at what it pointed at before; again, and it goes one further back. It changes no endpoint.

    Raises
    ------
    RegistryError
        The alias never pointed at anything else.
    """
    with locked(store, name, "rollback"):
        entry = before(store, name, alias)
        settle(store, intend(store, entry, alias, reason=reason, then="rollback"))
    return entry


def before(store: Store, name: str, alias: str) -> LedgerEntry:
    """The version to which a rollback of the alias goes.

    Raises
    ------
    RegistryError
        There is none.
    """
    earlier = stack(store, name, alias)
    if len(earlier) < 2:
        where = f"registry: alias '{alias}' of '{name}'"
        got = f"{count(len(earlier), 'version')} in its history"
        hint = f"`mlsys models {name}` lists versions, `mlsys promote {name}@VERSION` moves the alias to one"
        raise errors.RegistryError.build(where, got=got, expected="an earlier one to go back to", hint=hint)
    return earlier[-2]


def existing(store: Store, name: str) -> list[LedgerEntry]:
    """The versions of a name that has some, oldest first.

    Raises
    ------
    RegistryError
        It has none.
    """
    entries = versions(store, name)
    if not entries:
        known = model_names(store)
        raise errors.RegistryError.build(
            f"registry: model '{name}'", got="no version", expected="a registered model",
            hint=errors.did_you_mean(name, known) if known else "`mlsys deploy` with a recipe registers one",
        )  # fmt: skip
    return entries


def stack(store: Store, name: str, alias: str) -> list[LedgerEntry]:
    """The versions to which the alias was moved, the present one last, without the moves that were taken back."""
    entries: list[LedgerEntry] = []
    for move in history(store, name, alias):
        if move.kind == "rollback":
            entries.pop()
        else:
            entries.append(move.entry)
    return entries


def resolve(store: Store, name: str, which: str | int = "champion") -> LedgerEntry:
    """The version that a version number, a digest (or its first digits) or an alias means.

    Raises
    ------
    RegistryError
        There is none.
    """
    entries = existing(store, name)
    text = str(which)
    for entry in entries:
        if text == str(entry.version) or (len(text) >= MIN_DIGEST and entry.digest.startswith(text)):
            return entry
    pointed = meant(store, name, text)
    if pointed is not None:
        return pointed
    aliases = {move.alias for move in history(store, name) if move.alias} | {str(entry.version) for entry in entries}
    where = f"registry: model '{name}'"
    expected = "an alias, a version or a digest"
    raise errors.RegistryError.build(where, got=text, expected=expected, hint=errors.did_you_mean(text, aliases))


def model_names(store: Store) -> list[str]:
    """Names with a version, sorted."""
    return sorted({move.name for move in ledger.read(store) if move.kind == "register"})


def versions(store: Store, name: str) -> list[LedgerEntry]:
    """All versions of a name, oldest first."""
    return [move.entry for move in ledger.read(store) if move.kind == "register" and move.name == name]


def history(store: Store, name: str, alias: str | None = None) -> list[Move]:
    """Moves of one alias, or of all aliases of a name, oldest first."""
    moves = [move for move in ledger.read(store) if move.kind in ("move", "rollback") and move.name == name]
    return [move for move in moves if alias in (None, move.alias)]


def meant(store: Store, name: str, alias: str) -> LedgerEntry | None:
    """The version that the alias means now, or None."""
    moves = history(store, name, alias)
    return moves[-1].entry if moves else None


def configure(store: Store, entry: LedgerEntry, sections: Mapping[str, Any]) -> None:
    """Note sections of the recipe, as JSON, with which the name is served and watched where there is no recipe.

    The caller holds the name's lock. Nothing is written where they are those of the last time.
    """
    if dict(sections) != settings(store, entry.name):
        ledger.write(store, "settings", entry, facts={"settings": dict(sections)})


def settings(store: Store, name: str) -> dict[str, Any]:
    """The sections of the recipe that `configure` noted last; empty if it never did."""
    lines = [move for move in ledger.read(store) if move.kind == "settings" and move.name == name]
    return dict(lines[-1].facts["settings"]) if lines else {}


def served_at(store: Store, name: str) -> Move | None:
    """The line that says where an endpoint of the name was last brought up, unless it was ended since."""
    lines = [m for m in ledger.read(store) if m.name == name and (m.kind == "undeploy" or m.facts.get("url"))]
    return lines[-1] if lines and lines[-1].kind != "undeploy" else None


def rolled_back(store: Store, name: str, alias: str, digest: str) -> Move | None:
    """The rollback that took this bundle out of service, unless a move put it back since."""
    taken: dict[str, Move] = {}
    pointed: LedgerEntry | None = None
    for move in history(store, name, alias):
        if move.kind == "rollback" and pointed is not None:
            taken[pointed.digest] = move
        taken.pop(move.digest, None)
        pointed = move.entry
    return taken.get(digest)


def intend(
    store: Store,
    entry: LedgerEntry,
    alias: str,
    *,
    reason: str = "",
    then: Literal["move", "rollback", "served"] = "move",
    facts: Mapping[str, Any] | None = None,
) -> Move:
    """Write that the alias is about to mean a version, before anything changes; the caller holds the name's lock.

    `settle` or `withdraw` ends what was begun; a crash in between leaves it to `unfinished`.

    Raises
    ------
    RegistryError
        No alias may have the name.
    """
    _check("alias", alias, names.alias)
    return ledger.write(store, "deploying", entry, alias, reason=reason, facts={"then": then, **(facts or {})})


def settle(store: Store, intent: Move, **facts: Any) -> Move:
    """Write that what was intended is done: at this moment the alias moves. `facts` say where it is served."""
    return ledger.write(store, intent.facts["then"], intent.entry, intent.alias, reason=intent.reason, facts=facts)


def withdraw(store: Store, intent: Move, reason: str) -> Move:
    """Write that what was intended is not done, and why: the alias stays where it was."""
    return ledger.write(store, "withdrawn", intent.entry, intent.alias, reason=reason)


def unfinished(store: Store, name: str) -> Move | None:
    """The intent that was neither settled nor withdrawn: its process died, or is at work now if the lock is held."""
    passing = ("register", "settings", "canary", "widened", "promoted", "taken_back", "maintained")
    lines = [move for move in ledger.read(store) if move.name == name and move.kind not in passing]
    return lines[-1] if lines and lines[-1].kind == "deploying" else None


def _check(what: str, text: str, rule: Callable[[str], str]) -> None:
    try:
        rule(text)
    except ValueError as error:
        where = f"registry: {what} '{text}'"
        raise errors.RegistryError.build(where, got=text, expected=str(error), field=text) from None


def _in_store(store: Store, files: Sequence[Path]) -> list[str]:
    """Paths of files, below the store's root where they lie there: the folder of a store may be moved."""
    paths = [file.absolute() for file in files]
    return [(path.relative_to(store.root) if path.is_relative_to(store.root) else path).as_posix() for path in paths]

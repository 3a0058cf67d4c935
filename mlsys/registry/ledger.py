"""The ledger: every registration and every alias move, one JSON line each, only ever appended and synced."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mlsys import errors
from mlsys.store import Store, storage_error


class LedgerEntry(NamedTuple):
    """A registered model: its name, version number and bundle digest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Move:
    """One line of the ledger, `at` a time in UTC.

    With ``register`` the version was made, with ``move`` the alias was set to it, with ``rollback`` it went back to it.
    """

    kind: Literal["register", "move", "rollback"]
    at: dt.datetime
    name: str
    version: int
    digest: str
    alias: str | None = None
    reason: str = ""

    @property
    def entry(self) -> LedgerEntry:
        return LedgerEntry(self.name, self.version, self.digest)


def _file(store: Store) -> Path:
    return store.root / "registry" / "ledger.jsonl"


def read(store: Store) -> list[Move]:
    """Read every whole line; a last line without its end is a write that a crash cut off."""
    try:
        text = _file(store).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    *whole, _torn = text.split("\n")
    return [_move(line, number) for number, line in enumerate(whole, 1)]


def _move(line: str, number: int) -> Move:
    try:
        fields = json.loads(line)
        return Move(**{**fields, "at": dt.datetime.fromisoformat(fields["at"])})
    except (ValueError, TypeError, KeyError) as error:
        raise errors.RegistryError.build(
            f"registry: line {number} of ledger.jsonl",
            got=str(error),
            expected="one move as JSON",
            hint="restore the file from a backup",
        ) from None


def append(store: Store, move: Move) -> None:
    """Add a line and sync it; the caller holds the lock.

    Raises
    ------
    StoreError
        The disk is full or the file cannot be written.
    """
    file = _file(store)
    fields = {**move.__dict__, "at": move.at.isoformat()}
    try:
        with file.open("ab+") as opened:
            opened.seek(0)
            opened.truncate(opened.read().rfind(b"\n") + 1)  # a line that a crash cut off goes
            opened.write((json.dumps(fields, ensure_ascii=False) + "\n").encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise storage_error(file, error) from error


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Let one writer in at a time; the lock ends with the process that holds it."""
    folder = store.root / "registry"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise storage_error(folder, error) from error

"""The ledger: one JSON line for everything that happened to a name, only ever appended, and synced.

==============  =================================================================================
kind            meaning
==============  =================================================================================
``register``    a bundle became a version, numbered here; with metrics, reports and settings
``settings``    sections of the recipe with which the name is served and watched from now on
``deploying``   an endpoint or alias is about to change; a later line of the same alias ends it
``move``        the alias means this version from now on
``rollback``    the alias means an earlier version again
``withdrawn``   what was about to happen did not: what was there before stays
``served``      an endpoint answers with the version that its alias meant already
``undeploy``    the endpoint of the name was ended
``canary``      a version begins to get a share of the traffic (`mlsys.registry.canaries`)
``widened``     the canary gets the next share
``promoted``    the canary passed its last step; the ``move`` before this line is its
``taken_back``  the canary gets no more traffic
``maintained``  a maintenance ended, as its reason says (`mlsys.workflow.maintenance`); nothing moves by this line
==============  =================================================================================

A line that a crash cut off, wherever in its bytes, counts as not written: readers pass over it, and the next
writer sets its bytes aside in ``ledger.torn``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from mlsys import errors, locks
from mlsys.store import Store, storage_error, sync

Kind = Literal[
    "register", "settings", "deploying", "move", "rollback", "withdrawn", "served", "undeploy",
    "canary", "widened", "promoted", "taken_back", "maintained",
]  # fmt: skip

_logger = logging.getLogger(__name__)

_last_read: dict[Path, tuple[bytes, list[Move]]] = {}
"""The ledger that was read last: bytes of its whole lines, and the lines, so that what came since is parsed alone."""


class LedgerEntry(NamedTuple):
    """A registered model: its name, version number and bundle digest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Move:
    """One line of the ledger.

    Attributes
    ----------
    at
        A time in UTC, by the clock of the machine that wrote it; the order of the lines is what counts.
    who
        User, host and process.
    facts
        JSON values that belong to the kind: ``metrics``, ``tags``, ``reports``, ``family`` and ``params`` of a
        version, the ``settings``, the ``url`` and ``cluster`` of an endpoint, the ``plan`` and ``counts`` of a canary.
    """

    kind: Kind
    at: dt.datetime
    name: str
    version: int
    digest: str
    alias: str | None = None
    reason: str = ""
    who: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> LedgerEntry:
        return LedgerEntry(self.name, self.version, self.digest)


_FIELDS = tuple(each.name for each in dataclasses.fields(Move))


def path(store: Store) -> Path:
    """The file of the ledger."""
    return store.root / "registry" / "ledger.jsonl"


def read(store: Store) -> list[Move]:
    """Read every whole line, in the order in which they were written.

    Raises
    ------
    RegistryError
        A line before the last is damaged: nothing is guessed about what it said.
    """
    try:
        data = path(store).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(path(store), error) from error
    known, moves = _last_read.get(path(store), (b"", []))
    if not data.startswith(known):
        known, moves = b"", []
    later, size = _parse(data[len(known) :], len(moves))
    moves = [*moves, *later]
    _last_read.clear()
    _last_read[path(store)] = (data[: len(known) + size], moves)
    return list(moves)


def write(store: Store, kind: Kind, entry: LedgerEntry, alias: str | None = None, **more: Any) -> Move:
    """Append a line with the time and who acts, and return it; `more` are its `reason` and its `facts`.

    Raises
    ------
    StoreError
        The disk is full or the file cannot be written; then the ledger is as it was.
    """
    move = Move(kind, dt.datetime.now(dt.UTC), *entry, alias, who=locks.who(), **more)
    with locked(store):
        append(store, move)
    return move


def append(store: Store, move: Move) -> None:
    """Add a line and sync it; the caller holds the lock."""
    file = path(store)
    line = json.dumps({**vars(move), "at": move.at.isoformat()}, ensure_ascii=False, default=str) + "\n"
    data = line.encode(errors="backslashreplace")  # a lone surrogate has no bytes
    try:
        is_new = not file.exists()
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "rb+", buffering=0) as opened:
            _write_line(opened, data, size=_cut_torn_end(file, opened))
        if is_new:
            sync(file.parent)  # a crash of the machine would lose the entry of a new file
    except OSError as error:
        raise storage_error(file, error) from error


def _write_line(opened: io.FileIO, data: bytes, size: int) -> None:
    """Write a line behind the `size` bytes that are there, all of it or nothing, and sync it."""
    is_whole = is_synced = False
    try:
        is_whole = opened.write(data) == len(data)  # a disk that gets full takes a part of it
        os.fsync(opened.fileno())
        is_synced = is_whole
    finally:
        if not is_synced:
            opened.truncate(size)
    if not is_whole:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Let one writer of the ledger in at a time."""
    with locks.hold(store.root / "registry" / "lock", "writing the ledger"):
        yield


class _LaterKindError(ValueError):
    """A whole line of a kind that a later version of mlsys has: wherever it stands, no crash cut it off."""


def _parse(data: bytes, num_before: int = 0) -> tuple[list[Move], int]:
    """The lines, and the bytes that are whole: a last line that cannot be read is one that a crash cut off.

    `num_before` lines come before them.
    """
    moves: list[Move] = []
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin) + 1
        try:
            moves.append(_move(data[begin : end or len(data)]) if end else _move(b""))
        except (ValueError, TypeError, KeyError) as error:
            is_later = isinstance(error, _LaterKindError)
            if 0 < end < len(data) or is_later:
                where = f"registry: line {num_before + len(moves) + 1} of ledger.jsonl"
                hint = "use the mlsys that wrote it, or a later one" if is_later else "restore the file from a backup"
                got, expected = " ".join(str(error).split()), "one move as JSON"
                raise errors.RegistryError.build(where, got=got, expected=expected, hint=hint) from None
            break
        begin = end
    return moves, begin


def _move(line: bytes) -> Move:
    """A line; fields that a later version of mlsys may have added are passed over."""
    fields = json.loads(line.decode())
    if fields["kind"] not in get_args(Kind):
        message = f"the kind '{fields['kind']}', which this version of mlsys does not know"
        raise _LaterKindError(message)
    known = {name: fields[name] for name in _FIELDS if name in fields}
    return Move(**{**known, "at": dt.datetime.fromisoformat(fields["at"])})


def _cut_torn_end(file: Path, opened: io.FileIO) -> int:
    """Move what a crash cut off into a file of its own; returns the size of what is whole."""
    data = opened.read()
    _, size = _parse(data)
    if size < len(data):
        beside = file.with_name("ledger.torn")
        with beside.open("ab") as torn:
            torn.write(data[size:] + b"\n")
        opened.truncate(size)
        _logger.warning(
            "registry: a line that a crash cut off (%d bytes) was set aside in %s", len(data) - size, beside
        )
    return size

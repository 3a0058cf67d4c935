"""Locks between processes: one holder at a time, and who waits is told for whom.

A lock is a file that is locked by ``flock(2)``, so it ends with the process that holds it, however that ends; what
stands in the file says who that is. A thread that holds a lock may take it again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import getpass
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlsys import errors
from mlsys.store import storage_error

TELL_AFTER_S = 1.0
"""Seconds that a wait is silent."""

POLL_S = 0.02
"""Seconds between two tries to take a lock that another process holds."""

_held: set[tuple[Path, int]] = set()
"""Locks that threads of this process hold."""


def who() -> str:
    """The user, host and process that act, as ledgers and locks name them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} {os.getpid()}"


def to_stderr(message: str) -> None:
    """Tell a person at the terminal."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def hold(
    file: Path, purpose: str, tell: Callable[[str], None] = to_stderr, *, is_shared: bool = False
) -> Iterator[None]:
    """Hold a lock during a block; where another process holds it, wait, and tell after a second who that is.

    With `is_shared` others that share it may hold it as well, and nobody else; none of them is named in it.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    mine = (file.absolute(), threading.get_ident())
    if mine in _held:
        yield
        return
    descriptor = _open(file)
    try:
        _wait(descriptor, purpose, tell, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        if not is_shared:
            _write(descriptor, _named(purpose))
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)
            if not is_shared:
                _write(descriptor, "")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_if_free(file: Path, purpose: str) -> Iterator[bool]:
    """Hold a lock during a block if nobody does, this thread included; yield whether it is held.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    descriptor = _open(file)
    try:
        is_held = _take(descriptor)
        if is_held:
            _write(descriptor, _named(purpose))
        yield is_held
        if is_held:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def holder(file: Path) -> str | None:
    """Who holds a lock now, or None if nobody does."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _take(descriptor) else _read(descriptor)
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(file, error) from error


def _wait(descriptor: int, purpose: str, tell: Callable[[str], None], kind: int) -> None:
    began, is_announced = time.monotonic(), False
    while not _take(descriptor, kind):
        if not is_announced and time.monotonic() - began >= TELL_AFTER_S:
            tell(f"{purpose} waits for {_read(descriptor)}")
            is_announced = True
        time.sleep(POLL_S)


def _take(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file, or return false if it is locked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise errors.StoreError.build(
            "store: lock", got=error.strerror or str(error), expected="a file system with flock(2)"
        ) from error
    return True


def _named(purpose: str) -> str:
    return f"{purpose}: {who()}, since {dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"


def _write(descriptor: int, text: str) -> None:
    """Say in the file who holds the lock; a full disk costs the name and not the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)

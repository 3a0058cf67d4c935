"""The end of a command: every error becomes a message and an exit code, and a fault keeps its traceback."""

from __future__ import annotations

import datetime as dt
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mlsys import errors

if TYPE_CHECKING:
    from mlsys.store import Store

FAULT = 70
"""Exit code of an error that nobody raised on purpose: ``EX_SOFTWARE`` of BSD's ``sysexits.h``."""

_stores: list[Store] = []
"""Stores that this process opened; the last one keeps the traceback of a fault."""


def open_store(root: Path | None) -> Store:
    """The store of a command, which also keeps the traceback of its fault."""
    from mlsys.store import Store

    _stores.append(Store.open(root))
    return _stores[-1]


def opened(root: Path | None) -> Path:
    """The folder of the store of a command, as `open_store`."""
    return open_store(root).root


@contextmanager
def exit_codes() -> Iterator[None]:
    """Print an error as a message and leave with its code."""
    try:
        yield
    except errors.MlsysError as error:
        _leave(f"error: {error}", 1 if isinstance(error, errors.GateError) else 2)
    except KeyboardInterrupt as error:  # a search says what it has
        _leave(f"interrupted: {str(error) or 'finished steps are kept; the same command goes on from there'}", 130)
    except Exception as error:  # noqa: BLE001  (whatever it is, its traceback is kept)
        _leave(_keep_traceback(error), FAULT)


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"\n{message}\n")
    raise SystemExit(code) from None


def _keep_traceback(error: Exception) -> str:
    """Write the traceback of a fault into the store; returns the sentence that says where, or the traceback."""
    from mlsys.store import write_atomic

    lines = "".join(traceback.format_exception(error))
    try:
        root = (_stores or [open_store(None)])[-1].root
        file = root / "faults" / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S}-{os.getpid()}.txt"
        write_atomic(file, lines.encode())
    except errors.MlsysError:
        return lines
    name = type(error).__name__
    return f"fault: mlsys failed with {name}, which is its own mistake and not yours; the traceback is in {file}"

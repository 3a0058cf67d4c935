"""The access log of the test rows: when they were opened, with which model, and why.

Test rows that have been opened often are no longer new: each choice made after a look fits
them a little (Dwork et al. 2015, Science 349, 636-638). Opening them again is allowed; it is counted
and stated in the report. ``runs/<name>/openings.jsonl`` holds one JSON line each and is only ever appended to.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlsys.store import Store, storage_error


@dataclass(frozen=True)
class Opening:
    """An opening of the rows of a part; `at` is in UTC, `split` and `bundle` are digests."""

    at: str
    part: str
    split: str
    bundle: str
    reason: str


UNREADABLE = Opening("", "test", "", "", "a line that cannot be read")
"""A torn line was an opening as well: it is counted, not forgotten."""


def _file(store: Store, name: str) -> Path:
    return store.run_folder(name) / "openings.jsonl"


def read(store: Store, name: str) -> list[Opening]:
    """Read all openings so far, the oldest first."""
    file = _file(store, name)
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(file, error) from error
    openings = []
    for line in filter(str.strip, lines):
        try:
            openings.append(Opening(**json.loads(line)))
        except (ValueError, TypeError):
            openings.append(UNREADABLE)
    return openings


def record(store: Store, name: str, *, split: str, bundle: str, reason: str, part: str = "test") -> list[Opening]:
    """Record an opening before it happens, and return the earlier ones.

    Raises
    ------
    StoreError
        The line cannot be written; then the rows must not be opened.
    """
    earlier = read(store, name)
    opening = Opening(datetime.now(UTC).isoformat(timespec="seconds"), part, split, bundle, reason)
    line = json.dumps(asdict(opening), ensure_ascii=False) + "\n"
    file = _file(store, name)
    try:
        with file.open("ab+") as opened:
            whole = opened.tell() == 0 or os.pread(opened.fileno(), 1, opened.tell() - 1) == b"\n"
            opened.write(line.encode() if whole else f"\n{line}".encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise storage_error(file, error) from error
    return earlier

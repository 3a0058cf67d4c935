"""The access log of test rows: how often they were opened, for which models, under whatever name.

Test rows that have been opened often are no longer new: each choice made after a look fits
them a little (Dwork et al. 2015, Science 349, 636-638). Opening them again is allowed; it is counted
and stated in the report. The log of some test rows, ``openings/<digest of the rows>.jsonl`` in the store, holds one
JSON line for each opening and is only ever appended to. It belongs to the rows: another name of the recipe, other
folds or other features go on counting.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.dataset import Split
from mlsys.schema import ROW
from mlsys.store import Store, storage_error


@dataclass(frozen=True)
class Opening:
    """An opening of test rows; `at` is in UTC, `name` that of the recipe, `split` and `bundle` are digests."""

    at: str
    name: str
    split: str
    bundle: str
    reason: str


UNREADABLE = Opening("", "", "", "", "a line that cannot be read")
"""A torn line was an opening as well: it is counted, not forgotten."""


def digest_of_rows(split: Split) -> str:
    """Digest of the test rows: of their numbers and their targets, in whatever order and beside whatever columns."""
    target = str(split.schema.target)
    table = split.table("test", [ROW, target])
    order = np.argsort(table[ROW].to_numpy(), kind="stable")
    values = table[target].combine_chunks().take(pa.array(order))
    digest = hashlib.sha256(json.dumps([target, len(order)]).encode())
    digest.update(np.asarray(table[ROW].to_numpy()[order], np.int64).tobytes())
    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        digest.update(np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)).tobytes())
    else:
        digest.update("\0".join(map(str, values.to_pylist())).encode())
    return digest.hexdigest()


def _file(store: Store, rows: str) -> Path:
    return store.root / "openings" / f"{rows}.jsonl"


def read(store: Store, rows: str) -> list[Opening]:
    """Read all openings so far of the test rows with this digest, the oldest first."""
    file = _file(store, rows)
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


def record(store: Store, rows: str, *, name: str, split: str, bundle: str, reason: str) -> list[Opening]:
    """Record an opening before it happens, and return the earlier ones.

    Raises
    ------
    StoreError
        The line cannot be written; then the rows must not be opened.
    """
    earlier = read(store, rows)
    opening = Opening(datetime.now(UTC).isoformat(timespec="seconds"), name, split, bundle, reason)
    line = json.dumps(asdict(opening), ensure_ascii=False) + "\n"
    file = _file(store, rows)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as opened:
            whole = opened.tell() == 0 or os.pread(opened.fileno(), 1, opened.tell() - 1) == b"\n"
            opened.write(line.encode() if whole else f"\n{line}".encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise storage_error(file, error) from error
    return earlier

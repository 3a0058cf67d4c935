"""Rows that are in the increments of earlier collections, known by their content.

A row is known by its values: what is missing does not count, for JSON lines have the keys of
their batch. Rows of one content are told apart by how often they come.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys.collect import stored
from mlsys.schema import ROW
from mlsys.store import MANIFEST, read_json

__all__ = ["contents", "digest", "of_increments", "unseen"]


def contents(table: pa.Table) -> list[str]:
    """Each row as text."""
    return [
        json.dumps(
            {name: value for name, value in row.items() if value is not None},
            ensure_ascii=False,
            sort_keys=True,
            default=str,
        )
        for row in table.to_pylist()
    ]


def digest(content: str) -> bytes:
    """16 bytes of SHA-256: two rows of a billion share them with a chance of 1e-21."""
    return hashlib.sha256(content.encode()).digest()[:16]


def of_increments(
    folders: Iterable[Path], cursor: str, floor: float, values_of: Callable[[pa.Array], pa.Array]
) -> Counter[bytes]:
    """How often each row at or beyond `floor` was taken; `values_of` reads the cursor as numbers."""
    counts: Counter[bytes] = Counter()
    for folder in folders:
        latest = read_json(folder / MANIFEST)["facts"].get("latest")
        if latest is not None and latest < floor:
            continue
        for file in stored.files(folder):
            values = values_of(feather.read_table(str(file), columns=[cursor])[cursor].combine_chunks())
            near = pc.greater_equal(values, pa.scalar(floor, values.type)).fill_null(False)
            if near.true_count:
                table = feather.read_table(str(file)).drop_columns([ROW]).filter(near)
                counts.update(map(digest, contents(table)))
    return counts


def unseen(table: pa.Table, at: NDArray[np.int64], seen: Counter[bytes]) -> NDArray[np.int64]:
    """Those of the rows `at` that were not taken; each that was is struck off `seen` once."""
    fresh = []
    for row, content in zip(at.tolist(), contents(table.take(pa.array(at))), strict=True):
        known = digest(content)
        if seen[known]:
            seen[known] -= 1
        else:
            fresh.append(row)
    return np.array(fresh, np.int64)

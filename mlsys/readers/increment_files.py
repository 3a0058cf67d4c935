"""Rows as they were written, stored by `increment`: read again as if from their source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from mlsys.collect.type_inference import TypeCounts
from mlsys.readers.base import BadRecord, Batch, Fragment
from mlsys.schema import ROW
from mlsys.store import MANIFEST, read_json

__all__ = ["batches", "files", "typed_shape"]


def files(folder: Path) -> list[Path]:
    """The batches of an increment, in order."""
    return sorted(folder.glob("*.arrow"))


def batches(piece: Fragment, broken: list[BadRecord]) -> Iterator[Batch]:
    """Batches as they were taken; the rows, and the records that were set aside, are numbered anew without gaps."""
    facts, folder = _facts(piece), Path(piece.location)
    tables = [feather.read_table(str(file), columns=[ROW]) for file in files(folder)]
    apart = [record[0] for record in facts["broken"]]
    taken = np.sort(np.concatenate([np.array(apart, np.int64), *(table[ROW].to_numpy() for table in tables)]))
    broken += [BadRecord(int(np.searchsorted(taken, row)), *about) for row, *about in facts["broken"]]
    for file, json_types in zip(files(folder), facts["json"], strict=True):
        table = feather.read_table(str(file), memory_map=False)
        rows = np.searchsorted(taken, table[ROW].to_numpy())
        yield Batch(table.drop_columns([ROW]), rows, {name: TypeCounts(**found) for name, found in json_types.items()})


def typed_shape(piece: Fragment) -> tuple[pa.Schema, int] | None:
    """Schema and records, those set aside included, of an increment whose values have types."""
    facts = _facts(piece)
    if not facts["typed"]:
        return None
    found = [feather.read_table(str(file), memory_map=True).schema for file in files(Path(piece.location))]
    if not found:
        return pa.schema([]), facts["num_rows"]
    return found[0].remove(found[0].get_field_index(ROW)), facts["num_rows"]


def _facts(piece: Fragment) -> dict[str, Any]:
    facts: dict[str, Any] = read_json(Path(piece.location) / MANIFEST)["facts"]
    return facts

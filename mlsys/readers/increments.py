"""Increments: rows that `mlsys.collect.incremental` stored as they were written, read as if from their source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, TypeCounts
from mlsys.readers.conversion import NumberFormat
from mlsys.recipe import Reading
from mlsys.schema import ROW
from mlsys.store import MANIFEST, read_json


def batch_files(folder: Path) -> list[Path]:
    """Files of an increment's batches, in order."""
    return sorted(folder.glob("*.arrow"))


class IncrementReader(Reader):
    """The rows that one collection took of one fragment; rows and bad records are numbered anew without gaps."""

    format = "increment"

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        facts = _facts(fragment)
        if not facts["typed"]:
            return None
        files = batch_files(Path(fragment.location))
        if not files:
            return pa.schema([]), facts["num_rows"]
        first = feather.read_table(str(files[0]), memory_map=True).schema
        return first.remove(first.get_field_index(ROW)), facts["num_rows"]

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        facts, files = _facts(fragment), batch_files(Path(fragment.location))
        taken = [feather.read_table(str(file), columns=[ROW])[ROW].to_numpy() for file in files]
        bad = np.array([record[0] for record in facts["broken"]], np.int64)
        numbers = np.sort(np.concatenate([bad, *taken]))
        bad_records += [BadRecord(int(np.searchsorted(numbers, row)), *about) for row, *about in facts["broken"]]
        for file, json_types in zip(files, facts["json"], strict=True):
            table = feather.read_table(str(file), memory_map=False)
            rows = np.searchsorted(numbers, table[ROW].to_numpy())
            types = {name: TypeCounts(**counts) for name, counts in json_types.items()}
            yield Batch(table.drop_columns([ROW]), rows, types)

    def numbers(self, fragment: Fragment, reading: Reading) -> NumberFormat:
        return NumberFormat(*_facts(fragment).get("numbers", ()))


def _facts(fragment: Fragment) -> dict[str, Any]:
    return read_json(Path(fragment.location) / MANIFEST)["facts"]  # type: ignore[no-any-return]

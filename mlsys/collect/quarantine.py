"""Quarantine of rows that break a rule: written with the reason, counted by rule, shown in samples.

The file holds the rows as they are; samples, which go into messages and reports, do not show personal data.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.collect.storage_schema import RowCounts
from mlsys.personal_data import masked
from mlsys.readers.base import BadRecord, as_python
from mlsys.schema import ROW

QUARANTINE = pa.schema(
    [("source", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
)
"""Columns of the file; `row` is null where a whole file was rejected."""
NUM_SAMPLES = 3
"""Rows shown for each rule in reports and messages; the quarantine holds all."""

Violations = Sequence[tuple[list[str], str, Any]]
"""Columns, text and mask (Arrow, boolean) of the rows of each rule that some rows break."""


class Quarantine:
    """The quarantine file of one fragment; rows that it takes are added to `counts`."""

    def __init__(self, file: Path, source: str, first_row: int, counts: RowCounts, before: Path | None = None) -> None:
        """Begin a file with the rows of the file `before`."""
        self._writer = pq.ParquetWriter(file, QUARANTINE, compression="zstd")
        if before is not None and pq.read_metadata(before).num_rows:
            self._writer.write_table(pq.read_table(before))
        self._source, self._first_row, self.counts = source, first_row, counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def file(self, reason: str) -> None:
        """Reject the whole fragment; how many rows that are is not known."""
        self._write([None], [reason], [""])

    def records(self, bad_records: Sequence[BadRecord]) -> None:
        """Reject records that are no rows."""
        for record in bad_records:
            self.counts.rules[record.reason] += 1
            self._sample(record.reason, record.row, repr(masked(record.content[:80])))
        self.counts.num_bad += len(bad_records)
        rows = [record.row + self._first_row for record in bad_records]
        self._write(rows, [record.reason for record in bad_records], [record.content for record in bad_records])

    def rows(self, table: pa.Table, violations: Violations) -> pa.Array:
        """Reject the rows of a table that break a rule, and return the mask of the others."""
        keep = np.ones(table.num_rows, bool)
        if not violations:
            return pa.array(keep)
        reasons: dict[int, list[str]] = {}
        for names, rule, mask in violations:
            self.counts.rules[rule] += mask.true_count
            indices = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
            for index in indices.tolist():
                reasons.setdefault(index, []).append(rule)
            for row in as_python(table.select([*names, ROW]).take(indices[:NUM_SAMPLES])):
                self._sample(rule, row[ROW] - self._first_row, ", ".join(_shown(row[name]) for name in names))
        order = sorted(reasons)
        rejected = table.take(order)
        rows = as_python(rejected.drop_columns([ROW]))
        contents = [json.dumps(row, ensure_ascii=False, default=_json) for row in rows]
        self._write(rejected[ROW].to_pylist(), ["; ".join(reasons[index]) for index in order], contents)
        self.counts.num_bad += len(order)
        keep[order] = False
        return pa.array(keep)

    def _write(self, rows: Sequence[int | None], reasons: Sequence[str], contents: Sequence[str]) -> None:
        if rows:
            self._writer.write_table(pa.table([[self._source] * len(rows), rows, reasons, contents], schema=QUARANTINE))

    def _sample(self, rule: str, row: int, value: str) -> None:
        samples = self.counts.samples.setdefault(rule, [])
        if len(samples) < NUM_SAMPLES:
            samples.append(f"{value} in '{self._source}' row {row}")


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value) if isinstance(value, dt.date | Decimal) else repr(value)
    return masked(text)


def _json(value: object) -> str:
    """A value that JSON has no form for: bytes as base64, others as their text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def gather(files: Sequence[Path], folder: Path | None) -> str:
    """Write all rejected rows as one file into `folder`, in place of an old one, and return where they are."""
    if folder is None:
        return "the source"
    target = folder / "quarantine.parquet"
    target.unlink(missing_ok=True)
    filled = [file for file in files if pq.read_metadata(file).num_rows]
    if filled:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / ".quarantine.parquet"
        with pq.ParquetWriter(beside, QUARANTINE, compression="zstd") as writer:
            for file in filled:
                writer.write_table(pq.read_table(file))
        beside.replace(target)
    return str(target)

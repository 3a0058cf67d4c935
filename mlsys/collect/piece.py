"""The two passes over one piece, each in a task of its own: `scan` counts, `write` stores.

Between them the types are decided over the scans of all pieces. Text is staged by the first
pass as it was read, so that a source is parsed, and a query run, once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import feather

from mlsys import expressions
from mlsys.collect import contract, convert, inference, pictures, read, sources
from mlsys.collect.batch import BATCH_ROWS, Broken
from mlsys.collect.inference import Evidence, Wording
from mlsys.collect.layout import Layout, Scan, Written
from mlsys.collect.sources import Piece
from mlsys.recipe import Reading
from mlsys.schema import ROW

__all__ = ["QUARANTINE", "ScanJob", "WriteJob", "scan", "write"]

QUARANTINE = pa.schema(
    [("source", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
)
NUM_SAMPLES = 3
"""Rows shown for each rule in reports and messages; the quarantine holds all."""


@dataclass(frozen=True)
class ScanJob:
    """One piece to look at; text goes to `staged`."""

    piece: Piece
    reading: Reading
    zone: str
    target: str | None
    staged: Path


@dataclass(frozen=True)
class WriteJob:
    """One piece to store as ``<data>/part-<number>.parquet``; its records count from `first_row`."""

    piece: Piece
    reading: Reading
    number: int
    first_row: int
    broken: list[Broken]
    layout: Layout
    staged: Path
    data: Path
    quarantine: Path


def scan(job: ScanJob) -> Scan:
    """First pass: count what every column can be read as, and stage text as it is."""
    found = Scan(0, {}, [], sources.digest(job.piece))
    typed = read.typed_shape(job.piece)
    if typed is not None:
        schema, found.num_rows = typed
        for column in schema:
            kind = convert.stored_type(column.type, column.name, job.piece.name)
            found.evidence[column.name] = Evidence(typed={str(kind): job.piece.name})
            if pa.types.is_binary(kind):
                _count_pictures(job.piece, column.name, found.evidence[column.name])
        target = job.target
        if target is not None and target in schema.names and pa.types.is_floating(schema.field(target).type):
            found.evidence[target].fractions = _num_fractions(read.column(job.piece, target))
        return found
    job.staged.mkdir(parents=True)
    for number, batch in enumerate(read.batches(job.piece, job.reading, found.broken)):
        for name in batch.table.column_names:
            seen = inference.observe(batch.table[name].combine_chunks(), job.zone, batch.json.get(name))
            found.evidence[name] = inference.merge(found.evidence.get(name, Evidence()), seen)
        staged = batch.table.append_column(ROW, pa.array(batch.rows))
        feather.write_feather(staged, str(job.staged / f"{number:05d}.arrow"), compression="uncompressed")
        found.num_rows += batch.table.num_rows
    found.num_rows += len(found.broken)
    return found


def write(job: WriteJob) -> Written:
    """Second pass: convert, derive, check and store; rows that do not fit go to quarantine."""
    written = Written()
    job.data.mkdir(parents=True, exist_ok=True)
    job.quarantine.mkdir(parents=True, exist_ok=True)
    part = f"part-{job.number:05d}.parquet"
    schema = job.layout.stored.append(pa.field(ROW, pa.int64()))
    with (
        pq.ParquetWriter(job.data / part, schema, compression="zstd") as kept,
        pq.ParquetWriter(job.quarantine / part, QUARANTINE, compression="zstd") as bad,
    ):
        _set_broken_aside(job, bad, written)
        for table in _batches(job):
            rows = _checked(_derived(_converted(table, job, bad, written), job.layout), job, bad, written)
            kept.write_table(rows.select(schema.names), row_group_size=BATCH_ROWS)
            _count(rows, job.layout, written)
    return written


def _count_pictures(piece: Piece, name: str, found: Evidence) -> None:
    if piece.files:  # their names say that they are pictures
        found.count = found.pictures = len(piece.files)
        return
    for values in read.column(piece, name):
        plain = values.cast(pa.binary())
        found.count += len(plain) - plain.null_count
        found.pictures += inference.num_pictures(plain)


def _num_fractions(values: Iterable[pa.Array]) -> int:
    """Values that are no integers: without any, classes numbered 0.0 and 1.0 are 0 and 1."""
    return sum(len(found) - found.null_count - inference.num_whole(found) for found in map(_without_nan, values))


def _without_nan(values: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def _batches(job: WriteJob) -> Iterator[pa.Table]:
    """Rows as read, with their number over all pieces; few at a time where paths become pictures."""
    for table in _read_again(job):
        has_paths = any(
            not pa.types.is_binary(table.schema.field(name).type)
            for name in job.layout.images & set(table.column_names)
        )
        step = pictures.ROWS if has_paths else max(table.num_rows, 1)
        yield from (table.slice(first, step) for first in range(0, max(table.num_rows, 1), step))


def _read_again(job: WriteJob) -> Iterator[pa.Table]:
    files = sorted(job.staged.glob("*.arrow")) if job.staged.is_dir() else None
    if files is not None:
        for file in files:
            table = feather.read_table(str(file), memory_map=False)
            at = table.schema.get_field_index(ROW)
            yield table.set_column(at, ROW, pc.add(table[ROW], job.first_row))
        return
    for batch in read.batches(job.piece, job.reading, []):
        yield batch.table.append_column(ROW, pa.array(batch.rows + job.first_row))


def _converted(table: pa.Table, job: WriteJob, bad: pq.ParquetWriter, written: Written) -> pa.Table:
    """The columns of the layout in their types, without the rows in which a value does not fit."""
    layout, arrays, broken = job.layout, {}, []
    for name, kind in layout.columns.items():
        if name not in table.column_names:
            arrays[name] = pa.nulls(table.num_rows, kind)
            continue
        values = table[name].combine_chunks()
        if name in layout.images:
            arrays[name], faults = pictures.taken(values, job.piece.location)
            broken += [(name, f"column '{name}': {fault}", mask) for fault, mask in faults.items()]
            continue
        arrays[name] = _read(values, kind, layout, name)
        mask = convert.misfits(values, arrays[name])
        if mask.true_count:
            broken.append((name, f"column '{name}': not {kind}", mask))
    arrays[ROW] = table[ROW]
    return pa.table(arrays).filter(_set_aside(table, broken, job, bad, written))


def _read(values: pa.Array, kind: pa.DataType, layout: Layout, name: str) -> pa.Array:
    if not pa.types.is_string(values.type):
        return convert.stored(values, kind, layout.zone)
    read = convert.read_text(values, kind, layout.zone)
    if name == layout.target and pa.types.is_integer(kind):  # labels written as 0.0 and 1.0
        decimals = convert.read_text(values, pa.float64())
        read = pc.coalesce(read, convert.stored(decimals, kind))
    return read


def _derived(table: pa.Table, layout: Layout) -> pa.Table:
    """With the derived columns, all in the types of the snapshot; NaN in the target is no value."""
    added = expressions.add(table.drop_columns([ROW]), layout.derive, "recipe: data.derive")
    for column in layout.stored:
        values = convert.stored(added[column.name], column.type, layout.zone)
        if column.name == layout.target and pa.types.is_floating(values.type):
            values = _without_nan(values)
        added = added.set_column(added.schema.get_field_index(column.name), column.name, values)
    return added.append_column(ROW, table[ROW])


def _checked(table: pa.Table, job: WriteJob, bad: pq.ParquetWriter, written: Written) -> pa.Table:
    if job.layout.contract is None:
        return table
    broken = list(contract.broken_rules(table, job.layout.contract))
    return table.filter(_set_aside(table, broken, job, bad, written))


def _set_aside(
    table: pa.Table, broken: list[tuple[str, str, pa.Array]], job: WriteJob, bad: pq.ParquetWriter, written: Written
) -> pa.Array:
    """Put rows that break a rule into quarantine, and return the mask of the others."""
    keep = np.ones(table.num_rows, bool)
    if not broken:
        return pa.array(keep)
    reasons: dict[int, list[str]] = {}
    for name, rule, mask in broken:
        written.rules[rule] += mask.true_count
        for at in np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist():
            reasons.setdefault(at, []).append(rule)
            _sample(written, rule, job.piece, table[ROW][at].as_py() - job.first_row, _shown(table[name][at].as_py()))
    order = sorted(reasons)
    contents = [
        json.dumps(row, ensure_ascii=False, default=_json) for row in table.drop_columns([ROW]).take(order).to_pylist()
    ]
    _quarantine(
        bad, job.piece, [table[ROW][at].as_py() for at in order], ["; ".join(reasons[at]) for at in order], contents
    )
    written.num_bad += len(order)
    keep[order] = False
    return pa.array(keep)


def _set_broken_aside(job: WriteJob, bad: pq.ParquetWriter, written: Written) -> None:
    for record in job.broken:
        written.rules[record.reason] += 1
        _sample(written, record.reason, job.piece, record.row, repr(record.content[:80]))
    written.num_bad += len(job.broken)
    columns = (
        [r.row + job.first_row for r in job.broken],
        [r.reason for r in job.broken],
        [r.content for r in job.broken],
    )
    _quarantine(bad, job.piece, *columns)


def _quarantine(bad: pq.ParquetWriter, piece: Piece, rows: list[int], reasons: list[str], contents: list[str]) -> None:
    if rows:
        bad.write_table(pa.table([[piece.name] * len(rows), rows, reasons, contents], schema=QUARANTINE))


def _shown(value: object) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else repr(value)


def _json(value: object) -> str:
    """A value that JSON has no form for: bytes as base64, others as their text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _sample(written: Written, rule: str, piece: Piece, row: int, value: str) -> None:
    samples = written.samples.setdefault(rule, [])
    if len(samples) < NUM_SAMPLES:
        samples.append(f"{value} in '{piece.name}' row {row}")


def _count(table: pa.Table, layout: Layout, written: Written) -> None:
    written.num_rows += table.num_rows
    for name in layout.stored.names:
        written.nulls[name] += table[name].null_count
        if pa.types.is_string(table[name].type) or pa.types.is_binary(table[name].type):
            written.wording.setdefault(name, Wording()).add(table[name])
    if layout.target is not None and len(written.classes) < 2:
        _count_classes(table[layout.target], written.classes)


def _count_classes(values: pa.ChunkedArray, classes: dict[object, int]) -> None:
    """Distinct labels until there are two: whether there is anything to learn."""
    for entry in pc.value_counts(values.combine_chunks().drop_null()).to_pylist()[:2]:
        classes[entry["values"]] = classes.get(entry["values"], 0) + entry["counts"]

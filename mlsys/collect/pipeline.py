"""The two passes over one piece, each in a task of its own: `scan` counts, `write` stores.

Between them the types are decided over the scans of all pieces. Text is staged by the first
pass as it was read, so that a source is parsed, and a query run, once. What an earlier
collection found of the same bytes is taken from `reuse`. A third pass, `winnow`, takes rows
out that repeat others.

A batch as it was written → the rows that a snapshot stores, what does not fit set aside, and counts of them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import feather

from mlsys import errors, expressions
from mlsys.collect import contract, type_inference
from mlsys.collect.cache import PART, REJECTED, Cache, Stored
from mlsys.collect.collected_rows import Duplicates
from mlsys.collect.quarantine import Quarantine
from mlsys.collect.storage_schema import ColumnScan, StorageSchema, Written
from mlsys.collect.type_inference import WordCounts
from mlsys.readers import conversion, folders, registry
from mlsys.readers.base import BATCH_ROWS, Fragment, TypeCounts
from mlsys.readers.conversion import PLAIN, NumberFormat
from mlsys.recipe import Reading
from mlsys.schema import ROW

__all__ = [
    "DropDuplicatesJob",
    "ScanJob",
    "WriteJob",
    "count_stored",
    "drop_duplicates",
    "scan",
    "stored_rows",
    "write",
]


def stored_rows(
    table: pa.Table, layout: StorageSchema, location: str, bad: Quarantine, numbers: NumberFormat = PLAIN
) -> pa.Table:
    """Converted, derived and checked; `location` is where paths of pictures begin."""
    return _checked(_derived(_converted(table, layout, location, bad, numbers), layout, bad), layout, bad)


def count_stored(table: pa.Table, layout: StorageSchema, written: Written) -> None:
    """Add rows to the counts of their piece."""
    written.num_rows += table.num_rows
    for name in layout.stored.names:
        written.nulls[name] += table[name].null_count
        if pa.types.is_string(table[name].type) or pa.types.is_binary(table[name].type):
            written.wording.setdefault(name, WordCounts()).add(table[name])
    if layout.time is not None and (newest := pc.max(table[layout.time]).cast(pa.int64()).as_py()) is not None:
        written.newest = newest if written.newest is None else max(newest, written.newest)
    if layout.target is not None and len(written.classes) < 2:
        _count_classes(table[layout.target], written.classes)


def _count_classes(values: pa.ChunkedArray, classes: dict[Any, int]) -> None:
    """Distinct labels until there are two: whether there is anything to learn."""
    for entry in pc.value_counts(values.combine_chunks().drop_null()).to_pylist()[:2]:
        value = entry["values"]
        label = value if isinstance(value, bool | int | float | str) else str(value)
        classes[label] = classes.get(label, 0) + entry["counts"]


def _converted(
    table: pa.Table, layout: StorageSchema, location: str, bad: Quarantine, numbers: NumberFormat
) -> pa.Table:
    """The columns of the layout in their types, without the rows in which a value does not fit."""
    arrays, broken, there = {}, list[Any](), set(table.column_names)
    for name, kind in layout.columns.items():
        if name not in there:
            arrays[name] = pa.nulls(table.num_rows, kind)
            continue
        values = table[name].combine_chunks()
        if name in layout.images:
            arrays[name], faults = folders.decoded_pictures(values, location)
            broken += [([name], f"column '{name}': {fault}", mask) for fault, mask in faults.items()]
            continue
        arrays[name] = conversion.as_type(values, kind, layout.zone, numbers)
        mask = conversion.misfits(values, arrays[name])
        if mask.true_count:
            broken.append(([name], f"column '{name}': not {kind}", mask))
    converted = pa.table(arrays | {ROW: table[ROW]})
    return converted.filter(bad.rows(table, broken)) if broken else converted


def _derived(table: pa.Table, layout: StorageSchema, bad: Quarantine) -> pa.Table:
    """With the derived columns, all in the types of the snapshot; NaN in the target is no value."""
    added = expressions.add(table.drop_columns([ROW]), layout.derive, "recipe: data.derive")
    columns, broken = [], list[Any]()
    for column in layout.stored:
        made = added[column.name].combine_chunks()
        values = conversion.to_stored(made, column.type, layout.zone)
        mask = conversion.misfits(made, values)
        if mask.true_count:
            broken.append(([column.name], f"column '{column.name}': not {column.type}", mask))
        columns.append(conversion.without_nan(values) if column.name == layout.target else values)
    derived = pa.table([*columns, table[ROW]], names=[*layout.stored.names, ROW])
    return derived.filter(bad.rows(added.append_column(ROW, table[ROW]), broken)) if broken else derived


def _checked(table: pa.Table, layout: StorageSchema, bad: Quarantine) -> pa.Table:
    broken = [] if layout.contract is None else list(contract.violated_rules(table, layout.contract))
    return table.filter(bad.rows(table, broken)) if broken else table


@dataclass(frozen=True)
class ScanJob:
    """One piece to look at; text goes to `staged`."""

    piece: Fragment
    reading: Reading
    zone: str
    target: str | None
    staged: Path
    memory: Cache


@dataclass(frozen=True)
class WriteJob:
    """One piece to store, in `folder` if it cannot be kept for later; its records count from `first_row`."""

    piece: Fragment
    reading: Reading
    first_row: int
    scan: ColumnScan
    layout: StorageSchema
    staged: Path
    folder: Path
    memory: Cache


@dataclass(frozen=True)
class DropDuplicatesJob:
    """Stored rows of which some are to go: superseded ones, and repeats of a unique value into quarantine."""

    piece: Fragment
    first_row: int
    stored: Stored
    repeats: Duplicates
    layout: StorageSchema
    folder: Path


def scan(job: ScanJob) -> ColumnScan:
    """First pass: count what every column can be read as, and stage text as it is.

    A file that cannot be read is a scan with `damage` and without rows.
    """
    try:
        changed, sha256 = job.piece.changed(), job.piece.digest()
        how = (job.reading.model_dump(mode="json"), job.zone, job.target)
        found = job.memory.scan(job.piece, sha256, *how) if sha256 else None
        if found is None:
            found = _scan(job, sha256)
            job.piece.check_unchanged(changed)
            if sha256:
                job.memory.note_scan(job.piece, found, *how)
    except errors.SourceError as error:
        return ColumnScan(0, {}, [], None, damage=str(error))
    found.changed = changed
    return found


def write(job: WriteJob) -> Stored:
    """Second pass: convert, derive, check and store; rows that do not fit go to quarantine."""
    sha256 = None if _has_paths(job) else job.scan.sha256
    known = (job.reading, job.layout, job.first_row)
    kept = job.memory.part(job.piece, sha256, *known) if sha256 else None
    if kept is not None:
        return kept
    try:
        made = _write(job)
        job.piece.check_unchanged(job.scan.changed)
    except errors.SourceError as error:
        return Stored(job.folder, Written(damage=str(error)))
    return job.memory.note_part(job.piece, sha256, *known, made) if sha256 else made


def drop_duplicates(job: DropDuplicatesJob) -> Stored:
    """Stored rows without those that repeat others."""
    old, written = job.stored, Written(num_superseded=len(job.repeats.superseded))
    written.num_bad, written.rules = old.written.num_bad, old.written.rules.copy()
    written.samples = {rule: list(samples) for rule, samples in old.written.samples.items()}
    job.folder.mkdir(parents=True)
    parts = pq.ParquetFile(old.folder / PART)
    with (
        pq.ParquetWriter(job.folder / PART, parts.schema_arrow, compression="zstd") as kept,
        Quarantine(job.folder / REJECTED, job.piece.name, job.first_row, written, old.folder / REJECTED) as bad,
    ):
        for batch in parts.iter_batches(batch_size=BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            table = table.filter(pc.invert(_among(table[ROW], job.repeats.superseded)))
            broken = [
                ([name], f"column '{name}': repeats an earlier value", _among(table[ROW], rows).combine_chunks())
                for name, rows in job.repeats.unique.items()
            ]
            rows = table.filter(bad.rows(table, [rule for rule in broken if rule[2].true_count]))
            kept.write_table(rows, row_group_size=BATCH_ROWS)
            count_stored(rows, job.layout, written)
    return Stored(job.folder, written)


def _has_paths(job: WriteJob) -> bool:
    """Whether rows are more than the bytes of their file: pictures that it only names."""
    there = job.layout.images & set(job.scan.evidence)
    return any(set(job.scan.evidence[name].typed) != {"binary"} for name in there)


def _scan(job: ScanJob, sha256: str | None) -> ColumnScan:
    found = ColumnScan(0, {}, [], sha256)
    typed = registry.schema(job.piece)
    if typed is not None:
        schema, found.num_rows = typed
        for column in schema:
            kind = conversion.stored_type(column.type, column.name, job.piece.name)
            found.evidence[column.name] = TypeCounts(typed={str(kind): job.piece.name})
            if pa.types.is_binary(kind):
                _count_pictures(job.piece, column.name, found.evidence[column.name])
        target = job.target
        if target is not None and target in schema.names and pa.types.is_floating(schema.field(target).type):
            found.evidence[target].fractions = _num_fractions(registry.column(job.piece, target))
        if job.piece.format == "increment":
            collections.deque(registry.batches(job.piece, job.reading, found.broken), maxlen=0)
        return found
    job.staged.mkdir(parents=True)
    numbers = registry.numbers(job.piece, job.reading)
    for number, batch in enumerate(registry.batches(job.piece, job.reading, found.broken)):
        for name in batch.table.column_names:
            values = batch.table[name].combine_chunks()
            seen = type_inference.observe(values, job.zone, batch.json.get(name), numbers)
            found.evidence[name] = found.evidence.get(name, TypeCounts()).merged(seen)
        staged = batch.table.append_column(ROW, pa.array(batch.rows))
        feather.write_feather(staged, str(job.staged / f"{number:05d}.arrow"), compression="uncompressed")
        found.num_rows += batch.table.num_rows
    found.num_rows += len(found.broken)
    return found


def _write(job: WriteJob) -> Stored:
    written = Written()
    job.folder.mkdir(parents=True)
    schema = job.layout.stored.append(pa.field(ROW, pa.int64()))
    with (
        pq.ParquetWriter(job.folder / PART, schema, compression="zstd") as kept,
        Quarantine(job.folder / REJECTED, job.piece.name, job.first_row, written) as bad,
    ):
        if job.scan.damage:
            bad.file(job.scan.damage)
            return Stored(job.folder, written)
        bad.records(job.scan.broken)
        numbers = registry.numbers(job.piece, job.reading)
        for table in _batches(job):
            rows = stored_rows(table, job.layout, job.piece.location, bad, numbers)
            kept.write_table(rows.select(schema.names), row_group_size=BATCH_ROWS)
            count_stored(rows, job.layout, written)
    return Stored(job.folder, written)


def _count_pictures(piece: Fragment, name: str, found: TypeCounts) -> None:
    if piece.files:  # their names say that they are pictures
        found.count = found.pictures = len(piece.files)
        return
    for values in registry.column(piece, name):
        plain = values.cast(pa.binary())
        found.count += len(plain) - plain.null_count
        found.pictures += type_inference.num_pictures(plain)


def _num_fractions(values: Iterable[pa.Array]) -> int:
    """Values that are no integers: without any, classes numbered 0.0 and 1.0 are 0 and 1."""
    return sum(
        len(found) - found.null_count - type_inference.num_whole(found) for found in map(conversion.without_nan, values)
    )


def _batches(job: WriteJob) -> Iterator[pa.Table]:
    """Rows as read, with their number over all pieces; few at a time where paths become pictures."""
    for table in _read_again(job):
        has_paths = any(
            not pa.types.is_binary(table.schema.field(name).type)
            for name in job.layout.images & set(table.column_names)
        )
        step = folders.IMAGE_ROWS if has_paths else max(table.num_rows, 1)
        yield from (table.slice(first, step) for first in range(0, max(table.num_rows, 1), step))


def _read_again(job: WriteJob) -> Iterator[pa.Table]:
    files = sorted(job.staged.glob("*.arrow")) if job.staged.is_dir() else None
    if files is not None:
        for file in files:
            table = feather.read_table(str(file), memory_map=False)
            at = table.schema.get_field_index(ROW)
            yield table.set_column(at, ROW, pc.add(table[ROW], job.first_row))
        return
    for batch in registry.batches(job.piece, job.reading, []):
        yield batch.table.append_column(ROW, pa.array(batch.rows + job.first_row))


def _among(numbers: pa.ChunkedArray, rows: Any) -> pa.ChunkedArray:
    return pc.is_in(numbers, pa.array(rows, pa.int64()))

"""Read one fragment in two passes, each in a task of its own: `scan` counts, `write` converts, checks and stores.

Between the passes the types are decided over the scans of all fragments. The first pass stages text as
it was read, so that a source is parsed, and a query run, once. Results of earlier collections of the same
bytes come from the cache. A third pass, `drop_duplicates`, takes rows out that repeat others.
"""

from __future__ import annotations

import collections
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import feather

from mlsys import errors, expressions
from mlsys.collect import contract, type_inference
from mlsys.collect.cache import PART, REJECTED, Cache, StoredFragment
from mlsys.collect.duplicates import Duplicates
from mlsys.collect.quarantine import Quarantine, Violations
from mlsys.collect.storage_schema import FragmentScan, RowCounts, StorageSchema, most_frequent
from mlsys.collect.type_inference import WordCounts
from mlsys.readers import conversion, folders, registry
from mlsys.readers.base import BATCH_ROWS, Fragment, TypeCounts, refuse_reserved, texts_of
from mlsys.readers.conversion import NumberFormat
from mlsys.recipe import Reading
from mlsys.schema import ROW

T = TypeVar("T")


@dataclass(frozen=True)
class Portion:
    """A part of the batches of fragments, for a survey: one in `every`, as many as `seconds` a pass are enough for.

    `until` is the time, by `time.monotonic`, at which a pass that has begun is over.
    """

    every: int = 1
    seconds: float = math.inf
    until: float = math.inf

    def begun(self) -> Portion:
        """The portion for a pass that begins now."""
        return replace(self, until=time.monotonic() + self.seconds)

    def of(self, batches: Iterable[T], on_skip: Callable[[], None] = lambda: None) -> Iterator[T]:
        """Batches of the portion, of which the first is always one; `on_skip` is called for each that is not."""
        for number, batch in enumerate(batches):
            is_over = number > 0 and time.monotonic() > self.until
            if is_over or number % self.every:
                on_skip()
            if is_over:
                return
            if number % self.every == 0:
                yield batch


ALL = Portion()


@dataclass(frozen=True)
class ScanJob:
    """One fragment to count; text is stored in `staged` as it was read."""

    fragment: Fragment
    reading: Reading
    zone: str
    target: str | None
    staged: Path
    cache: Cache
    portion: Portion = ALL


@dataclass(frozen=True)
class WriteJob:
    """One fragment to store, in `folder` if the cache cannot hold it; its records count from `first_row`."""

    fragment: Fragment
    reading: Reading
    first_row: int
    scan: FragmentScan
    storage: StorageSchema
    staged: Path
    folder: Path
    cache: Cache
    portion: Portion = ALL


@dataclass(frozen=True)
class DropDuplicatesJob:
    """Stored rows of which some go: superseded ones, and repeats of a unique value, which are quarantined."""

    fragment: Fragment
    first_row: int
    stored: StoredFragment
    duplicates: Duplicates
    storage: StorageSchema
    folder: Path


def scan(job: ScanJob) -> FragmentScan:
    """First pass: count what every column can be read as, and stage text as it is.

    A file that cannot be read is a scan with `damage` and without rows.
    """
    try:
        changed, sha256 = job.fragment.changed(), job.fragment.digest()
        how = (job.reading.model_dump(mode="json"), job.zone, job.target)
        result = job.cache.scan(job.fragment, sha256, *how) if sha256 else None
        if result is None:
            result = _scan(job, sha256)
            result.messages += registry.messages(job.fragment, job.reading)
            job.fragment.check_unchanged(changed)
            if sha256:
                job.cache.note_scan(job.fragment, result, *how)
    except errors.SourceError as error:
        return FragmentScan(0, {}, [], None, damage=str(error))
    result.changed = changed
    return result


def write(job: WriteJob) -> StoredFragment:
    """Second pass: convert, derive, check and store; rows that do not fit are quarantined."""
    sha256 = None if _has_paths(job) else job.scan.sha256
    key = job.cache.part_key(job.fragment, sha256, job.reading, job.storage) if sha256 else None
    cached = job.cache.part(key, job.first_row) if key else None
    if cached is not None:
        return cached
    try:
        stored = _write(job)
        job.fragment.check_unchanged(job.scan.changed)
    except errors.SourceError as error:
        return StoredFragment(job.folder, RowCounts(damage=str(error)))
    return job.cache.note_part(key, job.first_row, stored) if key else stored


def drop_duplicates(job: DropDuplicatesJob) -> StoredFragment:
    """Third pass: store the rows again without those that repeat others."""
    stored, counts = job.stored, RowCounts(num_superseded=len(job.duplicates.superseded))
    counts.num_bad, counts.rules = stored.counts.num_bad, stored.counts.rules.copy()
    counts.samples = {rule: list(samples) for rule, samples in stored.counts.samples.items()}
    counts.unread, counts.num_unfit = stored.counts.unread, stored.counts.num_unfit
    _make_empty(job.folder)
    file, rejected = pq.ParquetFile(stored.folder / PART), stored.folder / REJECTED
    with (
        pq.ParquetWriter(job.folder / PART, file.schema_arrow, compression="zstd") as writer,
        Quarantine(job.folder / REJECTED, job.fragment.name, job.first_row, counts, rejected) as quarantine,
    ):
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            table = table.filter(pc.invert(_are_rows(table[ROW], job.duplicates.superseded)))
            violations = [
                ([name], f"column '{name}': repeats an earlier value", _are_rows(table[ROW], rows).combine_chunks())
                for name, rows in job.duplicates.unique.items()
            ]
            rows = table.filter(quarantine.rows(table, [rule for rule in violations if rule[2].true_count]))
            writer.write_table(rows, row_group_size=BATCH_ROWS)
            _count(rows, job.storage, counts)
    return StoredFragment(job.folder, counts)


def _scan(job: ScanJob, sha256: str | None) -> FragmentScan:
    typed = registry.schema(job.fragment)
    if typed is not None:
        refuse_reserved(job.fragment, typed[0].names)
        return _scan_typed(job, sha256, *typed)
    result = FragmentScan(0, {}, [], sha256)
    _make_empty(job.staged)
    numbers = registry.numbers(job.fragment, job.reading)
    batches = registry.batches(job.fragment, job.reading, result.bad_records)

    def is_partial() -> None:
        result.is_partial = True

    for number, batch in enumerate(job.portion.of(batches, is_partial)):
        refuse_reserved(job.fragment, batch.table.column_names)
        if not batch.table.num_rows:  # a header without rows says nothing of types
            continue
        for name in batch.table.column_names:
            values = batch.table[name].combine_chunks()
            counts = type_inference.observe(values, job.zone, batch.json.get(name), numbers)
            result.type_counts[name] = result.type_counts.get(name, TypeCounts()).merged(counts)
        numbered = batch.table.append_column(ROW, pa.array(batch.rows))
        feather.write_feather(numbered, str(job.staged / f"{number:05d}.arrow"), compression="uncompressed")
        result.num_rows += batch.table.num_rows
    if result.num_rows and not result.is_partial:
        result.messages += type_inference.about_totals(batch.table, result.type_counts)
    result.num_rows += len(result.bad_records)
    return result


def _scan_typed(job: ScanJob, sha256: str | None, schema: pa.Schema, num_rows: int) -> FragmentScan:
    """The scan of a fragment that knows its types: only pictures, wide integers and decimal labels are counted."""
    result = FragmentScan(num_rows, {}, [], sha256)
    for column in schema:
        kind = conversion.stored_type(column.type, column.name, job.fragment.name)
        num_objects = num_rows if conversion.are_objects(column.type) else 0
        result.type_counts[column.name] = TypeCounts(typed={str(kind): job.fragment.name}, objects=num_objects)
        if pa.types.is_binary(kind):
            _count_pictures(job.fragment, column.name, result.type_counts[column.name])
        elif conversion.exceeds_64_bits(column.type):
            for values in registry.column(job.fragment, column.name):
                type_inference.count_integers(values, result.type_counts[column.name])
    target = job.target
    if target is not None and target in schema.names and pa.types.is_floating(schema.field(target).type):
        result.type_counts[target].fractions = _num_fractions(registry.column(job.fragment, target))
    if job.fragment.format == "increment":
        collections.deque(registry.batches(job.fragment, job.reading, result.bad_records), maxlen=0)
    return result


def _count_pictures(fragment: Fragment, name: str, counts: TypeCounts) -> None:
    if fragment.files:  # their names say that they are pictures
        counts.count = counts.pictures = len(fragment.files)
        return
    for values in registry.column(fragment, name):
        plain = values.cast(pa.binary())
        counts.count += len(plain) - plain.null_count
        counts.pictures += type_inference.num_pictures(plain)


def _num_fractions(arrays: Iterable[pa.Array]) -> int:
    """Count the values that are no integers: without any, classes numbered 0.0 and 1.0 are 0 and 1."""
    numbers = map(conversion.without_nan, arrays)
    return sum(len(values) - values.null_count - type_inference.num_whole(values) for values in numbers)


def _has_paths(job: WriteJob) -> bool:
    """True if rows are more than the bytes of their file: pictures that it only names."""
    columns = job.storage.images & set(job.scan.type_counts)
    return any(set(job.scan.type_counts[name].typed) != {"binary"} for name in columns)


def _write(job: WriteJob) -> StoredFragment:
    counts = RowCounts()
    _make_empty(job.folder)
    schema = job.storage.stored.append(pa.field(ROW, pa.int64()))
    with (
        pq.ParquetWriter(job.folder / PART, schema, compression="zstd") as writer,
        Quarantine(job.folder / REJECTED, job.fragment.name, job.first_row, counts) as quarantine,
    ):
        if job.scan.damage:
            quarantine.file(job.scan.damage)
            return StoredFragment(job.folder, counts)
        quarantine.records(job.scan.bad_records)
        numbers = registry.numbers(job.fragment, job.reading)
        portion = replace(job.portion, every=1) if job.staged.is_dir() else job.portion  # staged is what was taken
        for table in portion.of(_batches(job)):
            rows = _convert(table, job, numbers, quarantine)
            rows = _derive(rows, job.storage, quarantine)
            rules = job.storage.contract
            violations = [] if rules is None else list(contract.violated_rules(rows, rules))
            rows = rows.filter(quarantine.rows(rows, violations)) if violations else rows
            writer.write_table(rows.select(schema.names), row_group_size=BATCH_ROWS)
            _count(rows, job.storage, counts)
    return StoredFragment(job.folder, counts)


def _batches(job: WriteJob) -> Iterator[pa.Table]:
    """Rows as read, with their number over all fragments; few at a time where paths become pictures."""
    for table in _read_again(job):
        pictures = job.storage.images & set(table.column_names)
        has_paths = any(not pa.types.is_binary(table.schema.field(name).type) for name in pictures)
        step = folders.IMAGE_ROWS if has_paths else max(table.num_rows, 1)
        yield from (table.slice(first, step) for first in range(0, max(table.num_rows, 1), step))


def _read_again(job: WriteJob) -> Iterator[pa.Table]:
    """The rows that the first pass staged; of a fragment that knows its types, the fragment once more."""
    if job.staged.is_dir():
        for file in sorted(job.staged.glob("*.arrow")):
            table = feather.read_table(str(file), memory_map=False)
            place = table.schema.get_field_index(ROW)
            yield table.set_column(place, ROW, pc.add(table[ROW], job.first_row))
        return
    for batch in registry.batches(job.fragment, job.reading, []):
        yield batch.table.append_column(ROW, pa.array(batch.rows + job.first_row))


def _convert(table: pa.Table, job: WriteJob, numbers: NumberFormat, quarantine: Quarantine) -> pa.Table:
    """The columns of the source in their types, without misfits; paths of pictures begin at its location."""
    arrays, violations, names = {}, list[Any](), set(table.column_names)
    storage, counted = job.storage, job.scan.type_counts
    for name, kind in storage.columns.items():
        if name not in names:
            arrays[name] = pa.nulls(table.num_rows, kind)
            continue
        values = table[name].combine_chunks()
        if name in storage.images:
            arrays[name], faults = folders.decoded_pictures(values, job.fragment.location)
            violations += [([name], f"column '{name}': {fault}", mask) for fault, mask in faults.items()]
            continue
        notation = storage.notation(name) if counted[name].are_texts else None
        arrays[name] = conversion.as_type(values, kind, storage.zone, numbers, notation)
        violations += _misfits(name, values, arrays[name], storage)
    converted = pa.table(arrays | {ROW: table[ROW]})
    keep = quarantine.rows(table, violations)
    converted = converted.filter(keep) if violations else converted
    for name in sorted(storage.columns.keys() & names - storage.images):
        written = table[name].combine_chunks()
        _count_unread(name, written.filter(keep) if violations else written, converted[name], quarantine.counts)
    return converted


def _count_unread(name: str, written: pa.Array, read: pa.ChunkedArray, counts: RowCounts) -> None:
    """Count the values that were written and are missing, by their text."""
    if written.null_count == read.null_count:
        return
    unread = written.filter(pc.and_(pc.is_valid(conversion.without_nan(written)), pc.is_null(read.combine_chunks())))
    for text, rows in texts_of(unread):
        counts.unread.setdefault(name, Counter())[text] += rows
    if name in counts.unread:
        counts.unread[name] = most_frequent(counts.unread[name])


def _derive(table: pa.Table, storage: StorageSchema, quarantine: Quarantine) -> pa.Table:
    """Add the derived columns, all in the types of the snapshot; in the target, what is no label is no value."""
    added = expressions.add(table.drop_columns([ROW]), storage.derive, "recipe: data.derive")
    columns, violations = [], list[Any]()
    for column in storage.stored:
        derived = added[column.name].combine_chunks()
        values = conversion.to_stored(derived, column.type, storage.zone)
        violations += _misfits(column.name, derived, values, storage) if column.name in storage.derive else []
        labels = conversion.as_label(values) if column.name == storage.target else values
        if column.name == storage.target:
            quarantine.counts.num_unfit += labels.null_count - conversion.without_nan(values).null_count
        columns.append(labels)
    rows = pa.table([*columns, table[ROW]], names=[*storage.stored.names, ROW])
    return rows.filter(quarantine.rows(added.append_column(ROW, table[ROW]), violations)) if violations else rows


def _misfits(name: str, written: pa.Array, read: pa.Array, storage: StorageSchema) -> Violations:
    """The rows that a column costs, whose type is stated: elsewhere a value that cannot be read is missing."""
    if name not in storage.strict:
        return []
    mask = conversion.misfits(written, read)
    known = storage.contract[name].null_values if storage.contract and name in storage.contract else ()
    if known and pa.types.is_string(written.type) and mask.true_count:
        mask = pc.and_(mask, pc.invert(pc.is_in(pc.utf8_trim_whitespace(written), pa.array(known))))
    return [([name], f"column '{name}': not {read.type}", mask)] if mask.true_count else []


def _count(table: pa.Table, storage: StorageSchema, counts: RowCounts) -> None:
    counts.num_rows += table.num_rows
    for name in storage.stored.names:
        counts.nulls[name] += sum(conversion.without_nan(values).null_count for values in table[name].chunks)
        if pa.types.is_string(table[name].type) or pa.types.is_binary(table[name].type):
            counts.words.setdefault(name, WordCounts()).add(table[name])
    if storage.time is not None and (newest := pc.max(table[storage.time]).cast(pa.int64()).as_py()) is not None:
        counts.newest = newest if counts.newest is None else max(newest, counts.newest)
    if (
        storage.target is not None and len(counts.classes) < 2
    ):  # two are enough to know that there is something to learn
        for entry in pc.value_counts(table[storage.target].combine_chunks().drop_null()).to_pylist()[:2]:
            value = entry["values"]
            label = value if isinstance(value, bool | int | float | str) else str(value)
            counts.classes[label] = counts.classes.get(label, 0) + entry["counts"]


def _are_rows(numbers: pa.ChunkedArray, rows: Any) -> pa.ChunkedArray:
    return pc.is_in(numbers, pa.array(rows, pa.int64()))


def _make_empty(folder: Path) -> None:
    """Make a folder for this task's files, without what an attempt that was killed may have left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

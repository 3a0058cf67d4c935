"""One join, part by part: both sides divided, each part joined alone, some parts in ranges of time.

Keys, times and values divided by the hash of the key, so that each part can be joined alone.

One file of Arrow batches for each file of the source: for each of its row groups in turn,
one batch a part. A part is read through the memory map, a batch of each file at a time, so
that a part which is too large for one task is never held as a whole: tasks divide its times
among them, and each takes the rows of its own times and, of the table, what those can see.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import cluster
from mlsys.features.joins.asof import Counts, count_repeats, resolve
from mlsys.features.joins.spec import JoinSpec
from mlsys.statistics.hashing import combine, hash_array

__all__ = [
    "PartitionJob",
    "PartitionMatches",
    "PartitionedFile",
    "TimeRange",
    "join_partitions",
    "partition_rows",
    "partition_table",
    "range_bounds",
    "read_rows",
    "read_table",
]

VALUE = "value:"
"""Before the names of a table's columns, which may be any, beside our own."""

SAMPLE = 1 << 16
"""Times of a part, evenly spread over it, from which its ranges are chosen."""


@dataclass(frozen=True)
class PartitionJob:
    """One file to be divided: row groups counted from `first_chunk`, rows from `first_row`."""

    path: Path
    first_chunk: int
    first_row: int
    joining: JoinSpec
    num_parts: int
    target: Path


@dataclass(frozen=True)
class PartitionedFile:
    """What was written: rows read, rows with keys and time, and bytes of each part."""

    path: Path
    num_rows: int
    num_kept: int
    num_bytes: Ints


@dataclass(frozen=True)
class TimeRange:
    """Part of a part: times above `low`, up to `high`; None is without end."""

    part: int
    low: int | None = None
    high: int | None = None

    def holds(self, time: pl.Expr) -> pl.Expr:
        above = pl.lit(True) if self.low is None else time > self.low
        return above if self.high is None else above & (time <= self.high)


def partition_rows(job: PartitionJob) -> PartitionedFile:
    """Keys, times and places of rows. Rows that ask a table without time are ordered by their row group instead."""
    terms = job.joining.terms

    def batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
        columns = list(dict.fromkeys([*terms.keys, *([terms.time] if terms.time else [])]))
        for group, table in enumerate(_groups(file, columns)):
            chunk = pl.lit(job.first_chunk + group, pl.Int64)
            frame = terms.rows(table).with_columns(chunk.alias("__chunk"))
            yield _arrow(frame if terms.time else frame.with_columns(chunk.alias("__time")))

    return _divide(job, batches)


def partition_table(job: PartitionJob) -> PartitionedFile:
    """Keys, times and values of a table, ``__at`` its number of the row."""
    joining = job.joining

    def batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
        first = job.first_row
        columns = list(
            dict.fromkeys([*joining.terms.keys.values(), *(joining.terms.table_times or ()), *joining.reads])
        )
        for table in _groups(file, columns):
            index = joining.terms.table(table)
            values = table.select(joining.reads).take(pa.array(index["__at"].to_numpy()))
            numbered = _arrow(index.with_columns(pl.col("__at") + first))
            for field in values.schema:
                numbered = numbered.append_column(pa.field(VALUE + field.name, field.type), values[field.name])
            yield numbered
            first += table.num_rows

    return _divide(job, batches)


def read_rows(paths: Sequence[Path], num_parts: int, wanted: TimeRange) -> Iterator[pl.DataFrame]:
    """Rows of a range, a row group at a time, in their order."""
    for batch in _batches(paths, num_parts, wanted.part):
        frame = _frame(batch).filter(wanted.holds(pl.col("__time")))
        if frame.height:
            yield frame


def read_table(
    paths: Sequence[Path], num_parts: int, wanted: TimeRange, joining: JoinSpec
) -> tuple[pl.DataFrame, pa.Table]:
    """What the rows of a range can see of a table, index and values as `resolving.resolve` takes them.

    That is what was first seen within the range; of what was seen before it, the events that
    the longest window still reaches, and for each key the last one, which an as-of join
    finds until there is a later one. Column ``own`` of the index says what is of the range
    itself: over all ranges of a part each row is there once.
    """
    columns = [*joining.terms.by, "__time", "__known", "__at"]
    parts, last = [], None
    for batch in _batches(paths, num_parts, wanted.part):
        frame = _frame(batch.select(columns)).with_columns(wanted.holds(first_seen).alias("own"))
        if wanted.low is None:
            parts.append(frame.filter("own"))
            continue
        before = frame.filter(first_seen <= pl.lit(wanted.low))
        parts += [frame.filter("own"), before.filter(pl.col("__time") > wanted.low - joining.reach)]
        prevailing = (before if last is None else pl.concat([last, before])).sort("__time", "__known", "__at")
        last = prevailing.unique(joining.terms.by, keep="last")
    index = pl.concat([*parts, *([] if last is None else [last])]).unique("__at").sort("__at")
    values = [batch.drop_columns(columns) for batch in _kept(paths, num_parts, wanted, index["__at"])]
    names = [name.removeprefix(VALUE) for name in values[0].column_names]
    index = index.drop("__at").with_row_index("__at").cast({"__at": pl.Int64})
    return index, pa.concat_tables(values).rename_columns(names)


def _kept(paths: Sequence[Path], num_parts: int, wanted: TimeRange, numbers: pl.Series) -> Iterator[pa.Table]:
    places = pa.array(numbers.to_numpy())
    for batch in _batches(paths, num_parts, wanted.part):
        yield batch if wanted == TimeRange(wanted.part) else batch.filter(pc.is_in(batch["__at"], places))


def range_bounds(rows: Sequence[Path], table: Sequence[Path], num_parts: int, part: int, num_ranges: int) -> list[int]:
    """Times that cut a part in ranges of about as many bytes, rows and table together."""
    times, weights = [], []
    for paths, time in ((rows, pl.col("__time")), (table, first_seen)):
        batches = [batch for batch in _batches(paths, num_parts, part) if batch.num_rows]
        step = 1 + sum(batch.num_rows for batch in batches) // SAMPLE
        for batch in batches:
            some = _frame(batch.select([name for name in ("__time", "__known") if name in batch.column_names]))
            times.append(some.gather_every(step).select(time.alias("time"))["time"].to_numpy())
            weights.append(np.full(len(times[-1]), step * batch.nbytes / batch.num_rows))
    order = np.argsort(np.concatenate(times), kind="stable")
    ordered, filled = np.concatenate(times)[order], np.cumsum(np.concatenate(weights)[order])
    cuts = np.searchsorted(filled, filled[-1] * np.arange(1, num_ranges) / num_ranges)
    return [int(time) for time in np.unique(ordered[cuts]) if time < ordered[-1]]


first_seen = pl.max_horizontal("__time", "__known")


def _groups(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The row groups of a file; an empty one where it has none, so that every file has its batches."""
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns)
    if not file.num_row_groups:
        yield file.schema_arrow.empty_table().select(columns)


def _divide(job: PartitionJob, batches: Callable[[pq.ParquetFile], Iterator[pa.Table]]) -> PartitionedFile:
    """Write the batches of a file, each cut in one batch a part."""
    file, num_kept, num_bytes = pq.ParquetFile(job.path), 0, np.zeros(job.num_parts, np.int64)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        writer = None
        for table in batches(file):
            part = _parts(table, len(job.joining.terms.by), job.num_parts)
            order = np.argsort(part, kind="stable")
            stops = np.searchsorted(part[order], np.arange(job.num_parts + 1)).tolist()
            ordered = table.take(pa.array(order)).combine_chunks()
            writer = writer or stack.enter_context(pa.ipc.new_file(str(job.target), ordered.schema))
            for at, (start, stop) in enumerate(pairwise(stops)):
                (batch,) = ordered.slice(start, stop - start).to_batches() or [_empty(ordered.schema)]
                writer.write_batch(batch)
                num_bytes[at] += batch.nbytes
            num_kept += len(order)
    return PartitionedFile(job.target, file.metadata.num_rows, num_kept, num_bytes)


def _parts(table: pa.Table, num_keys: int, num_parts: int) -> npt.NDArray[np.int64]:
    """Part of each row: a hash that is the same on every machine, for the tasks run on several."""
    if num_parts == 1:
        return np.zeros(table.num_rows, np.int64)
    hashes = combine([hash_array(table[f"__key{at}"]) for at in range(num_keys)])
    return (hashes % np.uint64(num_parts)).astype(np.int64)


def _batches(paths: Iterable[Path], num_parts: int, part: int) -> Iterator[pa.Table]:
    """The batches of a part, file by file, read as they are needed."""
    for path in paths:
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for number in range(part, reader.num_record_batches, num_parts):
                yield pa.Table.from_batches([reader.get_batch(number)])


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


Ints = npt.NDArray[np.int64]

FREE = 1 << 62  # bytes: no bound for one task, which was chosen because all of it fits


@dataclass(frozen=True)
class PartitionMatches:
    """What a join found: for each row group of the rows, the batches that hold a part of it."""

    added: pa.Schema
    batches: Mapping[int, list[tuple[Path, int]]]
    counts: Counts
    work: dict[str, int]


@dataclass(frozen=True)
class _JoinJob:
    joining: JoinSpec
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    added: pa.Schema
    num_parts: int
    wanted: TimeRange
    target: Path
    max_bytes: int


def join_partitions(
    joining: JoinSpec,
    rows: Sequence[Path],
    table: Sequence[Path],
    added: pa.Schema,
    folder: Path,
    part_bytes: int | None,
) -> PartitionMatches:
    """Join the rows of some files with the table of others.

    Parameters
    ----------
    added
        The columns that the join adds.
    folder
        Takes what is divided and what is found.
    part_bytes
        What a task may hold of keys, times and values; None for one task that holds all.
    """
    num_parts = 1 if part_bytes is None else _num_parts(joining, rows, table, part_bytes)
    divided = cluster.map(partition_rows, _divisions(rows, joining, num_parts, folder / "rows"))
    other = cluster.map(partition_table, _divisions(table, joining, num_parts, folder / "table"))
    ours, theirs = (tuple(one.path for one in side) for side in (divided, other))
    sizes = [sum((one.num_bytes for one in side), np.zeros(num_parts, np.int64)) for side in (divided, other)]
    ranges = _ranges(ours, theirs, sizes[0] + sizes[1], part_bytes)
    job = partial(_JoinJob, joining, ours, theirs, added, num_parts)
    targets = [folder / f"found-{number:05d}.arrow" for number in range(len(ranges))]
    done = cluster.map(_join_part, [job(one, to, part_bytes or FREE) for one, to in zip(ranges, targets, strict=True)])
    counts = _without_key(divided, other)
    batches: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for target, (found, chunks, _) in zip(targets, done, strict=True):
        counts.update(found)
        for number, chunk in enumerate(chunks):
            batches[chunk].append((target, number))
    split = len({one.part for one in ranges if one != TimeRange(one.part)})
    work = {
        "parts": num_parts,
        "split": split,
        "tasks": len(done),
        "largest_task_bytes": max(held for *_, held in done),
    }
    return PartitionMatches(added, batches, counts, work)


def _divisions(paths: Sequence[Path], joining: JoinSpec, num_parts: int, folder: Path) -> list[PartitionJob]:
    heads = [pq.read_metadata(path) for path in paths]
    chunks = accumulate((head.num_row_groups for head in heads), initial=0)
    firsts = accumulate((head.num_rows for head in heads), initial=0)
    return [
        PartitionJob(path, chunk, first, joining, num_parts, folder / f"{path.stem}.arrow")
        for path, chunk, first in zip(paths, chunks, firsts, strict=False)
    ]


def _num_parts(joining: JoinSpec, rows: Sequence[Path], table: Sequence[Path], part_bytes: int) -> int:
    """Parts of half of what a task may hold on average, for hashes do not divide evenly."""
    terms = joining.terms
    columns = [*terms.keys.values(), *(terms.table_times or ()), *joining.reads]
    num_bytes = _num_bytes(rows, [*terms.keys, terms.time or ""]) + _num_bytes(table, columns)
    return max(1, -(-2 * num_bytes // part_bytes))


def _num_bytes(paths: Sequence[Path], columns: Sequence[str]) -> int:
    """Bytes in memory: those of the columns unpacked, at least 8 a value, and two numbers a row."""
    total = 0
    for head in map(pq.read_metadata, paths):
        groups = [head.row_group(number) for number in range(head.num_row_groups)]
        chunks = [group.column(at) for group in groups for at in range(head.num_columns)]
        wanted = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
        total += sum(max(chunk.total_uncompressed_size, 8 * chunk.num_values) for chunk in wanted) + 16 * head.num_rows
    return total


def _ranges(rows: tuple[Path, ...], table: tuple[Path, ...], sizes: Ints, part_bytes: int | None) -> list[TimeRange]:
    """One range for each part, several for those that are more than a task may hold."""
    large = [part for part in range(len(sizes)) if part_bytes is not None and sizes[part] > part_bytes]
    jobs = [_BoundsJob(rows, table, len(sizes), part, int(-(-sizes[part] // (part_bytes or FREE)))) for part in large]
    cuts = dict(zip(large, cluster.map(_bounds, jobs), strict=True))
    found = []
    for part in range(len(sizes)):
        edges = [None, *cuts.get(part, []), None]
        found += [TimeRange(part, low, high) for low, high in pairwise(edges)]
    return found


@dataclass(frozen=True)
class _BoundsJob:
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    num_parts: int
    part: int
    num_ranges: int


def _bounds(job: _BoundsJob) -> list[int]:
    return range_bounds(job.rows, job.table, job.num_parts, job.part, job.num_ranges)


def _without_key(rows: Sequence[PartitionedFile], table: Sequence[PartitionedFile]) -> Counts:
    lost = sum(one.num_rows - one.num_kept for one in rows)
    return Counter(
        {
            ("without_key",): lost,
            ("missing",): lost,
            ("table", "rows"): sum(one.num_rows for one in table),
            ("table", "without_key"): sum(one.num_rows - one.num_kept for one in table),
        }
    )


def _join_part(job: _JoinJob) -> tuple[Counts, list[int], int]:
    """Join the rows of a range, so many at a time; write one batch for each row group they are of.

    Returns the counts, the row groups of the batches, and the most bytes that were held at once.
    """
    joining, found, chunks, held = job.joining, Counter[tuple[str, ...]](), [], 0
    index, values = read_table(job.table, job.num_parts, job.wanted, joining)
    found[("table", "repeated")] = count_repeats(index.filter("own"), joining.terms, joining.name)
    with pa.ipc.new_file(str(job.target), job.added.insert(0, pa.field("__at", pa.int64()))) as writer:
        for asked in _slices(read_rows(job.rows, job.num_parts, job.wanted), job.max_bytes):
            joined, counts = resolve(asked, index, values, joining)
            found.update(counts)
            held = max(held, asked.estimated_size() + index.estimated_size() + values.nbytes)
            joined = joined.add_column(0, "__at", pa.array(asked["__at"].to_numpy()))
            for chunk, rows in asked.with_row_index("at").group_by("__chunk", maintain_order=True):
                start = rows["at"][0]
                chunks.append(int(chunk[0]))
                writer.write_table(joined.slice(start, rows.height).combine_chunks(), max_chunksize=rows.height)
    return found, chunks, held


def _slices(frames: Iterator[pl.DataFrame], max_bytes: int) -> Iterator[pl.DataFrame]:
    """Frames put together up to a size."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        if waiting and sum(one.estimated_size() for one in [*waiting, frame]) > max_bytes:
            yield pl.concat(waiting)
            waiting = []
        waiting.append(frame)
    if waiting:
        yield pl.concat(waiting)

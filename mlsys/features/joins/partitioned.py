"""One join of stored tables, partition by partition.

Both sides are divided by the hash of the key, so that each partition can be joined alone. Each source file becomes one
file of Arrow batches: for each of its row groups in turn, one batch a partition, which is read through the memory map.
A partition that is too large for a task, because a key is very frequent, is divided by time: each task takes the rows
of its own times and, of the table, what those can see.
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
from mlsys.statistics.hashing import hash_rows

VALUE = "value:"
"""Prefix of a table's columns, whose names may be any, beside the columns of a join."""

SAMPLE = 1 << 16
"""Times of a partition, evenly spread over it, from which its ranges are chosen."""


@dataclass(frozen=True)
class PartitionJob:
    """A file to partition: row groups are counted from `first_group`, rows from `first_row`."""

    path: Path
    first_group: int
    first_row: int
    spec: JoinSpec
    num_parts: int
    target: Path


Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartitionedFile:
    """A partitioned file: rows that were read, rows with keys and time, and bytes of each partition."""

    path: Path
    num_rows: int
    num_with_key: int
    num_bytes: Ints


@dataclass(frozen=True)
class TimeRange:
    """A range of the times of a partition: above `low`, up to `high`; None is without end."""

    part: int
    low: int | None = None
    high: int | None = None

    def holds(self, time: pl.Expr) -> pl.Expr:
        above = pl.lit(True) if self.low is None else time > self.low
        return above if self.high is None else above & (time <= self.high)


def partition_rows(job: PartitionJob) -> PartitionedFile:
    """Partition keys, times and places of rows; for a table without time, they are ordered by row group instead."""
    join_keys = job.spec.join_keys

    def batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
        columns = list(dict.fromkeys([*join_keys.keys, *([join_keys.time] if join_keys.time else [])]))
        for number, table in enumerate(_groups(file, columns)):
            group = pl.lit(job.first_group + number, pl.Int64)
            frame = join_keys.rows(table).with_columns(group.alias("__group"))
            yield _arrow(frame if join_keys.time else frame.with_columns(group.alias("__time")))

    return _divide(job, batches)


def partition_table(job: PartitionJob) -> PartitionedFile:
    """Partition keys, times and values of a table; ``__at`` is the number of the row."""
    spec, join_keys = job.spec, job.spec.join_keys

    def batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
        first = job.first_row
        columns = list(dict.fromkeys([*join_keys.keys.values(), *(join_keys.table_times or ()), *spec.reads]))
        for table in _groups(file, columns):
            index = join_keys.table(table)
            values = table.select(spec.reads).take(pa.array(index["__at"].to_numpy()))
            numbered = _arrow(index.with_columns(pl.col("__at") + first))
            for field in values.schema:
                numbered = numbered.append_column(pa.field(VALUE + field.name, field.type), values[field.name])
            yield numbered
            first += table.num_rows

    return _divide(job, batches)


def read_rows(paths: Sequence[Path], num_parts: int, time_range: TimeRange) -> Iterator[pl.DataFrame]:
    """Read the rows of a range, a row group at a time, in their order."""
    for batch in _batches(paths, num_parts, time_range.part):
        frame = _frame(batch).filter(time_range.holds(pl.col("__time")))
        if frame.height:
            yield frame


def read_table(
    paths: Sequence[Path], num_parts: int, time_range: TimeRange, spec: JoinSpec
) -> tuple[pl.DataFrame, pa.Table]:
    """Read what the rows of a range can see of a table: index and values for `mlsys.features.joins.asof.resolve`.

    That is what was first seen within the range; of what was seen before it, the events that the longest window still
    reaches, and for each key the last one, which an as-of join finds until there is a later one. Column ``own`` of the
    index says what is of the range itself: over all ranges of a partition each row is there once.
    """
    # 1. The index: events of the range, earlier ones within the longest window, and the last of each key.
    columns = [*spec.join_keys.by, "__time", "__known", "__at"]
    events, last = [], None
    for batch in _batches(paths, num_parts, time_range.part):
        frame = _frame(batch.select(columns)).with_columns(time_range.holds(first_seen).alias("own"))
        if time_range.low is None:
            events.append(frame.filter("own"))
            continue
        before = frame.filter(first_seen <= pl.lit(time_range.low))
        events += [frame.filter("own"), before.filter(pl.col("__time") > time_range.low - spec.reach)]
        prevailing = (before if last is None else pl.concat([last, before])).sort("__time", "__known", "__at")
        last = prevailing.unique(spec.join_keys.by, keep="last")
    index = pl.concat([*events, *([] if last is None else [last])]).unique("__at").sort("__at")
    # 2. The values of these events.
    whole, places = time_range == TimeRange(time_range.part), pa.array(index["__at"].to_numpy())
    values = [
        (batch if whole else batch.filter(pc.is_in(batch["__at"], places))).drop_columns(columns)
        for batch in _batches(paths, num_parts, time_range.part)
    ]
    names = [name.removeprefix(VALUE) for name in values[0].column_names]
    index = index.drop("__at").with_row_index("__at").cast({"__at": pl.Int64})
    return index, pa.concat_tables(values).rename_columns(names)


@dataclass(frozen=True)
class _BoundsJob:
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    num_parts: int
    part: int
    num_ranges: int


def _range_bounds(job: _BoundsJob) -> list[int]:
    """Find the times that cut a partition into ranges of about as many bytes, rows and table together."""
    times, weights = [], []
    for paths, time in ((job.rows, pl.col("__time")), (job.table, first_seen)):
        batches = [batch for batch in _batches(paths, job.num_parts, job.part) if batch.num_rows]
        step = 1 + sum(batch.num_rows for batch in batches) // SAMPLE
        for batch in batches:
            some = _frame(batch.select([name for name in ("__time", "__known") if name in batch.column_names]))
            times.append(some.gather_every(step).select(time.alias("time"))["time"].to_numpy())
            weights.append(np.full(len(times[-1]), step * batch.nbytes / batch.num_rows))
    order = np.argsort(np.concatenate(times), kind="stable")
    ordered, filled = np.concatenate(times)[order], np.cumsum(np.concatenate(weights)[order])
    cuts = np.searchsorted(filled, filled[-1] * np.arange(1, job.num_ranges) / job.num_ranges)
    return [int(time) for time in np.unique(ordered[cuts]) if time < ordered[-1]]


first_seen = pl.max_horizontal("__time", "__known")


def _groups(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The row groups of a file; an empty table if it has none, so that every file has its batches."""
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns)
    if not file.num_row_groups:
        yield file.schema_arrow.empty_table().select(columns)


def _divide(job: PartitionJob, batches: Callable[[pq.ParquetFile], Iterator[pa.Table]]) -> PartitionedFile:
    """Write the batches of a file, each cut into one batch a partition."""
    file, num_with_key, num_bytes = pq.ParquetFile(job.path), 0, np.zeros(job.num_parts, np.int64)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        writer = None
        for table in batches(file):
            part = _parts(table, len(job.spec.join_keys.by), job.num_parts)
            order = np.argsort(part, kind="stable")
            stops = np.searchsorted(part[order], np.arange(job.num_parts + 1)).tolist()
            ordered = table.take(pa.array(order)).combine_chunks()
            empty = pa.RecordBatch.from_pylist([], schema=ordered.schema)
            writer = writer or stack.enter_context(pa.ipc.new_file(str(job.target), ordered.schema))
            for number, (start, stop) in enumerate(pairwise(stops)):
                (batch,) = ordered.slice(start, stop - start).to_batches() or [empty]
                writer.write_batch(batch)
                num_bytes[number] += batch.nbytes
            num_with_key += len(order)
    return PartitionedFile(job.target, file.metadata.num_rows, num_with_key, num_bytes)


def _parts(table: pa.Table, num_keys: int, num_parts: int) -> Ints:
    """Number of the partition of each row, by a hash that is the same on every machine."""
    if num_parts == 1:
        return np.zeros(table.num_rows, np.int64)
    hashes = hash_rows(table, [f"__key{number}" for number in range(num_keys)])
    return (hashes % np.uint64(num_parts)).astype(np.int64)


def _batches(paths: Iterable[Path], num_parts: int, part: int) -> Iterator[pa.Table]:
    """The batches of a partition, file by file, read as they are needed."""
    for path in paths:
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for number in range(part, reader.num_record_batches, num_parts):
                yield pa.Table.from_batches([reader.get_batch(number)])


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


UNBOUNDED = 1 << 62
"""Bytes of one task that was chosen because all of the join fits into it."""


@dataclass(frozen=True)
class PartitionMatches:
    """The result of a join: for each row group of the rows, the batches that hold a part of it."""

    added: pa.Schema
    batches: Mapping[int, list[tuple[Path, int]]]
    counts: Counts
    work: dict[str, int]


@dataclass(frozen=True)
class _JoinJob:
    spec: JoinSpec
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    added: pa.Schema
    num_parts: int
    range: TimeRange
    target: Path
    max_bytes: int


def join_partitions(
    spec: JoinSpec, rows: Sequence[Path], table: Sequence[Path], added: pa.Schema, folder: Path, part_bytes: int | None
) -> PartitionMatches:
    """Join the rows of some files with the table of others; `added` are the columns that the join adds.

    The partitioned files and the matches lie in `folder`. A task holds at most `part_bytes` of keys, times and
    values; None is for one task that holds all.
    """
    # 1. Partition both sides.
    num_parts = 1 if part_bytes is None else _num_parts(spec, rows, table, part_bytes)
    row_files = cluster.map(partition_rows, _partition_jobs(rows, spec, num_parts, folder / "rows"))
    table_files = cluster.map(partition_table, _partition_jobs(table, spec, num_parts, folder / "table"))
    row_paths, table_paths = (tuple(file.path for file in side) for side in (row_files, table_files))
    sizes = sum((file.num_bytes for file in (*row_files, *table_files)), np.zeros(num_parts, np.int64))
    # 2. Join each partition, or each time range of a large one.
    ranges = _ranges(row_paths, table_paths, sizes, part_bytes)
    job = partial(_JoinJob, spec, row_paths, table_paths, added, num_parts)
    targets = [folder / f"found-{number:05d}.arrow" for number in range(len(ranges))]
    jobs = [job(each, target, part_bytes or UNBOUNDED) for each, target in zip(ranges, targets, strict=True)]
    results = cluster.map(_join_range, jobs)
    # 3. Sum the counts, and list the batches of each row group.
    counts = _without_key(row_files, table_files)
    batches: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for target, (outcomes, groups, _) in zip(targets, results, strict=True):
        counts.update(outcomes)
        for number, group in enumerate(groups):
            batches[group].append((target, number))
    work = {
        "parts": num_parts,
        "split": len({each.part for each in ranges if each != TimeRange(each.part)}),
        "tasks": len(results),
        "largest_task_bytes": max(num_bytes for *_, num_bytes in results),
    }
    return PartitionMatches(added, batches, counts, work)


def _partition_jobs(paths: Sequence[Path], spec: JoinSpec, num_parts: int, folder: Path) -> list[PartitionJob]:
    heads = [pq.read_metadata(path) for path in paths]
    groups = accumulate((head.num_row_groups for head in heads), initial=0)
    firsts = accumulate((head.num_rows for head in heads), initial=0)
    return [
        PartitionJob(path, group, first, spec, num_parts, folder / f"{path.stem}.arrow")
        for path, group, first in zip(paths, groups, firsts, strict=False)
    ]


def _num_parts(spec: JoinSpec, rows: Sequence[Path], table: Sequence[Path], part_bytes: int) -> int:
    """Number of partitions; they are half of what a task may hold on average, for hashes do not divide evenly."""
    join_keys = spec.join_keys
    columns = [*join_keys.keys.values(), *(join_keys.table_times or ()), *spec.reads]
    num_bytes = _num_bytes(rows, [*join_keys.keys, join_keys.time or ""]) + _num_bytes(table, columns)
    return max(1, -(-2 * num_bytes // part_bytes))


def _num_bytes(paths: Sequence[Path], columns: Sequence[str]) -> int:
    """Bytes in memory: those of the unpacked columns, at least 8 a value, and two numbers a row."""
    total = 0
    for head in map(pq.read_metadata, paths):
        groups = [head.row_group(number) for number in range(head.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(head.num_columns)]
        read = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
        total += sum(max(chunk.total_uncompressed_size, 8 * chunk.num_values) for chunk in read) + 16 * head.num_rows
    return total


def _ranges(rows: tuple[Path, ...], table: tuple[Path, ...], sizes: Ints, part_bytes: int | None) -> list[TimeRange]:
    """One range for each partition, several for those that are more than a task may hold."""
    large = [part for part in range(len(sizes)) if part_bytes is not None and sizes[part] > part_bytes]
    num_ranges = {part: int(-(-sizes[part] // (part_bytes or UNBOUNDED))) for part in large}
    jobs = [_BoundsJob(rows, table, len(sizes), part, num_ranges[part]) for part in large]
    cuts = dict(zip(large, cluster.map(_range_bounds, jobs), strict=True))
    ranges = []
    for part in range(len(sizes)):
        edges = [None, *cuts.get(part, []), None]
        ranges += [TimeRange(part, low, high) for low, high in pairwise(edges)]
    return ranges


def _without_key(rows: Sequence[PartitionedFile], table: Sequence[PartitionedFile]) -> Counts:
    lost, lost_of_table = (sum(file.num_rows - file.num_with_key for file in side) for side in (rows, table))
    counts: Counts = Counter({("without_key",): lost, ("missing",): lost})
    counts.update({("table", "rows"): sum(file.num_rows for file in table), ("table", "without_key"): lost_of_table})
    return counts


def _join_range(job: _JoinJob) -> tuple[Counts, list[int], int]:
    """Join a range, a batch for each row group; give the counts, the groups of the batches, and the most bytes held."""
    spec, counts, groups, most_bytes = job.spec, Counter[tuple[str, ...]](), [], 0
    index, values = read_table(job.table, job.num_parts, job.range, spec)
    counts[("table", "repeated")] = count_repeats(index.filter("own"), spec.join_keys, spec.name)
    with pa.ipc.new_file(str(job.target), job.added.insert(0, pa.field("__at", pa.int64()))) as writer:
        for asked in _slices(read_rows(job.rows, job.num_parts, job.range), job.max_bytes):
            matches, outcomes = resolve(asked, index, values, spec)
            counts.update(outcomes)
            most_bytes = max(most_bytes, asked.estimated_size() + index.estimated_size() + values.nbytes)
            matches = matches.add_column(0, "__at", pa.array(asked["__at"].to_numpy()))
            for (group,), rows in asked.with_row_index("place").group_by("__group", maintain_order=True):
                start = rows["place"][0]
                groups.append(int(group))
                writer.write_table(matches.slice(start, rows.height).combine_chunks(), max_chunksize=rows.height)
    return counts, groups, most_bytes


def _slices(frames: Iterator[pl.DataFrame], max_bytes: int) -> Iterator[pl.DataFrame]:
    """Concatenate frames up to a size."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        if waiting and sum(each.estimated_size() for each in [*waiting, frame]) > max_bytes:
            yield pl.concat(waiting)
            waiting = []
        waiting.append(frame)
    if waiting:
        yield pl.concat(waiting)

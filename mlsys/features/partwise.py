"""One join, part by part: both sides divided, each part joined alone, some parts in ranges of time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.features import parts
from mlsys.features.joining import Joining
from mlsys.features.parts import Divide, Divided, Range
from mlsys.features.resolving import Counts, count_repeats, resolve

__all__ = ["Each", "Found", "join"]

S = TypeVar("S")
T = TypeVar("T")
Ints = npt.NDArray[np.int64]

Each = Callable[[Callable[[S], T], Sequence[S]], list[T]]
"""Runs a function on each of several jobs, here or on a cluster; results in their order."""

FREE = 1 << 62  # bytes: no bound for one task, which was chosen because all of it fits


@dataclass(frozen=True)
class Found:
    """What a join found: for each row group of the rows, the batches that hold a part of it."""

    added: pa.Schema
    batches: Mapping[int, list[tuple[Path, int]]]
    counts: Counts
    work: dict[str, int]


@dataclass(frozen=True)
class _PartJob:
    joining: Joining
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    added: pa.Schema
    num_parts: int
    wanted: Range
    target: Path
    max_bytes: int


def join(
    joining: Joining,
    rows: Sequence[Path],
    table: Sequence[Path],
    added: pa.Schema,
    folder: Path,
    part_bytes: int | None,
    each: Each[Any, Any],
) -> Found:
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
    divided = each(parts.divide_rows, _divisions(rows, joining, num_parts, folder / "rows"))
    other = each(parts.divide_table, _divisions(table, joining, num_parts, folder / "table"))
    ours, theirs = (tuple(one.path for one in side) for side in (divided, other))
    sizes = [sum((one.num_bytes for one in side), np.zeros(num_parts, np.int64)) for side in (divided, other)]
    ranges = _ranges(ours, theirs, sizes[0] + sizes[1], part_bytes, each)
    job = partial(_PartJob, joining, ours, theirs, added, num_parts)
    targets = [folder / f"found-{number:05d}.arrow" for number in range(len(ranges))]
    done = each(_join_part, [job(one, to, part_bytes or FREE) for one, to in zip(ranges, targets, strict=True)])
    counts = _without_key(divided, other)
    batches: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for target, (found, chunks, _) in zip(targets, done, strict=True):
        counts.update(found)
        for number, chunk in enumerate(chunks):
            batches[chunk].append((target, number))
    split = len({one.part for one in ranges if one != Range(one.part)})
    work = {
        "parts": num_parts,
        "split": split,
        "tasks": len(done),
        "largest_task_bytes": max(held for *_, held in done),
    }
    return Found(added, batches, counts, work)


def _divisions(paths: Sequence[Path], joining: Joining, num_parts: int, folder: Path) -> list[Divide]:
    heads = [pq.read_metadata(path) for path in paths]
    chunks = accumulate((head.num_row_groups for head in heads), initial=0)
    firsts = accumulate((head.num_rows for head in heads), initial=0)
    return [
        Divide(path, chunk, first, joining, num_parts, folder / f"{path.stem}.arrow")
        for path, chunk, first in zip(paths, chunks, firsts, strict=False)
    ]


def _num_parts(joining: Joining, rows: Sequence[Path], table: Sequence[Path], part_bytes: int) -> int:
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


def _ranges(
    rows: tuple[Path, ...], table: tuple[Path, ...], sizes: Ints, part_bytes: int | None, each: Each[Any, Any]
) -> list[Range]:
    """One range for each part, several for those that are more than a task may hold."""
    large = [part for part in range(len(sizes)) if part_bytes is not None and sizes[part] > part_bytes]
    jobs = [_BoundsJob(rows, table, len(sizes), part, int(-(-sizes[part] // (part_bytes or FREE)))) for part in large]
    cuts = dict(zip(large, each(_bounds, jobs), strict=True))
    found = []
    for part in range(len(sizes)):
        edges = [None, *cuts.get(part, []), None]
        found += [Range(part, low, high) for low, high in pairwise(edges)]
    return found


@dataclass(frozen=True)
class _BoundsJob:
    rows: tuple[Path, ...]
    table: tuple[Path, ...]
    num_parts: int
    part: int
    num_ranges: int


def _bounds(job: _BoundsJob) -> list[int]:
    return parts.bounds(job.rows, job.table, job.num_parts, job.part, job.num_ranges)


def _without_key(rows: Sequence[Divided], table: Sequence[Divided]) -> Counts:
    lost = sum(one.num_rows - one.num_kept for one in rows)
    return Counter(
        {
            ("without_key",): lost,
            ("missing",): lost,
            ("table", "rows"): sum(one.num_rows for one in table),
            ("table", "without_key"): sum(one.num_rows - one.num_kept for one in table),
        }
    )


def _join_part(job: _PartJob) -> tuple[Counts, list[int], int]:
    """Join the rows of a range, so many at a time; write one batch for each row group they are of.

    Returns the counts, the row groups of the batches, and the most bytes that were held at once.
    """
    joining, found, chunks, held = job.joining, Counter[tuple[str, ...]](), [], 0
    index, values = parts.read_table(job.table, job.num_parts, job.wanted, joining)
    found[("table", "repeated")] = count_repeats(index.filter("own"), joining.terms, joining.name)
    with pa.ipc.new_file(str(job.target), job.added.insert(0, pa.field("__at", pa.int64()))) as writer:
        for asked in _slices(parts.read_rows(job.rows, job.num_parts, job.wanted), job.max_bytes):
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

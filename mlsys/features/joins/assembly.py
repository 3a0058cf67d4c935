"""Feature tables of any size joined to stored rows: divided by the hash of the key, then put back in order.

Each join reads of the rows only keys and times. These and the table are partitioned, and each partition is joined alone
(`mlsys.features.joins.partitioned`); the matches are put beside the rows, a row group at a time. So a task holds about
`PART_BYTES`, whatever the number of rows, and all of it is the same arithmetic in one task or in many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, recipe
from mlsys.dataset import Snapshot
from mlsys.features.joins import partitioned
from mlsys.features.joins.asof import append_columns, match_report
from mlsys.features.joins.partitioned import PartitionMatches
from mlsys.features.joins.spec import JoinSpec, columns_of, keys_of
from mlsys.schema import Column, Kind, Role, Schema
from mlsys.store import Store

Tables = Mapping[str, tuple[recipe.Join, Snapshot]]

PART_BYTES = 128 << 20
"""Bytes of keys, times and values that one task holds; with what it computes of them, under a gigabyte a core."""


@dataclass(frozen=True)
class Assembled:
    """A snapshot with the joined columns, and the report of the joins (JSON-able): ``plan`` and ``joins``."""

    snapshot: Snapshot
    report: dict[str, Any]


def assemble(
    store: Store, snapshot: Snapshot, tables: Tables, progress: Callable[[str], None] = lambda _: None
) -> Assembled:
    """Join the columns of all tables, in the order of `tables`, into a new snapshot.

    A table may be joined on columns that one before it has brought. The counts of each join
    (see `mlsys.features.joins.asof.join`) are also the fact ``joins`` of the new snapshot, which has the same
    digest whichever plan was chosen.

    Raises
    ------
    FeatureError, RecipeError
        A join is refused, see `mlsys.features.joins.asof.join`.
    """
    plan = _plan(snapshot, tables)
    progress(f"joining {', '.join(tables)} to {snapshot.num_rows:,} rows: {plan.reason}")
    part_bytes = PART_BYTES if plan.kind == "cluster" else None
    digest, work = plan.run(_assemble, store, snapshot, dict(tables), part_bytes)
    counts = store.facts("snapshot", digest)["joins"]
    joins = {name: {**counts[name], "work": work[name]} for name in tables}
    return Assembled(Snapshot.open(store, digest), {"plan": asdict(plan), "joins": joins})


def _plan(snapshot: Snapshot, tables: Tables) -> cluster.ExecutionPlan:
    snapshots = [snapshot, *(table for _, table in tables.values())]
    heads = [pq.read_metadata(path) for each in snapshots for path in each.paths]
    num_bytes = sum(head.row_group(group).total_byte_size for head in heads for group in range(head.num_row_groups))
    return cluster.plan(snapshot.num_rows, num_bytes)


def _assemble(store: Store, snapshot: Snapshot, tables: Tables, part_bytes: int | None) -> tuple[str, dict[str, Any]]:
    columns, paths = list(snapshot.schema), snapshot.paths
    counts: dict[str, Any] = {}
    work: dict[str, Any] = {}
    with store.staging() as scratch, store.staging() as folder:
        rounds = _rounds(snapshot.schema.names, tables)
        for number, names in enumerate(rounds):
            joins = []
            for name in names:
                settings, table = tables[name]
                rows = Schema(columns=tuple(columns)).arrow()
                spec = JoinSpec.of(rows, table.schema.arrow(), settings, snapshot.schema.name_of(Role.TIME), name)
                added, into = spec.schema(table.schema.arrow()), scratch / f"join-{len(counts)}"
                joins.append(partitioned.join_partitions(spec, paths, table.paths, added, into, part_bytes))
                counts[name], work[name] = match_report(joins[-1].counts, spec), joins[-1].work
                columns += _columns(spec, table.schema)
            target = folder / "data" if number == len(rounds) - 1 else scratch / f"round-{number}"
            paths = write_joined_files(paths, joins, target)
        schema = Schema(columns=tuple(columns)).model_dump(mode="json")
        facts = {"schema": schema, "num_rows": snapshot.num_rows, "joins": counts}
        return store.commit("snapshot", folder, facts), work


def _rounds(names: Sequence[str], tables: Tables) -> list[list[str]]:
    """Divide the tables into rounds: those whose keys the rows have, then those whose keys were joined by then."""
    joined, coming = set(names), set(names)
    rounds: list[list[str]] = [[]]
    for name, (settings, table) in tables.items():
        if rounds[-1] and not joined.issuperset(keys_of(settings)):
            joined = set(coming)
            rounds.append([])
        rounds[-1].append(name)
        coming.update(settings.prefix + column for column in columns_of(table.schema.names, settings, name))
        coming.update(settings.prefix + title for title in settings.aggregates)
    return rounds


def _columns(spec: JoinSpec, table: Schema) -> list[Column]:
    """Columns that a join adds: features, null for rows without a match."""
    columns = [
        table[name].model_copy(update={"name": spec.prefix + name, "role": Role.FEATURE, "nullable": True})
        for name in spec.columns
    ]
    for window in spec.windows:
        unit = table[window.column].unit if window.column and not window.is_count else None
        columns.append(Column(name=window.name, type=str(window.type), kind=Kind.NUMERIC, unit=unit))
    return columns


@dataclass(frozen=True)
class _RowsFileJob:
    """A file of rows; for each join its columns, and the batches of each row group."""

    path: Path
    target: Path
    joins: list[tuple[pa.Schema, list[list[tuple[Path, int]]]]]


def write_joined_files(paths: Sequence[Path], joins: Sequence[PartitionMatches], folder: Path) -> list[Path]:
    """Write files of the rows with the columns of all joins after their own; rows keep their order."""
    folder.mkdir(parents=True)
    heads = [pq.read_metadata(path) for path in paths]
    firsts = list(accumulate((head.num_row_groups for head in heads), initial=0))
    jobs = []
    for path, (first, stop) in zip(paths, pairwise(firsts), strict=True):
        matches = [(join.added, [join.batches.get(group, []) for group in range(first, stop)]) for join in joins]
        jobs.append(_RowsFileJob(path, folder / path.name, matches))
    cluster.map(_write_joined_file, jobs)
    return [job.target for job in jobs]


def _write_joined_file(job: _RowsFileJob) -> None:
    file = pq.ParquetFile(job.path)
    schema = pa.schema([*file.schema_arrow, *(field.with_nullable(True) for added, _ in job.joins for field in added)])
    with pq.ParquetWriter(job.target, schema, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for added, batches in job.joins:
                table = _append_matches(table, added, batches[group])
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))


def _append_matches(table: pa.Table, added: pa.Schema, batches: Sequence[tuple[Path, int]]) -> pa.Table:
    """A row group with the columns of its matches; null for rows without one."""
    places, parts, num_matches = np.full(table.num_rows, -1), [], 0
    for path, number in batches:
        with pa.memory_map(str(path)) as mapped:
            batch = pa.ipc.open_file(mapped).get_batch(number)
        places[batch["__at"].to_numpy()] = np.arange(num_matches, num_matches + batch.num_rows)
        num_matches += batch.num_rows
        parts.append(batch)
    return append_columns(table, added, pa.Table.from_batches(parts) if parts else None, places)

"""Stored rows and feature tables of any size joined: divided by the hash of the key, then put back in order.

Each join reads of the rows only keys and times. These and the table are divided into parts
(`mlsys.features.joins.partitioned`), each part is joined alone (`joins.match`), and what was found is
put beside the rows, a row group at a time. A part that is too large for a task, because one
key is very frequent, is divided once more by time. So a task holds about `PART_BYTES`,
whatever the number of rows, and all of it is the same arithmetic in one task or in many.

What was found for rows, put beside them: a row group at a time, in files of the same names.
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

__all__ = ["Assembled", "assemble", "write_joined_files"]


@dataclass(frozen=True)
class _RowsFileJob:
    path: Path
    target: Path
    found: list[tuple[pa.Schema, list[list[tuple[Path, int]]]]]


def write_joined_files(paths: Sequence[Path], found: Sequence[PartitionMatches], folder: Path) -> list[Path]:
    """Files of the rows with the columns of all joins after their own, in their order."""
    folder.mkdir(parents=True)
    heads = [pq.read_metadata(path) for path in paths]
    firsts = list(accumulate((head.num_row_groups for head in heads), initial=0))
    jobs = [
        _RowsFileJob(
            path,
            folder / path.name,
            [(one.added, [one.batches.get(chunk, []) for chunk in range(first, stop)]) for one in found],
        )
        for path, (first, stop) in zip(paths, pairwise(firsts), strict=True)
    ]
    cluster.map(_put_back, jobs)
    return [job.target for job in jobs]


def _put_back(job: _RowsFileJob) -> None:
    file = pq.ParquetFile(job.path)
    schema = pa.schema([*file.schema_arrow, *(field.with_nullable(True) for added, _ in job.found for field in added)])
    with pq.ParquetWriter(job.target, schema, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for added, batches in job.found:
                table = _beside(table, added, batches[group])
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))


def _beside(table: pa.Table, added: pa.Schema, batches: Sequence[tuple[Path, int]]) -> pa.Table:
    """A row group with the columns found for it; null where nothing was."""
    at, batches_ = np.full(table.num_rows, -1), []
    num_found = 0
    for path, number in batches:
        with pa.memory_map(str(path)) as mapped:
            batch = pa.ipc.open_file(mapped).get_batch(number)
        at[batch["__at"].to_numpy()] = np.arange(num_found, num_found + batch.num_rows)
        num_found += batch.num_rows
        batches_.append(batch)
    found = pa.Table.from_batches(batches_) if batches_ else None
    return append_columns(table, added, found, at)


Tables = Mapping[str, tuple[recipe.Join, Snapshot]]

PART_BYTES = 128 << 20
"""Keys, times and values that one task holds; with what it computes of them, under a gigabyte a core."""


@dataclass(frozen=True)
class Assembled:
    """A snapshot with the joined columns, and how it came about (JSON-able): ``plan`` and ``joins``."""

    snapshot: Snapshot
    report: dict[str, Any]


def assemble(
    store: Store, snapshot: Snapshot, tables: Tables, progress: Callable[[str], None] = lambda _: None
) -> Assembled:
    """A new snapshot with the columns of all tables joined on, in the order of `tables`.

    A table may be joined on columns that one before it has brought. The counts of each join
    (see `joins.join`) are also the fact ``joins`` of the new snapshot, which has the same
    digest whichever plan was chosen.

    Raises
    ------
    FeatureError, RecipeError
        As `joins.join`.
    """
    plan = _plan(snapshot, tables)
    progress(f"joining {', '.join(tables)} to {snapshot.num_rows:,} rows: {plan.reason}")
    part_bytes = PART_BYTES if plan.kind == "cluster" else None
    digest, work = plan.run(_assemble, store, snapshot, dict(tables), part_bytes)
    found = store.facts("snapshot", digest)["joins"]
    told = {name: {**found[name], "work": work[name]} for name in tables}
    return Assembled(Snapshot.open(store, digest), {"plan": asdict(plan), "joins": told})


def _plan(snapshot: Snapshot, tables: Tables) -> cluster.ExecutionPlan:
    stored = [snapshot, *(table for _, table in tables.values())]
    num_bytes = sum(
        file.row_group(group).total_byte_size
        for path in (path for one in stored for path in one.paths)
        for file in [pq.read_metadata(path)]
        for group in range(file.num_row_groups)
    )
    return cluster.plan(snapshot.num_rows, num_bytes)


def _assemble(store: Store, snapshot: Snapshot, tables: Tables, part_bytes: int | None) -> tuple[str, dict[str, Any]]:
    columns, paths = list(snapshot.schema), snapshot.paths
    counts: dict[str, Any] = {}
    work: dict[str, Any] = {}
    with store.staging() as scratch, store.staging() as folder:
        rounds = _rounds(snapshot.schema.names, tables)
        for number, names in enumerate(rounds):
            found = []
            for name in names:
                spec, table = tables[name]
                rows = Schema(columns=tuple(columns)).arrow()
                joining = JoinSpec.of(rows, table.schema.arrow(), spec, snapshot.schema.one(Role.TIME), name)
                added, into = joining.schema(table.schema.arrow()), scratch / f"join-{len(counts)}"
                found.append(partitioned.join_partitions(joining, paths, table.paths, added, into, part_bytes))
                counts[name], work[name] = match_report(found[-1].counts, joining), found[-1].work
                columns += _columns(joining, table.schema)
            target = folder / "data" if number == len(rounds) - 1 else scratch / f"round-{number}"
            paths = write_joined_files(paths, found, target)
        schema = Schema(columns=tuple(columns)).model_dump(mode="json")
        facts = {"schema": schema, "num_rows": snapshot.num_rows, "joins": counts}
        return store.commit("snapshot", folder, facts), work


def _rounds(names: Sequence[str], tables: Tables) -> list[list[str]]:
    """Tables whose keys the rows have, then those whose keys were joined by then, and so on."""
    there, coming = set(names), set(names)
    rounds: list[list[str]] = [[]]
    for name, (spec, table) in tables.items():
        if rounds[-1] and not there.issuperset(keys_of(spec)):
            there = set(coming)
            rounds.append([])
        rounds[-1].append(name)
        coming.update(spec.prefix + column for column in columns_of(table.schema.names, spec, name))
        coming.update(spec.prefix + title for title in spec.aggregates)
    return rounds


def _columns(joining: JoinSpec, table: Schema) -> list[Column]:
    """Columns that a join adds: features, null where there is no match."""
    told = [
        table[name].model_copy(update={"name": joining.prefix + name, "role": Role.FEATURE, "nullable": True})
        for name in joining.taken
    ]
    for window in joining.windows:
        unit = table[window.column].unit if window.column and window.function != "distinct" else None
        kind = "int64" if window.function in ("count", "distinct") else "double"
        told.append(Column(name=window.name, type=kind, kind=Kind.NUMERIC, unit=unit))
    return told

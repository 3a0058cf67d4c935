"""`take`: a source becomes checked, content-addressed Parquet, a schema file, a quarantine and a report.

The passes over all pieces, the decision on types between them, and the snapshot at the end.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from mlsys import cluster, errors, recipe
from mlsys.collect import collected_rows as repeated
from mlsys.collect import (
    contract,
    history,
    incremental,
    pipeline,
    report,
    storage_schema,
    type_inference,
)
from mlsys.collect import (
    quarantine as collect_quarantine,
)
from mlsys.collect.cache import PART, REJECTED, Cache, Stored, link
from mlsys.collect.contract import Contract
from mlsys.collect.history import CollectionRecord
from mlsys.collect.pipeline import DropDuplicatesJob, ScanJob, WriteJob
from mlsys.collect.spread import Here, OnCluster, Spread
from mlsys.collect.storage_schema import ColumnScan, StorageSchema, Written
from mlsys.dataset import Snapshot
from mlsys.readers import conversion, folders, registry
from mlsys.readers.base import PACKED, Fragment
from mlsys.schema import Kind, Schema, TaskKind
from mlsys.store import Store

__all__ = ["CollectedFragments", "Taken", "Wanted", "collect", "take", "take_table"]


@dataclass(frozen=True)
class Taken:
    """A snapshot, and what happened on the way to it (JSON-able)."""

    snapshot: Snapshot
    report: dict[str, Any]


@dataclass(frozen=True)
class CollectedFragments:
    """What there is to read, and what earlier collections noted.

    Attributes
    ----------
    before, entries
        Earlier collections of the same source and columns, and all of this folder.
    state, num_new, told
        Of ``data.incremental``: what to note, rows that are new, and what is to be said of them.
    """

    pieces: list[Fragment]
    plan: cluster.ExecutionPlan
    before: list[CollectionRecord]
    entries: list[CollectionRecord]
    state: incremental.IncrementState | None
    num_new: int | None
    told: list[str]


@dataclass(frozen=True)
class Wanted:
    """What is to be collected; `folder` takes the schema file and the quarantine."""

    data: recipe.Data
    target: str | None
    split_column: str | None
    rules: Contract | None
    folder: Path | None
    is_regression: bool
    now: dt.datetime


def collect(store: Store, wanted: Wanted, found: CollectedFragments, spread: Spread) -> Taken:
    """The passes over all pieces, and between them the decision on the types."""
    with store.staging() as scratch, store.staging() as folder:
        memory, data, pieces = Cache.of(store), wanted.data, found.pieces
        staged = [scratch / f"text-{number:05d}" for number in range(len(pieces))]
        scan_jobs = [
            ScanJob(one, data.reading, data.timezone, wanted.target, at, memory)
            for one, at in zip(pieces, staged, strict=True)
        ]
        scans: list[ColumnScan] = spread.each(pipeline.scan, scan_jobs)
        planned, parts, changes = _written(wanted, found, scans, staged, memory, scratch, spread)
        firsts = _firsts(scans)
        repeats = spread.once(
            repeated.find_duplicates, [part.folder / PART for part in parts], data.dedupe, *_unique(wanted)
        )
        winnowed = [
            DropDuplicatesJob(
                one, first, part, repeats.within(first, first + scan.num_rows), planned, scratch / f"kept-{first}"
            )
            for one, first, part, scan in zip(pieces, firsts, parts, scans, strict=False)
        ]
        parts = _replaced(parts, [job for job in winnowed if job.repeats], spread)
        quarantine = collect_quarantine.gather([part.folder / REJECTED for part in parts], wanted.folder)
        counts = report.total([part.written for part in parts])
        report.judge(counts, data, wanted.target, wanted.rules, quarantine)
        schema = storage_schema.schema(planned, data, wanted.split_column, counts)
        told = report.build(found.plan, pieces, scans, parts, counts, schema, repeats)
        (folder / "data").mkdir()
        for number, part in enumerate(parts):
            link(part.folder / PART, folder / "data" / f"part-{number:05d}.parquet")
        facts = {"schema": schema.model_dump(mode="json"), "num_rows": counts.num_rows, "sources": told["sources"]}
        digest = store.commit("snapshot", folder, facts)
    entry = _entry(wanted, found, digest, schema, counts)
    unusual = history.judge(found.before, entry, data, wanted.now)
    if wanted.folder is not None:
        contract.save(schema, wanted.folder / "schema.yaml", ", ".join(one.name for one in pieces[:3]), wanted.rules)
        is_new = not found.before or found.before[-1].snapshot != digest
        history.save(wanted.folder, [*found.entries, *([entry] if is_new else [])], found.state)
    return Taken(
        Snapshot.open(store, digest),
        told | {"notes": [*found.told, *changes, *unusual], "newest": entry.newest},
    )


def _entry(wanted: Wanted, found: CollectedFragments, digest: str, schema: Schema, counts: Written) -> CollectionRecord:
    key = history.key(wanted.data, wanted.target)
    num_new = counts.num_read if found.num_new is None else found.num_new
    if found.num_new == 0 and found.before:  # the rows of the last collection: the same observation
        num_new = found.before[-1].num_new
    return history.make(found.before, key, digest, schema, counts, num_new, wanted.now)


def _written(
    wanted: Wanted,
    found: CollectedFragments,
    scans: list[ColumnScan],
    staged: Sequence[Path],
    memory: Cache,
    scratch: Path,
    spread: Spread,
) -> tuple[StorageSchema, list[Stored], list[str]]:
    """The layout, the stored pieces and what changed; again without a piece that turns out to be damaged.

    The scan of such a piece is replaced.
    """
    data, pieces = wanted.data, found.pieces
    for attempt in range(len(pieces) + 1):
        report.judge_damage(pieces, scans, data.max_bad_fraction)
        if not any(found.num_rows for found in scans):
            raise errors.SourceError.empty(", ".join(one.name for one in pieces))
        planned = storage_schema.decide(
            data, wanted.target, wanted.split_column, scans, wanted.rules, is_regression=wanted.is_regression
        )
        changes = _changes(wanted, found, scans, planned)
        jobs = [
            WriteJob(one, data.reading, first, scan, planned, at, scratch / f"rows-{attempt}-{number}", memory)
            for number, (one, first, scan, at) in enumerate(zip(pieces, _firsts(scans), scans, staged, strict=False))
        ]
        parts: list[Stored] = spread.each(pipeline.write, jobs)
        damaged = {number: part.written.damage for number, part in enumerate(parts) if part.written.damage}
        for number, damage in damaged.items():
            scans[number] = ColumnScan(0, {}, [], None, damage=damage)
        if not damaged:
            break
    return planned, parts, changes


def _changes(
    wanted: Wanted, found: CollectedFragments, scans: Sequence[ColumnScan], planned: StorageSchema
) -> list[str]:
    """Columns that are new, wider, gone or others than at the last collection."""
    if not found.before or wanted.rules:  # a contract with columns says what must be there
        return []
    seen = storage_schema.merged(scans)
    empty = {name for name, evidence in seen.items() if not evidence.count and set(evidence.typed) <= {"null"}}
    before = found.before[-1].types
    misfits = {
        name: f"{count:,} of {seen[name].count:,} values"
        for name, kind in before.items()
        if kind and name in seen and (count := type_inference.num_misfits(seen[name], kind))
    }
    return history.check_columns(before, planned.stored, empty, misfits, accept=wanted.data.evolution == "accept")


def _firsts(scans: Sequence[ColumnScan]) -> list[int]:
    """Number of each piece's first row."""
    return list(accumulate((found.num_rows for found in scans), initial=0))


def _unique(wanted: Wanted) -> tuple[list[str], list[str]]:
    """Columns whose values must be unique by contract, and those that name rows."""
    unique = [column.name for column in wanted.rules or () if column.unique]
    return unique, [wanted.data.id] if wanted.data.id and wanted.data.id not in unique else []


def _replaced(parts: list[Stored], jobs: list[DropDuplicatesJob], spread: Spread) -> list[Stored]:
    """The parts, those of the jobs without their repeats."""
    by_folder = {
        job.stored.folder: made for job, made in zip(jobs, spread.each(pipeline.drop_duplicates, jobs), strict=True)
    }
    return [by_folder.get(part.folder, part) for part in parts]


KEYS_OF_A_JOIN = re.compile(r"\bdata\.(?=(?:reading|derive|time)\b)(\w+)")

PACKED_RATIO = 4
"""Bytes in memory of a byte at rest, for Parquet and packed text; the choice of plan needs no better."""


def take(
    store: Store,
    data: recipe.Data,
    *,
    target: str,
    folder: Path,
    split_column: str | None = None,
    task: TaskKind | str = "auto",
    now: dt.datetime | None = None,
) -> Taken:
    """Collect the rows to learn from.

    Writes ``schema.yaml`` and, if rows were set aside, ``quarantine.parquet`` (source, row,
    reason, content) into `folder`. Files of the snapshot hold the columns of its schema and
    ``__row``, the number of the row counted from 0 over all records of all pieces in order,
    those in quarantine included. Rows without a target are kept. What earlier collections into
    `folder` found is compared (see `history` and `evolution`); nothing else depends on `now`.

    Returns
    -------
    Taken
        The report says how many rows were read, kept, set aside (by rule, with samples) and
        without label, which columns are empty, how many ids repeat, warnings, and notes: what
        changed since the last collection or is unusual.

    Raises
    ------
    SourceError
        Nothing is there, or a piece is damaged.
    RecipeError
        A column that the recipe names does not exist, or an expression is none.
    ContractError
        More than ``data.max_bad_fraction`` of the rows do not fit; a column is gone or of another
        type than before; or ``data.freshness`` or ``data.volume`` stops the run.
    TargetError
        The target has no value, or one class only.
    """
    conversion.check_zone(data.timezone)
    if data.freshness and not data.time:
        raise errors.RecipeError.build(
            "recipe: 'data.freshness'",
            got="no 'data.time'",
            expected="the column that says when",
            field="data.freshness",
        )
    rules = contract.load(data.contract) if data.contract else None
    is_regression = task == TaskKind.REGRESSION
    when = now or dt.datetime.now(dt.UTC)
    return _start(store, Wanted(data, target, split_column, rules, folder.absolute(), is_regression, when))


def take_table(
    store: Store,
    name: str,
    join: recipe.Join,
    *,
    timezone: str = "UTC",
    folder: Path | None = None,
    evolution: Literal["refuse", "accept"] = "refuse",
    max_bad_fraction: float = 0.01,
) -> Taken:
    """Collect a feature table: as `take`, without target; the columns that the join `name` names must be there."""
    data = recipe.Data(
        source=join.source,
        reading=join.reading,
        derive=join.derive,
        time=join.time,
        timezone=timezone,
        evolution=evolution,
        max_bad_fraction=max_bad_fraction,
    )
    at, when = folder.absolute() if folder else None, dt.datetime.now(dt.UTC)
    with _keys_of_the_join(name):
        taken = _start(store, Wanted(data, None, None, None, at, is_regression=False, now=when))
    keys = join.keys.values() if isinstance(join.keys, dict) else join.keys
    read = [join.known_at, *(aggregate.column for aggregate in join.aggregates.values())]
    for column in [*keys, *(join.columns or ()), *read]:
        if column is not None and column not in taken.snapshot.schema:
            where = f"recipe: 'features.joins.{name}'"
            raise errors.RecipeError.unknown_column(where, column, taken.snapshot.schema.names)
    return taken


@contextmanager
def _keys_of_the_join(name: str) -> Iterator[None]:
    """A join says how its table is read with the keys of ``data``, so what is wrong with one is said of the join's."""
    try:
        yield
    except errors.MlsysError as error:
        told = type(error)(KEYS_OF_A_JOIN.sub(rf"features.joins.{name}.\1", str(error)))
        told.field = error.field
        raise told from None


def _start(store: Store, wanted: Wanted) -> Taken:
    """Find what there is to read, and read it here, in one task or all over the cluster."""
    pieces, noted = registry.find(wanted.data.source, wanted.data.reading), history.load(wanted.folder)
    if wanted.data.id is None and any(one.files for one in pieces):
        wanted = replace(wanted, data=wanted.data.model_copy(update={"id": folders.FILE}))
    texts = {name: kind for name, kind in registry.kinds(pieces).items() if kind is Kind.TEXT}
    if texts:
        kinds = {**texts, **wanted.data.kinds}
        wanted = replace(wanted, data=wanted.data.model_copy(update={"kinds": kinds}))
    state, num_new, new_told = None, None, list[str]()
    if wanted.data.incremental is not None:
        ahead = cluster.call(incremental.advance, store, wanted.data, pieces, noted["incremental"])
        state, pieces, num_new, new_told = ahead.state, ahead.pieces, ahead.num_new, ahead.told
    before = history.last(noted, history.key(wanted.data, wanted.target))
    entries = [CollectionRecord(**one) for one in noted["entries"]]
    found = CollectedFragments(pieces, _plan(pieces), before, entries, state, num_new, new_told)
    if found.plan.kind == "cluster":
        return collect(store, wanted, found, OnCluster())
    return cluster.call(collect, store, wanted, found, Here())


def _plan(pieces: Sequence[Fragment]) -> cluster.ExecutionPlan:
    packed = sum(
        p.num_bytes * (PACKED_RATIO if p.format == "parquet" or p.location.endswith(PACKED) else 1) for p in pieces
    )
    if len(pieces) == 1:
        return cluster.ExecutionPlan("task", "one piece, which one task reads from its beginning to its end")
    return cluster.plan(0, packed)

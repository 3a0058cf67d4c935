"""Collect a source as a snapshot: checked, content-addressed Parquet, a schema file, a quarantine and a report.

`take` finds what there is to read; `_collect` passes over all fragments, decides the types between the
two passes, and stores the snapshot. `take_table` does the same for a feature table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

from mlsys import cluster, errors, recipe
from mlsys.collect import (
    contract,
    duplicates,
    history,
    incremental,
    notation_inference,
    pipeline,
    quarantine,
    report,
    storage_schema,
    type_inference,
)
from mlsys.collect.cache import PART, REJECTED, Cache, StoredFragment, link
from mlsys.collect.contract import Contract
from mlsys.collect.history import CollectionRecord
from mlsys.collect.pipeline import ALL, DropDuplicatesJob, Portion, ScanJob, WriteJob
from mlsys.collect.storage_schema import FragmentScan, StorageSchema
from mlsys.dataset import Snapshot
from mlsys.readers import conversion, folders, registry
from mlsys.readers.base import PACKED, Fragment
from mlsys.recipe import secrets
from mlsys.schema import Kind, Schema, TaskKind
from mlsys.store import Store

JOIN_KEYS = r"\bdata\.(?=(?:reading|derive|time)\b)(\w+)"
"""Keys of ``data`` that a join has as well."""

PACKED_RATIO = 4
"""Bytes in memory of a byte at rest, for Parquet and packed text; the choice of plan needs no better."""


@dataclass(frozen=True)
class Collection:
    """A snapshot, and the report (JSON-able) of how it was made."""

    snapshot: Snapshot
    report: dict[str, Any]


@dataclass(frozen=True)
class _Request:
    """The rows that are asked for; `folder` takes the schema file, the quarantine and the history."""

    data: recipe.DataSection
    target: str | None
    split_column: str | None
    contract: Contract | None
    folder: Path | None
    is_regression: bool
    now: dt.datetime


@dataclass(frozen=True)
class _Input:
    """The fragments to read, and earlier collections: `before` those of the same source and columns, `entries` all.

    With ``data.incremental`` also the state to note, the number of new rows, and messages about them.
    """

    fragments: list[Fragment]
    plan: cluster.ExecutionPlan
    before: list[CollectionRecord]
    entries: list[CollectionRecord]
    increments: incremental.IncrementState | None
    num_new: int | None
    messages: list[str]


def take(
    store: Store,
    data: recipe.DataSection,
    *,
    target: str | None,
    folder: Path,
    split_column: str | None = None,
    task: TaskKind | str = "auto",
    now: dt.datetime | None = None,
) -> Collection:
    """Collect the rows to learn from; without `target`, what is predicted is made of their columns later.

    Writes ``schema.yaml`` and, if rows were rejected, ``quarantine.parquet`` (source, row,
    reason, content) into `folder`. Files of the snapshot hold the columns of its schema and
    ``__row``, the number of the row counted from 0 over all records of all fragments in order,
    those in quarantine included. Rows without a target are kept. The collection is compared with
    earlier ones into `folder` (see `history`); nothing else depends on `now`.

    Returns
    -------
    Collection
        The report says how many rows were read, stored, quarantined (by rule, with samples) and
        without label, which columns are empty, how many ids repeat, warnings, and notes: what
        changed since the last collection or is unusual.

    Raises
    ------
    SourceError
        Nothing is there, or a fragment is damaged.
    RecipeError
        A column that the recipe names does not exist, or an expression is not valid.
    ContractError
        More than ``data.max_bad_fraction`` of the rows do not fit; a column is gone or of another
        type than before; or ``data.freshness`` or ``data.volume`` stops the run.
    TargetError
        The target has no value, or one class only.
    """
    conversion.check_zone(data.timezone)
    if data.freshness and not data.time:
        key, expected = "data.freshness", "the column that says when"
        raise errors.RecipeError.build(f"recipe: '{key}'", got="no 'data.time'", expected=expected)
    rules = contract.load(data.contract) if data.contract else None
    now, is_regression = now or dt.datetime.now(dt.UTC), task in (TaskKind.REGRESSION, TaskKind.RANKING)
    return _run(store, _Request(data, target, split_column, rules, folder.absolute(), is_regression, now))


def take_table(
    store: Store,
    name: str,
    join: recipe.Join,
    *,
    timezone: str = "UTC",
    folder: Path | None = None,
    evolution: Literal["refuse", "accept"] = "refuse",
    max_bad_fraction: float = 0.01,
) -> Collection:
    """Collect a feature table: as `take`, without target; the columns that the join `name` names must be there."""
    shared: Any = {key: getattr(join, key) for key in ("source", "reading", "derive", "time")}
    data = recipe.DataSection(**shared, timezone=timezone, evolution=evolution, max_bad_fraction=max_bad_fraction)
    into, now = folder.absolute() if folder else None, dt.datetime.now(dt.UTC)
    try:
        collection = _run(store, _Request(data, None, None, None, into, is_regression=False, now=now))
    except errors.MlsysError as error:  # a join says with the same keys how to read
        raise error.reworded((JOIN_KEYS, rf"features.joins.{name}.\1")) from None
    schema = collection.snapshot.schema
    keys = join.keys.values() if isinstance(join.keys, dict) else join.keys
    aggregated = [aggregate.column for aggregate in join.aggregates.values()]
    for column in [*keys, *(join.columns or ()), join.known_at, *aggregated]:
        if column is not None and column not in schema:
            raise errors.RecipeError.unknown_column(f"recipe: 'features.joins.{name}'", column, schema.names)
    return collection


def survey(store: Store, data: recipe.DataSection, fragments: list[Fragment], portion: Portion) -> Collection:
    """Collect a portion of some fragments as a run would, without target, in this process: for `mlsys init`."""
    now = dt.datetime.now(dt.UTC)
    request = _Request(_with_defaults(data, fragments), None, None, None, None, is_regression=False, now=now)
    source = _Input(fragments, cluster.ExecutionPlan("task", "a survey"), [], [], None, None, [])
    return _collect(store, request, source, portion)


def _run(store: Store, request: _Request) -> Collection:
    """Find what there is to read, and collect it in one task or all over the cluster."""
    fragments = registry.find(request.data.source, request.data.reading, exclude=request.data.files.exclude)
    request = replace(request, data=_with_defaults(request.data, fragments))
    source = _look_up(store, request, fragments)
    return source.plan.run(_collect, store, request, source)


def _with_defaults(data: recipe.DataSection, fragments: Sequence[Fragment]) -> recipe.DataSection:
    """The section with what folders of pictures and texts imply: names of files as ids, texts as texts."""
    if data.id is None and any(fragment.files for fragment in fragments):
        data = data.model_copy(update={"id": folders.FILE})
    texts = {name: kind for name, kind in registry.kinds(fragments).items() if kind is Kind.TEXT}
    if texts:
        data = data.model_copy(update={"kinds": {**texts, **data.kinds}})
    return data


def _look_up(store: Store, request: _Request, fragments: list[Fragment]) -> _Input:
    """The history of the folder and, with ``data.incremental``, the increments instead of the source."""
    noted = history.load(request.folder)
    entries = [CollectionRecord(**entry) for entry in noted["entries"]]
    key = history.key(request.data, request.target)
    before = [entry for entry in entries if entry.key == key]
    if request.data.incremental is None:
        return _Input(fragments, _plan(fragments), before, entries, None, None, [])
    new = cluster.call(incremental.advance, store, request.data, fragments, noted["incremental"])
    return _Input(new.fragments, _plan(new.fragments), before, entries, new.state, new.num_new, new.messages)


def _plan(fragments: Sequence[Fragment]) -> cluster.ExecutionPlan:
    if len(fragments) == 1:
        return cluster.ExecutionPlan("task", "one fragment, which one task reads from its beginning to its end")
    packed = (f.num_bytes for f in fragments if f.format == "parquet" or f.location.endswith(PACKED))
    return cluster.plan(0, sum(f.num_bytes for f in fragments) + (PACKED_RATIO - 1) * sum(packed))


def _collect(store: Store, request: _Request, source: _Input, portion: Portion = ALL) -> Collection:
    """Pass over all fragments, or a portion of each, store the snapshot, and note it in the history."""
    with store.staging() as scratch, store.staging() as folder:
        # 1. Count what the values of each column can be read as.
        cache, data, fragments = Cache.of(store), request.data, source.fragments
        counted = portion.begun()
        staged = [scratch / f"text-{number:05d}" for number in range(len(fragments))]
        scan_jobs = [
            ScanJob(fragment, data.reading, data.timezone, request.target, texts, cache, counted)
            for fragment, texts in zip(fragments, staged, strict=True)
        ]
        scans = cluster.map(pipeline.scan, scan_jobs)

        # 2. Decide the types, and store the rows that fit.
        storage, parts, changes = _write(request, source, scans, staged, cache, scratch, portion)

        # 3. Leave out rows that repeat others.
        files = [part.folder / PART for part in parts]
        repeats = cluster.call(duplicates.find_duplicates, files, data.dedupe, *_unique_columns(request))
        drop_jobs = [
            DropDuplicatesJob(fragment, first, part, repeats.within(first, end), storage, scratch / f"kept-{first}")
            for fragment, part, (first, end) in zip(fragments, parts, pairwise(_first_rows(scans)), strict=True)
        ]
        parts = _replace(parts, [job for job in drop_jobs if job.duplicates])

        # 4. Stop if too much was rejected; else store the snapshot.
        where = quarantine.gather([part.folder / REJECTED for part in parts], request.folder)
        counts = report.total([part.counts for part in parts])
        report.judge(counts, data, request.target, request.contract, where)
        schema = storage_schema.schema(storage, data, request.split_column, counts)
        summary = report.build(source.plan, fragments, scans, parts, counts, schema, repeats)
        digest = _commit(store, folder, parts, schema, summary["sources"])

    # 5. Compare the collection with earlier ones, and note it.
    key = history.key(data, request.target)
    entry = history.make(source.before, key, digest, schema, counts, source.num_new, request.now)
    notation_messages = notation_inference.messages(storage.notations, storage_schema.merged(scans))
    notes = [
        *_secret_messages(data.source),
        *source.messages,
        *notation_messages,
        *changes,
        *history.judge(source.before, entry, data, request.now),
    ]
    _note(request, source, schema, entry)
    return Collection(Snapshot.open(store, digest), summary | {"notes": notes, "newest": entry.newest})


def _secret_messages(source: str | tuple[str, ...]) -> list[str]:
    is_open = secrets.values([source] if isinstance(source, str) else source)
    message = "data.source holds a password: masked in all that is written; ${NAME} takes it from the environment"
    return [message] if is_open else []


def _write(
    request: _Request,
    source: _Input,
    scans: list[FragmentScan],
    staged: Sequence[Path],
    cache: Cache,
    scratch: Path,
    portion: Portion,
) -> tuple[StorageSchema, list[StoredFragment], list[str]]:
    """Decide the types and store the rows; return both, and the columns that changed since the last collection.

    Done once more without a fragment that turns out to be damaged, whose scan is replaced in `scans`.
    """
    data, fragments = request.data, source.fragments
    for attempt in range(len(fragments) + 1):
        report.judge_damage(fragments, scans, data.max_bad_fraction)
        if not any(scan.num_rows for scan in scans):
            raise errors.SourceError.empty(", ".join(fragment.name for fragment in fragments))
        storage = storage_schema.decide(
            data, request.target, request.split_column, scans, request.contract, is_regression=request.is_regression
        )
        changes = _changed_columns(request, source, scans, storage)
        portion = portion.begun()
        inputs = zip(fragments, _first_rows(scans), scans, staged, strict=False)
        jobs = [
            WriteJob(
                fragment,
                data.reading,
                first,
                scan,
                storage,
                texts,
                scratch / f"rows-{attempt}-{number}",
                cache,
                portion,
            )
            for number, (fragment, first, scan, texts) in enumerate(inputs)
        ]
        parts = cluster.map(pipeline.write, jobs)
        damaged = {number: part.counts.damage for number, part in enumerate(parts) if part.counts.damage}
        for number, damage in damaged.items():
            scans[number] = FragmentScan(0, {}, [], None, damage=damage)
        if not damaged:
            break
    return storage, parts, changes


def _changed_columns(
    request: _Request, source: _Input, scans: Sequence[FragmentScan], storage: StorageSchema
) -> list[str]:
    """Columns that are new, wider, gone or of another type than at the last collection."""
    if not source.before or request.contract:  # a contract with columns says what must be there
        return []
    counts = storage_schema.merged(scans)
    empty = {name for name, types in counts.items() if not types.count and set(types.typed) <= {"null"}}
    before = source.before[-1].types
    misfits = {
        name: f"{count:,} of {counts[name].count:,} values"
        for name, kind in before.items()
        if kind and name in counts and (count := type_inference.num_misfits(counts[name], kind))
    }
    return history.check_columns(before, storage.stored, empty, misfits, accept=request.data.evolution == "accept")


def _first_rows(scans: Sequence[FragmentScan]) -> list[int]:
    """Number of each fragment's first row, and the number of all rows."""
    return list(accumulate((scan.num_rows for scan in scans), initial=0))


def _unique_columns(request: _Request) -> tuple[list[str], list[str]]:
    """Columns whose values must be unique by contract, and the id column where it need not be."""
    unique = [column.name for column in request.contract or () if column.unique]
    return unique, [request.data.id] if request.data.id and request.data.id not in unique else []


def _replace(parts: list[StoredFragment], jobs: list[DropDuplicatesJob]) -> list[StoredFragment]:
    """The parts, those of the jobs without their duplicates."""
    replaced = cluster.map(pipeline.drop_duplicates, jobs)
    by_folder = {job.stored.folder: part for job, part in zip(jobs, replaced, strict=True)}
    return [by_folder.get(part.folder, part) for part in parts]


def _commit(store: Store, folder: Path, parts: Sequence[StoredFragment], schema: Schema, read: Any) -> str:
    (folder / "data").mkdir()
    for number, part in enumerate(parts):
        link(part.folder / PART, folder / "data" / f"part-{number:05d}.parquet")
    num_rows = sum(part.counts.num_rows for part in parts)
    facts = {"schema": schema.model_dump(mode="json"), "num_rows": num_rows, "sources": read}
    return store.commit("snapshot", folder, facts)


def _note(request: _Request, source: _Input, schema: Schema, entry: CollectionRecord) -> None:
    """Write the schema file and the history into the folder, if there is one."""
    if request.folder is None:
        return
    names = ", ".join(fragment.name for fragment in source.fragments[:3])
    contract.save(schema, request.folder / "schema.yaml", names, request.contract)
    is_new = not source.before or source.before[-1].snapshot != entry.snapshot
    history.save(request.folder, [*source.entries, *([entry] if is_new else [])], source.increments)

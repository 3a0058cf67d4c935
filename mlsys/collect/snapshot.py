"""`take`: a source becomes checked, content-addressed Parquet, a schema file, a quarantine and a report."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from mlsys import cluster, errors, recipe
from mlsys.collect import (
    aside,
    contract,
    documents,
    evolution,
    history,
    increment,
    layout,
    passes,
    pictures,
    report,
    sources,
)
from mlsys.collect import repeats as repeated
from mlsys.collect.contract import Contract
from mlsys.collect.history import Entry
from mlsys.collect.layout import Layout, Scan, Written
from mlsys.collect.passes import ScanJob, WinnowJob, WriteJob
from mlsys.collect.piece import Piece
from mlsys.collect.reuse import PART, REJECTED, Memory, Stored, link
from mlsys.collect.spread import Here, OnCluster, Spread
from mlsys.dataset import Snapshot
from mlsys.schema import Kind, Schema, TaskKind
from mlsys.store import Store

__all__ = ["Taken", "take", "take_table"]

PACKED_RATIO = 4
"""Bytes in memory of a byte at rest, for Parquet and packed text; the choice of plan needs no better."""


@dataclass(frozen=True)
class Taken:
    """A snapshot, and what happened on the way to it (JSON-able)."""

    snapshot: Snapshot
    report: dict[str, Any]


@dataclass(frozen=True)
class _Found:
    """What there is to read, and what earlier collections noted."""

    pieces: list[Piece]
    plan: cluster.Plan
    before: list[Entry]
    entries: list[Entry]
    state: increment.State | None
    num_new: int | None
    late: str


@dataclass(frozen=True)
class _Wanted:
    """What is to be collected; `folder` takes the schema file and the quarantine."""

    data: recipe.Data
    target: str | None
    split_column: str | None
    rules: Contract | None
    folder: Path | None
    is_regression: bool
    now: dt.datetime


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
    _check_zone(data.timezone)
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
    return _start(store, _Wanted(data, target, split_column, rules, folder.absolute(), is_regression, when))


def take_table(
    store: Store,
    join: recipe.Join,
    *,
    timezone: str = "UTC",
    folder: Path | None = None,
    evolution: Literal["refuse", "accept"] = "refuse",
) -> Snapshot:
    """Collect a feature table: as `take`, without target; the columns that the join names must be there."""
    data = recipe.Data(
        source=join.source,
        reading=join.reading,
        derive=join.derive,
        time=join.time,
        timezone=timezone,
        evolution=evolution,
    )
    at, when = folder.absolute() if folder else None, dt.datetime.now(dt.UTC)
    snapshot = _start(store, _Wanted(data, None, None, None, at, is_regression=False, now=when)).snapshot
    keys = join.keys.values() if isinstance(join.keys, dict) else join.keys
    read = [join.known_at, *(aggregate.column for aggregate in join.aggregates.values())]
    for name in [*keys, *(join.columns or ()), *read]:
        if name is not None and name not in snapshot.schema:
            raise errors.RecipeError.unknown_column("recipe: 'features.joins'", name, snapshot.schema.names)
    return snapshot


def _start(store: Store, wanted: _Wanted) -> Taken:
    """Find what there is to read, and read it here, in one task or all over the cluster."""
    pieces, noted = sources.find(wanted.data.source, wanted.data.reading), history.load(wanted.folder)
    if wanted.data.id is None and any(one.files for one in pieces):
        wanted = replace(wanted, data=wanted.data.model_copy(update={"id": pictures.FILE}))
    if any(one.format == "text" for one in pieces):
        kinds = {documents.TEXT: Kind.TEXT, **wanted.data.kinds}
        wanted = replace(wanted, data=wanted.data.model_copy(update={"kinds": kinds}))
    state, num_new, late = None, None, ""
    if wanted.data.incremental is not None:
        ahead = cluster.call(increment.advance, store, wanted.data, pieces, noted["incremental"])
        state, pieces, num_new, late = ahead.state, ahead.pieces, ahead.num_new, ahead.late
    before = history.last(noted, history.key(wanted.data, wanted.target))
    entries = [Entry(**one) for one in noted["entries"]]
    found = _Found(pieces, _plan(pieces), before, entries, state, num_new, late)
    if found.plan.kind == "cluster":
        return _collect(store, wanted, found, OnCluster())
    return cluster.call(_collect, store, wanted, found, Here())


def _check_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise errors.RecipeError.build(
            "recipe: 'data.timezone'",
            got=repr(name),
            expected="a time zone of the IANA data base, e.g. Europe/Berlin",
            hint=errors.did_you_mean(name, zoneinfo.available_timezones()),
            field="data.timezone",
        ) from None


def _plan(pieces: Sequence[Piece]) -> cluster.Plan:
    packed = sum(
        p.num_bytes * (PACKED_RATIO if p.format == "parquet" or p.location.endswith(sources.PACKED) else 1)
        for p in pieces
    )
    if len(pieces) == 1:
        return cluster.Plan("task", "one piece, which one task reads from its beginning to its end")
    return cluster.plan(0, packed)


def _collect(store: Store, wanted: _Wanted, found: _Found, spread: Spread) -> Taken:
    """The passes over all pieces, and between them the decision on the types."""
    with store.staging() as scratch, store.staging() as folder:
        memory, data, pieces = Memory.of(store), wanted.data, found.pieces
        staged = [scratch / f"text-{number:05d}" for number in range(len(pieces))]
        scan_jobs = [
            ScanJob(one, data.reading, data.timezone, wanted.target, at, memory)
            for one, at in zip(pieces, staged, strict=True)
        ]
        scans: list[Scan] = spread.each(passes.scan, scan_jobs)
        planned, parts, changes = _written(wanted, found, scans, staged, memory, scratch, spread)
        firsts = _firsts(scans)
        repeats = spread.once(repeated.find, [part.folder / PART for part in parts], data.dedupe, *_unique(wanted))
        winnowed = [
            WinnowJob(
                one, first, part, repeats.within(first, first + scan.num_rows), planned, scratch / f"kept-{first}"
            )
            for one, first, part, scan in zip(pieces, firsts, parts, scans, strict=False)
        ]
        parts = _replaced(parts, [job for job in winnowed if job.repeats], spread)
        quarantine = aside.gather([part.folder / REJECTED for part in parts], wanted.folder)
        counts = report.total([part.written for part in parts])
        report.judge(counts, data, wanted.target, wanted.rules, quarantine)
        schema = layout.schema(planned, data, wanted.split_column, counts)
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
        told | {"notes": [*([found.late] if found.late else []), *changes, *unusual], "newest": entry.newest},
    )


def _entry(wanted: _Wanted, found: _Found, digest: str, schema: Schema, counts: Written) -> Entry:
    key = history.key(wanted.data, wanted.target)
    num_new = counts.num_read if found.num_new is None else found.num_new
    if found.num_new == 0 and found.before:  # the rows of the last collection: the same observation
        num_new = found.before[-1].num_new
    return history.make(found.before, key, digest, schema, counts, num_new, wanted.now)


def _written(
    wanted: _Wanted,
    found: _Found,
    scans: list[Scan],
    staged: Sequence[Path],
    memory: Memory,
    scratch: Path,
    spread: Spread,
) -> tuple[Layout, list[Stored], list[str]]:
    """The layout, the stored pieces and what changed; again without a piece that turns out to be damaged.

    The scan of such a piece is replaced.
    """
    data, pieces = wanted.data, found.pieces
    for attempt in range(len(pieces) + 1):
        report.judge_damage(pieces, scans, data.max_bad_fraction)
        if not any(found.num_rows for found in scans):
            raise errors.SourceError.empty(", ".join(one.name for one in pieces))
        planned = layout.decide(
            data, wanted.target, wanted.split_column, scans, wanted.rules, is_regression=wanted.is_regression
        )
        changes = _changes(wanted, found, scans, planned)
        jobs = [
            WriteJob(one, data.reading, first, scan, planned, at, scratch / f"rows-{attempt}-{number}", memory)
            for number, (one, first, scan, at) in enumerate(zip(pieces, _firsts(scans), scans, staged, strict=False))
        ]
        parts: list[Stored] = spread.each(passes.write, jobs)
        damaged = {number: part.written.damage for number, part in enumerate(parts) if part.written.damage}
        for number, damage in damaged.items():
            scans[number] = Scan(0, {}, [], None, damage=damage)
        if not damaged:
            break
    return planned, parts, changes


def _changes(wanted: _Wanted, found: _Found, scans: Sequence[Scan], planned: Layout) -> list[str]:
    """Columns that are new, wider, gone or others than at the last collection."""
    if not found.before or wanted.rules is not None:
        return []
    seen = layout.merged(scans)
    empty = {name for name, evidence in seen.items() if not evidence.count and set(evidence.typed) <= {"null"}}
    return evolution.check(found.before[-1].types, planned.stored, empty, accept=wanted.data.evolution == "accept")


def _firsts(scans: Sequence[Scan]) -> list[int]:
    """Number of each piece's first row."""
    return list(accumulate((found.num_rows for found in scans), initial=0))


def _unique(wanted: _Wanted) -> tuple[list[str], list[str]]:
    """Columns whose values must be unique by contract, and those that name rows."""
    unique = [column.name for column in wanted.rules or () if column.unique]
    return unique, [wanted.data.id] if wanted.data.id and wanted.data.id not in unique else []


def _replaced(parts: list[Stored], jobs: list[WinnowJob], spread: Spread) -> list[Stored]:
    """The parts, those of the jobs without their repeats."""
    by_folder = {job.stored.folder: made for job, made in zip(jobs, spread.each(passes.winnow, jobs), strict=True)}
    return [by_folder.get(part.folder, part) for part in parts]

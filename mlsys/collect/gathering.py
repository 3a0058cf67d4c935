"""The passes over all pieces, the decision on types between them, and the snapshot at the end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from mlsys import cluster, errors, recipe
from mlsys.collect import aside, contract, evolution, history, increment, inference, layout, passes, report
from mlsys.collect import repeats as repeated
from mlsys.collect.contract import Contract
from mlsys.collect.history import Entry
from mlsys.collect.layout import Layout, Scan, Written
from mlsys.collect.passes import ScanJob, WinnowJob, WriteJob
from mlsys.collect.piece import Piece
from mlsys.collect.reuse import PART, REJECTED, Memory, Stored, link
from mlsys.collect.spread import Spread
from mlsys.dataset import Snapshot
from mlsys.schema import Schema
from mlsys.store import Store

__all__ = ["Found", "Taken", "Wanted", "collect"]


@dataclass(frozen=True)
class Taken:
    """A snapshot, and what happened on the way to it (JSON-able)."""

    snapshot: Snapshot
    report: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What there is to read, and what earlier collections noted.

    Attributes
    ----------
    before, entries
        Earlier collections of the same source and columns, and all of this folder.
    state, num_new, told
        Of ``data.incremental``: what to note, rows that are new, and what is to be said of them.
    """

    pieces: list[Piece]
    plan: cluster.Plan
    before: list[Entry]
    entries: list[Entry]
    state: increment.State | None
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


def collect(store: Store, wanted: Wanted, found: Found, spread: Spread) -> Taken:
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
        told | {"notes": [*found.told, *changes, *unusual], "newest": entry.newest},
    )


def _entry(wanted: Wanted, found: Found, digest: str, schema: Schema, counts: Written) -> Entry:
    key = history.key(wanted.data, wanted.target)
    num_new = counts.num_read if found.num_new is None else found.num_new
    if found.num_new == 0 and found.before:  # the rows of the last collection: the same observation
        num_new = found.before[-1].num_new
    return history.make(found.before, key, digest, schema, counts, num_new, wanted.now)


def _written(
    wanted: Wanted,
    found: Found,
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


def _changes(wanted: Wanted, found: Found, scans: Sequence[Scan], planned: Layout) -> list[str]:
    """Columns that are new, wider, gone or others than at the last collection."""
    if not found.before or wanted.rules:  # a contract with columns says what must be there
        return []
    seen = layout.merged(scans)
    empty = {name for name, evidence in seen.items() if not evidence.count and set(evidence.typed) <= {"null"}}
    before = found.before[-1].types
    misfits = {
        name: f"{count:,} of {seen[name].count:,} values"
        for name, kind in before.items()
        if kind and name in seen and (count := inference.num_misfits(seen[name], kind))
    }
    return evolution.check(before, planned.stored, empty, misfits, accept=wanted.data.evolution == "accept")


def _firsts(scans: Sequence[Scan]) -> list[int]:
    """Number of each piece's first row."""
    return list(accumulate((found.num_rows for found in scans), initial=0))


def _unique(wanted: Wanted) -> tuple[list[str], list[str]]:
    """Columns whose values must be unique by contract, and those that name rows."""
    unique = [column.name for column in wanted.rules or () if column.unique]
    return unique, [wanted.data.id] if wanted.data.id and wanted.data.id not in unique else []


def _replaced(parts: list[Stored], jobs: list[WinnowJob], spread: Spread) -> list[Stored]:
    """The parts, those of the jobs without their repeats."""
    by_folder = {job.stored.folder: made for job, made in zip(jobs, spread.each(passes.winnow, jobs), strict=True)}
    return [by_folder.get(part.folder, part) for part in parts]

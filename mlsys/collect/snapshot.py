"""`take`: a source becomes checked, content-addressed Parquet, a schema file, a quarantine and a report."""

from __future__ import annotations

import pickle
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow.parquet as pq

from mlsys import cluster, errors, recipe
from mlsys.collect import contract, documents, layout, pictures, piece, report, sources
from mlsys.collect.layout import Scan, Written
from mlsys.collect.piece import ScanJob, WriteJob
from mlsys.collect.sources import Piece
from mlsys.dataset import Snapshot
from mlsys.schema import Kind, Role, Schema, TaskKind
from mlsys.store import Store

__all__ = ["Taken", "take", "take_table"]

S = TypeVar("S")
T = TypeVar("T")
Each = Callable[[Callable[[S], T], Sequence[S]], list[T]]

PACKED_RATIO = 4
"""Bytes in memory of a byte at rest, for Parquet and packed text; the choice of plan needs no better."""


@dataclass(frozen=True)
class Taken:
    """A snapshot, and what happened on the way to it (JSON-able)."""

    snapshot: Snapshot
    report: dict[str, Any]


@dataclass(frozen=True)
class _Wanted:
    """What is to be collected; `folder` takes the schema file and the quarantine."""

    data: recipe.Data
    target: str | None
    split_column: str | None
    rules: Schema | None
    folder: Path | None
    plan: cluster.Plan
    is_regression: bool


def take(
    store: Store,
    data: recipe.Data,
    *,
    target: str,
    folder: Path,
    split_column: str | None = None,
    task: TaskKind | str = "auto",
) -> Taken:
    """Collect the rows to learn from.

    Writes ``schema.yaml`` and, if rows were set aside, ``quarantine.parquet`` (source, row,
    reason, content) into `folder`. Files of the snapshot hold the columns of its schema and
    ``__row``, the number of the row counted from 0 over all records of all pieces in order,
    those in quarantine included. Rows without a target are kept.

    Returns
    -------
    Taken
        The report says how many rows were read, kept, set aside (by rule, with samples) and
        without label, which columns are empty, how many ids repeat, and warnings.

    Raises
    ------
    SourceError
        Nothing is there, or a piece is damaged.
    RecipeError
        A column that the recipe names does not exist, or an expression is none.
    ContractError
        More than ``data.max_bad_fraction`` of the rows do not fit.
    TargetError
        The target has no value, or one class only.
    """
    pieces = sources.find(data.source, data.reading)
    if data.id is None and any(one.files for one in pieces):
        data = data.model_copy(update={"id": pictures.FILE})
    if any(one.format == "text" for one in pieces):
        data = data.model_copy(update={"kinds": {documents.TEXT: Kind.TEXT, **data.kinds}})
    _check_zone(data.timezone)
    rules = contract.load(data.contract) if data.contract else None
    wanted = _Wanted(data, target, split_column, rules, folder.absolute(), _plan(pieces), task == TaskKind.REGRESSION)
    if wanted.plan.kind == "cluster":
        return _collect(store, wanted, pieces, _on_cluster)
    return cluster.call(_collect, store, wanted, pieces, _one_by_one)


def take_table(store: Store, join: recipe.Join, *, timezone: str = "UTC", folder: Path | None = None) -> Snapshot:
    """Collect a feature table: as `take`, without target; its keys and its time must be there."""
    data = recipe.Data(source=join.source, reading=join.reading, derive=join.derive, time=join.time, timezone=timezone)
    pieces = sources.find(data.source, data.reading)
    wanted = _Wanted(data, None, None, None, folder.absolute() if folder else None, _plan(pieces), is_regression=False)
    if wanted.plan.kind == "cluster":
        snapshot = _collect(store, wanted, pieces, _on_cluster).snapshot
    else:
        snapshot = cluster.call(_collect, store, wanted, pieces, _one_by_one).snapshot
    keys = join.keys.values() if isinstance(join.keys, dict) else join.keys
    for name in [*keys, *(join.columns or ())]:
        if name not in snapshot.schema:
            raise errors.RecipeError.unknown_column("recipe: 'features.joins'", name, snapshot.schema.names)
    return snapshot


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


def _one_by_one(function: Callable[[S], T], jobs: Sequence[S]) -> list[T]:
    return [function(job) for job in jobs]


def _on_cluster(function: Callable[[S], T], jobs: Sequence[S]) -> list[T]:
    """The same function, a job a block of Ray Data, results in the order of the jobs."""
    import ray

    def run(batch: Any) -> Any:
        return {"number": batch["number"], "result": [_packed(function, job) for job in batch["job"]]}

    items = [{"number": number, "job": pickle.dumps(job)} for number, job in enumerate(jobs)]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(run, batch_size=1)
    rows = sorted(dataset.take_all(), key=lambda row: int(row["number"]))
    return [_unpacked(row["result"]) for row in rows]


def _packed(function: Callable[[Any], Any], job: bytes) -> bytes:
    """What the function gives, or our error as a result: Ray Data would wrap it and stop the other pieces."""
    try:
        return pickle.dumps(function(pickle.loads(job)))  # noqa: S301  (made a moment ago by the driver)
    except errors.MlsysError as error:
        return pickle.dumps(error)


def _unpacked(result: bytes) -> Any:
    value = pickle.loads(result)  # noqa: S301  (made a moment ago by our own task)
    if isinstance(value, errors.MlsysError):
        raise value
    return value


def _collect(store: Store, wanted: _Wanted, pieces: list[Piece], each: Each[Any, Any]) -> Taken:
    """The two passes over all pieces, and between them the decision on the types."""
    with store.staging() as scratch, store.staging() as folder:
        staged = [scratch / f"text-{number:05d}" for number in range(len(pieces))]
        reading, zone = wanted.data.reading, wanted.data.timezone
        jobs = [ScanJob(one, reading, zone, wanted.target, at) for one, at in zip(pieces, staged, strict=True)]
        scans: list[Scan] = each(piece.scan, jobs)
        if not any(found.num_rows for found in scans):
            raise errors.SourceError.empty(", ".join(one.name for one in pieces))
        planned = layout.decide(
            wanted.data, wanted.target, wanted.split_column, scans, wanted.rules, is_regression=wanted.is_regression
        )
        firsts = accumulate((found.num_rows for found in scans), initial=0)
        writes = [
            WriteJob(
                one,
                reading,
                number,
                first,
                scans[number].broken,
                planned,
                staged[number],
                folder / "data",
                scratch / "bad",
            )
            for number, (one, first) in enumerate(zip(pieces, firsts, strict=False))
        ]
        written: list[Written] = each(piece.write, writes)
        quarantine = _save_quarantine(scratch / "bad", wanted.folder)
        counts = report.total(written)
        report.judge(counts, wanted.data, wanted.target, quarantine)
        schema = layout.schema(planned, wanted.data, wanted.split_column, counts)
        repeated = _repeats(folder / "data", schema)
        told = report.build(wanted.plan, pieces, scans, counts, schema, repeated)
        facts = {"schema": schema.model_dump(mode="json"), "num_rows": counts.num_rows, "sources": told["sources"]}
        digest = store.commit("snapshot", folder, facts)
    if wanted.folder is not None:
        contract.save(schema, wanted.folder / "schema.yaml", ", ".join(one.name for one in pieces[:3]))
    return Taken(Snapshot.open(store, digest), told)


def _save_quarantine(bad: Path, folder: Path | None) -> str:
    """All rows set aside as one file beside the report; an old one goes if there is none now."""
    files = [file for file in sorted(bad.glob("part-*.parquet")) if pq.read_metadata(file).num_rows]
    if folder is None:
        return "the source"
    target = folder / "quarantine.parquet"
    target.unlink(missing_ok=True)
    if files:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / ".quarantine.parquet"
        with pq.ParquetWriter(beside, piece.QUARANTINE, compression="zstd") as writer:
            for file in files:
                writer.write_table(pq.read_table(file))
        beside.replace(target)
    return str(target)


def _repeats(data: Path, schema: Schema) -> dict[str, int]:
    """Rows whose value was there before, for ids and columns that the contract calls unique.

    Raises
    ------
    ContractError
        A column of the contract that is unique repeats: which row is right cannot be told.
    """
    repeated = {}
    for column in schema:
        if not (column.unique or column.role is Role.ID):
            continue
        files = [pl.read_parquet(file, columns=[column.name]) for file in sorted(data.glob("*.parquet"))]
        values = pl.concat(files).to_series().drop_nulls()
        repeated[column.name] = len(values) - values.n_unique()
        if column.unique and repeated[column.name]:
            raise errors.ContractError.build(
                f"collect: column '{column.name}'",
                got=f"{repeated[column.name]} repeated values, e.g. {values.filter(values.is_duplicated())[0]!r}",
                expected="each value once, as the contract says",
                hint="mend the source, or take unique out of the contract",
                field=column.name,
            )
    return repeated

"""Lineage both ways: from a prediction or a version back to its files, from a file to all that was made of it.

Backwards it goes by what is stored: the row of the log names bundle and version, the ledger who registered that, the
receipt of the bundle (`mlsys.workflow.receipts`) snapshot, files, recipe and code. Forwards it goes by the files that
snapshots and receipts name. What the store no longer has is said; the ledger and records of runs still name it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlsys import errors, registry
from mlsys.deploy import batch_records, log_lookup, prediction_log, row_ids
from mlsys.deploy.batch_queue import JobQueue
from mlsys.deploy.batch_records import BatchRecord
from mlsys.deploy.log_lookup import LoggedRow
from mlsys.recipe import secrets
from mlsys.registry import LedgerEntry, ledger
from mlsys.reports.formats import count
from mlsys.store import Store, digest_json
from mlsys.workflow import receipts, run_record
from mlsys.workflow.receipts import Receipt, SourceFiles

MAX_SHOWN = 8
"""Files, days and jobs of a kind that the text names; JSON has all."""


@dataclass(frozen=True)
class BatchUse:
    """A batch prediction; `by` says how a source led to it: its ``bytes``, ``source`` or ``name``, or its ``output``.

    `is_replaced` says that a later run has put other rows into its output.
    """

    record: BatchRecord
    by: str = ""
    is_replaced: bool = False


@dataclass(frozen=True)
class VersionLineage:
    """A version with what it was made of, and what was made with it.

    Attributes
    ----------
    by
        How a source led here: ``bytes``, ``name`` or ``source``; empty where nobody came from one.
    run, recipe
        Id of the run that made the bundle, and its recipe as YAML.
    code, libraries
        Digest of the code behind the bundle, and versions of libraries.
    predictions
        Rows of the prediction log by day.
    jobs
        Batch jobs of the queue: ``id``, ``state``, ``input``, ``output`` and ``run_id``.
    batches
        Batch predictions, queued or not, newest first.
    gone
        What is no longer stored, or never was, in sentences.
    """

    name: str
    version: int
    digest: str
    aliases: tuple[str, ...]
    registered_at: str
    who: str
    by: str = ""
    run: str | None = None
    recipe: str | None = None
    snapshot: str | None = None
    split: str | None = None
    sources: tuple[SourceFiles, ...] = ()
    code: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, int] = field(default_factory=dict)
    jobs: tuple[dict[str, Any], ...] = ()
    batches: tuple[BatchUse, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotUse:
    """A snapshot that holds rows of a source; `by` says how it was found, `files` which of its files are meant."""

    digest: str
    by: str
    files: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class RunUse:
    """A run whose rows came from a source."""

    name: str
    run: str
    began: str
    status: str


@dataclass(frozen=True)
class Lineage:
    """The lineage of a ``prediction``, a ``version``, a ``source`` or a ``batch`` run, whichever `kind` says.

    Attributes
    ----------
    model
        Name of the model in whose log the prediction is.
    rows, searched
        Rows of the prediction in the log, and how much of the log was read for them.
    snapshots, runs
        Of a source.
    batches
        Batch predictions that read a source or made it, as an output; or the run that was asked for.
    """

    kind: str
    target: str
    model: str | None = None
    rows: tuple[LoggedRow, ...] = ()
    searched: str = ""
    snapshots: tuple[SnapshotUse, ...] = ()
    runs: tuple[RunUse, ...] = ()
    batches: tuple[BatchUse, ...] = ()
    versions: tuple[VersionLineage, ...] = ()
    gone: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def summary(self) -> str:
        """The chain in lines, a paragraph for each version."""
        return "\n".join(_lines(self))


def of_version(store: Store, entry: LedgerEntry) -> Lineage:
    """The lineage of a registered version, both ways."""
    return Lineage(
        "version", f"{entry.name}@{entry.version}", versions=(described(store, entry, logged(store, entry.name)),)
    )


def of_prediction(store: Store, prediction_id: str, model: str | None = None, at: dt.datetime | None = None) -> Lineage:
    """The lineage of a prediction: its rows in the log of a model, or of the first that has it, and its version.

    Parameters
    ----------
    at
        A time near which it was answered; by default the one that the id holds.

    Raises
    ------
    RegistryError
        No log has the id.
    """
    near = at or row_ids.time_of(prediction_id)
    names = [model] if model is not None else _logged(store)
    num_files = num_groups = 0
    for name in names:
        search = log_lookup.find(prediction_log.folder_of(store, name), prediction_id, near)
        num_files, num_groups = num_files + search.num_files, num_groups + search.num_row_groups
        if search.rows:
            read = f"{count(num_groups, 'row group')} of {count(num_files, 'file')} read"
            gone = tuple(f"'{file}' of the log cannot be read" for file in search.faults)
            versions = tuple(_answering(store, name, search.rows))
            days = f"{read}, of {', '.join(search.days[:MAX_SHOWN])}"
            return Lineage("prediction", prediction_id, name, search.rows, days, versions=versions, gone=gone)
    logs = f"the prediction log of '{model}'" if model is not None else count(len(names), "prediction log")
    raise errors.RegistryError.build(
        f"lineage: '{prediction_id}'",
        got=f"nothing of this name, and no such id in {logs}",
        expected="the id of a prediction, NAME@VERSION, or a path, URI or digest of a source",
        hint="rows are in the log a second after the answer; `mlsys status` says how many wait, or were lost",
        field=prediction_id,
    )


def _logged(store: Store) -> list[str]:
    """Names that have a prediction log."""
    return sorted(path.name for path in (store.root / "predictions").glob("*") if path.is_dir())


def _answering(store: Store, name: str, rows: tuple[LoggedRow, ...]) -> Iterator[VersionLineage]:
    """The versions of the bundles that answered some rows."""
    digests = dict.fromkeys(str(row.values.get("bundle")) for row in rows)
    for entry in registry.versions(store, name):
        if entry.digest in digests:
            yield described(store, entry, {})


def of_batch(store: Store, records: Sequence[BatchRecord]) -> Lineage:
    """The lineage of a batch prediction, from its records: its files, its output, and the version with its own."""
    batches = tuple(batch_uses(store, records))
    own = {(each.name, each.version, each.digest) for each in records}
    entries = [entry for name in {each.name for each in records} for entry in registry.versions(store, name)]
    versions = tuple(described(store, entry, {}) for entry in entries if tuple(entry) in own)
    return Lineage("batch", records[0].run_id, records[0].name, batches=batches, versions=versions)


def batch_uses(store: Store, records: Sequence[BatchRecord], by: str = "") -> Iterator[BatchUse]:
    """Batch predictions, and whether their outputs hold other rows since."""
    later = batch_records.records(store) if records else []
    yield from (BatchUse(record, by, batch_records.is_replaced(record, later)) for record in records)


Logged = Mapping[str, dict[str, int]]
"""Rows of a log by bundle and day."""


def logged(store: Store, name: str) -> Logged:
    """The rows of a model's log by bundle and day."""
    return log_lookup.rows_by_bundle(prediction_log.folder_of(store, name))


def described(store: Store, entry: LedgerEntry, rows: Logged, *, by: str = "") -> VersionLineage:
    """A version with what it was made of, and what it answered, of the `rows` of its log."""
    moves = [move for move in ledger.read(store) if move.name == entry.name]
    (registered,) = (move for move in moves if move.kind == "register" and move.version == entry.version)
    meant = {move.alias: move.version for move in moves if move.kind in ("move", "rollback") and move.alias}
    receipt, made = made_of(store, entry)
    return VersionLineage(
        name=entry.name,
        version=entry.version,
        digest=entry.digest,
        aliases=tuple(alias for alias, version in meant.items() if version == entry.version),
        registered_at=registered.at.isoformat(timespec="seconds"),
        who=registered.who,
        by=by,
        predictions=rows.get(entry.digest, {}),
        jobs=tuple(_jobs(store, entry)),
        batches=tuple(batch_uses(store, _batches_of(store, entry))),
        gone=tuple(_gone(store, entry, receipt, made)),
        **made,
    )


def made_of(store: Store, entry: LedgerEntry) -> tuple[Receipt | None, dict[str, Any]]:
    """The receipt of a version's bundle, and what it was made of: by the receipt, else by the record of its run."""
    is_stored = store.has("bundle", entry.digest)
    receipt = receipts.find(store.path("bundle", entry.digest)) if is_stored else None
    if receipt is not None:
        return receipt, _of_receipt(receipt)
    moves = ledger.read(store)
    runs = (move.facts.get("run") for move in moves if move.kind == "register" and move.entry == entry)
    return None, _of_record(store, entry.name, next(runs, None))


def _of_receipt(receipt: Receipt) -> dict[str, Any]:
    collected = receipt.steps["collect"]
    return {
        "run": receipt.run,
        "recipe": receipt.recipe,
        "snapshot": collected["snapshot"],
        "split": collected["split"],
        "sources": tuple(receipt.sources),
        "code": digest_json(receipt.code),
        "libraries": receipt.libraries,
    }


def _of_record(store: Store, name: str, run: str | None) -> dict[str, Any]:
    """The part of a version's lineage that the record of the run tells which registered it."""
    for record in run_record.records(store, name) if run else ():
        if record["id"] == run:
            collected: Mapping[str, Any] = next((s for s in record["steps"] if s["name"] == "collect"), {})
            rows = {key: collected.get("params", {}).get(key) for key in ("snapshot", "split")}
            return {"run": run, "recipe": record["recipe"], **rows}
    return {"run": run}


def _gone(store: Store, entry: LedgerEntry, receipt: Receipt | None, made: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what is no longer stored, or never was."""
    if not store.has("bundle", entry.digest):
        yield "the bundle is no longer in the store"
    elif receipt is None:
        yield "the bundle has no receipt: what it was made of is known as far as the record of its run tells"
    if receipt is None and made.get("snapshot") is None:
        yield "no record of its run is there: rows, recipe and code are not known"
    for kind in ("snapshot", "split"):
        if made.get(kind) and not store.has(kind, str(made[kind])):
            yield f"{kind} {str(made[kind])[:12]} is no longer in the store"
    for source in made.get("sources", ()):
        if any(file.get("sha256") is None for file in source.files):
            yield f"rows of '{source.source}' came from no file: there is no digest of them"


def _batches_of(store: Store, entry: LedgerEntry) -> list[BatchRecord]:
    every = batch_records.records(store, entry.name)
    return [record for record in every if (record.version, record.digest) == (entry.version, entry.digest)]


def _jobs(store: Store, entry: LedgerEntry) -> Iterator[dict[str, Any]]:
    for job in JobQueue(store).jobs(entry.name):
        if job.spec.version == entry.version:
            run_id = (job.result or {}).get("run_id") or job.spec.run_id
            paths = {"input": secrets.shown(job.spec.input), "output": secrets.shown(job.spec.output)}
            yield {"id": job.id, "state": job.state, **paths, "run_id": run_id}


def _lines(lineage: Lineage) -> Iterator[str]:
    if lineage.kind == "prediction":
        yield f"prediction {lineage.target} of '{lineage.model}' ({lineage.searched})"
        for row in lineage.rows:
            own = row.values
            yield f"  row      {row.row} of {row.file}, number {row.number} of writer {row.writer[:8]}"
            yield f"  answer   {own.get('prediction')} at {own.get('logged_at')}, by version {own.get('model_version')}"
    elif lineage.kind == "source":
        yield f"source {lineage.target}"
        for snapshot in lineage.snapshots:
            named = f", collected for {', '.join(snapshot.names)}" if snapshot.names else ""
            yield f"  snapshot {snapshot.digest[:12]}{named}: {_some(snapshot.files)} (by {snapshot.by})"
        for run in lineage.runs:
            yield f"  run      {run.run[:8]} of '{run.name}', {run.began[:16]}Z, {run.status}; mlsys why {run.run[:8]}"
    elif lineage.kind == "batch":
        yield f"batch prediction {lineage.target} of '{lineage.model}'"
    for batch in lineage.batches[:MAX_SHOWN]:
        yield from _batch_lines(batch)
    yield from (f"  gone     {sentence}" for sentence in lineage.gone)
    for version in lineage.versions:
        yield from _version_lines(version)


def _version_lines(version: VersionLineage) -> Iterator[str]:
    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    by = f" (by {version.by})" if version.by else ""
    yield f"{version.name} version {version.version}, bundle {version.digest[:12]}{aliases}{by}"
    yield f"  made     registered {version.registered_at[:16]}Z by {version.who}" + (
        f", by run {version.run[:8]}; mlsys why {version.run[:8]}" if version.run else ""
    )
    if version.snapshot:
        yield f"  rows     snapshot {version.snapshot[:12]}, divided as split {str(version.split)[:12]}"
    for source in version.sources:
        files = [f"{file['name']} {str(file.get('sha256'))[:12]}" for file in source.files]
        yield f"  source   {source.part}: {source.source} ({_some(files)})"
    if version.code:
        recipe = digest_json(version.recipe)[:12]
        yield f"  code     {version.code[:12]}, recipe {recipe}; mlsys reproduce {version.name}@{version.version}"
    if version.predictions:
        days = [f"{day}: {count(rows, 'row')}" for day, rows in version.predictions.items()]
        yield f"  log      {_some(days, '; ')}"
    for job in version.jobs[:MAX_SHOWN]:
        yield f"  batch    {job['id'][:8]} {job['state']}: {job['input']} → {job['output']}"
    for batch in [each for each in version.batches if not each.record.is_job][:MAX_SHOWN]:
        record = batch.record
        yield f"  batch    {record.run_id[:8]} {record.status}: {record.source} → {record.output}"
    yield from (f"  gone     {sentence}" for sentence in version.gone)


def _batch_lines(batch: BatchUse) -> Iterator[str]:
    record, by = batch.record, f" (by {batch.by})" if batch.by else ""
    done = f"{count(record.num_rows, 'row')}, {record.num_rejected:,} rejected" if record.num_rows else "no rows"
    made = f"{record.run_id} by {record.name} version {record.version}, {record.ended_at[:16]}Z"
    yield f"  batch    {made}, {record.status}: {done}{by}"
    files = [f"{file['name']} {str(file['sha256'])[:12]}" for file in record.files]
    more = f", {record.num_files:,} files" if record.num_files > len(files) else ""
    yield f"  read     {record.source} ({_some(files)}{more})"
    replaced = ", which a later run has replaced" if batch.is_replaced else ""
    yield f"  output   {record.output}{replaced}"


def _some(texts: Any, between: str = ", ") -> str:
    """The first of some texts, and the number of the others."""
    every = list(texts)
    more = f"{between}and {len(every) - MAX_SHOWN:,} more" if len(every) > MAX_SHOWN else ""
    return between.join(every[:MAX_SHOWN]) + more

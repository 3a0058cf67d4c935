"""Statements about a name in service: the monitor's decision, canaries, aliases, batch predictions, and its log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from mlsys import errors, locks, registry
from mlsys.alerts import alert_book
from mlsys.deploy import batch_records, prediction_log
from mlsys.deploy.batch_queue import JobQueue
from mlsys.deploy.batch_records import BatchRecord
from mlsys.registry import canaries, ledger
from mlsys.reports.formats import count
from mlsys.store import Store, read_json
from mlsys.workflow.maintenance_state import MaintenanceState
from mlsys.workflow.statements import Statement

MAX_JOBS = 3
"""Failed batch jobs that are stated, the newest."""


def of_name(store: Store, name: str) -> list[Statement]:
    """State what asks for work about a name, of what the store has noted; causes first."""
    parts = (_of_alias, _of_canary, _of_monitor, _of_maintenance, _of_alerts, _of_jobs, _of_batches, _of_log)
    statements = [statement for part in parts for statement in part(store, name)]
    return sorted(statements, key=lambda statement: not statement.is_cause)


def _of_alias(store: Store, name: str) -> Iterator[Statement]:
    """A change that was begun and not ended, a rollback that is the last move, and a name that nothing serves."""
    more, moves = f"mlsys history {name}", registry.history(store, name)
    begun = registry.unfinished(store, name)
    if begun is not None and locks.holder(registry.lock_file(store, name)) is None:
        words = f"version {begun.version} as {begun.alias} was begun by {begun.who} at {_time(begun.at)} and not ended"
        yield Statement("alias", words, more, is_cause=True, change=("`mlsys status` settles it or takes it back",))
    last = {move.alias: move for move in moves}
    for alias, move in last.items():
        if move.kind == "rollback":
            words = f"{alias} was given back to version {move.version} at {_time(move.at)} by {move.who}: {move.reason}"
            change = (f"`mlsys promote {name}@VERSION --reason WHY` puts another version into service",)
            yield Statement("alias", words, more, change=change)
    versions = registry.versions(store, name)
    if versions and not moves:
        words = f"{count(len(versions), 'version')} registered, and no alias means one: nothing serves"
        change = (f"`mlsys promote {name}@{versions[-1].version} --reason WHY` puts the newest into service",)
        yield Statement("alias", words, more, is_cause=True, change=change)


def _of_canary(store: Store, name: str) -> Iterator[Statement]:
    """The last canary, if it was taken back and no alias was moved to its version since."""
    trial = canaries.last(store, name)
    if trial is None or canaries.taken_back(store, trial.entry) is None:
        return
    counts = trial.counts or {}
    seen = f" after {counts['canary_requests']:,} requests of its step" if "canary_requests" in counts else ""
    words = f"version {trial.entry.version} was taken back as a canary at {_time(trial.since)}{seen}: {trial.reason}"
    change = (f"`mlsys promote {name}@{trial.entry.version} --reason WHY` serves it all the same",)
    yield Statement("canary", words, f"mlsys rollout {name}", is_cause=True, change=change)


def _of_monitor(store: Store, name: str) -> Iterator[Statement]:
    """The last decision of the monitor, unless it is to keep the model."""
    file = store.root / "monitor" / name / "last.json"
    noted = read_json(file) if file.is_file() else {}
    if noted.get("decision", "keep") == "keep":
        return
    windows = count(noted["counts"].get("windows", 0), "window")
    words = (
        f"{noted['decision']}, of version {noted['version']}, at {noted['at'][:16]}Z: {noted['headline']} ({windows})"
    )
    change = {
        "retrain": ("run the recipe on newer rows: `mlsys run RECIPE`",),
        "watch": ("bring labels: `mlsys labels` with the name and a source; or wait for more windows",),
    }
    more, is_cause = f"mlsys monitor {name}", noted["decision"] == "retrain"
    yield Statement("monitor", words, more, is_cause=is_cause, change=change.get(noted["decision"], ()))


def _of_maintenance(store: Store, name: str) -> Iterator[Statement]:
    """The last maintenance, if it asks for somebody: refused rows, a model that was not promoted, an error."""
    last = MaintenanceState.read(store, name).last or {}
    if last.get("exit_code"):
        reason = " ".join(str(last["reason"]).split())
        words = f"the maintenance of {last['at'][:16]}Z ended as {last['outcome']}: {reason}"
        yield Statement("maintain", words, f"mlsys maintain {name} --dry-run", is_cause=True)


def _of_alerts(store: Store, name: str) -> Iterator[Statement]:
    """Alerts that last and did not reach a place: who should know does not."""
    for alert in alert_book.read(store, name).open():
        failed = [each for each in alert.deliveries.values() if each.error is not None]
        for delivery in failed:
            error = " ".join(str(delivery.error).split())
            words = f"the alert '{alert.summary}' of {alert.began_at[:16]}Z did not reach {delivery.place}: {error}"
            change = (f"`mlsys alerts {name}` lists alerts and places; correct monitor.alerts of the recipe",)
            yield Statement("alerts", words, f"mlsys alerts {name}", is_cause=True, change=change)


def _of_jobs(store: Store, name: str) -> Iterator[Statement]:
    """The newest batch jobs that failed after the last one that succeeded with the same input."""
    done: set[str] = set()
    failed = 0
    for job in JobQueue(store).jobs(name):
        if job.state == "succeeded":
            done.add(job.spec.input)
        if job.state != "failed" or job.spec.input in done:
            continue
        failed += 1
        if failed > MAX_JOBS:
            break
        head, read = f"job {job.id[:8]} of {_seconds(job.ended)}", f"{job.spec.input}, by version {job.spec.version}"
        yield _failed_batch(head, job.error, read, f"mlsys batch show {job.id}")


def _failed_batch(head: str, error: str | None, read: str, more: str) -> Statement:
    """A batch prediction that failed: its error in words, and its hint as what to change."""
    parts = errors.parts(error or "no reason was noted")
    facts = ", ".join(f"{word} {' '.join(parts[word].split())}" for word in ("got", "expected") if word in parts)
    words = f"{head} failed: {parts['where']}" + (f": {facts}" if facts else "")
    change = (" ".join(parts["hint"].split()),) if "hint" in parts else ()
    return Statement("batch", words, more, is_cause=True, read=(read,), change=change)


def _of_batches(store: Store, name: str) -> Iterator[Statement]:
    """The last batch predictions that no queue has: one a source and output, if it failed or rejected rows."""
    seen: set[tuple[str, str]] = set()
    stated = 0
    for record in batch_records.records(store, name):
        place = record.source, record.output
        if record.is_job or place in seen:
            continue
        seen.add(place)
        odd = list(of_batch(record))
        stated += bool(odd)
        if stated > MAX_JOBS:
            break
        yield from odd


def of_batch(record: BatchRecord) -> Iterator[Statement]:
    """State what is odd about a batch prediction: it failed, or rows were rejected."""
    more, at = f"mlsys lineage {record.run_id}", f"{record.ended_at[:16]}Z"
    if record.status == "failed":
        read = f"{record.source}, by version {record.version}"
        yield _failed_batch(f"prediction {record.run_id[:8]} of {at}", record.error, read, more)
    elif record.num_rejected:
        words = f"{record.num_rejected:,} of {count(record.num_rows, 'row')} of {record.source} were rejected at {at}"
        change = (f"{record.output}/_rejected has the rows with the reasons",)
        yield Statement("batch", words, more, change=change)


def _of_log(store: Store, name: str) -> Iterator[Statement]:
    """Rows that were answered and are not in the prediction log."""
    losses = prediction_log.losses(prediction_log.folder_of(store, name))
    if losses:
        rows = sum(loss.num_rows for loss in losses)
        words = (
            f"{count(rows, 'answered row')} are not in the prediction log; the last time at {losses[-1].until[:16]}Z: "
        )
        yield Statement("log", words + " ".join(losses[-1].reason.split()), "mlsys status")


def is_known(store: Store, name: str) -> bool:
    """True for a name that the ledger knows."""
    return any(move.name == name for move in ledger.read(store))


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z"


def _seconds(moment: float | None) -> str:
    return "an unknown time" if moment is None else _time(datetime.fromtimestamp(moment, UTC))

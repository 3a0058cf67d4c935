"""Models as the ledger knows them: all in one pass of its lines, and one with all that is known of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlsys import bundle, errors, registry
from mlsys.alerts import alert_book
from mlsys.deploy.batch_queue import JobQueue, QueuedJob
from mlsys.monitor import last
from mlsys.recipe import secrets
from mlsys.registry import Move, canaries, ledger
from mlsys.store import Store, read_json
from mlsys.web_console import facts_runs
from mlsys.workflow import inventory

Row = dict[str, Any]

CHAMPION = "champion"
"""The alias that a list shows where a model has several."""

MAX_LINES, MAX_JOBS, MAX_RUNS = 200, 50, 25
"""Lines of the ledger, batch jobs and runs that the page of a model shows."""


@dataclass
class NamedModel:
    """A name in the ledger: its versions, what its aliases mean, and where it is served.

    Attributes
    ----------
    registered
        The line of each version, oldest first.
    aliases
        Alias → the last line that moved it.
    served
        The line that says where an endpoint of it was last brought up, unless it was ended since.
    """

    name: str
    registered: list[Move] = field(default_factory=list)
    aliases: dict[str, Move] = field(default_factory=dict)
    served: Move | None = None

    def take(self, line: Move) -> None:
        """Take the next line of the ledger."""
        if line.kind == "register":
            self.registered.append(line)
        if line.kind in ("move", "rollback") and line.alias:
            self.aliases[line.alias] = line
        if line.kind == "undeploy":
            self.served = None
        elif line.facts.get("url"):
            self.served = line

    @property
    def shown(self) -> Move | None:
        """The version that a list shows: the champion, else what another alias means, else the newest."""
        pointed = self.aliases.get(CHAMPION) or next(iter(self.aliases.values()), None)
        if pointed is None:
            return self.registered[-1] if self.registered else None
        return next((line for line in self.registered if line.version == pointed.version), None)


def by_name(lines: Iterable[Move]) -> dict[str, NamedModel]:
    """The names that have a version, in alphabetical order."""
    named: dict[str, NamedModel] = {}
    for line in lines:
        named.setdefault(line.name, NamedModel(line.name)).take(line)
    return {name: named[name] for name in sorted(named) if named[name].registered}


def listed(store: Store) -> list[Row]:
    """List every model without asking an endpoint.

    Keys of each: name, aliases (alias → version), version, family, metric (the one that the recipe asks for), metrics
    and registered_at of the version that is shown, num_versions, url (where an endpoint was brought up, or None),
    decision of the monitor (as `decision`), num_alerts (those that last), and run, the head of its newest run or None.
    """
    models = by_name(ledger.read(store))
    return [_listed(store, model) for model in models.values()]


def _listed(store: Store, model: NamedModel) -> Row:
    shown = model.shown
    facts: Mapping[str, Any] = shown.facts if shown else {}
    return {
        "name": model.name,
        "aliases": {alias: line.version for alias, line in model.aliases.items()},
        "version": shown.version if shown else None,
        "family": facts.get("family"),
        "metric": facts.get("metric"),
        "metrics": facts.get("metrics", {}),
        "registered_at": shown.at.isoformat(timespec="seconds") if shown else None,
        "num_versions": len(model.registered),
        "url": model.served.facts["url"] if model.served else None,
        "decision": decision(store, model.name),
        "num_alerts": len(alert_book.read(store, model.name).open()),
        "run": facts_runs.newest(store, model.name),
    }


def decision(store: Store, name: str) -> Row | None:
    """The last decision of the monitor: at, version, decision, headline, counts, num_rows, judgement; None without."""
    return last.noted(store, name) or None


def whole(store: Store, name: str) -> Row:
    """All that is known of a model; its endpoint is asked.

    Keys: name, aliases, endpoint (as `mlsys.workflow.inventory.endpoint`), versions (newest first, each with params,
    metrics, provenance and reports), history, runs, decision, backlog_rows, windows, metric (of the windows, with its
    value on the test rows), labels, canary, jobs, alerts, and pages (reports of its newest run: name → path below the
    store).

    Raises
    ------
    RegistryError
        There is no such model.
    """
    registry.existing(store, name)
    model = by_name(ledger.read(store))[name]
    noted = last.status(store, name)
    judged = judgement(store, noted)
    trial = canaries.last(store, name)
    history = inventory.history(store, name)
    return {
        "name": name,
        "aliases": {alias: line.version for alias, line in model.aliases.items()},
        "endpoint": inventory.endpoint(store, name),
        "versions": [_version(store, model, line) for line in reversed(model.registered)],
        "history": history[-MAX_LINES:][::-1],
        "num_lines": len(history),
        "runs": facts_runs.listed(store, name, limit=MAX_RUNS),
        "decision": noted if "decision" in noted else None,
        "backlog_rows": noted["backlog_rows"],
        "windows": judged.get("windows", []),
        "metric": judged.get("baseline", {}),
        "labels": judged.get("labels"),
        "canary": None if trial is None else trial.to_json(),
        "jobs": jobs(store, name),
        "alerts": alerts(store, name),
        "pages": _pages(store, name),
    }


def alerts(store: Store, name: str) -> list[Row]:
    """Alerts of a model, newest first, as `mlsys.alerts.alert_book.RaisedAlert`, and whether each is muted."""
    book, now = alert_book.read(store, name), dt.datetime.now(dt.UTC)
    return [{**asdict(alert), "muted": book.is_muted(alert, now)} for alert in reversed(book.alerts)]


def _pages(store: Store, name: str) -> dict[str, str]:
    folder = store.root / "runs" / name / "reports"
    return {file.stem: file.relative_to(store.root).as_posix() for file in sorted(folder.glob("*.html"))}


def _version(store: Store, model: NamedModel, line: Move) -> Row:
    is_stored = store.has("bundle", line.digest)
    return {
        "version": line.version,
        "digest": line.digest,
        "at": line.at.isoformat(timespec="seconds"),
        "who": line.who,
        "family": line.facts.get("family"),
        "params": line.facts.get("params", {}),
        "metric": line.facts.get("metric"),
        "metrics": line.facts.get("metrics", {}),
        "aliases": [alias for alias, moved in model.aliases.items() if moved.version == line.version],
        "reports": reports(store, line),
        "stored": is_stored,
        "provenance": dict(bundle.open(store, line.digest).provenance) if is_stored else {},
    }


def reports(store: Store, line: Move) -> dict[str, str]:
    """Pages that were noted with a version and are still there: name → path below the store."""
    paths = [Path(path) for path in line.facts.get("reports", ())]
    return {path.stem: path.as_posix() for path in paths if not path.is_absolute() and (store.root / path).is_file()}


def judgement(store: Store, noted: Mapping[str, Any]) -> Row:
    """The judgement of the monitor's last decision; empty where there is none, or it was deleted."""
    digest = noted.get("judgement")
    if digest is None or not store.has("monitor", digest):
        return {}
    values: Row = read_json(store.path("monitor", digest) / "judgement.json")
    return values


def jobs(store: Store, name: str | None = None) -> list[Row]:
    """Batch jobs, newest first.

    Keys: id, name, version, state, input, output, created, started, ended (seconds of the Unix epoch), attempts, done,
    total, num_rows and error.
    """
    return [_job(job) for job in JobQueue(store).jobs(name, MAX_JOBS)]


def _job(job: QueuedJob) -> Row:
    plain = ("id", "state", "created", "started", "ended", "attempts", "done", "total", "num_rows", "error")
    files = {"input": secrets.shown(job.spec.input), "output": secrets.shown(job.spec.output)}
    ordered = {"name": job.spec.name, "version": job.spec.version, **files}
    return {**ordered, **{key: getattr(job, key) for key in plain}}


def page_file(store: Store, path: str) -> Path:
    """A page of a run below the store, for the browser.

    Raises
    ------
    RegistryError
        The path names no report of a run.
    """
    root = (store.root / "runs").resolve()
    file = (store.root / path).resolve()
    parts = file.relative_to(root).parts if file.is_relative_to(root) else ()
    if len(parts) != 3 or parts[1] != "reports" or file.suffix != ".html" or not file.is_file():
        raise errors.RegistryError.build(f"console: page '{path}'", got="no such page", expected="a report of a run")
    return file

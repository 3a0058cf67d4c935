"""The inventory: models with their versions, what happened to a name, what runs now. Nothing here changes anything."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlsys import cluster, errors, locks, registry
from mlsys.alerts import alert_book
from mlsys.deploy import api_keys, together_endpoint
from mlsys.deploy.by_name import canary_text
from mlsys.deploy.together_endpoint import ServedTogether
from mlsys.registry import Move, canaries, ledger
from mlsys.store import Store, read_json
from mlsys.workflow import maintenance_schedule
from mlsys.workflow.maintenance_state import MaintenanceState

Row = dict[str, Any]

ANSWER_S = 5
"""Longest wait for an endpoint that is asked what it serves."""


def models(store: Store, name: str | None = None) -> list[Row]:
    """List the names with their versions.

    Keys of a name: name, aliases (alias → version), endpoint (as in `endpoint`, or None), together (its address in the
    application of many models, or None) and versions, newest first,
    each with version, digest, at, who, family, metrics, aliases, rolled_back and stored (the bundle is in the store).

    Raises
    ------
    RegistryError
        There is no such model.
    """
    if name is not None:
        registry.existing(store, name)
    moves, together = ledger.read(store), together_endpoint.known(store)
    return [_model(store, each, moves, together) for each in registry.model_names(store) if name in (None, each)]


def _model(store: Store, name: str, moves: Sequence[Move], together: ServedTogether | None) -> Row:
    own = [move for move in moves if move.name == name]
    aliases = {move.alias: move.version for move in own if move.kind in ("move", "rollback") and move.alias}
    versions = []
    for move in reversed([move for move in own if move.kind == "register"]):
        taken = [alias for alias in aliases if registry.rolled_back(store, name, alias, move.digest)]
        versions.append({
            "version": move.version,
            "digest": move.digest,
            "at": move.at.isoformat(timespec="seconds"),
            "who": move.who,
            "family": move.facts.get("family"),
            "metrics": move.facts.get("metrics", {}),
            "aliases": [alias for alias, version in aliases.items() if version == move.version],
            "rolled_back": taken,
            "stored": store.has("bundle", move.digest),
        })  # fmt: skip
    url = f"{together.url}/{name}" if together is not None and name in together.models else None
    served = {"endpoint": endpoint(store, name), "together": url}
    return {"name": name, "aliases": aliases, **served, "versions": versions}


def models_text(listed: Sequence[Row]) -> str:
    """A paragraph a name, a line a version."""
    lines = []
    for model in listed:
        beside = f"served with others at {model['together']}" if model["together"] else None
        where = beside if beside and model["endpoint"] is None else _endpoint_text(model["endpoint"])
        lines.append(f"{model['name']}: {where}")
        for version in model["versions"]:
            notes = [*version["aliases"], *(f"rolled back from {alias}" for alias in version["rolled_back"])]
            notes += [] if version["stored"] else ["its bundle is not in the store"]
            metrics = ", ".join(f"{metric} {value:.4g}" for metric, value in list(version["metrics"].items())[:3])
            head = f"  {version['version']:>3}  {version['digest'][:12]}  {version['at'][:16]}"
            head += f"  {version['family'] or '':<9}"
            lines.append(f"{head} {metrics}{'   ' if notes else ''}{', '.join(notes)}".rstrip())
    return "\n".join(lines) or "no models; `mlsys deploy RECIPE` registers one"


def endpoint(store: Store, name: str) -> Row | None:
    """Ask the endpoint that the ledger names, if there is one.

    Keys: name, url, cluster, alias, version and digest of the answer, answers, and stats; the last is what a replica
    counts. Without an answer they are None.
    """
    line = registry.served_at(store, name)
    if line is None:
        return None
    url = line.facts["url"]
    model = _asked(f"{url}/ready").get("model") or {}
    known = {entry.digest for entry in registry.versions(store, name)}
    answers = model.get("digest") in known  # another store's model of this name is none of ours
    return {
        "name": name,
        "url": url,
        "cluster": line.facts.get("cluster"),
        "alias": line.alias,
        "version": model["version"] if answers else None,
        "digest": model["digest"] if answers else None,
        "answers": answers,
        "stats": _asked(f"{url}/stats", api_keys.owner_headers(store)) if answers else None,
    }


def _asked(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Row:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http, as the ledger has it
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310 - as above
            value = json.load(answer)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _endpoint_text(served: Row | None) -> str:
    if served is None:
        return "served nowhere"
    if not served["answers"]:
        return f"was served at {served['url']}, which does not answer"
    return f"version {served['version']} answers at {served['url']} as {served['alias']}"


def history(store: Store, name: str, alias: str | None = None) -> list[Row]:
    """List what happened to a name, oldest first: at, kind, version, digest, alias, who, reason and url.

    Raises
    ------
    RegistryError
        There is no such model or alias.
    """
    _check_alias(store, name, alias)
    moves = [move for move in ledger.read(store) if move.name == name and move.kind != "settings"]
    return [_line(move) for move in moves if alias is None or move.alias in (None, alias)]


def _check_alias(store: Store, name: str, alias: str | None) -> None:
    """Refuse a name without a version, and an alias that it never had."""
    registry.existing(store, name)
    known = sorted({move.alias for move in ledger.read(store) if move.name == name and move.alias})
    if alias is not None and alias not in known:
        where = f"history: '{name}'"
        hint = errors.did_you_mean(alias, known) if known else "none was ever moved"
        raise errors.RegistryError.build(where, got=alias, expected="an alias of it", hint=hint, field=alias)


def served_then(store: Store, name: str, at: str, alias: str | None = None) -> list[Row]:
    """The line of each alias that held at a time: what it meant then; keys as `history`.

    Raises
    ------
    RegistryError, RecipeError
        There is no such model or alias, or the text is no time.
    """
    _check_alias(store, name, alias)
    time = parsed_time(at, "history: --at")
    latest: dict[str, Move] = {}
    for move in registry.history(store, name, alias):
        if move.at <= time and move.alias:
            latest[move.alias] = move
    return [_line(move) for move in latest.values()]


def parsed_time(text: str, where: str) -> dt.datetime:
    """Read a time of the command line, in UTC if it names no offset; `where` names it in the message.

    Raises
    ------
    RecipeError
        The text is no time.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise errors.RecipeError.build(
            where, got=repr(text), expected="a time in ISO 8601, e.g. 2024-05-01T12:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _line(move: Move) -> Row:
    return {
        "at": move.at.isoformat(timespec="seconds"),
        "kind": move.kind,
        "version": move.version,
        "digest": move.digest,
        "alias": move.alias,
        "who": move.who,
        "reason": move.reason,
        "url": move.facts.get("url"),
    }


def history_text(lines: Sequence[Row]) -> str:
    """A line each, oldest first."""
    texts = [
        f"{line['at'][:19]}Z  {line['kind']:<10} version {line['version']:<3} {line['alias'] or '':<10} "
        f"{line['who']}  {line['reason']}".rstrip()
        for line in lines
    ]
    return "\n".join(texts) or "nothing served then"


def status(store: Store) -> Row:
    """Say what runs: store, cluster, endpoints (as `endpoint`), together, at_work, unfinished, canaries and decisions.

    ``together`` is the application of many models, or None; canaries, decisions, alerts that last, and the schedules of
    maintenance with the last result are by name.
    ``at_work`` names who holds the lock of a name now, ``unfinished`` what a process began and did not end.
    """
    names, together = registry.model_names(store), together_endpoint.known(store)
    at_work = {name: holder for name in names if (holder := locks.holder(registry.lock_file(store, name)))}
    begun = {name: registry.unfinished(store, name) for name in names if name not in at_work}
    trials = {name: trial.to_json() for name in names if (trial := canaries.running(store, name))}
    decisions = {name: decision for name in names if (decision := _decision(store, name))}
    return {
        "store": str(store.root),
        "cluster": cluster.status(store),
        "endpoints": [served for name in names if (served := endpoint(store, name))],
        "together": None if together is None else together.to_json(),
        "at_work": at_work,
        "unfinished": {name: _line(move) for name, move in begun.items() if move is not None},
        "canaries": trials,
        "decisions": decisions,
        "alerts": {name: alerts for name in names if (alerts := _open_alerts(store, name))},
        "maintenance": {name: _maintained(store, name) for name in maintenance_schedule.names(store)},
    }


def _open_alerts(store: Store, name: str) -> list[Row]:
    """The alerts of a model that last; none where they cannot be read."""
    with contextlib.suppress(errors.StoreError):
        keys = ("id", "kind", "alias", "summary", "began_at", "acknowledged_by")
        return [{key: getattr(alert, key) for key in keys} for alert in alert_book.read(store, name).open()]
    return []


def _maintained(store: Store, name: str) -> Row:
    """The schedule of a model, and how its last maintenance ended."""
    with contextlib.suppress(errors.StoreError):
        schedule, state = maintenance_schedule.read(store, name), MaintenanceState.read(store, name)
        return {**({} if schedule is None else schedule.to_json()), "last": state.last}
    return {}


def status_text(state: Row) -> str:
    """A line for the cluster, a line each for endpoints, work in progress and decisions."""
    at = state["cluster"]
    lines = [
        f"cluster at {at['address']}, dashboard {at['dashboard']}"
        if at
        else "no cluster of this store runs; mlsys up starts one"
    ]
    lines += [f"{each['name']}: {_endpoint_text(each)}{_traffic(each['stats'] or {})}" for each in state["endpoints"]]
    if state["together"] is not None:
        lines.append(ServedTogether.from_json(state["together"]).summary)
    lines += [f"{name}: {holder}" for name, holder in state["at_work"].items()]
    lines += [
        f"{name}: version {line['version']} as {line['alias']} was begun by {line['who']} and not ended"
        for name, line in state["unfinished"].items()
    ]
    lines += [canary_text(name, trial) for name, trial in state["canaries"].items()]
    lines += [f"{name}: monitor says {each['decision']}{_since(each)}" for name, each in state["decisions"].items()]
    for name, alerts in state["alerts"].items():
        lines += [f"{name}: alert {each['id']} since {each['began_at'][:16]}Z: {each['summary']}" for each in alerts]
    for name, each in state["maintenance"].items():
        last = each.get("last") or {"outcome": "not yet", "at": "once"}
        lines.append(f"{name}: maintained every {each.get('every')}; last {last['outcome']}, {last['at'][:16]}")
    return "\n".join(lines)


def _since(decision: Row) -> str:
    """The time and the windows of a decision, and the rows that were logged since."""
    if "at" not in decision:
        return ""
    windows = f"{decision['at'][:16]}Z, {decision['counts']['windows']} windows of version {decision['version']}"
    return f" ({windows}); {decision['backlog_rows']:,} rows were logged since"


def _traffic(stats: Row) -> str:
    log = stats.get("log") or {}
    backlog = f", {log['pending']:,} rows not yet in the log" if log.get("pending") else ""
    return f", {stats['requests']:,} requests (of the replica that was asked){backlog}" if "requests" in stats else ""


def _decision(store: Store, name: str) -> Row | None:
    """The last decision of the monitor with the rows that came since, or the one that an older run recorded."""
    from mlsys.monitor import last

    noted = last.status(store, name)
    if "decision" in noted:
        return {**noted, "summary": noted["headline"]}
    file = store.root / "runs" / name / "result.json"
    monitor = read_json(file).get("monitor") if file.is_file() else None
    return {key: monitor.get(key) for key in ("decision", "summary", "report")} if monitor else None


def reports(store: Store, name: str | None = None) -> dict[str, dict[str, str]]:
    """Paths of the reports of runs, by name and page.

    Raises
    ------
    RegistryError
        There is no run of that name.
    """
    folders = sorted(path for path in (store.root / "runs").glob("*") if (path / "reports").is_dir())
    pages = {
        path.name: {page.stem: str(page) for page in sorted((path / "reports").glob("*.html"))} for path in folders
    }
    if name is None:
        return pages
    if name not in pages:
        hint = errors.did_you_mean(name, pages)
        raise errors.RegistryError.build(f"open: '{name}'", got="no run", expected="a model with reports", hint=hint)
    return {name: pages[name]}


def logs(store: Store, name: str | None, num_lines: int) -> dict[str, str]:
    """The ends of log files by path, newest last: of the replicas of a name, or of the cluster and of faults.

    Raises
    ------
    RegistryError
        There is no such model.
    """
    if name is None:
        paths = [store.root / "cluster" / "head.log", *sorted((store.root / "faults").glob("*"))[-3:]]
    else:
        registry.existing(store, name)
        paths = _replica_logs(store, name)
    return {str(path): _end(path, num_lines) for path in paths if path.is_file()}


def _replica_logs(store: Store, name: str) -> list[Path]:
    """Log files of the replicas of a name on this machine, by Ray's names of them."""
    if cluster.status(store) is None:
        return []
    cluster.connect(store)
    import ray

    node: Any = ray._private.worker.global_worker.node  # noqa: SLF001 - Ray has no public way
    folder = Path(node.get_logs_dir_path())
    files = (folder / "serve").glob(f"replica_{name}_*.log")
    return sorted(files, key=lambda path: path.stat().st_mtime)[-5:]


def _end(path: Path, num_lines: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1_000_000))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-num_lines:])

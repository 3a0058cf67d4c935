"""The mirror of the ledger in MLflow: registered models, versions and aliases for people and other tools.

It is written after the ledger, outside of every lock of the registry, from the ledger, the records of runs and the
bundles alone, so it can be late, lost or another server: `sync` brings any of them up to date, and doing it again
changes nothing. MLflow numbers versions by itself; the tags ``mlsys.version`` and ``mlsys.digest`` of a version say
which of ours it is. A version holds the bundle as an MLflow model (`mlsys.registry.mlflow_model`), and belongs to the
run of the workflow that registered it (`mlsys.registry.mlflow_runs`).

The tracking server is the one that ``MLFLOW_TRACKING_URI`` names, else ``registry/mlflow.db`` of the store. All calls
of the registry to MLflow are in this module, and MLflow is imported when something is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import bundle, errors, locks
from mlsys.recipe import secrets
from mlsys.registry import ledger, mlflow_model, mlflow_runs
from mlsys.registry.ledger import Move
from mlsys.store import Store, digest_json, read_json, write_json

MIRROR_S = 10.0
"""Longest time that a command waits for a tracking server; what is missing then, `sync` adds."""

ANSWER_S = 5
"""Longest time, in seconds, in which a tracking server has to answer a request of a command that has other work."""

PATIENT_ANSWER_S = 60
"""The same of `sync`, which was asked for: a server that has just begun, or is busy, may take some seconds."""

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_RESERVED_ALIAS = ("latest",)


@dataclass(frozen=True)
class Mirrored:
    """Versions and aliases that `sync` added, each as ``name@which``, and runs, each as ``name time``."""

    versions: tuple[str, ...]
    aliases: tuple[str, ...]
    runs: tuple[str, ...] = ()


def mirror(store: Store, name: str) -> str | None:
    """Bring MLflow up to date with a name, within seconds; returns the warning if that was not possible.

    Nothing is asked of MLflow where its mirror has all lines of the ledger.
    """
    if is_current(store, name):
        return None
    try:
        if _server_uri(store).startswith("sqlite:"):  # this process is the server, and busy or slow is no fault
            sync(store, [name])
        else:
            _client(store)  # imports MLflow, for which no server is to blame
            _within(MIRROR_S, lambda: sync(store, [name], answer_s=ANSWER_S))
    except errors.MlsysError as error:
        got = re.search(r"^  got: +(.*)$", str(error), re.MULTILINE)
        reason = textwrap.shorten(got[1] if got else str(error), 160, placeholder=" …")
        return f"warning: MLflow does not know of '{name}' yet; `mlsys registry sync` tells it later ({reason})"
    return None


def sync(store: Store, names: Sequence[str] | None = None, *, answer_s: int = PATIENT_ANSWER_S) -> Mirrored:
    """Replay the ledger into MLflow: what is there stays, what is missing is added. Experiments are not touched.

    A server has ``answer_s`` seconds for each of its answers.

    Raises
    ------
    RegistryError
        MLflow's server cannot be reached or refuses.
    """
    moves = ledger.read(store)
    added: tuple[list[str], list[str], list[str]] = ([], [], [])
    recorded = {folder.parent.name for folder in (store.root / "runs").glob("*/history")}
    for name in sorted({move.name for move in moves} | recorded) if names is None else names:
        with (
            locks.hold(_folder(store) / "mlflow.lock", "MLflow's mirror"),
            _answered(f"telling MLflow of '{name}'", answer_s),
        ):
            own, runs = [move for move in moves if move.name == name], _new_runs(store, name)
            client = _client(store)
            for record in runs:
                mlflow_runs.copy(client, _experiment(client, store, name), record)
                added[2].append(f"{name} {record['began'][:19]}")
            numbers = _sync_versions(client, store, name, own, added[0])
            _sync_aliases(client, name, own, numbers, added[1])
            _note(store, name, len(own), runs[-1]["began"] if runs else _noted(store, name)[1])
    return Mirrored(*map(tuple, added))


def _new_runs(store: Store, name: str) -> list[dict[str, Any]]:
    """Records of runs that have ended since the last one that the mirror has, oldest first."""
    last = _noted(store, name)[1]
    records = [read_json(file) for file in sorted((store.root / "runs" / name / "history").glob("*.json"))]
    return [record for record in records if record["status"] != "running" and record["began"] > last]


def is_current(store: Store, name: str) -> bool:
    """True if the mirror on this tracking server had all lines of the ledger and all runs when it was last written."""
    if _is_own() and not (_folder(store) / "mlflow.db").is_file():
        return False
    lines = sum(move.name == name for move in ledger.read(store))
    return _noted(store, name)[0] == lines and not _new_runs(store, name)


def _sync_versions(client: Any, store: Store, name: str, moves: Sequence[Move], added: list[str]) -> dict[str, str]:
    """MLflow's number of each version, by digest; those that are missing are made."""
    if not any(move.kind == "register" for move in moves):
        return {}
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    there = {version.tags.get("mlsys.digest"): version for version in client.search_model_versions(f"name='{name}'")}
    numbers: dict[str, str] = {}
    for move in moves:
        if move.kind != "register":
            continue
        version = there.get(move.digest)
        if version is None:
            numbers[move.digest] = _add_version(client, store, move)
            added.append(f"{name}@{move.version}")
            continue
        numbers[move.digest] = str(version.version)
        if version.tags.get("mlsys.version") != str(move.version):
            client.set_model_version_tag(name, str(version.version), "mlsys.version", str(move.version))
    return numbers


def _add_version(client: Any, store: Store, move: Move) -> str:
    """Log the bundle as an MLflow model, add a model version of it, and return MLflow's number of it."""
    tags = {**move.facts.get("tags", {}), "mlsys.digest": move.digest, "mlsys.version": str(move.version)}
    run_id = _run_of(client, _experiment(client, store, move.name), move, tags)
    source = _log_model(client, store, run_id, move)
    named: dict[str, Any] = {"source": source, "run_id": run_id, "tags": tags}
    return str(client.create_model_version(move.name, await_creation_for=None, **named).version)


def _run_of(client: Any, experiment: str, move: Move, tags: dict[str, str]) -> str:
    """The run of the workflow that registered the version; of one that was registered otherwise, a run of its own."""
    if "run" in move.facts:
        run_id = mlflow_runs.find_or_create(client, experiment, move.facts["run"], move.at.isoformat())
        for key, text in tags.items():
            client.set_tag(run_id, key, text)
        return run_id
    run_id = str(client.create_run(experiment, tags=tags, run_name=f"{move.name}-{move.digest[:8]}").info.run_id)
    facts = move.facts
    params = {"family": facts.get("family", ""), **facts.get("params", {})}
    mlflow_runs.log(client, run_id, {"params": params, "metrics": facts.get("metrics", {})}, {})
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _log_model(client: Any, store: Store, run_id: str, move: Move) -> str:
    """Log reports and model as files of the run; returns the address of the model."""
    for report in move.facts.get("reports", ()):
        if (store.root / report).is_file():
            client.log_artifact(run_id, str(store.root / report))
    if not store.has("bundle", move.digest):
        return f"mlsys:/bundle/{move.digest}"
    with tempfile.TemporaryDirectory() as folder:
        mlflow_model.write(bundle.open(store, move.digest), Path(folder) / "model")
        client.log_artifacts(run_id, str(Path(folder) / "model"), "model")
    return f"{client.get_run(run_id).info.artifact_uri}/model"


def _sync_aliases(client: Any, name: str, moves: Sequence[Move], numbers: dict[str, str], added: list[str]) -> None:
    if not numbers:
        return
    there = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
    for alias, digest in {move.alias: move.digest for move in moves if move.kind in ("move", "rollback")}.items():
        number = numbers.get(digest)
        if alias and alias not in _RESERVED_ALIAS and number is not None and there.get(alias) != number:
            client.set_registered_model_alias(name, alias, number)
            added.append(f"{name}@{alias}")


def _within(seconds: float, work: Callable[[], Any]) -> None:
    """Do the work in a thread, and leave it behind if it takes longer: a server may accept and never answer."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (it is raised below, in the thread that waits)
            failures.append(error)

    thread = threading.Thread(target=run, name="mlflow-mirror", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        got = f"no answer within {seconds:.0f} s"
        raise errors.RegistryError.build("registry: telling MLflow", got=got, expected="an answer from MLflow")
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _answered(what: str, answer_s: int) -> Iterator[None]:
    """Turn every error of MLflow, and of the libraries below it, into one of the registry."""
    try:
        with _environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": str(answer_s), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}):
            yield
    except errors.MlsysError:
        raise
    except Exception as error:  # MLflow lets errors of requests, urllib3 and SQLAlchemy through
        raise errors.RegistryError.build(
            f"registry: {what}", got=_reason(error),
            expected="an answer from MLflow",
            hint="check MLFLOW_TRACKING_URI, or unset it to use the store's own database",
        ) from error  # fmt: skip


def _reason(error: Exception) -> str:
    """First line of an error; of one that urllib3 wraps in its story of tries, the cause at its end."""
    line = secrets.shown(str(error).split("\n", maxsplit=1)[0])
    cause = re.search(r"\(Caused by \w+\((.+)\)\)$", line)
    return (cause[1].strip("\"'") if cause else line) or type(error).__name__


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that are not set, during a block."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _client(store: Store) -> Any:
    """The MLflow client of the store's database or of the server that the environment names."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for logger in ("alembic", "mlflow.store.db.utils"):  # table by table on the first use
        logging.getLogger(logger).setLevel(logging.WARNING)
    uri = _server_uri(store)
    return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def _server_uri(store: Store) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_plain(_folder(store)) / 'mlflow.db'}"


def _plain(folder: Path) -> Path:
    """The folder, or a link to it where its path has characters to which a URL gives a meaning.

    Such a path would have to be quoted, and MLflow makes the folders of a URL as they are written there.
    """
    if not set("%?#") & set(str(folder)):
        return folder
    own = Path(tempfile.gettempdir()) / f"mlsys-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != os.getuid():
        raise errors.StoreError.build(f"registry: folder {own}", got="another user's", expected="one of this user")
    link = own / f"registry-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder, target_is_directory=True)
    return link


def _is_own() -> bool:
    """True if the tracking server is the database in the store."""
    return not any(os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"))


def _experiment(client: Any, store: Store, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (_folder(store) / "artifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=own))


def _folder(store: Store) -> Path:
    return store.root / "registry"


def _server(store: Store) -> str:
    """The server in the notes: a digest of its address, which may hold a password; a store's own moves with it."""
    if _is_own():
        return "own"
    uris = _server_uri(store), os.environ.get("MLFLOW_REGISTRY_URI")
    return digest_json(uris)[:16]


def _notes(store: Store) -> dict[str, dict[str, list[Any]]]:
    """The mirror's lines of the ledger, and when its last run began, by server and name."""
    file = _folder(store) / "mlflow-mirror.json"
    try:
        return dict(read_json(file)) if file.is_file() else {}
    except errors.StoreError:
        return {}


def _noted(store: Store, name: str) -> tuple[int, str]:
    lines, began = _notes(store).get(_server(store), {}).get(name, (0, ""))
    return lines, began


def _note(store: Store, name: str, num_lines: int, began: str) -> None:
    notes = _notes(store)
    notes.setdefault(_server(store), {})[name] = [num_lines, began]
    write_json(_folder(store) / "mlflow-mirror.json", notes)

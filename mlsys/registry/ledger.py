"""The ledger, one JSON line for every registration and alias move, and MLflow behind it.

The ledger is only ever appended to, and synced. Runs, registered models, versions and aliases for people and
other tools live in MLflow: in ``registry/mlflow.db`` of the store, or on the server that ``MLFLOW_TRACKING_URI``
names. MLflow is imported when something is written, never to find a model.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.store import Store, storage_error


class LedgerEntry(NamedTuple):
    """A registered model: its name, version number and bundle digest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Move:
    """One line of the ledger, `at` a time in UTC.

    With ``register`` the version was made, with ``move`` the alias was set to it, with ``rollback`` it went back to it.
    """

    kind: Literal["register", "move", "rollback"]
    at: dt.datetime
    name: str
    version: int
    digest: str
    alias: str | None = None
    reason: str = ""

    @property
    def entry(self) -> LedgerEntry:
        return LedgerEntry(self.name, self.version, self.digest)


def _file(store: Store) -> Path:
    return store.root / "registry" / "ledger.jsonl"


def read(store: Store) -> list[Move]:
    """Read every whole line; a last line without its end is a write that a crash cut off."""
    try:
        text = _file(store).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    *whole, _torn = text.split("\n")
    return [_move(line, number) for number, line in enumerate(whole, 1)]


def _move(line: str, number: int) -> Move:
    try:
        fields = json.loads(line)
        return Move(**{**fields, "at": dt.datetime.fromisoformat(fields["at"])})
    except (ValueError, TypeError, KeyError) as error:
        where = f"registry: line {number} of ledger.jsonl"
        hint = "restore the file from a backup"
        raise errors.RegistryError.build(where, got=str(error), expected="one move as JSON", hint=hint) from None


def append(store: Store, move: Move) -> None:
    """Add a line and sync it; the caller holds the lock.

    Raises
    ------
    StoreError
        The disk is full or the file cannot be written.
    """
    file = _file(store)
    fields = {**move.__dict__, "at": move.at.isoformat()}
    try:
        with file.open("ab+") as opened:
            opened.seek(0)
            opened.truncate(opened.read().rfind(b"\n") + 1)  # a line that a crash cut off goes
            opened.write((json.dumps(fields, ensure_ascii=False) + "\n").encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise storage_error(file, error) from error


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Let one writer in at a time; the lock ends with the process that holds it."""
    folder = store.root / "registry"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise storage_error(folder, error) from error


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


def add_version(
    store: Store,
    name: str,
    bundle: Bundle,
    *,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    reports: Sequence[Path],
) -> int:
    """Log a finished run, add a model version that names the bundle's digest, and return its number.

    Raises
    ------
    RegistryError
        MLflow's server cannot be reached or refuses.
    """
    tags = {**tags, "mlsys.digest": bundle.digest}
    with _answered("registering a version"):
        client = _client(store)
        experiment = _experiment(client, store, name)
        run = client.create_run(experiment, tags=tags, run_name=f"{name}-{bundle.digest[:8]}").info
        _log(client, run.run_id, bundle, metrics, reports)
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name)
        source = f"mlsys:/bundle/{bundle.digest}"
        return int(client.create_model_version(name, source=source, run_id=run.run_id, tags=tags).version)


def set_alias(store: Store, alias: str, entry: LedgerEntry) -> None:
    """Set the alias in MLflow as well; raises as `add_version`."""
    with _answered(f"moving alias '{alias}'"):
        _client(store).set_registered_model_alias(entry.name, alias, str(entry.version))


def _log(client: Any, run_id: str, bundle: Bundle, metrics: Mapping[str, float], reports: Sequence[Path]) -> None:
    for key, value in {"family": bundle.family, **bundle.params}.items():
        client.log_param(run_id, key, value if isinstance(value, str) else json.dumps(value))
    for key, number in metrics.items():
        client.log_metric(run_id, key, float(number))
    for report in reports:
        client.log_artifact(run_id, str(report))
    client.set_terminated(run_id, "FINISHED")


@contextlib.contextmanager
def _answered(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise errors.RegistryError.build(
            f"registry: {what}", got=str(error).split("\n", maxsplit=1)[0], expected="an answer from MLflow",
            hint="check MLFLOW_TRACKING_URI, or unset it to use the store's own database",
        ) from error  # fmt: skip


def _client(store: Store) -> Any:
    """The MLflow client of the store's database or of the server that the environment names."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for logger in ("alembic", "mlflow.store.db.utils"):  # table by table on the first use
        logging.getLogger(logger).setLevel(logging.WARNING)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root / 'registry' / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def _experiment(client: Any, store: Store, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (store.root / "registry" / "artifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=own))

"""Retention: what a store still needs, and the deletion of the rest.

Needed is what an alias means, and what a rollback would go to; what the ledger named in the last days; what the last
run of each recipe made; what feature tables serve; the monitor's last judgements; and what any of these names in turn.
Everything else costs time to make again and never correctness: a step whose output is gone runs again. Never looked at
is what cannot be made again: the ledger, MLflow's database, prediction logs, labels, openings of test rows, reports.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import errors, locks, registry
from mlsys.collect import history
from mlsys.registry import ledger
from mlsys.store import Store, storage_error

DAYS = 30
"""Days for which everything is retained, by default: a month of runs can be looked at and gone back to."""

DAY_S = 86_400
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_HIDDEN = re.compile(r"\.(.+)\.[0-9a-f]{8}(\.old)?")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs: an object, a record of a step, checkpoints, half an output, a traceback."""

    kind: str
    path: Path
    num_bytes: int


def leftovers(store: Store, days: float = DAYS, outputs: Sequence[Path] = ()) -> list[Leftover]:
    """Find what nothing needs; nothing is deleted.

    Parameters
    ----------
    days
        What is younger stays, whatever it is; staging folders stay for a day.
    outputs
        Folders that `mlsys predict` wrote, beside which a killed one left hidden folders.
    """
    before = time.time() - days * DAY_S
    objects = {path.name: path for path in (store.root / "objects").glob("*/*") if path.is_dir()}
    needed = _closure(objects, _roots(store, objects, days, before))
    rows = [("object", path) for digest, path in objects.items() if digest not in needed]
    rows += [("step", path) for path in _unneeded_records(store, needed, before)]
    rows += [("fault", path) for path in (store.root / "faults").glob("*") if _changed(path) < before]
    rows += [("checkpoints", path) for path in (store.root / "checkpoints").glob("*") if _newest(path) < before]
    day_ago = time.time() - DAY_S
    rows += [("staging", path) for path in (store.root / "staging").glob("*") if _newest(path) < day_ago]
    rows += [("staging", path) for path in _hidden_outputs(outputs) if _newest(path) < day_ago]
    rows += [("staging", path) for path in _half_written(store) if _changed(path) < day_ago]
    return [Leftover(kind, path, _size(path)) for kind, path in sorted(rows)]


def delete(store: Store, days: float = DAYS, outputs: Sequence[Path] = ()) -> list[Leftover]:
    """Find what nothing needs, delete it and return it; a reader sees an object whole or not at all.

    Runs and deployments that begin meanwhile wait until it is done.

    Raises
    ------
    StoreError
        A run or a deployment is at work, which may be about to name them; or the store cannot be written.
    """
    _check_idle(store)
    with locks.hold(store.deletion_lock, "gc"):
        _check_idle(store)
        rows = leftovers(store, days, outputs)
        try:
            _delete(store, rows)
        except OSError as error:
            raise storage_error(store.root, error) from error
    return rows


def _check_idle(store: Store) -> None:
    for lock in (*(store.root / "locks").glob("[!.]*"), *(store.root / "registry" / "locks").glob("*")):
        holder = locks.holder(lock)
        if holder is not None:
            hint = "wait until it has ended, and run the command again"
            raise errors.StoreError.build("gc: the store", got=holder, expected="nothing at work", hint=hint)


def _delete(store: Store, rows: Iterable[Leftover]) -> None:
    """Delete files, and folders of the store by one rename each: a kill leaves them whole, or in ``staging``."""
    trash = store.root / "staging" / f"trash-{uuid.uuid4().hex}"
    for row in rows:
        if row.path.is_dir() and row.path.is_relative_to(store.root):
            trash.mkdir(parents=True, exist_ok=True)
            row.path.rename(trash / f"{row.kind}-{row.path.name}")
        elif row.path.is_dir():
            shutil.rmtree(row.path, ignore_errors=True)
        else:
            row.path.unlink(missing_ok=True)
    shutil.rmtree(trash, ignore_errors=True)


def _roots(store: Store, objects: dict[str, Path], days: float, before: float) -> Iterator[str]:
    """Digests of objects that are needed for themselves."""
    yield from (digest for digest, path in objects.items() if _changed(path) >= before)
    yield from _registered(store, days)
    views, judgements = (store.root / "online").rglob("*.json"), (store.root / "monitor").glob("*/last.json")
    for path in (*_files_of_runs(store, before), *views, *judgements):
        yield from _named(path) - _collected_once(path)


def _files_of_runs(store: Store, before: float) -> Iterator[Path]:
    """Files that say what the last run of each recipe made; notes of what was done once need nothing of it."""
    for path in (store.root / "runs").rglob("*"):
        is_past = path.parent.name == "history" and _changed(path) < before
        if path.suffix in (".json", ".jsonl", ".yaml") and path.name != "replayed.json" and not is_past:
            yield path


def _collected_once(path: Path) -> set[str]:
    """Snapshots that collections before the last one made, which their history names."""
    if path.name != history.FILE:
        return set()
    *earlier, last = history.load(path.parent)["entries"] or [{}]
    return {entry["snapshot"] for entry in earlier} - {last.get("snapshot")}


def _registered(store: Store, days: float) -> Iterator[str]:
    """Digests on recent lines of the ledger, and those of versions that serve or that a rollback would go to."""
    moves = ledger.read(store)
    pointed: set[str] = set()
    for name in registry.model_names(store):
        for alias in {move.alias for move in registry.history(store, name) if move.alias}:
            pointed |= {entry.digest for entry in registry.stack(store, name, alias)[-2:]}
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    for move in moves:
        if move.at >= since or move.digest in pointed:
            yield move.digest
            yield from (match.decode() for match in _DIGEST.findall(json.dumps(dict(move.facts), default=str).encode()))


def _closure(objects: dict[str, Path], roots: Iterable[str]) -> set[str]:
    """Objects that can be reached from the roots, by digests that stand in the JSON files of objects."""
    needed: set[str] = set()
    waiting = [digest for digest in roots if digest in objects]
    while waiting:
        digest = waiting.pop()
        if digest not in needed:
            needed.add(digest)
            waiting += [name for path in objects[digest].rglob("*.json") for name in _named(path) if name in objects]
    return needed


def _unneeded_records(store: Store, needed: set[str], before: float) -> Iterator[Path]:
    """Records of steps from before whose objects all go or are gone."""
    for path in (store.root / "steps").glob("*/*.json"):
        if _changed(path) < before and not any(name in needed for name in _named(path)):
            yield path


def _half_written(store: Store) -> Iterator[Path]:
    """Files that `mlsys.store.write_atomic` had begun beside others when its process was killed."""
    for folder in store.root.iterdir():
        for path in () if folder.name in ("objects", "staging") else folder.rglob(".*"):
            if _HIDDEN.fullmatch(path.name) and path.is_file():
                yield path


def _hidden_outputs(outputs: Sequence[Path]) -> Iterator[Path]:
    for output in outputs:
        for path in output.absolute().parent.glob(f".{output.name}.*"):
            hidden = _HIDDEN.fullmatch(path.name)
            if hidden and hidden[1] == output.name and path.is_dir():
                yield path


def _named(path: Path) -> set[str]:
    """Everything in a file that reads as a digest."""
    try:
        return {match.decode() for match in _DIGEST.findall(path.read_bytes())}
    except OSError:
        return set()


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()  # it went meanwhile


def _newest(path: Path) -> float:
    return max([_changed(path), *(_changed(inner) for inner in path.rglob("*"))])


def _size(path: Path) -> int:
    files: Any = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())

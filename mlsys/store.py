"""Content-addressed storage: atomic writes, digests, finished outputs by digest.

Layout under the root (``.mlsys`` by default, or ``$MLSYS_STORE``; on a cluster, a folder
that every node sees)::

    objects/<kind>/<digest>/   finished outputs: files + manifest.json, never changed again
    steps/<step>/<key>.json    what a step with exactly these inputs produced
    runs/<name>/               resolved recipe, reports and result of the last run
    openings/                  how often which test rows were opened
    predictions/<name>/        prediction logs of the endpoints
    registry/                  MLflow's database and the ledger of alias moves
    cluster/                   address, token and process ids of a cluster we started
    checkpoints/               rounds of a fit by several workers that has not ended yet
    staging/                   half-written outputs; safe to delete when nothing runs

An output is written into ``staging``, its files are hashed and synced, and one rename
moves it into place: a reader sees a whole output or none, at any moment of a crash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import errors

MANIFEST = "manifest.json"


def default_root() -> Path:
    """``$MLSYS_STORE``, or ``.mlsys`` here; a Ray job runs in a folder that is deleted, so there it must be named."""
    if "MLSYS_STORE" not in os.environ and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        expected = "a folder that every node sees and that outlives the job"
        hint = 'start the cluster with `eval "$(mlsys env)"` set, or pass --store'
        raise errors.StoreError.build("store: inside a Ray job", got="no MLSYS_STORE", expected=expected, hint=hint)
    return Path(os.environ.get("MLSYS_STORE", ".mlsys")).absolute()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value, keys sorted (64 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes (64 hex digits)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file beside `path`, sync it, and move it into place; on failure the old one stays.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file through `write_atomic`, in UTF-8 and indented for people; without, it is ten times as fast."""
    write_atomic(path, (json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of the store; a damaged one is a `StoreError`, never a half value."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise storage_error(path, error) from error
    except ValueError as error:
        raise errors.StoreError.build(
            f"store: file '{path.name}'", got=str(error), expected="JSON", hint="delete it and run again"
        ) from None


def storage_error(path: Path, error: OSError) -> errors.StoreError:
    """Turn an error of the operating system into one of the store."""
    if error.errno == errno.ENOSPC:
        hint = "free some space and run again; what was there before is unchanged"
        return errors.StoreError.build(
            f"store: writing '{path.name}'", got="no space left on the disk", expected="room for the output", hint=hint
        )
    got = error.strerror or str(error)
    expected = "a readable and writable store"
    return errors.StoreError.build(f"store: '{path.name}'", got=got, expected=expected, hint=f"check {path.parent}")


@dataclass(frozen=True)
class Store:
    """Content-addressed folders under one root."""

    root: Path

    @classmethod
    def open(cls, root: str | Path | None = None) -> Store:
        """The store at `root`, made if there is none."""
        store = cls(Path(root).absolute() if root is not None else default_root())
        try:
            store.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(store.root, error) from error
        return store

    def path(self, kind: str, digest: str) -> Path:
        """Folder of a finished output.

        Raises
        ------
        StoreError
            There is none with this digest.
        """
        folder = self.root / "objects" / kind / digest
        if not self.has(kind, digest):
            where = f"store: {kind} '{digest[:12]}'"
            got = "not in the store"
            expected = f"a folder in {self.root / 'objects' / kind}"
            raise errors.StoreError.build(where, got=got, expected=expected, hint="run the step that makes it again")
        return folder

    def has(self, kind: str, digest: str) -> bool:
        return (self.root / "objects" / kind / digest / MANIFEST).is_file()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new empty folder, deleted afterwards unless it was moved away."""
        folder = self.root / "staging" / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True)
            yield folder
        except OSError as error:
            if isinstance(error, errors.MlsysError):
                raise
            raise storage_error(folder, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, kind: str, folder: Path, facts: Mapping[str, Any] | None = None) -> str:
        """Seal a staged folder, move it to its digest, and return that; content that is there already is dropped.

        `facts` go into the manifest and count towards the digest: they must not hold times or paths.
        """
        manifest = {"kind": kind, "facts": dict(facts or {}), "files": _seal(folder)}
        digest = digest_json(manifest)
        write_json(folder / MANIFEST, manifest)
        target = self.root / "objects" / kind / digest
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.has(kind, digest):
            with contextlib.suppress(OSError):  # made again, it is young again; of a store that is only read, it is not
                os.utime(target)
            return digest
        try:
            folder.rename(target)
        except OSError as error:
            if self.has(kind, digest):  # another process stored the same content meanwhile
                return digest
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise storage_error(target, error) from error
            self._replace_remains(folder, target)
        return digest

    def _replace_remains(self, folder: Path, target: Path) -> None:
        """Take the place of an object without a manifest: its deletion was interrupted."""
        with self.staging() as trash:
            target.rename(trash / target.name)
            folder.rename(target)

    def put(self, kind: str, write: Callable[[Path], Mapping[str, Any] | None]) -> str:
        """Let `write(folder)` fill a staged folder and commit it; what it returns are the facts."""
        with self.staging() as folder:
            return self.commit(kind, folder, write(folder))

    def put_json(self, kind: str, value: Any) -> str:
        """Store one JSON value as an object of its own."""
        with self.staging() as folder:
            write_json(folder / "value.json", value, indent=None)
            return self.commit(kind, folder)

    def get_json(self, kind: str, digest: str) -> Any:
        return read_json(self.path(kind, digest) / "value.json")

    def facts(self, kind: str, digest: str) -> dict[str, Any]:
        return dict(read_json(self.path(kind, digest) / MANIFEST)["facts"])

    def remember(self, step: str, key: str, record: Mapping[str, Any]) -> None:
        """Note what a step with this key produced."""
        write_json(self.root / "steps" / step / f"{key}.json", dict(record))

    def recall(self, step: str, key: str) -> dict[str, Any] | None:
        """The record of what a step with this key produced, or None."""
        file = self.root / "steps" / step / f"{key}.json"
        return dict(read_json(file)) if file.is_file() else None

    @property
    def deletion_lock(self) -> Path:
        """The lock that deletion holds alone and that everybody shares who is about to name stored outputs."""
        return self.root / "locks" / ".deletion"

    def run_folder(self, name: str) -> Path:
        folder = self.root / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def verify_folder(folder: Path, kind: str, digest: str) -> None:
    """Hash every file of a finished output again, wherever its folder lies.

    Raises
    ------
    StoreError
        A file is missing or its bytes changed.
    """
    manifest = read_json(folder / MANIFEST)
    if digest_json(manifest) != digest:
        where = f"store: {kind} '{digest[:12]}'"
        hint = f"delete {folder} and run again"
        raise errors.StoreError.build(where, got="another manifest", expected="the one it was stored with", hint=hint)
    for entry in manifest["files"]:
        file = folder / entry["name"]
        if not file.is_file() or digest_of_file(file) != entry["sha256"]:
            where = f"store: {kind} '{digest[:12]}', file '{entry['name']}'"
            got = "missing or changed bytes"
            expected = f"SHA-256 {entry['sha256'][:12]}…"
            raise errors.StoreError.build(where, got=got, expected=expected, hint=f"delete {folder} and run again")


def _seal(folder: Path) -> list[dict[str, Any]]:
    """Name, size and digest of every file below `folder`, each synced to disk."""
    entries: list[dict[str, Any]] = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        sync(file)
        entries.append(
            {"name": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": digest_of_file(file)}
        )
    return entries

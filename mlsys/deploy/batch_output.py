"""The folder that batch prediction writes: on this machine, or in any storage that ``pyarrow.fs`` opens by a URI.

Everything is written into a staging folder first. On this machine that lies beside the output and takes its
place by a rename, so the output appears whole or not at all. An object store has no rename of a folder:
there the staging folder lies inside, under a name that readers of Parquet folders skip, its files are moved
when all are complete, and ``_result.json`` comes last; an output without it is not complete.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors
from mlsys.readers import files
from mlsys.store import storage_error

RESULT, REJECTED = "_result.json", "_rejected"
OWN_NAMES = re.compile(rf"part-\d{{5}}\.parquet|{REJECTED}|{RESULT}|_staging-[0-9a-f]{{8}}")


class StagedFolder:
    """A staging folder by its path or URI, as every task of the cluster opens it."""

    def __init__(self, location: str) -> None:
        self.location = location

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[pa.NativeFile]:
        """A new file below the folder; an attempt that is repeated writes it again."""
        storage, root = _storage(self.location)
        path = PurePosixPath(root, name)
        storage.create_dir(str(path.parent), recursive=True)
        with storage.open_output_stream(str(path)) as file:
            yield file

    def write_json(self, name: str, value: Any) -> None:
        with self.create(name) as file:
            file.write((json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode())


class OutputFolder:
    """A folder of predictions; only one that an earlier call made is replaced.

    Raises
    ------
    StoreError
        Something else is there.
    """

    def __init__(self, location: str | Path) -> None:
        text = str(location)
        self._storage, path = _storage(text if files.scheme(text) else str(Path(text).expanduser().absolute()))
        self._is_local = isinstance(self._storage, pafs.LocalFileSystem)
        self._location, self._path = (path if self._is_local else text.rstrip("/")), path.rstrip("/")
        self._check()

    @contextlib.contextmanager
    def staging(self) -> Iterator[StagedFolder]:
        """A folder to fill, which becomes the output at the end of the block and is deleted if that fails."""
        target, mark = Path(self._path), uuid.uuid4().hex[:8]
        local = str(target.with_name(f".{target.name}.{mark}"))
        staged = local if self._is_local else f"{self._path}/_staging-{mark}"
        try:
            self._storage.create_dir(staged, recursive=True)
            yield StagedFolder(local if self._is_local else f"{self._location}/_staging-{mark}")
            if self._is_local:
                _replace(target, Path(local))
            else:
                self._move_files(staged)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, errors.MlsysError):
                raise
            raise self._failed(error) from error
        finally:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._storage.delete_dir(staged)

    def _check(self) -> None:
        try:
            entries = self._entries(self._path)
            info = self._storage.get_file_info(self._path)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error
        names = {entry.base_name for entry in entries}
        is_other = RESULT not in names if self._is_local else not all(map(OWN_NAMES.fullmatch, names))
        if info.type is pafs.FileType.File or (names and is_other):
            raise errors.StoreError.build(
                f"predict: output '{PurePosixPath(self._path).name}'", got="something else is there",
                expected="a new folder, or one of predictions", hint="name another folder",
            )  # fmt: skip

    def _entries(self, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        if self._storage.get_file_info(path).type is pafs.FileType.File:
            return []
        selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
        return [entry for entry in self._storage.get_file_info(selector) if entry.path.rstrip("/") != path]

    def _move_files(self, staged: str) -> None:
        """Remove the old files, their `RESULT` first, and move the new ones, theirs last."""
        old = [
            entry.path
            for entry in self._entries(self._path, recursive=True)
            if entry.type is pafs.FileType.File and not entry.path.startswith(f"{staged}/")
        ]
        for path in sorted(old, key=lambda path: not path.endswith(RESULT)):
            self._storage.delete_file(path)
        new = [entry.path for entry in self._entries(staged, recursive=True) if entry.type is pafs.FileType.File]
        for path in sorted(new, key=lambda path: (path.endswith(RESULT), path)):
            target = self._path + path.removeprefix(staged)
            self._storage.create_dir(str(PurePosixPath(target).parent), recursive=True)
            self._storage.move(path, target)

    def _failed(self, error: Exception) -> errors.StoreError:
        if self._is_local and isinstance(error, OSError):
            return storage_error(Path(self._path), error)
        return errors.StoreError.build(
            f"predict: output '{self._location}'", got=" ".join(str(error).split()), expected="a storage to write to"
        )


def _storage(location: str) -> tuple[pafs.FileSystem, str]:
    if not files.scheme(location):
        return pafs.LocalFileSystem(), location
    if files.scheme(location) not in files.REMOTE:
        where = f"predict: output '{location}'"
        expected = "a path, " + ", ".join(f"{scheme}://" for scheme in files.REMOTE)
        raise errors.StoreError.build(where, got=f"{files.scheme(location)}://", expected=expected)
    return files.filesystem(location)


def _replace(target: Path, folder: Path) -> None:
    """Move the finished folder to its name; an old one stays until the new one can take its place."""
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)

"""The folder that batch prediction writes: on this machine, or in any storage that ``pyarrow.fs`` opens by a URI.

Everything is written into a staging folder first (`mlsys.deploy.batch_staging`), whose name follows from the run: the
same run finds what an interrupted attempt finished. Once the list of its files is written there, nothing but moves is
left to do, and an attempt that is interrupted after that is published by the next. On this machine the staging folder
lies beside the output and takes its place in one step, so the output appears whole or not at all. An object store has
no rename of a folder: there it lies inside, under a name that readers of Parquet folders skip, its files are moved one
by one, and ``_result.json`` comes last; an output without it is not complete.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors
from mlsys.deploy.batch_staging import (
    CONTROL,
    PROGRESS,
    REJECTED,
    RESULT,
    DiscardedRunError,
    StagedFolder,
    entries,
    final_name,
    open_storage,
    read_json,
)
from mlsys.readers import files
from mlsys.store import storage_error

OWN_NAMES = re.compile(rf"part-\d{{5}}\.parquet|{REJECTED}|{RESULT}|_staging-[0-9a-f]{{8}}|{'|'.join(CONTROL)}")

PARTITION = re.compile(r"run=[\w.-]+|\.run=[\w.-]+\.[0-9a-f]{8}(\.old)?")
"""Names in a folder to which runs are appended: a partition a run, and the staging folders of those at work."""

_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE of <linux/fs.h>, AT_FDCWD of <fcntl.h>


class OutputFolder:
    """A folder of predictions; only one that an earlier call made is replaced.

    With a `partition` the output is that folder inside of it, beside those of other runs.

    Raises
    ------
    StoreError
        Something else is there.
    """

    def __init__(self, location: str | Path, partition: str | None = None) -> None:
        text = str(location)
        self._storage, path = open_storage(text if files.scheme(text) else str(Path(text).expanduser().absolute()))
        self._is_local = isinstance(self._storage, pafs.LocalFileSystem)
        self.location, self._path = (path if self._is_local else text.rstrip("/")), path.rstrip("/")
        if partition is not None:
            self._check(PARTITION, must_be_result=False)
            self.location, self._path = _below(self.location, partition), f"{self._path}/{partition}"
        self._check(OWN_NAMES, must_be_result=self._is_local)

    def result(self) -> dict[str, Any] | None:
        """Contents of the ``_result.json`` of a complete output; None without one."""
        try:
            result = read_json(self._storage, f"{self._path}/{RESULT}")
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error
        return result if isinstance(result, dict) else None

    def holds(self, names: Iterable[str]) -> bool:
        """True if files of these names lie in the output."""
        listed = entries(self._storage, self._path, recursive=True)
        return {f"{self._path}/{name}" for name in names} <= {entry.path for entry in listed}

    @contextlib.contextmanager
    def staging(self, run: str | None = None) -> Iterator[StagedFolder]:
        """A folder to fill, which becomes the output at the end of the block.

        An error that the next call would meet again deletes it (`_is_lasting`). What else ends the block, and whatever
        kills the process, leaves it for the next call of the same `run`, eight hexadecimal digits; without one nothing
        finds it again.
        """
        path, location = self._staging_path(run or uuid.uuid4().hex[:8])
        staged = StagedFolder(location)
        is_over = True
        try:
            self._storage.create_dir(path, recursive=True)
            yield staged
            if not staged.is_committed():
                staged.commit([name for name in staged.names() if name.split("/")[0] not in CONTROL])
            self._publish(path, staged.committed())
        except BaseException as error:
            is_over = self._is_lasting(error, path)
            if isinstance(error, OSError | pa.ArrowException) and not isinstance(error, errors.MlsysError):
                raise self._failed(error) from error
            raise
        finally:
            if is_over:
                self._delete(path)

    def _is_lasting(self, error: BaseException, staged: str) -> bool:
        """Tell errors after which nothing of a run is of use: rows that do not fit, a full disk, a run given up.

        A cluster that failed, a storage or a source that did not answer may do so the next time.
        """
        if isinstance(error, DiscardedRunError):
            return True
        if isinstance(error, errors.ClusterError) or not isinstance(error, Exception):
            return False
        if isinstance(error, errors.SourceError):
            return not entries(self._storage, f"{staged}/{PROGRESS}")
        is_of_storage = isinstance(error, OSError | pa.ArrowException)
        return self._is_local if is_of_storage else isinstance(error, errors.MlsysError)

    def _staging_path(self, mark: str) -> tuple[str, str]:
        target = Path(self._path)
        local = str(target.with_name(f".{target.name}.{mark}"))
        name = f"_staging-{mark}"
        return (local, local) if self._is_local else (f"{self._path}/{name}", _below(self.location, name))

    def _check(self, own: re.Pattern[str], *, must_be_result: bool) -> None:
        try:
            names = {entry.base_name for entry in entries(self._storage, self._path)}
            info = self._storage.get_file_info(self._path)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error
        is_other = RESULT not in names if must_be_result else not all(map(own.fullmatch, names))
        if info.type is pafs.FileType.File or (names and is_other):
            is_single = own is PARTITION and RESULT in names
            hint = "name another folder for the runs, or leave append out, which replaces it"
            raise errors.StoreError.build(
                f"predict: output '{PurePosixPath(self._path).name}'",
                got="the output of one run" if is_single else "something else is there",
                expected="a new folder, or one to which runs were appended" if own is PARTITION
                else "a new folder, or one of predictions",
                hint=hint if is_single else "name another folder",
            )  # fmt: skip

    def _publish(self, staged: str, names: list[str]) -> None:
        """Give the files of a staging folder their names in the output; what an attempt did of it is not done again."""
        if self._is_local:
            _finish_names(Path(staged), names)
            _replace(Path(self._path), Path(staged))
            for name in CONTROL:
                self._delete(f"{self._path}/{name}")
        else:
            self._move_files(staged, names)

    def _move_files(self, staged: str, names: list[str]) -> None:
        """Remove an old `RESULT`, move the new files over the old ones, and theirs last."""
        there = {entry.path for entry in entries(self._storage, staged, recursive=True)}
        if f"{staged}/{RESULT}" in there:
            with contextlib.suppress(FileNotFoundError):
                self._storage.delete_file(f"{self._path}/{RESULT}")
        for name in sorted(names, key=lambda name: (name == RESULT, name)):
            if name == RESULT:
                self._delete_others(staged, {final_name(each) for each in names})
            if f"{staged}/{name}" in there:
                target = f"{self._path}/{final_name(name)}"
                self._storage.create_dir(str(PurePosixPath(target).parent), recursive=True)
                self._storage.move(f"{staged}/{name}", target)

    def _delete_others(self, staged: str, names: set[str]) -> None:
        for entry in entries(self._storage, self._path, recursive=True):
            name = entry.path.removeprefix(f"{self._path}/")
            if entry.type is pafs.FileType.File and not entry.path.startswith(f"{staged}/") and name not in names:
                self._storage.delete_file(entry.path)

    def _delete(self, path: str) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._storage.get_file_info(path).type is pafs.FileType.File:
                self._storage.delete_file(path)
            else:
                self._storage.delete_dir(path)

    def _failed(self, error: Exception) -> errors.StoreError:
        if self._is_local and isinstance(error, OSError):
            return storage_error(Path(self._path), error)
        return errors.StoreError.build(
            f"predict: output '{self.location}'", got=" ".join(str(error).split()), expected="a storage to write to"
        )


def _below(location: str, name: str) -> str:
    """A folder inside of one that is given by its path or URI; the query of a URI stays at its end."""
    path, mark, query = location.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def _finish_names(folder: Path, names: list[str]) -> None:
    """Rename the files of a commit, and delete what attempts left beside them."""
    for name in names:
        if final_name(name) != name and (folder / name).exists():
            (folder / name).rename(folder / final_name(name))
    own = {final_name(name) for name in names}
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        below = path.relative_to(folder)
        if below.parts[0] not in CONTROL and below.as_posix() not in own:
            path.unlink(missing_ok=True)


def _replace(target: Path, folder: Path) -> None:
    """Move the finished folder to its name, in one step if the system can exchange folders."""
    if not target.exists():
        folder.rename(target)
        return
    if _exchanged(folder, target):
        shutil.rmtree(folder, ignore_errors=True)
        return
    old = target.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step (renameat2(2)); false where the system or its file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0

"""The staging folder of a batch prediction: what attempts of one run finished, and how the next one finds it.

::

    _plan.json                    id and time of the run, and the keys of its fragments
    _progress/00003.json          fragment 3 is finished: its key, its files, its counts
    part-00003-<8 digits>.parquet rows of fragment 3, written by one attempt
    _rejected/…                   likewise
    _commit.json                  the files of the output: all is written, and they only have to be moved

A file belongs to one attempt, and a fragment is finished once the note of it is written, which names its files and
comes in one step. So an attempt that was killed, or a worker of it that has not noticed yet, never changes what
another one wrote.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors
from mlsys.readers import files
from mlsys.store import sync

RESULT, REJECTED = "_result.json", "_rejected"
PLAN, PROGRESS, COMMIT = CONTROL = "_plan.json", "_progress", "_commit.json"
"""Names of a staging folder that are no part of the output."""

_ATTEMPT = re.compile(r"(part-\d{5})-[0-9a-f]{8}(\.parquet)$")


class DiscardedRunError(Exception):
    """The run is given up, with everything that it finished."""


@dataclass(frozen=True)
class StagedFolder:
    """A staging folder by its path or URI, as every task of the cluster opens it."""

    location: str

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[pa.NativeFile]:
        """A new file below the folder, on disk at the end of the block; one that is not finished is deleted."""
        storage, path = self._place(name)
        storage.create_dir(str(PurePosixPath(path).parent), recursive=True)
        try:
            with storage.open_output_stream(path) as file:
                yield file
        except BaseException:
            with contextlib.suppress(OSError, pa.ArrowException):
                storage.delete_file(path)
            raise
        if isinstance(storage, pafs.LocalFileSystem):
            sync(Path(path))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file in one step: a reader sees all of it, or what was there before."""
        data = (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode()
        storage, path = self._place(name)
        if not isinstance(storage, pafs.LocalFileSystem):  # there an object appears when it is closed
            with self.create(name) as file:
                file.write(data)
            return
        beside = str(PurePosixPath(name).with_name(f".{PurePosixPath(name).name}.{uuid.uuid4().hex[:8]}"))
        with self.create(beside) as file:
            file.write(data)
        storage.move(self._place(beside)[1], path)

    def read_json(self, name: str) -> Any:
        """The value of a JSON file, or None if it is not there or damaged."""
        return read_json(*self._place(name))

    def names(self) -> list[str]:
        """Names of all files below the folder, sorted."""
        storage, root = self._place("")
        listed = entries(storage, root, recursive=True)
        return sorted(e.path.removeprefix(f"{root}/") for e in listed if e.type is pafs.FileType.File)

    def begin(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Note the plan of a run, or return the one that an earlier attempt of the same run noted.

        What a run with other fragments left is deleted.
        """
        before = self.read_json(PLAN)
        if isinstance(before, dict) and before.get("fragments") == plan["fragments"]:
            return before
        storage, root = self._place("")
        storage.delete_dir_contents(root, missing_dir_ok=True)
        self.write_json(PLAN, plan)
        return plan

    def note(self, number: int, record: dict[str, Any]) -> None:
        """Note that a fragment is finished: ``key``, ``files`` and ``counts``."""
        self.write_json(f"{PROGRESS}/{number:05d}.json", record)

    def notes(self, keys: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Notes of finished fragments by number, of those that have the key of now and all of their files."""
        there = set(self.names())
        notes: dict[int, dict[str, Any]] = {}
        for number, key in enumerate(keys):
            name = f"{PROGRESS}/{number:05d}.json"
            record = self.read_json(name) if name in there else None
            if isinstance(record, dict) and record.get("key") == key and there.issuperset(record["files"]):
                notes[number] = record
        return notes

    def commit(self, names: Sequence[str]) -> None:
        """Name the files of the output; from then on they only have to be moved."""
        self.write_json(COMMIT, {"files": list(names)})

    def is_committed(self) -> bool:
        return isinstance(self.read_json(COMMIT), dict)

    def committed(self) -> list[str]:
        """Names of the files of the output."""
        return cast("list[str]", self.read_json(COMMIT)["files"])

    def _place(self, name: str) -> tuple[pafs.FileSystem, str]:
        storage, root = open_storage(self.location)
        return storage, str(PurePosixPath(root, name))


def attempt_name(number: int) -> str:
    """A name for the rows of a fragment that no other attempt takes."""
    return f"part-{number:05d}-{uuid.uuid4().hex[:8]}.parquet"


def final_name(name: str) -> str:
    """The name of a file in the output.

    >>> final_name("_rejected/part-00003-0123abcd.parquet"), final_name("_result.json")
    ('_rejected/part-00003.parquet', '_result.json')
    """
    return _ATTEMPT.sub(r"\1\2", name)


def open_storage(location: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path in it.

    Raises
    ------
    StoreError
        Nothing writes to the scheme of the URI.
    """
    if not files.scheme(location):
        return pafs.LocalFileSystem(), location
    if files.scheme(location) not in files.REMOTE:
        where = f"predict: output '{location}'"
        expected = "a path, " + ", ".join(f"{scheme}://" for scheme in files.REMOTE)
        raise errors.StoreError.build(where, got=f"{files.scheme(location)}://", expected=expected)
    return files.filesystem(location)


def entries(storage: pafs.FileSystem, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
    """List the files and folders in a folder; nothing where there is none."""
    if storage.get_file_info(path).type is pafs.FileType.File:
        return []
    selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
    return [entry for entry in storage.get_file_info(selector) if entry.path.rstrip("/") != path]


def read_json(storage: pafs.FileSystem, path: str) -> Any:
    """The value of a JSON file, or None if it is not there or damaged."""
    if storage.get_file_info(path).type is not pafs.FileType.File:
        return None
    with storage.open_input_stream(path) as file:
        try:
            return json.loads(file.read())
        except ValueError:
            return None

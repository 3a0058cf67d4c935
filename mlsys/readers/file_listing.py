"""Which files a path, folder, glob or URI names: on this machine, or through ``pyarrow.fs``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors

__all__ = ["REMOTE", "File", "changed", "local", "near", "open_file", "remote", "scheme"]

REMOTE = ("s3", "gs", "gcs", "file", "hdfs", "abfs", "abfss")
"""URI schemes that ``pyarrow.fs`` opens."""
GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class File:
    """A file found: what reports call it, where it is, and its bytes."""

    name: str
    location: str
    num_bytes: int


def local(path: str, source: str, is_data: Callable[[str], bool]) -> list[File]:
    """Files of a path, folder (searched to the bottom) or glob, sorted by their names below it.

    A file named outright is taken whatever it is called; others only if `is_data` says so of
    their name, and neither hidden files nor markers such as ``_SUCCESS``.

    Raises
    ------
    SourceError
        There is none.
    """
    at = Path(path).expanduser().absolute()  # a task on the cluster stands in another folder
    if at.is_file():
        return [File(at.name, str(at), at.stat().st_size)]
    base, found = at, cast("Iterator[Path]", at.rglob("*"))
    if not at.is_dir():
        base = _fixed_part(at)
        found = base.glob(str(at.relative_to(base))) if GLOB.search(path) else iter(())
    files = {file.relative_to(base).as_posix(): file for file in found if file.is_file()}
    names = _chosen(files, is_data)
    if not names and at.is_dir():
        raise errors.SourceError.no_data(source, [file.name for file in at.iterdir()])
    if not names:
        raise errors.SourceError.missing(source, near(at))
    return [File(name, str(files[name]), files[name].stat().st_size) for name in names]


def remote(source: str, is_data: Callable[[str], bool]) -> list[File]:
    """As `local`, for a URI; in a glob, ``*`` matches slashes too.

    Raises
    ------
    SourceError
        There is none, or the storage cannot be reached.
    """
    glob = GLOB.search(source)
    root = (source[: source.rfind("/", 0, glob.start())] if glob else source).rstrip("/")
    try:
        filesystem, path = pafs.FileSystem.from_uri(root)
        info = filesystem.get_file_info(path)
        if info.type is pafs.FileType.File:
            return [File(_shown(source), source, info.size or 0)]
        listed = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        beside = filesystem.get_file_info(pafs.FileSelector(str(PurePosixPath(path).parent), allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error
    files = {found.path[len(path) + 1 :]: found.size or 0 for found in listed if found.type is pafs.FileType.File}
    pattern = source[len(root) + 1 :] if glob else "*"
    names = _chosen([name for name in files if fnmatch.fnmatchcase(name, pattern)], is_data)
    if not names:
        raise errors.SourceError.missing(source, [*files, *(found.base_name for found in beside)])
    return [File(_shown(f"{root}/{name}"), f"{root}/{name}", files[name]) for name in names]


def open_file(name: str, location: str) -> BinaryIO:
    """A file's bytes, seekable."""
    try:
        if scheme(location) in REMOTE:
            filesystem, path = pafs.FileSystem.from_uri(location)
            return cast("BinaryIO", filesystem.open_input_file(path))
        return Path(location).open("rb")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def changed(location: str) -> str:
    """When a file was last changed, in nanoseconds as text."""
    if scheme(location) in REMOTE:
        filesystem, path = pafs.FileSystem.from_uri(location)
        return str(filesystem.get_file_info(path).mtime_ns)
    return str(Path(location).stat().st_mtime_ns)


def scheme(source: str) -> str:
    """What stands before ``://`` in lower case; empty for a path.

    >>> scheme("S3://bucket/key"), scheme("data/a.csv")
    ('s3', '')
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return found[1].lower() if found else ""


def near(path: Path) -> list[str]:
    """Names beside a path that is not there."""
    return [beside.name for beside in path.parent.iterdir()] if path.parent.is_dir() else []


def _chosen(names: Iterable[str], is_data: Callable[[str], bool]) -> list[str]:
    shown = [name for name in names if not any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)]
    return sorted(name for name in shown if is_data(name))


def _shown(uri: str) -> str:
    """A URI as a report may show it: a path of this machine shrinks to the file's name."""
    return PurePosixPath(uri).name if scheme(uri) == "file" else uri


def _fixed_part(path: Path) -> Path:
    """The folders of a glob before its first pattern."""
    at = next((at for at, part in enumerate(path.parts) if GLOB.search(part)), len(path.parts) - 1)
    return Path(*path.parts[:at])


def _unreadable(name: str, error: Exception) -> errors.SourceError:
    return errors.SourceError.build(
        f"collect: source '{name}'", got=" ".join(str(error).split()), expected="a source that can be read"
    )

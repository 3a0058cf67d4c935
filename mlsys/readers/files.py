"""Files that a path, folder, glob or URI names: on this machine, in a package, or through ``pyarrow.fs``."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import tempfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors
from mlsys.readers import web

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""Name of the folder of rows whose column has no value."""
REMOTE = ("s3", "gs", "gcs", "file", "hdfs", "abfs", "abfss")
"""URI schemes that ``pyarrow.fs`` opens."""
GLOB = re.compile(r"[*?\[]")
MARKERS = (".crc", ".md5", ".sha256", ".tmp", ".crdownload", "thumbs.db", "desktop.ini")
"""Ends of the names of files that are no data, whatever format is asked for."""
MEMBER_BYTES = 1 << 26
"""Bytes of a member of an archive that are unpacked in memory; more go to a temporary file."""


@dataclass(frozen=True)
class File:
    """A file: its name in reports, its path or URI, and its size."""

    name: str
    location: str
    num_bytes: int


def find(source: str, is_data: Callable[[str], bool], exclude: Sequence[str] = ()) -> list[File]:
    """Files of a path, folder, glob, URI or ``package://name/inside``, sorted by their names below it.

    A file named outright is taken whatever it is called; others only if `is_data` says so of their name, no glob of
    `exclude` matches it or its last part, and they are neither hidden nor markers such as ``_SUCCESS`` and ``*.crc``.
    In the glob of a URI and in `exclude`, ``*`` matches slashes too.

    Raises
    ------
    SourceError
        There is none, or the storage cannot be reached.
    """
    kind = scheme(source)

    def is_included(name: str) -> bool:
        last = PurePosixPath(name).name
        return is_data(name) and not any(fnmatch.fnmatch(each, glob) for glob in exclude for each in (name, last))

    if kind in REMOTE:
        return _remote(source, is_included)
    if kind in web.SCHEMES:
        return [_at_url(source, is_data)]
    return _local(str(_inside_package(source)) if kind == "package" else source, source, is_included)


def _local(path: str, source: str, is_data: Callable[[str], bool]) -> list[File]:
    root = Path(path).expanduser().absolute()  # a task on the cluster stands in another folder
    if root.is_file():
        return [File(root.name, str(root), root.stat().st_size)]
    base, paths = root, cast("Iterator[Path]", root.rglob("*"))
    if not root.is_dir():
        base = _fixed_part(root)
        paths = base.glob(str(root.relative_to(base))) if GLOB.search(path) else iter(())
    by_name = {file.relative_to(base).as_posix(): file for file in paths if file.is_file()}
    names = _data_names(by_name, is_data)
    if not names and root.is_dir():
        raise errors.SourceError.no_data(source, [file.name for file in root.iterdir()])
    if not names:
        raise errors.SourceError.missing(source, near(root))
    return [File(name, str(by_name[name]), by_name[name].stat().st_size) for name in names]


def _remote(source: str, is_data: Callable[[str], bool]) -> list[File]:
    glob = GLOB.search(source)
    root = (source[: source.rfind("/", 0, glob.start())] if glob else source).rstrip("/")
    try:
        storage, path = filesystem(root)
        info = storage.get_file_info(path)
        if info.type is pafs.FileType.File:
            return [File(_shown(source), source, info.size or 0)]
        listed = storage.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        beside = storage.get_file_info(pafs.FileSelector(str(PurePosixPath(path).parent), allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error
    sizes = {entry.path[len(path) + 1 :]: entry.size or 0 for entry in listed if entry.type is pafs.FileType.File}
    pattern = source[len(root) + 1 :] if glob else "*"
    names = _data_names([name for name in sizes if fnmatch.fnmatchcase(name, pattern)], is_data)
    if not names:
        raise errors.SourceError.missing(source, [*sizes, *(entry.base_name for entry in beside)])
    return [File(_shown(f"{root}/{name}"), f"{root}/{name}", sizes[name]) for name in names]


def _at_url(url: str, is_data: Callable[[str], bool]) -> File:
    """The file at a URL; where its path does not tell the format, the media type does."""
    answer = web.probe(url)
    name = web.shown(url)
    return File(name if is_data(name) else name + answer.suffix, url, answer.num_bytes)


def _inside_package(source: str) -> Path:
    """Path of ``package://name/inside``; the package is located, never imported."""
    package, _, inside = source.removeprefix("package://").partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        got = f"no package '{package}' in this environment"
        raise errors.SourceError.build(
            f"collect: source '{source}'", got=got, expected="an installed package", hint=f"uv pip install {package}"
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """File system of a URI, and the path in it."""
    return cast("tuple[pafs.FileSystem, str]", pafs.FileSystem.from_uri(uri))


def open_file(name: str, location: str) -> BinaryIO:
    """Open the bytes of a file, seekable."""
    try:
        if scheme(location) in REMOTE:
            storage, path = filesystem(location)
            return cast("BinaryIO", storage.open_input_file(path))
        return web.open_url(location) if scheme(location) in web.SCHEMES else Path(location).open("rb")
    except errors.MlsysError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def members(name: str, location: str) -> list[tuple[str, int]]:
    """Names and sizes of the files in a zip archive, sorted, without what macOS adds."""
    try:
        with open_file(name, location) as opened, zipfile.ZipFile(opened) as archive:
            inside = [(each.filename, each.file_size) for each in archive.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise errors.SourceError.damaged(name, str(error)) from error
    return sorted(member for member in inside if not member[0].startswith("__MACOSX/") and not _is_marker(member[0]))


def open_member(name: str, opened: BinaryIO, member: str) -> BinaryIO:
    """The unpacked bytes of a file in an open archive, seekable."""
    with contextlib.ExitStack() as on_fault:
        unpacked = on_fault.enter_context(tempfile.SpooledTemporaryFile(MEMBER_BYTES))
        try:
            with opened, zipfile.ZipFile(opened) as archive, archive.open(member) as packed:
                while chunk := packed.read(1 << 20):
                    _write(name, unpacked, chunk)
        except errors.SourceError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError) as error:
            raise errors.SourceError.damaged(name, str(error)) from error
        unpacked.seek(0)
        on_fault.pop_all()  # who opens it closes it
    return cast("BinaryIO", unpacked)


def _write(name: str, unpacked: IO[bytes], chunk: bytes) -> None:
    try:
        unpacked.write(chunk)
    except OSError as error:
        raise errors.SourceError.no_room(name, error, unpacked.tell(), tempfile.gettempdir()) from None


def path_of(location: str) -> str:
    """The path of a location: that of a URL without its query."""
    return urllib.parse.urlsplit(location).path if scheme(location) in web.SCHEMES else location


def folder_columns(location: str) -> list[tuple[str, str | None]]:
    """Columns in the names of the folders above a file, from the first of the last row of such folders on.

    >>> folder_columns("/data/region=north/year=2024/part-0.parquet")
    [('region', 'north'), ('year', '2024')]
    """
    columns: list[tuple[str, str | None]] = []
    for part in reversed(PurePosixPath(path_of(location)).parts[:-1]):
        name, is_column, value = part.partition("=")
        if not is_column or not name:
            break
        text = urllib.parse.unquote(value)
        columns.insert(0, (urllib.parse.unquote(name), None if text == NO_VALUE else text))
    return columns


def changed(location: str) -> str:
    """Time of the last change of a file, in nanoseconds as text."""
    if scheme(location) in REMOTE:
        storage, path = filesystem(location)
        return str(storage.get_file_info(path).mtime_ns)
    return web.changed(location) if scheme(location) in web.SCHEMES else str(Path(location).stat().st_mtime_ns)


def scheme(source: str) -> str:
    """The scheme of a URI in lower case; empty for a path.

    >>> scheme("S3://bucket/key"), scheme("data/a.csv")
    ('s3', '')
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return match[1].lower() if match else ""


def near(path: Path) -> list[str]:
    """Names beside a path that is not there."""
    return [beside.name for beside in path.parent.iterdir()] if path.parent.is_dir() else []


def _data_names(names: Iterable[str], is_data: Callable[[str], bool]) -> list[str]:
    return sorted(name for name in names if is_data(name) and not _is_marker(name))


def _is_marker(name: str) -> bool:
    """True for hidden files and folders, and for those that programs write beside data."""
    parts = PurePosixPath(name).parts
    is_hidden = any(part.startswith((".", "~$")) or (part[0] == "_" and "=" not in part) for part in parts)
    return is_hidden or name.lower().endswith(MARKERS)


def _shown(uri: str) -> str:
    """A URI as a report may show it: a path of this machine shrinks to the file's name."""
    return PurePosixPath(uri).name if scheme(uri) == "file" else uri


def _fixed_part(path: Path) -> Path:
    """The folders of a glob before its first pattern."""
    depth = next((depth for depth, part in enumerate(path.parts) if GLOB.search(part)), len(path.parts) - 1)
    return Path(*path.parts[:depth])


def _unreadable(name: str, error: Exception) -> errors.SourceError:
    got = " ".join(str(error).split())
    return errors.SourceError.build(f"collect: source '{name}'", got=got, expected="a source that can be read")

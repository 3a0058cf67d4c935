"""What a source string names: local files, objects in a store, packages, data sets, databases.

==========================================  ===================================================
``data/*.csv``, ``data/``, ``data/a.csv``   local glob, folder (searched to the bottom) or file
``s3://…``, ``gs://…``, ``file://…``        the same, through ``pyarrow.fs``
``package://name/inside/file.csv``          a file of an installed package, which is not imported
``sklearn://iris``                          a data set that comes with scikit-learn
``sqlite:///file.db``, ``postgresql://…``   a database by its SQLAlchemy URL, with ``reading.query``
==========================================  ===================================================

A source becomes a list of pieces, sorted by name, each small enough in number and apart
enough to be read by a task of its own.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from mlsys import errors
from mlsys.recipe import Reading

__all__ = ["Piece", "built_in", "digest", "find", "fingerprint", "open_bytes"]

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
PACKED = (".gz", ".zip")
GLOB = re.compile(r"[*?\[]")
REMOTE = ("s3", "gs", "gcs", "file", "hdfs", "abfs", "abfss")


@dataclass(frozen=True)
class Piece:
    """One file, data set or query result of a source.

    Attributes
    ----------
    name
        What reports call it: the file's name below its source, or the URI; no path of this machine.
    location
        Where it is: path, URI, data set or database URL.
    format
        csv, parquet, jsonl, sql or sklearn.
    num_bytes
        Bytes at rest; 0 where nobody knows (databases, built-in sets).
    """

    name: str
    location: str
    format: str
    num_bytes: int

    @property
    def is_file(self) -> bool:
        return self.format not in ("sql", "sklearn")


def find(source: str | Iterable[str], reading: Reading) -> list[Piece]:
    """The pieces of a source, or of several in the order given.

    Raises
    ------
    SourceError
        Nothing is there, or the format cannot be told from the name.
    """
    sources = [source] if isinstance(source, str) else list(source)
    pieces = [piece for one in sources for piece in _find_one(one, reading)]
    seen: set[str] = set()
    unique = [piece for piece in pieces if not (piece.location in seen or seen.add(piece.location))]  # type: ignore[func-returns-value]
    return _with_distinct_names(unique)


def open_bytes(piece: Piece) -> BinaryIO:
    """The bytes of a file piece, seekable, as they are at rest."""
    try:
        if _scheme(piece.location) in REMOTE:
            filesystem, path = pafs.FileSystem.from_uri(piece.location)
            return cast("BinaryIO", filesystem.open_input_file(path))
        return Path(piece.location).open("rb")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(piece.name, error) from error


def digest(piece: Piece) -> str | None:
    """SHA-256 of the bytes at rest; None for what is no file."""
    if not piece.is_file:
        return None
    sha = hashlib.sha256()
    with open_bytes(piece) as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def fingerprint(source: str | Iterable[str], reading: Reading) -> list[list[object]]:
    """What is there now, cheaply: name, bytes and time of change of each piece, no contents.

    A database other than SQLite does not say whether it changed, so its fingerprint is new
    each time and its query is run again; the rows then tell whether anything is new.
    """
    return [[piece.name, piece.num_bytes, _changed(piece)] for piece in find(source, reading)]


def built_in(name: str) -> pa.Table:
    """A data set that comes with scikit-learn; its target column is named ``target``."""
    from sklearn import datasets

    known = [loader.removeprefix("load_") for loader in dir(datasets) if loader.startswith("load_")]
    loader = getattr(datasets, f"load_{name}", None)
    try:
        frame = loader(as_frame=True).frame if loader else None
    except TypeError:  # sets of images and files know no frame
        frame = None
    if frame is None:
        raise errors.SourceError.missing(f"sklearn://{name}", known)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _changed(piece: Piece) -> str:
    if piece.format == "sklearn":
        return ""
    if piece.format == "sql":
        file = _sqlite_file(piece.location)
        return str(file.stat().st_mtime_ns) if file else uuid.uuid4().hex
    if _scheme(piece.location) in REMOTE:
        filesystem, path = pafs.FileSystem.from_uri(piece.location)
        return str(filesystem.get_file_info(path).mtime_ns)
    return str(Path(piece.location).stat().st_mtime_ns)


def _find_one(source: str, reading: Reading) -> list[Piece]:
    scheme = _scheme(source)
    if scheme == "sklearn":
        return [Piece(source, source, "sklearn", 0)]
    if scheme == "package":
        return _local(str(_inside_package(source)), source, reading)
    if scheme in REMOTE:
        return _remote(source, reading)
    if scheme in ("http", "https", "ftp"):
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got=f"{scheme}://",
            expected="a path, s3://, gs://, file://, package://, sklearn:// or a database URL",
            hint="download the file and name its path",
        )
    if scheme:
        return [_database(source, reading)]
    return _local(source, source, reading)


def _local(path: str, source: str, reading: Reading) -> list[Piece]:
    at = Path(path).expanduser()
    if at.is_file():
        return [_piece(at.name, str(at), at.stat().st_size, reading)]
    if at.is_dir():
        base, files = at, [file for file in at.rglob("*") if file.is_file()]
    else:
        base = _fixed_part(at)
        files = [file for file in base.glob(str(at.relative_to(base))) if file.is_file()] if GLOB.search(path) else []
    wanted = {file.relative_to(base).as_posix(): file for file in files}
    names = _readable(wanted, reading)
    if not names:
        raise errors.SourceError.missing(source, _near(at))
    return [_piece(name, str(wanted[name]), wanted[name].stat().st_size, reading) for name in names]


def _remote(source: str, reading: Reading) -> list[Piece]:
    fixed = source[: source.rfind("/", 0, glob.start()) + 1] if (glob := GLOB.search(source)) else source
    try:
        filesystem, path = pafs.FileSystem.from_uri(fixed.rstrip("/") if glob else fixed)
        info = filesystem.get_file_info(path)
        if info.type is pafs.FileType.File:
            return [_piece(_shown(source), source, info.size or 0, reading)]
        selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
        listed = [found for found in filesystem.get_file_info(selector) if found.type is pafs.FileType.File]
        beside = filesystem.get_file_info(pafs.FileSelector(str(PurePosixPath(path).parent), allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error
    root = fixed.rstrip("/") + "/"
    inside = {found.path[len(path.rstrip("/")) + 1 :]: found.size or 0 for found in listed}
    pattern = source[len(root) :] if glob else "*"
    names = _readable([name for name in inside if fnmatch.fnmatchcase(name, pattern)], reading)
    if not names:
        raise errors.SourceError.missing(source, [*inside, *(found.base_name for found in beside)])
    return [_piece(_shown(root + name), root + name, inside[name], reading) for name in names]


def _inside_package(source: str) -> Path:
    """Path of ``package://name/inside``; the package is located, never imported."""
    package, _, inside = source.removeprefix("package://").partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got=f"no package '{package}' in this environment",
            expected="an installed package",
            hint=f"uv pip install {package}",
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _database(source: str, reading: Reading) -> Piece:
    """A query's result; what the name shows holds neither the password nor a local path."""
    if reading.query is None:
        raise errors.RecipeError.build(
            "recipe: 'data.reading.query' is missing",
            got="a database URL as source",
            expected="the SQL to run there",
            hint='reading: {query: "SELECT * FROM …"}',
            field="data.reading.query",
        )
    shown = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", source)
    file = _sqlite_file(source)
    if file is None:
        return Piece(shown, source, "sql", 0)
    if not file.is_file():  # the driver would make an empty database of this name
        raise errors.SourceError.missing(source, _near(file))
    return Piece(f"sqlite:///{file.name}", source, "sql", file.stat().st_size)


def _sqlite_file(url: str) -> Path | None:
    scheme, _, rest = url.partition("://")
    return Path(rest.removeprefix("/").partition("?")[0]) if scheme.startswith("sqlite") else None


def _piece(name: str, location: str, num_bytes: int, reading: Reading) -> Piece:
    found = reading.format if reading.format not in ("auto", "sql") else _format(name)
    if found is None:
        raise errors.SourceError.build(
            f"collect: source '{name}'",
            got="a name that does not tell the format",
            expected="a name in " + ", ".join(SUFFIXES) + ", packed as .gz or .zip or not",
            hint="say reading: {format: csv}, parquet or jsonl",
        )
    return Piece(name, location, found, num_bytes)


def _format(name: str) -> str | None:
    path = PurePosixPath(name.lower())
    return SUFFIXES.get(PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix)


def _readable(names: Iterable[str], reading: Reading) -> list[str]:
    """Names that look like data, sorted; hidden files and markers such as _SUCCESS are none."""
    shown = [name for name in names if not any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)]
    return sorted(name for name in shown if reading.format not in ("auto", "sql") or _format(name))


def _scheme(source: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return found[1].lower() if found else ""


def _shown(uri: str) -> str:
    """A URI as a report may show it: local paths shrink to the file's name."""
    return PurePosixPath(uri).name if _scheme(uri) == "file" else uri


def _fixed_part(path: Path) -> Path:
    """The folders of a glob before its first pattern."""
    fixed = [part for part, after in zip(path.parts, _patterns_from(path), strict=True) if not after]
    return Path(*fixed) if fixed else Path()


def _patterns_from(path: Path) -> list[bool]:
    started, flags = False, []
    for part in path.parts:
        started = started or bool(GLOB.search(part))
        flags.append(started)
    return flags


def _near(path: Path) -> list[str]:
    return [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []


def _with_distinct_names(pieces: list[Piece]) -> list[Piece]:
    """Two files of one name, from two folders, are told apart by a number."""
    counts = Counter(piece.name for piece in pieces)
    seen: Counter[str] = Counter()
    named = []
    for piece in pieces:
        seen[piece.name] += 1
        named.append(replace(piece, name=f"{piece.name} ({seen[piece.name]})") if counts[piece.name] > 1 else piece)
    return named


def _unreadable(name: str, error: Exception) -> errors.SourceError:
    return errors.SourceError.build(
        f"collect: source '{name}'", got=" ".join(str(error).split()), expected="a source that can be read"
    )

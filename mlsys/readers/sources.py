"""What a source string names: local files, objects in a store, packages, data sets, databases.

==========================================  ===================================================
``data/*.csv``, ``data/``, ``data/a.csv``   local glob, folder (searched to the bottom) or file
``s3://…``, ``gs://…``, ``file://…``        the same, through ``pyarrow.fs``
``package://name/inside/file.csv``          a file of an installed package, which is not imported
``sklearn://iris``                          a data set that comes with scikit-learn
``delta://path``, ``iceberg://…``           tables of a lake, at a version if one is given (`lake`)
``sqlite:///file.db``, ``postgresql://…``   a database by its SQLAlchemy URL, with ``reading.query``
``photos/``                                 a folder without tables: its PNG and JPEG files, a row each
``letters/``                                with ``reading: {format: text}``: its ``.txt`` files, a row each
==========================================  ===================================================

A source becomes a list of pieces, sorted by name, each small enough in number and apart
enough to be read by a task of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pyarrow as pa

from mlsys import errors
from mlsys.readers import file_listing, lake
from mlsys.readers.base import Fragment, sqlite_file
from mlsys.readers.file_listing import File
from mlsys.recipe import Reading

__all__ = ["built_in", "find", "fingerprint"]

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
}
PACKED = (".gz", ".zip")

MAX_FILES, MAX_FOLDER_BYTES = 4096, 1 << 28
"""Files of a folder that one task reads, in number and in bytes."""


def find(source: str | Iterable[str], reading: Reading) -> list[Fragment]:
    """The pieces of a source, or of several in the order given.

    Raises
    ------
    SourceError
        Nothing is there, or the format cannot be told from the name.
    """
    sources = [source] if isinstance(source, str) else list(source)
    pieces = {piece.location: piece for one in sources for piece in _find_one(one, reading)}
    return _with_distinct_names(list(pieces.values()))


def fingerprint(source: str | Iterable[str], reading: Reading) -> list[list[object]]:
    """What is there now, cheaply: name, bytes and time of change of each piece, no contents.

    A database other than SQLite does not say whether it changed, so its fingerprint is new
    each time and its query is run again; the rows then tell whether anything is new.
    """
    return [[piece.name, piece.num_bytes, piece.changed()] for piece in find(source, reading)]


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


def _find_one(source: str, reading: Reading) -> list[Fragment]:
    scheme = file_listing.scheme(source)
    _refuse_without_effect(source, scheme, reading)
    if scheme == "sklearn":
        return [Fragment(source, source, "sklearn", 0)]
    if _is_lake(scheme):
        return lake.find(source, reading)
    if scheme in {"http", "https", "ftp"}:
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got=f"{scheme}://",
            expected="a path, s3://, gs://, file://, package://, sklearn://, delta://, iceberg:// or a database URL",
            hint="download the file and name its path",
        )
    if scheme and scheme != "package" and scheme not in file_listing.REMOTE:
        return [_database(source, reading)]

    return _of_files(source, _files(source, scheme, reading), reading)


def _is_lake(scheme: str) -> bool:
    return scheme.startswith("delta") or scheme == "iceberg"


def _refuse_without_effect(source: str, scheme: str, reading: Reading) -> None:
    """A version or a query is more than a wish: rows of another version, or all rows, are not what was asked for."""
    is_database = bool(scheme) and scheme not in {"sklearn", "package", *file_listing.REMOTE} and not _is_lake(scheme)
    for key, has_effect, of in (
        ("version", _is_lake(scheme), "a table of a lake, delta://… or iceberg://…"),
        ("query", is_database, "a database"),
    ):
        if getattr(reading, key) is not None and not has_effect:
            raise errors.RecipeError.build(
                f"recipe: 'data.reading.{key}'",
                got=f"a {key} for '{source}', on which it has no effect",
                expected=f"one for {of}",
                hint=f"leave {key} out, or name another source",
                field=f"data.reading.{key}",
            )


def _files(source: str, scheme: str, reading: Reading) -> list[File]:
    """The files of a source that are to be read."""

    def is_data(name: str) -> bool:
        if reading.format == "image":
            return _format(name) == "image"
        if reading.format == "text":
            return _is_document(name)
        return reading.format not in {"auto", "sql"} or _format(name) is not None

    if scheme in file_listing.REMOTE:
        return file_listing.remote(source, is_data)
    return file_listing.local(str(_inside_package(source)) if scheme else source, source, is_data)


def _of_files(source: str, files: Sequence[File], reading: Reading) -> list[Fragment]:
    """The pieces of files: a table each, or many that are a row each."""
    if reading.format == "text":
        return _folders(files, "text")
    num_documents = sum(_is_document(file.name) for file in files)
    if reading.format == "auto" and num_documents > 1:
        raise _undecided(source, num_documents)
    found = [(file, _format_of(file, reading)) for file in files]
    if any(kind != "image" for _, kind in found):  # pictures beside tables are what the tables name
        return [Fragment(file.name, file.location, kind, file.num_bytes) for file, kind in found if kind != "image"]
    return _folders(files, "image")


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


def _database(source: str, reading: Reading) -> Fragment:
    """A query's result; what the name shows holds neither the password nor a local path."""
    if reading.query is None:
        raise errors.RecipeError.build(
            "recipe: 'data.reading.query' is missing",
            got=f"{file_listing.scheme(source)}:// as source, which is taken for a database",
            expected="the SQL to run there",
            hint='reading: {query: "SELECT * FROM …"}; files are a path, s3://, gs://, file:// or package://',
            field="data.reading.query",
        )
    shown = re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", source)
    file = sqlite_file(source)
    if file is None:
        return Fragment(shown, source, "sql", 0)
    if not file.is_file():  # the driver would make an empty database of this name
        raise errors.SourceError.missing(source, file_listing.near(file))
    absolute = source.replace(f"///{file}", f"///{file.absolute()}", 1)  # a task stands in another folder
    return Fragment(f"sqlite:///{file.name}", absolute, "sql", file.stat().st_size)


def _is_document(name: str) -> bool:
    return name.lower().endswith(".txt")


def _undecided(source: str, count: int) -> errors.SourceError:
    """Text files hold tables here and documents there, and no rule could tell for sure."""
    return errors.SourceError.build(
        f"collect: source '{source}'",
        got=f"{count:,} .txt files, which may be documents or tables",
        expected="a word about which",
        hint="data.reading: {format: text} takes each file as a row, {format: csv} as a table",
        field="data.reading.format",
    )


def _folders(files: Sequence[File], kind: str) -> list[Fragment]:
    """Files that are a row each, in pieces of bounded size, in their order."""
    pieces: list[list[File]] = []
    num_bytes = 0
    for file in files:
        if not pieces or len(pieces[-1]) == MAX_FILES or num_bytes + file.num_bytes > MAX_FOLDER_BYTES:
            pieces.append([])
            num_bytes = 0
        pieces[-1].append(file)
        num_bytes += file.num_bytes
    return [
        Fragment(_span(part), part[0].location, kind, sum(file.num_bytes for file in part), tuple(part))
        for part in pieces
    ]


def _span(files: Sequence[File]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} … {files[-1].name}"


def _format_of(file: File, reading: Reading) -> str:
    found = reading.format if reading.format not in {"auto", "sql"} else _format(file.name)
    if found is None:
        raise errors.SourceError.build(
            f"collect: source '{file.name}'",
            got="a name that does not tell the format",
            expected="a name in " + ", ".join(SUFFIXES) + ", packed as .gz or .zip or not",
            hint="say reading: {format: csv}, parquet, jsonl, image or text",
        )
    return found


def _format(name: str) -> str | None:
    path = PurePosixPath(name.lower())
    return SUFFIXES.get(PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix)


def _with_distinct_names(pieces: list[Fragment]) -> list[Fragment]:
    """Two files of one name, from two folders, are told apart by a number."""
    counts = Counter(piece.name for piece in pieces)
    seen: Counter[str] = Counter()
    named = []
    for piece in pieces:
        seen[piece.name] += 1
        named.append(replace(piece, name=f"{piece.name} ({seen[piece.name]})") if counts[piece.name] > 1 else piece)
    return named

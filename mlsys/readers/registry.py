"""The registry of source formats: which reader a source has, its fragments, and their batches.

==========================================  ===================================================
``data/*.csv``, ``data/``, ``data/a.csv``   local glob, folder (searched to the bottom) or file
``s3://…``, ``gs://…``, ``file://…``        the same, through ``pyarrow.fs``
``https://host/a.csv``                        a file of a web server, within bounds of size and time
``package://name/inside/file.csv``          a file of an installed package, which is not imported
``sklearn://iris``                          a data set that comes with scikit-learn
``delta://path``, ``iceberg://…``           tables of a lake, at a version if one is given (`lake`)
``sqlite:///file.db``, ``postgresql://…``   a database by its SQLAlchemy URL, with ``reading.query``
``photos/``                                 a folder without tables: its PNG and JPEG files, a row each
``letters/``                                with ``reading: {format: text}``: its ``.txt`` files, a row each
==========================================  ===================================================

A new format is one subclass of `mlsys.readers.base.Reader`, of which `register` or an entry point of the group
``mlsys.readers`` (`mlsys.plugins`) brings an instance.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from mlsys import errors
from mlsys.plugins import Plugins
from mlsys.readers import files, lake, records, web
from mlsys.readers.base import PACKED, BadRecord, Batch, FolderColumn, Fragment, Growth, Reader
from mlsys.readers.built_in import BuiltInReader
from mlsys.readers.conversion import NumberFormat
from mlsys.readers.csv import CsvReader
from mlsys.readers.excel import ExcelReader
from mlsys.readers.files import File
from mlsys.readers.folders import ImageReader, TextReader
from mlsys.readers.increments import IncrementReader
from mlsys.readers.parquet import ParquetReader
from mlsys.recipe import Reading, secrets
from mlsys.schema import Kind, arrow_type

READERS: Plugins[Reader] = Plugins(
    "mlsys.readers",
    {
        each.format: each
        for each in (
            CsvReader(),
            ParquetReader(),
            records.JsonLinesReader(),
            ExcelReader(),
            ImageReader(),
            TextReader(),
            BuiltInReader(),
            lake.DeltaReader(),
            lake.IcebergReader(),
            IncrementReader(),
            records.SqlReader(),
        )
    },
    {},
    Reader,
)
"""Readers by format; where a source is matched, those from outside come first and a database of any scheme last."""


def register(reader: Reader) -> None:
    """Make a source format known in this process; recipes may then name it.

    A worker of a cluster finds a reader of the entry-point group ``mlsys.readers``, or one that is registered when
    its own module is imported.

    Raises
    ------
    TypeError, ValueError
        It is no instance of `Reader` with a format, or mlsys has a format of that name.
    """
    READERS.register(getattr(reader, "format", None), reader)


def formats() -> list[str]:
    """Names of the formats that a recipe may ask for."""
    return [name for name in READERS if name != IncrementReader.format]


def reader(name: str, module: str | None = None) -> Reader:
    """The reader of a format, `RecipeError` if there is none; `module` is imported if nothing else knows it."""
    if name not in READERS and module is not None:
        importlib.import_module(module)
    if name not in READERS:
        known = ["auto", *formats()]
        expected = "one of " + ", ".join(known)
        hint = errors.did_you_mean(name, known)
        where = "recipe: 'data.reading.format'"
        raise errors.RecipeError.build(where, got=repr(name), expected=expected, hint=hint, field="data.reading.format")
    return READERS[name]


def find(
    source: str | Path | Iterable[str | Path],
    reading: Reading,
    default_format: str | None = None,
    exclude: Sequence[str] = (),
) -> list[Fragment]:
    """The fragments of a source, or of several in the order given, each small enough for a task of its own.

    Parameters
    ----------
    default_format
        Format of files whose names do not tell it, where `reading` leaves it open.
    exclude
        Globs of files of folders that are left out.

    Raises
    ------
    SourceError
        Nothing is there, or the format cannot be told from the name.
    RecipeError
        The format is not known, or an option has no effect on the source.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    fragments = {}
    for each in sources:
        expanded = secrets.expand(str(each))
        with _without_secrets(expanded):
            for fragment in _find_source(expanded, reading, default_format, exclude):
                named = replace(fragment, name=secrets.shown(fragment.name))
                fragments[fragment.location, fragment.member] = named
    return _with_distinct_names(_with_folder_columns(list(fragments.values())))


@contextmanager
def _without_secrets(location: str) -> Iterator[None]:
    """Errors about a source that do not show its secrets."""
    try:
        yield
    except errors.MlsysError as error:
        hidden = secrets.values([location])
        raise error.reworded(*((re.escape(each), secrets.MASK) for each in hidden)) if hidden else error from None


def _read_without_secrets(fragment: Fragment, read: Iterator[Batch]) -> Iterator[Batch]:
    with _without_secrets(fragment.location):
        yield from read


def fingerprint(source: str | Iterable[str], reading: Reading, exclude: Sequence[str] = ()) -> list[list[object]]:
    """Name, bytes and time of change of each fragment: what is there now, without reading it.

    A database other than SQLite does not say whether it changed, so its fingerprint is new
    each time and its query is run again; the rows then tell whether anything is new.
    """
    return [
        [fragment.name, fragment.num_bytes, fragment.changed()] for fragment in find(source, reading, exclude=exclude)
    ]


def absolute(source: str | Path) -> str:
    """A source as a task finds it that stands in another folder."""
    text = str(source)
    scheme = files.scheme(text)
    if not scheme:
        return str(Path(text).expanduser().absolute())
    return records.absolute_database(text) if scheme.startswith("sqlite") else lake.absolute_table(text)


def schema(fragment: Fragment) -> tuple[pa.Schema, int] | None:
    """Schema and number of records of a fragment whose values have types; None for text."""
    if fragment.is_empty():
        return None
    typed = _of(fragment).schema(fragment)
    if typed is None or not fragment.columns:
        return typed
    fields = [pa.field(each.name, arrow_type(each.type)) for each in _new_columns(fragment, typed[0].names)]
    return pa.schema([*typed[0], *fields]), typed[1]


def _new_columns(fragment: Fragment, names: Sequence[str]) -> list[FolderColumn]:
    """Columns of the folders' names that the file does not hold itself."""
    held = set(names)
    return [each for each in fragment.columns if each.name not in held]


def _with_columns(fragment: Fragment, read: Iterator[Batch]) -> Iterator[Batch]:
    """Batches with the columns of the folders' names, as text where all is text."""
    has_types = _of(fragment).schema(fragment) is not None
    for batch in read:
        table = batch.table
        are_texts = not has_types and set(table.schema.types) <= {pa.string()}
        new = _new_columns(fragment, table.column_names)
        texts = [pa.scalar(each.value, pa.string()) for each in new]
        values = texts if are_texts else [
            text.cast(arrow_type(each.type)) for text, each in zip(texts, new, strict=True)
        ]  # fmt: skip
        names = [*table.column_names, *(each.name for each in new)]
        arrays = [*table.columns, *(pa.repeat(value, table.num_rows) for value in values)]
        yield replace(batch, table=pa.Table.from_arrays(arrays, names))


def messages(fragment: Fragment, reading: Reading) -> list[str]:
    """Sentences about what is unusual in the way a fragment is written."""
    return [] if fragment.is_empty() else _of(fragment).messages(fragment, reading)


def batches(
    fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
) -> Iterator[Batch]:
    """Rows of a fragment in bounded batches; records that are no rows are appended to `bad_records`."""
    if fragment.is_empty():
        return iter(())
    made = _of(fragment)
    read = made.batches(fragment, reading, bad_records, growth)
    read = read if fragment.module is None else _checked(made, fragment, read)
    read = _read_without_secrets(fragment, read) if secrets.values([fragment.location]) else read
    return _with_columns(fragment, read) if fragment.columns else read


def _checked(made: Reader, fragment: Fragment, read: Iterator[Batch]) -> Iterator[Batch]:
    """Batches of a reader from outside, which keeps the protocol or is named."""
    for batch in read:
        is_batch = isinstance(batch, Batch)
        if not is_batch or (set(batch.table.schema.types) - {pa.string()} and made.schema(fragment) is None):
            got = "values with types, and no schema" if is_batch else type(batch).__name__
            expected = "a Batch of texts, or of values with the types that `schema` tells"
            hint = f"correct the reader of '{made.format}'"
            raise errors.SourceError.build(f"collect: source '{fragment.name}'", got=got, expected=expected, hint=hint)
        yield batch


def column(fragment: Fragment, name: str) -> Iterator[pa.Array]:
    """One column of a fragment whose values have types."""
    typed = _of(fragment).schema(fragment) if fragment.columns else None
    for each in _new_columns(fragment, typed[0].names) if typed else ():
        if each.name == name:
            value = pa.scalar(each.value, pa.string()).cast(arrow_type(each.type))
            return iter([pa.repeat(value, typed[1])])  # type: ignore[index]
    return _of(fragment).column(fragment, name)


def kinds(fragments: Iterable[Fragment]) -> dict[str, Kind]:
    """Kinds of the columns that the formats of some fragments fix."""
    return {name: kind for each in fragments for name, kind in _of(each).kinds.items()}


def numbers(fragment: Fragment, reading: Reading) -> NumberFormat:
    """Marks of the numbers in the texts of a fragment."""
    return _of(fragment).numbers(fragment, reading)


def split(fragment: Fragment) -> list[Fragment]:
    """Smaller fragments for more tasks, with the same rows in the same order."""
    return _of(fragment).split(fragment)


def _of(fragment: Fragment) -> Reader:
    return reader(fragment.format, fragment.module)


def _find_source(
    source: str, reading: Reading, default_format: str | None, exclude: Sequence[str] = ()
) -> list[Fragment]:
    chosen = None if reading.format == "auto" else reader(reading.format)
    # 1. a whole source by its scheme, unless it holds files
    scheme = files.scheme(source)
    candidates = sorted(READERS.values(), key=lambda each: each.format in READERS.built_in)
    whole = next((each for each in candidates if each.matches(source)), None)
    if whole is None and scheme and scheme not in {"package", *files.REMOTE, *web.SCHEMES}:
        expected = (
            "a path, s3://, gs://, http://, file://, package://, sklearn://, delta://, iceberg:// or a database URL"
        )
        hint = "download the file and name its path"
        raise errors.SourceError.build(f"collect: source '{source}'", got=f"{scheme}://", expected=expected, hint=hint)
    _refuse_without_effect(source, whole, reading)
    if whole is not None:
        return _with_module(whole, whole.fragments(source, reading))
    # 2. files, all of the format that is asked for or each of the format of its name
    if chosen is not None and not chosen.suffixes:  # it reads no files
        chosen = None
    listed = files.find(source, lambda name: _is_data(name, chosen), exclude)
    archives = {file: members for file in listed if (members := _members(file, chosen))}
    listed = [file for file in listed if file not in archives]
    fragments = [each for file, members in archives.items() for each in _of_archive(file, members, candidates, chosen)]
    if chosen is not None:
        return fragments + _with_module(chosen, chosen.fragments_of_files(listed))
    return fragments + (_of_files(source, listed, candidates, default_format) if listed else [])


def _members(file: File, chosen: Reader | None) -> list[tuple[str, int]]:
    """Tables in an archive that has several, or one whose name alone tells the format."""
    if not files.path_of(file.location).lower().endswith(".zip"):
        return []
    inside = [member for member in files.members(file.name, file.location) if _is_data(member[0], chosen)]
    is_named = any(each.matches_file(file.name) for each in READERS.values()) or chosen is not None
    return inside if len(inside) > 1 or not is_named else []


def _of_archive(
    file: File, members: Sequence[tuple[str, int]], candidates: Sequence[Reader], chosen: Reader | None
) -> list[Fragment]:
    """Fragments of the tables in an archive; beside these, files that are a row each are left out."""
    fragments = []
    for member, num_bytes in members:
        made = chosen or next(each for each in candidates if each.matches_file(member))
        if made.kinds:
            continue
        fragment = Fragment(f"{file.name}/{member}", file.location, made.format, num_bytes, member=member)
        fragments += _with_module(made, [fragment])
    return fragments


def _refuse_without_effect(source: str, whole: Reader | None, reading: Reading) -> None:
    """Refuse a version or a query on which the source does not depend: other rows than asked for would be read."""
    for key, meant in (("version", "a table of a lake, delta://… or iceberg://…"), ("query", "a database")):
        if getattr(reading, key) is not None and (whole is None or key not in whole.options):
            got = f"a {key} for '{source}', on which it has no effect"
            expected = f"one for {meant}"
            hint = f"leave {key} out, or name another source"
            raise errors.RecipeError.build(
                f"recipe: 'data.reading.{key}'", got=got, expected=expected, hint=hint, field=f"data.reading.{key}"
            )


def _is_data(name: str, chosen: Reader | None) -> bool:
    """Tell whether a file of a folder is to be read; where tables of a format are asked for, every file is."""
    if chosen is None:
        return any(each.matches_file(name) for each in READERS.values())
    return not chosen.kinds or chosen.matches_file(name)


def _of_files(
    source: str, listed: Sequence[File], candidates: Sequence[Reader], default_format: str | None
) -> list[Fragment]:
    """Fragments of files by their names; files that are a row each are left out beside tables, which may name them."""
    default = None if default_format in {None, "auto"} else reader(str(default_format))
    documents = READERS[TextReader.format]
    num_documents = sum(documents.matches_file(file.name) for file in listed)
    if num_documents > 1 and default is None:
        got = f"{num_documents:,} .txt files, which may be documents or tables"
        expected = "a word about which"
        hint = "data.reading: {format: text} takes each file as a row, {format: csv} as a table"
        raise errors.SourceError.build(
            f"collect: source '{source}'", got=got, expected=expected, hint=hint, field="data.reading.format"
        )
    formats: list[Reader] = []
    for file in listed:
        is_document = documents.matches_file(file.name) and default is documents
        named = next((each for each in candidates if each.matches_file(file.name)), default)
        formats.append(documents if is_document else _known(file, named))
    pairs = list(zip(formats, listed, strict=True))
    groups = [(made, [file]) for made, file in pairs if not made.kinds] or [
        (made, [file for of, file in pairs if of is made]) for made in dict.fromkeys(formats)
    ]
    return [each for made, group in groups for each in _with_module(made, made.fragments_of_files(group))]


def _known(file: File, named: Reader | None) -> Reader:
    if named is None:
        suffixes = ", ".join(suffix for each in READERS.values() for suffix in each.suffixes)
        expected = f"a name in {suffixes}, packed as {' or '.join(PACKED)} or not"
        hint = "say reading: {format: csv}, parquet, jsonl, image or text"
        got = "a name that does not tell the format"
        raise errors.SourceError.build(f"collect: source '{file.name}'", got=got, expected=expected, hint=hint)
    return named


def _with_folder_columns(fragments: list[Fragment]) -> list[Fragment]:
    """The fragments of files with the columns that stand in the names of their folders."""
    by_number = {
        number: files.folder_columns(fragment.location)
        for number, fragment in enumerate(fragments)
        if fragment.is_file and not fragment.files and fragment.format != IncrementReader.format
    }
    values: dict[str, list[str]] = {}
    for name, value in (pair for columns in by_number.values() for pair in columns if pair[1] is not None):
        values.setdefault(name, []).append(str(value))
    types = {name: _type_of_texts(texts) for name, texts in values.items()}
    return [
        replace(each, columns=tuple(FolderColumn(name, value, types.get(name, "string")) for name, value in columns))
        if (columns := by_number.get(number))
        else each
        for number, each in enumerate(fragments)
    ]


def _type_of_texts(texts: Sequence[str]) -> str:
    """Integers and dates where all values are; codes such as 007 stay text."""
    if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", text) for text in texts):
        return "int64"
    try:
        return str(pa.array(texts).cast(pa.date32()).type)
    except pa.ArrowInvalid:
        return "string"


def _with_module(made: Reader, fragments: list[Fragment]) -> list[Fragment]:
    """The fragments with the module to import on a worker, where the reader is from outside."""
    if made.format in READERS.built_in:
        return fragments
    return [replace(fragment, module=type(made).__module__) for fragment in fragments]


def _with_distinct_names(fragments: list[Fragment]) -> list[Fragment]:
    """Number fragments of one name, such as files of two folders."""
    counts = Counter(fragment.name for fragment in fragments)
    seen: Counter[str] = Counter()
    named = []
    for fragment in fragments:
        seen[fragment.name] += 1
        is_repeated = counts[fragment.name] > 1
        name = f"{fragment.name} ({seen[fragment.name]})" if is_repeated else fragment.name
        named.append(replace(fragment, name=name))
    return named

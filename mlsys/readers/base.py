"""The protocol of a source format: a `Reader` lists the fragments of a source and reads each in batches.

A fragment is a part of a source that one task reads by itself. Its batches hold the values as they
were written: text (CSV cells, JSON values, query results) or typed arrays (Parquet, lakes). A record
that is no row, such as a line with too many cells, is a `BadRecord` with its row number, so that
the numbering counts every record of the input. `mlsys.readers.conversion` makes typed values of texts.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors
from mlsys.readers import files
from mlsys.readers.conversion import PLAIN, NumberFormat
from mlsys.readers.files import File
from mlsys.recipe import Reading
from mlsys.schema import FOLD, ROW, Kind

BATCH_ROWS = 1 << 17
"""Rows in memory at a time where a reader counts rows, and rows of a Parquet row group."""
UNNAMED = "unnamed_"
"""Prefix of the name of a column that has none, followed by its position."""
PACKED = (".gz", ".zip", ".bz2", ".xz")
"""Suffixes of compressed files, which are unpacked while they are read."""


@dataclass(frozen=True)
class FolderColumn:
    """A column of one value in all rows of a fragment, as its folder's name has it; `type` is that of all fragments."""

    name: str
    value: str | None
    type: str = "string"


@dataclass(frozen=True)
class Fragment:
    """One file, some files, a data set or a query result of a source.

    Attributes
    ----------
    name
        The name in reports: the file's name below its source, or the URI; no path of this machine.
    location
        Path, URI, data set or database URL.
    num_bytes
        Bytes at rest; 0 where nobody knows (databases, built-in sets).
    files
        Files that are a row each, for a format of such files.
    identity
        Digest of what is known to hold these rows and never changes; None where bytes have to be hashed.
    version
        Version of the table that a data file belongs to.
    stamp
        For what is no file, a text that changes when the rows may have changed.
    row_groups, first_row
        The part of a Parquet file that is meant, and the number of its first row; all row groups if empty.
    module
        Module that registers the reader, for a process that has not imported it; None for readers of this package.
    member
        The file that is meant in an archive of several.
    columns
        Columns that stand in the names of the folders, as in ``region=north/year=2024/``.
    """

    name: str
    location: str
    format: str
    num_bytes: int
    files: tuple[File, ...] = ()
    identity: str | None = None
    version: str | None = None
    stamp: str | None = None
    row_groups: tuple[int, ...] = ()
    first_row: int = 0
    module: str | None = None
    member: str | None = None
    columns: tuple[FolderColumn, ...] = ()

    @property
    def is_file(self) -> bool:
        return self.stamp is None and self.identity is None

    @property
    def path(self) -> str:
        """The path whose end tells the format: that of a member of an archive, or of a URL without its query."""
        return self.member or files.path_of(self.location)

    def open(self) -> BinaryIO:
        """Open a file's bytes, seekable, as they are at rest; a member of an archive unpacked."""
        opened = files.open_file(self.name, self.location)
        return opened if self.member is None else files.open_member(self.name, opened, self.member)

    def is_empty(self) -> bool:
        """True for a file without a byte."""
        if not self.is_file or self.files or self.num_bytes:
            return False
        with self.open() as opened:
            return not opened.read(1)

    def digest(self) -> str | None:
        """SHA-256 of the bytes at rest, or the identity; None for a query result or a built-in set."""
        if not self.is_file:
            return self.identity
        sha = hashlib.sha256()
        for file in self.files or [File(self.name, self.location, self.num_bytes)]:
            if self.files:
                sha.update(f"{file.name}\0{file.num_bytes}\0".encode())
            with files.open_file(file.name, file.location) if self.files else self.open() as opened:
                while chunk := opened.read(1 << 20):
                    sha.update(chunk)
        return sha.hexdigest()

    def changed(self) -> str:
        """Time of the last change as text, or what stands for it."""
        if not self.is_file:
            return str(self.identity if self.identity is not None else self.stamp)
        if self.files:
            changed = [[file.name, file.num_bytes, files.changed(file.location)] for file in self.files]
            return hashlib.sha256(json.dumps(changed).encode()).hexdigest()
        return files.changed(self.location)

    def check_unchanged(self, before: str) -> None:
        """Raise a `SourceError` for a file written to while it was read: rows are neither the old nor the new ones."""
        if self.is_file and self.changed() != before:
            got = "a file that changed while it was read"
            hint = "run again when it is; whoever writes it can write beside and rename"
            expected = "a file that is finished"
            raise errors.SourceError.build(f"collect: source '{self.name}'", got=got, expected=expected, hint=hint)


@dataclass
class TypeCounts:
    """Number of values of a text column that could be read as each type; `fractions` are numbers but no integers.

    `big` are integers beyond 64 bits, `large` those within them that a double does not tell from the next one.
    `markers` mark missing values. `numbers` and `odd` are rows by value: of numbers, and of texts that are read as
    nothing, markers left out; more than `MAX_DISTINCT` values are too many to count.

    `typed` maps the types of sources that have types to the first fragment with each. Of these only
    bytes are counted: the values, and those that begin as a picture does. `notations` are the counts of
    `mlsys.readers.translation`, `is_json` says that numbers and texts were told apart.
    """

    count: int = 0
    bools: int = 0
    ints: int = 0
    floats: int = 0
    fractions: int = 0
    dates: int = 0
    times: int = 0
    padded: int = 0
    big: int = 0
    quoted: int = 0
    lists: int = 0
    objects: int = 0
    pictures: int = 0
    large: int = 0
    markers: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    notations: dict[str, int] = field(default_factory=dict)

    is_json: bool = False

    @property
    def are_texts(self) -> bool:
        """False where JSON or a database gave numbers, which have no notation."""
        return not self.is_json or self.quoted == self.count

    def merged(self, other: TypeCounts) -> TypeCounts:
        """Both counts together; the first fragment of a type stays its witness."""
        names = [each.name for each in fields(self) if each.type == "int"]
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        notations = dict(Counter(self.notations) + Counter(other.notations))
        return TypeCounts(
            **counts,
            numbers=bounded(self.numbers, other.numbers),
            odd=bounded(self.odd, other.odd),
            typed={**self.typed, **other.typed, **self.typed},
            notations=notations,
            is_json=self.is_json or other.is_json,
        )


MAX_DISTINCT = 20
"""Distinct values of a column that are counted by value; of more, `MAX_DISTINCT` + 1 are kept as a sign of it."""


def bounded(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Add the rows by value of two tables, of `MAX_DISTINCT` + 1 values at most, the first in order."""
    together = {value: counts.get(value, 0) + more.get(value, 0) for value in {*counts, *more}}
    return {value: together[value] for value in sorted(together)[: MAX_DISTINCT + 1]}


@dataclass(frozen=True)
class BadRecord:
    """A record that is no row: its number in the fragment, the reason, and its text."""

    row: int
    reason: str
    content: str


@dataclass
class Batch:
    """Rows of a fragment: the values, their row numbers in the file, and JSON types met by column."""

    table: pa.Table
    rows: NDArray[np.int64]
    json: dict[str, TypeCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class CursorBound:
    """A value of a column that grows, below which rows are known; times are microseconds."""

    column: str
    kind: str
    mark: float


@dataclass
class Growth:
    """A source that grows is read: a database may leave out what is certainly before `after`.

    A last line that has no end yet is left out and appended to `unfinished`.
    """

    after: CursorBound | None = None
    unfinished: list[str] = field(default_factory=list)


class Reader(ABC):
    """A source format; a subclass with a name, its own `batches` and an entry in the registry is a new one.

    Attributes
    ----------
    format
        The name, as ``data.reading.format`` says it.
    schemes
        URI schemes of whole sources, such as ``delta``; a reader of files leaves it empty.
    suffixes
        Ends of the names of files, such as ``.csv``; compressed ones end in one of `PACKED` besides.
    kinds
        Columns whose kind the format fixes, for a folder of files that are a row each.
    options
        The options ``query`` and ``version`` of ``data.reading`` that have an effect here.
    """

    format: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[Mapping[str, Kind]] = {}
    options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Refuse a reader that takes whole sources and does not say of which fragments they are."""
        super().__init_subclass__()
        if (cls.schemes or cls.matches is not Reader.matches) and cls.fragments is Reader.fragments:
            raise TypeError(
                f"{cls.__name__} takes whole sources (`schemes` or `matches`) and so has to define `fragments`"
            )

    def matches(self, source: str) -> bool:
        """Tell by its URI scheme whether a whole source is of this format."""
        return files.scheme(source) in self.schemes

    def matches_file(self, name: str) -> bool:
        """Tell by its name whether a file is of this format."""
        path = PurePosixPath(name.lower())
        return (PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix) in self.suffixes

    def fragments(self, source: str, reading: Reading) -> list[Fragment]:
        """Fragments of a whole source that `matches`, in a fixed order; a reader of files has none."""
        return []

    def fragments_of_files(self, listed: Sequence[File]) -> list[Fragment]:
        """Fragments of files of this format, in the order of the files: one a file."""
        return [Fragment(file.name, file.location, self.format, file.num_bytes) for file in listed]

    def split(self, fragment: Fragment) -> list[Fragment]:
        """Smaller fragments for more tasks, with the same rows in the same order."""
        return [fragment]

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        """Schema and number of records of a fragment whose values have types; None for text.

        Raises
        ------
        SourceError
            The fragment is damaged or has columns of one name.
        """
        return None

    @abstractmethod
    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        """Rows of a fragment in bounded batches; records that are no rows are appended to `bad_records`.

        Raises
        ------
        SourceError
            The fragment is damaged, in another encoding or format, or has columns of one name.
        """

    def column(self, fragment: Fragment, name: str) -> Iterator[pa.Array]:
        """One column of a fragment whose values have types."""
        for batch in self.batches(fragment, Reading(), []):
            yield batch.table[name].combine_chunks()

    def messages(self, fragment: Fragment, reading: Reading) -> list[str]:
        """Sentences about what is unusual in the way a fragment is written."""
        return []

    def numbers(self, fragment: Fragment, reading: Reading) -> NumberFormat:
        """Marks of the numbers in the texts of a fragment."""
        return PLAIN


def typed_batches(fragment: Fragment, tables: Iterable[pa.Table], schema: pa.Schema | None = None) -> Iterator[Batch]:
    """Batches of tables with types; one without rows if there are none and the schema is known."""
    first = fragment.first_row
    for table in tables:
        checked_names(fragment, table.column_names)
        yield Batch(table.replace_schema_metadata(None), np.arange(first, first + table.num_rows))
        first += table.num_rows
    if first == fragment.first_row and schema is not None:
        checked_names(fragment, schema.names)
        yield Batch(schema.remove_metadata().empty_table(), np.arange(0))


def as_python(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as Python values; a time that Python's calendar does not have is the text that Arrow writes."""

    def plain(values: pa.ChunkedArray) -> list[Any]:
        try:
            return values.to_pylist()  # type: ignore[no-any-return]
        except (OverflowError, ValueError):
            return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]

    columns = [plain(values) for values in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def texts_of(values: pa.Array) -> list[tuple[str, int]]:
    """Different values as texts without blanks around them, each with its number of rows."""
    if _are_countable(values.type):
        counted = pc.value_counts(values)
        values, rows = counted.field("values"), counted.field("counts").to_pylist()
    else:
        rows = [1] * len(values)
    texts = (str(row[""]).strip() for row in as_python(pa.table({"": values})))
    return list(zip(texts, rows, strict=True))


def _are_countable(kind: pa.DataType) -> bool:
    """Tell types whose values Arrow counts; of the others each value stands by itself."""
    if pa.types.is_dictionary(kind):
        return _are_countable(kind.value_type)
    are_plain = not (pa.types.is_nested(kind) or pa.types.is_union(kind) or pa.types.is_run_end_encoded(kind))
    return are_plain and not pa.types.is_float16(kind)


def checked_names(fragment: Fragment, names: Sequence[str]) -> list[str]:
    """The names, where each is there once; one that is empty gets a name."""
    named = [name or f"{UNNAMED}{position}" for position, name in enumerate(names)]
    twice = [name for name, times in Counter(named).items() if times > 1]
    if twice:
        raise errors.SourceError.duplicate_columns(fragment.name, twice)
    return named


def refuse_reserved(fragment: Fragment, names: Iterable[str]) -> None:
    """Raise a `SourceError` for columns that snapshots add themselves."""
    for reserved in {ROW, FOLD} & set(names):
        where = f"collect: source '{fragment.name}'"
        expected = "names that mlsys does not use itself"
        raise errors.SourceError.build(
            where, got=f"a column '{reserved}'", expected=expected, hint="rename it in the source", field=reserved
        )

"""Survey a table that nobody has described, for `mlsys init`: collected as a run would, into a store of its own.

Readers, types and kinds are those of `snapshot.take`, so that what is proposed here is what a run finds. Below
`WHOLE_BYTES` all rows are read, above it a stated part of the batches, at equal distances over the table. Neither takes
longer than the seconds that are given: what has been read by then is surveyed, and said.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.collect import snapshot, type_inference
from mlsys.collect.pipeline import ALL, Portion
from mlsys.readers import conversion, decoding, folders, registry
from mlsys.readers.base import Fragment
from mlsys.recipe import DataSection, Reading, ReadOptions
from mlsys.schema import Column, Kind, Schema
from mlsys.store import Store

WHOLE_BYTES = 1 << 30
SECONDS = 60.0
"""Bytes up to which all rows are read, and seconds that it may take."""

MOST_CLASSES = 1_000
"""Values of a column up to which the rows of each are counted."""

HEAD_ROWS = 1_000
"""Rows that show of nearly every column of texts that they are no times."""

MOST_FILES = 50
"""Files up to which the columns of each are compared."""

CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
MOST_CONTROLS, MOST_CONTROLS_OF_UTF8 = 0.02, 0.25
"""Signs that texts do not hold, and the share of them from which bytes are no text. Bytes that are UTF-8 to the end
are a text with stray signs, such as zeros from a data base, unless it is half zeros: UTF-16 without its mark."""

PREDICTION_NAME = re.compile(r"(?i)test|submission|sample|scoring|predict|unlabel")
"""Names of files that are there to be predicted."""

SAMPLE_CELLS = 20_000_000
"""Values that are compared at once; of a longer table, rows at equal distances."""

HEADER_BYTES = 1 << 16
DELIMITERS = ",;\t|"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
ENCODINGS = ("utf-8", "cp1252", "latin-1")
"""Tried in this order; the last one reads everything."""


@dataclass(frozen=True)
class Survey:
    """A table as it was found.

    Attributes
    ----------
    frame
        Rows at equal distances over those that were read, all if they are few, in stored types.
    num_rows
        Rows that were read and fit their columns.
    seen
        Words about which part of the table was read.
    repeats
        Whether a value repeats, by column, over all rows that were read; nulls count as repeats.
    nulls
        Rows without a value, by column.
    classes
        Rows by value over all rows that were read, of columns with few values.
    notes
        What the collection has to say about the table.
    names
        Names of the files.
    left_out
        Files beside them that do not have their columns, by the reason.
    written
        Columns of texts that are times or numbers, with their kind, as which they are read where the recipe says so.
    """

    source: str | tuple[str, ...]
    reading: Reading
    schema: Schema
    frame: pl.DataFrame
    num_rows: int
    seen: str
    repeats: dict[str, bool]
    nulls: dict[str, int]
    classes: dict[str, dict[Any, int]]
    notes: tuple[str, ...]
    names: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    written: dict[str, Kind] = field(default_factory=dict)

    def kind(self, name: str) -> Kind:
        return self.schema[name].kind


def take(
    source: str,
    options: ReadOptions | None = None,
    *,
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda _: None,
) -> Survey:
    """Read a table, all of it or a part within the seconds, and count what proposals need.

    `options` say how it is read; without any, the delimiter and the encoding of CSV files are found.

    Raises
    ------
    SourceError
        The source is missing, empty or damaged, or is no table.
    """
    given = options or ReadOptions()
    fragments = registry.find(source, given.reading)
    if fragments[0].files:  # in the order of their folders, so that the first ones are all of one class
        return _of_documents(source, given.reading, fragments)
    reading = _reading(fragments, given.reading, is_open=options is None)
    left_out = _without_columns(fragments, reading)
    chosen: str | tuple[str, ...] = source
    if left_out:
        fragments = [each for each in fragments if each.name not in left_out]
        chosen = _beside(source, fragments)
    every = max(1, -(-sum(each.num_bytes for each in fragments) // WHOLE_BYTES))
    pieces = [piece for each in fragments for piece in registry.split(each)] if every > 1 else fragments
    is_spread = len(pieces) >= 2 * every  # row groups, or many files: those in between need not be opened
    pieces = pieces[::every] if is_spread else pieces
    portion = Portion(1 if is_spread else every, seconds / 2)
    with tempfile.TemporaryDirectory(prefix="mlsys-init-") as folder, _ticking(progress, source):
        data = DataSection(source=chosen, reading=reading, timezone=given.timezone)
        taken = snapshot.survey(Store.open(Path(folder)), data, pieces, portion)
        seen = _part(taken, every, seconds)
        return _counted(chosen, reading, taken, seen, [each.name for each in fragments], left_out)


def take_whole(source: str, options: ReadOptions, folder: Path, *, time: str | None = None) -> snapshot.Collection:
    """Collect all rows of a table that nobody has described, typed as a run would type them, into a new store.

    The snapshot is in `folder` and goes with it. The delimiter and the encoding of CSV files are found unless
    `options` say how they are read.

    Parameters
    ----------
    time
        A column of times; rows whose value is none are set aside.

    Raises
    ------
    SourceError, RecipeError, ContractError
        The source is missing, empty or damaged; there is no such column; more than a hundredth of the rows have no
        time where a text is written.
    """
    conversion.check_zone(options.timezone)
    fragments = registry.find(source, options.reading)
    reading = _reading(fragments, options.reading, is_open=options.reading == Reading())
    data = DataSection(source=source, reading=reading, timezone=options.timezone, time=time)
    return snapshot.survey(Store.open(folder), data, fragments, ALL)


def _reading(fragments: list[Fragment], given: Reading, *, is_open: bool) -> Reading:
    """The way to read some fragments: as it was given, or for CSV files of which nobody said it, as it is found."""
    if not is_open or fragments[0].format != "csv":
        return given
    return detect_reading(next((each for each in fragments if not each.is_empty()), fragments[0]))


def _without_columns(fragments: list[Fragment], reading: Reading) -> dict[str, str]:
    """Files for predictions beside those to learn from: their names say so, and they lack columns of the others."""
    if not 1 < len(fragments) <= MOST_FILES:
        return {}
    columns = {each.name: set(_columns(each, reading)) for each in fragments}
    whole = set().union(*columns.values())
    lacking = {name: sorted(whole - names) for name, names in columns.items() if whole - names}
    if len(lacking) == len(fragments):
        return {}
    return {
        name: f"without column '{absent[0]}'" + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
        for name, absent in lacking.items()
        if PREDICTION_NAME.search(name)
    }


def _columns(fragment: Fragment, reading: Reading) -> list[str]:
    typed = registry.schema(fragment)
    if typed is not None:
        return list(typed[0].names)
    batch = next(iter(registry.batches(fragment, reading, [])), None)
    return [] if batch is None else batch.table.column_names


def _beside(source: str, fragments: list[Fragment]) -> str | tuple[str, ...]:
    """The files that are left, as sources of their own."""
    paths = tuple(f"{source.rstrip('/')}/{each.name}" for each in fragments)
    return paths[0] if len(paths) == 1 else paths


def detect_reading(fragment: Fragment) -> Reading:
    """Find the encoding by decoding the file, and the delimiter as the most frequent one in the header."""
    with fragment.open() as file:
        has_mark = file.read(2) in UTF16_MARKS
    encoding = "utf-16" if has_mark else _encoding(fragment)
    _refuse_binary(fragment, encoding)
    with decoding.opened(fragment, Reading(encoding=encoding)) as text:
        lines = re.split(r"[\r\n]+", re.sub(r'"[^"]*"', "", text.read(HEADER_BYTES).decode(errors="replace")))
    header = next((line for line in lines if any(map(line.count, DELIMITERS))), "")  # titles above it have none
    delimiter = max(DELIMITERS, key=header.count)  # of equals the first, a comma
    return Reading(encoding=encoding, delimiter=delimiter)


def _refuse_binary(fragment: Fragment, encoding: str) -> None:
    """Refuse bytes that are no text in any encoding: `latin-1` would read them as signs that nobody writes."""
    with decoding.opened(fragment, Reading(encoding=encoding)) as text:
        head = text.read(HEADER_BYTES).decode(errors="replace")
    most = MOST_CONTROLS_OF_UTF8 if encoding == "utf-8" else MOST_CONTROLS
    if len(CONTROLS.findall(head)) > most * len(head):
        got = "bytes that are no text: a binary file, or UTF-16 without its mark"
        hint = "name the file by its format, e.g. .parquet; or say reading: {encoding: utf-16-le} in a recipe"
        raise errors.SourceError.build(f"init: source '{fragment.name}'", got=got, expected="a CSV file", hint=hint)


def _encoding(fragment: Fragment) -> str:
    """The first encoding in which the file can be read; raises the first error if there is none."""
    faults: list[errors.SourceError] = []
    for name in ENCODINGS:
        try:
            with decoding.opened(fragment, Reading(encoding=name)) as text:
                for _ in range(WHOLE_BYTES // HEADER_BYTES):
                    if not text.read(HEADER_BYTES):
                        break
        except errors.SourceError as error:
            faults.append(error)
        else:
            return name
    raise faults[0]


@contextmanager
def _ticking(progress: Callable[[str], None], source: str) -> Iterator[None]:
    """Say every second that the table is still read: one task reads it and cannot say how far it is."""
    done, began = threading.Event(), time.monotonic()

    def tick() -> None:
        while not done.wait(1.0):
            progress(f"reading {source}: {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _part(taken: snapshot.Collection, every: int, seconds: float) -> str:
    """Words about which rows were read."""
    rows = f"{taken.snapshot.num_rows:,} rows"
    if every > 1:
        return f"{rows} at equal distances, at most 1 in {every},"
    return f"{rows}, those that {seconds:.0f} seconds were enough for," if taken.report["is_partial"] else f"the {rows}"


def _counted(
    source: str | tuple[str, ...],
    reading: Reading,
    taken: snapshot.Collection,
    seen: str,
    files: list[str],
    left_out: dict[str, str],
) -> Survey:
    """Count over all rows of the snapshot, and keep rows at equal distances."""
    rows, schema = taken.snapshot, taken.snapshot.schema
    names = [column.name for column in schema if column.kind not in {Kind.IMAGE, Kind.BYTES, Kind.LIST}]
    lazy = pl.scan_parquet(rows.paths)
    frame = lazy.select(names).gather_every(max(1, rows.num_rows * max(1, len(names)) // SAMPLE_CELLS)).collect()
    nulls, repeats, classes = {}, {}, {}
    for name in names:
        values = lazy.select(name).collect()[name]
        nulls[name] = values.null_count()
        num_distinct = values.n_unique()
        repeats[name] = bool(nulls[name]) or num_distinct < len(values)
        if num_distinct <= MOST_CLASSES:
            classes[name] = dict(values.drop_nulls().alias("value").value_counts().iter_rows())
    times = {name: times for name in names if (times := _times(frame[name])) is not None}
    numbers = {name: numbers for name in names if (numbers := _numbers(frame[name])) is not None}
    written = dict.fromkeys(times, Kind.DATETIME) | dict.fromkeys(numbers, Kind.NUMERIC)
    frame = frame.with_columns(values.alias(name) for name, values in (times | numbers).items())
    columns = (c.model_copy(update={"kind": written.get(c.name, c.kind)}) for c in schema)
    bad = ((rule, broken["rows"]) for rule, broken in taken.report["quarantine"].items())
    notes = (
        *taken.report["notes"],
        *taken.report["warnings"],
        *(
            f"{rows_of:,} of {taken.report['num_read']:,} rows do not fit and are set aside: {rule}"
            for rule, rows_of in bad
        ),
    )
    return Survey(
        source=source,
        reading=reading,
        schema=Schema(columns=tuple(columns)),
        frame=frame,
        num_rows=rows.num_rows,
        seen=seen,
        repeats=repeats,
        nulls=nulls,
        classes=classes,
        notes=notes,
        names=tuple(files),
        left_out=left_out,
        written=written,
    )


def _times(values: pl.Series) -> pl.Series | None:
    """The times that a table with types holds as texts, if all of them can be read; None for other columns."""
    if values.dtype != pl.String or values.null_count() == len(values):
        return None
    for part in (values.head(HEAD_ROWS), values):
        times = conversion.read_text(part.to_arrow(), conversion.TIME)
        if times.null_count > part.null_count():
            return None
    return pl.Series(values=pl.from_arrow(times))


def _numbers(values: pl.Series) -> pl.Series | None:
    """The numbers that a table with types holds as texts, if all but marks of missing values can be read.

    Some have to have places behind the point: whole numbers as texts may well be codes, which lose leading zeros.
    """
    if values.dtype != pl.String or values.null_count() == len(values):
        return None
    for part in (values.head(HEAD_ROWS), values):
        texts = part.to_arrow()
        numbers = conversion.read_text(texts, pa.float64())
        if pc.any(conversion.misfits(texts, numbers)).as_py():
            return None
    has_places = type_inference.num_whole(numbers) < len(numbers) - numbers.null_count
    is_padded = pc.any(pc.match_substring_regex(texts, type_inference.PADDED)).as_py()
    return pl.Series(values=pl.from_arrow(numbers)) if has_places and not is_padded else None


def _of_documents(source: str, reading: Reading, fragments: list[Fragment]) -> Survey:
    """The survey of files that are a row each: of their names, which say the labels; nothing of them is read."""
    tables = [folders.names_and_labels(fragment.files) for fragment in fragments]
    frame = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    schema = Schema(columns=tuple(Column(name=n, type="string", kind=Kind.CATEGORICAL) for n in frame.columns))
    nulls = {name: frame[name].null_count() for name in frame.columns}
    repeats = {name: frame[name].n_unique() < len(frame) for name in frame.columns}
    labels = {name: frame[name].drop_nulls().alias("value") for name in frame.columns if repeats[name]}
    counts = {name: dict(values.value_counts().iter_rows()) for name, values in labels.items()}
    seen, files = f"the names of the {len(frame):,} files", tuple(fragment.name for fragment in fragments)
    return Survey(source, reading, schema, frame, len(frame), seen, repeats, nulls, counts, (), files)

"""Write a recipe for a table that nobody has seen (`mlsys init`); it runs as it is.

Only the first rows of the source are read. The recipe sets what a run needs (delimiter,
encoding, columns that identify rows); other keys that may be useful stand in comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl
import pyarrow as pa
import yaml

from mlsys import errors
from mlsys.collect import storage_schema, type_inference
from mlsys.collect.task import MAX_INTEGER_CLASSES
from mlsys.collect.type_inference import WordCounts
from mlsys.readers import conversion, decoding, folders, registry
from mlsys.readers.base import Fragment, TypeCounts
from mlsys.recipe import DataSection, Reading
from mlsys.schema import Kind
from mlsys.store import write_atomic

SAMPLE_ROWS = 50_000
HEADER_BYTES = 1 << 16
DELIMITERS = ",;\t|"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
ENCODINGS = ("utf-8", "cp1252", "latin-1")
"""Tried in this order; the last one reads everything."""
MIN_ROWS = 20
"""Rows from which a column of values that all differ is taken to identify rows."""
MIN_CLASS_ROWS = 8
"""Rows of a class from which its share of 70 % gives training the two that it needs, with some to spare."""
MAX_BAD_FRACTION = DataSection.model_fields["max_bad_fraction"].default
ID_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|key|index|rowid|row|number|no|nr|code)$|(?<=[a-z])(Id|ID|Key)$", re.IGNORECASE
)
TIME_NAME = re.compile(r"time|date|(_|^)at$|stamp|day|when", re.IGNORECASE)

ISO_TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")
"""Formats of times that a table with types may hold as text."""


@dataclass(frozen=True)
class _Sample:
    """The first rows of a source, in the types that they seem to have, and how they were read."""

    reading: Reading
    frame: pl.DataFrame
    kinds: dict[str, Kind]


def write(source: str, target: str, name: str | None = None) -> str:
    """Write the text of a recipe for a source and its target column.

    Raises
    ------
    SourceError
        The source is missing, empty or damaged.
    RecipeError
        It has no column of the target's name.
    """
    sample = _sample(source)
    if target not in sample.frame.columns:
        raise errors.RecipeError.unknown_column("init", target, sample.frame.columns)
    times = _times(sample, target)
    has_derive = any("derive" in line for line in times)
    derive = [] if has_derive else ["  # derive: {}             # new columns as SQL, e.g. {late: delay > 15}"]
    lines = [
        f"# Drafted from the first {len(sample.frame):,} rows of {source}.",
        "# Every key that is left out has a default; `mlsys run` writes them all into resolved.yaml.",
        f"name: {name or _name(source)}",
        f"target: {_plain(target)}",
        f"task: auto                # {_task(sample.frame[target])}",
        "data:",
        f"  source: {_plain(source)}",
        *_reading(sample.reading),
        *_identifiers(sample, target),
        *times,
        "  # known_after: []        # columns known only after the moment of prediction: they never become features",
        *(_rare(sample, target) or derive),
        *_texts(sample),
    ]
    return "\n".join(lines) + "\n"


def save(text: str, path: Path) -> None:
    """Write a recipe into a new file.

    Raises
    ------
    RecipeError
        There is a file already.
    """
    if path.exists():
        raise errors.RecipeError.build(
            f"init: '{path}'", got="a file is there", expected="a new file", hint="name another with --output"
        )
    write_atomic(path, text.encode())


def _sample(source: str) -> _Sample:
    fragments = registry.find(source, Reading())
    first = fragments[0]
    if first.files:  # in the order of their folders, so that the first ones are all of one class
        tables = [folders.names_and_labels(fragment.files) for fragment in fragments]
        names = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
        return _Sample(Reading(), names, dict.fromkeys(names.columns, Kind.CATEGORICAL))
    reading = _detect_reading(first) if first.format == "csv" else Reading()
    batch = next(iter(registry.batches(first, reading, [])), None)
    if batch is None or not batch.table.num_rows:
        raise errors.SourceError.empty(first.name)
    table = batch.table.slice(0, SAMPLE_ROWS)
    is_typed = registry.schema(first) is not None
    typed, kinds = {}, {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        if is_typed:
            typed[name] = conversion.to_stored(values, conversion.stored_type(values.type, name, first.name))
        else:
            typed[name] = _read(name, values, batch.json.get(name))
        words = WordCounts()
        if pa.types.is_string(typed[name].type) or pa.types.is_binary(typed[name].type):
            words.add(typed[name])
        kinds[name] = type_inference.kind_of(typed[name].type, words)
    return _Sample(reading, pl.DataFrame(pl.from_arrow(pa.table(typed))), kinds)


def _read(name: str, values: pa.Array, json_types: TypeCounts | None) -> pa.Array:
    counts = type_inference.observe(values, "UTC", json_types)
    stored = type_inference.type_of(name, counts, None, MAX_BAD_FRACTION)
    return values if pa.types.is_null(stored) else conversion.read_text(values, stored)


def _detect_reading(fragment: Fragment) -> Reading:
    """Find the encoding by decoding the whole file, and the delimiter as the most frequent one in the header."""
    with fragment.open() as file:
        has_mark = file.read(2) in UTF16_MARKS
    encoding = "utf-16" if has_mark else _encoding(fragment)
    with decoding.opened(fragment, Reading(encoding=encoding)) as text:
        header = text.read(HEADER_BYTES).decode(errors="replace").partition("\n")[0]
    bare = re.sub(r'"[^"]*"', "", header)
    delimiter = max(DELIMITERS, key=bare.count)  # of equals the first, a comma
    return Reading(encoding=encoding, delimiter=delimiter)


def _encoding(fragment: Fragment) -> str:
    """The first encoding in which the whole file can be read; raises the first error if there is none."""
    faults: list[errors.SourceError] = []
    for name in ENCODINGS:
        try:
            with decoding.opened(fragment, Reading(encoding=name)) as text:
                while text.read(HEADER_BYTES):
                    pass
        except errors.SourceError as error:
            faults.append(error)
        else:
            return name
    raise faults[0]


def _reading(reading: Reading) -> list[str]:
    default, lines = Reading(), []
    if reading.delimiter != default.delimiter:
        lines.append(f"    delimiter: {_plain(reading.delimiter)}")
    if reading.encoding != default.encoding:
        check = "the file is not UTF-8: check that accents come out right"
        lines.append(f"    encoding: {reading.encoding}      # {check}")
    return ["  reading:", *lines] if lines else []


def _identifiers(sample: _Sample, target: str) -> list[str]:
    """Lines for columns that only tell rows apart: one is the id, the others are ignored."""
    identifiers = [name for name in sample.frame.columns if name != target and _is_identifier(sample, name)]
    chosen = next((name for name in identifiers if ID_NAME.search(name) or name == folders.FILE), None)
    others = [name for name in identifiers if name != chosen]
    lines = [f"  id: {_plain(chosen)}           # a value of its own in every row"] if chosen else []
    if others:
        lines.append(f"  ignore: {_plain(others)}  # a value of their own in every row: nothing to learn from")
    return lines


def _is_identifier(sample: _Sample, name: str) -> bool:
    values = sample.frame[name]
    are_few = len(values) < MIN_ROWS
    if storage_schema.is_row_index(name) or are_few or values.null_count() or values.n_unique() < len(values):
        return False
    if values.dtype == pl.String:
        if _form_of_times(values):
            return False
        return sample.kinds[name] is Kind.CATEGORICAL
    counts_up = values.dtype == pl.Int64 and bool((values.diff().drop_nulls() == 1).all())
    return counts_up or (values.dtype == pl.Int64 and bool(ID_NAME.search(name)))


def _times(sample: _Sample, target: str) -> list[str]:
    times = [name for name, kind in sample.kinds.items() if kind is Kind.DATETIME and name != target]
    if not times:
        texts = ((name, _form_of_times(sample.frame[name])) for name in sample.frame.columns if name != target)
        name, form = next(((name, form) for name, form in texts if form), ("", ""))
        column = '"' + name + '"'
        sql = f"STRPTIME({column}, '{form}')"
        return [f"  # derive: {_plain({'at': sql})}  # texts that are times; then also: time: at"] if form else []
    likely = next((name for name in times if TIME_NAME.search(name)), times[0])
    return [f"  # time: {_plain(likely)}     # if it is when the prediction is made; then also: split: {{by: time}}"]


def _form_of_times(values: pl.Series) -> str | None:
    """The ISO format that all texts of a column have, which a table with types holds; None for other columns."""
    if values.dtype != pl.String or not len(values.drop_nulls()):
        return None
    texts = values.drop_nulls()
    return next((form for form in ISO_TIMES if not texts.str.to_datetime(form, strict=False).null_count()), None)


def _rare(sample: _Sample, target: str) -> list[str]:
    """Lines that make rows unlabelled whose class has fewer rows than training, validation and test need."""
    values = sample.frame[target].drop_nulls()
    counts = values.value_counts()
    is_class = values.dtype == pl.String or (values.dtype == pl.Int64 and counts.height <= MAX_INTEGER_CLASSES)
    rare = counts.filter(pl.col("count") < MIN_CLASS_ROWS)[target].sort().to_list() if is_class else []
    if not rare or len(rare) > counts.height - 2:
        return []
    shown = ", ".join("'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value) for value in rare)
    column = '"' + target + '"'
    sql = f"CASE WHEN {column} IN ({shown}) THEN NULL ELSE {column} END"
    return [
        "  derive:  # classes too rare to be in every part: their rows are set apart as unlabelled",
        f"    {_plain({target: sql})[1:-1]}",
    ]


def _texts(sample: _Sample) -> list[str]:
    prose = [name for name, kind in sample.kinds.items() if kind is Kind.TEXT]
    line = (
        f"  # kinds: {_plain(dict.fromkeys(prose, 'categorical'))}  # taken for text; this would make them categories"
    )
    return [line] if prose else []


def _task(values: pl.Series) -> str:
    """The task that `task.decide` will most likely find, for the comment."""
    distinct = values.drop_nulls().n_unique()
    if distinct == 2:
        return "two values: binary"
    if values.dtype == pl.String or (values.dtype == pl.Int64 and distinct <= MAX_INTEGER_CLASSES):
        return f"{distinct} classes: multiclass"
    return "numbers: regression"


def _name(source: str) -> str:
    stem = PurePosixPath(source.rstrip("/").rsplit("://", 1)[-1]).name.partition(".")[0]
    plain = re.sub(r"[^a-z0-9_]+", "-", stem.lower()).strip("-_")
    return (plain if plain[:1].isalpha() else f"table-{plain}".rstrip("-"))[:63]


def _plain(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("...\n").strip()

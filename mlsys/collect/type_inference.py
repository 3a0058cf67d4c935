"""Which type every column has, decided over all rows of all pieces, and which kind.

Text (CSV, JSON lines, query results) is counted, never sampled: a column whose first words come
after 300,000 numbers is judged on all of them. The rule for a column of text, in this order:

1. no value at all: no type; the column is ignored and the report says so;
2. a kind given in ``data.kinds`` decides;
3. more than ``max_bad_fraction`` of the values look like codes (integers with a leading zero, or
   beyond 64 bits): text, for as numbers they would lose digits;
4. of bool, int64, double, date32 and timestamp the one that reads most values, the first of
   equals; JSON strings are only tried as dates and times, lists of numbers stay lists;
5. if that one misfits more than ``max_bad_fraction`` of the values, the column is text; below,
   the rows of the misfits go to quarantine.

Typed sources (Parquet, built-in sets) keep their type; integers in one file and decimals in
another become decimals, any other change of type is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors, images
from mlsys.readers.base import TypeCounts
from mlsys.readers.conversion import LIST, PLAIN, TIME, NumberFormat, read_text
from mlsys.schema import Kind, arrow_type

__all__ = [
    "WordCounts",
    "is_image",
    "kind_of",
    "num_misfits",
    "num_pictures",
    "num_whole",
    "observe",
    "type_of",
]

PADDED = r"^\s*[+-]?0\d+\s*$"
DATED = r"^\s*\d{4}-\d{2}-\d{2}"
DIGITS = r"^\s*[+-]?\d+\s*$"
TEXT_WORDS = 5.0
"""Mean words a value from which a string column is prose rather than a category."""
REPEATS = 20
"""Rows a distinct value from which sentences are categories, such as the answers of a questionnaire."""
TEXT_CHARS = 60.0
"""Mean characters from which mostly distinct strings are prose in a script without blanks, or payloads."""


def observe(texts: pa.Array, zone: str, seen: TypeCounts | None = None, numbers: NumberFormat = PLAIN) -> TypeCounts:
    """Count what the values of one batch can be read as; `seen` holds the JSON types of the batch."""
    found = seen or TypeCounts()
    values = texts.drop_null()
    found.count = len(values)
    if found.quoted < found.count:
        _count_numbers(values, found, numbers)
        if found.floats < found.count:
            found.bools = _fitting(values, pa.bool_())
    if found.floats + found.bools < found.count and _matching(values, DATED):
        found.dates = _fitting(values, pa.date32())
        found.times = found.count if found.dates == found.count else _fitting(values, TIME, zone)
    return found


def is_image(evidence: TypeCounts, kind: Kind | None) -> bool:
    """Whether a column holds pictures: the recipe says so, or more than half of its bytes begin as one."""
    return kind is Kind.IMAGE or (kind is None and 2 * evidence.pictures > evidence.count)


def type_of(name: str, evidence: TypeCounts, kind: Kind | None, max_bad_fraction: float) -> pa.DataType:
    """The stored type of a column, ``pa.null()`` if there is no value.

    Raises
    ------
    SourceError
        The type changes between files.
    """
    typed = {kind_: piece for kind_, piece in evidence.typed.items() if kind_ != "null"}
    if set(typed) == {"int64", "double"}:
        typed.pop("int64")
    if len(typed) > 1:
        raise errors.SourceError.changed_type(name, typed.items())
    if typed:
        found = next(iter(typed))
        if found == "string" and kind in _READ_FROM_TEXT:  # of pictures, paths
            return _READ_FROM_TEXT[kind]
        is_decimal = found == "int64" and evidence.floats > evidence.ints
        return pa.float64() if is_decimal else arrow_type(found)
    if evidence.count == 0:
        return pa.null()
    return _demanded(evidence, kind) if kind else _most_fitting(evidence, max_bad_fraction)


def kind_of(kind: pa.DataType, wording: WordCounts) -> Kind:
    """How values of a stored type are treated, unless ``data.kinds`` says otherwise.

    Strings are text when they hold `TEXT_WORDS` words on average and do not stand in `REPEATS`
    rows each, or when they hold `TEXT_CHARS` characters and mostly differ; else categories.
    Bytes are images if most begin as PNG or JPEG do. Numbers are numeric however few distinct
    ones there are.
    """
    if pa.types.is_string(kind):
        return Kind.TEXT if wording.is_prose else Kind.CATEGORICAL
    if pa.types.is_binary(kind):
        return Kind.IMAGE if 2 * wording.pictures > wording.count else Kind.BYTES
    return _KINDS.get(str(kind), Kind.LIST if pa.types.is_list(kind) else Kind.NUMERIC)


@dataclass
class WordCounts:
    """What tells prose from categories, and pictures from other bytes: sums over the values of a column."""

    count: int = 0
    words: int = 0
    chars: int = 0
    distinct: int = 0
    pictures: int = 0

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        """Count a batch; `distinct` sums the distinct values of batches, an upper bound of the whole."""
        if pa.types.is_binary(values.type):
            self.count += len(values) - values.null_count
            self.pictures += num_pictures(values)
            return
        series = pl.Series(values=pl.from_arrow(values)).drop_nulls()
        self.count += len(series)
        self.words += int(series.str.count_matches(r"\S+").sum())
        self.chars += int(series.str.len_chars().sum())
        self.distinct += series.n_unique()

    def merged(self, other: WordCounts) -> WordCounts:
        return WordCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(WordCounts)))

    @property
    def is_prose(self) -> bool:
        if not self.count:
            return False
        is_long = self.chars >= TEXT_CHARS * self.count and 2 * self.distinct >= self.count
        is_said_again = REPEATS * self.distinct < self.count
        return is_long or (self.words >= TEXT_WORDS * self.count and not is_said_again)


def num_misfits(evidence: TypeCounts, kind: str) -> int:
    """How many values of a text column cannot be read as a stored type; 0 where nothing was counted."""
    fitting = {"bool": evidence.bools, "int64": evidence.ints, "double": evidence.floats}
    fitting |= {"date32[day]": evidence.dates, str(TIME): evidence.times}
    return evidence.count - fitting.get(kind, evidence.count)


def num_pictures(values: pa.Array | pa.ChunkedArray) -> int:
    """How many byte values begin as a PNG or a JPEG does."""
    masks = (pc.starts_with(values, pattern=start) for start in images.MAGIC)
    return sum(int(pc.sum(mask).as_py() or 0) for mask in masks)


def num_whole(values: pa.Array) -> int:
    """How many decimals are integers that a double holds exactly."""
    whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
    return int(pc.sum(whole).as_py() or 0)


def _count_numbers(values: pa.Array, found: TypeCounts, numbers: NumberFormat) -> None:
    floats = read_text(values, pa.float64(), numbers=numbers)
    found.floats = found.count - floats.null_count
    if not found.floats:
        return
    integers = read_text(values, pa.int64(), numbers=numbers)
    found.ints = found.count - integers.null_count
    found.fractions = found.floats - num_whole(floats)
    found.padded = _matching(values, PADDED)
    if found.floats > found.ints:
        found.big = _matching(values.filter(pc.is_null(integers)), DIGITS)


def _fitting(values: pa.Array, kind: pa.DataType, zone: str = "UTC") -> int:
    return len(values) - int(read_text(values, kind, zone).null_count)


def _matching(values: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(values, pattern)).as_py() or 0)


def _demanded(evidence: TypeCounts, kind: Kind) -> pa.DataType:
    if kind is Kind.NUMERIC:
        return pa.int64() if evidence.ints == evidence.floats else pa.float64()
    if kind is Kind.DATETIME:
        return pa.date32() if evidence.dates == evidence.times else TIME
    if kind is Kind.CATEGORICAL and evidence.ints == evidence.count and not evidence.padded:
        return pa.int64()
    return {Kind.BOOLEAN: pa.bool_(), Kind.LIST: LIST, Kind.IMAGE: pa.binary()}.get(kind, pa.string())


def _most_fitting(evidence: TypeCounts, max_bad_fraction: float) -> pa.DataType:
    if evidence.lists == evidence.count:
        return LIST
    allowed = max_bad_fraction * evidence.count
    if evidence.padded > allowed or (evidence.big > allowed and evidence.ints + evidence.big == evidence.floats):
        return pa.string()
    fits: Mapping[pa.DataType, int] = {
        pa.bool_(): evidence.bools if evidence.bools > evidence.ints else 0,
        pa.int64(): evidence.ints,
        pa.float64(): evidence.floats - (evidence.big if evidence.ints + evidence.big == evidence.floats else 0),
        pa.date32(): evidence.dates,
        TIME: evidence.times,
    }
    best = max(fits, key=lambda kind: fits[kind])  # the first of equals
    return best if evidence.count - fits[best] <= allowed and fits[best] else pa.string()


_READ_FROM_TEXT = {
    Kind.NUMERIC: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATETIME: TIME,
    Kind.IMAGE: pa.binary(),
}

_KINDS = {
    "bool": Kind.BOOLEAN,
    "timestamp[us, tz=UTC]": Kind.DATETIME,
    "date32[day]": Kind.DATETIME,
}

"""Infer the type and the kind of every column, from counts over all rows of all fragments.

Text (CSV, JSON lines, query results) is counted, never sampled: a column whose first words come
after 300,000 numbers is judged on all of them. The rule for a column of text, in this order:

1. no value at all: no type; the column is ignored and the report says so;
2. a kind given in ``data.kinds`` decides;
3. more than ``max_bad_fraction`` of the values look like codes (integers with a leading zero, or
   beyond 64 bits): text, for as numbers they would lose digits;
4. of bool, int64, double, date32 and timestamp the one that reads most values, the first of
   equals; JSON strings are only tried as dates and times, lists of numbers stay lists;
5. if that one misfits more than ``max_bad_fraction`` of the values, the column is text; below,
   the rows of the misfits are quarantined.

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

PADDED = r"^\s*[+-]?0\d+\s*$"
DATED = r"^\s*\d{4}-\d{2}-\d{2}"
DIGITS = r"^\s*[+-]?\d+\s*$"
TEXT_WORDS = 5.0
"""Mean words a value from which a string column is prose rather than a category."""
REPEATS = 20
"""Rows a distinct value from which sentences are categories, such as the answers of a questionnaire."""
TEXT_CHARS = 60.0
"""Mean characters from which mostly distinct strings are prose in a script without blanks, or payloads."""


@dataclass
class WordCounts:
    """Sums over the values of a column that tell prose from categories, and pictures from other bytes."""

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
        """The sums over the values of both."""
        return WordCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(WordCounts)))

    @property
    def is_prose(self) -> bool:
        """True for words rather than categories, see `kind_of`."""
        if not self.count:
            return False
        is_long = self.chars >= TEXT_CHARS * self.count and 2 * self.distinct >= self.count
        is_repeated = REPEATS * self.distinct < self.count
        return is_long or (self.words >= TEXT_WORDS * self.count and not is_repeated)


def observe(
    texts: pa.Array, zone: str, json_types: TypeCounts | None = None, numbers: NumberFormat = PLAIN
) -> TypeCounts:
    """Count the types as which the values of one batch can be read, on top of its `json_types`."""
    counts = json_types or TypeCounts()
    values = texts.drop_null()
    counts.count = len(values)
    if counts.quoted < counts.count:
        _count_numbers(values, counts, numbers)
        if counts.floats < counts.count:
            counts.bools = _num_readable(values, pa.bool_())
    if counts.floats + counts.bools < counts.count and _num_matching(values, DATED):
        counts.dates = _num_readable(values, pa.date32())
        counts.times = counts.count if counts.dates == counts.count else _num_readable(values, TIME, zone)
    return counts


def type_of(name: str, counts: TypeCounts, kind: Kind | None, max_bad_fraction: float) -> pa.DataType:
    """The stored type of a column, ``pa.null()`` if there is no value.

    Raises
    ------
    SourceError
        The type changes between files.
    """
    typed = {type_name: fragment for type_name, fragment in counts.typed.items() if type_name != "null"}
    if set(typed) == {"int64", "double"}:
        typed.pop("int64")
    if len(typed) > 1:
        raise errors.SourceError.changed_type(name, typed.items())
    if typed:
        type_name = next(iter(typed))
        if type_name == "string" and kind in _READ_FROM_TEXT:  # of pictures, paths
            return _READ_FROM_TEXT[kind]
        is_decimal = type_name == "int64" and counts.floats > counts.ints
        return pa.float64() if is_decimal else arrow_type(type_name)
    if counts.count == 0:
        return pa.null()
    return _type_of_kind(counts, kind) if kind else _most_readable(counts, max_bad_fraction)


def kind_of(stored: pa.DataType, words: WordCounts) -> Kind:
    """The kind of a column of this stored type, unless ``data.kinds`` says otherwise.

    Strings are text when they hold `TEXT_WORDS` words on average and do not stand in `REPEATS`
    rows each, or when they hold `TEXT_CHARS` characters and mostly differ; else categories.
    Bytes are images if most begin as PNG or JPEG do. Numbers are numeric however few distinct
    ones there are.
    """
    if pa.types.is_string(stored):
        return Kind.TEXT if words.is_prose else Kind.CATEGORICAL
    if pa.types.is_binary(stored):
        return Kind.IMAGE if 2 * words.pictures > words.count else Kind.BYTES
    return _KINDS.get(str(stored), Kind.LIST if pa.types.is_list(stored) else Kind.NUMERIC)


def num_misfits(counts: TypeCounts, stored: str) -> int:
    """Number of values of a text column that cannot be read as a stored type; 0 where nothing was counted."""
    readable = {"bool": counts.bools, "int64": counts.ints, "double": counts.floats}
    readable |= {"date32[day]": counts.dates, str(TIME): counts.times}
    return counts.count - readable.get(stored, counts.count)


def num_pictures(values: pa.Array | pa.ChunkedArray) -> int:
    """Number of byte values that begin as a PNG or a JPEG does."""
    masks = (pc.starts_with(values, pattern=start) for start in images.MAGIC)
    return sum(int(pc.sum(mask).as_py() or 0) for mask in masks)


def num_whole(values: pa.Array) -> int:
    """Number of decimals that are integers which a double holds exactly."""
    whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
    return int(pc.sum(whole).as_py() or 0)


def _count_numbers(values: pa.Array, counts: TypeCounts, numbers: NumberFormat) -> None:
    floats = read_text(values, pa.float64(), numbers=numbers)
    counts.floats = counts.count - floats.null_count
    if not counts.floats:
        return
    integers = read_text(values, pa.int64(), numbers=numbers)
    counts.ints = counts.count - integers.null_count
    counts.fractions = counts.floats - num_whole(floats)
    counts.padded = _num_matching(values, PADDED)
    if counts.floats > counts.ints:
        counts.big = _num_matching(values.filter(pc.is_null(integers)), DIGITS)


def _num_readable(values: pa.Array, stored: pa.DataType, zone: str = "UTC") -> int:
    return len(values) - int(read_text(values, stored, zone).null_count)


def _num_matching(values: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(values, pattern)).as_py() or 0)


def _type_of_kind(counts: TypeCounts, kind: Kind) -> pa.DataType:
    if kind is Kind.NUMERIC:
        return pa.int64() if counts.ints == counts.floats else pa.float64()
    if kind is Kind.DATETIME:
        return pa.date32() if counts.dates == counts.times else TIME
    if kind is Kind.CATEGORICAL and counts.ints == counts.count and not counts.padded:
        return pa.int64()
    return {Kind.BOOLEAN: pa.bool_(), Kind.LIST: LIST, Kind.IMAGE: pa.binary()}.get(kind, pa.string())


def _most_readable(counts: TypeCounts, max_bad_fraction: float) -> pa.DataType:
    """Rules 3 to 5 of the module."""
    if counts.lists == counts.count:
        return LIST
    allowed = max_bad_fraction * counts.count
    are_all_digits = counts.ints + counts.big == counts.floats
    if counts.padded > allowed or (counts.big > allowed and are_all_digits):
        return pa.string()
    readable: Mapping[pa.DataType, int] = {
        pa.bool_(): counts.bools if counts.bools > counts.ints else 0,
        pa.int64(): counts.ints,
        pa.float64(): counts.floats - (counts.big if are_all_digits else 0),
        pa.date32(): counts.dates,
        TIME: counts.times,
    }
    best = max(readable, key=lambda stored: readable[stored])  # the first of equals
    return best if counts.count - readable[best] <= allowed and readable[best] else pa.string()


_READ_FROM_TEXT = {Kind.NUMERIC: pa.float64(), Kind.BOOLEAN: pa.bool_(), Kind.DATETIME: TIME, Kind.IMAGE: pa.binary()}

_KINDS = {"bool": Kind.BOOLEAN, "timestamp[us, tz=UTC]": Kind.DATETIME, "date32[day]": Kind.DATETIME}

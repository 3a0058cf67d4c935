"""Infer the type and the kind of every column, from counts over all rows of all fragments.

Text (CSV, JSON lines, query results) is counted, never sampled: a column whose first words come
after 300,000 numbers is judged on all of them. The rule for a column of text, in this order:

1. no value at all: no type; the column is ignored and the report says so;
2. a kind given in ``data.kinds`` decides, and the rows of what it does not read are quarantined;
3. texts that mark a missing value (`mlsys.readers.conversion.MARKERS`) do not count from here on;
4. more than ``max_bad_fraction`` of the values look like codes (integers with a leading zero, or
   beyond 64 bits among others that a double cannot tell apart): text, for as numbers they would lose digits;
5. of bool, int64, double, date32 and timestamp the one that reads most values, the first of
   equals; JSON strings are only tried as dates and times, lists of numbers stay lists;
6. a few numbers beside at least half as many other codes (`FEW_NUMBERS`) are a category: text;
7. if the type of 5 misfits more than ``max_bad_fraction`` of the values, the column is text, unless all
   misfits are `REPEATED` tokens in a column of numbers or times; else the misfits count as missing.

So a type that was guessed here never costs a row: what it does not read is missing, or the column is text.
Columns that name rows (ids, keys, groups) become text where one value is no number.

Typed sources (Parquet, built-in sets) keep their type; integers in one file and decimals in
another become decimals, any other change of type is refused. Integers beyond 64 bits are text if
any digit counts, decimals if only they are as large, by the same rule as in texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors, images
from mlsys.expressions import quoted_name, quoted_text
from mlsys.readers import translation
from mlsys.readers.base import MAX_DISTINCT, TypeCounts, bounded
from mlsys.readers.conversion import EXACT, LIST, PLAIN, TIME, NumberFormat, are_markers, read_text
from mlsys.schema import Kind, arrow_type

TOTAL = re.compile(
    r"(?:(?:grand|sub|overall)[ -]?)?totals?|total g[eé]n[eé]ral|totale|sums?|suma|summe|(?:ins)?gesamt(?:summe)?",
    re.IGNORECASE,
)
"""Words for the sum of the rows above, which end many a table that was made by people; a colon may follow."""
PADDED = r"^\s*[+-]?0\d+\s*$"
DATED = r"^\s*\d{4}-\d{2}-\d{2}"
DIGITS = r"^\s*[+-]?\d+\s*$"
POINT_BEFORE_THREE = r"^\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*$"
FEW_NUMBERS = MAX_DISTINCT
"""Distinct numbers up to which a column with other codes beside them may be a category."""
REPEATED = 3
"""Distinct texts, each more than once, that may stand for a missing number in a column of many numbers."""
HEAD = 1_024
"""Values that are looked at first, to tell prose, of which nothing is counted by value, from codes."""
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
    is_read = np.zeros(len(values), bool)
    if counts.quoted < counts.count:
        is_read |= _count_numbers(values, counts, numbers)
        if counts.floats < counts.count:
            counts.bools = _num_readable(values, pa.bool_())
    if counts.floats + counts.bools < counts.count and _num_matching(values, DATED):
        counts.dates = _num_readable(values, pa.date32())
        is_read |= np.asarray(pc.is_valid(read_text(values, TIME, zone)))
        counts.times = counts.count if counts.dates == counts.count else int(is_read.sum()) - counts.floats
    if not is_read.all():
        _count_unread(values.filter(pa.array(~is_read)), counts)
    if json_types is None or counts.quoted:
        counts.notations = _notations(values, counts)
    return counts


def _notations(values: pa.Array, counts: TypeCounts) -> dict[str, int]:
    """Count notations where values are no plain numbers, dates or times, or may have points between thousands."""
    most = max(counts.floats, counts.bools, counts.dates, counts.times)
    if most < counts.count - counts.markers:
        return translation.count(values)
    if counts.ints == counts.floats or counts.floats < most:
        return {}
    has_point = values.filter(pc.match_substring(values, "."))
    if _num_matching(has_point[:HEAD], POINT_BEFORE_THREE) == len(has_point[:HEAD]):
        return translation.count(values)
    return {".d": 1}  # a proof that points are decimal marks


def about_totals(table: pa.Table, counts: Mapping[str, TypeCounts]) -> list[str]:
    """Say that the last of several rows looks like the sum of the others, by the first text in it."""
    for name in table.column_names if table.num_rows >= FEW_NUMBERS else ():
        text = table[name][-1].as_py()
        if isinstance(text, str) and text.strip():  # the first
            is_total = TOTAL.fullmatch(text.strip(" :")) and pc.sum(pc.equal(table[name], text)).as_py() == 1
            of = counts[name]
            are_texts = 2 * max(of.floats, of.dates, of.times, of.bools) < of.count
            rule = f"{quoted_name(name)} <> {quoted_text(text)}"
            hint = f"a rule of data.contract sets it aside: {rule}" if are_texts else "take it out of the source if so"
            message = f"the last row begins with {text!r} and may be the sum of the others: it is kept; {hint}"
            return [message] if is_total else []
    return []


def count_integers(values: pa.Array, counts: TypeCounts) -> None:
    """Count integers of a type that goes beyond 64 bits: unsigned ones, and decimals without places."""
    counts.count += len(values) - values.null_count
    numbers = values.cast(pa.decimal256(76, 0)) if pa.types.is_decimal(values.type) else values
    low, high = pa.scalar(-(1 << 63), pa.int64()), pa.scalar((1 << 63) - 1, pa.int64())
    if pa.types.is_decimal(numbers.type):
        low, high = low.cast(numbers.type), high.cast(numbers.type)
    is_signed = not pa.types.is_unsigned_integer(values.type)
    is_big = pc.greater(numbers, high.cast(numbers.type))
    bound = pa.scalar(EXACT, pa.int64()).cast(numbers.type)
    is_large = pc.greater_equal(numbers, bound)
    if is_signed:
        is_big = pc.or_(is_big, pc.less(numbers, low))
        is_large = pc.or_(is_large, pc.less_equal(numbers, pc.negate(bound)))
    counts.big += is_big.true_count
    counts.large += is_large.true_count - is_big.true_count


def type_of(
    name: str, counts: TypeCounts, kind: Kind | None, max_bad_fraction: float, *, is_key: bool = False
) -> pa.DataType:
    """The stored type of a column, ``pa.null()`` if there is no value; values of a key are all kept, if as text.

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
        if type_name == "int64" and counts.big:
            are_codes = kind is not Kind.NUMERIC and (is_key or kind or _are_codes(counts, max_bad_fraction))
            return pa.string() if are_codes else pa.float64()
        is_decimal = type_name == "int64" and counts.floats > counts.ints
        return pa.float64() if is_decimal else arrow_type(type_name)
    if counts.count == 0:
        return pa.null()
    if kind:
        return _type_of_kind(counts, kind)
    stored = _most_readable(counts, max_bad_fraction)
    return pa.string() if is_key and counts.markers + num_misfits(counts, str(stored)) else stored


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
    """Number of values of a text column, markers left out, that a stored type does not read; 0 if none was counted."""
    readable = {"bool": counts.bools, "int64": counts.ints, "double": counts.floats}
    readable |= {"date32[day]": counts.dates, str(TIME): counts.times}
    present = 0 if counts.typed else counts.count - counts.markers
    return present - min(readable.get(stored, present), present)


def are_few_numbers(counts: TypeCounts) -> bool:
    """True for a few numbers beside at least half as many codes that are none, such as 0, = and +."""
    few = len(counts.numbers) <= FEW_NUMBERS and 0 < len(counts.odd) <= MAX_DISTINCT
    return few and 2 * len(counts.odd) >= len(counts.numbers) > 0


def num_pictures(values: pa.Array | pa.ChunkedArray) -> int:
    """Number of byte values that begin as a PNG or a JPEG does."""
    masks = (pc.starts_with(values, pattern=start) for start in images.MAGIC)
    return sum(int(pc.sum(mask).as_py() or 0) for mask in masks)


def num_whole(values: pa.Array) -> int:
    """Number of decimals that are integers which a double holds exactly."""
    whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
    return int(pc.sum(whole).as_py() or 0)


def _count_numbers(values: pa.Array, counts: TypeCounts, numbers: NumberFormat) -> NDArray[np.bool_]:
    """Count what can be read as numbers, and return the mask of it."""
    floats = read_text(values, pa.float64(), numbers=numbers)
    counts.floats = counts.count - floats.null_count
    is_number = np.asarray(floats.is_valid())
    if not counts.floats:
        return is_number
    integers = read_text(values, pa.int64(), numbers=numbers)
    counts.ints = counts.count - integers.null_count
    counts.fractions = counts.floats - num_whole(floats)
    counts.padded = _num_matching(values, PADDED)
    if counts.floats > counts.ints:
        counts.big = _num_matching(values.filter(pc.is_null(integers)), DIGITS)
    counts.large = int(pc.sum(pc.greater_equal(pc.abs(floats), float(EXACT))).as_py() or 0) - counts.big
    counts.numbers = _by_value(pl.Series(values=pl.from_arrow(floats)).drop_nulls())
    return is_number


def _count_unread(values: pa.Array, counts: TypeCounts) -> None:
    marks = are_markers(values)
    counts.markers = marks.true_count
    counts.odd = _by_value(pl.Series(values=pl.from_arrow(values.filter(pc.invert(marks)))).str.strip_chars())


def _by_value(values: pl.Series) -> dict[str, int]:
    """Rows by value of at most `MAX_DISTINCT` values; `MAX_DISTINCT` + 1 of more, whatever their counts."""
    head = values.head(HEAD).unique()
    few = values.value_counts() if len(head) <= MAX_DISTINCT else head.to_frame().with_columns(count=pl.lit(1))
    named = {str(value): rows for value, rows in few.head(MAX_DISTINCT + 1).iter_rows()}
    return bounded(named, {})


def _num_readable(values: pa.Array, stored: pa.DataType, zone: str = "UTC") -> int:
    return len(values) - int(read_text(values, stored, zone).null_count)


def _num_matching(values: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(values, pattern)).as_py() or 0)


def _type_of_kind(counts: TypeCounts, kind: Kind) -> pa.DataType:
    if kind is Kind.NUMERIC:
        return pa.int64() if counts.ints == counts.floats else pa.float64()
    if kind is Kind.DATETIME:
        return pa.date32() if counts.dates == counts.times else TIME
    if kind is Kind.CATEGORICAL and counts.ints == counts.count and not counts.padded:  # markers are a category, too
        return pa.int64()
    return {Kind.BOOLEAN: pa.bool_(), Kind.LIST: LIST, Kind.IMAGE: pa.binary()}.get(kind, pa.string())


def _most_readable(counts: TypeCounts, max_bad_fraction: float) -> pa.DataType:
    """Rules 3 to 7 of the module."""
    present = counts.count - counts.markers
    if counts.lists == present > 0:
        return LIST
    allowed = max_bad_fraction * present
    if counts.padded > allowed or (counts.big and _are_codes(counts, max_bad_fraction)):
        return pa.string()
    readable: Mapping[pa.DataType, int] = {
        pa.bool_(): counts.bools if counts.bools > counts.ints else 0,
        pa.int64(): counts.ints,
        pa.float64(): counts.floats,
        pa.date32(): counts.dates,
        TIME: counts.times,
    }
    best = max(readable, key=lambda stored: readable[stored])  # the first of equals
    misfits = present - readable[best]
    if not readable[best] or (misfits and best in (pa.int64(), pa.float64()) and are_few_numbers(counts)):
        return pa.string()
    return best if misfits <= allowed or (_are_repeated(counts, misfits) and best != pa.bool_()) else pa.string()


def _are_codes(counts: TypeCounts, max_bad_fraction: float) -> bool:
    """True where integers are so large that each digit counts: more than a few are beyond what a double tells apart."""
    are_all_digits = not counts.floats or counts.ints + counts.big == counts.floats
    return are_all_digits and counts.large + counts.big > max_bad_fraction * (counts.count - counts.markers)


def _are_repeated(counts: TypeCounts, misfits: int) -> bool:
    """True where all misfits are a few texts that come again and again, in the smaller half of many numbers."""
    are_all = sum(counts.odd.values()) == misfits and len(counts.odd) <= REPEATED
    are_many = len(counts.numbers) > FEW_NUMBERS or counts.times > 0
    return are_all and are_many and 2 * misfits <= counts.count - counts.markers and min(counts.odd.values()) > 1


_READ_FROM_TEXT = {Kind.NUMERIC: pa.float64(), Kind.BOOLEAN: pa.bool_(), Kind.DATETIME: TIME, Kind.IMAGE: pa.binary()}

_KINDS = {"bool": Kind.BOOLEAN, "timestamp[us, tz=UTC]": Kind.DATETIME, "date32[day]": Kind.DATETIME}

"""Convert written values to the types that snapshots store; a value that does not fit becomes null.

A source gives texts (CSV cells, JSON lines, query results) or typed values (Parquet, lakes). A
snapshot holds few types, so that every later step has few cases: ``int64``, ``double``, ``bool``,
``string``, ``timestamp[us, tz=UTC]``, ``date32[day]``, ``binary`` and lists of these. `as_type` is
the one rule for both, used by collection and by batch prediction. A text becomes:

=============  ==================================================================================
``int64``      digits with or without a sign, within 64 bits; a whole number that is written with a
               decimal point or an exponent (``3.0``, ``1e3``) is that number, below 2⁵³
``double``     a number as programming languages write it; `NumberFormat` has other marks
``bool``       true and false, in any case; 1 and 0
``date32``     ``2013-01-31``
``timestamp``  ISO 8601, ``T`` or a blank between, seconds and fraction optional; ``Z`` or an
               offset, without one the time is local in the given zone. An hour that a clock change
               repeats is the first one; a local time that it skips does not fit. Digits beyond
               microseconds are cut.
``list``       a JSON list of numbers
=============  ==================================================================================

Blanks around numbers, dates and times do not count. A text that marks a missing value (`MARKERS`, such as
``?`` or ``-``) is a missing number, flag, date or time, and a value like any other among texts. Dates
and times lie in the years 1 to 9999, as in Python; others do not fit. A local time that is a few hours
outside of them by UTC, such as 9999-12-31 for "never", becomes the nearest one inside.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import zoneinfo
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.limits import FLOAT32_MAX, YEAR_1_US
from mlsys.notation import number_notation
from mlsys.readers.translation import translated

TIME = pa.timestamp("us", "UTC")
LIST = pa.list_(pa.float64())
TRUE, FALSE = ("true", "1"), ("false", "0")
ISO_DATE = r"^(\d{4}-\d{2}-\d{2})$"
OFFSET = r"Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?(?::[0-5]\d)?"
ISO_TIME = rf"^(\d{{4}}-\d{{2}}-\d{{2}})(?:[T ](\d{{2}}(?::\d{{2}})?)(:\d{{2}})?([.,]\d{{1,9}})?\s?({OFFSET})?)?$"
TIME_PATTERN = re.compile(ISO_TIME[1:-1], re.ASCII)
FIRST_US, LAST_US = YEAR_1_US, 253_402_300_799_999_999
"""The years 1 to 9999 since 1970."""
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class NumberFormat:
    """Marks in the numbers of a text file: the decimal mark, and the mark between thousands if there is one."""

    decimal: str = "."
    thousands: str | None = None


MARKERS = frozenset(
    ["", "?", "-", "--", "---", "–", "—", ".", "..", "...", "*", "#", "#n/a", "#na", "#null!", "#value!", "#div/0!",
     "\\n", "n/a", "n.a.", "n.a", "na", "<na>", "nan", "nat", "null", "(null)", "<null>", "nil", "none", "missing",
     "unknown", "undefined", "not available"]
)  # fmt: skip
"""Texts that mark a missing value, in lower case: those of statistics programs, data bases, spreadsheets and people."""
LONGEST_MARKER = 24
"""Bytes beyond which a text, blanks around it included, is not looked at as a marker."""

PLAIN = NumberFormat()
"""Numbers as programming languages, JSON and databases write them."""

EXACT = 1 << 53
"""Below it every whole number is a double of its own, so that a decimal text and the integer are the same number."""


def as_type(
    values: pa.Array | pa.ChunkedArray,
    kind: pa.DataType,
    zone: str = "UTC",
    numbers: NumberFormat = PLAIN,
    notation: str | None = None,
) -> pa.Array:
    """Values of a source, texts or typed ones, as values of a stored type; null where one does not fit.

    Texts have their column's notation (`mlsys.readers.translation`) or that of programming languages; dates and times
    in ISO 8601 are read beside each.

    >>> as_type(pa.array(["1", "3.0", "1e3", "2.5"]), pa.int64()).to_pylist()
    [1, 3, 1000, None]
    """
    values = _plain(parsed_array(values))
    if not pa.types.is_string(values.type):
        return to_stored(values, kind, zone)
    if notation is not None and not pa.types.is_string(kind):
        is_number = number_notation(notation) is not None
        values, numbers = _translated(values, notation, is_number=is_number), PLAIN if is_number else numbers
    texts = read_text(values, kind, zone, numbers)
    if not pa.types.is_integer(kind) or texts.null_count == values.null_count:
        return texts
    decimals = read_text(values, pa.float64(), zone, numbers)
    is_exact = pc.less(pc.abs(decimals), float(EXACT))
    return pc.coalesce(texts, to_stored(pc.if_else(is_exact, decimals, pa.scalar(None, pa.float64())), kind))


def _translated(values: pa.Array, notation: str, *, is_number: bool) -> pa.Array:
    texts = pl.Series(values=pl.from_arrow(values), dtype=pl.String)
    plain = translated(texts, notation)
    return parsed_array((plain if is_number else plain.fill_null(texts)).to_arrow()).cast(pa.string())


def read_text(
    values: pa.Array | pa.ChunkedArray, kind: pa.DataType, zone: str = "UTC", numbers: NumberFormat = PLAIN
) -> pa.Array:
    """Texts that are written as values of a stored type are; null where the text is null or written otherwise.

    An integer has to be written as one here, which tells the type of a column; `as_type` is more lenient.

    >>> read_text(pa.array(["1", " 2", "x", None]), pa.int64()).to_pylist()
    [1, 2, None, None]
    >>> str(read_text(pa.array(["2013-07-01 10:00"]), TIME, "America/New_York")[0])
    '2013-07-01 14:00:00+00:00'
    >>> read_text(pa.array(["1.299,50", "1.5"]), pa.float64(), numbers=NumberFormat(",", ".")).to_pylist()
    [1299.5, None]
    """
    if pa.types.is_string(kind):
        return parsed_array(values)
    if pa.types.is_timestamp(kind):
        with contextlib.suppress(pa.ArrowInvalid):  # all with an offset: Arrow's parser reads them many times faster
            times = parsed_array(values).cast(kind)
            if in_calendar(times).null_count == times.null_count:
                return times
    texts = pl.Series(values=pl.from_arrow(parsed_array(values)), dtype=pl.String)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        plain = texts if numbers == PLAIN else _plain_numbers(texts, numbers)
        return parsed_array(_number(plain, pl.Int64 if pa.types.is_integer(kind) else pl.Float64).to_arrow())
    if pa.types.is_decimal(kind):
        plain = texts.str.strip_chars() if numbers == PLAIN else _plain_numbers(texts, numbers)
        return _cast(parsed_array(plain.to_arrow()).cast(pa.string()), kind)
    return _cast(parsed_array(_parsed(texts.str.strip_chars(), kind, zone).to_arrow()), kind)


def _plain_numbers(texts: pl.Series, numbers: NumberFormat) -> pl.Series:
    """Numbers with other marks as programming languages write them; null where a mark stands in a wrong place."""
    plain = texts.str.strip_chars()
    if numbers.thousands is not None:
        mark, decimal = re.escape(numbers.thousands), re.escape(numbers.decimal)
        is_grouped = plain.str.contains(rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{decimal}\d*)?$").fill_null(value=False)
        plain = plain.str.replace_all(numbers.thousands, "", literal=True).zip_with(is_grouped, plain)
    if numbers.decimal == ".":
        return plain
    has_point = plain.str.contains(".", literal=True).fill_null(value=False)
    return plain.clear(len(plain)).zip_with(has_point, plain.str.replace(numbers.decimal, ".", literal=True))


def _number(texts: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    """Numbers of texts, most of which are nothing else: blanks and a plus are looked for only where one is not."""
    numbers = texts.cast(kind, strict=False)
    if numbers.null_count() == texts.null_count():
        return numbers
    return texts.str.strip_chars().str.strip_prefix("+").cast(kind, strict=False)


def _parsed(texts: pl.Series, kind: pa.DataType, zone: str) -> pl.Series:
    if pa.types.is_boolean(kind):
        words = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}
        return texts.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    if pa.types.is_date(kind):
        return _since_year_1(texts.str.extract(ISO_DATE).str.to_date("%Y-%m-%d", strict=False))
    if pa.types.is_timestamp(kind):
        return _times(texts, zone)
    return pl.Series(values=pa.array([_numbers(text) for text in texts], LIST))


def _times(texts: pl.Series, zone: str) -> pl.Series:
    parts = texts.str.extract_groups(ISO_TIME).struct.unnest()
    day, clock, seconds, fraction, offset = (parts[name] for name in parts.columns)
    clock = clock.fill_null("00:00").str.replace(r"^(\d{2})$", "$1:00")
    fraction = fraction.fill_null("").str.replace(",", ".", literal=True)
    written = day + " " + clock + seconds.fill_null(":00") + fraction
    local = _since_year_1(written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False))
    digits = offset.str.replace("Z", "+").str.replace_all(":", "", literal=True).str.pad_end(7, "0")
    hours, minutes, rest = (digits.str.slice(start, 2).cast(pl.Int64) for start in (1, 3, 5))
    size = hours * 3600 + minutes * 60 + rest
    signed = pl.select(pl.when(digits.str.starts_with("-")).then(-size).otherwise(size)).to_series()
    universal = _nearest((local - (signed * 1_000_000).cast(pl.Duration("us"))).dt.replace_time_zone("UTC"))
    return pl.select(pl.when(offset.is_null()).then(localized(local, zone)).otherwise(universal)).to_series()


IN_UTC = ("Z", "+00:00")
"""Ends of times that are in UTC, as programs write them."""


def time_parts(text: str) -> tuple[dt.datetime, int | None]:
    """Read a wall-clock time and its offset to UTC in seconds or None, as `read_text`; `ValueError` for other texts."""
    if text[19:] in IN_UTC and text[7] == "-" and text[10] == "T" and text[13] == text[16] == ":":
        return dt.datetime.fromisoformat(text[:19]), 0  # as most clients write it
    parts = TIME_PATTERN.fullmatch(text.strip())
    if parts is None:
        raise ValueError(text)
    day, clock, seconds, fraction, offset = parts.groups()
    local = dt.datetime.fromisoformat(
        f"{day} {(clock or '00') + ('' if clock and ':' in clock else ':00')}{seconds or ':00'}"
        f"{'.' + fraction[1:7].ljust(6, '0') if fraction else ''}"
    )
    if offset is None or offset == "Z":
        return local, None if offset is None else 0
    digits = offset[1:].replace(":", "").ljust(6, "0")
    size = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
    return local, -size if offset[0] == "-" else size


def check_zone(name: str) -> None:
    """Raise a `RecipeError` for a time zone that the IANA data base does not have."""
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        expected = "a time zone of the IANA data base, e.g. Europe/Berlin"
        hint = errors.did_you_mean(name, zoneinfo.available_timezones())
        raise errors.RecipeError.build(
            "recipe: 'data.timezone'", got=repr(name), expected=expected, hint=hint, field="data.timezone"
        ) from None


def localized(local: pl.Series, zone: str) -> pl.Series:
    """Wall-clock times of a zone as UTC."""
    aware = local.dt.cast_time_unit("us").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return _nearest(aware.dt.convert_time_zone("UTC"))


def _since_year_1(written: pl.Series) -> pl.Series:
    """Dates or times of four digits without the year 0000, which Python's calendar does not have."""
    return written.zip_with(written.dt.year() > 0, written.clear(len(written)))


def _nearest(times: pl.Series) -> pl.Series:
    return times.to_physical().clip(FIRST_US, LAST_US).cast(times.dtype)


def _numbers(text: str | None) -> list[float | None] | None:
    try:
        values = json.loads(text) if text is not None else None
        if not isinstance(values, list) or any(type(value) not in (int, float, type(None)) for value in values):
            return None
        return [None if value is None else float(value) for value in values]
    except (ValueError, OverflowError, RecursionError):
        return None


def in_calendar(values: pa.Array) -> pa.Array:
    """Values as they are, but dates and times outside of the years 1 to 9999 as null."""
    if pa.types.is_timestamp(values.type) and values.type.unit != "ns":  # which do not reach as far
        per_second, numbers = Fraction(PER_SECOND[values.type.unit]), values.view(pa.int64())
    elif pa.types.is_date64(values.type):
        per_second, numbers = Fraction(PER_SECOND["ms"]), values.view(pa.int64())
    elif pa.types.is_date32(values.type):
        per_second, numbers = Fraction(1, 86_400), values.view(pa.int32())
    else:
        return values
    first, last = (us * per_second // 1_000_000 for us in (FIRST_US, LAST_US))
    inside = pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))
    return pc.if_else(inside, values, pa.scalar(None, values.type))


def parsed_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values in one chunk."""
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def without_nan(values: pa.Array) -> pa.Array:
    """Values as they are, but NaN as null."""
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def as_label(values: pa.Array) -> pa.Array:
    """Values as they are, but numbers that no model can be fitted to as null: NaN, infinite, beyond 32-bit floats.

    >>> as_label(pa.array([1.5, float("inf"), -1e39, float("nan")])).to_pylist()
    [1.5, None, None, None]
    """
    if not pa.types.is_floating(values.type):
        return values
    is_label = pc.less_equal(pc.abs(values), FLOAT32_MAX)  # false for NaN
    return pc.if_else(is_label, values, pa.scalar(None, values.type))


def misfits(written: pa.Array, read: pa.Array) -> pa.Array:
    """True where a value was written and none could be read; NaN and markers of missing values count as null."""
    mask = pc.and_(pc.is_valid(without_nan(written)), pc.is_null(read))
    texts = _plain(written)
    if not pa.types.is_string(texts.type) or not mask.true_count:
        return mask
    return pc.and_(mask, pc.invert(are_markers(texts)))


def are_markers(texts: pa.Array) -> pa.Array:
    """True where a text marks a missing value; false where it is null.

    >>> are_markers(pa.array(["?", " NA ", "none so far", None])).to_pylist()
    [True, True, False, False]
    """
    series = pl.Series(values=pl.from_arrow(texts), dtype=pl.String)
    short = series.set((series.str.len_bytes() > LONGEST_MARKER).fill_null(value=True), "x")
    marks = short.str.strip_chars().str.to_lowercase().is_in(pl.Series(sorted(MARKERS)).implode())
    return parsed_array(marks.to_arrow())


def stored_type(kind: pa.DataType, column: str, source: str) -> pa.DataType:
    """The type in which a snapshot holds values of an Arrow type, objects as text; `SourceError` if it has none."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type, column, source)
    if are_objects(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(stored_type(kind.value_type, column, source))
    for tests, result in _STORED:
        if any(test(kind) for test in tests):
            return result
    expected = "numbers, text, true and false, dates, times, bytes or lists of these"
    hint = "take its fields apart where the source is written"
    where = f"collect: column '{column}' in '{source}'"
    raise errors.SourceError.build(where, got=f"type {kind}", expected=expected, hint=hint, field=column)


def exceeds_64_bits(kind: pa.DataType) -> bool:
    """Tell types stored as ``int64`` whose values may be larger: unsigned integers and decimals without places."""
    if pa.types.is_dictionary(kind):
        return exceeds_64_bits(kind.value_type)
    return bool(pa.types.is_uint64(kind) or (_is_whole(kind) and kind.precision - kind.scale > 18))


def are_objects(kind: pa.DataType) -> bool:
    """Tell types of values with fields or keys of their own, and lists of such."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return are_objects(kind.value_type)
    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_union(kind))


def to_stored(values: pa.Array | pa.ChunkedArray, kind: pa.DataType, zone: str = "UTC") -> pa.Array:
    """Typed values as the stored type `kind`; null where one does not fit.

    Times without a zone are local in `zone`. Nanoseconds are cut to microseconds.
    """
    values = in_calendar(_plain(parsed_array(values)))
    if pa.types.is_string(kind) and are_objects(values.type):
        objects = values.to_pylist()
        texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in objects]
        return pa.array(texts, kind)
    if pa.types.is_uint64(values.type) and pa.types.is_floating(kind):
        return values.cast(kind, safe=False)  # the nearest, as of the same digits in a text
    if pa.types.is_string(values.type) and not pa.types.is_string(kind):
        return read_text(values, kind, zone)
    if pa.types.is_timestamp(kind) and not getattr(values.type, "tz", None):
        local = _cast(values, pa.timestamp("us"))
        return parsed_array(localized(pl.Series(values=pl.from_arrow(local)), zone).to_arrow()).cast(kind)
    if pa.types.is_boolean(kind) and _is_number(values.type):  # Arrow takes every number but 0 for true
        values = pc.if_else(pc.or_(pc.equal(values, 0), pc.equal(values, 1)), values, pa.scalar(None, values.type))
    if pa.types.is_duration(values.type):
        values = pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), PER_SECOND[values.type.unit])
    return _cast(values, kind)


def _plain(values: pa.Array) -> pa.Array:
    """Texts of every Arrow type as ``string``, dictionaries decoded."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast values in halves where Arrow refuses all because of some; a value that does not fit is null."""
    cuts = pa.types.is_timestamp(values.type) and values.type.unit == "ns"
    try:
        return values.cast(kind, safe=not cuts)
    except pa.ArrowNotImplementedError:
        # Arrow raises this where it has no cast between two types, whatever the values: lists of lists to lists of
        # numbers, times to flags. A file decides which types meet here, so it is no mistake of the program, and it
        # cannot be asked before: Arrow has no list of its casts, and casts an empty array where it refuses rows of the
        # same types. Nothing is lost: all are null here, and `misfits` quarantines each row with its value, which
        # test_types_without_a_cast_lose_no_value_silently shows of three such pairs.
        return pa.nulls(len(values), kind)
    except pa.ArrowInvalid:
        if _is_number(values.type) and _is_number(kind):
            return _equal_numbers(values, kind)
        if len(values) == 1:
            return pa.nulls(1, kind)
        halves = np.array_split(np.arange(len(values)), 2)  # copies: of a slice of lists Arrow casts all values
        return pa.concat_arrays([_cast(values.take(pa.array(rows)), kind) for rows in halves])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _equal_numbers(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Each number as the equal number of another type; null if there is none."""
    numbers = pl.Series(values=pl.from_arrow(values))
    converted = numbers.cast(pl.Series(values=pl.from_arrow(pa.nulls(0, kind))).dtype, strict=False)
    is_equal = (converted.cast(numbers.dtype, strict=False) == numbers).fill_null(value=False)
    return parsed_array(converted.zip_with(is_equal, converted.clear(len(converted))).to_arrow())


def _is_whole(kind: pa.DataType) -> bool:
    """Tell decimals without places, such as NUMBER(38, 0), in which some databases hold every integer."""
    return bool(pa.types.is_decimal(kind) and kind.scale <= 0)


_STORED = (
    ((pa.types.is_null,), pa.null()),
    ((pa.types.is_boolean,), pa.bool_()),
    ((pa.types.is_integer, _is_whole), pa.int64()),
    ((pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration), pa.float64()),
    ((pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_time), pa.string()),
    ((pa.types.is_timestamp,), TIME),
    ((pa.types.is_date,), pa.date32()),
    ((pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary), pa.binary()),
)
"""Tests of Arrow types, in order, and the type in which a snapshot holds values of those that pass one."""

"""Written values → the types that snapshots store, with the values that do not fit as nulls.

Snapshots hold few types, so that every later step has few cases: ``int64``, ``double``,
``bool``, ``string``, ``timestamp[us, tz=UTC]``, ``date32[day]``, ``binary`` and lists of
these. `mlsys.collect.parsing` says how texts are read.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.collect.parsing import PER_SECOND, TIME, array, in_calendar, localized, read_text

__all__ = ["misfits", "stored", "stored_type", "without_nan"]


def without_nan(values: pa.Array) -> pa.Array:
    """Values as they are, but for NaN, which is none."""
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def misfits(written: pa.Array, read: pa.Array) -> pa.Array:
    """True where a value was written and none could be read; NaN is no value."""
    return pc.and_(pc.is_valid(without_nan(written)), pc.is_null(read))


def stored_type(kind: pa.DataType, column: str, source: str) -> pa.DataType:
    """The type in which a snapshot holds values of an Arrow type.

    Raises
    ------
    SourceError
        The type has no place in a snapshot.
    """
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type, column, source)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(stored_type(kind.value_type, column, source))
    for test, result in _STORED:
        if test(kind):
            return result
    raise errors.SourceError.build(
        f"collect: column '{column}' in '{source}'",
        got=f"type {kind}",
        expected="numbers, text, true and false, dates, times, bytes or lists of these",
        hint="take its fields apart where the source is written",
        field=column,
    )


def stored(values: pa.Array | pa.ChunkedArray, kind: pa.DataType, zone: str = "UTC") -> pa.Array:
    """Typed values as the stored type `kind`; null where one does not fit.

    Times without a zone are local in `zone`. Nanoseconds are cut to microseconds.
    """
    values = in_calendar(_plain(array(values)))
    if pa.types.is_string(values.type) and not pa.types.is_string(kind):
        return read_text(values, kind, zone)
    if pa.types.is_timestamp(kind) and not getattr(values.type, "tz", None):
        local = _cast(values, pa.timestamp("us"))
        return array(localized(pl.Series(values=pl.from_arrow(local)), zone).to_arrow()).cast(kind)
    if pa.types.is_duration(values.type):
        values = pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), PER_SECOND[values.type.unit])
    return _cast(values, kind)


def _plain(values: pa.Array) -> pa.Array:
    """Texts as one type, however they are held."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values, null where one does not fit; Arrow casts all of them or none."""
    cuts = pa.types.is_timestamp(values.type) and values.type.unit == "ns"
    try:
        return values.cast(kind, safe=not cuts)
    except pa.ArrowNotImplementedError:  # Arrow knows no way between these types: none fits, and `misfits` finds each
        return pa.nulls(len(values), kind)
    except pa.ArrowInvalid:
        if _is_number(values.type) and _is_number(kind):
            return _equal_numbers(values, kind)
        if len(values) == 1:
            return pa.nulls(1, kind)
        half = len(values) // 2
        return pa.concat_arrays([_cast(part, kind) for part in (values[:half], values[half:])])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _equal_numbers(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Each number as the number of the other type that is equal to it, null if there is none."""
    numbers, wanted = (pl.Series(values=pl.from_arrow(one)) for one in (values, pa.nulls(0, kind)))
    made = numbers.cast(wanted.dtype, strict=False)
    is_equal = (made.cast(numbers.dtype, strict=False) == numbers).fill_null(value=False)
    return array(made.zip_with(is_equal, made.clear(len(made))).to_arrow())


def _is_whole(kind: pa.DataType) -> bool:
    """Decimals without places: NUMBER(38, 0) is how some databases hold every integer, ids too."""
    return bool(pa.types.is_decimal(kind) and kind.scale <= 0)


_STORED = (
    (pa.types.is_null, pa.null()),
    (pa.types.is_boolean, pa.bool_()),
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_floating, pa.float64()),
    (_is_whole, pa.int64()),
    (pa.types.is_decimal, pa.float64()),
    (pa.types.is_string, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_timestamp, TIME),
    (pa.types.is_date, pa.date32()),
    (pa.types.is_duration, pa.float64()),
    (pa.types.is_time, pa.string()),
    (pa.types.is_binary, pa.binary()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)

"""Derived features of single records: by plain functions where those were found to have the bits of Polars.

Polars takes a tenth of a millisecond and more for a record, plain functions some microseconds. They are compared with
Polars when they are made, on some hundred records of nulls, of numbers at the ends of their types and beside those in
the expressions, of texts and times of all sorts. One difference, or one part of the SQL that has no function, and
Polars computes all derived features of a record, at once; so it does for a record with a value of which the functions
are not sure.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys import errors, expressions
from mlsys.features import derive
from mlsys.features.domains import domain_of, refuse
from mlsys.features.executors import failed_expression, no_field
from mlsys.features.expression_closures import Compiler
from mlsys.features.expression_parts import Function, UncompiledError
from mlsys.features.probe_values import bounds, probe_rows
from mlsys.features.scalar_functions import UnsureError
from mlsys.schema import arrow_type

_logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
Complete = Callable[[Record], Record]
Steps = tuple[tuple[tuple[str, Callable[[Any], Any]], ...], tuple[tuple[str, Function], ...]]
"""Columns that are read, with the function that lets their values through, and derived features in order."""

NUM_PROBES = 400
"""Records on which functions and Polars are compared."""

UNSURE = (UnsureError, KeyError, OverflowError)
"""Reasons to ask Polars about a record: a value, a column that it lacks, a time outside of the calendar."""


def completer(columns: Mapping[str, str], derived: Mapping[str, str]) -> tuple[Complete, bool]:
    """Make the function that adds the derived features to a record; say whether plain functions compute them.

    Parameters
    ----------
    columns
        Request columns → name of their Arrow type.
    derived
        Derived features: name → SQL.
    """
    if not derived:
        return (lambda record: record), False
    kinds = {name: arrow_type(columns[name]) for name in derive.inputs(derived)}
    by_polars = _by_polars(kinds, derived)
    steps = _proved(tuple(kinds.items()), tuple(derived.items()))
    if steps is None:
        return by_polars, False

    def complete(record: Record) -> Record:
        try:
            return {**record, **_values(steps, record)}
        except UNSURE:
            return by_polars(record)

    return complete, True


def _by_polars(kinds: Mapping[str, pa.DataType], derived: Mapping[str, str]) -> Complete:
    readers = {name: domain.reader(name) for name, kind in kinds.items() if (domain := domain_of(kind))}
    compute = expressions.row_function(pa.schema(list(kinds.items())), derived, derive.WHERE)

    def complete(record: Record) -> Record:
        values = {}
        for name, kind in kinds.items():
            if name not in record:
                raise no_field(name)
            value = record[name]
            if name in readers:
                readers[name](value)
            try:
                values[name] = pa.array([value], kind)
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                raise refuse(name, repr(value), str(kind)) from None
        try:
            return {**record, **compute(values)}
        except errors.ContractError as error:
            raise failed_expression(error) from None

    return complete


def _values(steps: Steps, record: Record) -> dict[str, Any]:
    """Compute the derived features of a record; a later one may read an earlier one."""
    read, derived = steps
    values = {name: checked(record[name]) for name, checked in read}
    made = {}
    for name, function in derived:
        values[name] = made[name] = function(values)
    return made


@functools.lru_cache(maxsize=256)
def _proved(kinds: tuple[tuple[str, pa.DataType], ...], derived: tuple[tuple[str, str], ...]) -> Steps | None:
    """The plain functions, if there are all and they have the bits of Polars on the probes; else None."""
    try:
        steps, literals = _compiled(dict(kinds), dict(derived))
    except UncompiledError as reason:
        _logger.info("features: derived features are computed by Polars: %s", reason)
        return None
    rows, results = [], []
    for row in probe_rows(dict(kinds), literals, NUM_PROBES):
        try:
            results.append(_values(steps, row))
        except UNSURE:
            continue
        rows.append(row)
    if _agree(pa.schema(list(kinds)), dict(derived), rows, results):
        return steps
    _logger.warning("features: derived features by plain functions get other bits here; Polars computes them")
    return None


def _compiled(kinds: Mapping[str, pa.DataType], derived: Mapping[str, str]) -> tuple[Steps, list[Any]]:
    schema = dict(
        pl.DataFrame(pl.from_arrow(pa.schema(list(kinds.items())).empty_table())).cast(expressions.WIDE).schema
    )
    read = tuple((name, _reader(kind)) for name, kind in kinds.items())
    functions, literals = [], []
    for name, sql in derived.items():
        compiler = Compiler(schema)
        expr = expressions.parse(name, sql, derive.WHERE).expr
        functions.append((name, compiler.compile(expr)))
        literals += compiler.literals
        result = pl.DataFrame(schema=schema).lazy().select(expr).cast(expressions.WIDE)
        schema[name] = result.collect_schema()[name]
    return (read, tuple(functions)), literals


def _agree(
    schema: pa.Schema, derived: Mapping[str, str], rows: Sequence[Record], results: Sequence[Mapping[str, Any]]
) -> bool:
    """Tell whether Polars gives for all rows what the functions gave."""
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    table = pa.table(columns, schema) if columns else pa.table({"": pa.nulls(len(rows))})
    try:
        added = expressions.add(table, derived, derive.WHERE)
    except errors.MlsysError:
        return False
    given = zip(*(_bits(added[name].to_pylist()) for name in derived), strict=True)
    return list(given) == list(zip(*(_bits(row[name] for row in results) for name in derived), strict=True))


def _bits(values: Iterable[Any]) -> list[Any]:
    """Values so that equal ones have one type and one bit pattern; every NaN is one, since features do not tell."""
    return [
        (type(value), "NaN" if math.isnan(value) else struct.pack("<d", value))
        if isinstance(value, float)
        else (type(value), isinstance(value, dt.datetime) and value.tzinfo is not None, value)
        for value in values
    ]


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    """Function that lets null and the values through that a column of this type holds as they are; others are unsure.

    A type without such a function has no expressions here: `UncompiledError`.
    """
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return _checked(int, functools.partial(_is_between, *bounds(kind)))
    if kind not in READERS:
        raise UncompiledError(f"columns of type {kind}")
    return READERS[kind]


def _checked(own: type, holds: Callable[[Any], bool] | None) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and (type(value) is not own or not (holds is None or holds(value))):
            raise UnsureError
        return value

    return check


def _is_between(low: int, high: int, value: int) -> bool:
    return low <= value <= high


def _is_float32(value: float) -> bool:
    with np.errstate(over="ignore"):
        return float(np.float32(value)) == value


def _is_unicode(text: str) -> bool:
    """False for half of a surrogate pair, which no column holds."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


READERS = {
    pa.float64(): _checked(float, None),
    pa.float32(): _checked(float, _is_float32),
    pa.bool_(): _checked(bool, None),
    pa.string(): _checked(str, _is_unicode),
    pa.date32(): _checked(dt.date, None),
    pa.timestamp("us"): _checked(dt.datetime, lambda value: value.tzinfo is None),
    pa.timestamp("us", "UTC"): _checked(dt.datetime, lambda value: value.tzinfo is dt.UTC),
}

"""Rows to prove a version with: what training saw, and what it did not: nulls, unknown categories, extremes.

Every second row is one of the validation rows with which the version was trained, where the store still has them: their
values stand together as they do in the world. A bundle has no rows but its example, for rows may be about people, and
it goes where they may not; so the others, and columns that are looked up, are generated from the reference profile of
the bundle, its schema and its example. The rows are always the same for a bundle, and only values that a request may
carry are among them. They are kept nowhere.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.limits import LAST_YEAR
from mlsys.predict.coercion import UnfitError, converter
from mlsys.schema import Column, Kind, Role, arrow_type
from mlsys.statistics import ColumnSummary
from mlsys.store import Store

NULL_FRACTION, UNUSUAL_FRACTION = 0.08, 0.1
"""Fractions of the values of a column that are null, if it may have nulls, and that training did not see."""

PICTURE_ROWS = 16
"""Rows at most where they carry pictures, which take tens of milliseconds each."""

EXTREME_NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e30, -1e30, 1.7976931348623157e308, 16777217.0, -9007199254740993.0)
EXTREME_TIMES = (
    dt.datetime(1900, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(LAST_YEAR, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
)
UNKNOWN_TEXTS = ("never seen before", "Ünknown ☃", "", "x" * 200)


def validation_rows(store: Store, bundle: Bundle, num_rows: int) -> pa.Table | None:
    """Read the first of the rows that a version was validated on; None where the store has them no more."""
    digest = bundle.provenance.get("split")
    if not isinstance(digest, str):
        return None
    try:
        (first, *_) = Split.open(store, digest).paths("validation")
        with pq.ParquetFile(first) as opened:
            known = {
                column.name for column in bundle.schema if column.role is not Role.ID and column.kind is not Kind.IMAGE
            }
            names = [name for name in opened.schema_arrow.names if name in known]
            batches = [*itertools.islice(opened.iter_batches(num_rows, columns=names), 1)]
    except (errors.StoreError, ValueError, OSError, pa.ArrowException):
        return None
    return pa.Table.from_batches(batches) if batches else None


def generate(bundle: Bundle, num_rows: int, real: pa.Table | None = None) -> pa.Table:
    """Generate rows with every column that a request may carry, in the types of training.

    Every second row has the values of a `real` one, as far as there are any and a request may carry them.
    """
    if any(column.kind is Kind.IMAGE for column in bundle.schema):
        num_rows = min(num_rows, PICTURE_ROWS)
    profile, rng = bundle.reference.inputs.columns, np.random.default_rng(0)
    columns = {}
    for column in bundle.schema:
        known = profile.get(column.name)
        summary = None if known is None else known.result()
        drawn = _drawn(column, summary, bundle, num_rows, rng)
        if real is not None and column.name in real.column_names:
            drawn = _mixed(drawn, real[column.name], column, bundle)
        columns[column.name] = drawn
    return pa.table(columns)


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as a client would send them: JSON values, times in ISO 8601, bytes in base64."""
    return [{name: to_sent(value) for name, value in row.items()} for row in table.to_pylist()]


def to_sent(value: Any) -> Any:
    """A value as JSON carries it.

    >>> to_sent(b"a"), to_sent(dt.date(2013, 1, 1))
    ('YQ==', '2013-01-01')
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def _drawn(
    column: Column, summary: ColumnSummary | None, bundle: Bundle, num_rows: int, rng: np.random.Generator
) -> pa.Array:
    """Values of a column: mostly usual ones, some that are not, and nulls."""
    kind, convert = arrow_type(column.type), converter(column, bundle.read_options.timezone)
    sent = bundle.example.get(column.name)
    usual = _fitting([*_usual(column, summary), sent], kind, convert)
    unusual = _fitting(_unusual(column, usual), kind, convert)
    values = [*usual, *unusual, None]
    places = rng.integers(0, max(1, len(usual)), num_rows)
    draw = rng.random(num_rows)
    if unusual:
        odd = draw < UNUSUAL_FRACTION
        places[odd] = len(usual) + rng.integers(0, len(unusual), int(odd.sum()))
    null = draw > 1 - NULL_FRACTION if column.nullable and usual else np.full(num_rows, not usual)
    places[null] = len(values) - 1
    return pa.array(values, kind).take(pa.array(places))


def _mixed(drawn: pa.Array, real: pa.ChunkedArray, column: Column, bundle: Bundle) -> pa.Array:
    """Put real values at every second place, where a request may carry them."""
    kind, convert = drawn.type, converter(column, bundle.read_options.timezone)
    values = drawn.to_pylist()
    for place, value in zip(range(0, len(values), 2), real.to_pylist(), strict=False):
        fitting = _fitting([value] if _is_json(value) else [], kind, convert)
        if fitting or (value is None and column.nullable):
            values[place] = fitting[0] if fitting else None
    return pa.array(values, kind)


def _is_json(value: Any) -> bool:
    """False for what JSON cannot carry: NaN and the infinities, alone or in a list, and lists with nulls."""
    items = value if isinstance(value, list) else [value]
    return all(item is not None and (not isinstance(item, float) or math.isfinite(item)) for item in items)


def _fitting(values: Iterable[Any], kind: pa.DataType, convert: Callable[[Any], Any]) -> list[Any]:
    """The values that a request may carry and that the column's type holds as they are, converted."""
    fitting: list[Any] = []
    for value in values:
        try:
            converted = convert(value)
            pa.scalar(converted, kind)
        except (UnfitError, pa.ArrowException, OverflowError, ValueError, TypeError):
            continue
        if converted is not None:
            fitting.append(converted)
    return fitting


def _usual(column: Column, summary: ColumnSummary | None) -> Iterator[Any]:
    """Values as training saw them."""
    kind = arrow_type(column.type)
    if column.allowed is not None:
        yield from column.allowed
    if pa.types.is_boolean(kind):
        yield from (True, False)
    if summary is None:
        return
    yield from (value for value, _ in summary.frequent_items)
    numbers = [each for each in (*(summary.quantiles or ()), summary.min, summary.max) if each is not None]
    if pa.types.is_temporal(kind):
        times = [dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(each)) for each in numbers]
        yield from ((each.date() if pa.types.is_date(kind) else each) for each in times)
    elif pa.types.is_integer(kind):
        yield from (math.floor(each) for each in numbers if math.isfinite(each))
    elif pa.types.is_floating(kind):
        narrow = np.float32 if kind.bit_width == 32 else np.float64
        yield from (float(narrow(each)) for each in numbers if math.isfinite(each))


def _unusual(column: Column, usual: Sequence[Any]) -> Iterator[Any]:
    """Values that training did not see, if the rules of the column let them pass."""
    kind = arrow_type(column.type)
    if pa.types.is_string(kind):
        yield from UNKNOWN_TEXTS
    elif pa.types.is_integer(kind):
        yield from (0, -1, 2**31, 2**53 + 1, -(2**53), 2**63 - 1, -(2**63))
    elif pa.types.is_floating(kind):
        with np.errstate(over="ignore"):
            narrow = [float(np.float32(each)) for each in EXTREME_NUMBERS]
        yield from (each for each in (narrow if kind.bit_width == 32 else EXTREME_NUMBERS) if math.isfinite(each))
    elif pa.types.is_date(kind):
        yield from (each.date() for each in EXTREME_TIMES)
    elif pa.types.is_timestamp(kind):
        yield from EXTREME_TIMES
    elif pa.types.is_list(kind) and usual and isinstance(usual[0], list):
        yield from ([-x for x in usual[0]], [0 * x for x in usual[0]])

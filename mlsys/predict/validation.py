"""Validate rows against the model's schema: one set of rules for JSON records, JSON columns and Arrow tables.

`mlsys.predict.coercion` says which values a column takes. Bounds and allowed values count where someone wrote them into
the schema. ``null`` needs a nullable column; NaN in a table counts as null, JSON has no NaN. A missing column is null
where the column is nullable and a violation where it is not. Columns that the model does not know are refused by
`records` and `columns` and ignored by `table`, since a file may well hold more than the model asks for. A category that
training never saw is no violation, and a column that no feature reads takes anything as null.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors, images
from mlsys.predict.coercion import Convert, UnfitError, converter, shown
from mlsys.schema import Column, Kind, Schema, arrow_type

MAX_VIOLATIONS = 100
"""Faults listed in an answer; a client that got a column wrong has it wrong in every row."""

MAX_NAME, MAX_TEXT = 100, 500
"""Characters of a name or a value, and of an expectation, that a fault shows: no client's text is sent back whole."""

MAX_HINTS, MAX_CANDIDATES = 5, 500
"""Unknown names of a request that are compared with the known ones, and the known ones of which that is tried:
the comparison takes a tenth of a millisecond for each."""

MAX_PLANS = 1_000
"""Sets of columns whose plans are remembered: clients send few, unless they mean harm."""

Violation = dict[str, object]
Row = int | Literal["all"]


def violation(row: Row, field: str, got: str, expected: str) -> Violation:
    """Describe a fault of a request, as the answer lists it."""
    return {"row": row, "field": cut(field), "got": cut(got), "expected": cut(expected, MAX_TEXT)}


def cut(text: str, length: int = MAX_NAME) -> str:
    """Shorten a text to `length` characters.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def listed(names: Iterable[Any], most: int = 12) -> str:
    """List names, of many the first ones and their number.

    >>> listed(["a", "b"]), listed("abcd", most=2)
    ('a, b', 'a, b, … (4 in all)')
    """
    every = list(names)
    shown = ", ".join(cut(str(name), 40) for name in every[:most])
    return shown if len(every) <= most else f"{shown}, … ({len(every)} in all)"


class Faults(list[Violation]):
    """The first faults of a request, and how many there are; a fault beyond `limit` costs nothing but being counted.

    Parameters
    ----------
    limit
        Faults that are kept at most; None keeps all, for files whose every row is judged.
    """

    def __init__(self, limit: int | None = MAX_VIOLATIONS) -> None:
        super().__init__()
        self.limit = limit
        self.total = 0

    def add(self, row: Row, field: str, got: str | Callable[[], str], expected: str | Callable[[], str]) -> None:
        """Add a fault; functions make texts that only a fault within the limit needs."""
        self.total += 1
        if self.limit is None or len(self) < self.limit:
            texts = (text() if callable(text) else text for text in (got, expected))
            self.append(violation(row, field, *texts))


@dataclass(frozen=True)
class RecordPlan:
    """The checks of records with the same columns.

    Attributes
    ----------
    ready
        Columns whose values are mostly taken over as they are: name, type, bounds, whether null is one, conversion.
    texts
        Columns of texts: name, whether null is one, conversion, which ASCII does not need.
    others
        Columns whose values are always converted.
    absent
        Columns that the records lack, which are null.
    """

    ready: tuple[tuple[str, type, Any, Any, bool, Convert], ...]
    texts: tuple[tuple[str, bool, Convert], ...]
    others: tuple[tuple[str, Convert], ...]
    absent: dict[str, None]

    @classmethod
    def of(
        cls, names: Sequence[str], columns: Mapping[str, tuple[Column, Convert]], needed: Sequence[str]
    ) -> RecordPlan | None:
        """Plan the checks of records with these names; None if one is not known, or one that must be there lacks."""
        absent = [name for name in needed if name not in names]
        if any(name not in columns for name in names) or not all(columns[name][0].nullable for name in absent):
            return None
        ready, texts, others = [], [], []
        for name in names:
            column, convert = columns[name]
            if convert.ready is not None:
                ready.append((name, *convert.ready, convert.nullable, convert))
            elif pa.types.is_string(arrow_type(column.type)) and convert.allowed is None:
                texts.append((name, convert.nullable, convert))
            else:
                others.append((name, convert))
        return cls(tuple(ready), tuple(texts), tuple(others), dict.fromkeys(absent))

    def conform(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a record; `UnfitError` for one that does not fit."""
        conformed = dict(row)
        for name, kind, low, high, nullable, convert in self.ready:
            value = conformed[name]
            if not (type(value) is kind and low <= value <= high) and not (value is None and nullable):
                conformed[name] = convert(value)
        for name, nullable, convert in self.texts:
            value = conformed[name]
            if not (type(value) is str and value.isascii()) and not (value is None and nullable):
                conformed[name] = convert(value)
        for name, convert in self.others:
            conformed[name] = convert(conformed[name])
        if self.absent:
            conformed.update(self.absent)
        return conformed


class RequestValidator:
    """The rules that a request to a model has to keep.

    A request may carry every column of `schema`; the model reads the `needed` ones, the others are context and
    may be absent. `timezone` is the zone (IANA name) of times written without one; without it they are faults.
    """

    def __init__(self, schema: Schema, needed: Sequence[str], timezone: str | None = None) -> None:
        self.schema = schema
        self.needed = frozenset(needed)
        self.order = [column.name for column in schema if column.name in self.needed]
        self._columns = {column.name: (column, converter(column, timezone)) for column in schema}
        self._fields = {column.name: pa.field(column.name, arrow_type(column.type)) for column in schema}
        self._plans: dict[tuple[str, ...], RecordPlan] = {}

    def records(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Convert rows so that every needed column is present and of its Python type.

        Raises
        ------
        RequestError
            A row does not fit; the error lists all faults, at most `MAX_VIOLATIONS`.
        """
        if len(rows) == 1 and (fitting := self._fitting(rows[0])):
            return [fitting]
        faults = Faults()
        conformed = [self._fitting(row) or self._record(number, row, faults) for number, row in enumerate(rows)]
        refuse(faults)
        return conformed

    def columns(self, values: Mapping[str, Any]) -> pa.Table:
        """Convert JSON columns of one length to a table; unknown columns are a fault. Errors are those of `records`."""
        faults = Faults()
        for name in values:
            if name not in self._columns:
                self._refuse_name(faults, "all", name)
        num_rows = max((len(column) for column in values.values()), default=0)
        conformed = self._checked(values, num_rows, faults)
        refuse(faults)
        return conformed

    def table(self, table: pa.Table) -> pa.Table:
        """Convert the known columns of a table to the schema's order and types; errors are those of `records`."""
        counts, faults = Counter(table.column_names), Faults()
        for name in self._columns:
            if counts[name] > 1:
                faults.add("all", name, f"{counts[name]} columns of this name", "one")
        refuse(faults)
        known = {name: table[name] for name in self._columns if name in counts}
        conformed = self._checked(known, table.num_rows, faults)
        refuse(faults)
        return conformed

    def check(self, values: Mapping[str, Any], num_rows: int) -> tuple[pa.Table, list[Violation]]:
        """Convert the known columns to a table and list every fault; a value at fault is null in the table.

        A column is an Arrow array or a sequence of Python values, each of `num_rows`; values of a file
        that could not be read are a `Misfit`.
        """
        faults = Faults(limit=None)
        return self._checked(values, num_rows, faults), list(faults)

    def knows(self, name: str) -> bool:
        """Tell whether a request may carry a column."""
        return name in self._columns

    def plain_type(self, name: str) -> pa.DataType | None:
        """The type of a column whose values of that kind are taken over as they are, within bounds; None for others."""
        column, convert = self._columns[name]
        return None if _own_types(arrow_type(column.type), convert) is None else arrow_type(column.type)

    def fits(self, name: str, values: pa.Array) -> bool:
        """Tell whether values in the type of a column keep its other rules."""
        column = self._columns[name][0]
        return (column.nullable or not values.null_count) and not _unfit(column, values)

    def _checked(self, values: Mapping[str, Any], num_rows: int, faults: Faults) -> pa.Table:
        arrays: dict[str, pa.Array | pa.ChunkedArray] = {}
        for name, (column, convert) in self._columns.items():
            given = values.get(name)
            if isinstance(given, pa.Array | pa.ChunkedArray):
                arrays[name] = _cast(column, convert, given, faults)
            elif given is not None:
                arrays[name] = _converted(column, convert, given, faults)
            elif name in self.needed:
                arrays[name] = pa.nulls(num_rows, arrow_type(column.type))
                if not column.nullable:
                    faults.add("all", name, "nothing", convert.expected)
        return self._assemble(arrays, num_rows)

    def arrow(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Make a table of rows that `records` has conformed."""
        carried = {name for row in rows for name in row}
        names = [name for name in self._columns if name in carried or name in self.needed]
        return self._assemble({name: [row.get(name) for row in rows] for name in names}, len(rows))

    def _assemble(self, arrays: Mapping[str, Any], num_rows: int) -> pa.Table:
        if not arrays:
            return pa.table({"": pa.nulls(num_rows)}).select([])
        return pa.table(list(arrays.values()), schema=pa.schema([self._fields[name] for name in arrays]))

    def _fitting(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Convert a row by the plan of its columns; None for one at fault, whose faults are to be found."""
        names = tuple(row)
        plan = self._plans.get(names)
        if plan is None:
            plan = RecordPlan.of(names, self._columns, self.order)
            if plan is None:
                return None
            if len(self._plans) == MAX_PLANS:
                self._plans.clear()
            self._plans[names] = plan
        try:
            return plan.conform(row)
        except UnfitError:
            return None

    def _record(self, number: int, row: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
        conformed: dict[str, Any] = {}
        for name, value in row.items():
            known = self._columns.get(name)
            if known is None:
                self._refuse_name(faults, number, name)
                continue
            try:
                conformed[name] = known[1](value)
            except UnfitError as unfit:
                faults.add(number, name, unfit.got or functools.partial(shown, value), unfit.expected)
        for name in (known for known in self.order if known not in row):
            if not self._columns[name][0].nullable:
                faults.add(number, name, "nothing", self._columns[name][1].expected)
            conformed[name] = None
        return conformed

    def _refuse_name(self, faults: Faults, row: Row, name: str) -> None:
        def expected() -> str:
            if faults.total > MAX_HINTS or len(self._columns) > MAX_CANDIDATES or len(name) > MAX_NAME:
                return "only the model's columns"
            return f"only the model's columns; {errors.did_you_mean(name, self._columns)}"

        faults.add(row, name, "a column that the model does not know", expected)


def refuse(faults: list[Violation]) -> None:
    """Raise the first faults, if there are any, with the number of all."""
    if faults:
        count = faults.total if isinstance(faults, Faults) else len(faults)
        raise errors.RequestError.of(faults[:MAX_VIOLATIONS], count)


def _converted(column: Column, convert: Convert, values: Sequence[Any], faults: Faults) -> pa.Array:
    """Convert a whole column at once where that is the same, else value by value, which finds the row of each fault."""
    whole = _taken_over(column, convert, values)
    if whole is not None:
        return whole
    converted: list[Any] = []
    for row, value in enumerate(values):
        try:
            converted.append(convert(value))
        except UnfitError as unfit:
            faults.add(row, column.name, unfit.got or functools.partial(shown, value), unfit.expected)
            converted.append(None)
    return pa.array(converted, arrow_type(column.type))


def _taken_over(column: Column, convert: Convert, values: Sequence[Any]) -> pa.Array | None:
    """Make an array of values that all have the column's own type and fit, which are taken as they are; else None."""
    kind, kinds = arrow_type(column.type), set(map(type, values))
    if NoneType in kinds and not column.nullable:
        return None
    if kinds <= {str, NoneType} and kind == _UTC:
        return _whole_times(column, values)
    own = _own_types(kind, convert)
    if own is None or not kinds - {NoneType} <= own:
        return None
    try:
        array = pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None
    return None if (pa.types.is_floating(kind) and _has_nan(array)) or _unfit(column, array) else array


def _has_nan(values: pa.Array | pa.ChunkedArray) -> bool:
    """Look for NaN, which is no null; without copying what has none."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    if any(chunk.null_count for chunk in chunks):
        return bool(pc.any(pc.is_nan(values)).as_py())
    return any(np.isnan(chunk.to_numpy()).any() for chunk in chunks)


_UTC = pa.timestamp("us", "UTC")

_PLAIN_TIME = r"^(?:19|20|21)\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
"""Times with an offset, as nearly all clients write them; Arrow reads such texts as the conversion of one does."""


def _whole_times(column: Column, texts: Sequence[Any]) -> pa.Array | None:
    """Read a column of times at once if all of them have an offset and are within any bounds; else None."""
    if column.minimum is not None or column.maximum is not None or column.allowed is not None:
        return None
    try:
        written = pa.array(texts, pa.string())
        if not pc.all(pc.match_substring_regex(written, _PLAIN_TIME)).as_py():
            return None
        return written.cast(_UTC)
    except (pa.ArrowException, UnicodeEncodeError):  # no day of the calendar, half a surrogate pair
        return None


def _own_types(kind: pa.DataType, convert: Convert) -> frozenset[type] | None:
    """Python types whose values `convert` takes over as they are, if they are within bounds; None for no such rule."""
    if convert.ready is not None:
        return frozenset({convert.ready[0], int}) if convert.ready[0] is float else frozenset({convert.ready[0]})
    return frozenset({str}) if pa.types.is_string(kind) and convert.allowed is None else None


def _cast(column: Column, convert: Convert, values: pa.Array | pa.ChunkedArray, faults: Faults) -> Any:
    """Convert a whole column at once where Arrow's rules are ours, else value by value."""
    kind = arrow_type(column.type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type) and _has_nan(values):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    cast = _cast_whole(values, kind)
    if cast is None or (cast.null_count and not column.nullable) or _unfit(column, cast):
        return _converted(column, convert, values.to_pylist(), faults)
    return cast


def _unfit(column: Column, values: pa.Array | pa.ChunkedArray) -> bool:
    """Look for a value out of bounds, or a picture that does not decode."""
    if column.kind is Kind.IMAGE:
        return any(images.each(images.fault, values.drop_null().to_pylist()))
    if column.allowed is not None and not pc.all(pc.is_in(values, pa.array(column.allowed, values.type))).as_py():
        return True
    if (column.minimum is None and column.maximum is None) or values.null_count == len(values):
        return False
    low, high = pc.min_max(values).as_py().values()
    is_too_small = column.minimum is not None and low < column.minimum
    return bool(is_too_small or (column.maximum is not None and high > column.maximum))


def _cast_whole(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray | None:
    if values.type == kind:
        return values
    if not _same_rules(values.type, kind):
        return None
    cuts = pa.types.is_timestamp(values.type) and values.type.unit == "ns"  # digits beyond microseconds
    try:
        cast = values.cast(kind, safe=not cuts)
    except pa.ArrowInvalid:
        return None
    if pa.types.is_float32(kind) and pc.any(pc.and_(pc.is_inf(cast), pc.is_finite(values))).as_py():
        return None
    return cast


def _same_rules(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether Arrow's checked cast loses nothing and parses nothing between two types."""
    is_number = (pa.types.is_integer(source) or pa.types.is_floating(source)) and not pa.types.is_float16(source)
    if is_number and (pa.types.is_integer(target) or pa.types.is_floating(target)):
        return True
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(target):
        return (source.tz is None) == (target.tz is None)
    texts = (pa.string(), pa.large_string(), pa.string_view())
    return target in texts if source in texts else bool(pa.types.is_null(source))

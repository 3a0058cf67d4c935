"""Compile an SQL expression to a plain function of one record, for the part of SQL that is sure of Polars' bits.

What is walked is the tree that Polars itself makes of the SQL, and the type of each part is asked of Polars. A part
that `mlsys.features.expression_parts` does not list leaves the expression to Polars (`UncompiledError`), and so does,
for single records, a value of which the function is not sure (`mlsys.features.scalar_functions`). Both sides of AND
and all values of COALESCE are computed, of CASE the side that is taken, as in columns: what fails there fails here.
`mlsys.features.derived_rows` trusts none of this and compares the functions with Polars before it uses one.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from mlsys.features import expression_parts as parts
from mlsys.features.expression_parts import Part, UncompiledError
from mlsys.features.scalar_functions import COMPARE, INT_BOUNDS, Value
from mlsys.limits import EPOCH, MICROSECOND

Node = dict[str, Any]

RESULTS = frozenset({*INT_BOUNDS, "Float64", "Boolean", "String", "Date", *parts.TIMES})
"""Types of values that an expression may give."""

NANOSECONDS = {"Nanoseconds": 1, "Microseconds": 1_000, "Milliseconds": 1_000_000}
IN_UTC = {"inner": "UTC"}


def type_name(kind: pl.DataType) -> str:
    """Name of a type; of times, whether they are in UTC. Times of other units and zones keep their whole name."""
    if isinstance(kind, pl.Datetime) and kind.time_unit == "us" and kind.time_zone in (None, "UTC"):
        return "Datetime UTC" if kind.time_zone else "Datetime"
    return str(kind)


class Compiler:
    """Makes functions of expressions over the columns of a schema.

    Attributes
    ----------
    literals
        Values that are written out in the expressions compiled so far.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._frame = pl.LazyFrame(schema=dict(schema))
        self.literals: list[Value] = []

    def compile(self, expr: pl.Expr) -> parts.Function:
        """Compile an expression; `UncompiledError` if part of it is for Polars alone."""
        try:
            part = self._part(json.loads(expr.meta.serialize(format="json")))
        except (ArithmeticError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise UncompiledError(repr(error)) from None  # a form of the tree that is not known here
        if part.type not in RESULTS or part.is_literal:
            raise UncompiledError(part.type)
        return part.function

    def _part(self, node: Node) -> Part:
        ((form, body),) = node.items()
        if form == "Literal":
            return self._literal(body)
        if form == "Alias":
            return self._part(body[0])
        kind = type_name(self._frame.select(_expr(node).alias("part")).collect_schema()["part"])
        if form == "Column":
            return Part(kind, operator.itemgetter(body))
        if form == "Function":
            return self._function(body["input"], body["function"], kind)
        return Part(kind, self._form(form, body, kind))

    def _form(self, form: str, body: Node, kind: str) -> parts.Function:
        if form == "BinaryExpr":
            return self._operation(body["op"], [body["left"], body["right"]], kind)
        if form == "Cast":
            part = self._part(body["expr"])
            if part.is_literal and part.type != kind:
                raise UncompiledError(kind)
            return parts.cast(part, kind)
        predicate, yes, no = (self._part(body[side]) for side in ("predicate", "truthy", "falsy"))
        return parts.choice(predicate, yes, no, kind)

    def _literal(self, body: Node) -> Part:
        part = _literal(body)
        self.literals.append(part.value)
        return part

    def _operation(self, name: str, sides: Sequence[Node], kind: str) -> parts.Function:
        left, right = (self._part(side) for side in sides)
        if left.is_literal and right.is_literal:
            raise UncompiledError(name)
        if name in ("And", "Or"):
            return parts.logical(name, left, right)
        if name in COMPARE:
            return parts.comparison(name, left, right)
        return parts.arithmetic(name, left, right, kind)

    def _function(self, inputs: Sequence[Node], function: Any, kind: str) -> Part:
        family, detail = next(iter(function.items())) if isinstance(function, dict) else (function, {})
        if family == "Sql" and "Binary" in detail:
            return Part(kind, self._operation(detail["Binary"], inputs, kind))
        if family == "Sql" and "IsIn" in detail:
            return Part(kind, self._is_in(*inputs))
        given = [self._part(each) for each in inputs]
        if all(part.is_literal for part in given):
            raise UncompiledError(family)
        if family == "Coalesce":
            return Part(kind, parts.first_known(given, kind))
        if family in SEVERAL:
            return Part(kind, SEVERAL[family](detail, given))
        (only,) = given
        return Part(kind, parts.number_function(family, detail, only, kind))

    def _is_in(self, asked: Node, values: Node) -> parts.Function:
        """Membership in values that are written out; null for null."""
        part, series = self._part(asked), pl.select(_expr(values)).to_series().explode()
        listed = frozenset(series.to_list())
        whole = series.dtype.is_integer() and part.type in parts.WHOLE
        if None in listed or not (whole or (series.dtype == pl.String and part.type == "String")):
            raise UncompiledError("IN")
        self.literals.extend(listed)
        return parts.unary(listed.__contains__, part.function)


SEVERAL: dict[str, Callable[[Any, Sequence[Part]], parts.Function]] = {
    "StringExpr": parts.text_function,
    "TemporalExpr": parts.time_function,
    "Boolean": parts.truth_function,
}
"""Families of functions, by Polars' names."""


def _expr(node: Node) -> pl.Expr:
    return pl.Expr.deserialize(io.BytesIO(json.dumps(node).encode()), format="json")


def _literal(body: Node) -> Part:
    """A value that is written out; a number with a point is a decimal, which is a float beside floats."""
    if "Dyn" in body:
        return Part.literal("Int64", int(body["Dyn"]["Int"]))
    kind: str
    value: Any
    ((kind, value),) = body["Scalar"].items()
    if kind == "Null":
        return Part.literal(kind, None)
    if kind == "Decimal":
        unscaled, _, scale = value
        return Part.literal(kind, float(Decimal(unscaled).scaleb(-scale)))
    if kind in ("Datetime", "Date", "Duration"):
        return _time_literal(kind, value)
    if kind in ("Boolean", "String", "Float64", *INT_BOUNDS):
        return Part.literal(kind, value)
    raise UncompiledError(kind)


def _time_literal(kind: str, value: Any) -> Part:
    """A date, a time in microseconds without zone or in UTC, or a length of time, which is kept in nanoseconds."""
    if kind == "Date":
        return Part.literal(kind, EPOCH.date() + dt.timedelta(days=value))
    count, unit, *zone = value
    if kind == "Duration":
        return Part.literal(kind, count * NANOSECONDS[unit])
    if unit != "Microseconds" or zone not in ([None], [IN_UTC]):
        raise UncompiledError(f"{kind} {value}")
    moment = EPOCH + count * MICROSECOND
    return Part.literal("Datetime UTC", moment) if zone[0] else Part.literal(kind, moment.replace(tzinfo=None))

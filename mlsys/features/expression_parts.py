"""Functions of the parts of an SQL expression: each takes a record and gives the part's value, None for null.

A part has the type that Polars gives it. An operation between types that is not listed here is left to Polars
(`UncompiledError`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys.features import scalar_functions as scalar
from mlsys.features.scalar_functions import INT_BOUNDS, Value

Record = Mapping[str, Any]
Function = Callable[[Record], Value]

TIMES = ("Datetime", "Datetime UTC")
"""Types of times in microseconds, without zone and in UTC."""

WHOLE = frozenset({*INT_BOUNDS, "UInt32"})
"""Types of integers; 32 bits without sign are what lengths have."""

COMPARED = frozenset({"Boolean", "String", "Date", *TIMES})
"""Types that are compared with themselves, as Python does it."""


class UncompiledError(Exception):
    """Part of an expression is computed by Polars alone."""


@dataclass(frozen=True)
class Part:
    """A part of an expression: the name of its type, its function, and its value if it is written out."""

    type: str
    function: Function
    is_literal: bool = False
    value: Value = None

    @classmethod
    def literal(cls, kind: str, value: Value) -> Part:
        return cls(kind, lambda _: value, is_literal=True, value=value)


def unary(function: scalar.Unary, of: Function) -> Function:
    """Apply a function to one value, null for null."""

    def apply(record: Record) -> Value:
        value = of(record)
        return None if value is None else function(value)

    return apply


def binary(function: scalar.Binary, left: Function, right: Function) -> Function:
    """Apply a function to two values, null if one of them is."""

    def apply(record: Record) -> Value:
        first, second = left(record), right(record)
        return None if first is None or second is None else function(first, second)

    return apply


def converted(part: Part, kind: str) -> Function:
    """Give the values of a part in the type that it has in common with other parts."""
    if part.type in ("Null", kind) or (part.type in WHOLE and kind in INT_BOUNDS):
        return part.function
    if kind == "Float64" and part.type in WHOLE:
        return unary(float, part.function)
    if kind == "Float64" and part.type == "Decimal" and part.is_literal:
        return part.function
    raise UncompiledError(f"{part.type} as {kind}")


def cast(part: Part, kind: str) -> Function:
    """Convert a part to another type, as CAST has it."""
    if part.type == kind:
        return part.function
    if kind == "String" and part.type in WHOLE:
        return unary(str, part.function)
    if kind in INT_BOUNDS and part.type in (*WHOLE, "Float64", "Boolean"):
        return unary(scalar.whole_number(kind), part.function)
    if kind == "Float64" and part.type in (*WHOLE, "Boolean"):
        return unary(float, part.function)
    if kind == "Boolean" and part.type in WHOLE:
        return unary(bool, part.function)
    if kind == "Date" and part.type in TIMES:
        return unary(lambda time: time.date(), part.function)
    raise UncompiledError(f"CAST({part.type} AS {kind})")


def logical(name: str, left: Part, right: Part) -> Function:
    """AND and OR; both sides are computed."""
    function = scalar.both if name == "And" else scalar.either
    first, second = converted(left, "Boolean"), converted(right, "Boolean")
    return lambda record: function(first(record), second(record))


def comparison(name: str, left: Part, right: Part) -> Function:
    """Compare values of a common type, integers with floats as floats and with decimals exactly, as Polars does it."""
    kinds, compare = {left.type, right.type}, scalar.COMPARE[name]
    if "Float64" in kinds and "Null" not in kinds:
        return binary(scalar.without_nan(compare), converted(left, "Float64"), converted(right, "Float64"))
    if kinds <= {*WHOLE, "Decimal"} or (len(kinds) == 1 and kinds <= COMPARED):
        return binary(compare, left.function, right.function)
    raise UncompiledError(f"{name} of {kinds}")


WHOLE_OPERATIONS: dict[str, scalar.Binary] = {
    "Plus": operator.add,
    "Minus": operator.sub,
    "Mul": operator.mul,
    "IntDiv": scalar.quotient,
    "RustDivide": operator.floordiv,
    "Rem": scalar.remainder,
}

FLOAT_OPERATIONS: dict[str, scalar.Binary] = {
    "Plus": operator.add,
    "Minus": operator.sub,
    "Mul": operator.mul,
    "Div": scalar.divide,
    "RustDivide": scalar.divide,
    "Rem": scalar.float_remainder,
}
"""Operations by the names that Polars has for them."""


def arithmetic(name: str, left: Part, right: Part, kind: str) -> Function:
    """Compute with numbers, times and texts; `kind` is the type of the result."""
    kinds = {left.type, right.type}
    if kind == "String" and name == "Plus":
        return binary(operator.add, converted(left, kind), converted(right, kind))
    if kind in INT_BOUNDS and kinds <= WHOLE:
        return binary(scalar.within(kind, WHOLE_OPERATIONS[name]), left.function, right.function)
    if kind == "Float64" and kinds <= {*WHOLE, "Float64", "Decimal"}:
        return _of_floats(name, left, right)
    if name == "Mul" and "Duration" in kinds and kinds & WHOLE:
        return binary(scalar.within("Int64", operator.mul), left.function, right.function)
    if name in ("Plus", "Minus") and left.type == kind and kind in TIMES and right.type.startswith("Duration"):
        return binary(scalar.moved(1 if name == "Plus" else -1), left.function, right.function)
    raise UncompiledError(f"{name} of {left.type} and {right.type}")


def _of_floats(name: str, left: Part, right: Part) -> Function:
    """Compute with floats; with a number that is written out as Polars' kernels for such numbers do it."""
    first, second = converted(left, "Float64"), converted(right, "Float64")
    if right.is_literal:
        number = float(right.value)
        if name in ("Div", "RustDivide"):
            return unary(scalar.by_reciprocal(number), first)
        if name in ("Plus", "Minus") and number == 0:
            return first
    if left.is_literal and float(left.value) == 0 and name in ("Plus", "Minus"):
        return second if name == "Plus" else unary(operator.neg, second)
    return binary(FLOAT_OPERATIONS[name], first, second)


def choice(predicate: Part, yes: Part, no: Part, kind: str) -> Function:
    """CASE: the side that is taken is computed, as Polars does it; null is false."""
    if predicate.type != "Boolean" or predicate.is_literal:
        raise UncompiledError("CASE")
    test, first, second = predicate.function, converted(yes, kind), converted(no, kind)
    return lambda record: first(record) if test(record) else second(record)


def first_known(parts: Sequence[Part], kind: str) -> Function:
    """COALESCE: the first value that is not null; all are computed."""
    functions = [converted(part, kind) for part in parts]

    def first(record: Record) -> Value:
        values = [function(record) for function in functions]
        return next((value for value in values if value is not None), None)

    return first


def text_function(detail: Any, parts: Sequence[Part]) -> Function:
    """A function of texts, by Polars' name."""
    if isinstance(detail, dict):
        return _joined(detail["ConcatHorizontal"], parts)
    text, *others = parts
    if text.type != "String" or not all(part.is_literal for part in others):
        raise UncompiledError(detail)
    arguments = [part.value for part in others]
    if detail == "Slice" and all(each is None or each >= 0 for each in arguments) and arguments[0] is not None:
        return unary(scalar.piece(*arguments), text.function)
    if detail in ("StartsWith", "EndsWith") and isinstance(arguments[0], str):
        (affix,) = arguments
        test = str.startswith if detail == "StartsWith" else str.endswith
        return unary(lambda value: test(value, affix), text.function)
    return unary(TEXT_FUNCTIONS[detail], text.function)


TEXT_FUNCTIONS: dict[str, scalar.Unary] = {
    "Uppercase": scalar.ascii_only(str.upper),
    "Lowercase": scalar.ascii_only(str.lower),
    "LenChars": len,
}


def _joined(options: Mapping[str, Any], parts: Sequence[Part]) -> Function:
    if not options["ignore_nulls"]:
        raise UncompiledError("concatenation that is null for a null")
    functions = [cast(part, "String") for part in parts]
    join = scalar.joined(options["delimiter"])
    return lambda record: join([function(record) for function in functions])


def time_function(detail: Any, parts: Sequence[Part]) -> Function:
    """A part of a time or date, or a time moved by a length that is written out."""
    time, *others = parts
    if detail == "OffsetBy":
        length = scalar.span(str(others[0].value)) if time.type in TIMES and others[0].is_literal else None
        if length is None:
            raise UncompiledError(detail)
        return unary(lambda value: value + length, time.function)
    name = "Timestamp" if detail == {"TimeStamp": "Nanoseconds"} else detail
    if time.type in TIMES:
        return unary((scalar.PARTS | scalar.DAY_PARTS)[name], time.function)
    if time.type == "Date":
        return unary(scalar.DAY_PARTS[name], time.function)
    raise UncompiledError(f"{detail} of {time.type}")


def number_function(family: str, detail: Any, part: Part, kind: str) -> Function:
    """A function of one number."""
    if family == "Pow" and detail == "Sqrt":
        return unary(scalar.root, converted(part, "Float64"))
    if family == "Abs" and kind in INT_BOUNDS:
        return unary(scalar.absolute(kind), part.function)
    if family == "Abs" and part.type == "Float64":
        return unary(abs, part.function)
    if family == "Sql":
        family, detail = "Round", detail["Round"]["decimals"]
    if family in ("Floor", "Ceil", "Round") and part.type in INT_BOUNDS:
        return part.function
    if part.type != "Float64":
        raise UncompiledError(f"{family} of {part.type}")
    roundings = {"Floor": scalar.floor, "Ceil": scalar.ceil}
    return unary(scalar.rounded(detail) if family == "Round" else roundings[family], part.function)


def truth_function(detail: Any, parts: Sequence[Part]) -> Function:
    """NOT, IS NULL and IS NOT NULL."""
    (part,) = parts
    if detail == "Not" and part.type == "Boolean":
        return unary(operator.not_, part.function)
    value = part.function
    if detail == "IsNull":
        return lambda record: value(record) is None
    if detail == "IsNotNull":
        return lambda record: value(record) is not None
    raise UncompiledError(str(detail))

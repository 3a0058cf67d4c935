"""Infer the notation of text columns: marks in their numbers, and the order of day and month in their dates.

The counts of `mlsys.readers.translation` over all values decide, never a sample:

1. a notation of the recipe (``data.reading.notations``) or of the contract decides;
2. a notation counts if it reads more values than plain numbers, dates and times do, and misfits at most
   ``max_bad_fraction`` of them;
3. a word behind the numbers is their unit if nearly all that have one have the same, and more than `MAX_DISTINCT`
   values differ: fewer are a category;
4. if any row proves the meaning of a mark (``1,5``, ``1,234,567``) or the place of the day (``13/01/2024``), it
   has that meaning in all rows;
5. if no row of a column does, the other columns decide; if these do not either, a comma or a point before three
   digits stands between thousands, day comes first before points and hyphens, and month before slashes.

What was inferred is told with the line of the recipe that fixes it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mlsys.collect.contract import Contract
from mlsys.notation import NumberNotation, number_notation
from mlsys.readers.base import MAX_DISTINCT, TypeCounts
from mlsys.readers.conversion import TIME
from mlsys.readers.translation import is_measure
from mlsys.recipe import DataSection
from mlsys.schema import Kind

FORMATS = ((".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", " "), (",", "'"), (".", "'"))
"""Marks of decimals and thousands; of formats that read equally many values the first counts."""
PROOFS = {",": (",d", ".,", ".g", " ,", "',"), ".": (".d", ",.", ",g", " .", "'.")}
"""Shapes that only numbers with this decimal mark have."""
SHAPES = {"digits", ",1", ".1", " ", "'", *PROOFS[","], *PROOFS["."]}
MAX_COLUMNS = 8
"""Columns that one message names."""


@dataclass(frozen=True)
class InferredNotation:
    """The notation of a column, the type of its values, how many it reads, and whether other readings are possible."""

    notation: str
    type: pa.DataType
    num_readable: int
    is_whole: bool = False
    is_given: bool = False
    is_ambiguous: bool = False


def infer(
    counts: Mapping[str, TypeCounts], data: DataSection, contract: Contract | None = None, keys: Container[str] = ()
) -> dict[str, InferredNotation]:
    """The notations of the columns that have another one than programming languages and ISO 8601; `keys` have none."""
    given = {c.name: c.notation for c in contract or () if c.notation is not None} | data.reading.notations
    texts = {name: column for name, column in counts.items() if not column.typed}
    decimal = _decimal_mark(texts.values()) if data.reading.decimal == "." else ","
    months_first = {first for first in (_month_first(column) for column in texts.values()) if first is not None}
    inferred = {}
    for name, column in texts.items():
        if name in given:
            inferred[name] = _given(given[name], column)
            continue
        kind = data.kinds.get(name, contract[name].kind if contract and name in contract else None)
        if name in keys:  # whose texts are compared as they are
            continue
        allowed = column.markers + int(data.max_bad_fraction * (column.count - column.markers))
        choices = []
        if kind in {None, Kind.NUMERIC}:
            choices.append(_number(column, decimal, allowed))
        if kind in {None, Kind.DATETIME}:
            choices.append(_date(column, months_first, allowed))
        best = max(filter(None, choices), key=lambda choice: choice.num_readable, default=None)
        if best is not None:
            inferred[name] = best
    return inferred


def messages(inferred: Mapping[str, InferredNotation], counts: Mapping[str, TypeCounts]) -> Iterator[str]:
    """A line for each notation that was inferred, and for columns of dates in two orders."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for name, choice in inferred.items():
        if not choice.is_given:
            groups.setdefault((choice.notation, choice.is_ambiguous), []).append(name)
    for (notation, is_ambiguous), names in groups.items():
        yield _message(notation, names, inferred, counts, is_ambiguous=is_ambiguous)
    for name, column in counts.items():
        if name not in inferred and (orders := _two_orders(column)):
            yield f"column '{name}' holds dates in two orders and stays text: {orders}; data.derive can take them apart"


def _message(
    notation: str,
    names: list[str],
    inferred: Mapping[str, InferredNotation],
    counts: Mapping[str, TypeCounts],
    *,
    is_ambiguous: bool,
) -> str:
    number = number_notation(notation)
    readable = sum(inferred[name].num_readable for name in names)
    total = sum(counts[name].count - counts[name].markers for name in names)
    shown = ", ".join(f"'{name}'" for name in names[:MAX_COLUMNS])
    more = f" and {len(names) - MAX_COLUMNS} more" if len(names) > MAX_COLUMNS else ""
    line = json.dumps(dict.fromkeys(names[:MAX_COLUMNS], notation), ensure_ascii=False)
    word = f"numbers with {_marks(number)}" if number else f"dates written {notation}"
    doubt = ""
    if is_ambiguous:
        doubt = ", though no row proves it" if number else ", though no row tells the day from the month"
    return (
        f"column{'s' if len(names) > 1 else ''} {shown}{more}: {readable:,} of {total:,} values read as {word}{doubt}; "
        f"data.reading.notations: {line} fixes it, data.kinds keeps the text as a category"
    )


def _marks(number: NumberNotation) -> str:
    decimal = "a decimal comma" if number.decimal == "," else ""
    words = {",": "commas", ".": "points", " ": "blanks", "'": "apostrophes"}
    thousands = f"{words[number.thousands]} between thousands" if number.thousands else ""
    word = "unit" if is_measure(number.unit) else "sign"
    unit = f"the {word} {number.unit}" if number.unit else ""
    return f"{', '.join(filter(None, [decimal, thousands, unit]))}, as {number}"


def _given(notation: str, column: TypeCounts) -> InferredNotation:
    if number_notation(notation) is not None:
        return InferredNotation(notation, pa.float64(), column.count, is_given=True)
    has_clock = any(f"%{letter}" in notation for letter in "HIMSfT") or column.notations.get("clock", 0)
    return InferredNotation(notation, TIME if has_clock else pa.date32(), column.count, is_given=True)


def _decimal_mark(columns: Iterable[TypeCounts]) -> str | None:
    """The decimal mark that some columns prove and none refutes."""
    proven = {mark for column in columns if (mark := _proven_mark(column.notations)) is not None}
    return proven.pop() if len(proven) == 1 else None


def _proven_mark(notations: Mapping[str, int]) -> str | None:
    proofs = {mark: sum(notations.get(shape, 0) for shape in shapes) for mark, shapes in PROOFS.items()}
    mark, other = (",", ".") if proofs[","] > proofs["."] else (".", ",")
    return mark if proofs[mark] and not proofs[other] else None


def _number(column: TypeCounts, table_mark: str | None, allowed: int) -> InferredNotation | None:
    # 1. Marks that read most values; a plain number is read anew only where it may have points between thousands.
    shapes = {shape: n for shape, n in column.notations.items() if shape in SHAPES}
    units = {name.removeprefix("unit "): n for name, n in column.notations.items() if name.startswith("unit ")}
    readable = {marks: _num_readable(shapes, *marks) for marks in FORMATS}
    most = max(readable.values(), default=0)
    equal = [marks for marks in FORMATS if readable[marks] == most]
    is_ambiguous = len({decimal for decimal, _ in equal}) > 1 and bool(shapes.get(",1") or shapes.get(".1"))
    decimal = table_mark if is_ambiguous else None
    if decimal is None:
        is_money = any(name != "%" and not is_measure(name) for name in units)
        decimal = "," if is_ambiguous and shapes.get(".1") and is_money and "%" not in units else "."
    marks = next((each for each in equal if each[0] == decimal), equal[0])
    # 2. The unit, of which there is one; percent is in all values.
    unit = max(units, key=lambda name: units[name], default="")
    most -= sum(units.values()) - units.get(unit, 0)
    most = min(most, units["%"]) if unit == "%" else most
    is_plain = marks == (".", "") and not unit
    are_texts = column.quoted in {0, column.count}
    if is_plain or not most or column.count - most > allowed or column.padded > allowed or not are_texts:
        return None
    if is_measure(unit) and len(column.odd) <= MAX_DISTINCT:  # a few such values are a category: 36 months, 60 months
        return None
    if most <= column.floats and not (is_ambiguous and table_mark == "," and marks[0] == ","):
        return None
    is_whole = not any(shapes.get(shape) for shape in (f"{marks[0]}d", f"{marks[1] or ' '}{marks[0]}"))
    notation = str(NumberNotation(*marks, unit))
    return InferredNotation(notation, pa.float64(), most, is_whole, is_ambiguous=is_ambiguous)


def _num_readable(shapes: Mapping[str, int], decimal: str, thousands: str) -> int:
    names = {"digits", f"{decimal}d", f"{decimal}1"}
    if thousands:
        names |= {f"{thousands}{decimal}"}
        names |= {f"{thousands}1", f"{thousands}g"} if thousands in ",." else {thousands}
    return sum(shapes.get(name, 0) for name in names)


def _date(column: TypeCounts, months_first: set[bool], allowed: int) -> InferredNotation | None:
    iso = column.times
    dates = {name: n + (iso if name != "%Y-%m-%d" else 0) for name, n in column.notations.items() if name[:1] == "%"}
    most = max(dates.values(), default=0)
    if most <= max(iso, column.dates, column.floats, column.bools) or column.count - most > allowed:
        return None
    equal = [name for name, n in dates.items() if n == most]
    is_ambiguous = len(equal) > 1 and sum(name[1] in "dm" for name in equal) > 1
    if is_ambiguous:
        month_first = next(iter(months_first)) if len(months_first) == 1 else _usual_order(column, equal[0])
        equal = [name for name in equal if (name[1] == "m") is month_first] or equal
    notation = min(equal)
    stored = TIME if column.notations.get("clock") else pa.date32()
    return InferredNotation(notation, stored, most, is_ambiguous=is_ambiguous)


def _usual_order(column: TypeCounts, notation: str) -> bool:
    """True where the month usually comes first: with a clock of twelve hours, and before slashes."""
    return bool(column.notations.get("half")) or notation[2] == "/"


def _month_first(column: TypeCounts) -> bool | None:
    """Tell whether the month comes first, by rows that prove it; None where none does, or some prove both."""
    day, month = (sum(n for name, n in column.notations.items() if name.startswith(f"%{d}")) for d in ("d/", "m/"))
    return None if day == month else month > day


def _two_orders(column: TypeCounts) -> str:
    """The counts of a column whose dates are partly day first and partly month first."""
    for mark in "/.-":
        day, month = (column.notations.get(f"%{a}{mark}%{b}{mark}%Y", 0) for a, b in ("dm", "md"))
        if column.notations.get(f"either {mark}", 0) == column.count > max(day, month):
            return f"{day:,} of {column.count:,} can be day first, {month:,} month first"
    return ""

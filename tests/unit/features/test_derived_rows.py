"""Derived features of single records: plain functions have the bits of Polars, or Polars computes the record."""

import datetime as dt
import math
import re

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlsys import errors, expressions
from mlsys.features import derived_rows, scalar_functions
from mlsys.features.derived_rows import completer
from mlsys.schema import arrow_type

COLUMNS = {
    "a": "int64", "b": "int64", "h": "int16", "x": "double", "y": "double", "z": "float", "f": "bool", "g": "bool",
    "s": "string", "r": "string", "t": "timestamp[us, tz=UTC]", "u": "timestamp[us]", "w": "date32[day]",
}  # fmt: skip
COMPILED = [
    "a + b", "a - 1", "a * b", "a / b", "a / 7", "a // b", "a % b", "a % 3", "-a", "x + y", "x + 0", "x - 0.5", "x * y",
    "x * -1", "-x", "x / y", "x / 3", "3 / x", "x % y", "x % 2.5", "h * 2", "h + a", "z * 2", "z + x", "a * x",
    "ABS(a)", "ABS(x)", "FLOOR(x)", "CEIL(x)", "ROUND(x)", "ROUND(x, 2)", "SQRT(x)", "MOD(a, 5)", "DIV(a, 3)",
    "x > y", "x = y", "x <> 1", "a < x", "a < 1.5", "s = r", "s < r", "f = g", "t > t", "u >= TIMESTAMP '2013-01-01'",
    "t >= CAST('2013-01-01' AS TIMESTAMP WITH TIME ZONE)", "w > DATE '2013-01-01'", "f AND g", "f OR g", "NOT f",
    "f AND x > 1 OR a = 2", "x IS NULL", "s IS NOT NULL", "a BETWEEN 1 AND 7", "x NOT BETWEEN 0.5 AND 1.5",
    "a IN (1, 2, 3)", "s NOT IN ('a', 'b')", "CASE WHEN a > 1 THEN 2 WHEN f THEN 3 ELSE 4 END",
    "CASE WHEN x > 1 THEN x ELSE a END", "CASE s WHEN 'a' THEN 'x' END", "COALESCE(x, a, 0)", "COALESCE(s, 'none')",
    "NULLIF(a, 0)", "IF(f, x, y)", "CAST(a AS DOUBLE)", "CAST(x AS BIGINT)", "TRY_CAST(x AS BIGINT)", "a::int",
    "f::bigint", "a::varchar", "a::boolean", "s || '-' || r", "CONCAT(s, '-', a)", "CONCAT_WS('-', s, a)", "UPPER(s)",
    "LOWER(s)", "SUBSTR(s, 2, 3)", "SUBSTRING(s, 2)", "LEFT(s, 2)", "LENGTH(s) * 2", "s LIKE 'a%'", "ENDS_WITH(s, 'b')",
    *(f"EXTRACT({part} FROM {time})" for time in "tu" for part in ("hour", "minute", "second", "dow", "epoch")),
    "EXTRACT(isodow FROM t)",
    *(f"EXTRACT({part} FROM w)" for part in ("year", "quarter", "month", "week", "day", "doy", "dow")),
    "EXTRACT(hour FROM t) * 60 + EXTRACT(minute FROM t)", "t + INTERVAL '1 day'", "u - INTERVAL '90 minutes'",
    "u + a * INTERVAL '1 minute'", "t + INTERVAL '1 second' * a", "t::date", "t", "s",
]  # fmt: skip
LEFT_TO_POLARS = [
    "LN(x)", "POW(x, 2)", "SIN(x)", "SIGN(x)", "GREATEST(a, b)", "STRFTIME(t, '%H')", "s::double", "a + 1.5",
    "t + INTERVAL '1 month'", "s LIKE 'a%b_'", "TRIM(s)", "x // 3", "INITCAP(s)",
    "t::timestamptz AT TIME ZONE 'Asia/Tokyo'",
]  # fmt: skip


def complete(sql, record=None):
    """The function that completes records by an expression, and whether it is a plain one."""
    inputs = expressions.parse("e", sql).inputs
    function, is_plain = completer({name: COLUMNS[name] for name in inputs}, {"e": sql})
    return is_plain if record is None else function(record)["e"]


@pytest.mark.parametrize("sql", COMPILED)
def test_plain_functions_of_this_sql_are_proved(sql):
    assert complete(sql)


@pytest.mark.parametrize("sql", LEFT_TO_POLARS)
def test_what_has_no_function_with_the_same_bits_is_left_to_polars(sql):
    assert not complete(sql)


@pytest.mark.parametrize(
    ("sql", "record", "expected"),
    [
        ("a // b", {"a": -7, "b": 2}, -3),  # towards zero
        ("a % b", {"a": -7, "b": 2}, -1),
        ("a // b", {"a": 7, "b": 0}, None),
        ("a / b", {"a": 1, "b": 0}, math.inf),
        ("a + 1", {"a": 2**63 - 1}, -(2**63)),  # wraps around
        ("x / 3", {"x": 5.0}, 5.0 * (1 / 3)),  # 1.6666666666666665, not 5 / 3
        ("x = y", {"x": math.nan, "y": math.nan}, True),
        ("x > y", {"x": math.nan, "y": math.inf}, True),
        ("f AND g", {"f": None, "g": False}, False),
        ("f OR g", {"f": None, "g": False}, None),
        ("UPPER(s)", {"s": "straße"}, "STRASSE"),
        ("EXTRACT(dow FROM t)", {"t": dt.datetime(2024, 12, 29, tzinfo=dt.UTC)}, 0),
        ("t + INTERVAL '1 day'", {"t": dt.datetime(9999, 12, 31, tzinfo=dt.UTC)}, None),
        ("CASE WHEN f THEN a ELSE x END", {"f": None, "a": 1, "x": -0.0}, -0.0),
    ],
)
def test_traps_have_the_values_of_sql(sql, record, expected):
    assert repr(complete(sql, record)) == repr(expected)


@pytest.mark.parametrize("record", [{"a": "1"}, {}, {"a": 2**63}, {"a": True}])
def test_a_value_of_another_type_is_refused_as_polars_refuses_it(record):
    with pytest.raises(errors.RequestError):
        complete("a + 1", record)


@pytest.mark.parametrize("sql", ["f OR CAST(y AS BIGINT) > 1", "COALESCE(x, CAST(y AS BIGINT))"])
def test_what_fails_in_columns_fails_in_a_row_although_its_value_would_not_count(sql):
    with pytest.raises(errors.RequestError, match="field 'e'"):
        complete(sql, {"f": True, "x": 1.0, "y": 1e300})


def test_the_side_of_a_case_that_is_not_taken_does_not_fail():
    sql, record = "CASE WHEN f THEN 0 ELSE CAST(y AS BIGINT) END", {"f": True, "y": 1e300}
    table = pa.table({name: pa.array([value], arrow_type(COLUMNS[name])) for name, value in record.items()})
    assert expressions.add(table, {"e": sql})["e"].to_pylist() == [0] == [complete(sql, record)]


def test_a_function_with_other_bits_is_not_used(monkeypatch):
    monkeypatch.setattr(scalar_functions, "by_reciprocal", lambda divisor: lambda value: value / divisor)
    assert not complete("x / 41.0")
    monkeypatch.undo()
    assert complete("x / 43.0")


# Random expressions of one type. Where a row takes a value that is written out and so do all others ({=…} has none),
# Polars computes on with one value in place of a column: by a reciprocal, and fails if a number stands before it.

LITERALS = {
    "number": st.sampled_from(["0", "1", "2", "-3", "7", "60", "1000", "0.5", "2.5", "0.1", "NULL"]),
    "whole": st.sampled_from(["0", "1", "2", "-3", "7", "60", "1000000", "9007199254740993"]),
    "truth": st.sampled_from(["TRUE", "FALSE"]),
    "text": st.sampled_from(["'a'", "'Ab'", "''", "'-'", "'é'"]),
    "time": st.sampled_from(["TIMESTAMP '2013-01-01 05:15:00'", "TIMESTAMP '1969-07-20 20:17:40'"]),
}
OWN = {"number": "xyzab", "whole": "abh", "truth": "fg", "text": "sr", "time": "u"}
FORMS = {
    "number": [
        "{number} + {number}", "{number} - {number}", "{number} * {number}", "{number} / {number}", "{whole} / {whole}",
        "{number} % {number}", "-{number}", "ABS({number})", "FLOOR({number})", "CEIL({number})", "ROUND({number})",
        "ROUND({number}, 1)", "SQRT({number})", "COALESCE({=number}, {=number})",
        "CASE WHEN {truth} THEN {=number} ELSE {=number} END", "CAST({whole} AS DOUBLE)", "CAST({truth} AS DOUBLE)",
        "EXTRACT(epoch FROM {time})",
    ],
    "whole": [
        "{whole} + {whole}", "{whole} - {whole}", "{whole} * {whole}", "{whole} // {whole}", "{whole} % {whole}",
        "ABS({whole})", "CAST({truth} AS BIGINT)", "LENGTH({text})", "EXTRACT(hour FROM {time})", "EXTRACT(dow FROM w)",
        "EXTRACT(doy FROM {time})", "CASE WHEN {truth} THEN {=whole} ELSE {=whole} END", "COALESCE({=whole}, {=whole})",
        "CAST(ROUND({number}) AS BIGINT)",
    ],
    "truth": [
        "{number} < {number}", "{number} >= {number}", "{number} = {number}", "{whole} <> {number}",
        "{whole} <= {whole}",
        "{text} < {text}", "{text} = {text}", "{time} > {time}", "{truth} AND {truth}", "{truth} OR {truth}",
        "NOT {truth}", "{number} IS NULL", "{text} IS NOT NULL", "{whole} IN (1, 2, 60)", "{text} NOT IN ('a', 'Ab')",
        "{number} BETWEEN {number} AND {number}", "STARTS_WITH({text}, 'a')",
    ],
    "text": [
        "{text} || {text}", "UPPER({text})", "LOWER({text})", "SUBSTR({text}, 2, 2)", "LEFT({text}, 3)",
        "CONCAT({text}, {whole})", "CONCAT_WS('-', {text}, {text})", "COALESCE({=text}, {=text})",
        "CASE WHEN {truth} THEN {=text} ELSE {=text} END", "CAST({whole} AS VARCHAR)",
    ],
    "time": ["{time} + INTERVAL '36 hours'", "{time} + {whole} * INTERVAL '1 minute'", "COALESCE({=time}, {=time})"],
}  # fmt: skip


@st.composite
def sql_of(draw, kind=None, depth=3, *, may_be_literal=True):
    kind = kind or draw(st.sampled_from(sorted(FORMS)))
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        own = st.sampled_from(sorted(OWN[kind]))
        return draw(own | LITERALS[kind] if may_be_literal else own)
    parts = re.split(r"{(=?\w+)}", draw(st.sampled_from(FORMS[kind])))
    for place in range(1, len(parts), 2):
        name = parts[place]
        inner = draw(sql_of(name.removeprefix("="), depth - 1, may_be_literal=not name.startswith("=")))
        parts[place] = f"({inner})"
    return "".join(parts)


floats = st.floats() | st.sampled_from([0.0, -0.0, 0.5, 1.5, 2.5, -2.5, 2.675, 1e15 + 0.5, -math.inf])
small = st.integers(-100, 100)
texts = st.text(st.sampled_from("aAbB -é"), max_size=5) | st.text(st.characters(codec="utf-8"), max_size=4)
times = st.datetimes()
VALUES = {
    "a": st.integers(-(2**63), 2**63 - 1) | small, "b": st.integers(-(2**63), 2**63 - 1) | small,
    "h": st.integers(-(2**15), 2**15 - 1) | small, "x": floats, "y": floats, "z": st.floats(width=32),
    "f": st.booleans(), "g": st.booleans(), "s": texts, "r": texts, "t": times.map(lambda t: t.replace(tzinfo=dt.UTC)),
    "u": times, "w": times.map(dt.datetime.date),
}  # fmt: skip
rows_of_values = st.lists(st.fixed_dictionaries({k: st.none() | v for k, v in VALUES.items()}), min_size=3, max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(sql=sql_of(), rows=rows_of_values)
def test_any_function_has_the_bits_of_polars_on_any_value_of_which_it_is_sure(sql, rows):
    try:
        inputs = expressions.parse("e", sql).inputs
        kinds = {name: arrow_type(COLUMNS[name]) for name in inputs}
        expressions.types(pa.schema(list(kinds.items())), {"e": sql})
        steps, _ = derived_rows._compiled(kinds, {"e": sql})
    except (errors.RecipeError, derived_rows.UncompiledError):
        assume(False)
    sure, results = [], []
    for row in rows:
        try:
            results.append(derived_rows._values(steps, row))
        except derived_rows.UNSURE:
            continue
        sure.append(row)
    assert derived_rows._agree(pa.schema(list(kinds.items())), {"e": sql}, sure, results)

"""New columns as SQL over the columns of the same row: ``data.derive`` and ``features.derive``.

The dialect is that of Polars (``polars.sql_expr``), restricted to what gives one value a
row from that row alone, so that one row online and a million rows in batch get the same
value. Aggregates, windows, sub-queries and the current time are refused.

What can be used
----------------
operators
    ``+ - * / // % ||``, comparisons, ``AND OR NOT``, ``BETWEEN``, ``IN (…)``, ``LIKE``,
    ``IS NULL``, ``CASE WHEN … THEN … ELSE … END``, ``CAST(x AS DOUBLE)`` or ``x::double``,
    ``TRY_CAST`` (null where it fails). ``/`` gives a float (x / 0 is inf or NaN), ``//`` an
    integer (x // 0 is null). A comparison with null is null.
numbers
    Integer columns, parts of times and lengths count as 64-bit integers, other numbers as
    64-bit floats, whatever their width in the table. ``::int`` has 32 bits, ``::bigint`` 64;
    a result beyond them wraps around.
functions
    those of :data:`FUNCTIONS`.
columns
    by name, case counts; in double quotes if the name is not plain: ``"wind speed"``.
times
    ``TIMESTAMP '2013-01-01 05:15:00'``, ``DATE '2013-01-01'``, ``t + INTERVAL '1 day'``,
    ``t + INTERVAL '1 minute' * n``, ``STRPTIME(text, '%Y-%m-%d %H:%M')``,
    ``STRFTIME(t, '%H')``, ``EXTRACT(hour FROM t)`` (also year, month, day, minute, second,
    dow with Sunday 0, isodow with Monday 1, doy, week, quarter, epoch).
    Text is not compared with times: write ``TIMESTAMP '…'``, and for a column with a zone
    ``CAST('2013-01-01' AS TIMESTAMP WITH TIME ZONE)`` (UTC).
time zones
    ``x::timestamp AT TIME ZONE 'America/New_York'`` reads a time without zone as local there
    and gives UTC; ``t::timestamptz AT TIME ZONE 'America/New_York'`` gives the local wall
    clock of a time with zone. The type has to be said before ``AT TIME ZONE``. An hour that
    a clock change repeats is the second one, a local time that it skips is an error.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from mlsys import errors

FUNCTIONS = frozenset(
    """
    abs ceil ceiling exp floor ln log log10 log1p log2 mod pow power round sign sqrt cbrt div
    sin cos tan asin acos atan atan2 degrees radians pi
    coalesce greatest least if ifnull nullif
    concat concat_ws starts_with ends_with initcap left right length char_length octet_length lower upper
    lpad rpad ltrim rtrim trim replace regexp_like reverse strpos substr substring split_part
    strptime strftime extract date_part date datetime timestamp
    """.split()
)
"""Functions that may be called; each gives one value a row from that row's values."""

AGGREGATES = frozenset(
    "avg corr count covar max median min quantile_cont quantile_disc stddev stdev sum variance var".split()
)
"""Functions that make one number of the values of many rows; only `aggregate` takes them."""

ROW_WISE = "one value a row, computed from that row alone"
OVER_ROWS = "a number computed from the columns of many rows, such as avg(price) / avg(cost)"
"""What an expression has to be."""

KEYWORDS = frozenset(
    """
    and or not in is like ilike between case when then else end as from for interval at time zone on
    cast try_cast decimal numeric varchar char float timestamp
    """.split()
)
"""Words that a parenthesis may follow and that are no function."""

REFUSED = {
    "over": "a window over other rows",
    "select": "a sub-query",
    "now": "the current time",
    "current_timestamp": "the current time",
    "current_date": "the current time",
    "current_time": "the current time",
}

COUNTS = frozenset("extract date_part length char_length octet_length strpos".split())
"""Functions whose narrow integers would overflow in the next multiplication: ``EXTRACT(hour FROM t) * 60``."""

FLOAT_PARTS = re.compile(r"\w+\s*\(\s*'?(epoch|millisecond|microsecond|nanosecond|time)\b", re.IGNORECASE)
"""Parts of a time that are no integers."""

PADS = frozenset({"lpad", "rpad"})
PADDED = re.compile(r",\s*\d{1,4}\s*(,\s*)?\)$")
"""End of a call that pads to a length written out: a value of a row must not decide how much memory it takes."""

RESERVED = frozenset(
    """
    all analyze and any as asc between by case cluster cross current_user desc distinct distribute else end except
    exclude exists explain false fetch from full group having in inner intersect interval into is join lateral like
    limit natural not null offset on or order outer returning session_user sort struct then top trim true union
    unnest user using values view when where with
    """.split()
)
"""Words that SQL keeps for itself, so that a column of such a name has to stand in quotes."""

QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
CALL = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)\s*\(")


def check(name: str, sql: str, where: str, functions: frozenset[str] = FUNCTIONS, expected: str = ROW_WISE) -> None:
    """Raise a `RecipeError` for a word that is not computed from one row: only known functions may be called."""
    bare = _masked(sql)
    for word in WORD.findall(bare):
        if word.lower() in REFUSED:
            raise _refused(name, f"{REFUSED[word.lower()]} in {sql}", None, where, expected)
    for word in CALL.findall(bare):
        if word.lower() not in functions | KEYWORDS:
            hint = errors.did_you_mean(word.lower(), functions)
            raise _refused(name, f"function '{word.lower()}' in {sql}", hint, where, expected)
    for call in CALL.finditer(bare):
        start, end = call.start(), _closing(bare, call.end())
        if call[1].lower() in PADS and not PADDED.search(bare[start:end]):
            expected = "a length of at most 9999 characters, written as a number"
            raise errors.RecipeError.build(f"{where}: '{name}'", got=sql[start:end], expected=expected, field=name)


def quoted_name(name: str) -> str:
    """A column's name as an expression has it, in quotes where it is not plain or a word of SQL.

    >>> print(quoted_name("speed"), quoted_name("order"), quoted_name('a "b" c'))
    speed "order" "a ""b"" c"
    """
    is_word = name.lower() in RESERVED | REFUSED.keys()
    return name if WORD.fullmatch(name) and not is_word else '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """A text as an expression has it.

    >>> quoted_text("o'neil")
    "'o''neil'"
    """
    return "'" + text.replace("'", "''") + "'"


def widen(sql: str) -> str:
    """The text with each narrow integer function cast to 64 bits.

    >>> widen("EXTRACT(hour FROM t) * 60 + LENGTH('(')")
    "CAST(EXTRACT(hour FROM t) AS BIGINT) * 60 + CAST(LENGTH('(') AS BIGINT)"
    """
    for call in reversed(list(CALL.finditer(_masked(sql)))):
        end = _closing(_masked(sql), call.end())
        text = sql[call.start() : end]
        if call[1].lower() in COUNTS and not FLOAT_PARTS.match(text):
            sql = f"{sql[: call.start()]}CAST({text} AS BIGINT){sql[end:]}"
    return sql


def _masked(sql: str) -> str:
    """The text with what is in quotes replaced by blanks, so that positions stay."""
    return QUOTED.sub(lambda quoted: " " * len(quoted[0]), sql)


def _closing(text: str, start: int) -> int:
    """Position after the parenthesis that closes the one opened just before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return at + 1
    return len(text)


def _refused(name: str, got: str, hint: str | None, where: str, expected: str) -> errors.RecipeError:
    return errors.RecipeError.build(f"{where}: '{name}'", got=got, expected=expected, hint=hint, field=name)


NARROW = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
WIDE: dict[Any, Any] = {**dict.fromkeys(NARROW, pl.Int64), pl.Float32: pl.Float64}
"""Types that columns are cast to before an expression sees them."""


@dataclass(frozen=True)
class Expression:
    """A checked SQL expression: its name, its text and the columns that it reads."""

    name: str
    sql: str
    inputs: tuple[str, ...]
    expr: pl.Expr = field(compare=False, repr=False)


def compile(name: str, sql: str, columns: Iterable[str], where: str = "recipe: derive") -> Expression:  # noqa: A001 - the word for it
    """Parse and check one expression.

    Raises
    ------
    RecipeError
        It does not parse, reads an unknown column, or is not computed from one row alone.

    Examples
    --------
    >>> compile("speed", "distance / air_time * 60", ["distance", "air_time"]).inputs
    ('air_time', 'distance')
    >>> compile("speed", "ROUNDED(distance)", ["distance"])
    Traceback (most recent call last):
    ...
    mlsys.errors.RecipeError: recipe: derive: 'speed'
      got:      function 'rounded' in ROUNDED(distance)
      expected: one value a row, computed from that row alone
      hint:     did you mean 'round'?
    """
    parsed = parse(name, sql, where)
    _check_columns(parsed, list(columns), where)
    return parsed


def _check_columns(expression: Expression, known: list[str], where: str) -> None:
    for column in expression.inputs:
        if column not in known:
            raise errors.RecipeError.unknown_column(f"{where}: '{expression.name}' = {expression.sql}", column, known)


def aggregate(name: str, sql: str, schema: pa.Schema, where: str) -> Expression:
    """Parse and check an expression that makes one number of the rows of a table, by `AGGREGATES` and operators.

    Raises
    ------
    RecipeError
        It does not parse, reads an unknown column, or does not give one number.

    Examples
    --------
    >>> prices = pa.table({"price": [1, 2], "cost": [1, 1]})
    >>> aggregate("margin", "avg(price) / avg(cost)", prices.schema, "profile").inputs
    ('cost', 'price')
    >>> aggregate("margin", "price / cost", prices.schema, "profile")
    Traceback (most recent call last):
    ...
    mlsys.errors.RecipeError: profile: 'margin' = price / cost
      got:      a value for each row
      expected: a number computed from the columns of many rows, such as avg(price) / avg(cost)
    """
    check(name, sql, where, FUNCTIONS | AGGREGATES, OVER_ROWS)
    expression = _parsed(name, sql, where)
    _check_columns(expression, schema.names, where)
    empty = pl.DataFrame(pl.from_arrow(schema.empty_table()))
    try:
        result = empty.cast(WIDE).select(expression.expr)[name]
    except pl.exceptions.PolarsError as error:
        raise _broken(name, sql, error, where) from None
    is_number = result.dtype.is_numeric() or result.dtype in (pl.Boolean, pl.Null)
    if len(result) != 1 or not is_number:
        got = f"values of type {result.dtype}" if len(result) == 1 else "a value for each row"
        place = f"{where}: '{name}' = {sql}"
        raise errors.RecipeError.build(place, got=got, expected=OVER_ROWS, field=name)
    return expression


def parse(name: str, sql: str, where: str = "recipe: derive") -> Expression:
    """One expression, before it is known which columns there are."""
    check(name, sql, where)
    return _parsed(name, sql, where)


def _parsed(name: str, sql: str, where: str) -> Expression:
    try:
        expr = pl.sql_expr(widen(sql))
        inputs = tuple(sorted(set(expr.meta.root_names())))
    except pl.exceptions.PolarsError as error:
        raise _broken(name, sql, error, where) from None
    return Expression(name, sql, inputs, expr.alias(name))


def add(table: pa.Table, expressions: Mapping[str, str], where: str = "recipe: derive") -> pa.Table:
    """The table with the expressions' columns, computed in order, so a later one may read an earlier one.

    A name that the table has is replaced in its place; a new one is appended.

    Raises
    ------
    RecipeError
        An expression cannot be compiled, or does not fit the types of its columns.
    ContractError
        It fails on a value, e.g. a text that ``STRPTIME`` cannot read.
    """
    for name, sql in expressions.items():
        expression = compile(name, sql, table.column_names, where)
        _evaluate(table.schema.empty_table(), expression, where)
        values = _evaluate(table, expression, where)
        at = table.schema.get_field_index(name)
        added = pa.field(name, values.type)
        table = table.append_column(added, values) if at < 0 else table.set_column(at, added, values)
    return table


def types(schema: pa.Schema, expressions: Mapping[str, str], where: str = "recipe: derive") -> dict[str, pa.DataType]:
    """Arrow type of each expression's column over a table of this schema.

    >>> types(pa.schema([("a", pa.int32())]), {"half": "a / 2", "odd": "a % 2 = 1"})
    {'half': DataType(double), 'odd': DataType(bool)}
    """
    result = add(schema.empty_table(), expressions, where).schema
    return {name: result.field(name).type for name in expressions}


def row_function(
    schema: pa.Schema, expressions: Mapping[str, str], where: str = "recipe: derive"
) -> Callable[[Mapping[str, pa.Array]], dict[str, Any]]:
    """Function of one row, column → array of its one value, that gives what `add` would.

    Made once, it takes about a tenth of a millisecond a call. It raises `ContractError`
    as `add` does. The arrays must have the types of `schema`. A time outside of the years 1 to
    9999, which Python does not have, is None.
    """
    kinds = types(schema, expressions, where)
    steps = _steps([parse(name, sql, where) for name, sql in expressions.items()])
    read = sorted({column for step in steps for each in step for column in each.inputs} - set(expressions))
    results = [_in_calendar(name, kind) for name, kind in kinds.items()]

    def row(values: Mapping[str, pa.Array]) -> dict[str, Any]:
        columns = [pl.Series(column, values[column]) for column in read] or [pl.Series([None])]
        frame = _several(pl.DataFrame(columns))
        for step in steps:
            try:
                frame = _several(frame.cast(WIDE).with_columns(each.expr for each in step))
            except pl.exceptions.PolarsError as error:
                raise _failed(step[0], error, where) from None
        return frame.head(1).select(results).row(0, named=True)

    return row


def _several(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, its columns written out; of one row, the row twice.

    Polars computes a column of one row by other means, with other bits: ``x / 3`` divides
    there, and in longer columns multiplies by 1 / 3. So it does with a column that it knows to
    hold one value; of columns taken out of their frame it does not know that.
    """
    columns = frame.get_columns()
    return pl.DataFrame([column.extend(column) for column in columns] if frame.height == 1 else columns)


def _in_calendar(name: str, kind: pa.DataType) -> pl.Expr:
    """The column, null where Python has no such time: outside of the years 1 to 9999."""
    value = pl.col(name)
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return value
    return pl.when(value.dt.year().is_between(1, dt.MAXYEAR)).then(value).alias(name)


def _steps(expressions: list[Expression]) -> list[list[Expression]]:
    """The expressions in groups of which none reads a column that its own group makes."""
    steps: list[list[Expression]] = []
    for expression in expressions:
        made = {each.name for each in steps[-1]} if steps else set()
        if not steps or made & {*expression.inputs, expression.name}:
            steps.append([])
        steps[-1].append(expression)
    return steps


def _evaluate(table: pa.Table, expression: Expression, where: str) -> pa.ChunkedArray:
    read = pl.DataFrame(pl.from_arrow(table.select(expression.inputs or table.column_names[:1])))
    try:
        frame = _several(read).cast(WIDE).with_columns(expression.expr).select(expression.name).head(read.height)
    except pl.exceptions.PolarsError as error:
        if not table.num_rows:
            raise _broken(expression.name, expression.sql, error, where) from None
        raise _failed(expression, error, where) from None
    return _plain(frame.to_arrow()[expression.name], expression, where)


def _plain(values: pa.ChunkedArray, expression: Expression, where: str) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_null(kind) or pa.types.is_duration(kind) or pa.types.is_nested(kind):
        name, sql, got = expression.name, expression.sql, f"values of type {kind}"
        expected = "numbers, text, true and false, dates or times"
        hint = "say the type with CAST(… AS …); for the seconds between times subtract EXTRACT(epoch FROM …)"
        raise errors.RecipeError.build(f"{where}: '{name}' = {sql}", got=got, expected=expected, hint=hint, field=name)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind):
        return values.cast(pa.string())
    return values


def _broken(name: str, sql: str, error: Exception, where: str) -> errors.RecipeError:
    text = _first_line(error)
    hint = None
    if "AT TIME ZONE" in text:
        hint = "say the type: x::timestamp AT TIME ZONE '…' (local to UTC), t::timestamptz AT TIME ZONE '…' (to local)"
    elif "to a string value" in text:
        hint = "write times as TIMESTAMP '2013-01-01' or CAST('2013-01-01' AS TIMESTAMP WITH TIME ZONE)"
    return errors.RecipeError.build(
        f"{where}: '{name}' = {sql}", got=text, expected="an SQL expression over the columns", hint=hint, field=name
    )


def _failed(expression: Expression, error: Exception, where: str) -> errors.ContractError:
    got = _first_line(error)
    expected = "an expression that every row can be put into"
    hint = "TRY_CAST gives null where CAST fails; a CASE does not help, both its sides are computed for all rows"
    return errors.ContractError.build(
        f"{where}: '{expression.name}' = {expression.sql}", got=got, expected=expected, hint=hint, field=expression.name
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]

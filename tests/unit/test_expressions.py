from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, expressions

UTC = dt.UTC
TABLE = pa.table(
    {
        "year": pa.array([2013, 2013, 2014], pa.int16()),
        "hour": pa.array([5, 23, None], pa.int8()),
        "x": [1.5, None, -2.0],
        "s": ["a", None, "Ab (c)"],
        "wind speed": pa.array([1.0, 2.0, 4.0], pa.float32()),
        "t": pa.array(
            [dt.datetime(2013, 7, 1, 23, 50, tzinfo=UTC), None, dt.datetime(1969, 12, 31, tzinfo=UTC)],
            pa.timestamp("us", "UTC"),
        ),
    }
)

CALLS = {
    "log": "LOG(x, 2)",
    "mod": "MOD(year, 3)",
    "pow": "POW(x, 2)",
    "power": "POWER(x, 2)",
    "round": "ROUND(x, 1)",
    "div": "DIV(year, 3)",
    "atan2": "ATAN2(x, year)",
    "pi": "x * PI()",
    "coalesce": "COALESCE(x, 0)",
    "greatest": "GREATEST(x, 2)",
    "least": "LEAST(x, 2)",
    "if": "IF(x > 1, 1, 0)",
    "ifnull": "IFNULL(x, 0)",
    "nullif": "NULLIF(x, 1.5)",
    "concat": "CONCAT(s, year)",
    "concat_ws": "CONCAT_WS('-', year, s)",
    "left": "LEFT(s, 1)",
    "right": "RIGHT(s, 1)",
    "lpad": "LPAD(s, 3, '0')",
    "rpad": "RPAD(s, 3, '0')",
    "replace": "REPLACE(s, 'a', 'b')",
    "regexp_like": "REGEXP_LIKE(s, 'a')",
    "strpos": "STRPOS(s, 'b')",
    "substr": "SUBSTR(s, 1, 1)",
    "substring": "SUBSTRING(s, 1, 1)",
    "split_part": "SPLIT_PART(s, 'a', 1)",
    "strftime": "STRFTIME(t, '%H')",
    "strptime": "STRPTIME(CONCAT(year, '-01-02'), '%Y-%m-%d')",
    "extract": "EXTRACT(hour FROM t)",
    "date_part": "DATE_PART('dow', t)",
    "date": "DATE(CONCAT(year, '-01-02'))",
    "datetime": "DATETIME(CONCAT(year, '-01-02 00:00:00'), '%Y-%m-%d %H:%M:%S')",
    "timestamp": "TIMESTAMP(CONCAT(year, '-01-02 00:00:00'), '%Y-%m-%d %H:%M:%S')",
    "starts_with": "STARTS_WITH(s, 'a')",
    "ends_with": "ENDS_WITH(s, 'a')",
    **{f: f"{f}(s)" for f in "initcap length char_length octet_length lower upper ltrim rtrim trim reverse".split()},
}


@pytest.mark.parametrize("function", sorted(expressions.FUNCTIONS))
def test_every_listed_function_works_and_gives_a_row_what_it_gives_among_others(function):
    sql = {"e": CALLS.get(function, f"{function}(x / 4)")}
    whole = expressions.add(TABLE, sql)["e"]
    rows = [expressions.add(TABLE.slice(i, 1), sql)["e"].to_pylist() for i in range(TABLE.num_rows)]
    assert repr([value for row in rows for value in row]) == repr(whole.to_pylist())


@pytest.mark.parametrize(
    ("sql", "kind", "expected"),
    [
        ("x / 0", pa.float64(), [float("inf"), None, float("-inf")]),
        ("year // 0", pa.int64(), [None, None, None]),
        ("x > 1", pa.bool_(), [True, None, False]),
        ('"wind speed" * 2', pa.float64(), [2.0, 4.0, 8.0]),
        ("s IN ('a', 'b')", pa.bool_(), [True, None, False]),
        ("CASE WHEN s = 'over (now)' THEN 1 ELSE 0 END", pa.int32(), [0, 0, 0]),
        ("7", pa.int32(), [7, 7, 7]),
        ("TRY_CAST(s AS DOUBLE)", pa.float64(), [None, None, None]),
        (
            "t + INTERVAL '1 day'",
            pa.timestamp("us", "UTC"),
            [dt.datetime(2013, 7, 2, 23, 50, tzinfo=UTC), None, dt.datetime(1970, 1, 1, tzinfo=UTC)],
        ),
        # New York is four hours behind UTC in July, five in December.
        ("EXTRACT(hour FROM t::timestamptz AT TIME ZONE 'America/New_York')", pa.int64(), [19, None, 19]),
        (
            "STRPTIME('2013-01-15 07:00', '%Y-%m-%d %H:%M')::timestamp AT TIME ZONE 'America/New_York'",
            pa.timestamp("us", "UTC"),
            [dt.datetime(2013, 1, 15, 12, tzinfo=UTC)] * 3,
        ),
        # Sunday is 0: 2013-07-01 was a Monday, 1969-12-31 a Wednesday.
        ("EXTRACT(dow FROM t)", pa.int64(), [1, None, 3]),
    ],
)
def test_expressions_give_the_values_and_types_of_sql(sql, kind, expected):
    column = expressions.add(TABLE, {"e": sql})["e"]
    assert (column.type, column.to_pylist()) == (kind, expected)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("hour * 60", [300, 1380, None]),
        ("EXTRACT(hour FROM t) * 60 + EXTRACT(minute FROM t)", [1430, None, 0]),
        ("LENGTH(s) - 5", [-4, None, 1]),
    ],
)
def test_narrow_integers_do_not_overflow(sql, expected):
    assert expressions.add(TABLE, {"e": sql})["e"].to_pylist() == expected


def test_a_later_expression_reads_an_earlier_one_and_a_known_name_is_replaced_in_place():
    table = expressions.add(TABLE, {"a": "hour * 2", "b": "a + 1", "s": "UPPER(s)"})
    assert table["b"].to_pylist() == [11, 47, None]
    assert table["s"].to_pylist() == ["A", None, "AB (C)"]
    assert table.column_names == [*TABLE.column_names, "a", "b"]


numbers = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 2.5, 3.0, 0.5, float("-inf")])


@settings(max_examples=40, deadline=None)
@given(
    xs=st.lists(numbers, min_size=1, max_size=4),
    y=numbers,
    first=st.sampled_from(["3.0", "x", "-x", "x * y", "EXTRACT(epoch FROM t)", "POW(x, y)"]),
    second=st.sampled_from(["x / a", "a / 3", "-a", "POW(a, y)", "POW(x, a)", "a / 60 + x", "ROUND(a / 7, 2)"]),
)
def test_one_row_gets_the_bits_that_it_gets_among_others(xs, y, first, second):
    sql, time = {"a": first, "b": second}, dt.datetime(2013, 7, 1, 23, 50, 7, 723_209, tzinfo=UTC)
    rows = pa.table(
        {"x": pa.array(xs, pa.float64()), "y": pa.array([y] * len(xs), pa.float64()), "t": [time] * len(xs)}
    )
    among = expressions.add(pa.concat_tables([rows, rows]), sql).select(["a", "b"]).slice(0, len(xs))
    alone = [expressions.add(rows.slice(at, 1), sql).select(["a", "b"]) for at in range(len(xs))]
    row = expressions.row_function(rows.schema, sql)
    records = [row({name: rows[name][at : at + 1].combine_chunks() for name in "xyt"}) for at in range(len(xs))]
    assert repr(among.to_pylist()) == repr(records) == repr([values for one in alone for values in one.to_pylist()])


def test_a_time_that_python_does_not_have_is_none_for_a_row():
    sql = {"later": "t + INTERVAL '1 day'", "day": "d + INTERVAL '1 day'", "is_null": "later IS NULL"}
    last = {"t": pa.array([253_402_300_799_999_999]).view(pa.timestamp("us", "UTC"))}
    schema = pa.schema([("t", pa.timestamp("us", "UTC")), ("d", pa.date32())])
    row = expressions.row_function(schema, sql)
    found = row({**last, "d": pa.array([dt.date(9999, 12, 31)])})
    assert found == {"later": None, "day": None, "is_null": False}


@pytest.mark.parametrize("sql", ["LPAD(s, hour, 'x')", "RPAD(s, 99999, 'x')", "LPAD(s, LENGTH(s) * 2, 'x')"])
def test_a_value_does_not_decide_how_long_a_text_becomes(sql):
    with pytest.raises(errors.RecipeError, match="at most 9999 characters") as caught:
        expressions.compile("e", sql, TABLE.column_names)
    assert sql in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "AVG(x)",
        "x - avg(x)",
        "SUM(x) OVER ()",
        "COUNT(*)",
        "RANK() OVER (ORDER BY x)",
        "(SELECT 1)",
        "CURRENT_TIMESTAMP",
        "NOW()",
        "UNNEST(s)",
        "xyz(x)",
    ],
)
def test_what_one_row_does_not_determine_is_refused(sql):
    with pytest.raises(errors.RecipeError, match="one value a row, computed from that row alone"):
        expressions.compile("e", sql, TABLE.column_names)


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("houre + 1", "did you mean 'hour'"),
        ("x +", "unable to parse"),
        ("x FROM t", "an SQL expression over the columns"),
        ("t AT TIME ZONE 'UTC'", "::timestamptz AT TIME ZONE"),
        ("t > '2013-01-01'", "TIMESTAMP '2013-01-01'"),
        ("s + 1", "arithmetic"),
        ("NULL", "values of type null"),
        ("t - t", "EXTRACT(epoch FROM"),
    ],
)
def test_a_faulty_expression_is_a_recipe_error_that_says_what_to_do(sql, part):
    with pytest.raises(errors.RecipeError) as caught:
        expressions.types(TABLE.schema, {"e": sql})
    assert part in str(caught.value)
    assert "'e'" in str(caught.value)


def test_a_value_that_the_expression_cannot_take_is_a_contract_error():
    with pytest.raises(errors.ContractError, match="TRY_CAST"):
        expressions.add(TABLE, {"e": "STRPTIME(s, '%Y-%m-%d')"})


def test_an_empty_table_keeps_the_types():
    table = expressions.add(TABLE.slice(0, 0), {"e": "x + 1", "k": "3"})
    assert table.schema.field("e").type == pa.float64()
    assert table.num_rows == 0


@pytest.mark.parametrize(
    "name",
    ["x", "X", "order", "Group", "null", "true", "interval", "user", "end", "all", "distinct", "now", "struct", "trim",
     "current_date", "current_user", "exists", "returning", "select", "top", "view", "größe", "a b", 'a"b', "2nd"],
)  # fmt: skip
def test_the_name_of_a_column_is_written_so_that_an_expression_reads_it(name):
    table = pa.table({name: [1, -1]})
    sql = f"NULLIF({expressions.quoted_name(name)}, -1)"
    expressions.check("y", sql, "recipe: derive")
    assert expressions.add(table, {"y": sql})["y"].to_pylist() == [1, None]

"""Types, kinds and time zones of columns: what the values are, and what the recipe says of them."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.schema import Kind, Role


def numbered(count, line, header="x,y"):
    return "\n".join([header, *(line(i) for i in range(count))]) + "\n"


def test_types_and_kinds_are_those_of_the_values(take, write):
    def line(i):
        typed = f"{i},{i / 2},{'true' if i % 2 else 'FALSE'},00{i % 7},2013-01-0{i % 9 + 1},2013-01-01T10:00:00Z"
        return f"{typed},{'ab'[i % 2]},a note of five words {i},{i % 2}"

    file = write("a.csv", numbered(40, line, "int,dec,flag,code,day,at,cat,note,y"))
    taken = take(file)
    found = {c.name: (c.type, c.kind) for c in taken.snapshot.schema}
    assert found == {
        "int": ("int64", Kind.NUMERIC),
        "dec": ("double", Kind.NUMERIC),
        "flag": ("bool", Kind.BOOLEAN),
        "code": ("string", Kind.CATEGORICAL),
        "day": ("date32[day]", Kind.DATETIME),
        "at": ("timestamp[us, tz=UTC]", Kind.DATETIME),
        "cat": ("string", Kind.CATEGORICAL),
        "note": ("string", Kind.TEXT),
        "y": ("int64", Kind.NUMERIC),
    }
    table = taken.snapshot.table()
    assert table["code"][3].as_py() == "003"
    assert table["flag"].to_pylist()[:2] == [False, True]
    assert table["__row"].to_pylist() == list(range(40))


def test_a_time_without_zone_is_local_in_the_recipes_zone(take, write):
    file = write("a.csv", "at,y\n2013-07-01 10:00:00,0\n2013-01-01 10:00,1\n2013-01-01T10:00:00+02:00,1\n")
    table = take(file, timezone="America/New_York").snapshot.table()
    assert [v.isoformat() for v in table["at"].to_pylist()] == [
        "2013-07-01T14:00:00+00:00",
        "2013-01-01T15:00:00+00:00",
        "2013-01-01T08:00:00+00:00",
    ]


def test_a_local_time_that_the_clock_change_skips_is_missing_and_as_time_of_the_row_goes_to_quarantine(
    take, tmp_path, write
):
    lines = "".join(f"2013-05-01 10:{i:02d}:00,{i % 2}\n" for i in range(60))
    file = write("a.csv", "at,y\n" + lines + "2013-03-10 02:30:00,1\n")
    taken = take(file, timezone="America/New_York", max_bad_fraction=0.05)
    assert (taken.report["num_quarantined"], taken.snapshot.table()["at"][60].as_py()) == (0, None)
    taken = take(file, timezone="America/New_York", time="at", max_bad_fraction=0.05)
    assert taken.report["num_quarantined"] == 1
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["row"].to_list() == [60]


def test_words_far_down_do_not_crash_and_go_to_quarantine_if_the_recipe_says_that_they_are_numbers(
    take, tmp_path, write
):
    file = write("a.csv", numbered(2000, lambda i: f"{'n/k' if i in (1500, 1999) else i},{i % 2}"))
    taken = take(file, kinds={"x": "numeric"})
    assert taken.snapshot.schema["x"].type == "int64"
    assert (taken.report["num_read"], taken.report["num_rows"], taken.report["num_quarantined"]) == (2000, 1998, 2)
    quarantine = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").to_dicts()
    assert quarantine[0] == {
        "source": "a.csv",
        "row": 1500,
        "reason": "column 'x': not int64",
        "content": '{"x": "n/k", "y": "0"}',
    }
    assert 1500 not in taken.snapshot.table()["__row"].to_pylist()
    assert max(taken.snapshot.table()["__row"].to_pylist()) == 1998


def test_more_words_than_the_fraction_make_the_column_text(take, write):
    file = write("a.csv", numbered(100, lambda i: f"{i if i < 98 else f'n{i}'},{i % 2}"))
    taken = take(file)
    assert taken.snapshot.schema["x"].type == "string"
    assert taken.report["num_quarantined"] == 0


def test_a_kind_in_the_recipe_decides_and_too_many_misfits_stop_the_run(take, tmp_path, write):
    file = write("a.csv", numbered(100, lambda i: f"{'n/k' if i > 97 else i},{i % 2}"))
    with pytest.raises(errors.ContractError) as caught:
        take(file, kinds={"x": "numeric"})
    assert "2 of 100 rows" in str(caught.value)
    assert "2 × column 'x': not int64 (e.g. 'n/k' in 'a.csv' row 98)" in str(caught.value)
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet").height == 2


def test_integers_beyond_64_bits_stay_text(take, write):
    file = write("a.csv", numbered(10, lambda i: f"1234567890123456789{i}0,{i % 2}"))
    table = take(file).snapshot.table()
    assert table["x"][3].as_py() == "123456789012345678930"


def test_an_empty_column_is_ignored_and_told(take, write):
    taken = take(write("a.csv", "x,e,y\n1,,0\n2,NA,1\n"))
    assert taken.snapshot.schema["e"].role is Role.IGNORE
    assert taken.report["empty_columns"] == ["e"]
    assert "column 'e' has no value in any row: ignored" in taken.report["warnings"]


def test_a_changed_type_names_the_files(take, tmp_path):
    pq.write_table(pa.table({"x": [1], "y": [0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["1"], "y": [1]}), tmp_path / "b.parquet")
    with pytest.raises(errors.SourceError, match=r"column 'x'\n.*int64 in 'a.parquet'; string in 'b.parquet'"):
        take(tmp_path)


def test_a_misspelt_time_zone_is_named(take, write):
    with pytest.raises(errors.RecipeError, match=r"did you mean 'Europe/Berlin'\?"):
        take(write("a.csv", "x,y\n1,0\n2,1\n"), timezone="Europe/Berln")


def test_zeros_and_ones_are_booleans_if_the_recipe_says_so(take, write):
    taken = take(write("a.csv", "x,y\n1,0\n0,1\n"), kinds={"x": "boolean"})
    assert taken.snapshot.table()["x"].to_pylist() == [True, False]


def test_a_kind_that_the_values_cannot_have_is_refused(take, tmp_path):
    pq.write_table(pa.table({"x": [1, 2], "y": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(errors.RecipeError, match=r"recipe: 'data.kinds.x'"):
        take(tmp_path / "a.parquet", kinds={"x": "datetime"})


def told(taken, name):
    return [said for said in taken.report["warnings"] if f"'{name}'" in said]


def test_a_column_is_a_number_if_all_but_markers_of_missing_values_are(take, write):
    marks = ["?", "-", " ", "N/A", "none", "."]
    file = write("a.csv", numbered(600, lambda i: f"{marks[i % 12] if i % 12 < 6 else i},{i % 2}"))
    taken = take(file)
    column = taken.snapshot.schema["x"]
    assert (column.type, column.nullable, set(column.null_values)) == ("int64", True, {"?", "-", "", ".", "none"})
    assert taken.report["num_quarantined"] == 0
    assert taken.snapshot.table()["x"].to_pylist()[5:8] == [None, 6, 7]
    assert told(taken, "x")[0] == (
        "column 'x': '' in 50 rows, '-' in 50 rows, '.' in 50 rows and 2 other values count as missing, "
        "for the column is numeric; data.kinds: {x: categorical} keeps such values"
    )


def test_a_few_numbers_beside_other_codes_are_a_category_in_whatever_share(take, write):
    signs = {500: "=", 1500: "+", 2500: "-", 2501: "="}
    taken = take(write("a.csv", numbered(4000, lambda i: f"{signs.get(i, 0)},{i % 2}")))
    column = taken.snapshot.schema["x"]
    assert (column.type, column.kind, column.null_values) == ("string", Kind.CATEGORICAL, ())
    assert taken.snapshot.table()["x"].value_counts().to_pylist()[0] == {"values": "0", "counts": 3996}
    assert told(taken, "x")[0] == (
        "column 'x': '=' in 2 rows, '+' in 1 row beside a few numbers are codes: categorical; "
        "data.kinds: {x: numeric} makes it a number and sets the other rows aside"
    )


def test_a_repeated_odd_text_in_a_column_of_many_numbers_is_missing(take, write):
    taken = take(write("a.csv", numbered(1000, lambda i: f"{'closed' if i % 4 == 0 else i},{i % 2}")))
    column = taken.snapshot.schema["x"]
    assert (column.type, column.null_values) == ("int64", ("closed",))
    assert told(taken, "x")[0] == (
        "column 'x': 'closed' in 250 rows count as missing, for the column is numeric; "
        "data.kinds: {x: categorical} keeps such values"
    )


def test_typing_errors_in_numbers_are_missing_and_in_ids_they_make_a_text(take, write):
    file = write(
        "a.csv", numbered(2000, lambda i: f"{'1o' if i == 1900 else i},{'1o' if i == 7 else i},{i % 2}", "x,k,y")
    )
    taken = take(file, id="k")
    assert [taken.snapshot.schema[name].type for name in ("x", "k")] == ["int64", "string"]
    assert (taken.snapshot.num_rows, taken.snapshot.table()["x"][1900].as_py()) == (2000, None)
    assert taken.snapshot.table()["k"][7].as_py() == "1o"


def test_missing_dates_are_marked_as_missing_numbers_are(take, write):
    file = write("a.csv", numbered(60, lambda i: f"{'-' if i % 3 else f'2024-01-{i % 28 + 1:02}'},{i % 2}"))
    assert take(file).snapshot.schema["x"].type == "date32[day]"


def test_types_do_not_depend_on_how_the_rows_are_spread_over_files(take, store, tmp_path, write):
    lines = [f"{'?' if i < 40 else 'shut' if i < 60 else i},{'=' if i % 50 == 0 else 0},{i % 2}" for i in range(200)]
    (tmp_path / "parts").mkdir()
    for number in range(5):
        write(f"parts/{number}.csv", "\n".join(["x,c,y", *lines[number * 40 : number * 40 + 40]]) + "\n")
    whole, parts = take(write("a.csv", "\n".join(["x,c,y", *lines]) + "\n")), take(tmp_path / "parts")
    assert whole.snapshot.schema == parts.snapshot.schema
    assert whole.snapshot.schema["x"].null_values == ("?", "shut")
    assert whole.snapshot.schema["c"].type == "string"


def test_a_schema_as_written_is_kept_by_the_file_that_it_was_written_from(take, tmp_path, write):
    file = write("a.csv", numbered(1000, lambda i: f"{'closed' if i % 4 == 0 else '?' if i % 4 == 1 else i},{i % 2}"))
    first = take(file)
    again = take(file, contract=str(tmp_path / "run" / "schema.yaml"))
    assert (again.report["num_quarantined"], again.snapshot.schema) == (0, first.snapshot.schema)


UNUSUAL = {
    "uint64 below 2^63": (pa.array([1, 2**62, None, 3], pa.uint64()), "int64"),
    "uint64 of hashes": (pa.array([2**64 - 1, 2**63, 2**60, None], pa.uint64()), "string"),
    "uint32": (pa.array([2**32 - 1, 0, None, 1], pa.uint32()), "int64"),
    "decimal with places": (pa.array([Decimal("1.25"), None, Decimal(0), Decimal(1)], pa.decimal128(38, 2)), "double"),
    "decimal of 76 digits": (pa.array([Decimal(10**75), None, Decimal(1), Decimal(2)], pa.decimal256(76, 0)), "string"),
    "time32": (pa.array([0, 1, None, 86_399], pa.time32("s")), "string"),
    "time64": (pa.array([0, 1, None, 10**12], pa.time64("us")), "string"),
    "duration": (pa.array([0, 1, None, 10**12], pa.duration("ns")), "double"),
    "struct": (pa.array([{"a": 1}, None, {"a": 2}, {"a": None}]), "string"),
    "list of numbers": (pa.array([[1.5], None, [], [2.5, None]]), "list<item: double>"),
    "list of texts": (pa.array([["a"], None, [], ["b", None]]), "list<item: string>"),
    "list of structs": (pa.array([[{"a": 1}], None, [], [{"a": 2}]]), "string"),
    "map": (pa.array([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int64())), "string"),
    "dictionary": (pa.array(["a", "b", None, "a"]).dictionary_encode(), "string"),
    "binary": (pa.array([b"a", b"b", None, b"\xff"]), "binary"),
    "float16": (pa.array(np.array([1.5, 2.5, 3.5, 4.5], np.float16)), "double"),
    "large_string": (pa.array(["a", None, "c", "d"], pa.large_string()), "string"),
    "null": (pa.nulls(4), "double"),
    "times of seconds": (pa.array([0, 1, None, 10**12], pa.timestamp("s")), "timestamp[us, tz=UTC]"),
    "times in a zone": (pa.array([0, 1, None, 10**18], pa.timestamp("ns", "Asia/Tokyo")), "timestamp[us, tz=UTC]"),
    "dates out of range": (pa.array([0, 1, 2**31 - 1, None], pa.date32()), "date32[day]"),
    "date64": (pa.array([0, 86_400_000, None, 0], pa.date64()), "date32[day]"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_no_column_of_a_typed_file_costs_a_row_whatever_its_type(take, tmp_path, name):
    values, stored = UNUSUAL[name]
    pq.write_table(pa.table({"x": values, "n": [1, 2, 3, 4], "y": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    taken = take(tmp_path / "a.parquet")
    assert (taken.snapshot.num_rows, taken.report["num_quarantined"]) == (4, 0)
    assert taken.snapshot.schema["x"].type == stored
    assert take(tmp_path / "a.parquet", ignore=("x",)).snapshot.schema["x"].role is Role.IGNORE


def test_digits_of_unsigned_integers_are_kept_where_they_tell_values_apart(take, tmp_path):
    hashes = [2**64 - 1 - 7 * i for i in range(50)] + [2**60 + i for i in range(50)]
    amounts = [*range(999), 2**64 - 1]
    pq.write_table(pa.table({"h": pa.array(hashes, pa.uint64()), "y": [0, 1] * 50}), tmp_path / "h.parquet")
    pq.write_table(pa.table({"a": pa.array(amounts, pa.uint64()), "y": [0, 1] * 500}), tmp_path / "a.parquet")
    assert take(tmp_path / "h.parquet").snapshot.table()["h"].to_pylist() == [str(value) for value in hashes]
    amount = take(tmp_path / "a.parquet", evolution="accept").snapshot.table()["a"]
    assert (amount.type, amount[998].as_py(), amount[999].as_py()) == (pa.float64(), 998.0, 2.0**64)
    kept = take(tmp_path / "a.parquet", kinds={"a": "categorical"}, evolution="accept").snapshot.table()["a"]
    assert kept[999].as_py() == str(2**64 - 1)


def test_an_ignored_column_never_costs_a_row(take, write):
    file = write("a.csv", numbered(100, lambda i: f"{i},{'x' if i % 3 else i},{i % 2}", "i,x,y"))
    taken = take(file, ignore=("x",), kinds={"x": "numeric"})
    assert (taken.snapshot.num_rows, taken.report["num_quarantined"]) == (100, 0)


def test_lists_of_texts_in_json_are_kept_as_their_text_and_none_is_missing(take, write):
    """Empty lists beside them, which could be of numbers, make no list of the column."""
    tags = [["a", "b"], [], ["c"], None, ["a"], [1, "a"]]
    lines = "".join(json.dumps({"tags": tag, "v": [1, 2.5], "y": row % 2}) + "\n" for row, tag in enumerate(tags))
    taken = take(write("a.jsonl", lines))
    table = taken.snapshot.table()
    assert table["tags"].to_pylist() == ['["a", "b"]', "[]", '["c"]', None, '["a"]', '[1, "a"]']
    assert table["v"].to_pylist() == [[1.0, 2.5]] * 6
    assert taken.report["notes"] == []

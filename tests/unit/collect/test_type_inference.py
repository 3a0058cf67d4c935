"""Types, kinds and time zones of columns: what the values are, and what the recipe says of them."""

from __future__ import annotations

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


def test_a_local_time_that_the_clock_change_skips_goes_to_quarantine(take, tmp_path, write):
    lines = "".join(f"2013-05-01 10:{i:02d}:00,{i % 2}\n" for i in range(60))
    file = write("a.csv", "at,y\n" + lines + "2013-03-10 02:30:00,1\n")
    taken = take(file, timezone="America/New_York", max_bad_fraction=0.05)
    assert taken.report["num_quarantined"] == 1
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["row"].to_list() == [60]


def test_words_far_down_do_not_crash_and_go_to_quarantine(take, tmp_path, write):
    file = write("a.csv", numbered(2000, lambda i: f"{'n/k' if i in (1500, 1999) else i},{i % 2}"))
    taken = take(file)
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
    file = write("a.csv", numbered(100, lambda i: f"{'n/k' if i > 97 else i},{i % 2}"))
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

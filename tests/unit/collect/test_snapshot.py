from __future__ import annotations

import datetime as dt
import gzip
import json
import sqlite3
import zipfile

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.collect import snapshot, sources
from mlsys.recipe import Aggregate, Data, Join, Reading
from mlsys.schema import Kind, Role
from mlsys.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


@pytest.fixture
def take(store, tmp_path):
    def run(source, target="y", **data):
        return snapshot.take(store, Data(source=str(source), **data), target=target, folder=tmp_path / "run")

    return run


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def numbered(count, line, header="x,y"):
    return "\n".join([header, *(line(i) for i in range(count))]) + "\n"


def test_types_and_kinds_are_those_of_the_values(take, tmp_path):
    def line(i):
        typed = f"{i},{i / 2},{'true' if i % 2 else 'FALSE'},00{i % 7},2013-01-0{i % 9 + 1},2013-01-01T10:00:00Z"
        return f"{typed},{'ab'[i % 2]},a note of five words {i},{i % 2}"

    file = written(tmp_path / "a.csv", numbered(40, line, "int,dec,flag,code,day,at,cat,note,y"))
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


def test_same_rows_give_the_same_digest_and_other_rows_another(take, tmp_path):
    file = written(tmp_path / "a.csv", "x,y\n1,0\n2,1\n")
    first = take(file).snapshot.digest
    assert take(file).snapshot.digest == first
    assert take(written(file, "x,y\n1,0\n3,1\n")).snapshot.digest != first


def test_the_snapshot_knows_no_path_of_this_machine(take, store, tmp_path):
    taken = take(written(tmp_path / "a.csv", "x,y\n1,0\n2,1\n"))
    facts = store.facts("snapshot", taken.snapshot.digest)
    assert facts["sources"][0]["name"] == "a.csv"
    assert facts["sources"][0]["bytes"] == 12
    assert str(tmp_path) not in json.dumps(facts)


def test_a_time_without_zone_is_local_in_the_recipes_zone(take, tmp_path):
    file = written(tmp_path / "a.csv", "at,y\n2013-07-01 10:00:00,0\n2013-01-01 10:00,1\n2013-01-01T10:00:00+02:00,1\n")
    table = take(file, timezone="America/New_York").snapshot.table()
    assert [v.isoformat() for v in table["at"].to_pylist()] == [
        "2013-07-01T14:00:00+00:00",
        "2013-01-01T15:00:00+00:00",
        "2013-01-01T08:00:00+00:00",
    ]


def test_a_local_time_that_the_clock_change_skips_goes_to_quarantine(take, tmp_path):
    lines = "".join(f"2013-05-01 10:{i:02d}:00,{i % 2}\n" for i in range(60))
    file = written(tmp_path / "a.csv", "at,y\n" + lines + "2013-03-10 02:30:00,1\n")
    taken = take(file, timezone="America/New_York", max_bad_fraction=0.05)
    assert taken.report["num_quarantined"] == 1
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["row"].to_list() == [60]


def test_words_far_down_do_not_crash_and_go_to_quarantine(take, tmp_path):
    file = written(tmp_path / "a.csv", numbered(2000, lambda i: f"{'n/k' if i in (1500, 1999) else i},{i % 2}"))
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


def test_more_words_than_the_fraction_make_the_column_text(take, tmp_path):
    file = written(tmp_path / "a.csv", numbered(100, lambda i: f"{'n/k' if i > 97 else i},{i % 2}"))
    taken = take(file)
    assert taken.snapshot.schema["x"].type == "string"
    assert taken.report["num_quarantined"] == 0


def test_a_kind_in_the_recipe_decides_and_too_many_misfits_stop_the_run(take, tmp_path):
    file = written(tmp_path / "a.csv", numbered(100, lambda i: f"{'n/k' if i > 97 else i},{i % 2}"))
    with pytest.raises(errors.ContractError) as caught:
        take(file, kinds={"x": "numeric"})
    assert "2 of 100 rows" in str(caught.value)
    assert "2 × column 'x': not int64 (e.g. 'n/k' in 'a.csv' row 98)" in str(caught.value)
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet").height == 2


def test_integers_beyond_64_bits_stay_text(take, tmp_path):
    file = written(tmp_path / "a.csv", numbered(10, lambda i: f"1234567890123456789{i}0,{i % 2}"))
    table = take(file).snapshot.table()
    assert table["x"][3].as_py() == "123456789012345678930"


def test_a_line_of_the_wrong_length_goes_to_quarantine_and_keeps_its_number(take, tmp_path):
    rows = [f"{i},{i % 2}" for i in range(300)]
    rows[7], rows[200] = "7,1,1", "200"
    file = written(tmp_path / "a.csv", "x,y\n" + "\n".join(rows) + "\n")
    taken = take(file)
    assert taken.report["quarantine"] == {
        "cells: 3 in a table of 2 columns": {"rows": 1, "samples": ["'7,1,1' in 'a.csv' row 7"]},
        "cells: 1 in a table of 2 columns": {"rows": 1, "samples": ["'200' in 'a.csv' row 200"]},
    }
    table = taken.snapshot.table()
    assert table["x"].to_pylist() == table["__row"].to_pylist()


def test_row_numbers_go_on_over_files(take, tmp_path):
    written(tmp_path / "b.csv", "x,y\n1,0\nbad\n3,1\n")
    written(tmp_path / "a.csv", "x,y\n1,0\n2,1\n")
    taken = take(tmp_path / "*.csv", max_bad_fraction=0.5)
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 2, 4]
    assert [s["name"] for s in taken.report["sources"]] == ["a.csv", "b.csv"]
    assert [p.name for p in taken.snapshot.paths] == ["part-00000.parquet", "part-00001.parquet"]


def test_byte_order_mark_crlf_and_quoted_line_ends_are_read(take, tmp_path):
    content = b'\xef\xbb\xbfx,y\r\n"one, ""two""\r\nthree",0\r\nfour,1\r\n'
    table = take(written(tmp_path / "a.csv", content)).snapshot.table()
    assert table.drop_columns("__row").to_pydict() == {"x": ['one, "two"\r\nthree', "four"], "y": [0, 1]}


@pytest.mark.parametrize(
    "body", ['1,0\n"2,1\n3,0\n4,1\n', '1,0\n"2,1\n3,0\n4,"1\n', '1,0\n2,"1\n3,0\n4,1\n', '1,0\n"2"x,1\n']
)
def test_a_stray_quote_names_its_line_and_swallows_no_rows(take, tmp_path, body):
    with pytest.raises(errors.SourceError, match=r"source 'a.csv', line 3\n"):
        take(written(tmp_path / "a.csv", "x,y\n" + body))


def test_another_encoding_names_byte_line_and_hint(take, tmp_path):
    content = "x,y\nplain,0\ncafé,1\n".encode("latin-1")
    with pytest.raises(errors.SourceError) as caught:
        take(written(tmp_path / "a.csv", content))
    assert str(caught.value).splitlines()[:3] == [
        "collect: source 'a.csv', line 3",
        "  got:      byte 0xe9 at offset 15",
        "  expected: text in utf-8",
    ]
    assert "data.reading.encoding: latin-1" in str(caught.value)
    table = take(tmp_path / "a.csv", reading=Reading(encoding="latin-1")).snapshot.table()
    assert table["x"].to_pylist() == ["plain", "café"]


def test_mixed_encodings_lose_no_row_in_silence(take, tmp_path):
    content = "x,y\ncafé,0\n".encode() + "café,1\n".encode("latin-1")
    with pytest.raises(errors.SourceError, match="line 3"):
        take(written(tmp_path / "a.csv", content))


def test_a_character_over_the_border_of_two_chunks_is_whole(take, tmp_path):
    filler = "a" * (1 << 20)
    content = f"x,y\n{filler[: (1 << 20) - 5]}é,0\nb,1\n".encode()
    assert take(written(tmp_path / "a.csv", content)).snapshot.table()["x"][0].as_py().endswith("aé")


def test_packed_files_are_read(take, tmp_path):
    text = b"x,y\n1,0\n2,1\n"
    written(tmp_path / "a.csv.gz", gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("b.csv", text)
    assert take(tmp_path).snapshot.table()["x"].to_pylist() == [1, 2, 1, 2]


def test_a_cut_gzip_is_named(take, tmp_path):
    packed = gzip.compress(b"x,y\n" + b"".join(b"%d,1\n" % i for i in range(5000)))
    written(tmp_path / "a.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(errors.SourceError, match="Compressed file ended before"):
        take(tmp_path / "a.csv.gz")


def test_a_zip_of_two_files_is_refused(take, tmp_path):
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("b.csv", "x,y\n")
        archive.writestr("c.csv", "x,y\n")
    with pytest.raises(errors.SourceError, match="2 files in the archive"):
        take(tmp_path / "b.csv.zip")


@pytest.mark.parametrize("content", ["", "\n\n", "x,y\n", "x,y"])
def test_no_rows_is_said(take, tmp_path, content):
    with pytest.raises(errors.SourceError, match="no rows"):
        take(written(tmp_path / "a.csv", content))


def test_an_empty_file_beside_others_is_no_fault(take, tmp_path):
    written(tmp_path / "a.csv", "x,y\n")
    written(tmp_path / "b.csv", "x,y\n1,0\n2,1\n")
    assert take(tmp_path).snapshot.num_rows == 2


def test_two_columns_of_one_name_are_refused(take, tmp_path):
    with pytest.raises(errors.SourceError, match="columns that appear twice: x"):
        take(written(tmp_path / "a.csv", "x,y,x\n1,0,2\n"))


def test_our_own_column_names_are_refused(take, tmp_path):
    with pytest.raises(errors.SourceError, match="a column '__row'"):
        take(written(tmp_path / "a.csv", "__row,y\n1,0\n"))


def test_another_delimiter_is_suggested(take, tmp_path):
    with pytest.raises(errors.SourceError, match=r'data.reading.delimiter: ";"'):
        take(written(tmp_path / "a.csv", "x;y\n1;0\n"))


def test_a_missing_file_names_the_nearest(take, tmp_path):
    written(tmp_path / "flights.csv", "x,y\n1,0\n")
    with pytest.raises(errors.SourceError, match=r"did you mean 'flights.csv'\?"):
        take(tmp_path / "flihgts.csv")


def test_an_empty_column_is_ignored_and_told(take, tmp_path):
    taken = take(written(tmp_path / "a.csv", "x,e,y\n1,,0\n2,NA,1\n"))
    assert taken.snapshot.schema["e"].role is Role.IGNORE
    assert taken.report["empty_columns"] == ["e"]
    assert "column 'e' has no value in any row: ignored" in taken.report["warnings"]


def test_a_column_without_a_name_is_taken_for_a_row_index(take, tmp_path):
    taken = take(written(tmp_path / "a.csv", ",x,y\n0,5,0\n1,6,1\n"))
    assert taken.snapshot.schema["unnamed_0"].role is Role.IGNORE


def test_a_target_of_one_class_is_refused(take, tmp_path):
    with pytest.raises(errors.TargetError, match="one class only: 1 in all 2 rows"):
        take(written(tmp_path / "a.csv", "x,y\n1,1\n2,1\n3,\n"))


def test_a_target_without_values_is_refused(take, tmp_path):
    with pytest.raises(errors.TargetError, match="no value in any of 2 rows"):
        take(written(tmp_path / "a.csv", "x,y\n1,\n2,NA\n"))


def test_rows_without_label_are_kept_and_counted(take, tmp_path):
    taken = take(written(tmp_path / "a.csv", "x,y\n1,0\n2,\n3,1\n"))
    assert (taken.snapshot.num_rows, taken.report["num_unlabelled"]) == (3, 1)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("target", {}),
        ("data.id", {"id": "xx"}),
        ("data.known_after", {"known_after": ["xx"]}),
        ("data.kinds", {"kinds": {"xx": "text"}}),
    ],
)
def test_a_misspelt_column_is_named_with_its_key(take, tmp_path, key, data):
    with pytest.raises(errors.RecipeError, match=f"recipe: '{key}': no column"):
        take(written(tmp_path / "a.csv", "x1,y\n1,0\n2,1\n"), target="y" if data else "yy", **data)


def test_repeated_ids_are_counted(take, tmp_path):
    taken = take(written(tmp_path / "a.csv", "k,y\na,0\nb,1\na,1\n"), id="k")
    assert taken.report["num_repeated_ids"] == 1
    assert taken.snapshot.schema["k"].role is Role.ID


def test_derived_columns_are_computed_in_order_and_may_be_the_target(take, tmp_path):
    file = written(
        tmp_path / "a.csv",
        "delay,at,y0\n20,2013-03-01T10:00:00Z,1\n,2013-03-01T11:00:00Z,1\n3,2013-03-01T12:00:00Z,1\n",
    )
    derive = {
        "late": "CASE WHEN delay IS NULL THEN NULL ELSE delay > 15 END",
        "not_late": "NOT late",
        "landed": "at + delay * INTERVAL '1 minute'",
        "hour": "EXTRACT(hour FROM at::timestamptz AT TIME ZONE 'America/New_York')",
    }
    table = take(file, target="late", derive=derive).snapshot.table()
    assert table["late"].to_pylist() == [True, None, False]
    assert table["not_late"].to_pylist() == [False, None, True]
    assert table["landed"][0].as_py() == dt.datetime(2013, 3, 1, 10, 20, tzinfo=dt.UTC)
    assert table["hour"].to_pylist() == [5, 6, 7]


def test_a_wrong_expression_is_named_before_anything_is_stored(take, tmp_path, store):
    with pytest.raises(errors.RecipeError, match=r"(?s)'late' = dellay > 15.*did you mean 'delay'"):
        take(written(tmp_path / "a.csv", "delay\n20\n3\n"), target="late", derive={"late": "dellay > 15"})
    assert not list((store.root / "objects").glob("*/*")) if (store.root / "objects").exists() else True
    assert list((store.root / "staging").iterdir()) == []


def test_json_lines_with_missing_keys_and_other_types_are_one_table(take, tmp_path):
    rows = [{"a": i, "b": [i, 0.5], "s": f"2013-01-0{i % 9 + 1}", "d": str(i), "y": i % 2 == 0} for i in range(150)]
    rows[3] = {"a": "three", "y": True}
    rows[4] = {"a": 4.0, "b": None, "late": 1, "y": False}
    file = written(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows))
    taken = take(file)
    found = {c.name: c.type for c in taken.snapshot.schema}
    assert found == {
        "a": "double",
        "b": "list<item: double>",
        "s": "date32[day]",
        "d": "string",
        "y": "bool",
        "late": "int64",
    }
    assert taken.report["quarantine"]["column 'a': not double"] == {
        "rows": 1,
        "samples": ["'three' in 'a.jsonl' row 3"],
    }
    assert taken.snapshot.table()["b"].to_pylist()[:4] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5], None]


def test_a_broken_json_line_goes_to_quarantine(take, tmp_path):
    lines = [json.dumps({"x": i, "y": i % 2}) for i in range(200)]
    lines[5] = '{"x": 5, '
    lines[6] = "[1]"
    taken = take(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert taken.report["num_quarantined"] == 2
    assert taken.snapshot.table()["x"].to_pylist() == taken.snapshot.table()["__row"].to_pylist()


def test_a_json_array_is_refused_with_the_repair(take, tmp_path):
    with pytest.raises(errors.SourceError, match="jq -c"):
        take(written(tmp_path / "a.json", '[{"x": 1, "y": 2}]'))


def test_parquet_keeps_its_types_and_an_added_column_is_null_before(take, tmp_path):
    at = pa.array([dt.datetime(2013, 1, 1, 10, tzinfo=dt.UTC).replace(tzinfo=None), None], pa.timestamp("ns"))
    pq.write_table(pa.table({"x": pa.array([1, 2], pa.int16()), "at": at, "y": [0.0, 1.0]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table(
            {
                "x": pa.array([1.5], pa.float32()),
                "at": at[:1],
                "y": [float("nan")],
                "new": pa.array(["a"]).dictionary_encode(),
            }
        ),
        tmp_path / "b.parquet",
    )
    taken = take(tmp_path)
    table = taken.snapshot.table()
    assert {c.name: c.type for c in taken.snapshot.schema} == {
        "x": "double",
        "at": "timestamp[us, tz=UTC]",
        "y": "int64",
        "new": "string",
    }
    assert table["new"].to_pylist() == [None, None, "a"]
    assert table["y"].to_pylist() == [0, 1, None]
    assert "column 'new' is not in 'a.parquet': null there" in taken.report["warnings"]
    assert any(
        w.startswith("column 'x': integers in 'a.parquet', decimals in 'b.parquet'") for w in taken.report["warnings"]
    )


def test_a_changed_type_names_the_files(take, tmp_path):
    pq.write_table(pa.table({"x": [1], "y": [0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["1"], "y": [1]}), tmp_path / "b.parquet")
    with pytest.raises(errors.SourceError, match=r"column 'x'\n.*int64 in 'a.parquet'; string in 'b.parquet'"):
        take(tmp_path)


def test_a_damaged_parquet_file_is_named(take, tmp_path):
    with pytest.raises(errors.SourceError, match=r"source 'a.parquet'"):
        take(written(tmp_path / "a.parquet", b"PAR1 not really"))


def test_rows_of_a_database_query_are_collected_without_its_path(take, tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t (x real, name text, at text, y int)")
        db.executemany(
            "insert into t values (?, ?, ?, ?)", [(i / 2, f"n{i % 3}", "2013-01-01 10:00:00", i % 2) for i in range(10)]
        )
    db.close()
    taken = take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from t where x > 0"))
    assert {c.name: c.type for c in taken.snapshot.schema} == {
        "x": "double", "name": "string", "at": "timestamp[us, tz=UTC]", "y": "int64",
    }  # fmt: skip
    assert taken.snapshot.num_rows == 9
    assert taken.report["sources"] == [{"name": "sqlite:///a.db", "bytes": None, "sha256": None}]
    with pytest.raises(errors.SourceError, match=r"no such table: u"):
        take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from u"))
    with pytest.raises(errors.RecipeError, match=r"data.reading.query"):
        take(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(errors.SourceError, match=r"did you mean 'a.db'"):
        take(f"sqlite:///{tmp_path}/aa.db", reading=Reading(query="select 1"))
    assert not (tmp_path / "aa.db").exists()


def test_built_in_sets_and_package_files_are_found_without_importing_the_package(take):
    assert take("sklearn://iris", target="target").snapshot.num_rows == 150
    taken = take("package://palmerpenguins/data/penguins.csv", target="species")
    assert taken.snapshot.num_rows == 344
    with pytest.raises(errors.SourceError, match=r"did you mean 'iris'"):
        take("sklearn://irris", target="target")
    with pytest.raises(errors.SourceError, match="no package 'no_such_package'"):
        take("package://no_such_package/x.csv")


def test_file_uris_are_read(take, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    written(folder / "a.csv", "x,y\n1,0\n2,1\n")
    for source in (f"file://{folder}/a.csv", f"file://{folder}", f"file://{folder}/*.csv"):
        assert [s["name"] for s in take(source).report["sources"]] == ["a.csv"]
    with pytest.raises(errors.SourceError, match=r"did you mean 'a.csv'"):
        take(f"file://{folder}/b.csv")


def test_a_contract_written_by_one_run_is_kept_by_the_next(take, tmp_path):
    file = written(tmp_path / "a.csv", "x,c,y\n1,a,0\n2,b,1\n")
    first = take(file)
    assert take(file, contract=str(tmp_path / "run" / "schema.yaml")).snapshot.digest == first.snapshot.digest


def test_rows_that_break_the_contract_go_to_quarantine_by_rule(take, tmp_path):
    contract = written(
        tmp_path / "c.yaml",
        "columns:\n- {name: x, type: int64, kind: numeric, minimum: 0, maximum: 10, nullable: false}\n"
        "- {name: c, type: string, kind: categorical, allowed: [a, b]}\n- {name: y, type: int64, kind: numeric}\n",
    )
    file = written(tmp_path / "a.csv", "x,c,extra,y\n1,a,,0\n-1,b,,1\n11,z,,1\n,a,,0\nq,a,,0\n5,,,1\n")
    taken = take(file, contract=str(contract), max_bad_fraction=0.9)
    assert {rule: entry["rows"] for rule, entry in taken.report["quarantine"].items()} == {
        "column 'x': below the minimum 0": 1,
        "column 'x': above the maximum 10": 1,
        "column 'c': not among the allowed values": 1,
        "column 'x': null": 1,
        "column 'x': not int64": 1,
    }
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 5]
    assert "column 'extra' is not in the contract: left out" in taken.report["warnings"]
    quarantine = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").sort("row")
    assert (
        quarantine["reason"].to_list()[1]
        == "column 'x': above the maximum 10; column 'c': not among the allowed values"
    )


def test_of_rows_that_repeat_a_unique_value_the_first_stays(take, tmp_path):
    contract = written(
        tmp_path / "c.yaml",
        "columns:\n- {name: x, type: int64, kind: numeric, unique: true}\n- {name: y, type: int64, kind: numeric}\n",
    )
    file = written(tmp_path / "a.csv", "x,y\n7,0\n8,1\n7,1\n,0\n,1\n")
    with pytest.raises(
        errors.ContractError, match=r"1 × column 'x': repeats an earlier value \(e.g. 7 in 'a.csv' row 2"
    ):
        take(file, contract=str(contract))
    taken = take(file, contract=str(contract), max_bad_fraction=0.2)
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 3, 4]  # missing values equal no other
    assert (taken.report["num_read"], taken.report["num_rows"], taken.report["num_quarantined"]) == (5, 4, 1)
    assert pl.read_parquet(tmp_path / "run" / "quarantine.parquet")["row"].to_list() == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns:\n- {name: x, type: int64, kind: numeric, minimun: 0}\n", "did you mean 'minimum'"),
        ("columns:\n- {name: x, type: int65, kind: numeric}\n", "Arrow types"),
        ("columns:\n- {name: x, type: int64, kind: numerical}\n", "column 'x'"),
        ("columns: [\n", "YAML"),
        ("columns:\n- {name: gone, type: int64, kind: numeric}\n", "column 'gone' of the contract"),
    ],
)
def test_a_wrong_contract_says_what_is_wrong(take, tmp_path, text, message):
    contract = written(tmp_path / "c.yaml", text)
    with pytest.raises(errors.ContractError, match=message):
        take(written(tmp_path / "a.csv", "x,y\n7,0\n8,1\n"), contract=str(contract))


def test_a_feature_table_needs_its_keys(store, tmp_path):
    file = written(tmp_path / "w.csv", "origin,at,temp\nEWR,2013-01-01,30\nJFK,2013-01-01,31\n")
    table = snapshot.take_table(store, Join(source=str(file), keys=("origin",), time="at"))
    assert (table.schema["at"].type, table.schema["at"].role) == ("timestamp[us, tz=UTC]", Role.TIME)
    with pytest.raises(errors.RecipeError, match=r"did you mean 'origin'"):
        snapshot.take_table(store, Join(source=str(file), keys=("orgin",)))
    with pytest.raises(errors.RecipeError, match="did you mean 'at'"):
        snapshot.take_table(store, Join(source=str(file), keys=("origin",), time="at", known_at="att"))
    aggregates = {"wet": Aggregate(function="sum", column="rain", window="1h")}
    with pytest.raises(errors.RecipeError, match="no column 'rain'"):
        snapshot.take_table(store, Join(source=str(file), keys=("origin",), time="at", aggregates=aggregates))


def test_a_misspelt_time_zone_is_named(take, tmp_path):
    with pytest.raises(errors.RecipeError, match=r"did you mean 'Europe/Berlin'\?"):
        take(written(tmp_path / "a.csv", "x,y\n1,0\n2,1\n"), timezone="Europe/Berln")


def test_zeros_and_ones_are_booleans_if_the_recipe_says_so(take, tmp_path):
    taken = take(written(tmp_path / "a.csv", "x,y\n1,0\n0,1\n"), kinds={"x": "boolean"})
    assert taken.snapshot.table()["x"].to_pylist() == [True, False]


def test_a_kind_that_the_values_cannot_have_is_refused(take, tmp_path):
    pq.write_table(pa.table({"x": [1, 2], "y": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(errors.RecipeError, match=r"recipe: 'data.kinds.x'"):
        take(tmp_path / "a.parquet", kinds={"x": "datetime"})


def test_half_a_surrogate_pair_goes_to_quarantine(take, tmp_path):
    lines = ['{"x": "a", "y": 0}', '{"x": "\\ud83d", "y": 1}', '{"x": "\\ud83d\\ude00", "y": 1}']
    taken = take(written(tmp_path / "a.jsonl", "\n".join(lines)), max_bad_fraction=0.5)
    assert taken.snapshot.table()["x"].to_pylist() == ["a", "\U0001f600"]


def test_a_source_is_found_from_another_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.csv", "x,y\n1,0\n2,1\n")
    with sqlite3.connect("a.db") as db:
        db.execute("create table t as select 1 as x, 0 as y union select 2, 1")
    db.close()
    for source, reading in (("a.csv", Reading()), ("sqlite:///a.db", Reading(query="select * from t"))):
        (piece,) = sources.find(source, reading)
        assert str(tmp_path) in piece.location
        assert str(tmp_path) not in piece.name
        taken = snapshot.take(store, Data(source=source, reading=reading), target="y", folder=tmp_path / "run")
        assert taken.snapshot.num_rows == 2


def test_a_fingerprint_changes_with_the_files_alone(tmp_path):
    file = written(tmp_path / "a.csv", "x,y\n1,0\n")
    before = sources.fingerprint(str(file), Reading())
    assert sources.fingerprint(str(file), Reading()) == before
    written(file, "x,y\n1,0\n2,1\n")
    assert sources.fingerprint(str(file), Reading()) != before


def test_a_database_password_is_not_shown():
    (piece,) = sources.find("postgresql://me:secret@host/db", Reading(query="select 1"))
    assert piece.name == "postgresql://me:***@host/db"

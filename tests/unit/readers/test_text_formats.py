"""Bytes of every format become the rows that were written, or an error or quarantine that names what was wrong."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.recipe import Reading
from mlsys.schema import Role


def test_a_line_of_the_wrong_length_goes_to_quarantine_and_keeps_its_number(take, write):
    rows = [f"{i},{i % 2}" for i in range(300)]
    rows[7], rows[200] = "7,1,1", "200"
    file = write("a.csv", "x,y\n" + "\n".join(rows) + "\n")
    taken = take(file)
    assert taken.report["quarantine"] == {
        "cells: 3 in a table of 2 columns": {"rows": 1, "samples": ["'7,1,1' in 'a.csv' row 7"]},
        "cells: 1 in a table of 2 columns": {"rows": 1, "samples": ["'200' in 'a.csv' row 200"]},
    }
    table = taken.snapshot.table()
    assert table["x"].to_pylist() == table["__row"].to_pylist()


def test_byte_order_mark_crlf_and_quoted_line_ends_are_read(take, write):
    content = b'\xef\xbb\xbfx,y\r\n"one, ""two""\r\nthree",0\r\nfour,1\r\n'
    table = take(write("a.csv", content)).snapshot.table()
    assert table.drop_columns("__row").to_pydict() == {"x": ['one, "two"\r\nthree', "four"], "y": [0, 1]}


@pytest.mark.parametrize(
    "body", ['1,0\n"2,1\n3,0\n4,1\n', '1,0\n"2,1\n3,0\n4,"1\n', '1,0\n2,"1\n3,0\n4,1\n', '1,0\n"2"x,1\n']
)
def test_a_stray_quote_names_its_line_and_swallows_no_rows(take, body, write):
    with pytest.raises(errors.SourceError, match=r"source 'a.csv', line 3\n"):
        take(write("a.csv", "x,y\n" + body))


def test_another_encoding_names_byte_line_and_hint(take, tmp_path, write):
    content = "x,y\nplain,0\ncafé,1\n".encode("latin-1")
    with pytest.raises(errors.SourceError) as caught:
        take(write("a.csv", content))
    assert str(caught.value).splitlines()[:3] == [
        "collect: source 'a.csv', line 3",
        "  got:      byte 0xe9 at offset 15",
        "  expected: text in utf-8",
    ]
    assert "data.reading.encoding: latin-1" in str(caught.value)
    table = take(tmp_path / "a.csv", reading=Reading(encoding="latin-1")).snapshot.table()
    assert table["x"].to_pylist() == ["plain", "café"]


def test_mixed_encodings_lose_no_row_in_silence(take, write):
    content = "x,y\ncafé,0\n".encode() + "café,1\n".encode("latin-1")
    with pytest.raises(errors.SourceError, match="line 3"):
        take(write("a.csv", content))


def test_a_character_over_the_border_of_two_chunks_is_whole(take, write):
    filler = "a" * (1 << 20)
    content = f"x,y\n{filler[: (1 << 20) - 5]}é,0\nb,1\n".encode()
    assert take(write("a.csv", content)).snapshot.table()["x"][0].as_py().endswith("aé")


def test_packed_files_are_read(take, tmp_path, write):
    text = b"x,y\n1,0\n2,1\n"
    write("a.csv.gz", gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("b.csv", text)
    assert take(tmp_path).snapshot.table()["x"].to_pylist() == [1, 2, 1, 2]


def test_a_cut_gzip_is_named(take, tmp_path, write):
    packed = gzip.compress(b"x,y\n" + b"".join(b"%d,1\n" % i for i in range(5000)))
    write("a.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(errors.SourceError, match="Compressed file ended before"):
        take(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("content", ["", "\n\n", "x,y\n", "x,y"])
def test_no_rows_is_said(take, content, write):
    with pytest.raises(errors.SourceError, match="no rows"):
        take(write("a.csv", content))


def test_an_empty_file_beside_others_is_no_fault(take, tmp_path, write):
    write("a.csv", "x,y\n")
    write("b.csv", "x,y\n1,0\n2,1\n")
    assert take(tmp_path).snapshot.num_rows == 2


def test_our_own_column_names_are_refused(take, write):
    with pytest.raises(errors.SourceError, match="a column '__row'"):
        take(write("a.csv", "__row,y\n1,0\n"))


def test_another_delimiter_is_suggested(take, write):
    with pytest.raises(errors.SourceError, match=r'data.reading.delimiter: ";"'):
        take(write("a.csv", "x;y\n1;0\n"))


def test_a_column_without_a_name_is_taken_for_a_row_index(take, write):
    taken = take(write("a.csv", ",x,y\n0,5,0\n1,6,1\n"))
    assert taken.snapshot.schema["unnamed_0"].role is Role.IGNORE


def test_json_lines_with_missing_keys_and_other_types_are_one_table(take, write):
    rows = [{"a": i, "b": [i, 0.5], "s": f"2013-01-0{i % 9 + 1}", "d": str(i), "y": i % 2 == 0} for i in range(150)]
    rows[3] = {"a": "three", "y": True}
    rows[4] = {"a": 4.0, "b": None, "late": 1, "y": False}
    file = write("a.jsonl", "\n".join(json.dumps(row) for row in rows))
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
    assert taken.snapshot.schema["a"].null_values == ("three",)
    assert taken.snapshot.table()["b"].to_pylist()[:4] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5], None]


def test_a_broken_json_line_goes_to_quarantine(take, write):
    lines = [json.dumps({"x": i, "y": i % 2}) for i in range(200)]
    lines[5] = '{"x": 5, '
    lines[6] = "[1]"
    taken = take(write("a.jsonl", "\n".join(lines)))
    assert taken.report["num_quarantined"] == 2
    assert taken.snapshot.table()["x"].to_pylist() == taken.snapshot.table()["__row"].to_pylist()


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


def test_a_damaged_parquet_file_is_named(take, write):
    with pytest.raises(errors.SourceError, match=r"source 'a.parquet'"):
        take(write("a.parquet", b"PAR1 not really"))


def test_half_a_surrogate_pair_goes_to_quarantine(take, write):
    lines = ['{"x": "a", "y": 0}', '{"x": "\\ud83d", "y": 1}', '{"x": "\\ud83d\\ude00", "y": 1}']
    taken = take(write("a.jsonl", "\n".join(lines)), max_bad_fraction=0.5)
    assert taken.snapshot.table()["x"].to_pylist() == ["a", "\U0001f600"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x28\xb5\x2f\xfd\x24\x00", "a file packed by zstd"),
        (b"PK\x03\x04\x14\x00", "a zip archive, or a file of Excel"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"SQLite format 3\0", "a SQLite database"),
    ],
)
def test_a_file_of_another_format_is_called_by_its_name_and_not_text_in_another_encoding(take, write, content, what):
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(errors.SourceError, match=rf"got: +{what}"):
            take(write(name, content))


def test_a_table_may_begin_as_the_name_of_a_format_does(take, write):
    assert take(write("a.csv", "PAR1,BZh9,y\n1,2,0\n3,4,1\n")).snapshot.num_rows == 2


def test_a_json_line_with_a_key_that_stands_twice_goes_to_quarantine_for_which_value_holds_is_not_known(take, write):
    taken = take(
        write("a.jsonl", '{"x": 1, "x": 2, "y": 0}\n{"x": 3, "y": 0}\n{"x": 4, "y": 1}\n'), max_bad_fraction=0.5
    )
    assert taken.snapshot.table()["x"].to_pylist() == [3, 4]
    assert list(taken.report["quarantine"]) == ["json: key 'x' stands twice"]


@pytest.mark.parametrize("text", [
    '[{"x": 1, "y": 0}, {"x": 2, "y": 1}]',
    '[\n {"x": 1, "y": 0},\n {"x": 2, "y": 1}\n]\n',
    '[{"x": 1,\n "y": 0},\n {"x": 2, "y": 1}]',
    '[\n{"x": 1, "y": 0}\n,{"x": 2, "y": 1}]',
])  # fmt: skip
def test_an_array_of_objects_is_a_table_however_it_is_laid_out(take, write, text):
    assert take(write("a.json", text)).snapshot.table()["x"].to_pylist() == [1, 2]


def test_a_long_array_is_read_in_pieces_and_a_cut_one_is_named(take, write):
    rows = [f'{{"x": {n}, "y": {n % 2}, "t": "{"z" * 50}"}}' for n in range(50_000)]
    assert take(write("a.json", "[" + ", ".join(rows) + "]")).snapshot.num_rows == 50_000
    with pytest.raises(errors.SourceError, match="a JSON array that breaks off"):
        take(write("a.json", "[" + ", ".join(rows)[:-20]))


def test_a_bad_first_line_of_json_lines_is_a_bad_record(take, write):
    taken = take(write("a.jsonl", "[" * 100_000 + '\n{"x": 1, "y": 0}\n{"x": 2, "y": 1}\n'), max_bad_fraction=0.5)
    assert (taken.snapshot.num_rows, taken.report["num_quarantined"]) == (2, 1)

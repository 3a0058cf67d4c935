from __future__ import annotations

import gzip

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors


@pytest.fixture
def folder(tmp_path):
    """Ten sound Parquet files of a thousand rows each."""
    (tmp_path / "in").mkdir()
    for number in range(10):
        table = pa.table({"x": [f"{number}-{i}" for i in range(1000)], "y": [i % 2 for i in range(1000)]})
        pq.write_table(table, tmp_path / f"in/{number}.parquet")
    return tmp_path / "in"


def cut(file, keep):
    file.write_bytes(file.read_bytes()[:keep])


def corrupt_pages(file):
    """Data pages of zeros between a sound beginning and a sound end."""
    content = bytearray(file.read_bytes())
    content[8:2000] = bytes(1992)
    file.write_bytes(content)


def test_a_broken_file_among_good_ones_stops_the_run_with_its_name(take, folder):
    cut(folder / "3.parquet", 5000)
    with pytest.raises(errors.SourceError, match=r"source '3.parquet'"):
        take(folder)


@pytest.mark.parametrize("damage", [lambda file: cut(file, 3000), corrupt_pages], ids=["cut", "pages"])
def test_under_the_stated_fraction_it_is_set_aside_by_name_and_good_rows_are_kept(take, folder, tmp_path, damage):
    damage(folder / "3.parquet")
    taken = take(folder, max_bad_fraction=0.2)
    assert taken.snapshot.num_rows == 9000
    assert taken.snapshot.table()["__row"].to_pylist() == list(range(9000))
    assert not any(text.startswith("3-") for text in taken.snapshot.table()["x"].to_pylist())
    assert [found["name"] for found in taken.report["damaged"]] == ["3.parquet"]
    assert sum(w.startswith("'3.parquet' cannot be read and is left out: ") for w in taken.report["warnings"]) == 1
    (row,) = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").to_dicts()
    assert (row["source"], row["row"]) == ("3.parquet", None)
    assert row["reason"].startswith("collect: source '3.parquet'")


def test_a_file_cut_to_nothing_counts_as_a_file(take, folder):
    cut(folder / "3.parquet", 4)
    with pytest.raises(errors.SourceError, match=r"source '3.parquet'"):
        take(folder, max_bad_fraction=0.09)


def test_a_file_that_was_mended_is_taken_the_next_time(take, folder):
    sound = (folder / "3.parquet").read_bytes()
    cut(folder / "3.parquet", 3000)
    take(folder, max_bad_fraction=0.2)
    (folder / "3.parquet").write_bytes(sound)
    taken = take(folder, max_bad_fraction=0.2)
    assert (taken.snapshot.num_rows, taken.report["damaged"]) == (10_000, [])


def test_several_broken_files_are_all_named(take, folder):
    for name in ("3", "5"):
        cut(folder / f"{name}.parquet", 5000)
    with pytest.raises(errors.SourceError, match=r"2 of 10 files cannot be read\n.*'3.parquet', '5.parquet'"):
        take(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("z.csv.gz", gzip.compress(b"x,y\n" + b"".join(b"%d,1\n" % i for i in range(3000)), mtime=0)[:4000]),
        ("z.csv", b'x,y\na,0\n"b,1\nc,0\n'),
        ("z.csv", b"x,y\na,0\n\xff,1\n"),
    ],
    ids=["gzip cut short", "stray quote", "not UTF-8"],
)
def test_text_that_cannot_be_read_with_certainty_is_set_aside_as_a_whole(take, write, tmp_path, name, content):
    write("in/a.csv", "x,y\n" + "".join(f"{'ab'[i % 2]},{i % 2}\n" for i in range(20_000)))
    write(f"in/{name}", content)
    taken = take(tmp_path / "in", max_bad_fraction=0.5)
    assert (taken.snapshot.num_rows, [found["name"] for found in taken.report["damaged"]]) == (20_000, [name])


def test_thousands_of_columns_are_collected(take, tmp_path):
    table = pa.table({f"c{i}": [i, 2 * i] for i in range(3000)} | {"y": [0, 1]})
    pq.write_table(table, tmp_path / "wide.parquet")
    taken = take(tmp_path / "wide.parquet")
    assert (len(taken.snapshot.schema), taken.snapshot.num_rows) == (3001, 2)
    assert taken.snapshot.table(["c2999"])["c2999"].to_pylist() == [2999, 5998]


def test_a_cell_of_a_megabyte_is_kept_whole(take, write):
    text = "x" * (1 << 20)
    taken = take(write("a.csv", f'x,y\n"{text}",0\nb,1\n'))
    assert taken.snapshot.table()["x"][0].as_py() == text


def test_strings_that_are_all_different_stay_strings(take, write):
    taken = take(write("a.csv", "x,y\n" + "".join(f"id{i:06d},{i % 2}\n" for i in range(5000))))
    assert taken.snapshot.table()["x"].to_pylist() == [f"id{i:06d}" for i in range(5000)]


def test_mixed_time_zones_are_one_universal_time(take, tmp_path):
    (tmp_path / "in").mkdir()
    for name, zone in (("a", "America/New_York"), ("b", "Europe/Berlin"), ("c", None)):
        at = pa.array([0], pa.timestamp("s", zone))
        pq.write_table(pa.table({"at": at, "y": ["abc".index(name) % 2]}), tmp_path / f"in/{name}.parquet")
    found = take(tmp_path / "in", timezone="Asia/Tokyo").snapshot.table()["at"].to_pylist()
    assert [int(at.timestamp()) for at in found] == [0, 0, -9 * 3600]


def test_duplicate_timestamps_are_kept_and_the_later_row_is_the_last_of_its_key(take, write):
    file = write("a.csv", "k,at,y\na,2024-01-01T00:00:00Z,1\na,2024-01-01T00:00:00Z,0\nb,2024-01-01T00:00:00Z,1\n")
    assert take(file, time="at").snapshot.num_rows == 3
    taken = take(file, time="at", dedupe={"keys": ("k",), "order": "at"})
    assert taken.snapshot.table()["__row"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "name"), [([i / 7 for i in range(9000)], "y"), ([f"{i:020}".encode() for i in range(9000)], "x")]
)
def test_damage_in_a_column_that_is_looked_at_first_is_the_files_and_not_the_stores(take, tmp_path, values, name):
    columns = {"x": range(9000), "y": range(9000)} | {name: values}
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({key: list(column) for key, column in columns.items()}), file, use_dictionary=False)
    start = pq.read_metadata(file).row_group(0).column("xy".index(name)).data_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + 60] = b"\xff" * 60
    file.write_bytes(content)
    with pytest.raises(errors.SourceError, match=r"source 'a.parquet'"):
        take(file)

"""Files as programs and people write them are read as the tables they hold, and what is unusual is told."""

import bz2
import gzip
import lzma
import tempfile
import zipfile

import pytest

from mlsys import errors
from mlsys.readers import base, csv, csv_layout, files, registry
from mlsys.recipe import Reading

BODY = "1;0,5;a\n2;1,5;b\n3;2,5;a\n4;3,5;b\n"
ROWS = {"n": [1, 2, 3, 4], "x": [0.5, 1.5, 2.5, 3.5], "y": ["a", "b", "a", "b"]}


def ended(text):
    """The text with a delimiter at the end of every line."""
    return text.replace("\n", ";\n")


HEADER = "n;x;y\n"
LAYOUTS = {
    "sep": "sep=;\n" + HEADER + BODY,
    "quoted sep": '"sep=;"\r\n' + HEADER + BODY,
    "windows ends": (HEADER + BODY).replace("\n", "\r\n"),
    "old ends": (HEADER + BODY).replace("\n", "\r"),
    "mixed ends": HEADER.replace("\n", "\r\n") + BODY.replace("1;0,5;a\n", "1;0,5;a\r\n"),
    "a mark": "\ufeff" + HEADER + BODY,
    "ends everywhere": ended(HEADER + BODY),
    "ends in rows": HEADER + ended(BODY),
    "an end in the header": ended(HEADER) + BODY,
    "a title": "Report of May\n\n" + HEADER + BODY,
    "titles": "Report\nMade by: me\nfor: you\n" + HEADER + BODY,
    "filled titles": "Report;;\n;;\n".replace(";;", "") + HEADER + BODY,
    "comments": "# made by a program\n# version 2\n" + HEADER + BODY,
    "blank lines": "\n\n" + HEADER + BODY + "\n\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_table_is_read_whatever_its_program_puts_around_it(take, write, text):
    taken = take(write("a.csv", text), reading={"delimiter": ";"})
    table = taken.snapshot.table()
    assert {name: table[name].to_pylist() for name in ROWS} == ROWS
    assert taken.report["num_quarantined"] == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_an_encoding_that_the_bytes_prove_is_read(take, write, encoding):
    table = take(write("a.csv", (HEADER + BODY).encode(encoding)), reading={"delimiter": ";"}).snapshot.table()
    assert {name: table[name].to_pylist() for name in ROWS} == ROWS


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed_files_are_unpacked_whatever_they_are_called(take, write, suffix, pack):
    for name in (f"a.csv.{suffix}", "a.csv"):
        table = take(write(name, pack((HEADER + BODY).encode())), reading={"delimiter": ";"}).snapshot.table()
        assert table["n"].to_pylist() == ROWS["n"]


def test_lines_above_the_table_are_told_with_the_line_that_fixes_the_header(take, write):
    taken = take(write("a.csv", "Report\nof May\n\nn,y\n1,a\n2,b\n3,a\n"))
    (message,) = taken.report["warnings"]
    assert message == (
        "'a.csv': the first 2 lines (Report; of May) stand above the table: left out; data.reading.header_line: 4"
    )
    again = take(write("a.csv", "Report\nof May\n\nn,y\n1,a\n2,b\n3,a\n"), reading={"header_line": 4})
    assert again.snapshot.table().equals(taken.snapshot.table())


def test_names_of_rows_without_a_name_are_an_index(take, write):
    table = take(write("a.csv", '"n","y"\n"1",5,"a"\n"2",6,"b"\n"3",7,"a"\n')).snapshot.table()
    assert (table["n"].to_pylist(), table["unnamed_0"].to_pylist()) == ([5, 6, 7], [1, 2, 3])


def test_a_name_that_stands_twice_is_numbered_and_told(take, write):
    taken = take(write("a.csv", "n,n,y\n1,2,a\n3,4,b\n"))
    table = taken.snapshot.table()
    assert (table["n"].to_pylist(), table["n.1"].to_pylist()) == ([1, 3], [2, 4])
    assert taken.report["warnings"] == ["'a.csv': column 'n' stands twice: the later one is 'n.1'"]


def test_records_of_another_width_keep_their_numbers_below_a_title(write):
    fragments = registry.find(write("a.csv", "Report\n\nn,y\n1,a\nshort\n2,b\n3,a,4\n4,b\n"), Reading())
    bad = []
    (batch,) = registry.batches(fragments[0], Reading(), bad)
    assert (batch.rows.tolist(), [(each.row, each.content) for each in bad]) == (
        [0, 2, 4],
        [(1, "short"), (3, "3,a,4")],
    )


def test_a_stray_quote_below_a_title_is_named_by_its_line(write):
    fragments = registry.find(write("a.csv", 'Report\n\nn,y\n1,a\n2,"b" c\n3,a\n4,b\n'), Reading())
    with pytest.raises(errors.SourceError, match="line 5"):
        list(registry.batches(fragments[0], Reading(), []))


def test_a_file_without_a_byte_stops_nothing_and_is_told(take, write):
    write("many/a.csv", "n,y\n1,a\n2,b\n")
    for name in ("b.csv", "c.parquet", "d.jsonl"):
        write(f"many/{name}", "")
    write("many/e.csv.gz", gzip.compress(b""))
    taken = take(write("many/f.csv", "\n").parent)
    assert taken.snapshot.num_rows == 2
    assert taken.report["warnings"] == ["'b.csv' and 4 more: no rows: left out"]
    with pytest.raises(errors.SourceError, match="no rows"):
        take(write("b.csv", ""))


def test_marks_of_programs_and_excluded_files_are_no_data(take, write):
    for name in ("_SUCCESS", ".a.csv.crc", "a.csv.crc", "~$a.csv", "_temporary/b.csv", "old/c.csv", "d.bak.csv"):
        write(f"many/{name}", "broken")
    folder = write("many/a.csv", "n,y\n1,a\n2,b\n").parent
    taken = take(folder, reading={"format": "csv"}, files={"exclude": ["old/*", "*.bak.csv"]})
    assert [source["name"] for source in taken.report["sources"]] == ["a.csv"]


def test_tables_of_an_archive_are_read_each(take, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("north/a.csv", "n,y\n1,a\n")
        archive.writestr("south/b.csv", "n,y\n2,b\n")
        archive.writestr("readme.md", "no table")
        archive.writestr("__MACOSX/._a.csv", "x")
    taken = take(tmp_path / "a.zip")
    assert taken.snapshot.table()["n"].to_pylist() == [1, 2]
    assert [source["name"] for source in taken.report["sources"]] == ["a.zip/north/a.csv", "a.zip/south/b.csv"]


def test_a_temporary_folder_that_takes_no_file_is_told_as_that_and_not_as_damage(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "n,y\n1,a\n2,b\n")
        archive.writestr("b.csv", "n,y\n3,a\n4,b\n")
    monkeypatch.setattr(files, "MEMBER_BYTES", 4)
    fragment = registry.find(tmp_path / "a.zip", Reading())[0]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(errors.SourceError, match="No such file or directory after 12 bytes") as raised:
        fragment.open()
    monkeypatch.undo()
    assert f"expected: room for the file below {tmp_path / 'gone'}" in str(raised.value)


def test_columns_of_folder_names_are_columns_of_the_table(take, write):
    for region, year, n in (("north", "2023", 1), ("north", "2024", 2), ("s%C3%BCd", "2023", 3)):
        write(f"sales/region={region}/year={year}/part-0.csv", f"n,y\n{n},a\n{n},b\n")
    folder = write("sales/region=__HIVE_DEFAULT_PARTITION__/year=2024/part-0.csv", "n,y\n4,a\n").parents[2]
    taken = take(folder)
    table = taken.snapshot.table().sort_by("n")
    assert table["region"].to_pylist() == ["north"] * 4 + ["süd"] * 2 + [None]
    assert table["year"].to_pylist() == [2023, 2023, 2024, 2024, 2023, 2023, 2024]
    assert "columns 'region', 'year': from the names of the folders" in taken.report["warnings"]
    part = take(folder / "region=north" / "year=2023", evolution="accept").snapshot.table()
    assert part["region"].to_pylist() == ["north"] * 2


@pytest.fixture
def read(write):
    """Read a CSV file into rows with their numbers, and its bad records."""

    def run(text, **reading):
        bad, rows = [], []
        (fragment,) = registry.find(write("a.csv", text), Reading(**reading))
        for batch in registry.batches(fragment, Reading(**reading), bad):
            rows += zip(batch.rows.tolist(), batch.table.to_pylist(), strict=True)
        return rows, [(each.row, each.content) for each in bad]

    return run


def test_rows_below_a_record_with_a_value_behind_the_last_delimiter_keep_their_numbers(read, monkeypatch):
    monkeypatch.setattr(csv_layout, "HEAD_BYTES", 64)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    lines = [f"{number};x;" for number in range(60)]
    lines[20], lines[40] = "20;x;y", "40;x;;;"
    rows, bad = read("n;t;\n" + "\n".join(lines) + "\n", delimiter=";")
    assert [number for number, _ in rows] == [int(row["n"]) for _, row in rows]
    assert len(rows) == 58
    assert sorted(bad) == [(20, "20;x;y"), (40, "40;x;;;")]


@pytest.mark.parametrize("broken", ["3;3", "3;3;3;3;3"])
def test_a_broken_row_does_not_hide_that_rows_end_in_a_delimiter(read, broken):
    rows, bad = read(f"n;y\n1;a;\n2;b;\n{broken}\n4;a;\n5;b;\n", delimiter=";")
    assert [row for _, row in rows] == [{"n": n, "y": y} for n, y in (("1", "a"), ("2", "b"), ("4", "a"), ("5", "b"))]
    assert bad == [(2, broken)]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_header_line_far_below_is_honoured(read, ends):
    text = ends.join([*(f"note {number} about the table, with words" for number in range(5_000)), "n,y", "1,a", "2,b"])
    rows, _ = read(text + ends, header_line=5_001)
    assert [row for _, row in rows] == [{"n": "1", "y": "a"}, {"n": "2", "y": "b"}]


def test_a_header_line_behind_the_last_one_is_named(read):
    with pytest.raises(errors.SourceError) as raised:
        read("n,y\n1,a\n2,b\n", header_line=9)
    assert str(raised.value) == (
        "collect: source 'a.csv'\n"
        "  got:      data.reading.header_line: 9, and no name there\n"
        "  expected: the line or row that holds the names of the columns\n"
        "  hint:     correct data.reading.header_line; without it the header is found"
    )


class Counted(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__
    times = 0

    def __eq__(self, other):
        Counted.times += 1
        return str.__eq__(self, other)


def test_many_names_are_told_apart_without_comparing_each_with_each():
    names = [Counted(f"column {number}") for number in range(2_000)]
    assert csv_layout.distinct([*names, names[0]])[0][-1] == "column 0.1"
    with pytest.raises(errors.SourceError, match=r"more than once: column 0\n"):
        base.checked_names(registry.Fragment("a", "a", "csv", 0), [*names, names[0]])
    assert Counted.times < 10 * len(names)

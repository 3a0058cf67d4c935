"""Workbooks as people keep them: titles, several sheets, numbers stored as text, errors, empty rows."""

import datetime as dt

import openpyxl
import pytest

from mlsys import errors

DAY = dt.datetime(2024, 1, 31)  # noqa: DTZ001  (Excel knows no zones)


@pytest.fixture
def save(tmp_path):
    """Save a workbook of sheets by name, each a list of rows."""

    def run(**sheets):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for name, rows in sheets.items():
            sheet = book.create_sheet(name)
            for row in rows:
                sheet.append(row)
        path = tmp_path / "a.xlsx"
        book.save(path)
        return path

    return run


def test_cells_are_numbers_texts_flags_dates_and_times(take, save):
    rows = [["n", "x", "t", "f", "d", "at", "y"]]
    for n in range(4):
        at = DAY + dt.timedelta(hours=n)
        rows.append([n, n + 0.5, "ü" if n else None, n % 2 == 0, DAY, at.replace(minute=1), "ab"[n % 2]])
    table = take(save(Data=rows)).snapshot.table()
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert kinds["n"] == "int64"
    assert (kinds["x"], kinds["f"], kinds["d"], kinds["at"][:9]) == ("double", "bool", "date32[day]", "timestamp")
    assert table["t"].to_pylist() == [None, "ü", "ü", "ü"]
    assert table["at"][1].as_py() == dt.datetime(2024, 1, 31, 1, 1, tzinfo=dt.UTC)


def test_titles_empty_rows_errors_and_numbers_as_text_are_what_they_mean(take, save):
    rows = [["Report of May"], [], ["n", "price", "amount", None, "y"]]
    rows += [[str(n), f"{n},50", "#N/A" if n == 2 else n, None, "ab"[n % 2]] for n in range(5)]
    rows[5:5] = [[], []]
    taken = take(save(Report=rows, Notes=[["by me", "x"]]))
    table = taken.snapshot.table()
    assert table["n"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["price"].to_pylist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert table["amount"].to_pylist() == [0, 1, None, 3, 4]
    about = taken.report["warnings"]
    assert "'a.xlsx': the first 2 rows stand above the table: left out; data.reading.header_line: 3" in about
    assert "'a.xlsx': sheet 'Report' is read, not 'Notes'; data.reading.sheet names another" in about


def test_a_sheet_is_chosen_by_its_name_or_its_number(take, save):
    book = save(One=[["n", "y"], [1, "a"], [2, "b"]], Two=[["n", "y"], [3, "a"], [4, "b"]])
    assert take(book).snapshot.table()["n"].to_pylist() == [1, 2]
    assert take(book, reading={"sheet": "Two"}).snapshot.table()["n"].to_pylist() == [3, 4]
    assert take(book, reading={"sheet": 2}).snapshot.table()["n"].to_pylist() == [3, 4]
    with pytest.raises(errors.SourceError, match="did you mean 'Two'"):
        take(book, reading={"sheet": "Tow"})


def test_a_damaged_workbook_and_an_old_one_are_named(take, save, write):
    book = save(One=[["n", "y"], [1, "a"]])
    write("b.xlsx", book.read_bytes()[:-50])
    with pytest.raises(errors.SourceError, match="a complete file of its format"):
        take(book.with_name("b.xlsx"))
    with pytest.raises(errors.SourceError, match="a file of an old Excel"):
        take(write("c.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)))


def test_an_empty_workbook_has_no_rows(take, save):
    with pytest.raises(errors.SourceError, match="no rows"):
        take(save(One=[]))


def test_a_header_line_far_below_is_honoured_and_one_behind_the_table_named(take, save):
    rows = [
        *([f"note {number}"] for number in range(150)),
        ["n", "x", "y"],
        *([n, n / 2, "ab"[n % 2]] for n in range(4)),
    ]
    book = save(Data=rows)
    table = take(book, reading={"header_line": 151}).snapshot.table()
    assert (table["n"].to_pylist(), table["x"].to_pylist()) == ([0, 1, 2, 3], [0.0, 0.5, 1.0, 1.5])
    with pytest.raises(errors.SourceError, match="header_line: 200, and no name there"):
        take(book, reading={"header_line": 200})

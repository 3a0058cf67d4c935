"""Numbers with marks and dates in other orders are read by what all rows prove, and what was inferred is told."""

import datetime as dt

import pytest

from mlsys import errors
from mlsys.recipe import DataSection


def rows(*columns, header="a;y"):
    """A CSV text of columns, each a list of texts, with a target."""
    lines = [";".join([*cells, "yn"[row % 2]]) for row, cells in enumerate(zip(*columns, strict=True))]
    return "\n".join([header, *lines]) + "\n"


@pytest.fixture
def collect(take, write):
    """Collect a column of texts: its values as stored, and the messages."""

    def run(texts, header="a;y", **data):
        columns = texts if isinstance(texts[0], list) else [texts]
        reading = {"delimiter": ";"} | data.pop("reading", {})
        taken = take(write("a.csv", rows(*columns, header=header)), reading=reading, evolution="accept", **data)
        return taken.snapshot.table().sort_by("__row"), taken.report["notes"]

    return run


NUMBERS = [
    (["1.299,50", "12", "1.234"], [1299.5, 12.0, 1234.0], "a decimal comma, points between thousands, as 1.234,56"),
    (["12,25", "3", "0,5"], [12.25, 3.0, 0.5], "a decimal comma, as 1234,56"),
    (["1,299.50", "12", "1,234"], [1299.5, 12.0, 1234.0], "commas between thousands, as 1,234.56"),
    (["1 299,50", "12\u00a0000", "7"], [1299.5, 12000.0, 7.0], "a decimal comma, blanks between thousands"),
    (["1\u202f299", "12", "3 000 000"], [1299.0, 12.0, 3e6], "blanks between thousands"),
    (["1'299.50", "12", "1’234"], [1299.5, 12.0, 1234.0], "apostrophes between thousands"),
    (["€ 1299", "12 €", "-€3"], [1299.0, 12.0, -3.0], "the sign €, as 1234.56 €"),
    (["$1,299.50", "($2.50)", "$3"], [1299.5, -2.5, 3.0], "the sign $"),
    (["45%", "3,5 %", "-7%"], [45.0, 3.5, -7.0], "a decimal comma, the sign %, as 1234,56 %"),
    (["12,50-", "1.000,00", "3,00"], [-12.5, 1000.0, 3.0], "a decimal comma"),
    (["1.299,-", "12,50", "5,--"], [1299.0, 12.5, 5.0], "a decimal comma"),
    (["1,5E+05", "2,5e-1", "3"], [150000.0, 0.25, 3.0], "a decimal comma"),
    (["12,34,567.8", "1,234", "5"], [1234567.8, 1234.0, 5.0], "commas between thousands"),
    (["CHF 1'234.50", "CHF 12.-", "CHF 3"], [1234.5, 12.0, 3.0], "the sign CHF"),
]


@pytest.mark.parametrize(("texts", "values", "words"), NUMBERS, ids=[texts[0] for texts, *_ in NUMBERS])
def test_numbers_with_marks_are_read_and_told_with_the_line_that_fixes_them(collect, texts, values, words):
    table, notes = collect(texts * 3)
    assert table["a"].to_pylist() == values * 3
    (message,) = notes
    assert words in message
    assert message.startswith("column 'a': 9 of 9 values read as numbers with")
    line = message.partition("data.reading.")[2].partition("}")[0]
    assert line.startswith('notations: {"a": "')


@pytest.mark.parametrize("texts", [
    ["1-", "2", "3+"],  # grades
    ["192.168.1.1", "10.0.0.1", "10.100.200.30"],
    ["030 123 45", "040 555 66", "089 777 88"],
    ["€ 5", "$ 6", "£ 7"],  # amounts of several currencies are no one number
    ["1.2.10", "1.3.11", "2.0.1"],
    ["10-20%", "20-30%", "5%"],
    ["3 of 4", "2 of 4", "1 of 4"],
    ["1,2,3", "1,4", "2,3"],
    ["12/30", "11/30", "10/30"],
    ["007,1", "x", "y"],
])  # fmt: skip
def test_texts_that_only_look_alike_stay_texts(collect, texts):
    table, notes = collect(texts * 3)
    assert (table["a"].to_pylist(), notes) == (texts * 3, [])


def test_a_comma_before_three_digits_means_what_other_columns_prove(collect):
    assert collect(["1,234", "987", "2,345"])[0]["a"].to_pylist() == [1234.0, 987.0, 2345.0]
    table, notes = collect([["1,234", "987", "2,345"], ["0,5", "1,5", "2"]], "a;b;y")
    assert table["a"].to_pylist() == [1.234, 987.0, 2.345]
    assert "though no row proves it" in notes[0]
    table, _ = collect([["1.234", "987", "2.345"], ["0,5", "1,5", "2"]], "a;b;y")
    assert table["a"].to_pylist() == [1234.0, 987.0, 2345.0]
    assert collect(["1.234", "987", "2.345"])[0]["a"].to_pylist() == [1.234, 987.0, 2.345]


def day(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC) if len(parts) > 3 else dt.date(*parts)


DATES = [
    (["03/01/2024", "13/01/2024", "4/2/2024"], "%d/%m/%Y", [day(2024, 1, 3), day(2024, 1, 13), day(2024, 2, 4)]),
    (["3/1/2024", "01/13/2024", "4/2/2024"], "%m/%d/%Y", [day(2024, 3, 1), day(2024, 1, 13), day(2024, 4, 2)]),
    (["03.01.2024", "04.01.2024", "05.01.2024"], "%d.%m.%Y", [day(2024, 1, 3), day(2024, 1, 4), day(2024, 1, 5)]),
    (["2024/01/31", "2024/2/1", "2024/03/01"], "%Y/%m/%d", [day(2024, 1, 31), day(2024, 2, 1), day(2024, 3, 1)]),
    (["31.01.24", "01.02.24", "01.12.69"], "%d.%m.%y", [day(2024, 1, 31), day(2024, 2, 1), day(1969, 12, 1)]),
    (["01JAN2024", "15MAR1960", "2FEB2023"], "%d %b %Y", [day(2024, 1, 1), day(1960, 3, 15), day(2023, 2, 2)]),
    (["31. Januar 2024", "1. März 2024", "2 Dez 24"], "%d %b %Y",
     [day(2024, 1, 31), day(2024, 3, 1), day(2024, 12, 2)]),
    (["Jan 5, 2024", "March 6 2024", "Dec. 7, 2024"], "%b %d %Y", [day(2024, 1, 5), day(2024, 3, 6), day(2024, 12, 7)]),
    (["2024-1-5", "2024-12-31", "2024-02-3"], "%Y-%m-%d", [day(2024, 1, 5), day(2024, 12, 31), day(2024, 2, 3)]),
    (["03/01/2024 00:30", "13/01/2024 1:15", "14/01/2024"], "%d/%m/%Y",
     [day(2024, 1, 3, 0, 30), day(2024, 1, 13, 1, 15), day(2024, 1, 14, 0)]),
    (["1/3/2024 12:05:01 AM", "1/13/2024 3:15 PM", "1/14/2024 12:00 PM"], "%m/%d/%Y",
     [day(2024, 1, 3, 0, 5, 1), day(2024, 1, 13, 15, 15), day(2024, 1, 14, 12)]),
    (["01JAN2024:12:30:00", "02FEB2024:00:00:59", "03MAR2024:01:02:03.5"], "%d %b %Y",
     [day(2024, 1, 1, 12, 30), day(2024, 2, 2, 0, 0, 59), day(2024, 3, 3, 1, 2, 3, 500_000)]),
    (["Mon, 01 Jan 2024 10:00:00 GMT", "Tue, 02 Jan 2024 10:00:00 +0100", "03 Jan 2024 09:00"], "%d %b %Y",
     [day(2024, 1, 1, 10), day(2024, 1, 2, 9), day(2024, 1, 3, 9)]),
]  # fmt: skip


DATES += [
    (["Nov 2018", "December-2018", "Januar 2019"], "%b %Y", [day(2018, 11, 1), day(2018, 12, 1), day(2019, 1, 1)]),
    (["2018-11", "2018-12", "2019-01"], "%Y-%m", [day(2018, 11, 1), day(2018, 12, 1), day(2019, 1, 1)]),
    (["2018 Q4", "2019Q1", "2019-Q2"], "%Y %q", [day(2018, 10, 1), day(2019, 1, 1), day(2019, 4, 1)]),
    (["Q4/2018", "Q1 2019", "Q2-2019"], "%q %Y", [day(2018, 10, 1), day(2019, 1, 1), day(2019, 4, 1)]),
    (["Tuesday, November 20, 2018", "Wed, Nov 21 2018", "Nov 22, 2018"], "%b %d %Y",
     [day(2018, 11, 20), day(2018, 11, 21), day(2018, 11, 22)]),
    (["Tue Nov 20 13:35:10 2018", "Wed Nov  7 00:00:01 +0100 2018", "Thu Nov 22 23:59:59 UTC 2018"],
     "%b %d %H:%M:%S %Y",
     [day(2018, 11, 20, 13, 35, 10), day(2018, 11, 6, 23, 0, 1), day(2018, 11, 22, 23, 59, 59)]),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "notation", "values"), DATES, ids=[texts[0] for texts, *_ in DATES])
def test_dates_in_other_orders_are_read_and_told(collect, texts, notation, values):
    table, (message,) = collect(texts * 3)
    assert table["a"].to_pylist() == values * 3
    assert f"9 of 9 values read as dates written {notation}" in message
    assert f'data.reading.notations: {{"a": "{notation}"}}' in message


UNITS = ["kg", " min", "GB", " km/h", "m²", "°C", " Jahre"]


@pytest.mark.parametrize("unit", UNITS)
def test_numbers_with_a_unit_are_numbers_if_many_differ_and_all_have_the_same(collect, unit):
    table, (message,) = collect([f"{number / 4}{unit}" for number in range(1, 41)])
    assert table["a"].to_pylist() == [number / 4 for number in range(1, 41)]
    assert f"the unit {unit.strip()}" in message
    written = message.partition('{"a": "')[2].partition('"')[0]
    table, notes = collect([f"{number / 4}{unit}" for number in range(1, 41)], reading={"notations": {"a": written}})
    assert (table["a"][0].as_py(), notes) == (0.25, [])


@pytest.mark.parametrize("texts", [
    [f"{number}{'AB'[number % 2]}" for number in range(40)],  # codes
    [f"{number} months" for number in (12, 24, 36, 60)] * 10,  # a few, which are a category
    [f"{number:03d}A" for number in range(40)],
    [f"{number}{unit}" for number in range(40) for unit in ("th", "st")],
    [f"{number} of 50" for number in range(40)],
    [f"{year}-{year % 100 + 1:02d}" for year in range(1990, 2019)],  # seasons
])  # fmt: skip
def test_codes_with_letters_and_few_values_with_a_unit_stay_texts(collect, texts):
    table, notes = collect(texts)
    assert (table["a"].to_pylist(), notes) == (texts, [])


def test_one_row_of_two_hundred_thousand_proves_which_number_is_the_day(collect):
    texts = ["03/01/2024"] * 199_999 + ["13/01/2024"]
    table, (message,) = collect(texts)
    assert table["a"][0].as_py() == dt.date(2024, 1, 3)
    assert "no row" not in message


def test_dates_that_no_row_decides_follow_other_columns_or_the_usual_and_it_is_told(collect):
    open_ended = ["03/01/2024", "04/01/2024", "05/01/2024"]
    table, (message,) = collect(open_ended)
    assert table["a"][0].as_py() == dt.date(2024, 3, 1)
    assert "no row tells the day from the month" in message
    table, _ = collect([open_ended, ["13/01/2024", "1/1/2024", "2/1/2024"]], "a;b;y")
    assert table["a"][0].as_py() == dt.date(2024, 1, 3)
    table, notes = collect(open_ended, reading={"notations": {"a": "%d/%m/%Y"}})
    assert (table["a"][0].as_py(), notes) == (dt.date(2024, 1, 3), [])


def test_dates_in_two_orders_stay_text_and_it_is_told(collect):
    table, (message,) = collect(["13/01/2024", "01/13/2024", "01/02/2024"])
    assert table["a"][0].as_py() == "13/01/2024"
    assert message.startswith("column 'a' holds dates in two orders and stays text: 2 of 3 can be day first, 2 month")


def test_ranges_of_dates_are_no_second_order(collect):
    """Each date that can be day first can be month first, too; the ranges are neither."""
    texts = ["01/31/2024", "02/01/2024", "01/02/2024 - 02/20/2024"] * 3
    table, notes = collect(texts)
    assert (table["a"].to_pylist(), notes) == (texts, [])


def test_iso_dates_among_others_are_read(collect):
    table, _ = collect(["13/01/2024", "2024-01-14 10:00", "15/01/2024"] * 3)
    assert table["a"][:2].to_pylist() == [day(2024, 1, 13, 0), day(2024, 1, 14, 10)]


def test_a_kind_of_the_recipe_keeps_the_text_or_asks_for_numbers(collect):
    assert collect(["1,5", "2,5", "x"] * 3, kinds={"a": "categorical"})[0]["a"][0].as_py() == "1,5"
    table, _ = collect(["1,5", "2,5"] * 300 + ["x"], kinds={"a": "numeric"})
    assert table["a"][0].as_py() == 1.5


def test_a_notation_by_directives_of_strptime_is_read(collect):
    table, _ = collect(["20240131", "20240201"], reading={"notations": {"a": "%Y%m%d"}})
    assert table["a"].to_pylist() == [dt.date(2024, 1, 31), dt.date(2024, 2, 1)]
    table, _ = collect(["20240131 1005", "20240201 2310"], reading={"notations": {"a": "%Y%m%d %H%M"}})
    assert table["a"][0].as_py() == day(2024, 1, 31, 10, 5)


def test_a_notation_that_is_none_is_refused_with_examples():
    with pytest.raises(ValueError, match=r'a notation: "1.234,56", "1 234,56 €"'):
        DataSection(source="a.csv", reading={"notations": {"a": "comma"}})


def test_numbers_of_json_have_no_notation_and_its_texts_do(take, write):
    lines = "".join(
        f'{{"a": "{a}", "b": {b}, "c": "0,5", "y": {y}}}\n' for a, b, y in [("1.234,5", 1.234, 0), ("2", 5.678, 1)]
    )
    table = take(write("a.jsonl", lines)).snapshot.table()
    assert (table["a"].to_pylist(), table["b"].to_pylist()) == ([1234.5, 2.0], [1.234, 5.678])


def test_the_schema_file_holds_the_notation_and_enforces_it(collect, tmp_path):
    collect(["1.299,50", "12", "1.234"] * 3)
    written = (tmp_path / "run" / "schema.yaml").read_text()
    assert "notation: '1.234,56'" in written
    (tmp_path / "contract.yaml").write_text(written)
    table, notes = collect(["1.299", "12", "1.234"] * 3, contract=str(tmp_path / "contract.yaml"))
    assert (table["a"][0].as_py(), notes) == (1299.0, [])


def test_values_that_a_notation_does_not_read_are_missing_if_it_was_inferred_and_rejected_if_it_was_given(collect):
    with pytest.raises(errors.ContractError, match="not double"):
        collect(["1,5"] * 50 + ["x"], max_bad_fraction=0.005, reading={"notations": {"a": "1234,56"}})
    table, notes = collect(["1,5"] * 500 + ["x", "y", "-", "n/a"])
    assert (table["a"].null_count, table.num_rows) == (4, 504)
    assert "500 of 502 values read as numbers with a decimal comma" in notes[0]

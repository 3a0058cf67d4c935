"""A page of years shows the latest windows one by one and folds those before by month."""

from __future__ import annotations

import datetime as dt

from mlsys.monitor import judge, report, report_months
from mlsys.monitor.report_months import MAX_SHOWN
from traffic import MONDAY, Traffic

ZONE = "America/New_York"


def windows(number, start=MONDAY, **others):
    """Windows of a day each, in which every third is degraded."""
    days = (start + dt.timedelta(days=place) for place in range(number))
    return [
        {"start": day.isoformat(), "verdict": "ok" if place % 3 else "degraded", "alarms": [], "num_rows": 10, **others}
        for place, day in enumerate(days)
    ]


def shift(excess, *, alarmed=False):
    return {"a": {"excess": excess, "alarmed": alarmed}}


def test_months_are_those_of_the_time_zone():
    """31 days of January in UTC; in New York the first of them begins in December."""
    months = report_months.months(windows(MAX_SHOWN + 32), ZONE)
    assert [(name, len(places)) for name, places in months] == [("Dec 2023", 1), ("Jan 2024", 31)]


def test_few_windows_are_not_folded():
    days = windows(MAX_SHOWN)
    shifts = [shift(number) for number in range(MAX_SHOWN)]
    assert report_months.folded(days, list("x" * MAX_SHOWN), shifts, "UTC") == (list("x" * MAX_SHOWN), shifts)
    assert report_months.table(days, "UTC") == ""
    assert report_months.note(MAX_SHOWN) == ""


def test_a_month_has_its_largest_shift_and_an_alarm_before_larger_ones():
    shifts = [shift(0.1), shift(0.3), shift(0.2, alarmed=True), *[shift(0.0)] * MAX_SHOWN]
    names, folded = report_months.folded(windows(len(shifts)), ["day"] * len(shifts), shifts, "UTC")
    assert names == ["Jan 2024", *["day"] * MAX_SHOWN]
    assert folded[0] == {"a": {"excess": 0.2, "alarmed": True}}
    assert len(folded) == MAX_SHOWN + 1


def test_the_table_counts_verdicts_and_alarms_of_a_month():
    alarms = {"alarms": [{"columns": ["a"]}, {"columns": ["a", "b"]}]}
    days = [*windows(3, **alarms), *windows(MAX_SHOWN, MONDAY + dt.timedelta(days=3))]
    table = report_months.table(days, "UTC")
    assert "3 earlier windows by month" in table
    cells = [cell.partition("<")[0] for cell in table.partition("<tbody")[2].replace("<th", "<td").split("<td")[1:]]
    assert [cell.rpartition(">")[2] for cell in cells] == ["Jan 2024", "3", "30", "2", "0", "1", "0", "6", "a, b"]


def grown(value, number):
    """A judgement with its windows again and again, on days of their own."""
    starts = [(MONDAY + dt.timedelta(days=place)).isoformat() for place in range(number)]
    every = [value["windows"][place % 2] for place in range(number)]
    columns = [{**each, "windows": (each["windows"] * number)[:number]} for each in value["columns"]]
    windows = [{**window, "start": start} for window, start in zip(every, starts, strict=True)]
    return {**value, "columns": columns, "windows": windows}


def test_a_page_has_a_row_and_a_column_for_an_earlier_month_and_none_for_its_windows(world):
    """So it grows with the months: with each by a row of the table and by a cell a column of the heat map."""
    world.write([Traffic.draw(500, 1), Traffic.draw(500, 2, shift=0.9)])
    value = judge.compare(
        world.store, "world", world.bundle, world.folder, None, world.recipe(), baseline=world.baseline
    ).value
    few, one, two = (grown(value, number) for number in (MAX_SHOWN, 366, 731))
    num_months = [len(report_months.months(each["windows"], "UTC")) for each in (few, one, two)]
    # 2024 has 366 days, of which 304 are folded, to 30 October; 669 of both years, to 30 October 2025
    assert num_months == [0, 10, 22]
    shown, year, years = map(report.page, (few, one, two))
    for page, number in zip((shown, year, years), num_months, strict=True):
        assert page.count('class="empty cell"') == len(value["columns"]) * (MAX_SHOWN + number)
    assert years.count("<tr") - year.count("<tr") == 12
    assert "The last 62 of 366 windows are shown one by one, those before by month: its worst." in year
    assert "one by one" not in shown

"""The reports of a wide table, opened in a browser: silent, small, sortable, and they fit a phone."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import searches
from browser import Browser
from mlsys.dataset import PARTS, Split
from mlsys.explore import document, leakage, scan
from mlsys.explore.report import page as explore_page
from mlsys.features import plan, program
from mlsys.features.report import page as features_page
from mlsys.recipe import FeaturesSection
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema, Task
from mlsys.selection.report import page as selection_page
from mlsys.tune.report import page as tune_page

NUM_ROWS, NUM_NUMBERS, NUM_CATEGORIES = 1_500, 69, 30
TASK = Task(kind="binary", target="y", classes=("no", "yes"))
KINDS = {"double": Kind.NUMERIC, "string": Kind.CATEGORICAL, "timestamp[us, tz=UTC]": Kind.DATETIME}


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of a table of 100 columns: numbers that go together and have gaps, categories, a time."""
    folder = tmp_path_factory.mktemp("report")
    split = wide_split(folder)
    profile = scan.profile(split, TASK)
    shown = document.describe(split, TASK, profile, leakage.scan(split, TASK, profile), title="wide")
    plans = {e: plan.choose(split.schema, profile.whole, FeaturesSection(), e) for e in ("codes", "dense")}
    programs = {e: program.fit(chosen, profile.whole) for e, chosen in plans.items()}
    made = {"explore": explore_page(shown), "features": features_page(plans, programs, "wide")}
    made |= {"selection": selection_page(searches.comparison("wide", growing=True))}
    made |= {"tune": tune_page(searches.search("wide", number=100))}
    for name, page in made.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def report(pages):
    """The exploratory one."""
    return pages["explore"]


def wide_split(folder):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(NUM_ROWS, 5))
    y = hidden[:, 0] + rng.normal(size=NUM_ROWS) > 0.5
    columns = {}
    for at in range(NUM_NUMBERS):
        x = hidden[:, at % 5] * (at % 7) + rng.normal(size=NUM_ROWS)
        absent = hidden[:, (at + 1) % 5] > 1 if at % 3 == 0 else np.zeros(NUM_ROWS, bool)
        columns[f"number_{at}"] = pa.array(np.exp(x) if at % 4 == 0 else x, mask=absent)
    for at in range(NUM_CATEGORIES):
        values = rng.integers(0, 2 + 4 * at, NUM_ROWS) + (hidden[:, at % 5] > 0)
        columns[f"category_with_a_long_name_{at}"] = pa.array([f"value {v} <&>" for v in values])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    columns["opened_at"] = pa.array([start + dt.timedelta(hours=3 * h) for h in range(NUM_ROWS)])
    table = pa.table({**columns, "at": columns["opened_at"], "y": np.where(y, "yes", "no")})
    roles = {"y": Role.TARGET, "at": Role.TIME}
    fields = [
        Column(name=f.name, type=str(f.type), kind=KINDS[str(f.type)], role=roles.get(f.name, Role.FEATURE))
        for f in table.schema
    ]
    table = table.append_column(ROW, pa.array(np.arange(NUM_ROWS)))
    table = table.append_column(FOLD, pa.array(np.arange(NUM_ROWS) % 3, pa.int8()))
    (folder / "train").mkdir()
    pq.write_table(table, folder / "train" / "part-00000.parquet")
    rows = {part: NUM_ROWS if part == "train" else 0 for part in PARTS}
    return Split("0" * 64, folder, Schema(columns=tuple(fields)), rows, 3, forward=True)


@pytest.mark.parametrize(
    ("name", "title", "rows", "number"),
    [
        ("explore", "Exploration: wide", "#column-list tbody tr", 100),
        ("features", "Features: wide", "section tbody tr", 100),
        ("selection", "Selection: wide", "#leaderboard tbody tr", 7),
        ("tune", "Tuning: wide", "#trial-list tbody tr", 100),
    ],
)
def test_a_report_opens_without_an_error_and_asks_the_network_for_nothing(browser, pages, name, title, rows, number):
    tab = browser.open(pages[name])
    assert tab.evaluate("document.title") == title
    names = f"new Set([...document.querySelectorAll('{rows}')].map(row => row.cells[0].textContent))"
    assert tab.evaluate(f"{names}.size") == number
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.complaints() == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('broken')</script>", "console error: ['broken']"),
        ("<script>undefined_name()</script>", "exception: Uncaught"),
        ("<script>setTimeout(() => { throw Error('late') }, 50)</script>", "exception: Uncaught"),
        ("<img src='http://127.0.0.1:9/a.png'>", "request: http://127.0.0.1:9/a.png"),
        ("<script>fetch('http://127.0.0.1:9/b').catch(() => 0)</script>", "request: http://127.0.0.1:9/b"),
        ("<link rel=stylesheet href='style.css'>", "request: file:///"),
    ],
)
def test_a_page_that_is_not_silent_would_be_found(browser, tmp_path, body, complaint):
    (tmp_path / "page.html").write_text(f"<!doctype html><link rel=icon href='data:,'>{body}")
    assert any(found.startswith(complaint) for found in browser.open(tmp_path / "page.html").complaints())


def test_the_policy_of_the_page_forbids_what_would_ask_the_network(browser, report, tmp_path):
    page = report.read_text().replace("</main>", "<img src='http://127.0.0.1:9/a.png'></main>")
    (tmp_path / "page.html").write_text(page)
    assert any("Content Security Policy" in found for found in browser.open(tmp_path / "page.html").complaints())


def test_a_report_of_100_columns_is_below_3_megabytes(report):
    assert report.stat().st_size < 3_000_000


CELLS = "[...document.querySelectorAll('#column-list tbody tr')].map(row => row.cells[{0}].dataset.v)"


def test_a_click_on_a_heading_sorts_the_columns_and_another_turns_them_round(browser, report):
    tab = browser.open(report)
    before = tab.evaluate(CELLS.format(5))
    tab.click("#column-list thead th:nth-child(6) button")  # missing
    falling = [float(value) for value in tab.evaluate(CELLS.format(5))]
    assert falling == sorted(map(float, before), reverse=True)
    assert falling[0] > falling[-1]
    tab.click("#column-list thead th:nth-child(6) button")
    assert [float(value) for value in tab.evaluate(CELLS.format(5))] == falling[::-1]
    assert tab.evaluate("document.querySelector('#column-list th[aria-sort]').textContent") == "missing"


def test_the_keyboard_sorts_too(browser, report):
    tab = browser.open(report)
    tab.evaluate("document.querySelector('#column-list thead th:nth-child(7) button').focus()")  # distinct
    tab.press("Enter", "\r")
    found = [float(value) for value in tab.evaluate(CELLS.format(6))]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("name", "table", "place"), [("selection", "#leaderboard table", 2), ("tune", "#trial-list", 3)]
)
def test_the_keyboard_sorts_candidates_and_trials(browser, pages, name, table, place):
    tab = browser.open(pages[name])
    tab.evaluate(f"document.querySelector('{table} thead th:nth-child({place}) button').focus()")
    tab.press("Enter", "\r")
    cells = f"[...document.querySelectorAll('{table} tbody tr')].map(row => Number(row.cells[{place - 1}].dataset.v))"
    falling = tab.evaluate(cells)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]
    tab.press("Enter", "\r")
    assert tab.evaluate(cells) == falling[::-1]
    assert tab.complaints() == []


def test_trials_are_searched_by_their_family(browser, pages):
    tab = browser.open(pages["tune"])
    tab.evaluate("document.querySelector('#trials input').focus()")
    tab.type("xgboost")
    shown = "[...document.querySelectorAll('#trial-list tbody tr')].filter(row => !row.hidden)"
    families = tab.evaluate(f"{shown}.map(row => row.cells[1].textContent)")
    assert set(families) == {"xgboost"}
    assert tab.evaluate("document.querySelector('#trials output').textContent") == f"{len(families)} of 100"


def test_typing_into_the_search_leaves_the_columns_that_match(browser, report):
    tab = browser.open(report)
    tab.evaluate("document.querySelector('#columns input').focus()")
    tab.type("long_name_2 ")
    rows = "[...document.querySelectorAll('#column-list tbody tr')]"
    shown = tab.evaluate(f"{rows}.filter(row => !row.hidden).map(row => row.cells[0].textContent)")
    assert sorted(shown) == sorted(f"category_with_a_long_name_{at}" for at in (2, *range(20, 30)))
    assert tab.evaluate("document.querySelector('#columns output').textContent") == "11 of 100"
    assert tab.complaints() == []


def test_a_link_in_the_table_opens_the_card_of_the_column(browser, report):
    tab = browser.open(report)
    closed = "document.querySelector('#columns details:not([open])[id]')"
    place = tab.evaluate(f"{closed}.id")
    tab.click(f"#columns a[href='#{place}']")
    tab.settle()
    assert tab.evaluate(f"document.getElementById('{place}').open")


@pytest.mark.parametrize("name", ["explore", "features", "selection", "tune"])
@pytest.mark.parametrize("width", [320, 360, 1200])
def test_a_page_never_scrolls_sideways_only_its_tables_and_wide_drawings_do(browser, pages, name, width):
    tab = browser.open(pages[name], width=width)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    scrolled = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg'))"
    beyond = "e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5"
    assert tab.evaluate(f"{scrolled}.filter(e => {beyond}).map(e => e.outerHTML.slice(0, 90))") == []
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

"""Pages: escaped, self-contained, readable by machines that check HTML."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.reports import charts, page
from mlsys.reports.page import Html, Page

VOID = {"meta", "link", "br", "img"}


class Checker(HTMLParser):
    """Every opened element is closed, in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.names, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.stack == []
    return checker


@given(st.text(min_size=1))
def test_no_text_can_become_markup(text):
    blocks = [
        text, page.facts([(text, text, text)]), page.table([[text]], [text], caption=text, sortable=True),
        page.alert("warn", text, text), page.badge("good", text), page.bullets([text]), page.details(text, text),
        page.figure(charts.bars([text], [1], title=text), text), page.code(text), page.heading(text),
    ]  # fmt: skip
    plain = parsed(Page("t", "s").section("x", *(["a"] * len(blocks))).html())
    made = parsed(Page(text, text).section(text, *blocks).html())
    assert "b" not in plain.names
    assert made.names.count("script") == 1  # the one that sorts tables
    assert made.names.count("style") == 1


def test_angle_brackets_arrive_as_text():
    html = Page("<script>alert(1)</script>").section("<b>", "<i>").html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_finished_html_is_kept():
    assert page.paragraph("a < ", Html("<b>b</b>")) == "<p>a &lt; <b>b</b></p>"


def test_a_page_asks_the_network_for_nothing_and_the_browser_enforces_it():
    html = Page("t").section("s", page.table([[1]], ["a"], sortable=True)).html()
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)|url\(|@import|https?://""", html)


def test_the_script_is_there_only_for_a_table_that_sorts():
    assert "<script>" not in Page("t").section("s", page.table([[1]], ["a"])).html()
    assert "<script>" in Page("t").section("s", page.table([[1]], ["a"], sortable=True)).html()


def test_three_sections_have_a_contents_line_that_leads_to_them():
    html = Page("t").section("One", "a").section("Two & more", "b").section("One", "c").html()
    assert (
        re.findall(r'<a href="#([^"]+)"', html)
        == ["one", "two-more", "one-3"]
        == re.findall(r'<section id="([^"]+)"', html)
    )
    assert "<nav" not in Page("t").section("One", "a").section("Two", "b").html()


def test_blocks_that_are_nothing_are_left_out():
    assert "<p></p>" not in Page("t").section("s", "", None, Html("")).html()


def test_numbers_are_right_aligned_and_carry_their_value_for_sorting():
    html = page.table([["a", 1234.5], ["b", None]], ["name", "value"])
    assert '<td class="r" data-v="1234.5">1,234</td>' in html
    assert '<td class="r" data-v="">–</td>' in html


def test_alignment_can_be_given():
    assert page.table([["x", "y"]], ["a", "b"], align="cw").count('class="c"') == 2


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        page.table([[1, 2]], ["a"])


def test_cells_take_what_tables_hold():
    cells = [np.float64(0.5), np.int64(7), True, datetime(2013, 11, 4, 5, 30, tzinfo=UTC), float("nan"), None]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page.table([cells], list("abcdef"))) == [
        "0.5000",
        "7",
        "yes",
        "2013-11-04 05:30",
        "–",
        "–",
    ]


def test_a_table_without_rows_keeps_its_head():
    assert '<th scope="col">a</th>' in page.table([], ["a"])


def test_a_table_can_be_scrolled_with_the_keyboard_and_has_a_name():
    assert page.table([[1]], ["a"], caption="Columns").startswith(
        '<div class="scroll" tabindex="0" role="region" aria-label="Columns">'
    )


def test_a_cell_can_be_sorted_by_another_value_than_it_shows():
    html = page.table([[page.Cell("12 %", 0.12)], [page.Cell("–", None)]], ["share"], sortable=True)
    assert '<td data-v="0.12">12 %</td><' in html
    assert '<td data-v="">–</td>' in html


def test_a_column_without_a_value_to_sort_by_has_no_button():
    html = page.table([[page.Cell("a", None), 1]], ["drawing", "n"], sortable=True)
    assert html.count("<button") == 1


def test_a_search_says_what_it_searches_and_brings_the_script():
    html = Page("t").section("s", page.search("Find <it>", "#a > b")).html()
    assert 'data-what="#a &gt; b"' in html
    assert "Find &lt;it&gt;" in html
    assert "<script>" in html

"""The page of a comparison: who is where, and that no text of a table becomes markup."""

import re

import pytest

import searches
from mlsys.selection import report


def text(page):
    """The words of a page, without markup and drawings."""
    body = re.sub(r"<(svg|style|script).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def rows(page, section):
    """Cells of the first table of a section."""
    part = page[page.index(f'<section id="{section}"') :].partition("</table>")[0].partition("<tbody>")[2]
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<td.*?</td>", row)]
        for row in part.split("<tr>")[1:]
    ]


def test_candidates_are_listed_best_first_with_what_they_are():
    page = report.page(searches.comparison())
    board = rows(page, "leaderboard")
    assert board[0][0] == "lightgbm, target means best preferred"
    assert board[-1][0].split()[0] == "dummy"
    left = {cells[0].removesuffix(" left").removesuffix(" tied") for cells in board if "left" in cells[0]}
    assert left == set(searches.LEFT) & set(searches.LEVELS)
    assert {cells[-1] for cells in board if cells[0].endswith("left")} == {"2"}


def test_who_left_has_its_reason_and_no_text_is_markup():
    page = report.page(searches.comparison())
    reasons = rows(page, "who-left-and-why")
    assert [cells[0] for cells in reasons] == list(searches.LEFT)
    assert "3 &lt;b&gt;texts&lt;/b&gt; are empty" in page
    assert "<said>" not in page


def test_scores_of_who_left_stand_below_the_last_folds():
    document = searches.comparison()
    entry = next(entry for entry in document["ranking"]["entries"] if report.name_of(entry) == "linear")
    cells = next(cells for cells in rows(report.page(document), "folds") if cells[0] == "linear")
    assert cells[1:4] == ["–"] * 3
    assert [float(cell) for cell in cells[4:]] == pytest.approx(entry["scores"], abs=1e-4)


def test_folds_that_grow_give_a_learning_curve_and_others_do_not():
    assert "roc_auc by rows fitted on" in report.page(searches.comparison(growing=True))
    assert "by rows fitted on" not in report.page(searches.comparison())


def test_the_frontier_is_what_nothing_beats_in_score_and_latency_at_once():
    entries = [
        {"family": name, "form": "", "mean": mean, "predict_us_per_row": us}
        for name, mean, us in (("fast", 0.7, 1.0), ("good", 0.9, 5.0), ("slow", 0.8, 6.0), ("same", 0.9, 5.0))
    ]
    badged = {entry["family"]: "frontier" in report._frontier_name(entry, entries, 1) for entry in entries}
    assert badged == {"fast": True, "good": True, "slow": False, "same": True}


def test_where_nothing_beats_the_dummy_the_page_says_so():
    document = searches.comparison()
    for entry in document["ranking"]["entries"]:
        entry["mean"] = 0.5 if entry["family"] == "dummy" else 0.45
    document["ranking"] |= {"best": "dummy", "preferred": "dummy"}
    assert "Nothing beats the dummy" in text(report.page(document | {"family": "dummy"}))


def test_what_was_decided_is_written_as_lines_of_a_recipe():
    assert "features:\n  columns:\n    code:\n    - target" in report.page(searches.comparison())


def test_one_candidate_alone_has_a_page():
    document = searches.comparison()
    only = [entry for entry in document["ranking"]["entries"] if report.name_of(entry) == "xgboost"]
    ranking = document["ranking"] | {"entries": only, "best": "xgboost", "preferred": "xgboost", "left": {}}
    assert "1 candidate × 5 folds" in report.page(document | {"ranking": ranking, "family": "xgboost"})

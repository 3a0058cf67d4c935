"""Pages of steps 4 and 7: drawn from results, listed with the others, drawn again only where something changed."""

import io
import json

import pytest

from mlsys import recipe, workflow
from mlsys.console import Console
from mlsys.store import Store, digest_of_file
from mlsys.workflow import run_record

RECIPE = """
name: NAME
target: target
data: {source: "sklearn://wine"}
selection: {families: [linear]}
split: {folds: 2}
tune: {trials: 0}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("store"))


def run(store, name="wine", until="train"):
    text = RECIPE.replace("NAME", name)
    return workflow.run(workflow.Run(recipe.parse(text), store, Console(io.StringIO())), until=until)


def lines(done):
    """The endings of the lines of steps: seconds, or unchanged."""
    words = [line.split() for line in done.console._stream.getvalue().splitlines()]
    return {line[1]: line[-1] for line in words if len(line) > 1 and line[1] in workflow.STEPS}


def times(done):
    return {name: (done.folder / "reports" / f"{name}.html").stat().st_mtime_ns for name in ("selection", "tune")}


def test_both_pages_are_written_and_named_with_their_steps(store):
    done = run(store)
    for name in ("selection", "tune"):
        page = done.folder / "reports" / f"{name}.html"
        assert done.records[name]["report"] == str(page)
        assert page.read_text().startswith("<!doctype html>")
    assert "report" not in done.records["train"]
    phases = json.loads((done.folder / "reports" / "tune.json").read_text())["phases"]
    assert phases["train"] == done.records["train"]["seconds"]
    assert phases["budget"] == pytest.approx(20 + 124 * 13 * 3 / 200_000)  # by rows, columns, classes


def test_a_search_without_its_final_fit_says_that_it_is_missing(store):
    done = run(store, "early", until="tune")
    assert "The final fit is not made yet" in (done.folder / "reports" / "tune.html").read_text()


def test_a_second_run_draws_nothing_and_a_lost_page_is_drawn_again(store):
    before = times(run(store))
    assert times(run(store)) == before
    page = store.root / "runs" / "wine" / "reports" / "selection.html"
    page.unlink()
    again = run(store)
    assert page.is_file()
    assert set(lines(again).values()) == {"unchanged"}
    assert times(again)["tune"] == before["tune"]


def test_a_recipe_of_another_name_has_its_pages_without_comparing_again(store):
    run(store)
    other = run(store, "other")
    assert [lines(other)[step] for step in ("selection", "tune")] == ["unchanged"] * 2
    assert "<title>Selection: other</title>" in (other.folder / "reports" / "selection.html").read_text()


def test_the_record_of_a_run_has_the_digests_of_the_pages_as_they_are(store):
    done = run(store)
    *_, record = run_record.records(store, "wine")
    reports = {step["name"]: step.get("reports", {}) for step in record["steps"]}
    page = done.folder / "reports" / "tune.html"
    assert reports["train"] == {str(page): digest_of_file(page)}
    assert str(done.folder / "reports" / "selection.html") in reports["selection"]

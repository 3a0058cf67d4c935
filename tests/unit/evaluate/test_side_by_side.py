"""Champion and challenger side by side: paired gains of all metrics and of slices, sizes and latency, on one page."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sklearn import metrics as sk

from mlsys import bundle
from mlsys.evaluate import champion, comparison_report, side_by_side
from mlsys.evaluate.intervals import Estimate
from mlsys.predict import Predictor
from mlsys.recipe import EvaluateSection


def known(world, made):
    """The same model, known to be trained on the world's split."""
    parts = {name: getattr(made, name) for name in ("task", "program", "family", "params", "threshold", "example")}
    parts |= {"model": made.model(), "reference": made.reference, "provenance": {"split": world.split.digest}}
    return bundle.write(world.store, schema=world.split.schema, **parts)


@pytest.fixture
def compared(make_world, kind):
    """A linear model against a dummy, as a comparison in JSON values."""
    world, dummy = make_world(kind), make_world(kind, family="dummy")
    return world, compare(world, dummy)


def compare(world, other, **settings):
    section = {"bootstrap": 60, "min_slice_rows": 30} | settings
    world.recipe = world.recipe.model_copy(update={"evaluate": EvaluateSection(**section)})
    made = [known(world, each.bundle) for each in (world, other)]
    found = champion.compare(world.store, *made, world.split, world.recipe).to_json()
    return json.loads(json.dumps(found, allow_nan=False))


def test_all_metrics_have_both_values_and_the_decided_one_has_the_gain_of_the_decision(compared):
    _, found = compared
    listed = {each["name"]: each for each in found["beside"]["metrics"]}
    asked = listed[found["metric"]]
    assert (asked["challenger"], asked["champion"]) == (found["challenger_value"], found["champion_value"])
    assert asked["gain"]["value"] == pytest.approx(found["gain"]["value"])
    assert asked["gain"]["low"] == pytest.approx(found["gain"]["low"])
    assert all(each["better"] in ("higher", "lower") for each in listed.values())


def test_a_gain_is_positive_where_the_new_model_is_better_whichever_way_the_metric_goes(compared):
    for each in compared[1]["beside"]["metrics"]:
        if each["challenger"] is None or each["champion"] is None or each["gain"]["value"] == 0:
            continue
        is_better = each["challenger"] > each["champion"] if each["better"] == "higher" else (
            each["challenger"] < each["champion"]
        )  # fmt: skip
        assert (each["gain"]["value"] > 0) == is_better


def test_slices_have_the_metric_of_their_rows(make_world):
    world, dummy = make_world("binary"), make_world("binary", family="dummy")
    found = compare(world, dummy)["beside"]["slices"]
    table = world.split.table("test")
    origin, y = np.array(table["origin"].to_pylist()), np.array(table["y"].to_pylist())
    p = Predictor(world.bundle).table(table).probabilities[:, 1]
    rows = {row["slice"]: row for row in found["rows"] if row["column"] == "origin"}
    assert set(rows) == {"EWR", "JFK", "LGA"}
    for name, row in rows.items():
        assert row["challenger"] == pytest.approx(sk.roc_auc_score(y[origin == name], p[origin == name]))
        assert (row["champion"], row["certain"]) == (0.5, "better")
    gains = [row["gain"]["value"] for row in found["rows"]]
    assert gains == sorted(gains)


def test_a_slice_is_marked_beyond_the_errors_of_all_of_them_alone():
    assert side_by_side.certainty(Estimate(-0.3, error=0.1), 2.5) == "worse"
    assert side_by_side.certainty(Estimate(-0.2, error=0.1), 2.5) == ""
    assert side_by_side.certainty(Estimate(0.2, error=float("nan")), 2.5) == ""


def test_the_same_model_twice_has_no_gain_anywhere(make_world):
    world = make_world("binary")
    found = compare(world, world)["beside"]
    assert {each["gain"]["value"] for each in found["metrics"]} == {0.0}
    assert {row["certain"] for row in found["slices"]["rows"]} == {""}


def test_size_and_latency_are_those_of_each_model(compared):
    world, found = compared
    serving = found["beside"]["serving"]
    folder = world.bundle.folder / "model"
    expected = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert serving["challenger"]["bytes"] == expected
    assert all(each["us_per_row"] > 0 for each in serving.values())


def test_the_utility_of_the_recipe_is_compared_at_each_threshold(make_world):
    world, dummy = make_world("binary"), make_world("binary", family="dummy")
    found = compare(world, dummy, utility="CASE WHEN prediction THEN (y::int * 10 - 4) ELSE 0 END")["beside"]
    own = {each["name"]: each for each in found["metrics"]}["utility"]
    table = world.split.table("test")
    y, said = np.array(table["y"].to_pylist()), np.array(Predictor(world.bundle).table(table).prediction)
    assert own["challenger"] == pytest.approx(np.where(said, y * 10 - 4, 0).mean())


def test_the_page_has_all_parts_and_needs_no_network(compared):
    world, found = compared
    page = comparison_report.page("demo", found)
    for part in ("Decision", "Metrics", "Slices", "Serving", "by which is decided", "All slices"):
        assert part in page
    assert ("Calibration" in page) == (world.bundle.task.kind.value != "regression")
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)


def test_a_comparison_that_was_none_has_a_page_too(make_world):
    world = make_world("binary")
    found = champion.compare(world.store, world.bundle, world.bundle, world.split, world.recipe).to_json()
    assert found["beside"] == {}
    assert "not comparable" in comparison_report.page("demo", found)


def test_slices_of_one_column_have_all_rows_that_are_compared(make_world):
    found = compare(make_world("binary"), make_world("binary", family="dummy"))
    sizes = [row["num_rows"] for row in found["beside"]["slices"]["rows"] if row["column"] == "origin"]
    assert sum(sizes) == found["num_rows"] == 600

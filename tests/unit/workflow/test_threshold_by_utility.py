"""A recipe whose threshold is the one of greatest mean utility, from its table to the pages, in this process."""

import numpy as np
import pandas as pd
import pytest

import mlsys
from mlsys import bundle, errors
from mlsys.dataset import Split
from mlsys.predict import Predictor
from mlsys.store import Store, read_json
from mlsys.workflow.model_card import ModelCard, build

WORTH = "CASE WHEN NOT prediction THEN 0 WHEN late THEN fare ELSE -600 END"
"""A yes is worth the fare of a row that is late, and costs 600 for one that is not; `fare` is no feature."""

ALIKE = {"selection": {"families": ["linear"]}, "tune": {"trials": 0}, "budget": "none", "train": {"refit": False}}


def recipe(folder, target="late", **evaluate):
    data = {"source": str(folder / "rows.csv"), "id": "id", "ignore": ["fare"]}
    asked = {"threshold": "utility", "utility": WORTH, "bootstrap": 20, **evaluate}
    return {"name": "delays", "target": target, "data": data, "evaluate": asked, **ALIKE}


def finished(folder, recipe, until="evaluate"):
    done = mlsys.run(recipe, until, store=folder / "store", cluster=False, quiet=True)
    return done, read_json(done.folder / "result.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("utility"), np.random.default_rng(5)
    x = rng.normal(size=2_000)
    table = pd.DataFrame({"id": np.arange(2_000), "x": x, "fare": rng.integers(50, 150, 2_000)})
    table["late"] = rng.random(2_000) < 1 / (1 + np.exp(-2 * x))
    table["level"] = np.array(["a", "b", "c"])[rng.integers(0, 3, 2_000)]
    table.to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def done(folder):
    return finished(folder, recipe(folder))


def mean_worth(rows, called):
    fare, late = rows["fare"].to_numpy(), np.array(rows["late"].to_pylist())
    return np.where(called, np.where(late, fare, -600), 0).mean()


def test_no_threshold_is_worth_more_on_the_validation_rows(folder, done):
    store, records = Store.open(folder / "store"), done[1]
    made = bundle.open(store, records["train"]["bundle"])
    rows = Split.open(store, records["collect"]["split"]).table("validation")
    score = Predictor(made).table(rows.select(made.schema.names)).score
    kept = mean_worth(rows, score >= made.threshold)
    assert kept == pytest.approx(max(mean_worth(rows, score >= cut) for cut in [*np.unique(score), 1.1]))
    assert kept > 0
    assert made.threshold > 0.5  # a wrong yes costs six times what a right one brings
    assert "fare" not in made.needed


def test_bundle_page_and_card_say_what_set_the_threshold(folder, done):
    result, records = done
    made = bundle.open(Store.open(folder / "store"), records["train"]["bundle"])
    assert (made.provenance["threshold_rule"], made.provenance["utility"]) == ("utility", WORTH)
    assert "greatest mean utility on validation" in result.reports["evaluate"].read_text()
    card = ModelCard({"name": "delays", "version": 1, "registered": {"at": "now", "who": None}, **build(made, None)})
    assert "(greatest mean utility on validation) |" in card.text


def test_another_utility_sets_another_threshold_and_nothing_is_searched_again(folder, done):
    _, before = done
    _, after = finished(folder, recipe(folder, utility=WORTH.replace("-600", "-3")))
    keys = {"selection": "ranking", "tune": "stored"}
    assert [after[step][key] for step, key in keys.items()] == [before[step][key] for step, key in keys.items()]
    store = Store.open(folder / "store")
    thresholds = [bundle.open(store, records["train"]["bundle"]).threshold for records in (before, after)]
    assert thresholds[1] < 0.5 < thresholds[0]
    assert finished(folder, recipe(folder))[1]["train"] == before["train"]


@pytest.mark.parametrize(
    ("target", "utility", "text"),
    [("level", "fare", "utility for a multiclass task"), ("late", "fair", "no column 'fair' in the table")],
)
def test_what_no_utility_can_choose_is_refused_before_anything_is_searched(folder, target, utility, text):
    with pytest.raises(errors.RecipeError, match="recipe: evaluate") as raised:
        finished(folder, recipe(folder, target, utility=utility), "explore")
    assert text in str(raised.value)

"""A run with a clock, and its replay without one: the same trials, the same choice, the same bundle."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from mlsys import recipe, workflow
from mlsys.console import Console
from mlsys.tune import Tuned
from mlsys.workflow import replays

RECIPE = """
name: again
target: y
budget: 12s
data: {source: FOLDER/rows.csv}
selection: {families: [lightgbm, xgboost]}
split: {folds: 3}
train: {rounds: 5000, early_stopping: 1000}
"""


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(1_500, 4)), columns=list("abcd"))
    table["kind"] = np.array(["red", "green", "blue"])[rng.integers(0, 3, len(table))]
    signal = table["a"] * table["b"] + (table["kind"] == "red") + 0.7 * rng.normal(size=len(table))
    table["y"] = np.where(signal > 0.3, "yes", "no")
    table.to_csv(folder / "rows.csv", index=False)
    run = workflow.Run(recipe.parse(RECIPE.replace("FOLDER", str(folder))), store, Console(io.StringIO()))
    return workflow.run(run, until="train")


def test_the_schedule_that_ran_gives_the_same_bundle_without_a_clock(store, trained):
    done = replays.replay(store, replays.former(store, "again"), Console(io.StringIO()))
    assert done.is_equal, done.summary
    assert done.digests["bundle"][0] == trained.results["train"].bundle
    assert all(before == now for before, now in done.digests.values())
    tuned = Tuned.from_json(store.get_json("params", trained.results["tune"].stored))
    assert (done.num_trials, done.unequal_trials) == (len(tuned.trials), ())


def test_a_trial_of_other_rounds_is_named_and_so_are_the_digests_that_it_changes(store, trained):
    run = replays.former(store, "again")
    records = json.loads(json.dumps(run.records))
    tuned = store.get_json("params", records["tune"]["stored"])
    best = tuned["search"]["best"]
    tuned["trials"][best]["fits"] = [{"rounds": 2} for _ in tuned["trials"][best]["fits"]]
    records["tune"]["stored"] = store.put_json("params", tuned)
    done = replays.replay(store, replays.FormerRun(records, run.recipe), Console(io.StringIO()))
    assert done.unequal_trials == (best,)
    assert not done.is_equal
    assert f"another score: {best}" in done.summary


def test_pages_of_a_search_say_its_time_and_stand_beside_the_others(store, trained):
    folder = store.root / "runs" / "again" / "reports"
    page = json.loads((folder / "tune.json").read_text())
    assert page["phases"].keys() == {"reading", "selection", "tune", "train", "budget", "shares"}
    assert page["phases"]["budget"] == 12.0
    assert {"selection", "tune"} <= {name for name, record in trained.records.items() if "report" in record}
    assert "<h2>History</h2>" in (folder / "tune.html").read_text()
    before = (folder / "tune.html").stat().st_mtime_ns
    again = workflow.run(workflow.Run(trained.recipe, store, Console(io.StringIO())), until="train")
    assert again.records["tune"]["report"] == str(folder / "tune.html")
    assert (folder / "tune.html").stat().st_mtime_ns == before  # neither the search nor its drawing has changed

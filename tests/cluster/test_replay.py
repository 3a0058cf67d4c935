"""A run with a clock, and its replay without one: the same comparison, trials, choices and bundle."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from mlsys import bundle, recipe, registry, workflow
from mlsys.console import Console
from mlsys.selection import Ranking
from mlsys.tune import Tuned
from mlsys.workflow import replays, reproduction, run_record
from mlsys.workflow.reproduction import Origin

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
    assert done.digests.keys() >= {"ranking", "parameters", "bundle"}
    assert all(before == now for before, now in done.digests.values())
    assert (done.num_fits > 0, done.unequal_fits) == (True, ())
    tuned = Tuned.from_json(store.get_json("params", trained.results["tune"].stored))
    assert (done.num_trials, done.unequal_trials) == (len(tuned.trials), ())


def put(store, records, step, key, kind, change):
    """Change an object that a step of the records names; returns the object."""
    changed = store.get_json(kind, records[step][key])
    change(changed)
    records[step][key] = store.put_json(kind, changed)
    return changed


@pytest.fixture(scope="module")
def compared(store, trained):
    """The replay of a run whose comparison had time for one fold, and there says another number of rounds of a fit.

    It has no trials, which other tests fit again.
    """
    run = replays.former(store, "again")
    records = json.loads(json.dumps(run.records))

    def change(ranking):
        first = ranking["fits"][0]["judge"]
        ranking["fits"] = [fit for fit in ranking["fits"] if fit["judge"] == first]
        fit = next(fit for fit in ranking["fits"] if fit["name"] == "xgboost")
        assert fit["reached"]["rounds"] > 1
        fit["reached"] = {"rounds": 1}

    changed = put(store, records, "selection", "ranking", "ranking", change)
    put(store, records, "tune", "stored", "params", lambda tuned: tuned.update(trials=[]))
    done = replays.replay(store, replays.FormerRun(records, run.recipe), Console(io.StringIO()))
    return records["selection"]["ranking"], changed, done


def test_the_comparison_is_made_again_fit_by_fit_and_not_taken_over(store, trained, compared):
    ranking = Ranking.from_json(store.get_json("ranking", trained.results["selection"].ranking))
    assert ranking.seconds is not None  # a clock was set
    assert {fit["name"] for fit in ranking.fits} >= {"dummy", "lightgbm", "xgboost"}
    digest, changed, done = compared
    name = f"xgboost on fold {changed['fits'][0]['judge']}"
    assert done.unequal_fits == (name,)
    assert f"fits of the comparison again, another score: {name}" in done.summary
    before, now = done.digests["ranking"]
    assert before == digest != now


def test_fits_that_had_no_time_are_left_out_again(trained, compared):
    _, changed, done = compared
    assert done.num_fits == len(changed["fits"]) > 0
    assert done.num_trials == 0


def test_a_trial_of_other_rounds_is_named_and_so_are_the_digests_that_it_changes(store, trained):
    run = replays.former(store, "again")
    records = json.loads(json.dumps(run.records))

    def change(tuned):
        best = tuned["trials"][tuned["search"]["best"]]
        best["fits"] = [{"rounds": 2} for _ in best["fits"]]

    tuned = put(store, records, "tune", "stored", "params", change)
    done = replays.replay(store, replays.FormerRun(records, run.recipe), Console(io.StringIO()))
    best = tuned["search"]["best"]
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


def test_a_version_of_a_search_with_a_clock_is_made_again_from_its_receipt(store, trained):
    registry.register(store, "again", bundle.open(store, trained.results["train"].bundle))
    done = reproduction.reproduce(store, Origin.resolve(store, "again@1"), Console(io.StringIO()))
    assert done.is_equal, done.summary
    assert done.differences == ()
    assert done.replay.num_trials > 0


def test_the_record_of_the_run_says_how_its_search_ended(store, trained):
    tuned = Tuned.from_json(store.get_json("params", trained.results["tune"].stored))
    record = run_record.records(store, "again")[0]
    (step,) = (step for step in record["steps"] if step["name"] == "tune")
    assert step["search"]["num_trials"] == len(tuned.trials)
    assert step["search"]["ended"] == tuned.search["ended"]
    assert ["params", trained.results["tune"].stored] in step["objects"]

"""The search on Ray Tune: budget, journal, resumption, and what stays behind."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlsys import tune
from mlsys.evaluate import metrics
from mlsys.tune.trials import Journal

SETTINGS = {"train": {"rounds": 100, "early_stopping": 10}}


def search(store, built, folder, family="xgboost", **tune_settings):
    split, statistics, recipe, task = built
    if tune_settings:
        recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update=tune_settings)})
    told = []
    rows = split.only("train", "validation")
    return tune.search(store, rows, statistics, recipe, task, family, folder=folder, progress=told.append), told


@pytest.fixture(scope="module")
def searched(store, make_split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    built = make_split(**SETTINGS)
    before = sorted(Path.home().glob("ray_results/*"))
    tuned, told = search(store, built, folder, trials=4)
    return built, folder, tuned, told, before


def test_the_default_is_trial_0_and_the_budget_is_kept(searched):
    _, _, tuned, told, _ = searched
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3, 4]
    assert tuned.trials[0].params == {}
    assert tuned.score_default == tuned.trials[0].score > 0.8
    assert told[0].startswith("xgboost roc_auc  default 0.")
    assert [line.split()[3] for line in told[1:]] == ["1/4", "2/4", "3/4", "4/4"]


def test_what_is_kept_is_the_better_one(searched):
    _, _, tuned, _, _ = searched
    best = max(trial.score for trial in tuned.trials if trial.finished)
    assert (tuned.choice == "tuned") == (best > tuned.score_default)
    assert tuned.score_tuned == max(trial.score for trial in tuned.trials[1:] if trial.finished)
    assert best >= tuned.score_default


def test_only_the_journal_stays_behind(searched):
    _, folder, _, _, before = searched
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["journal.jsonl"]
    assert sorted(Path.home().glob("ray_results/*")) == before


def test_a_raised_budget_goes_on_from_the_journal(store, searched):
    built, folder, tuned, _, _ = searched
    more, told = search(store, built, folder, trials=6)
    assert told[0] == "4 of 6 trials found in the journal"
    assert more.trials[:5] == tuned.trials
    assert len(more.trials) == 7
    assert len({tuple(sorted(trial.params.items())) for trial in more.trials}) == 7


def test_a_family_without_rounds_is_searched_too(store, make_split, tmp_path):
    tuned, _ = search(store, make_split("regression"), tmp_path, "linear", trials=3)
    assert len(tuned.trials) == 4
    assert all(trial.finished and set(trial.params) == {"l2"} for trial in tuned.trials[1:])
    assert not metrics.METRICS[tuned.metric].greater_is_better
    assert min(trial.score for trial in tuned.trials) == min(tuned.score_default, tuned.score_tuned)


ENDLESS = """
import pathlib, pickle, sys
from mlsys import cluster, tune
from mlsys.store import Store

store = Store.open(sys.argv[1])
cluster.connect(store)
folder = pathlib.Path(sys.argv[2])
split, statistics, recipe, task = pickle.loads((folder / "inputs.pickle").read_bytes())
tune.search(store, split, statistics, recipe, task, "xgboost", folder=folder)
"""


def test_a_killed_search_goes_on_where_it_was(store, make_split, tmp_path):
    split, *rest = make_split(**SETTINGS, tune={"trials": 200})
    (tmp_path / "inputs.pickle").write_bytes(pickle.dumps((split.only("train", "validation"), *rest)))
    with subprocess.Popen([sys.executable, "-c", ENDLESS, store.root, tmp_path], env=os.environ) as process:
        while not (files := list(tmp_path.rglob("journal.jsonl"))) or len(Journal(files[0]).trials) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    done = Journal(files[0]).trials
    tuned, told = search(store, (split, *rest), tmp_path, trials=len(done) + 1)
    assert told[0] == f"{len(done) - 1} of {len(done) + 1} trials found in the journal"
    assert list(tuned.trials[: len(done)]) == done
    assert len(tuned.trials) == len(done) + 2

"""The search on Ray Tune: number of trials and time, journal, resumption, means, and what stays behind."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlsys import train, tune
from mlsys.evaluate import metrics
from mlsys.train import training_job
from mlsys.tune.journal import Journal

SETTINGS = {"train": {"rounds": 100, "early_stopping": 10}}


def search(store, built, folder, family="xgboost", contenders=(), **tune_settings):
    split, statistics, recipe, task = built
    if tune_settings:
        recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update=tune_settings)})
    told = []
    rows = split.only("train", "validation")
    how = {"folder": folder, "contenders": contenders, "progress": told.append}
    return tune.search(store, rows, statistics, recipe, task, family, **how), told


@pytest.fixture(scope="module")
def searched(store, make_split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    built = make_split(**SETTINGS)
    before = sorted(Path.home().glob("ray_results/*"))
    tuned, told = search(store, built, folder, trials=4)
    return built, folder, tuned, told, before


def test_the_defaults_are_tried_and_the_number_of_trials_is_kept(searched):
    _, _, tuned, told, _ = searched
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3, 4]
    (default,) = [trial for trial in tuned.trials if trial.params == {} and trial.family == "xgboost"]
    assert tuned.score_default == default.score > 0.8
    assert [line.split()[:3] for line in told[:5]] == [["roc_auc", "trial", str(number)] for number in range(5)]


def test_what_is_taken_is_at_least_as_good_as_the_best_trial(searched):
    _, _, tuned, _, _ = searched
    best = max(trial.score for trial in tuned.trials)
    assert (tuned.choice == "default") == (tuned.family == "xgboost" and best == tuned.score_default)
    assert max(tuned.score_default, tuned.score_tuned) >= best


def test_the_judged_rows_are_those_of_all_folds_and_of_validation_where_rows_are_few(store, searched):
    (split, _, _, task), _, tuned, _, _ = searched
    rows = train.JudgedRows.read(store.path("judged", tuned.judged), task)
    assert len(rows.y) == split.num_rows["train"] + split.num_rows["validation"]
    assert np.array_equal(np.asarray(rows.columns(split, ["y"])["y"]) == "yes", rows.y == 1)
    assert len(set(rows.numbers.tolist())) == len(rows.y)
    score = max(tuned.score_default, tuned.score_tuned)
    assert roc_auc_score(rows.y, rows.output[:, 1]) == pytest.approx(score, abs=1e-6)


def test_the_journal_and_the_predictions_of_the_best_stay_behind(searched):
    _, folder, tuned, _, before = searched
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(["journal.jsonl", "search.json", *(f"{trial.key}.npy" for trial in tuned.trials)])
    assert sorted(Path.home().glob("ray_results/*")) == before


def test_a_raised_budget_goes_on_from_the_journal(store, searched):
    built, folder, tuned, _, _ = searched
    more, told = search(store, built, folder, trials=6)
    assert told[0] == "5 trials found in the journal"
    assert more.trials[:5] == tuned.trials
    assert len(more.trials) == len({trial.key for trial in more.trials}) == 7


def test_a_family_without_rounds_is_searched_too(store, make_split, tmp_path):
    tuned, _ = search(store, make_split("regression"), tmp_path, "linear", trials=3)
    assert sorted(list(trial.params) for trial in tuned.trials) == [[], ["l2"], ["l2"], ["l2"]]
    assert not metrics.METRICS[tuned.metric].greater_is_better
    assert min(trial.score for trial in tuned.trials) == min(tuned.score_default, tuned.score_tuned)


def test_a_simple_family_stays_unless_the_boosters_beside_it_are_better_by_the_margin(store, make_split, tmp_path):
    built = make_split(**SETTINGS)
    chosen = {}
    for margin in (0.0, 0.9):
        settled = (*built[:2], built[2].having({"selection.margin": margin}), built[3])
        tuned, _ = search(store, settled, tmp_path, "linear", ["linear", "xgboost"], trials=6)
        assert {trial.family for trial in tuned.trials} >= {"linear", "lightgbm", "xgboost"}
        best = max(tuned.trials, key=lambda trial: trial.score)
        chosen[margin] = tuned.family
        assert tuned.family == "linear" or max(tuned.score_default, tuned.score_tuned) >= best.score
        assert ("linear is kept: simpler, and hardly worse than the best" in tuned.notes) == (
            tuned.family == "linear" != best.family
        )
    assert chosen[0.9] == "linear"


def test_a_search_ends_in_its_time_and_a_fit_with_it(store, make_split, tmp_path):
    built = make_split(num_rows=30_000, train={"rounds": 100_000, "early_stopping": 100_000})
    split, statistics, recipe, task = built
    began = time.monotonic()
    rows = split.only("train", "validation")
    tuned = tune.search(store, rows, statistics, recipe, task, "xgboost", folder=tmp_path, seconds=12.0)
    assert time.monotonic() - began < 60  # fits of 100,000 rounds would take many minutes each
    assert any(not trial.finished for trial in tuned.trials)
    assert all(0 < trial.rounds < 100_000 for trial in tuned.trials)
    assert tuned.judged is not None


def test_what_a_search_chose_is_fitted_to_the_same_bytes_again(store, searched):
    (split, statistics, recipe, task), _, tuned, _, _ = searched
    judged = train.JudgedRows.read(store.path("judged", tuned.judged), task)
    rows = split.only("train", "validation")
    made = [
        train.fit(store, rows, statistics, recipe, task, tuned.family, tuned.params, judged=judged) for _ in range(2)
    ]
    assert made[0].digest == made[1].digest
    assert made[0].provenance["fitted_on"] == ["train", "validation"]
    assert made[0].threshold is not None


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
    assert told[0] == f"{len(done)} trials found in the journal"
    assert list(tuned.trials[: len(done)]) == done
    assert len(tuned.trials) == len(done) + 2
    assert {"default", "mean", "tuned"} >= {tuned.choice}


def test_a_limit_of_bytes_refuses_the_larger_trials_of_the_same_journal(store, make_split, tmp_path):
    split, statistics, recipe, task = make_split(train={"family": "xgboost", "rounds": 100, "early_stopping": 10})

    def limited(max_bytes):
        built = split, statistics, recipe.having({"selection.max_bytes": max_bytes}), task
        return search(store, built, tmp_path, trials=5)[0]

    free = limited(10**9)
    sizes = sorted(trial.num_bytes for trial in free.trials)
    assert 0 < sizes[0] <= sizes[-2] < sizes[-1]
    limit = round(training_job.growth(split.num_rows) * sizes[-2])
    tuned = limited(limit)
    assert tuned.trials == free.trials  # of the journal: what is allowed changes no trial
    chosen = [tuned.trials[number] for number in tuned.search["chosen"]]
    assert sum(trial.num_bytes for trial in chosen) <= sizes[-2]
    assert f"more than selection.max_bytes: {limit:,}" in tuned.summary()


def test_a_search_leaves_facts_for_its_page(searched):
    _, _, tuned, _, _ = searched
    facts = tuned.search
    assert facts["ended"] == "after 5 trials, as many as asked for"
    assert (facts["greater_is_better"], facts["judges"][0], facts["default"] in range(5)) == (True, "validation", True)
    assert facts["importance"]["xgboost"]["reason"].endswith("fewer than 20 say little")
    assert {row["family"] for row in facts["untried"]} >= {"lightgbm"}
    assert "mean" in facts

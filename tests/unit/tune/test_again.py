"""Trials that are fitted again: a fit of as many rounds as another kept is the same fit, whatever ended that one."""

import time

import numpy as np
import pytest

from mlsys import cluster, errors, train
from mlsys.train import training_job
from mlsys.tune import search_space, trials
from mlsys.tune.journal import Journal, Trial
from mlsys.tune.trials import Search


@pytest.fixture(scope="module")
def built(make_split):
    split, *rest = make_split(num_rows=1_500, train={"rounds": 3_000, "early_stopping": 7})
    return split.only("train", "validation"), *rest


def prepared(built, family, judges=("validation", 0)):
    split, statistics, recipe, task = built
    return tuple(
        cluster.share(
            train.prepare, split, statistics, recipe, task, family,
            fit_folds=[fold for fold in statistics.folds if fold != judge], judge=judge, stops_on_judged=True,
        )
        for judge in judges
    )  # fmt: skip


def search(built, family, folder, until=float("inf"), judges=("validation", 0)):
    split, _, recipe, task = built
    families = search_space.families(split, recipe.having({"train.family": family}), family, task)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {training_job.encoding(family): prepared(built, family, judges)}
    return Search(rows, task, "log_loss", "none", 0, families, folder, until)


def journalled(given, family, params, folder):
    rows = [each.get() for each in given.rows[training_job.encoding(family)]]
    ended = trials.judge(given, rows, [{} for _ in rows], family, params, 1)
    journal = Journal(folder / "journal.jsonl")
    facts = (ended.score, ended.rounds, ended.finished, ended.fit_s, 1.0, ended.cut, ended.fits)
    journal.append(Trial(0, family, params, *facts))
    return journal


POINTS = [
    ("xgboost", {}),
    ("xgboost", {"learning_rate": 0.3, "subsample": 0.6}),
    ("lightgbm", {}),
    ("lightgbm", {"extra_trees": True, "num_leaves": 12}),
    ("catboost", {"learning_rate": 0.2}),
    ("forest", {"trees": 20}),
    ("linear", {"l2": 3.0}),
]


@pytest.mark.parametrize(("family", "params"), POINTS)
def test_a_trial_that_stopped_early_gives_the_same_predictions_again(built, tmp_path, family, params):
    given = search(built, family, tmp_path / "first" / "predictions")
    first = journalled(given, family, params, tmp_path / "first")
    again = Journal(tmp_path / "again" / "journal.jsonl")
    trials.again(search(built, family, again.folder), first.trials, again, lambda _: None)
    assert again.trials == first.trials
    (trial,) = first.trials
    assert np.array_equal(first.predictions(trial), again.predictions(trial))
    keys = {"rounds"} if family in {"xgboost", "lightgbm", "catboost"} else set()
    assert [set(fit) for fit in trial.fits] == [keys, keys]


LATE = [
    ("xgboost", {"learning_rate": 0.01}),
    ("lightgbm", {"learning_rate": 0.01}),
    ("catboost", {"learning_rate": 0.01}),
    ("forest", {"trees": 2_000}),
    ("extra_trees", {"trees": 2_000}),
]


@pytest.mark.parametrize(("family", "params"), LATE)
def test_a_trial_that_its_time_ended_gives_the_same_predictions_again(built, tmp_path, family, params):
    split, statistics, recipe, task = built
    endless = split, statistics, recipe.having({"train.rounds": 100_000, "train.early_stopping": 100_000}), task
    late = search(endless, family, tmp_path / "first" / "predictions", time.time(), judges=("validation",))
    first = journalled(late, family, params, tmp_path / "first")
    (trial,) = first.trials
    assert not trial.finished
    again = Journal(tmp_path / "again" / "journal.jsonl")
    given = search(endless, family, again.folder, judges=("validation",))
    trials.again(given, first.trials, again, lambda _: None)
    assert again.trials == first.trials
    assert np.array_equal(first.predictions(trial), again.predictions(trial))


def test_other_rounds_are_another_score(built, tmp_path):
    given = search(built, "lightgbm", tmp_path / "first" / "predictions")
    (trial,) = journalled(given, "lightgbm", {}, tmp_path / "first").trials
    rows = [each.get() for each in given.rows[training_job.encoding("lightgbm")]]
    fewer = [{"rounds": fit["rounds"] - 1} for fit in trial.fits]
    assert trials.judge(given, rows, [{}, {}], "lightgbm", {}, 1, exactly=fewer).score != trial.score


def test_a_trial_of_a_journal_that_does_not_say_how_far_it_came_cannot_be_fitted_again(built, tmp_path):
    given = search(built, "lightgbm", tmp_path / "predictions")
    before = Trial.from_json({"number": 0, "family": "lightgbm", "params": {}, "score": 0.5, "rounds": 40,
                              "finished": True, "fit_s": 1.0, "elapsed_s": 1.0})  # fmt: skip
    with pytest.raises(errors.StoreError, match="a trial that does not say how far its fits came"):
        trials.again(given, [before], Journal(tmp_path / "journal.jsonl"), lambda _: None)

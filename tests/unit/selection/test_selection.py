"""The grid of families and folds, one after another without Ray."""

import math

import numpy as np
import pytest

from mlsys import budget, errors, models, selection
from mlsys.evaluate import metrics
from mlsys.models import boosting
from mlsys.models.families import xgboost
from mlsys.models.matrix import Matrix
from mlsys.selection import forms
from mlsys.selection.leaderboard import leaderboard
from mlsys.train import FoldResult

FAST = {"train": {"rounds": 30, "early_stopping": 5}}


def rank(built, progress=lambda _: None):
    split, statistics, recipe, task = built
    return selection.rank(split.only("train"), statistics, recipe, task, progress=progress)


def test_the_form_of_the_family_that_compared_them_decides_for_those_that_take_the_same_features():
    names = ["forest", "lightgbm, log target", "lightgbm", "linear", "dummy"]
    results = {name: [FoldResult(0.9 - 0.01 * n, 0.5, 3.0, None, 80, 20)] for n, name in enumerate(names)}
    entries = leaderboard(metrics.METRICS["roc_auc"], results).entries
    assert forms.leading("forest", entries) == "lightgbm, log target"
    assert forms.leading("lightgbm, log target", entries) == "lightgbm, log target"
    assert forms.leading("linear", entries) == "linear", "it takes other features"
    assert forms.leading("xgboost, amounts", entries) == "xgboost, amounts", "it was compared in that form"
    assert forms.leading("forest", [entry for entry in entries if entry.family != "lightgbm"]) == "forest"
    assert forms.leading("forest", [entry for entry in entries if not entry.form]) == "forest"


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_what_learns_beats_the_baseline_which_is_always_there(make_split, kind):
    ranking = rank(make_split(kind, **FAST, selection={"families": ["linear", "xgboost"]}))
    assert {entry.family for entry in ranking.entries} == {"dummy", "linear", "xgboost"}
    assert ranking.entries[-1].family == "dummy"
    assert ranking.preferred != "dummy"
    assert ranking.metric == {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[kind]


def test_each_fit_is_told_with_its_place(make_split):
    told = []
    rank(make_split(selection={"families": ["dummy"]}), told.append)
    assert told == [
        "1 candidates × 3 folds, roc_auc",
        "dummy fold 2/3  roc_auc 0.500  (1 of 3)",
        "dummy fold 3/3  roc_auc 0.500  (2 of 3)",
        "dummy fold 1/3  roc_auc 0.500  (3 of 3)",
    ]


def test_time_ordered_folds_are_judged_on_models_of_the_past(make_split):
    ranking = rank(make_split(forward=True, folds=4, **FAST, selection={"families": ["linear"]}))
    assert [r["num_rows"] for r in ranking.rounds] == [90, 180, 270]
    assert ranking.notes == ("each fold is judged on a model of the folds before it in time",)


def test_samples_are_noted(make_split):
    ranking = rank(make_split(selection={"families": ["linear"], "max_rows": 100}))
    assert ranking.notes == ("fitted on samples of 100 rows a fold",)


def shaped(num_rows, num_features):
    X = np.zeros((num_rows, num_features), np.float32)
    return Matrix(X, np.zeros(num_rows), ("x",) * num_features, ("q",) * num_features)


def test_many_classes_are_compared_with_fewer_and_larger_steps(make_split, monkeypatch):
    built = make_split("multiclass", train={"rounds": 60}, selection={"families": ["xgboost"]})
    classes = len(built[3].classes)
    monkeypatch.setattr(boosting, "MAX_TREES", 20 * classes)
    ranking = rank(built)
    assert ranking.notes == ("xgboost: compared with 20 rounds at most and larger steps, to limit the cost",)
    (best,) = [entry for entry in ranking.entries if entry.family == "xgboost"]
    assert max(best.best_rounds) <= 20
    params = xgboost.FAMILY.params_for_comparison(
        models.params_of("xgboost", {"rounds": 60, "learning_rate": 0.05}), built[3], shaped(10, 2)
    )
    assert (params.rounds, params.learning_rate) == (20, pytest.approx(0.15))


def test_what_has_no_chance_leaves_after_two_folds_and_the_leaderboard_says_so(make_split):
    told = []
    ranking = rank(
        make_split("regression", folds=4, selection={"families": ["linear", "xgboost"]}, train={"rounds": 1}),
        told.append,
    )
    of = {entry.family: entry for entry in ranking.entries}
    assert [len(of[family].scores) for family in ("linear", "xgboost", "dummy")] == [4, 2, 4]
    assert told[-1].startswith("linear fold 2/4")
    assert told[-1].endswith("(10 of 10)")
    assert ranking.notes[0].startswith("xgboost left after 2 folds: ")
    assert "1 left early" in ranking.summary()
    assert ranking.preferred == "linear"


def test_the_kernel_machine_is_compared_where_features_are_places_in_a_space(make_split):
    split, statistics, recipe, task = make_split()
    assert selection._by_default(task, 64) == ["dummy", "linear", "kernel", "xgboost", "forest", "lightgbm"]
    assert selection._by_default(task, 63) == ["dummy", "linear", "xgboost", "forest", "lightgbm"]
    assert selection._families(split, statistics, recipe, task) == selection._by_default(task, 63)


def test_families_that_the_recipe_names_are_those_that_are_compared(make_split):
    split, statistics, recipe, task = make_split(selection={"families": ["kernel"]})
    assert selection._families(split, statistics, recipe, task) == ["dummy", "kernel"]


def test_the_same_rows_rank_the_same(make_split):
    built = make_split(**FAST, selection={"families": ["xgboost"]})
    assert [e.scores for e in rank(built).entries] == [e.scores for e in rank(built).entries]


def test_a_misspelt_family_or_metric_is_refused_before_any_fit(make_split):
    with pytest.raises(errors.RecipeError, match="did you mean 'linear'"):
        rank(make_split(selection={"families": ["lineer"]}))
    with pytest.raises(errors.RecipeError, match="did you mean 'roc_auc'"):
        rank(make_split(selection={"metric": "roc_acu"}))


def test_with_little_time_each_candidate_is_judged_once_and_boosting_ends(make_split):
    built = make_split(num_rows=3_000, folds=4, train={"rounds": 100_000, "early_stopping": 100_000})
    split, statistics, recipe, task = built
    ranking = selection.rank(split.only("train"), statistics, recipe, task, seconds=0.0)
    assert {entry.family for entry in ranking.entries} == {"dummy", "linear", "forest", "xgboost", "lightgbm"}
    assert all(len(entry.scores) == 1 for entry in ranking.entries)
    assert ranking.preferred != "dummy"


def test_fits_that_their_time_ended_are_noted_with_what_they_lack(make_split, monkeypatch):
    monkeypatch.setattr(budget, "FIT_S", 0.0)
    split, statistics, recipe, task = make_split(selection={"families": ["forest"]})
    ranking = selection.rank(split.only("train"), statistics, recipe, task, seconds=0.0)
    assert ranking.notes[-1] == "forest: 1 of 1 fits ended by their time, the least of them with trees 1"


def test_with_time_enough_and_few_rows_all_folds_are_judged(make_split):
    split, statistics, recipe, task = make_split(**FAST, selection={"families": ["linear"]})
    ranking = selection.rank(split.only("train"), statistics, recipe, task, seconds=600.0)
    assert {len(entry.scores) for entry in ranking.entries} == {3}


def test_of_many_rows_two_folds_decide_where_there_is_a_clock(make_split, monkeypatch):
    monkeypatch.setattr(selection, "MANY_ROWS", 100)
    split, statistics, recipe, task = make_split(**FAST, folds=4, selection={"families": ["linear"]})
    for seconds, folds in ((600.0, 2), (math.inf, 4)):
        ranking = selection.rank(split.only("train"), statistics, recipe, task, seconds=seconds)
        assert {len(entry.scores) for entry in ranking.entries} == {folds}


def test_forms_are_compared_by_one_family_where_it_takes_part():
    log = forms.CandidateForm("log target", {"train.target_transform": "log"})
    own = forms.CandidateForm("all terms of texts", {}, "linear")
    usual = forms.USUAL
    all_of = {"linear": usual, "linear, all terms of texts": own, "xgboost": usual, "xgboost, log target": log}
    assert forms.by_representative(all_of) == (all_of, [])
    with_it = {**all_of, "lightgbm": usual, "lightgbm, log target": log}
    staying, notes = forms.by_representative(with_it)
    assert list(staying) == ["linear", "linear, all terms of texts", "xgboost", "lightgbm", "lightgbm, log target"]
    assert notes == ["forms of columns and target are compared by lightgbm alone, to save time"]

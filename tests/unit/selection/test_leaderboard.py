"""Order, ties and preference from scores on the same folds."""

import json
import math

import numpy as np
import pytest

from mlsys import errors
from mlsys.evaluate import metrics
from mlsys.selection import Ranking
from mlsys.selection.leaderboard import best_forms, corrected_error, leaderboard
from mlsys.train import FoldResult

AUC, RMSE = metrics.METRICS["roc_auc"], metrics.METRICS["rmse"]


def fits(scores, num_rows=80, num_judged=20):
    return [FoldResult(score, 0.5, 3.0, None, num_rows, num_judged) for score in scores]


def test_the_error_is_that_of_nadeau_and_bengio():
    # By hand: J = 4, ratio 20/80, scores 1 2 3 4 with variance 5/3: sqrt((1/4 + 1/4) * 5/3) = sqrt(5/6).
    assert corrected_error(np.array([1.0, 2, 3, 4]), fits([1, 2, 3, 4])) == pytest.approx(math.sqrt(5 / 6), rel=1e-15)


def test_without_judged_rows_it_is_the_plain_standard_error():
    # scipy.stats.sem([1, 2, 3, 4]) = 0.6454972243679028
    assert corrected_error(np.array([1.0, 2, 3, 4]), fits([1, 2, 3, 4], num_judged=0)) == pytest.approx(
        0.6454972243679028
    )


def test_one_fold_has_no_error():
    assert corrected_error(np.array([0.7]), fits([0.7])) is None


def test_the_best_comes_first_in_the_metrics_own_direction():
    scores = {"dummy": fits([0.5, 0.5]), "linear": fits([0.9, 0.91]), "forest": fits([0.7, 0.72])}
    assert [e.family for e in leaderboard(AUC, scores).entries] == ["linear", "forest", "dummy"]
    assert [e.family for e in leaderboard(RMSE, scores).entries] == ["dummy", "forest", "linear"]


def test_a_tie_within_noise_is_told_and_the_better_one_is_preferred():
    # Differences .02 -.01 .01: mean .00667, corrected error sqrt((1/3 + 1/4) * 2.333e-4) = .01167: tied.
    ranking = leaderboard(
        AUC, {"dummy": fits([0.5] * 3), "linear": fits([0.78, 0.81, 0.8]), "xgboost": fits([0.8, 0.8, 0.81])}
    )
    assert (ranking.best, ranking.preferred) == ("xgboost", "xgboost")
    linear = next(e for e in ranking.entries if e.family == "linear")
    assert linear.tie
    assert linear.behind == pytest.approx(0.02 / 3)
    assert linear.behind_error == pytest.approx(math.sqrt((1 / 3 + 1 / 4) * 0.0007 / 3), rel=1e-9)
    assert not ranking.entries[-1].tie


def test_contenders_are_within_a_tenth_of_the_way_from_the_dummy():
    scores = {"dummy": [0.5] * 2, "linear": [0.8] * 2, "xgboost": [0.775] * 2, "forest": [0.765] * 2}
    ranking = leaderboard(AUC, {name: fits(values) for name, values in scores.items()})
    assert ranking.contenders == ["linear", "xgboost"]
    assert leaderboard(AUC, {"dummy": fits([0.5] * 2), "linear": fits([0.4] * 2)}).contenders == ["dummy"]


def test_the_simplest_within_the_practical_margin_is_preferred():
    # From the dummy's 0.5 to 0.8 it is 0.3; 0.0006 of it is 0.2 %.
    scores = {"dummy": fits([0.5] * 2), "linear": fits([0.7995, 0.7995]), "xgboost": fits([0.8, 0.8])}
    assert leaderboard(AUC, scores).preferred == "linear"
    assert leaderboard(AUC, scores, margin=0.001).preferred == "xgboost"
    behind = scores | {"linear": fits([0.7993, 0.7993])}
    assert leaderboard(AUC, behind).preferred == "xgboost"
    assert leaderboard(AUC, behind, margin=0.003).preferred == "linear"


def test_a_forest_that_is_clearly_better_by_its_mean_is_preferred_to_a_linear_model_tied_with_it():
    # Three folds of a table divided by time: 0.689 against 0.718 with errors of some hundredths.
    scores = {"dummy": fits([0.5] * 3), "linear": fits([0.64, 0.70, 0.727]), "forest": fits([0.72, 0.69, 0.744])}
    board = leaderboard(AUC, scores)
    assert board.entries[1].tie
    assert board.preferred == "forest"


def test_what_is_no_better_than_the_dummy_is_neither_the_best_nor_preferred_however_noisy():
    scores = {"dummy": fits([150.0, 160, 170]), "linear": fits([380.0, 390, 400]), "xgboost": fits([10.0, 20, 1_130])}
    board = leaderboard(RMSE, scores)
    assert (board.best, board.preferred, board.beats_dummy) == ("dummy", "dummy", False)
    assert board.summary().endswith(
        "nothing beats the dummy, dummy rmse 160.0000 ± 7.6376; its features say nothing of the target by this metric"
    )
    one = leaderboard(RMSE, scores | {"forest": fits([149.0, 159, 169])})
    assert (one.best, one.preferred) == ("forest", "forest")


def test_a_dummy_without_the_metric_is_left_out_and_said_to_be():
    board = leaderboard(metrics.METRICS["mcc"], {"dummy": fits([math.nan] * 2), "linear": fits([0.5, 0.6])})
    assert [entry.family for entry in board.entries] == ["linear"]
    assert board.notes == ("the dummy has no mcc, so nothing can be compared with it",)


def test_forms_of_a_family_stand_apart_and_the_better_one_stays():
    scores = {"dummy": fits([0.5] * 2), "xgboost": fits([0.7, 0.7]), "xgboost, both": fits([0.8, 0.8])}
    board = leaderboard(AUC, scores)
    assert (board.preferred, board.family) == ("xgboost, both", "xgboost")
    assert [(e.family, e.form, e.name) for e in board.entries[:2]] == [
        ("xgboost", "both", "xgboost, both"),
        ("xgboost", "", "xgboost"),
    ]
    assert best_forms(AUC, scores) == ["dummy", "xgboost, both"]


def test_a_small_but_constant_lead_is_no_tie():
    ranking = leaderboard(AUC, {"linear": fits([0.70, 0.80, 0.60]), "xgboost": fits([0.71, 0.81, 0.61])})
    assert (ranking.best, ranking.preferred) == ("xgboost", "xgboost")


def test_equal_scores_are_a_tie_that_the_simpler_wins():
    ranking = leaderboard(AUC, {"forest": fits([0.7, 0.8]), "linear": fits([0.7, 0.8])})
    assert (ranking.best, ranking.preferred) == ("linear", "linear")


def test_one_fold_alone_ties_nothing_but_equals():
    ranking = leaderboard(AUC, {"linear": fits([0.8]), "xgboost": fits([0.801])})
    assert ranking.preferred == "xgboost"
    assert ranking.entries[0].std_error is None


def test_a_fold_without_the_metric_is_left_out_for_all_and_said():
    ranking = leaderboard(AUC, {"linear": fits([math.nan, 0.8, 0.7]), "dummy": fits([0.5, 0.5, 0.5])})
    assert ranking.entries[0].scores == (0.8, 0.7)
    assert ranking.entries[1].scores == (0.5, 0.5)
    assert ranking.notes == ("roc_auc is not defined on 1 of 3 folds; they are left out",)


def test_a_metric_defined_on_no_fold_is_an_error():
    with pytest.raises(errors.TargetError) as caught:
        leaderboard(AUC, {"linear": fits([math.nan]), "dummy": fits([math.nan])})
    assert str(caught.value) == (
        "selection: folds\n"
        "  got:      roc_auc is defined on none of 1 folds\n"
        "  expected: folds with more than one class\n"
        "  hint:     take fewer folds (split.folds), or another metric (selection.metric)"
    )


def test_a_ranking_survives_json_and_says_itself_in_a_line():
    scores = {"dummy": fits([0.5] * 2), "linear": fits([0.79, 0.81]), "xgboost": fits([0.8, 0.81])}
    ranking = leaderboard(AUC, scores, margin=0.02)
    assert Ranking.from_json(json.loads(json.dumps(ranking.to_json()))) == ranking
    assert ranking.summary() == (
        "3 candidates × 2 folds: xgboost roc_auc 0.8050 ± 0.0061, tied with linear; "
        "linear preferred: simpler, and within 2 % of the way from the dummy to the best"
    )


def test_a_family_that_left_is_compared_on_its_own_folds_and_is_never_the_best():
    # On the folds that both have, xgboost is ahead by 0.1 and 0.2; its mean over all folds says nothing of that.
    board = leaderboard(AUC, {"xgboost": fits([0.6, 0.8, 0.9]), "forest": [None, *fits([0.7, 0.7])]})
    first, second = board.entries
    assert (first.family, second.family, board.best) == ("xgboost", "forest", "xgboost")
    assert second.scores == (0.7, 0.7)
    assert second.behind == pytest.approx(0.15)
    assert second.behind_error == pytest.approx(math.sqrt((1 / 2 + 1 / 4) * 0.005))
    assert board.summary() == "2 candidates × 3 folds, 1 left early: xgboost roc_auc 0.7667 ± 0.1167"
    left_ahead = leaderboard(AUC, {"linear": fits([0.6, 0.6]), "forest": [None, *fits([0.99])]})
    assert left_ahead.best == "linear"


def timed(scores, us, num_bytes=None):
    return [FoldResult(score, 0.5, us, None, 80, 20, num_bytes=num_bytes) for score in scores]


NEAR = {
    "dummy": timed([0.5] * 3, 0.1),
    "linear": timed([0.78, 0.81, 0.80], 2.0),
    "forest": timed([0.79, 0.80, 0.81], 40.0),
    "xgboost": timed([0.80, 0.80, 0.81], 4.0),
    "lightgbm": timed([0.70, 0.70, 0.71], 1.0),
}
"""Linear and forest are tied with xgboost, the best; lightgbm is fast and clearly behind."""


@pytest.mark.parametrize(("prefer", "preferred"), [("accurate", "xgboost"), ("simple", "linear"), ("fast", "linear")])
def test_a_recipe_may_prefer_the_simplest_or_the_fastest_of_those_that_are_tied(prefer, preferred):
    board = leaderboard(AUC, NEAR, prefer=prefer)
    assert (board.best, board.preferred) == ("xgboost", preferred)
    assert Ranking.from_json(json.loads(json.dumps(board.to_json()))) == board


def test_the_better_of_equally_fast_candidates_is_preferred():
    board = leaderboard(AUC, NEAR | {"linear": timed([0.78, 0.81, 0.80], 3.5)}, prefer="fast")
    assert board.preferred == "xgboost"  # 4.0 µs is within 1.2 × 3.5


def test_the_line_says_why_what_is_not_the_best_is_preferred():
    assert (
        leaderboard(AUC, NEAR, prefer="simple")
        .summary()
        .endswith("; linear preferred: the simplest of those within one standard error (selection.prefer: simple)")
    )


def test_what_the_limits_refuse_is_judged_and_not_chosen():
    board = leaderboard(AUC, NEAR, refused={"xgboost": "4.0 µs a row, more than 3", "forest": "40.0 µs, more than 3"})
    assert (board.best, board.preferred) == ("linear", "linear")
    assert [entry.name for entry in board.entries] == ["linear", "lightgbm", "dummy", "xgboost", "forest"]
    assert board.summary().startswith("5 candidates × 3 folds, 2 refused by the recipe's limits: linear roc_auc")


def test_where_the_limits_refuse_all_but_the_dummy_the_dummy_is_left():
    refused = {name: "too slow" for name in NEAR if name != "dummy"}
    board = leaderboard(AUC, NEAR, refused=refused)
    assert (board.best, board.preferred, board.beats_dummy) == ("dummy", "dummy", False)


def test_where_nothing_is_left_to_choose_the_error_names_the_limits():
    with pytest.raises(errors.RecipeError, match="1 of 1 candidates are beyond them"):
        leaderboard(AUC, {"linear": timed([0.8, 0.8], 2.0)}, refused={"linear": "too slow"})


def test_the_bytes_of_a_candidate_are_those_of_its_largest_model():
    sizes = [FoldResult(0.8, 0.5, 1.0, None, 80, 20, num_bytes=size) for size in (1_000, 3_000, 2_000)]
    assert leaderboard(AUC, {"linear": sizes}).entries[0].num_bytes == 3_000

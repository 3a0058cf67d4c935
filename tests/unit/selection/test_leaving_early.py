"""Families that leave the comparison after two folds, and the evidence that it takes."""

import math

import pytest
from scipy import stats

from mlsys.evaluate import metrics
from mlsys.selection.leaderboard import leavers
from mlsys.train import FoldResult

AUC, LOSS = metrics.METRICS["roc_auc"], metrics.METRICS["log_loss"]


def fits(scores, num_rows=80, num_judged=20):
    return [FoldResult(score, 0.5, 3.0, None, num_rows, num_judged) for score in scores]


def test_far_behind_on_both_folds_is_out_and_the_reason_has_the_numbers():
    # Gains 0.30 and 0.32: mean 0.31, variance 0.0002; sqrt((1/2 + 1/4) * 0.0002) = 0.012247; the 95 % point of
    # Student's t with one degree of freedom is tan(0.45 pi) = 6.3138; the product is 0.0773.
    assert stats.t.ppf(0.95, 1) == pytest.approx(math.tan(0.45 * math.pi))
    out = leavers(
        LOSS, {"dummy": fits([2.3, 2.3]), "linear": fits([0.40, 0.42]), "forest": fits([0.70, 0.74])}, keep="dummy"
    )
    assert out == {
        "forest": "forest left after 2 folds: 0.310 of log_loss behind linear, of which 0.077 could be chance "
        "(corrected t-test, 5%)"
    }


def test_what_could_be_chance_stays():
    # Gains 0.1 and 0.3: the error is sqrt(0.75 * 0.02) = 0.1225, and 6.31 times that is more than their mean, 0.2.
    assert leavers(LOSS, {"linear": fits([0.4, 0.4]), "forest": fits([0.5, 0.7])}, keep="dummy") == {}


def test_what_is_ahead_on_a_fold_stays():
    assert leavers(AUC, {"linear": fits([0.80, 0.90]), "forest": fits([0.81, 0.70])}, keep="dummy") == {}


def test_a_larger_score_is_the_better_one_where_the_metric_says_so():
    scores = {"linear": fits([0.9, 0.9]), "forest": fits([0.5, 0.5])}
    assert list(leavers(AUC, scores, keep="dummy")) == ["forest"]
    assert list(leavers(LOSS, scores, keep="dummy")) == ["linear"]


def test_equals_stay_and_so_does_the_baseline():
    assert leavers(AUC, {"linear": fits([0.9, 0.8]), "forest": fits([0.9, 0.8])}, keep="dummy") == {}
    assert leavers(AUC, {"linear": fits([0.9, 0.8]), "dummy": fits([0.5, 0.5])}, keep="dummy") == {}


def test_one_fold_and_undefined_scores_decide_nothing():
    assert leavers(AUC, {"linear": fits([0.9]), "forest": fits([0.5])}, keep="dummy") == {}
    assert leavers(AUC, {"linear": fits([0.9, math.nan]), "forest": fits([0.5, 0.5])}, keep="dummy") == {}

"""Metrics against scikit-learn on random rows, and by hand where they are not defined."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlsys import errors
from mlsys.evaluate import metrics, thresholds
from mlsys.evaluate.metrics import METRICS, Predicted, measure


def binary(seed, num_rows=400):
    rng = np.random.default_rng(seed)
    y = (rng.random(num_rows) < 0.3).astype(int)
    score = np.round(np.clip(0.3 * y + rng.normal(0.35, 0.2, num_rows), 0, 1), 2)  # rounded: many ties
    return y, np.column_stack([1 - score, score])


def several(seed, num_rows=500, num_classes=4):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(num_classes), num_rows)
    y = np.array([rng.choice(num_classes, p=0.7 * row + 0.3 / num_classes) for row in p])
    return y, p


def number(seed, num_rows=301):
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 10, num_rows)
    return y, y + rng.normal(1, 5, num_rows)


BINARY = {
    "roc_auc": lambda y, p, label: sk.roc_auc_score(y, p[:, 1]),
    "pr_auc": lambda y, p, label: sk.average_precision_score(y, p[:, 1]),
    "log_loss": lambda y, p, label: sk.log_loss(y, p),
    "brier": lambda y, p, label: sk.brier_score_loss(y, p[:, 1]),
    "accuracy": lambda y, p, label: sk.accuracy_score(y, label),
    "balanced_accuracy": lambda y, p, label: sk.balanced_accuracy_score(y, label),
    "precision": lambda y, p, label: sk.precision_score(y, label),
    "recall": lambda y, p, label: sk.recall_score(y, label),
    "f1": lambda y, p, label: sk.f1_score(y, label),
    "precision_macro": lambda y, p, label: sk.precision_score(y, label, average="macro"),
    "recall_macro": lambda y, p, label: sk.recall_score(y, label, average="macro"),
    "f1_macro": lambda y, p, label: sk.f1_score(y, label, average="macro"),
    "precision_weighted": lambda y, p, label: sk.precision_score(y, label, average="weighted"),
    "recall_weighted": lambda y, p, label: sk.recall_score(y, label, average="weighted"),
    "f1_weighted": lambda y, p, label: sk.f1_score(y, label, average="weighted"),
    "mcc": lambda y, p, label: sk.matthews_corrcoef(y, label),
}
SEVERAL = {name: value for name, value in BINARY.items() if name not in ("precision", "recall", "f1")} | {
    "roc_auc": lambda y, p, label: sk.roc_auc_score(y, p, multi_class="ovr"),
    "pr_auc": lambda y, p, label: sk.average_precision_score(np.eye(p.shape[1])[y], p, average="macro"),
    "brier": lambda y, p, label: sk.brier_score_loss(y, p, scale_by_half=False),
}
NUMBER = {
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "median_absolute_error": sk.median_absolute_error,
    "mape": sk.mean_absolute_percentage_error,
    "r2": sk.r2_score,
    "rmsle": lambda y, p: sk.root_mean_squared_error(*(np.sign(x) * np.log1p(abs(x)) for x in (y, p))),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", BINARY)
def test_binary_metrics_equal_those_of_scikit_learn(name, seed):
    y, p = binary(seed)
    assert measure(name, y, p, 0.5) == pytest.approx(BINARY[name](y, p, (p[:, 1] >= 0.5).astype(int)), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SEVERAL)
def test_multiclass_metrics_equal_those_of_scikit_learn(name, seed):
    y, p = several(seed)
    assert measure(name, y, p) == pytest.approx(SEVERAL[name](y, p, p.argmax(axis=1)), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NUMBER)
def test_regression_metrics_equal_those_of_scikit_learn(name, seed):
    y, predicted = number(seed)
    assert measure(name, y, predicted) == pytest.approx(NUMBER[name](y, predicted), rel=1e-10)


def test_the_bias_is_the_mean_of_prediction_minus_truth():
    assert measure("bias", np.array([1.0, 2.0]), np.array([2.0, 5.0])) == 2.0


def test_every_metric_of_every_kind_of_task_is_checked_against_another_computation():
    checked = {"binary": {*BINARY, "ece"}, "multiclass": {*SEVERAL, "ece"}, "regression": {*NUMBER, "bias"}}
    assert {kind: {metric.name for metric in metrics.all_for(kind)} for kind in checked} == checked


def test_calibration_error_by_hand_in_two_bins():
    # bins of two rows each: |0.15 - 0| and |0.85 - 0.5|, mean of both
    p, hit = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 0.0])
    assert thresholds.expected_error(thresholds.equal_mass(p, 2), p, hit) == pytest.approx(0.25)


def test_a_constant_probability_is_one_bin():
    p, hit = np.full(50, 0.3), np.repeat([1.0, 0.0], [20, 30])
    assert thresholds.expected_error(thresholds.equal_mass(p), p, hit) == pytest.approx(0.1)
    assert [(b.count, b.observed) for b in thresholds.reliability(p, hit)] == [(50, 0.4)]


@pytest.mark.parametrize("name", [metric.name for metric in metrics.all_for("binary")])
def test_no_rows_give_nan(name):
    assert math.isnan(measure(name, np.empty(0, int), np.empty((0, 2))))


@pytest.mark.parametrize("name", [metric.name for metric in metrics.all_for("regression")])
def test_no_rows_give_nan_for_numbers_too(name):
    assert math.isnan(measure(name, np.empty(0), np.empty(0)))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", ["roc_auc", "balanced_accuracy", "mcc"])
def test_one_class_only_is_not_defined(name, label):
    p = np.array([0.2, 0.7, 0.6])
    assert math.isnan(measure(name, np.full(3, label), np.column_stack([1 - p, p])))


def test_without_positive_rows_recall_and_average_precision_are_not_defined():
    p = np.column_stack([np.full(4, 0.1), np.full(4, 0.9)])
    assert math.isnan(measure("recall", np.zeros(4, int), p))
    assert math.isnan(measure("pr_auc", np.zeros(4, int), p))
    assert measure("f1", np.zeros(4, int), p) == 0.0


def test_precision_without_positive_calls_is_not_defined_but_counts_as_nothing_found_in_the_macro_mean():
    y, p = np.array([0, 1, 1]), np.column_stack([np.full(3, 0.9), np.full(3, 0.1)])
    assert math.isnan(measure("precision", y, p))
    assert measure("precision_macro", y, p) == pytest.approx((1 / 3 + 0) / 2)


def test_log_loss_of_a_certain_and_wrong_answer_is_large_and_finite():
    assert measure("log_loss", np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(36.0437, abs=1e-3)


def test_relative_error_with_a_zero_in_the_truth_is_not_defined():
    assert math.isnan(measure("mape", np.array([0.0, 1.0]), np.array([1.0, 1.0])))


def test_determination_of_a_constant_target_is_not_defined():
    assert math.isnan(measure("r2", np.full(4, 1e6 + 0.1), np.arange(4.0)))


def test_a_class_absent_from_the_test_rows_does_not_enter_the_mean():
    y, p = several(0, num_classes=3)
    kept = y != 2
    assert measure("roc_auc", y[kept], p[kept]) == pytest.approx(
        np.mean([sk.roc_auc_score(y[kept] == k, p[kept][:, k]) for k in (0, 1)])
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=60))
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(rows):
    y, score = np.array([r[0] for r in rows]), np.array([r[1] / 5 for r in rows])
    pairs = [(a > b) + (a == b) / 2 for a in score[y == 1] for b in score[y == 0]]
    expected = np.mean(pairs) if pairs else math.nan
    assert METRICS["roc_auc"].function(y, score) == pytest.approx(expected, nan_ok=True)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["binary", "multiclass", "regression"]))
def test_whole_weights_equal_repeated_rows(seed, kind):
    y, output = {"binary": binary, "multiclass": several, "regression": number}[kind](seed, 80)
    weight = np.random.default_rng(seed).integers(0, 3, 80)
    again = np.repeat(np.arange(80), weight)
    for metric in metrics.all_for(kind):
        if metric.name == "ece":  # its bins are those of all rows, by design
            continue
        weighted = metric.prepare(y, Predicted(output).of(metric.needs))(weight.astype(float))
        repeated = metric.function(y[again], Predicted(output[again]).of(metric.needs))
        assert weighted == pytest.approx(repeated, rel=1e-9, nan_ok=True), metric.name


def test_no_metric_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in METRICS.values():
            for y in (np.zeros(3), np.ones(3)):
                output = np.zeros(3) if metric.needs == "value" else np.column_stack([np.ones(3), np.zeros(3)])
                metric.function(y.astype(int), Predicted(output).of(metric.needs))


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(errors.RecipeError) as raised:
        metrics.find("rocauc", "binary")
    assert str(raised.value) == (
        "recipe: selection.metric\n  got:      rocauc\n  expected: a metric of a binary task\n"
        "  hint:     did you mean 'roc_auc'?"
    )


def test_a_metric_of_another_kind_of_task_is_refused():
    with pytest.raises(errors.RecipeError, match="a metric of a regression task"):
        metrics.find("roc_auc", "regression")


def test_models_are_not_ranked_by_their_bias():
    with pytest.raises(errors.RecipeError):
        metrics.find("bias", "regression")


def test_auto_is_the_default_of_the_task():
    assert [metrics.find("auto", kind).name for kind in ("binary", "multiclass", "regression")] == [
        "roc_auc",
        "log_loss",
        "rmse",
    ]

"""Metrics of several labels beside scikit-learn's, and what always holds of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlsys import label_sets as labels
from mlsys.evaluate import metrics
from mlsys.schema import TaskKind

OTHERS = {
    "mean_log_loss": lambda has, p, called: np.mean(
        [sk.log_loss(h, q, labels=[0, 1]) for h, q in zip(has.T, p.T, strict=True)]
    ),
    "mean_brier": lambda has, p, called: np.mean([sk.brier_score_loss(h, q) for h, q in zip(has.T, p.T, strict=True)]),
    "macro_roc_auc": lambda has, p, called: sk.roc_auc_score(has, p, average="macro"),
    "macro_pr_auc": lambda has, p, called: sk.average_precision_score(has, p, average="macro"),
    "macro_f1": lambda has, p, called: sk.f1_score(has, called, average="macro", zero_division=np.nan),
    "micro_f1": lambda has, p, called: sk.f1_score(has, called, average="micro"),
    "subset_accuracy": lambda has, p, called: sk.accuracy_score(has, called),
    "hamming_loss": lambda has, p, called: sk.hamming_loss(has, called),
}
CUTS = (0.3, 0.5, 0.7)


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=(n, 3))
    return rng.random((n, 3)) < 0.2 + 0.6 * p, p


def test_every_metric_of_labels_is_compared():
    assert {metric.name for metric in metrics.all_for(TaskKind.MULTILABEL)} == set(OTHERS)
    assert metrics.default(TaskKind.MULTILABEL) == "mean_log_loss"


@pytest.mark.parametrize("name", OTHERS)
def test_a_metric_is_that_of_scikit_learn(name):
    has, p = rows()
    called = p >= np.array(CUTS)
    expected = OTHERS[name](has.astype(int), p, called.astype(int))
    assert metrics.measure(name, labels.number(has), p, CUTS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_of_weight_two_counts_as_two_rows(name):
    has, p = rows(80, seed=1)
    weight = np.random.default_rng(2).integers(0, 4, 80)
    y = labels.number(has)
    repeated = np.repeat(np.arange(80), weight)
    weighted = metrics.measure(name, y, p, CUTS, weight.astype(float))
    assert weighted == pytest.approx(metrics.measure(name, y[repeated], p[repeated], CUTS), rel=1e-9)


@pytest.mark.parametrize("name", OTHERS)
@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(0, 1_000))
def test_a_metric_is_within_its_bounds_and_does_not_depend_on_the_order_of_rows_or_labels(name, n, seed):
    rng = np.random.default_rng(seed)
    has, p = rng.random((n, 3)) < rng.random(3), rng.random((n, 3))
    value = metrics.measure(name, labels.number(has), p, CUTS)
    low, high = metrics.METRICS[name].bounds
    assert np.isnan(value) or low <= value <= high
    order, places = rng.permutation(n), rng.permutation(3)
    turned = metrics.measure(
        name, labels.number(has[order][:, places]), p[order][:, places], [CUTS[place] for place in places]
    )
    assert turned == pytest.approx(value, rel=1e-12, nan_ok=True)


def test_a_label_without_two_classes_is_left_out_of_ranks_and_counted_in_losses():
    has, p = rows()
    has[:, 2] = False
    y = labels.number(has)
    assert metrics.measure("macro_roc_auc", y, p) == pytest.approx(sk.roc_auc_score(has[:, :2], p[:, :2]))
    assert metrics.measure("mean_log_loss", y, p) == pytest.approx(OTHERS["mean_log_loss"](has.astype(int), p, None))


def test_nothing_is_defined_without_rows():
    assert all(np.isnan(metrics.measure(name, np.empty(0), np.empty((0, 3)))) for name in OTHERS)

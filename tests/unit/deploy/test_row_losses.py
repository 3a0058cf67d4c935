"""Losses of rows are those of scikit-learn, bounded by 1, and of each task the one that it asks for."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from bundles import fit
from mlsys import bundle
from mlsys.deploy import row_losses
from mlsys.predict import Predictor
from mlsys.schema import TargetLoss, Task, TaskKind
from mlsys.store import Store

BINARY = Task(kind="binary", target="y", classes=(False, True))
COLOURS = Task(kind="multiclass", target="y", classes=("blue", "green", "red"))
TAGS = Task(kind="multilabel", target="y", labels=("far", "night"), classes=("[]", '["far"]'))
NUMBER = Task(kind="regression", target="y")


def test_the_loss_of_two_classes_is_the_brier_score():
    rng = np.random.default_rng(0)
    p, y = rng.random(200), rng.integers(0, 2, 200)
    losses = row_losses.of_rows(BINARY, np.column_stack([1 - p, p]), y.astype(float))
    assert losses.mean() == pytest.approx(metrics.brier_score_loss(y, p))


def test_the_loss_of_more_classes_is_half_of_briers_score():
    rng = np.random.default_rng(1)
    p, y = rng.dirichlet([1, 2, 3], 200), rng.integers(0, 3, 200)
    losses = row_losses.of_rows(COLOURS, p, y.astype(float))
    assert losses.mean() == pytest.approx(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean() / 2)
    assert losses.max() <= 1


def test_the_loss_of_several_labels_is_the_mean_brier_score():
    outputs = np.array([[0.9, 0.2], [0.5, 1.0]])
    assert row_losses.of_rows(TAGS, outputs, np.array([1.0, 2.0])).tolist() == pytest.approx([0.025, 0.125])


def test_of_very_many_classes_the_most_probable_one_is_right_or_wrong():
    task = Task(kind="multiclass", target="y", classes=tuple(f"c{number:03d}" for number in range(60)))
    assert row_losses.num_outputs(task) == 1
    assert row_losses.of_rows(task, np.array([[3.0], [4.0]]), np.array([3.0, 5.0])).tolist() == [0.0, 1.0]


def test_the_loss_of_numbers_is_the_squared_error_in_variances_of_the_target_and_bounded():
    losses = row_losses.of_rows(NUMBER, np.array([[1.0], [1.0], [1.0]]), np.array([1.0, 3.0, 1e300]), spread=2.0)
    assert losses.tolist() == [0.0, 0.25, 1.0]


def test_the_loss_of_a_quantile_is_its_pinball_loss():
    task = NUMBER.model_copy(update={"loss": TargetLoss.of({"quantile": 0.9})})
    rng = np.random.default_rng(2)
    y, prediction = rng.normal(size=(2, 100))
    losses = row_losses.of_rows(task, prediction[:, None], y, spread=100.0)
    assert losses.mean() * 200 == pytest.approx(metrics.mean_pinball_loss(y, prediction, alpha=0.9))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_no_loss_leaves_its_bounds(label, value):
    (loss,) = row_losses.of_rows(NUMBER, np.array([[value]]), np.array([label]), spread=1.0)
    assert 0 <= loss <= 1


def test_a_ranking_and_a_target_without_spread_have_no_loss():
    ranking = NUMBER.model_copy(update={"kind": TaskKind.RANKING})
    for task, spread in ((ranking, 1.0), (NUMBER, 0.0)):
        assert np.isnan(row_losses.of_rows(task, np.array([[1.0]]), np.array([2.0]), spread)).all()


def test_what_is_no_label_of_a_task_is_none():
    read = row_losses.label_numbers
    assert read(BINARY, pl.Series(["true", "false", "maybe", None])).tolist() == pytest.approx(
        [1.0, 0.0, np.nan, np.nan], nan_ok=True
    )
    assert read(NUMBER, pl.Series(["2.5", "x", "inf", None])).tolist() == pytest.approx(
        [2.5, np.nan, np.nan, np.nan], nan_ok=True
    )
    assert read(TAGS, pl.Series(['["night"]'])).tolist() == [2.0]


@pytest.mark.parametrize("kind", list(TaskKind))
def test_the_outputs_of_a_first_row_are_its_probabilities_or_its_value(tmp_path, kind):
    store = Store.open(tmp_path)
    opened = bundle.open(store, fit(store, kind=kind).digest)
    predictions = Predictor(opened).rows([opened.example])
    outputs = row_losses.outputs_of(predictions)
    assert len(outputs) == row_losses.num_outputs(opened.task)
    of = predictions.prediction[:1] if predictions.probabilities is None else predictions.probabilities[0]
    assert outputs == of.tolist()
    assert (row_losses.target_spread(opened) > 0) is (not opened.task.is_classification)

"""Known labels give the metrics of the evaluation, gradients are those of differences, noise is that of draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mlsys.evaluate import metrics, recalibration
from mlsys.evaluate.recalibration import Recalibration
from mlsys.monitor import expected_metrics
from mlsys.monitor.expected_metrics import EXPECTED, ScoreCells
from mlsys.schema import TaskKind


def cells_of(p, called, n, rate):
    order = np.argsort(p, kind="stable")
    columns = (np.asarray(column)[order] for column in (p, called, n, rate))
    p, called, n, rate = columns
    return ScoreCells(p, called, n.astype(float), rate.astype(float), np.ones((len(p), 1)))


def fixed(beside=1.0):
    """A recalibration without any error; of units of more than one row these have everything in common."""
    return Recalibration((0.0,), np.zeros(1), np.zeros((1, 1)), (0, 400), beside * np.eye(1), np.eye(1), beside)


def value(kind, name, classes):
    return expected_metrics.expect(kind, name, classes, [fixed()] * len(classes)).value


@pytest.mark.parametrize("name", EXPECTED[TaskKind.BINARY])
def test_known_labels_give_the_metric_of_two_classes(name):
    rng = np.random.default_rng(1)
    p, y = rng.random(60), rng.integers(0, 2, 60)
    cells = cells_of(p, p >= 0.4, np.ones(60), y)
    known = metrics.measure(name, y, np.column_stack([1 - p, p]), 0.4)
    assert value(TaskKind.BINARY, name, [cells]) == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("name", EXPECTED[TaskKind.MULTICLASS])
def test_known_labels_give_the_metric_of_three_classes(name):
    rng = np.random.default_rng(2)
    output, y = rng.dirichlet([1, 1, 1], 90), rng.integers(0, 3, 90)
    called = output.argmax(axis=1)
    classes = [cells_of(output[:, k], called == k, np.ones(90), y == k) for k in range(3)]
    assert value(TaskKind.MULTICLASS, name, classes) == pytest.approx(metrics.measure(name, y, output), rel=1e-9)


@pytest.mark.parametrize("name", EXPECTED[TaskKind.MULTILABEL])
def test_known_labels_give_the_metric_of_several_labels(name):
    rng = np.random.default_rng(3)
    output, y = rng.random((80, 2)), rng.integers(0, 4, 80).astype(float)
    has = (y.astype(int)[:, None] >> np.arange(2)) & 1
    classes = [cells_of(output[:, k], output[:, k] >= 0.5, np.ones(80), has[:, k]) for k in range(2)]
    assert value(TaskKind.MULTILABEL, name, classes) == pytest.approx(metrics.measure(name, y, output), rel=1e-9)


def some_cells(seed):
    rng = np.random.default_rng(seed)
    p = np.sort(rng.random(30))
    return cells_of(p, p >= 0.5, rng.integers(5, 60, 30), np.clip(p + rng.normal(0, 0.1, 30), 0.02, 0.98))


@pytest.mark.parametrize("kind", EXPECTED)
def test_gradients_are_those_of_differences(kind):
    cells = some_cells(4)
    for name, (function, _) in EXPECTED[kind].items():
        _, gradient = function(cells)
        for place in (0, 12, 25):
            step = np.zeros(30)
            step[place] = 1e-5
            ends = [function(dataclasses.replace(cells, rate=cells.rate + sign * step))[0] for sign in (1, -1)]
            slope = (ends[0] - ends[1]) / 2e-5
            assert gradient[place] * cells.n[place] == pytest.approx(slope, rel=1e-3, abs=1e-7), name


@pytest.mark.parametrize("name", EXPECTED[TaskKind.BINARY])
def test_noise_is_the_variance_over_draws_of_the_labels(name):
    """1,000 draws: the standard deviation has a relative error of 2.2 %, and 4 of these are allowed."""
    cells, rng = some_cells(5), np.random.default_rng(6)
    expected = expected_metrics.expect(TaskKind.BINARY, name, [cells], [fixed()])
    drawn = []
    for _ in range(1_000):
        k = rng.binomial(cells.n.astype(int), cells.rate)
        drawn.append(value(TaskKind.BINARY, name, [dataclasses.replace(cells, rate=k / cells.n)]))
    assert np.sqrt(expected.noise) == pytest.approx(np.std(drawn), rel=0.09)
    assert expected.value == pytest.approx(np.mean(drawn), abs=0.2 * np.std(drawn))


def test_labels_that_are_alike_vary_more():
    cells = some_cells(7)
    once, twice = (expected_metrics.expect(TaskKind.BINARY, "brier", [cells], [fixed(2)], e).noise for e in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)


def test_the_error_of_the_rates_is_that_of_refits():
    """The expected ROC AUC of 5,000 rows by rates from 300 sets of 1,000 rows: 4 standard errors of a spread."""
    rng = np.random.default_rng(8)
    z = rng.normal(0, 1.2, 5_000)
    counts = np.bincount(2 * recalibration.bins_of(1 / (1 + np.exp(-z))), minlength=recalibration.NUM_CELLS)
    estimated, stated = [], []
    for _ in range(300):
        own = rng.normal(0, 1.2, 1_000)
        p = 1 / (1 + np.exp(-own))
        fit = Recalibration.fit(recalibration.bins_of(p), rng.random(1_000) < p)
        expected = expected_metrics.expect(TaskKind.BINARY, "roc_auc", [ScoreCells.of(counts, fit)], [fit])
        estimated.append(expected.value)
        stated.append(expected.calibration)
    assert np.sqrt(np.mean(stated)) == pytest.approx(np.std(estimated), rel=0.18)

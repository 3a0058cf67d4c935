"""Errors of numbers without labels: held by their intervals where rows change, and missed where the truth changes."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlsys.evaluate import loss_model
from mlsys.monitor.loss_estimate import LossEstimator
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.windows import Window
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics

MONDAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
KINDS = {"x": Kind.NUMERIC, "colour": Kind.CATEGORICAL, "score": Kind.NUMERIC}


def draw(num_rows, seed, *, mean=0.0, red=0.2, noise=1.0):
    """Rows whose noise grows with x and is larger for red ones; the model knows their mean."""
    rng = np.random.default_rng(seed)
    x, colour = rng.normal(mean, 1, num_rows), np.where(rng.random(num_rows) < red, "red", "blue")
    spread = noise * (0.5 + np.maximum(x, 0) + (colour == "red"))
    return {"x": x, "colour": colour, "score": 2 * x, "y": 2 * x + rng.normal(0, spread)}


def bins_of(rows):
    bins = {}
    for name, kind in KINDS.items():
        column = ColumnStatistics(kind)
        column.update(pa.array(rows[name]))
        bins[name] = ReferenceBins.of(name, column)
    return bins


@pytest.fixture(scope="module")
def known():
    """Bins of 20,000 training rows, and the estimator of 5,000 test rows."""
    bins, test = bins_of(draw(20_000, 1)), draw(5_000, 2)
    points = [*np.quantile(test["x"], np.linspace(0, 1, 12)).tolist(), None]
    response = {
        "columns": {
            "x": {"values": points, "output": [[float(k)] for k in range(13)]},
            "colour": {"values": ["blue", "red", None], "output": [[0.0], [1.0], [0.0]]},
        }
    }
    table = pa.table({"x": test["x"], "colour": test["colour"]})
    facts = loss_model.facts(test["y"], test["score"], ["rmse", "mae"], table, response, None, numeric={"x"})
    return bins, LossEstimator.of(facts, bins)


def window_of(rows, bins):
    window = Window(MONDAY, MONDAY + dt.timedelta(days=7), "", None, num_rows=len(rows["x"]))
    for name, column in bins.items():
        index = column.index(pa.array(rows[name]))
        window.counts[name] = np.bincount(index, minlength=column.size)[np.newaxis]
    return window


@pytest.mark.parametrize("change", [{}, {"mean": 1.0}, {"mean": -1.0}, {"red": 0.8}])
def test_intervals_hold_the_error_that_labels_give(known, change):
    """Of 60 intervals of 95 %, fewer than 52 hold with a probability of 0.006 if all are independent."""
    bins, estimator = known
    held, errors = 0, []
    for seed in range(60):
        rows = draw(1_000, 100 + seed, **change)
        realised = np.sqrt(((rows["y"] - rows["score"]) ** 2).mean())
        estimate = estimator.estimates(window_of(rows, bins), ["rmse"], 0.95)["rmse"]
        held += estimate.low <= realised <= estimate.high
        errors.append(estimate.value / realised - 1)
    assert held >= 52
    assert abs(np.mean(errors)) < 0.05


def test_rows_that_are_harder_are_estimated_to_cost(known):
    """E loss = E (0.5 + max(x, 0) + red)^2: from 1.5 to 3.8 where the mean of x goes from 0 to 1.2."""
    bins, estimator = known
    usual, hard = (
        estimator.estimates(window_of(draw(3_000, 5, mean=mean), bins), ["rmse", "mae"], 0.95) for mean in (0.0, 1.2)
    )
    for name in ("rmse", "mae"):
        assert hard[name].low > usual[name].high


def test_a_truth_that_changes_is_missed(known):
    bins, estimator = known
    rows = draw(2_000, 6, noise=1.5)
    realised = np.sqrt(((rows["y"] - rows["score"]) ** 2).mean())
    assert realised > estimator.estimates(window_of(rows, bins), ["rmse"], 0.95)["rmse"].high


def test_nothing_is_estimated_from_columns_that_are_not_counted(known):
    bins, estimator = known
    window = window_of(draw(100, 7), bins)
    del window.counts["colour"]
    assert estimator.estimates(window, ["rmse"], 0.95) == {}
    facts = {"columns": {"gone": [1.0, None]}, "metrics": {}}
    assert LossEstimator.of(facts, bins) is None

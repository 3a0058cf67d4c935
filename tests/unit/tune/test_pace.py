"""Learning rates that fit the time of a trial."""

import numpy as np
import pytest

from mlsys import models, train
from mlsys.models.matrix import Matrix
from mlsys.schema import Task
from mlsys.tune import pace

RNG = np.random.default_rng(3)
TASK = Task(kind="regression", target="y")


def rows(number):
    X = RNG.normal(size=(number, 3)).astype(np.float32)
    return Matrix(X, X[:, 0].astype(np.float64), ("a", "b", "c"), ("q", "q", "q"))


PREPARED = train.Prepared(rows(300), rows(80), rows(80), 1.0)


def rate(family="lightgbm", seconds=10.0, **params):
    how = {"seconds": seconds, "seed": 0, "threads": 1, "target": "none", "bins": {}}
    return pace.in_time(PREPARED, TASK, family, models.params_of(family, params), "rmse", **how)


@pytest.mark.parametrize(
    ("round_s", "expected"), [(0.01, {}), (0.05, {"learning_rate": 0.1}), (9.0, {"learning_rate": 0.2})]
)
def test_less_time_is_larger_steps_up_to_the_largest(monkeypatch, round_s, expected):
    monkeypatch.setattr(train, "round_seconds", lambda *_, **__: round_s)
    assert rate() == expected


def test_a_step_that_is_larger_already_is_not_made_smaller(monkeypatch):
    monkeypatch.setattr(train, "round_seconds", lambda *_, **__: 9.0)
    assert rate(learning_rate=0.5) == {}


def test_a_family_without_rounds_has_no_pace():
    assert rate("linear") == {}


def test_rounds_are_timed_on_the_bins_of_the_fit_that_follows():
    bins = {}
    how = {"seconds": 10.0, "seed": 0, "threads": 1, "target": "none", "bins": bins}
    assert train.round_seconds(PREPARED, TASK, "lightgbm", models.params_of("lightgbm", {}), "rmse", **how) > 0
    ((key, made),) = bins.items()
    train.judged(PREPARED, TASK, "lightgbm", models.params_of("lightgbm", {}), "rmse", seed=0, threads=1, bins=bins)
    assert bins == {key: made}

"""Intervals hold the truth, and promotions happen, as often as they say: worlds whose truth is known, small and seeded.

`benchmarks/interval_coverage.py` and `benchmarks/promotion_rates.py` run the same worlds at length.
"""

import dataclasses

import numpy as np
import pytest

import simulations
from simulations import BINARY, REGRESSION, World


@pytest.mark.parametrize(
    ("world", "names"),
    [
        (World("binary", 20, 20, correlation=0.3), BINARY),
        (World("regression", 20, 20, correlation=0.1), REGRESSION),
        (World("regression", 60, 10, correlation=0.3, by="group"), REGRESSION),
    ],
)
def test_intervals_of_days_and_groups_hold_the_truth_as_often_as_they_say(world, names):
    number = 200
    least, _ = simulations.band(0.93, number)
    _, most = simulations.band(0.97, number)
    for name, share in simulations.coverage(world, names, number).items():
        assert least <= share * number <= most, name


def test_intervals_that_take_the_rows_of_a_day_as_independent_hold_it_too_seldom():
    world = World("binary", 20, 40, correlation=0.3, by="rows")
    least, _ = simulations.band(0.93, 60)
    assert max(simulations.coverage(world, BINARY[1:], 60).values()) * 60 < least


def test_of_two_equal_models_few_are_promoted_and_of_a_better_one_most():
    rng, cases, rows = np.random.default_rng(0), 60, 2_000
    by_chance = by_merit = 0
    for case in range(cases):
        y, first, second = simulations.scores(rng, rows)
        by_chance += simulations.promoted(y, first, second, case, num_resamples=100)
        y, better, worse = simulations.scores(rng, rows, loss=0.02)
        by_merit += simulations.promoted(y, better, worse, case, num_resamples=100)
    assert by_chance <= simulations.band(0.05, cases)[1]
    assert by_merit >= simulations.band(0.8, cases)[0]


def test_days_that_are_alike_to_the_day_before_make_longer_intervals():
    rng = np.random.default_rng(1)
    world = World("regression", 120, 10, correlation=0.3, memory=0.8)
    unit, y, prediction = world.draw(rng)
    statistic = world.prepared(("rmse",), y, prediction)["rmse"]
    units = simulations.resampling.choose(world.context(rng, unit), statistic)
    assert len(np.unique(units.number)) < 120
    alone = dataclasses.replace(world, memory=0.0)
    unit, y, prediction = alone.draw(rng)
    statistic = alone.prepared(("rmse",), y, prediction)["rmse"]
    assert simulations.resampling.choose(alone.context(rng, unit), statistic).of == "blocks of 1 day"

"""Rows that belong together: blocks of time, groups, or none, by what the split keeps apart."""

import json

import numpy as np
import pytest

import mlsys
from mlsys.evaluate import resampling
from mlsys.evaluate.metrics import METRICS
from mlsys.evaluate.resampling import RowContext

HOUR_US = 3_600_000_000
START_US = 1_700_006_400_000_000  # a midnight in UTC


def rmse(values):
    return METRICS["rmse"].prepare(values, np.zeros(len(values)))


def chosen(context, values=None):
    noise = np.random.default_rng(0).normal(size=context.num_rows) if values is None else values
    return resampling.choose(context, rmse(noise))


def hourly(num_hours, timezone="UTC"):
    return RowContext(num_hours, START_US + HOUR_US * np.arange(num_hours), timezone=timezone)


def test_rows_of_a_day_are_one_block_in_the_recipes_time_zone():
    units = chosen(hourly(24 * 10))
    assert units.of == "blocks of 1 day"
    assert np.array_equal(units.number, np.repeat(np.arange(10), 24))
    berlin = chosen(hourly(24 * 10, "Europe/Berlin"))
    assert np.bincount(berlin.number).tolist() == [23, *[24] * 9, 1]


def test_of_too_few_days_hours_are_taken_and_of_those_single_times():
    assert chosen(hourly(72)).of == "blocks of 1 hour"
    seconds = RowContext(40, START_US + 1_000_000 * np.arange(40))
    assert chosen(seconds).of == "blocks of 1 time"


def test_very_many_days_become_two_hundred_blocks():
    units = chosen(RowContext(1000, START_US + 24 * HOUR_US * np.arange(1000)))
    assert (units.of, len(np.unique(units.number))) == ("blocks of 5 days", 200)


def test_groups_are_units_and_many_become_sets():
    groups = np.repeat(np.arange(30), 4)
    assert np.array_equal(chosen(RowContext(120, groups=groups, group="customer")).number, groups)
    many = chosen(RowContext(5000, groups=np.arange(5000) // 2, group="customer"))
    assert many.of == "200 sets of the 2,500 groups of 'customer'"
    assert (many.number[::2] == many.number[1::2]).all()
    assert np.ptp(np.bincount(many.number)) <= 2


def test_where_both_time_and_groups_divide_the_longer_interval_counts():
    group = np.arange(240) % 12
    alike = np.random.default_rng(1).normal(size=12)[group] * 3
    both = RowContext(240, hourly(240).times, group, "sensor")
    assert chosen(both, alike).of == "groups of 'sensor'"
    day = np.random.default_rng(1).normal(size=10)[np.arange(240) // 24] * 3
    assert chosen(both, day).of == "blocks of 1 day"


def test_neither_time_nor_group_leaves_rows():
    assert chosen(RowContext(50)) == resampling.ROWS


@pytest.mark.parametrize("by", ["time", "random"])
def test_an_evaluation_says_what_its_intervals_resampled(tmp_path, by):
    rng = np.random.default_rng(0)
    x, when = rng.normal(size=1200), np.datetime64("2024-01-01") + np.arange(1200) * np.timedelta64(2, "h")
    y = (x + rng.normal(size=1200) > 0).astype(int)
    lines = "\n".join(f"{a},{b},{c}" for a, b, c in zip(when.astype(str), x, y, strict=True))
    (tmp_path / "t.csv").write_text("when,x,y\n" + lines + "\n")
    recipe = {
        "name": "t",
        "target": "y",
        "data": {"source": str(tmp_path / "t.csv"), "time": "when"},
        "split": {"by": by},
    }
    quick = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "train.family": "linear"}
    done = mlsys.run(recipe, "evaluate", set=quick, store=tmp_path / "store", cluster=False, quiet=True)
    evaluation = json.loads(done.reports["evaluate"].with_suffix(".json").read_text())
    found, page = evaluation["resampling"], done.reports["evaluate"].read_text()
    if by == "random":
        assert (found["unit"], found["method"]) == ("rows", "percentile bootstrap")
        assert "the percentile bootstrap, 200 resamples of rows" in page
    else:
        assert (found["unit"], found["num_units"], found["block_length"]) == ("blocks of 1 day", 15, "1 day")
        assert "each of 15 blocks of 1 day left out once" in page

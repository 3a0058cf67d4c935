"""MASE and skill, by hand and under weights."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlsys.evaluate import baseline, forecast_metrics
from mlsys.schema import Forecast, Task

FACTS = {"time": "day", "horizon": "2d", "step": "1d", "known": ("ago_2d_y", "last_y"), "naive": "naive_y"}
DAYS = [dt.date(2024, 1, day) for day in range(1, 7)]


def train(values, series=None, days=DAYS):
    columns = {"day": days[: len(values)], "y": values}
    return pa.table(columns if series is None else {"store": series, **columns})


def test_the_scale_without_a_season_is_the_mean_step():
    known = forecast_metrics.scales(train([1.0, 4.0, 2.0]), Forecast(**FACTS), "y")
    assert known["scale"].to_list() == [2.5]  # (3 + 2) / 2


def test_the_scale_with_a_season_is_of_values_a_season_apart():
    known = forecast_metrics.scales(train([1.0, 4.0, 2.0, 8.0]), Forecast(**FACTS, season="2d"), "y")
    assert known["scale"].to_list() == [2.5]  # (|2 - 1| + |8 - 4|) / 2


def test_a_gap_takes_no_other_day_for_the_season():
    days = [DAYS[0], DAYS[1], DAYS[3], DAYS[4]]
    known = forecast_metrics.scales(train([1.0, 4.0, 2.0, 8.0], days=days), Forecast(**FACTS, season="2d"), "y")
    assert known["scale"].to_list() == [2.0]  # day 4 of day 2 alone


def test_each_series_has_its_scale():
    table = train([1.0, 2.0, 10.0, 30.0], ["a", "a", "b", "b"], [DAYS[0], DAYS[1], DAYS[0], DAYS[1]])
    facts = Forecast(**FACTS, series=("store",))
    known = {row[0]: row[1] for row in forecast_metrics.scales(table, facts, "y").rows()}
    assert known == {"a": 1.0, "b": 20.0}
    asked = pa.table({"store": ["b", "a", "new"]})
    scale = forecast_metrics._scale_of(asked, forecast_metrics.scales(table, facts, "y"), facts)
    np.testing.assert_array_equal(scale, [20.0, 1.0, np.nan])


def test_mase_is_the_mean_error_in_scales_and_leaves_rows_without_one_out():
    metric = forecast_metrics.mase(np.array([2.0, 4.0, np.nan]))
    y, prediction = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 99.0])
    assert metric.function(y, prediction) == (1 / 2 + 2 / 4) / 2
    assert metric.under(y, prediction, None)(np.array([3.0, 1.0, 5.0])) == pytest.approx((3 * 0.5 + 0.5) / 4)
    assert "1 test rows of series without a scale" in metric.definition
    assert np.isnan(forecast_metrics.mase(np.array([np.nan])).function(y[:1], prediction[:1]))


def test_skill_is_the_part_of_the_naive_error_that_is_gone():
    metric = forecast_metrics.skill(np.array([3.0, 3.0]))
    y, prediction = np.array([1.0, 2.0]), np.array([2.0, 2.5])
    assert metric.function(y, prediction) == 1 - 1.5 / 3
    assert metric.under(y, prediction, None)(np.array([0.0, 2.0])) == 0.5
    assert np.isnan(forecast_metrics.skill(y).function(y, prediction))


def test_the_naive_forecast_is_the_first_value_that_is_known():
    task = Task(kind="regression", target="y", forecast=Forecast(**FACTS))
    rows = pa.table({"ago_2d_y": [1.0, None, None], "last_y": [5.0, 6.0, None]})
    np.testing.assert_array_equal(baseline.naive_forecasts(rows, task), [1.0, 6.0, np.nan])
    assert baseline.naive_forecasts(rows, Task(kind="regression", target="y")) is None

"""Step and season of series, found from their rows; what is no series is refused."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

import panels
from mlsys import errors
from mlsys.collect import seasonality
from mlsys.collect.seasonality import SERIES, TIME, VALUE
from mlsys.periods import Period
from mlsys.recipe.forecast import ForecastSection

NEW_YEAR = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def section(horizon="1d", **values):
    return ForecastSection(horizon=horizon, **values)


def rows(times, values=None, series=None):
    times = pl.Series(times).cast(pl.Datetime("us")).to_physical()
    values = np.arange(len(times), dtype=float) if values is None else values
    return pl.DataFrame({SERIES: [0] * len(times) if series is None else series, TIME: times, VALUE: values})


def month_ends(number):
    first = pl.date_range(dt.date(2015, 1, 1), dt.date(2030, 1, 1), "1mo", eager=True)[:number]
    return first.dt.month_end()


@pytest.mark.parametrize(
    ("times", "step"),
    [
        ([dt.date(2024, 1, day) for day in (1, 2, 3, 5, 6, 9)], "1d"),
        ([NEW_YEAR + dt.timedelta(hours=hour) for hour in range(0, 24, 2)], "2h"),
        (pl.date_range(dt.date(2020, 1, 1), dt.date(2022, 1, 1), "1mo", eager=True), "1mo"),
        (pl.date_range(dt.date(2020, 2, 1), dt.date(2022, 5, 1), "3mo", eager=True), "3mo"),
        (pl.date_range(dt.date(2000, 7, 1), dt.date(2022, 7, 1), "1y", eager=True), "1y"),
        (month_ends(30), "1mo"),
        (pl.date_range(dt.date(2020, 1, 1), dt.date(2022, 1, 1), "30d", eager=True), "30d"),
    ],
)
def test_the_step_is_the_most_frequent_span_or_a_month_of_the_calendar(times, step):
    assert str(seasonality.find_step(rows(times), section("10y"))) == step


def test_a_horizon_shorter_than_a_step_is_refused():
    times = [dt.date(2024, 1, day) for day in range(1, 20)]
    with pytest.raises(errors.RecipeError) as caught:
        seasonality.find_step(rows(times), section("6h"))
    assert str(caught.value) == (
        "recipe: 'forecast.horizon': 6h\n"
        "  got:      less than a step: the rows of a series are 1d apart\n"
        "  expected: 1d at least\n"
        "  hint:     the next row is forecast with a horizon of one step"
    )


def test_series_of_a_row_each_have_no_step():
    with pytest.raises(errors.TargetError, match=r"2 series of one row each"):
        seasonality.find_step(rows([dt.date(2024, 1, 1)] * 2, series=[0, 1]), section())


def test_lags_and_last_values_by_hand():
    frame = rows([dt.date(2024, 1, day) for day in (1, 2, 4, 5)], [1.0, 2.0, 4.0, 5.0])
    assert seasonality.lagged(frame, Period.parse("2d")).to_list() == [None, None, 2.0, None]
    assert seasonality.last_known(frame, Period.parse("2d")).to_list() == [None, None, 2.0, 2.0]


def weekly(num_days=200, noise=0.0, seed=0):
    day = np.arange(num_days)
    values = 10 + np.sin(2 * np.pi * day / 7) + np.random.default_rng(seed).normal(0, noise, num_days)
    return rows([dt.date(2024, 1, 1) + dt.timedelta(int(each)) for each in day], values)


def found(frame, horizon, **values):
    settings = section(horizon, **values)
    step = seasonality.find_step(frame, settings)
    return [str(each.season) for each in seasonality.find_seasons(frame, settings, step, 2**62)]


@pytest.mark.parametrize("horizon", ["1d", "7d", "10d", "14d"])
def test_a_week_is_found_whatever_the_horizon(horizon):
    assert found(weekly(noise=0.2), horizon) == ["7d"]


def test_noise_and_a_random_walk_have_no_season():
    rng = np.random.default_rng(1)
    times = [NEW_YEAR + dt.timedelta(hours=each) for each in range(2_000)]
    assert found(rows(times, rng.normal(size=2_000)), "1h") == []
    assert found(rows(times, rng.normal(size=2_000).cumsum()), "1h") == []


def test_days_make_no_week():
    hours = np.arange(24 * 60)
    times = [NEW_YEAR + dt.timedelta(hours=int(each)) for each in hours]
    values = np.sin(2 * np.pi * hours / 24) + np.random.default_rng(0).normal(0, 0.2, len(hours))
    assert found(rows(times, values), "1h") == ["1d"]
    weekends = values + 2.0 * ((hours // 24) % 7 >= 5)
    assert set(found(rows(times, weekends), "1h")) == {"1d", "7d"}


def test_months_have_a_year():
    times = pl.date_range(dt.date(2010, 1, 1), dt.date(2020, 1, 1), "1mo", eager=True)
    values = np.cos(2 * np.pi * np.arange(len(times)) / 12) + 0.01 * np.arange(len(times))
    assert found(rows(times, values), "3mo") == ["1y"]


def test_nothing_after_the_given_time_decides_the_season():
    frame = weekly(noise=0.2)
    end = int(frame[TIME][120])
    changed = frame.with_columns(pl.when(pl.col(TIME) < end).then(VALUE).otherwise(pl.lit(0.0)).alias(VALUE))
    settings, step = section("7d"), Period.parse("1d")
    before, after = (seasonality.find_seasons(each, settings, step, end) for each in (frame, changed))
    assert before == after != []


def test_the_recipe_decides_the_season():
    assert found(weekly(noise=0.2), "1d", season="none") == []
    assert found(weekly(noise=0.2), "1d", season="30d") == ["30d", "7d"]


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda f: pl.concat([f, f.head(1)]), errors.ContractError, "2 rows that share series and time with another"),
        (
            lambda f: f.with_columns(pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise("store").alias("store")),
            errors.ContractError,
            "null in 3 of 1,200 rows",
        ),
        (lambda f: f.drop("store"), errors.RecipeError, "'forecast.series'"),
        (lambda f: f.with_columns(pl.col("sales").cast(pl.String) + "x"), errors.TargetError, "values of type string"),
        (lambda f: f.with_columns(pl.col("sales") > 30), errors.TargetError, "values of type bool"),
    ],
)
def test_what_is_no_series_is_refused_before_the_first_fit(tmp_path, change, kind, text):
    with pytest.raises(kind, match=text):
        panels.run(tmp_path, change(panels.days()), "collect")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"task": "binary"}, r"recipe: 'task' beside forecast"),
        ({"loss": "poisson"}, r"recipe: 'loss' beside forecast"),
        ({"data": {"source": "rows.parquet"}}, r"recipe: 'data.time' beside forecast"),
        ({"split": {"by": "random"}}, r"recipe: split by random"),
        ({"horizon": "500d"}, r"about 6 horizons of 500d"),
        ({"horizon": "1h"}, r"less than a step"),
        ({"forecast": {"series": ["stor"], "horizon": "7d"}}, r"did you mean 'store'"),
        ({"forecast": {"series": ["day"], "horizon": "7d"}}, r"the target or the time"),
        ({"forecast": {"series": ["store"], "horizon": "0d"}}, r"a number above 0 and a unit"),
    ],
)
def test_a_recipe_that_cannot_be_forecast_says_why(tmp_path, changes, text):
    with pytest.raises(errors.MlsysError, match=text):
        panels.run(tmp_path, panels.days(), "collect", **changes)

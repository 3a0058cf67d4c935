"""`mlsys init --forecast`: time and series are proposed only when asked for, and the recipe runs."""

from __future__ import annotations

import polars as pl
import pytest

import mlsys
import panels
from mlsys import errors, recipe


@pytest.fixture
def source(tmp_path):
    frame = panels.days(3, 60)
    two = [frame.with_columns(item=pl.lit(item), sales=pl.col("sales") * (item + 1)) for item in (0, 1)]
    path = tmp_path / "sales.parquet"
    pl.concat(two).write_parquet(path)
    return str(path)


def test_series_are_named_by_as_few_columns_as_tell_the_rows_of_a_time_apart(source):
    drafted = recipe.parse(mlsys.init(source, "sales", forecast="7d"))
    assert drafted.forecast.horizon == "7d"
    assert sorted(drafted.forecast.series) == ["item", "store"]
    assert drafted.data.time == "day"


def test_one_series_needs_no_column(tmp_path):
    panels.days(1, 60).drop("store").write_parquet(tmp_path / "sales.parquet")
    drafted = recipe.parse(mlsys.init(str(tmp_path / "sales.parquet"), "sales", forecast="7d"))
    assert drafted.forecast.series == ()


def test_nothing_is_forecast_unasked(source):
    assert "\nforecast:" not in mlsys.init(source, "sales")


@pytest.mark.parametrize(
    ("horizon", "columns", "text"),
    [("soon", ["day"], "a number above 0 and a unit"), ("7d", [], "no column of dates or times")],
)
def test_what_cannot_be_forecast_says_why(tmp_path, horizon, columns, text):
    panels.days(2, 60).select("store", "promo", "sales", *columns).write_parquet(tmp_path / "sales.parquet")
    with pytest.raises(errors.RecipeError, match=text):
        mlsys.init(str(tmp_path / "sales.parquet"), "sales", forecast=horizon)

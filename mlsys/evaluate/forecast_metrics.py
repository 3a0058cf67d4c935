"""Metrics of forecasts: errors as multiples of those that a naive forecast made in training, and the gain over it.

MASE, the mean absolute scaled error (Hyndman & Koehler 2006, International Journal of Forecasting 22, 679-688): each
absolute error is divided by the scale of its series, the mean absolute difference of y_t and y_{t-m} over the series'
training rows, where m is the season, or one row without a season; the mean is over all test rows. It has no unit, so
series of any size count alike. Below 1 forecasts are nearer than the naive forecasts one season ahead were in training.
Rows of a series without a scale (too short, or always the same) are left out.

Skill (as in Murphy 1988, Monthly Weather Review 116, 2417-2424): 1 - the mean absolute error over that of the
seasonal-naive forecast of the same rows: 0 is no better, 1 perfect.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys.dataset import Split
from mlsys.evaluate import weighted_metrics as weighted
from mlsys.evaluate.metrics import ERROR, REGRESSION, Metric
from mlsys.periods import Period
from mlsys.schema import Forecast, Task
from mlsys.statistics.arrays import Floats, numbers_of

SERIES, TIME, VALUE = "__series", "__time", "__value"


def columns(task: Task) -> list[str]:
    """Columns of the test rows that the metrics read."""
    return [] if task.forecast is None else [*task.forecast.series, *task.forecast.known]


def of_rows(split: Split, task: Task, rows: pa.Table, naive: Floats) -> list[Metric]:
    """The metrics of test rows, whose series `rows` tell, with their naive forecasts."""
    forecast = task.forecast
    if forecast is None:
        return []
    train = split.table("train", list(dict.fromkeys([*forecast.series, forecast.time, task.target])))
    return [mase(_scale_of(rows, scales(train, forecast, task.target), forecast)), skill(naive)]


def scales(train: pa.Table, forecast: Forecast, target: str) -> pl.DataFrame:
    """The scale of each series: its names, and ``scale``, the mean absolute error of its naive forecasts in training.

    >>> import datetime as dt
    >>> days = [dt.date(2024, 1, day) for day in (1, 2, 3, 4)]
    >>> facts = Forecast(time="day", horizon="1d", step="1d", known=("last_y",), naive="naive_y")
    >>> scales(pa.table({"day": days, "y": [1.0, 3.0, 2.0, 2.0]}), facts, "y")["scale"].to_list()
    [1.0]
    """
    by = [f"{SERIES}{place}" for place, _ in enumerate(forecast.series)]
    frame = pl.DataFrame({
        **{name: pl.Series(train[column]) for name, column in zip(by, forecast.series, strict=True)},
        TIME: pl.Series(train[forecast.time]),
        VALUE: numbers_of(train[target]),
    }).with_columns(pl.lit(0).alias(SERIES)).sort(TIME)  # fmt: skip
    keys = [SERIES, *by]
    if forecast.season is None:
        before = frame.select(pl.col(VALUE).shift(1).over(keys)).to_series()
    else:
        moved = frame.with_columns(Period.parse(forecast.season).later(frame[TIME]).alias(TIME))
        moved = moved.unique([*keys, TIME], keep="last").cast({TIME: frame.schema[TIME]})
        before = frame.join(moved, on=[*keys, TIME], how="left", maintain_order="left")[f"{VALUE}_right"]
    away = frame.with_columns((pl.col(VALUE) - before).abs().alias("scale")).drop_nulls("scale")
    return away.group_by(keys).agg(pl.col("scale").mean()).drop(SERIES)


def _scale_of(rows: pa.Table, known: pl.DataFrame, forecast: Forecast) -> Floats:
    """The scale of each row's series, NaN where it has none, or 0."""
    if not forecast.series:
        scale = np.full(rows.num_rows, known["scale"][0] if known.height else np.nan)
    else:
        by = [name for name in known.columns if name != "scale"]
        asked = pl.DataFrame({name: pl.Series(rows[of]) for name, of in zip(by, forecast.series, strict=True)})
        scale = asked.join(known, on=by, how="left", maintain_order="left")["scale"].cast(pl.Float64).to_numpy()
    return np.where(scale > 0, scale, np.nan)


def mase(scale: Floats) -> Metric:
    """The mean absolute scaled error of rows whose series have these scales, NaN where a series has none."""
    has_scale = np.isfinite(scale)

    def prepare(y: Floats, prediction: Floats) -> weighted.Statistic:
        errors = np.where(has_scale, np.abs(y - prediction) / np.where(has_scale, scale, 1.0), 0.0)

        def statistic(weight: Floats | None) -> float:
            counted = has_scale.astype(np.float64) if weight is None else weight * has_scale
            total = counted.sum()
            return float(counted @ errors / total) if total > 0 else float("nan")

        return statistic

    left_out = int(len(scale) - has_scale.sum())
    more = f"; {left_out:,} test rows of series without a scale are left out" if left_out else ""
    return Metric(
        "mase", "MASE", REGRESSION, "value", "lower", prepare,
        "mean of |y - prediction| over the mean absolute error of the naive forecasts of its series in training, one "
        f"season ahead (Hyndman & Koehler 2006, IJF 22, 679-688){more}", functional="median", bounds=ERROR,
    )  # fmt: skip


def skill(naive: Floats) -> Metric:
    """The skill over the naive forecasts of the rows."""

    def prepare(y: Floats, prediction: Floats) -> weighted.Statistic:
        ours, theirs = np.abs(y - prediction), np.abs(y - naive)

        def statistic(weight: Floats | None) -> float:
            own, floor = (each.sum() if weight is None else weight @ each for each in (ours, theirs))
            return float(1 - own / floor) if floor > 0 else float("nan")

        return statistic

    return Metric(
        "skill", "Skill over seasonal naive", REGRESSION, "value", "higher", prepare,
        "1 - the mean absolute error over that of the seasonal-naive forecast of the same rows (Murphy 1988, MWR 116, "
        "2417-2424); 0 is no better, 1 perfect", functional="median", bounds=(-np.inf, 1.0),
    )  # fmt: skip

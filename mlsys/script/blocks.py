"""The functions that a script is made of; their source is copied into each script that calls them.

They stand for themselves: beside NumPy, Polars and SciPy a function uses other functions of this file and bounds that
it imports, which are copied as well. Each computes what the operation or family of its name does, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from mlsys.features.domains import YEAR_2101_US
from mlsys.limits import DAY_US, FLOAT32_MAX, LAST_YEAR_END_US, YEAR_1_US


def number(rows: pl.DataFrame, column: str) -> np.ndarray:
    """Numbers of a column; what is missing or beyond float32 is NaN."""
    x = rows[column].cast(pl.Float64).to_numpy()
    return np.where(np.abs(x) <= FLOAT32_MAX, x, np.nan)


def scaled(
    x: np.ndarray, center: float = 0.0, scale: float = 1.0, fill: float | None = None, *, log: bool = False
) -> np.ndarray:
    """Standardised numbers, with `log` of their logarithms of both signs; `fill` stands for a missing one."""
    x = x if fill is None else np.where(np.isnan(x), fill, x)
    if log:
        x = np.where(x < 0, -pl.Series(-x).log1p().to_numpy(), pl.Series(x).log1p().to_numpy())
    return np.clip((x - center) * (1.0 / scale), -FLOAT32_MAX, FLOAT32_MAX)


def coded(place: np.ndarray, codes: int) -> np.ndarray:
    """The number of a place among so many codes; NaN for the last place, a missing value."""
    return np.append(np.arange(float(codes)), np.nan)[place]


def binned(x: np.ndarray, edges: list[float]) -> np.ndarray:
    """Places in bins that are closed on the right; the last place is for a missing value."""
    return np.where(np.isnan(x), len(edges) + 1, np.searchsorted(np.array(edges), np.nan_to_num(x), side="left"))


def position(rows: pl.DataFrame, column: str, categories: list[Any]) -> np.ndarray:
    """Places among categories, from 1 on; 0 is for another category, the last place for a missing value."""
    values = rows[column]
    if values.dtype.is_numeric():
        values, categories = (
            pl.Series(number(rows, column) + 0.0, nan_to_null=True),
            [float(each) for each in categories],
        )
    places = {category: place for place, category in reversed(list(enumerate(categories, 1)))}
    missing = len(categories) + 1
    return np.array([missing if value is None else places.get(value, 0) for value in values.to_list()], np.intp)


def target_mean(rows: pl.DataFrame, column: str, learned: dict[str, Any]) -> np.ndarray:
    """Means of the target over categories, as they were learned."""
    means = (np.array(learned["means"]) - np.array(learned["center"])) / np.array(learned["scale"])
    return np.clip(means, -FLOAT32_MAX, FLOAT32_MAX)[position(rows, column, learned["categories"])]


def clock(rows: pl.DataFrame, column: str, zone: str | None = None) -> pl.Series:
    """Microseconds since 1970, by the clock on the wall of a time zone; null outside of the years 1 to 2099."""
    time = pl.col(column)
    if zone is not None:
        time = time.cast(pl.Datetime("us", "UTC"))
        inside = time.to_physical().is_between(YEAR_1_US, YEAR_2101_US, closed="left")
        time = pl.when(inside).then(time).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    us = time.cast(pl.Datetime("us")).to_physical()
    return rows.select(pl.when(us.is_between(YEAR_1_US, LAST_YEAR_END_US, closed="left")).then(us)).to_series()


def cycle(us: pl.Series, part: str) -> tuple[np.ndarray, int]:
    """The place of each time in a cycle, and the length of the cycle, which is the place of a missing time."""
    since = (us - YEAR_1_US).fill_null(-1).to_numpy()
    day = since // DAY_US
    if part == "hour":
        place, length = (since - day * DAY_US) // 60_000_000, 1440
    elif part == "weekday":
        place, length = day % 7, 7
    else:
        days = np.datetime64("0001-01-01") + day.astype("timedelta64[D]")
        place, length = (days - days.astype("datetime64[Y]")).astype(np.int64), 366
    return np.where(since < 0, length, place), length


def cycle_number(place: np.ndarray, length: int, unit: int) -> np.ndarray:
    """Places in a cycle as numbers, so many to the unit; NaN for a missing one."""
    return np.where(place == length, np.nan, place / unit)


def circle(place: np.ndarray, length: int) -> np.ndarray:
    """Sine and cosine of places in a cycle; (0, 0) for a missing one."""
    angles = [2 * math.pi * k / length for k in range(length)]
    return np.array([*((math.sin(a), math.cos(a)) for a in angles), (0.0, 0.0)])[place]


def days(us: pl.Series) -> np.ndarray:
    """Microseconds as days."""
    return us.cast(pl.Float64).to_numpy() * (1.0 / DAY_US)


def bounded(X: np.ndarray) -> np.ndarray:
    """Features with infinite and huge values at ±1e30."""
    return np.clip(X, np.float32(-1e30), np.float32(1e30)) if (np.abs(X) > 1e30).any() else X


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Probabilities of scores: the logistic function for two classes, softmax for more."""
    z = np.ascontiguousarray(scores, dtype=np.float64)
    if z.ndim == 1 or z.shape[1] == 1:
        p = expit(z.reshape(-1))
        return np.stack([1.0 - p, p], axis=1)
    weight = np.exp(z - z.max(axis=1, keepdims=True))
    return weight / np.add.accumulate(weight, axis=1)[:, -1:]


def exponential(scores: np.ndarray) -> np.ndarray:
    """Values of their logarithms."""
    return np.exp(np.clip(np.ascontiguousarray(scores, dtype=np.float64).reshape(-1), -700.0, 700.0))


def of_classes(p: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of all classes, from those of the classes that the rows had."""
    full = np.zeros((len(p), classes))
    full[:, present] = p
    return full


def centre_and_scale(X: np.ndarray, weight: np.ndarray | None, unscaled: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over its finite values; the `unscaled` ones are only centred."""
    centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    for j in range(X.shape[1]):
        column = X[:, j].astype(np.float64)
        finite = np.isfinite(column)
        column, own = column[finite], None if weight is None else weight[finite]
        if column.size:
            centre[j] = column.mean() if own is None else np.average(column, weights=own)
            spread = column.std() if own is None else np.sqrt(np.average((column - centre[j]) ** 2, weights=own))
            scale[j] = spread if spread > 0 and j not in unscaled else 1.0
    return centre, scale


def standardised(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Centred and scaled features; what is missing stands at the centre."""
    standard_X = (X.astype(np.float64) - centre) / scale
    return np.where(np.isfinite(standard_X), standard_X, 0.0)


def linear_scores(standard_X: np.ndarray, coefficient: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Scores, (rows, outputs), summed from the intercept through the features in their order."""
    scores = np.tile(intercept, (len(standard_X), 1))
    for j, weight in enumerate(coefficient):
        scores += standard_X[:, j, None] * weight
    return scores


def sampled(y: np.ndarray, fractions: list[float], seed: int) -> np.ndarray:
    """Mask of the rows that are kept: of each class a random sample of its fraction."""
    retained = np.ones(len(y), bool)
    for number_of_class, fraction in enumerate(fractions):
        places = np.flatnonzero(y == number_of_class)
        if fraction < 1 and places.size:
            rng = np.random.default_rng([seed % 2**63, number_of_class, places.size])
            retained[rng.permutation(places)[max(1, round(fraction * places.size)) :]] = False
    return retained


def corrected(q: np.ndarray, factors: list[float]) -> np.ndarray:
    """Probabilities of the true shares of classes, whose rows counted by these factors in the fit."""
    odds = q / np.array(factors)
    return odds / np.add.accumulate(odds, axis=1)[:, -1:]


def at_temperature(p: np.ndarray, temperature: float) -> np.ndarray:
    """Calibrated probabilities: the softmax of their logarithms over the temperature."""
    return probabilities(np.log(np.maximum(p, 1e-15)) / temperature)


def forward(y: np.ndarray, target: dict[str, Any]) -> np.ndarray:
    """The target as it is fitted."""
    if target["kind"] == "log_link":
        return np.maximum(y, 0.0)
    if target["kind"] == "winsor":
        return np.clip(y, target["low"], target["high"])
    if target["kind"] == "log1p":
        return np.sign(y) * np.log1p(np.abs(y))
    return np.arcsinh((y - target["centre"]) / target["scale"])


def inverse(z: np.ndarray, target: dict[str, Any]) -> np.ndarray:
    """Predictions on the scale of the target, within the range of the values that were fitted on."""
    low, high = target["low"], target["high"]
    if target["kind"] == "log_link":
        return np.maximum(z, 0.0)
    if target["kind"] == "winsor":
        return np.clip(z, low, high)
    z = np.clip(z, *forward(np.array([low, high]), target))
    if target["kind"] == "log1p":
        return np.clip(np.sign(z) * np.expm1(np.abs(z)), low, high)
    up = np.exp(z)
    down = 1.0 / up
    value = (up - down) / 2 * target["even"] + (up + down) / 2 * target["odd"]
    return np.clip(value * target["scale"] + target["centre"], low, high)

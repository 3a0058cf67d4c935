"""Flights joined with the weather as of their time, and with three aggregates of it, beside Polars and pandas.

Claim: the point-in-time join of 3.3 million events (flights × 10) with the weather reports
of their airport and three window aggregates takes at most three times as long as Polars'
``join_asof`` with rolling windows written by hand, all in one process. Ours is
`joins.join`: it checks the types, counts what was matched, missing and too old, and sums
exactly. The table is Arrow on both sides; each peer starts from its own frame of it.

Windows end at the time of the flight. To have that of Polars, the flights' moments are put
among the reports before rolling ("same windows"); the shorter way that people write rolls
over the reports alone and takes the window of the last report ("windows of the reports"),
which holds reports from before the window where the last one is old. pandas goes the
shorter way. That the first gives our numbers is checked in the run.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from flights_table import TIME, flights, weather
from measured import Measured, options, repeat, report
from mlsys import recipe
from mlsys.features.joins import asof

KEY = "origin"
TAKEN = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
WINDOWS = {
    "rain_6h": ("sum", "precip", "6h"),
    "temp_24h": ("mean", "temp", "24h"),
    "wind_7d": ("max", "wind_speed", "7d"),
}
LOOKBACK = "3h"
CLAIM = "as-of join of flights with weather and three window aggregates"


def main() -> None:
    wanted = options(__doc__, scale=10).parse_args()
    rows, table = flights(wanted.scale).select([KEY, TIME]), weather(wanted.scale).select([KEY, TIME, *TAKEN])
    frames = [pl.DataFrame(pl.from_arrow(one)) for one in (rows, table)]
    panda = [one.to_pandas() for one in (rows, table)]
    check(ours(rows, table), same_windows(*frames))
    contenders = {
        "mlsys": lambda: ours(rows, table),
        "Polars, same windows": lambda: same_windows(*frames),
        "Polars, windows of the reports": lambda: windows_of_the_reports(*frames),
        "pandas, windows of the reports": lambda: with_pandas(*panda),
    }
    measured = [Measured(name, repeat(run, wanted.repeats), {}) for name, run in contenders.items()]
    report(CLAIM, measured[0], measured[1:], rows=rows.num_rows, as_json=wanted.json)


def ours(rows: pa.Table, table: pa.Table) -> pa.Table:
    aggregates = {
        name: recipe.Aggregate(function=function, column=column, window=length)
        for name, (function, column, length) in WINDOWS.items()
    }
    spec = recipe.Join(
        source="weather", keys=(KEY,), time=TIME, lookback=LOOKBACK, columns=TAKEN, aggregates=aggregates
    )
    return asof.join(rows, table, spec, TIME, "weather")[0]


def same_windows(rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    joined = as_of(rows, table)
    moments = rows.select(KEY, TIME).unique()
    for name, (function, column, length) in WINDOWS.items():
        events = pl.concat([table.select(KEY, TIME, column), moments], how="diagonal").sort(KEY, TIME)
        rolled = events.rolling(TIME, period=length, group_by=KEY).agg(aggregated(function, column).alias(name))
        joined = joined.join(rolled.unique([KEY, TIME]), on=[KEY, TIME], how="left", maintain_order="left")
    return joined


def windows_of_the_reports(rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    events = table.sort(KEY, TIME)
    for name, (function, column, length) in WINDOWS.items():
        rolled = events.rolling(TIME, period=length, group_by=KEY).agg(aggregated(function, column).alias(name))
        events = events.with_columns(rolled[name])
    return as_of(rows, events)


def as_of(rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Polars joins sorted rows; the order of the rows is put back."""
    ordered = rows.with_row_index().sort(TIME)
    found = ordered.join_asof(table.sort(TIME), on=TIME, by=KEY, tolerance=LOOKBACK, check_sortedness=False)
    return found.sort("index").drop("index")


def aggregated(function: str, column: str) -> pl.Expr:
    """A function of the values in a window; null where there is none."""
    value: Any = getattr(pl.col(column), function)()
    return pl.when(pl.col(column).count() > 0).then(value)


def with_pandas(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    events = table.sort_values([KEY, TIME])
    for name, (function, column, length) in WINDOWS.items():
        rolling = events.set_index(TIME).groupby(KEY)[column].rolling(pd.Timedelta(length.replace("d", "D")))
        events[name] = getattr(rolling, function)().to_numpy()
    ordered = rows.reset_index().sort_values(TIME)
    found = pd.merge_asof(ordered, events.sort_values(TIME), on=TIME, by=KEY, tolerance=pd.Timedelta(LOOKBACK))
    return found.sort_values("index").drop(columns="index")


def check(mine: pa.Table, theirs: pl.DataFrame) -> None:
    """Both joins are the same: values and maxima to the bit, sums as far as Polars' rounding goes."""
    for name in [*TAKEN, *WINDOWS]:
        left, right = pl.Series(pl.from_arrow(mine[name])), theirs[name]
        if not (left.is_null() == right.is_null()).all():
            raise SystemExit(f"{name}: nulls in other rows")
        gap: Any = (left - right).abs().max() or 0.0
        if gap > (0 if name in TAKEN or WINDOWS[name][0] == "max" else 1e-9):
            raise SystemExit(f"{name}: a difference of {gap}")


if __name__ == "__main__":
    main()

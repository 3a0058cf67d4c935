"""The rows of a forecast as series: checked, and with the step and the season that they have.

The step is the most frequent span from a row of a series to its next one. Where rows stand on the same day of each
month, or on the last ones, and most spans are 28 to 31 days, 90 to 92 or 365 to 366, it is one month, three, or a year.

A season is an hour, a day, a week or a year that is a multiple of the step, if values in phase are alike: the mean
absolute difference of values a season apart is at most `IN_PHASE` of that of values a quarter and half a season more
and less apart, which a trend moves as much. These are whole multiples of a shorter season, if there is one, so that the
week is not taken for one because of its days. The naive forecast is the value a season, or as few of them as the
horizon allows, before; of several seasons that of the one with the least error, over that of the last value that was
known a horizon before, on rows that have both. All of that is measured on rows before the validation part alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from mlsys import errors
from mlsys.dataset import Snapshot
from mlsys.limits import DAY_US
from mlsys.periods import Period
from mlsys.recipe import Recipe
from mlsys.recipe.forecast import ForecastSection
from mlsys.schema import Kind, arrow_type

SERIES, TIME, VALUE = "__series", "__time", "__value"

CALENDAR = {1: (28, 31), 3: (90, 92), 12: (365, 366)}
"""Months of a step, and the days that such a step may have."""

CYCLES = tuple(map(Period.parse, ("1h", "1d", "7d", "364d", "1y")))
"""Spans after which people and weather repeat themselves; 364 days are a year that keeps the day of the week."""

MOST_STEPS = 800
"""Steps of the longest season: of one with more, a mean over the nearest rows says as much."""

LEAST_ROWS = 20
"""Rows that have a value a season before, below which nothing is said of the season."""

IN_PHASE = 0.95
"""Difference of values in phase over that of values out of phase: of noise and of a random walk it is about 1."""

MOST_SERIES = 1_000
"""Series of which the season is measured; of more, every k-th."""


@dataclass(frozen=True)
class Seasonality:
    """A season, and the lag at which its values are known.

    Attributes
    ----------
    phase
        Mean absolute difference of values a season apart over that of values out of phase.
    error
        That of the value at the lag over that of the last value that was known at the horizon.
    """

    season: Period
    lag: Period
    phase: float
    error: float

    def sentence(self) -> str:
        """Say how alike values in phase are."""
        return f"{self.season}: values so far apart are {1 - self.phase:.0%} nearer than those out of phase"


def read(snapshot: Snapshot, recipe: Recipe, settings: ForecastSection) -> pl.DataFrame:
    """Read series (a number), time (microseconds) and value of the rows that have all of them, in their order.

    Raises
    ------
    RecipeError
        There is no time, no such column, or the target is known to the series.
    ContractError
        A row has no series, or two rows are of one series and time.
    """
    time, names = _time(snapshot, recipe), _names(snapshot, recipe, settings)
    _refuse_classes(snapshot, recipe.target_column)
    columns = list(dict.fromkeys([*names, time, recipe.target_column]))
    frame = pl.concat([pl.read_parquet(path, columns=columns) for path in snapshot.paths])
    for name in names:
        _refuse_nulls(frame[name], name)
    frame = frame.filter(pl.col(time).is_not_null())
    _refuse_repeats(frame, names, time)
    number = pl.struct(names).rank("dense").cast(pl.Int64) if names else pl.lit(0, pl.Int64)
    labelled = frame.filter(pl.col(recipe.target_column).is_not_null()).with_columns(
        number.alias(SERIES),
        pl.col(time).cast(pl.Datetime("us")).to_physical().alias(TIME),
        pl.col(recipe.target_column).cast(pl.Float64, strict=False).alias(VALUE),
    )
    return labelled.select(SERIES, TIME, VALUE).sort(SERIES, TIME)


def _time(snapshot: Snapshot, recipe: Recipe) -> str:
    time = recipe.data.time
    if time is None:
        hint = "data: {time: date}"
        raise errors.RecipeError.build(
            "recipe: forecast", got="no 'data.time'", expected="the column of the time", hint=hint, field="data.time"
        )
    if snapshot.schema[time].kind is not Kind.DATETIME:
        got, hint = (
            f"values of type {snapshot.schema[time].type}",
            f"data.derive: {{{time}: STRPTIME({time}, '%Y-%m')}}",
        )
        where, expected = f"recipe: 'data.time': column '{time}'", "dates or times, to forecast"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint, field=time)
    return time


def _refuse_classes(snapshot: Snapshot, target: str) -> None:
    if target not in snapshot.schema:
        raise errors.RecipeError.unknown_column("recipe: 'target'", target, snapshot.schema.names)
    kind = arrow_type(snapshot.schema[target].type)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        got, hint = f"values of type {kind}", "leave forecast out to predict classes, or derive a number"
        where, expected = f"collect: target '{target}' of a forecast", "numbers"
        raise errors.TargetError.build(where, got=got, expected=expected, hint=hint, field=target)


def _names(snapshot: Snapshot, recipe: Recipe, settings: ForecastSection) -> list[str]:
    for name in settings.series:
        if name not in snapshot.schema:
            raise errors.RecipeError.unknown_column("recipe: 'forecast.series'", name, snapshot.schema.names)
        if name in (recipe.target_column, recipe.data.time):
            where, expected = "recipe: 'forecast.series'", "columns that name a series"
            raise errors.RecipeError.build(
                where, got=f"'{name}', the target or the time", expected=expected, field=name
            )
    return list(dict.fromkeys(settings.series))


def _refuse_nulls(values: pl.Series, name: str) -> None:
    missing = values.is_null() | (values.is_nan().fill_null(value=False) if values.dtype.is_float() else False)
    if missing.any():
        got, expected = f"null in {int(missing.sum()):,} of {len(values):,} rows", "the name of its series in each row"
        hint = f'data.derive: {{{name}: "COALESCE({name}, …)"}}, or leave such rows out of the source'
        where = f"collect: forecast.series, column '{name}'"
        raise errors.ContractError.build(where, got=got, expected=expected, hint=hint, field=name)


def _refuse_repeats(frame: pl.DataFrame, names: list[str], time: str) -> None:
    keys = [*names, time]
    repeated = frame.select(keys).is_duplicated()
    if repeated.any():
        row = frame.filter(repeated).select(keys).row(0)
        shown = ", ".join(f"{key} {value}" for key, value in zip(keys, row, strict=True))
        got = f"{int(repeated.sum()):,} rows that share series and time with another, such as {shown}"
        listed = ", ".join(keys)
        hint = f"more columns under forecast.series; data.dedupe: {{keys: [{listed}]}} keeps the last; or sum them up"
        where, expected = "collect: forecast", "one row for each series and time"
        raise errors.ContractError.build(where, got=got, expected=expected, hint=hint, field=time)


def find_step(rows: pl.DataFrame, settings: ForecastSection) -> Period:
    """The span from a row to the next, as the recipe says or as the rows have it.

    Raises
    ------
    TargetError
        No series has two rows.
    RecipeError
        The horizon is shorter.
    """
    step = _most_frequent_step(rows) if settings.step == "auto" else Period.parse(settings.step)
    if Period.parse(settings.horizon).length_us < step.length_us:
        where = f"recipe: 'forecast.horizon': {settings.horizon}"
        got = f"less than a step: the rows of a series are {step} apart"
        hint = "the next row is forecast with a horizon of one step"
        raise errors.RecipeError.build(where, got=got, expected=f"{step} at least", hint=hint, field="forecast.horizon")
    return step


def _most_frequent_step(rows: pl.DataFrame) -> Period:
    spans = rows.select(pl.col(TIME).diff().over(SERIES).alias("span")).drop_nulls()["span"]
    if not len(spans):
        where, got = "collect: forecast", f"{rows[SERIES].n_unique():,} series of one row each"
        hint = "are the columns under forecast.series those that name a series?"
        raise errors.TargetError.build(where, got=got, expected="series with several rows", hint=hint)
    counts = spans.value_counts(sort=True, name="rows").sort("rows", "span", descending=[True, False])
    for months, (low, high) in CALENDAR.items():
        days = spans / DAY_US
        if ((days >= low) & (days <= high)).mean() > 0.5 and _is_of_calendar(rows, months):  # type: ignore[operator]
            return Period(months=months)
    return Period(us=int(counts["span"][0]))


def _is_of_calendar(rows: pl.DataFrame, months: int) -> bool:
    """True if times stand on one day of the month, or on the last ones of it; and months apart rather than days."""
    times = rows.select(pl.col(TIME).cast(pl.Datetime("us"))).to_series()
    day, last = times.dt.day(), times.dt.month_end().dt.day()
    if day.n_unique() > 1 and not bool((day == last).all()):
        return False
    month = times.dt.year().cast(pl.Int64) * 12 + times.dt.month()
    return bool((month % months == month[0] % months).all())


def lag_of(season: Period, horizon: Period) -> Period:
    """The least multiple of a season that is known at the horizon.

    >>> str(lag_of(Period.parse("7d"), Period.parse("10d"))), str(lag_of(Period.parse("1y"), Period.parse("3mo")))
    ('14d', '1y')
    """
    number = max(1, -(-horizon.length_us // season.length_us))
    while season.times(number).length_us < horizon.length_us:
        number += 1
    return season.times(number)


def find_seasons(rows: pl.DataFrame, settings: ForecastSection, step: Period, until_us: int) -> list[Seasonality]:
    """The seasons that rows before a time have, the one first whose naive forecast is best.

    The recipe's own season comes first, however good it is.
    """
    horizon = Period.parse(settings.horizon)
    if settings.season == "none":
        return []
    own = None if settings.season == "auto" else Period.parse(settings.season)
    seen = rows.filter(pl.col(TIME) < until_us)
    every = -(-seen[SERIES].n_unique() // MOST_SERIES) or 1
    seen = seen.filter(pl.col(SERIES) % every == 0)
    seasons: list[Seasonality] = []
    for season in (season for season in CYCLES if _fits(season, step)):
        each = _measured(seen, season, horizon, _unit(season, [step, *(other.season for other in seasons)]))
        seasons += [each] if each is not None and each.phase <= IN_PHASE else []
    seasons.sort(key=lambda each: each.error)
    if own is None:
        return seasons
    unknown = Seasonality(own, lag_of(own, horizon), float("nan"), float("nan"))
    return [_measured(seen, own, horizon, step) or unknown, *(each for each in seasons if each.season != own)]


def _unit(season: Period, shorter: list[Period]) -> Period:
    """The longest of some spans of which the season is a multiple."""
    if season.is_calendar:
        return next((span for span in reversed(shorter) if span.is_calendar), Period(months=1))
    fitting = [span for span in shorter if span.us and season.us % span.us == 0 and season.us > span.us]
    return max(fitting, key=lambda span: span.us, default=shorter[0])


def _fits(season: Period, step: Period) -> bool:
    """True if a season is at least two steps, a multiple of them, and not too many."""
    if step.is_calendar:
        return season.is_calendar and season.months > step.months and season.months % step.months == 0
    steps = step.steps_to(season)
    return 2 <= steps <= MOST_STEPS and (season.is_calendar or season.us % step.us == 0)


def _measured(rows: pl.DataFrame, season: Period, horizon: Period, unit: Period) -> Seasonality | None:
    lag = lag_of(season, horizon)
    sides = [_difference(rows, lagged(rows, _moved(season, part))) for part in _out_of_phase(season, unit)]
    phase = _over(_difference(rows, lagged(rows, season)), sides)
    error = _over(_difference(rows, lagged(rows, lag)), [_difference(rows, last_known(rows, horizon))])
    return None if phase is None or error is None else Seasonality(season, lag, phase, error)


def _out_of_phase(season: Period, unit: Period) -> list[Period]:
    """A quarter and half of a season to either side, in whole units."""
    length, of_unit = (season.months, unit.months or 1) if season.is_calendar else (season.us, unit.us or 1)
    parts = dict.fromkeys(max(1, round(length / of_unit * part)) * of_unit for part in (0.25, 0.5))
    signed = [sign * part for part in parts for sign in (-1, 1) if part < length]
    return [Period(months=part) if season.is_calendar else Period(us=part) for part in signed]


def _moved(lag: Period, by: Period) -> Period:
    return Period(lag.months + by.months, lag.us + by.us)


def _difference(rows: pl.DataFrame, values: pl.Series) -> pl.Series:
    return (rows[VALUE] - values).abs()


def _over(differences: pl.Series, others: list[pl.Series]) -> float | None:
    """The mean difference over the mean of the others, each on rows that have both; None on too few."""
    ours, theirs = 0.0, 0.0
    for other in others:
        both = pl.DataFrame({"own": differences, "other": other}).drop_nulls()
        if both.height >= LEAST_ROWS:
            ours += float(both["own"].to_numpy().mean())
            theirs += float(both["other"].to_numpy().mean())
    return ours / theirs if theirs > 0 else None


def lagged(rows: pl.DataFrame, lag: Period) -> pl.Series:
    """The value of each row's series at exactly the lag before; null where there is none."""
    moved = rows.with_columns(pl.Series(TIME, lag.later_us(rows[TIME].to_numpy()))).unique([SERIES, TIME], keep="last")
    joined = rows.select(SERIES, TIME).join(moved, on=[SERIES, TIME], how="left", maintain_order="left")
    return joined[VALUE]


def last_known(rows: pl.DataFrame, horizon: Period) -> pl.Series:
    """The last value of each row's series that was known the horizon before; rows are sorted by series and time."""
    known = rows.with_columns(pl.Series(TIME, horizon.later_us(rows[TIME].to_numpy()))).sort(TIME)
    asked = rows.select(SERIES, TIME).with_row_index("__at").sort(TIME)
    joined = asked.join_asof(known, on=TIME, by=SERIES, strategy="backward", check_sortedness=False)
    return joined.sort("__at")[VALUE]

"""Plan a forecast once its rows are known: lags and windows, as joins of the rows with their own past.

A row at time t gets what was known at its origin, t - horizon. The past of the rows is a table of its own: series,
time, target and the columns under ``data.known_after``, and, as several columns, when each value counts as known: its
time and the horizon, its time and a lag. So the as-of engine of feature tables does the rest
(`mlsys.features.joins`), in training, in batches and at the endpoint:

=====================  ===============================================================================
join                   columns
=====================  ===============================================================================
``forecast_last``      the last values known at the origin, and mean, least, greatest and number of the
                       values in windows that end there
``forecast_ago_LAG``   the value at exactly the lag before, at the same position in the season
=====================  ===============================================================================

The seasonal-naive forecast is the value a season before, or as few seasons as the horizon allows; where it is missing,
some more; then the last known value (Hyndman & Athanasopoulos 2021, "Forecasting: principles and practice", 3rd
edition, section 5.2). The time of the row is made a feature: its calendar, and the days since training began.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, errors, expressions, recipe
from mlsys.collect import assignment, rolling_origins, seasonality
from mlsys.collect.seasonality import SERIES, TIME, Seasonality
from mlsys.dataset import Snapshot
from mlsys.limits import rows_per_task
from mlsys.periods import UNITS_US, Period
from mlsys.recipe import Recipe
from mlsys.recipe.forecast import PAST, ForecastSection
from mlsys.schema import Column, Forecast, Kind, Role, Schema, TargetLoss, TaskKind
from mlsys.store import Store

KNOWN = "__known_"
"""Prefix of the columns that say when a value counts as known; the span after its time follows."""

WINDOWS = (1, 4, 13)
"""Lengths of windows in seasons: a week, a month and a quarter for days."""

WINDOW_STEPS = 7
"""Steps of the shortest window where there is no season, or a longer one alone."""

MOST_WINDOW_STEPS = 300
"""Steps of the shortest window at most: of a longer season alone, windows are a few steps."""

FUNCTIONS = ("mean", "min", "max", "count")

LAGS = (4, 2)
"""Values a season apart that are features, of the season of the floor and of another one."""

PAST_KINDS = (Kind.NUMERIC, Kind.BOOLEAN, Kind.CATEGORICAL)
"""Kinds of columns known after the event whose last value is a feature."""


@dataclass(frozen=True)
class ForecastPlan:
    """The additions of a forecast to its task and to its recipe, and messages for a person.

    Attributes
    ----------
    joins, derive, columns
        Additions to the keys of ``features``.
    """

    facts: Forecast
    joins: dict[str, recipe.Join]
    derive: dict[str, str]
    columns: dict[str, str]
    messages: tuple[str, ...] = field(default=())

    @property
    def added(self) -> list[str]:
        """Columns of the joins, and derived features."""
        joined = [
            join.prefix + name for join in self.joins.values() for name in [*(join.columns or ()), *join.aggregates]
        ]
        return [*joined, *self.derive]

    @property
    def named(self) -> list[str]:
        """Columns that no screening takes away: those of the joins, and the names of the series."""
        return [*self.added, *self.facts.series]

    def to_json(self) -> dict[str, Any]:
        """The additions to a recipe, as `completed` takes them."""
        joins = {name: join.model_dump(mode="json") for name, join in self.joins.items()}
        return {"joins": joins, "derive": self.derive, "columns": self.columns, "added": self.added}


def completed(settings: Recipe, added: dict[str, Any]) -> Recipe:
    """A recipe with what its forecast adds; a line of the recipe itself goes before an added one."""
    if not added:
        return settings
    features = settings.features.model_dump(mode="json")
    return settings.having({
        "features.joins": {**features["joins"], **added["joins"]},
        "features.derive": {**added["derive"], **features["derive"]},
        "features.columns": {**added["columns"], **features["columns"]},
        "explore.allow": list(dict.fromkeys([*settings.explore.allow, *added["added"]])),
    })  # fmt: skip


def of_numbers(settings: Recipe) -> Recipe:
    """A recipe whose target is a number, however few values it has, if it is forecast."""
    return settings if settings.forecast is None else settings.model_copy(update={"task": TaskKind.REGRESSION})


def check(settings: Recipe) -> None:
    """Refuse a recipe whose other lines do not go with a forecast, before a row is read; `RecipeError`."""
    if settings.forecast is None:
        return
    loss = TargetLoss.of(settings.loss)
    refused = {
        "task": (settings.task not in ("auto", TaskKind.REGRESSION), f"{settings.task}", "regression, or auto"),
        "loss": (loss is not None and loss.has_log_link, f"{loss}", "auto or a quantile: the naive forecast may be 0"),
        "data.time": (settings.data.time is None, "nothing", "the column of the time that is forecast"),
    }
    for key, (is_refused, got, expected) in refused.items():
        if is_refused:
            hint = "data: {time: date}" if key == "data.time" else f"leave {key} or forecast out"
            where = f"recipe: '{key}' beside forecast"
            raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint, field=key)


def plan(snapshot: Snapshot, settings: Recipe) -> ForecastPlan:
    """Look at the rows of a forecast and plan its features.

    Raises
    ------
    RecipeError, ContractError, TargetError
        The rows are no series, or the horizon does not fit them; see `seasonality` and `rolling_origins`.
    """
    return cluster.call(_plan, snapshot, settings, threads=1)


def _plan(snapshot: Snapshot, settings: Recipe) -> ForecastPlan:
    section = settings.forecast
    if section is None:
        raise ValueError(section)
    # 1. The series, their step and their seasons.
    rows = seasonality.read(snapshot, settings, section)
    step, horizon, times = seasonality.find_step(rows, section), Period.parse(section.horizon), rows[TIME].to_numpy()
    rolling_origins.check_history(times, horizon)
    begins = assignment.part_begins(times, settings)
    seasons = seasonality.find_seasons(rows, section, step, begins["train"])
    naive = [each for each in seasons[:1] if section.season != "auto" or each.error <= 1]
    # 2. The joins, the naive forecast, and the facts of the task.
    span_us = begins["train"] - int(times.min())
    joins = _joins(snapshot.schema, settings, section, step, seasons, span_us)
    best = [_plus(each.lag, each.season, number) for each in naive for number in range(LAGS[0])]
    lags = [f"ago_{lag}_{settings.target_column}" for lag in best if f"forecast_ago_{lag}" in joins]
    facts = Forecast(
        time=str(settings.data.time),
        series=tuple(dict.fromkeys(section.series)),
        horizon=section.horizon,
        step=str(step),
        season=str(naive[0].season) if naive else None,
        known=(*lags, f"last_{settings.target_column}"),
        naive=f"naive_{settings.target_column}",
    )
    derive = _derived(facts, settings.target_column)
    columns = {_trend(facts): "trend"}
    return ForecastPlan(facts, joins, derive, columns, _messages(rows, facts, seasons, joins))


def _trend(facts: Forecast) -> str:
    return f"trend_{facts.time}"


def _derived(facts: Forecast, target: str) -> dict[str, str]:
    """The mean of the last seasons, the naive forecast and the time of the row, as SQL over the columns of a row."""
    time = expressions.quoted_name(facts.time)
    naive = f"COALESCE({', '.join(map(expressions.quoted_name, facts.known))})"
    seasonal = list(map(expressions.quoted_name, facts.known[:-1]))
    means = [f"({' + '.join(seasonal[:number])}) / {number}.0" for number in range(len(seasonal), 1, -1)]
    mean = {f"season_mean_{target}": f"COALESCE({', '.join([*means, seasonal[0]])})"} if means else {}
    return mean | {
        facts.naive: naive if len(facts.known) > 1 else expressions.quoted_name(facts.known[0]),
        f"calendar_{facts.time}": time,
        _trend(facts): time,
    }


def _joins(
    schema: Schema,
    settings: Recipe,
    section: ForecastSection,
    step: Period,
    seasons: list[Seasonality],
    span_us: int,
) -> dict[str, recipe.Join]:
    horizon, target, time = Period.parse(section.horizon), settings.target_column, str(settings.data.time)
    shared: dict[str, Any] = {"source": PAST, "keys": tuple(dict.fromkeys(section.series)), "time": time}
    past = [name for name in settings.data.known_after if name in schema and schema[name].kind in PAST_KINDS]
    past = [name for name in past if name not in {target, time, *section.series}]
    aggregates = {
        f"{function}_{length}_{target}": recipe.Aggregate(
            function=function, column=None if function == "count" else target, window=_window(horizon, length, step)
        )
        for length in _lengths(step, seasons, span_us)
        for function in FUNCTIONS
    }
    joins = {
        "forecast_last": recipe.Join(
            **shared, known_at=f"{KNOWN}{horizon}", columns=(target, *past), aggregates=aggregates, prefix="last_"
        )
    }
    for each, most in zip(seasons, LAGS, strict=False):
        for number in range(most):
            lag = _plus(each.lag, each.season, number)
            if number and lag.length_us > span_us:
                continue  # no training row has such a past
            joins[f"forecast_ago_{lag}"] = recipe.Join(
                **shared,
                known_at=f"{KNOWN}{lag}",
                lookback=_span(lag.length_us + step.length_us // 2),
                columns=(target,),
                prefix=f"ago_{lag}_",
            )
    return joins


def _plus(lag: Period, season: Period, number: int) -> Period:
    return Period(lag.months + number * season.months, lag.us + number * season.us)


def _lengths(step: Period, seasons: list[Seasonality], span_us: int) -> list[Period]:
    """Lengths of the windows: some multiples of the shortest season, or of a few steps, that training has room for."""
    shortest = min((each.season for each in seasons), key=lambda season: season.length_us, default=None)
    if step.is_calendar:
        lengths = [step.times(3), *([shortest.times(number) for number in WINDOWS[:2]] if shortest else [])]
    elif shortest is None or step.steps_to(shortest) > MOST_WINDOW_STEPS:
        lengths = [step.times(WINDOW_STEPS * number) for number in WINDOWS]
    else:
        lengths = [shortest.times(number) for number in WINDOWS]
    return [length for length in lengths if 2 * length.length_us <= span_us] or lengths[:1]


def _window(horizon: Period, length: Period, step: Period) -> str:
    """The window of a join, which ends at the row's time, for one of a length that ends at its origin.

    Of months it ends half a step sooner: then it holds as many of them, whatever their lengths.
    """
    whole = horizon.length_us + length.length_us
    return _span(whole - step.length_us // 2 if step.is_calendar or horizon.is_calendar else whole)


def _span(us: int) -> str:
    unit = next(unit for unit in reversed(UNITS_US) if us % UNITS_US[unit] == 0)
    return f"{us // UNITS_US[unit]}{unit}"


def _messages(
    rows: pl.DataFrame, facts: Forecast, seasons: list[Seasonality], joins: dict[str, recipe.Join]
) -> tuple[str, ...]:
    """Lines for a person: what the series are, and what they get of their past."""
    counts = rows.group_by(SERIES).len()["len"]
    lengths = sorted({int(count) for count in counts})
    size = " to ".join(f"{length:,}" for length in dict.fromkeys((lengths[0], lengths[-1]))) + " rows"
    season = "; ".join(f"season {each.sentence()}" for each in seasons[: len(LAGS)]) or "no season"
    named = f"{len(counts):,} series of {size}, {facts.step} apart; {season}"
    windows = [name for join in joins.values() for name in join.aggregates if name.startswith("mean_")]
    lags = [join.prefix.split("_")[1] for join in joins.values() if join.lookback is not None]
    lagged = f"the last value and those of {', '.join(lags)} before" if lags else "the last value"
    spans = ", ".join(name.split("_")[1] for name in windows)
    return (
        f"forecast: {named}",
        f"forecast: the floor is the value of the last season, {facts.known[0]}"
        if facts.season
        else f"forecast: the floor is the last known value, {facts.known[0]}",
        f"forecast: features of what was known {facts.horizon} before: {lagged}, and windows of {spans}",
    )


def write_past(store: Store, snapshot: Snapshot, joins: dict[str, recipe.Join], target: str) -> Snapshot:
    """Store the past of the rows: a table as the joins of a forecast take it, from a snapshot of the rows."""
    return Snapshot.open(store, cluster.call(_write_past, store, snapshot, dict(joins), target, threads=1))


def _write_past(store: Store, snapshot: Snapshot, joins: dict[str, recipe.Join], target: str) -> str:
    join = joins["forecast_last"]
    time, keys = str(join.time), list(join.keys)
    names = list(dict.fromkeys([*keys, time, *(join.columns or ())]))
    known = list(dict.fromkeys(str(each.known_at) for each in joins.values()))
    plain = {"role": Role.FEATURE, "unique": False}
    columns = [snapshot.schema[name].model_copy(update=plain) for name in names]
    columns += [Column(name=name, type=snapshot.schema[time].type, kind=Kind.DATETIME) for name in known]
    schema = Schema(columns=tuple(columns))
    num_rows = 0
    with store.staging() as folder:
        (folder / "data").mkdir()
        for number, path in enumerate(snapshot.paths):
            with pq.ParquetWriter(folder / "data" / f"part-{number:05d}.parquet", schema.arrow()) as writer:
                for batch in pq.ParquetFile(path).iter_batches(rows_per_task(len(schema)), columns=names):
                    table = _past(pa.table(batch).select(names), time, target, known).cast(schema.arrow())
                    writer.write_table(table)
                    num_rows += table.num_rows
        return store.commit("snapshot", folder, {"schema": schema.model_dump(mode="json"), "num_rows": num_rows})


def _past(rows: pa.Table, time: str, target: str, known: list[str]) -> pa.Table:
    """The rows that have a time and a value, with the times from which they count as known."""
    rows = rows.filter(pa.compute.and_(rows[time].is_valid(), rows[target].is_valid()))
    times = pl.Series(rows[time])
    for name in known:
        later = Period.parse(name.removeprefix(KNOWN)).later(times)
        rows = rows.append_column(name, later.to_arrow().cast(rows.schema.field(time).type))
    return rows

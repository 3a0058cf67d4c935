"""Propose the section ``forecast`` of a recipe for a table that nobody has described (`mlsys init --forecast 14d`).

The time is the one that would be proposed in a comment, else the first column of times. Series are named by as few
columns as leave one row for each series and time: categories, flags and whole numbers whose values repeat, one after
the other, each time the one that tells most rows apart; of equals the one with fewer values.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mlsys import errors
from mlsys.collect.proposals import Proposals
from mlsys.collect.survey import Survey
from mlsys.periods import Period
from mlsys.schema import Kind

NAMING = (Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT)
"""Kinds of columns that name series; whole numbers may, too."""

MOST_COLUMNS = 4


@dataclass(frozen=True)
class ForecastDraft:
    """A horizon, the column of the time and those of the series, and whether they leave one row for each."""

    horizon: str
    time: str
    series: tuple[str, ...]
    is_unique: bool

    @property
    def reason(self) -> str:
        """Say why these are the series."""
        named = "no column: each time is there once" if not self.series else ", ".join(self.series)
        if self.is_unique:
            return f"{named}; one row for each series and time"
        return f"{named}; several rows are of one series and time: name more columns, or data.dedupe"


def propose(survey: Survey, proposed: Proposals, horizon: str) -> ForecastDraft:
    """Propose time and series.

    Raises
    ------
    RecipeError
        The horizon is no span, or the table has no times.
    """
    try:
        Period.parse(horizon)
    except ValueError as error:
        where = "init: --forecast"
        raise errors.RecipeError.build(where, got=repr(horizon), expected=str(error)) from None
    times = [column.name for column in survey.schema if column.kind is Kind.DATETIME]
    if proposed.time is None and not times:
        got, hint = "no column of dates or times", "data.derive makes one of a text: STRPTIME(text, '%Y-%m-%d')"
        raise errors.RecipeError.build("init: --forecast", got=got, expected="one, to forecast", hint=hint)
    time = times[0] if proposed.time is None else proposed.time[0]
    series = _series(survey, proposed, time)
    return ForecastDraft(horizon, time, series, _num_keys(survey.frame, [*series, time]) == survey.frame.height)


def _series(survey: Survey, proposed: Proposals, time: str) -> tuple[str, ...]:
    frame, chosen = survey.frame, list[str]()
    others = {time, proposed.target, proposed.id, *proposed.ignore, *proposed.known_after}
    left = [
        column.name
        for column in survey.schema
        if column.name not in others
        and (column.kind in NAMING or column.type.startswith(("int", "uint")))
        and frame[column.name].null_count() == 0
        and 1 < frame[column.name].n_unique() <= frame.height / 2
    ]
    count = _num_keys(frame, [time])
    while left and count < frame.height and len(chosen) < MOST_COLUMNS:
        counts = {name: _num_keys(frame, [*chosen, time, name]) for name in left}
        best = max(left, key=lambda name: (counts[name], -frame[name].n_unique()))
        if counts[best] == count:
            break
        chosen.append(best)
        left.remove(best)
        count = counts[best]
    return tuple(chosen)


def _num_keys(frame: pl.DataFrame, names: list[str]) -> int:
    return frame.select(names).n_unique()

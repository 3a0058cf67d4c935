"""The section ``forecast``: the future values of one series or of many, each a row's series at the row's time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mlsys.periods import PATTERN, Period
from mlsys.recipe.reading import Section

PAST = "data.source"
"""Source of a join with the past of the rows themselves, which a forecast adds."""


def _checked(text: str) -> str:
    return str(Period.parse(text))


PeriodText = Annotated[str, AfterValidator(_checked), WithJsonSchema({"type": "string", "pattern": PATTERN})]
"""A span that may count months: ``14d``, ``3mo``, ``1y``."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ForecastSection(Section):
    """The target of a row is forecast for its series and time, from what was known a horizon before that time.

    Lags of the target and aggregates of its latest windows become features; parts and folds follow each other
    in time, a horizon apart; the model has to beat the seasonal-naive forecast.
    """

    series: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])] = Field(
        (), description="columns that name a series, e.g. [store, item]; [] where all rows are one"
    )
    horizon: PeriodText = Field(description="how far ahead is forecast, e.g. 6h, 14d or 3mo")
    step: PeriodText | Literal["auto"] = Field(
        "auto", description="span from a row of a series to its next; auto takes the most frequent one"
    )
    season: PeriodText | Literal["auto", "none"] = Field(
        "auto",
        description="span after which a series repeats itself, e.g. 7d or 1y; auto takes an hour, a day, a week or a "
        "year if values so far apart are alike",
    )

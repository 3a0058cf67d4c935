"""Sections of the recipe that say where tables come from: the rows of step 1, and feature tables joined to them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mlsys.recipe.spans import Span, span_us
from mlsys.schema import Kind

__all__ = ["Aggregate", "Data", "Dedupe", "Incremental", "Join", "Reading", "Section"]


class Section(BaseModel):
    """A part of the recipe: it does not change, and knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Text = Annotated[str, Field(min_length=1)]
Source = Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class Reading(Section):
    """How the bytes of a source become a table."""

    format: Literal["auto", "csv", "parquet", "jsonl", "image", "text", "sql"] = "auto"
    query: Text | None = Field(None, description="SQL to run, when the source is a database connection string")
    null_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "None", "N/A"), description="texts of a CSV cell that mean null"
    )
    delimiter: str = Field(",", pattern=r"^[\t\x20\x21\x23-\x7e]$")
    encoding: str = "utf-8"
    version: int | str | None = Field(
        None, description="of a Delta or Iceberg table: version or snapshot id, tag, branch or time; the latest without"
    )


class Dedupe(Section):
    """Rows of one key of which the last stays."""

    keys: tuple[str, ...] = Field(min_length=1, description="columns that name what the rows are about")
    order: str | None = Field(None, description="column that says which row is the last; the order of reading without")


class Incremental(Section):
    """A source that only grows: each collection takes the rows beyond the last one."""

    cursor: str = Field(description="column that grows with each write: a number, or when the row was written")
    lookback: Span | Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="how far below the largest cursor so far late rows are still taken: 36h of times, 1000 of numbers",
    )


class Data(Section):
    """Step 1: where the rows come from and what their columns mean."""

    source: Source = Field(
        description="path, glob, folder, URI, package://name/path, sklearn://name, delta://path, "
        "iceberg://catalog/table or database URL"
    )
    reading: Reading = Reading()
    contract: str | None = Field(
        None, description="a schema file to enforce; without one the schema is inferred and written out"
    )
    derive: dict[str, str] = Field({}, description="new columns as SQL over the rows as read: labels, times, keys")
    id: str | None = Field(None, description="column that names a row; labels find their predictions by it")
    time: str | None = Field(None, description="column that says when the prediction is made")
    group: str | None = Field(None, description="column whose rows must stay in one part")
    timezone: str = Field("UTC", description="zone of dates in this recipe and of times without one")
    known_after: tuple[str, ...] = Field(
        (), description="columns known only after the moment of prediction: never features"
    )
    ignore: tuple[str, ...] = Field((), description="columns not to use")
    kinds: dict[str, Kind] = Field(
        {}, description="kind of a column, where the inferred one is wrong; paths of a column of images are read"
    )
    max_bad_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="fraction of rows in quarantine, or of files that cannot be read, that stops the run",
    )
    incremental: Incremental | None = Field(
        None, description="keep the rows of earlier collections and take only those beyond them"
    )
    evolution: Literal["refuse", "accept"] = Field(
        "refuse", description="what a column that is gone or of another type than at the last collection does"
    )
    freshness: Span | None = Field(None, description="age of the newest data.time that stops the run, e.g. 36h, 7d")
    volume: Literal["warn", "stop"] = Field(
        "warn", description="what a number of rows far outside of that of earlier collections does"
    )
    dedupe: Dedupe | None = Field(None, description="rows that repeat a key: the last in order stays, the others go")


def _lasting(text: str) -> str:
    if span_us(text) == 0:
        raise ValueError("a span longer than nothing, e.g. 1h")
    return text


class Aggregate(Section):
    """A number over the events of a row's keys in a span that ends at the row's time.

    The window is (t - window, t]: open at its start, closed at its end, as a point-in-time
    join takes what is known at t. Each row of the table is an event.
    """

    function: Literal["count", "sum", "mean", "min", "max", "distinct"] = Field(
        description="count of events, or of one column: sum, mean, min, max, number of distinct values"
    )
    column: str | None = Field(None, description="column of the table; none for count")
    window: Annotated[Span, AfterValidator(_lasting)] = Field(description="length of the span, e.g. 1h, 7d, 90d")

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if (self.function == "count") != (self.column is None):
            message = f"a column for {self.function}" if self.column is None else "no column: count counts events"
            raise ValueError(message)
        return self


class Join(Section):
    """A feature table joined on keys, as of the row's time where the table has one.

    Of the table's rows known by the row's time t (``time`` and ``known_at`` at or before t)
    the one with the latest ``time`` is taken; of several, the last one known; of several
    known at once, the last in the table. So a row that was written late changes no row
    from before it was written.
    """

    source: Source
    reading: Reading = Reading()
    derive: dict[str, str] = {}
    keys: tuple[str, ...] | dict[str, str] = Field(
        description="key columns, or {column of the rows: column of the table}"
    )
    time: str | None = Field(
        None, description="when the value holds from; the last one at or before the row's time is taken"
    )
    known_at: str | None = Field(
        None, description="when the table learned of the value (ingestion time); by default its time"
    )
    lookback: Span | None = Field(None, description="how old a value may be, e.g. 3h, 2d")
    columns: tuple[str, ...] | None = Field(
        None, description="columns to take; all others than keys and times by default"
    )
    aggregates: dict[str, Aggregate] = Field(
        {}, description="new columns over the key's latest events: {name: {function, column, window}}"
    )
    prefix: str = Field("", description="before the names of the columns and aggregates joined")

"""Sections of the recipe that say where tables come from: the rows of step 1, and feature tables joined to them.

The whole recipe, a section a step; those about tables are in `mlsys.recipe.sections`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mlsys.recipe.columns import Columns
from mlsys.recipe.durations import Span, span_us
from mlsys.schema import Kind, TaskKind

__all__ = [
    "CELLS",
    "Aggregate",
    "Data",
    "Dedupe",
    "Deploy",
    "Evaluate",
    "Explore",
    "Features",
    "Incremental",
    "Join",
    "Monitor",
    "ReadOptions",
    "Reading",
    "Recipe",
    "Section",
    "Selection",
    "SplitSection",
    "Threshold",
    "Train",
    "Tune",
]


class Section(BaseModel):
    """A part of the recipe: it does not change, and knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def only(self, *paths: str) -> Self:
        """Copy the values at these dotted paths alone; reading any other from the copy is a `RuntimeError`.

        >>> recipe = Recipe(name="demo", target="y", data=Data(source="rows.csv"))
        >>> recipe.only("seed", "data.timezone").model_dump()
        {'seed': 0, 'data': {'timezone': 'UTC'}}
        """
        inner: dict[str, list[str]] = {}
        for path in paths:
            name, _, rest = path.partition(".")
            inner.setdefault(name, []).append(rest)
        values = {name: getattr(self, name) for name in inner}
        copy = self.model_copy()
        vars(copy).clear()
        vars(copy).update({name: v if "" in inner[name] else v.only(*inner[name]) for name, v in values.items()})
        return copy

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Refuse what `only` left out: a step that reads it would not run again when it changes."""
            if name in type(self).model_fields:
                message = f"the step reads '{name}' of {type(self).__name__} and does not declare it"
                raise RuntimeError(message)
            return super().__getattr__(name)


Text = Annotated[str, Field(min_length=1)]
Source = Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class Reading(Section):
    """How the bytes of a source become a table."""

    format: Text = Field(
        "auto",
        description="auto: as the source's name tells; csv, parquet, jsonl, image, text, sql, or the name of a reader "
        "that was registered; text takes each .txt file as a row",
    )
    query: Text | None = Field(None, description="SQL to run, when the source is a database connection string")
    null_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "None", "N/A"), description="texts of a CSV cell that mean null"
    )
    delimiter: str = Field(",", pattern=r"^[\t\x20\x21\x23-\x7e]$", description="between the cells of a CSV file")
    encoding: str = Field("utf-8", description="of CSV, JSON-lines and text files, by Python's names")
    decimal: Literal[".", ","] = Field(".", description="decimal mark of the numbers in CSV files")
    thousands: Literal[".", ",", " ", "'", "_", "\u00a0", "\u202f", "\u2019"] | None = Field(
        None,
        description="mark between the thousands of numbers in CSV files, which has to stand before every three digits",
    )
    version: int | str | None = Field(
        None, description="of a Delta or Iceberg table: version or snapshot id, tag, branch or time; the latest without"
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError("a mark between thousands that is not the decimal mark")
        return self

    @model_serializer(mode="wrap")
    def _without_default_marks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave default marks out: keys and digests that were made before there were marks stay the same."""
        section: dict[str, Any] = handler(self)
        marks = {"decimal", "thousands"} if (self.decimal, self.thousands) == (".", None) else set()
        return {key: value for key, value in section.items() if key not in marks}


CELLS = ("format", "null_values", "delimiter", "encoding", "decimal", "thousands")
"""Keys of `Reading` that say how a file is written."""


class ReadOptions(Section):
    """How the files that come later are read: what a model keeps of ``data``, and ``mlsys predict --set`` overrides."""

    reading: Reading = Reading()
    timezone: str = Field("UTC", description="zone of times without one")

    @classmethod
    def of(cls, data: Data) -> Self:
        """The options of ``data`` that hold for other files too: all but a query and a version, which name rows."""
        return cls(reading=Reading(**{name: getattr(data.reading, name) for name in CELLS}), timezone=data.timezone)


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

    source: Source = Field(description="anything that data.source takes")
    reading: Reading = Reading()
    derive: dict[str, str] = Field({}, description="new columns as SQL over the table as read")
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


class Features(Section):
    """Step 3: joins, derived columns, and one line a column to override the automatic choice."""

    joins: dict[str, Join] = Field({}, description="feature tables to join, by a name of your choice")
    derive: dict[str, str] = Field(
        {}, description="new features as SQL over the request's columns; computed online too"
    )
    columns: Columns = Field(
        {}, description="a line a column: an operation, {operation: …, option: …}, or a list of them"
    )


class SplitSection(Section):
    """Which rows are for what. Stored as data, never drawn again."""

    by: Literal["auto", "random", "stratified", "time", "group", "column"] = Field(
        "auto",
        description="auto: column, time or group where column, until or data.group is given; else stratified by class, "
        "or random",
    )
    fractions: dict[Literal["train", "validation", "test"], float] = Field(
        {"train": 0.7, "validation": 0.15, "test": 0.15}, description="share of the rows of each part"
    )
    until: dict[Literal["train", "validation", "test"], str] = Field(
        {},
        description="for time: first date no longer in the part; rows after the test part become production traffic",
    )
    column: str | None = Field(None, description="for column: holds train, validation, test or production")
    folds: int = Field(5, ge=2, le=20, description="folds of the training rows, for selection and target encoding")


class Explore(Section):
    """Step 2: the profile of the training rows and the leakage scan."""

    allow: tuple[str, ...] = Field((), description="columns that the leakage scan flags and you have checked")
    max_duplicate_fraction: float = Field(
        0.01, ge=0, le=1, description="fraction of test rows that also stand in training which stops the run"
    )


class Selection(Section):
    """Step 4: families of models compared by cross-validation on the training rows."""

    families: tuple[str, ...] | Literal["auto"] = Field(
        "auto",
        description="auto: dummy, linear, forest and xgboost; kernel too where texts, pictures, lists or numbered "
        "columns make a space",
    )
    metric: str = Field("auto", description="auto: roc_auc, log_loss or rmse by task")
    max_rows: int = Field(
        40_000, ge=100, description="training rows a fold at most; more are sampled, and the plan says so"
    )


class Train(Section):
    """Step 5: the model that is fitted on all training rows."""

    family: str = Field("auto", description="auto: what selection preferred")
    params: dict[str, Any] = Field({}, description="parameters of the family that are fixed, not searched")
    rounds: int = Field(600, ge=1, description="boosting rounds at most")
    early_stopping: int = Field(30, ge=1, description="rounds without gain on validation before stopping")
    plan: Literal["auto", "task", "cluster"] = Field(
        "auto", description="auto: one task with all threads of a node below a gigabyte, Ray Train above"
    )
    workers: int | None = Field(None, ge=1, description="Ray Train workers in the cluster plan; one a node by default")


class Tune(Section):
    """Step 7: the search for parameters, judged on the validation rows."""

    trials: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="auto: 20, or 8 where there is one parameter to search; 0 keeps the defaults of the family"
    )
    minutes: float | None = Field(None, gt=0, description="time limit of the search")
    space: dict[str, list[Any]] = Field({}, description="choices a parameter, in place of the family's own space")
    max_rows: int = Field(150_000, ge=100, description="training rows a trial at most; more are sampled")


class Threshold(Section):
    """A bound on a test metric; the interval's worse end must keep it when `strict`."""

    min: float | None = Field(None, description="the metric must be at least this")
    max: float | None = Field(None, description="the metric must be at most this")
    strict: bool = Field(False, description="hold the worse end of the interval to the bound, not the value")


class Evaluate(Section):
    """Step 6: the test rows, opened once: metrics with intervals, slices, gate."""

    slices: tuple[str, ...] = Field(
        (), description="columns whose values are judged one by one; found automatically when empty"
    )
    min_slice_rows: int = Field(200, ge=10, description="smaller slices are not judged")
    bootstrap: int = Field(200, ge=0, le=10_000, description="resamples for the intervals")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    threshold: Literal["f1", "cost", "half"] = Field(
        "f1", description="how the decision threshold is chosen on validation"
    )
    cost: dict[Literal["false_positive", "false_negative"], float] = Field(
        {"false_positive": 1.0, "false_negative": 1.0}, description="price of each mistake, for threshold: cost"
    )
    gate: dict[str, Threshold] = Field({}, description="bounds on test metrics; the model must also beat the dummy")


class Deploy(Section):
    """Step 8: the registered version, its alias and its endpoint."""

    alias: str = Field("champion", description="the alias that a model which passed its gate gets")
    host: str = Field("127.0.0.1", description="address on which the endpoint listens")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    min_replicas: int = Field(1, ge=0, description="replicas that are always up; 0 lets an idle endpoint sleep")
    max_replicas: int = Field(2, ge=1, description="replicas under load")
    target_ongoing_requests: float = Field(16, gt=0, description="requests a replica from which more are started")
    max_ongoing_requests: int = Field(64, ge=1, description="requests a replica takes at a time; others wait")
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="a larger request is refused with 413")
    num_cpus: float = Field(0, ge=0, description="CPUs reserved a replica; with 0 it shares them with the steps")
    log: bool = Field(True, description="log every prediction for the monitor")
    lookup: str = Field(
        "sqlite",
        pattern=r"^(sqlite|none|(redis|rediss|unix)://.+)$",
        description="where the columns of feature tables are looked up for a request that does not carry them: sqlite "
        "(a file in the store, for one machine), redis://host:port/db, or none",
    )
    history: Span = Field(
        "1d",
        description="how far before a feature table's newest value the time of a request may lie, to be looked up",
    )
    replay: bool = Field(
        True, description="send the rows of the production part to the endpoint, as traffic for the monitor"
    )


class Monitor(Section):
    """Step 9: the prediction log, judged window by window."""

    granularity: Literal["1 hour", "1 day", "1 week", "1 month"] = Field("1 week", description="length of a window")
    min_rows: int = Field(200, ge=10, description="smaller windows are reported and not judged")
    slices: tuple[str, ...] = Field((), description="columns whose values are judged one by one, too")
    false_alarm_rate: float = Field(
        0.05, gt=0, lt=1, description="chance that a window without drift raises any drift alarm"
    )
    min_js_distance: float = Field(
        0.1, ge=0, le=1, description="Jensen-Shannon distance, noise taken off, from which a shift is named"
    )
    min_label_coverage: float = Field(
        0.9, gt=0, le=1, description="fraction of a window's predictions that must have labels before it is measured"
    )
    max_metric_loss: float = Field(
        0.02,
        ge=0,
        description="loss of the chosen metric against the test rows that counts as degraded; "
        "of an error in the target's unit, as a fraction of it",
    )
    max_calibration_gap: float = Field(
        0.05,
        ge=0,
        description="difference of mean predicted and observed rate that counts as degraded, unless test rows had it",
    )
    retrain_after: tuple[int, int] = Field(
        (2, 3), description="retrain when k of the last m judged windows are degraded"
    )


class Recipe(Section):
    """The whole recipe."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="of the model, its run and its endpoint")
    target: str = Field(description="the column to predict")
    task: TaskKind | Literal["auto"] = Field("auto", description="auto: by the values of the target")
    positive: bool | int | str | None = Field(
        None, description="binary: the class that counts; true, 1, yes or the rarer one by default"
    )
    seed: int = Field(0, description="of everything that is drawn: parts, folds, samples, models")
    data: Data
    features: Features = Features()
    split: SplitSection = SplitSection()
    explore: Explore = Explore()
    selection: Selection = Selection()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    tune: Tune = Tune()
    deploy: Deploy = Deploy()
    monitor: Monitor = Monitor()

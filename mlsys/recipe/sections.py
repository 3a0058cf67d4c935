"""The sections of a recipe, one a step; their descriptions go into the JSON schema and into docs/recipe.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlsys.recipe import names
from mlsys.recipe.alert_section import AlertSection
from mlsys.recipe.columns import Columns, LongSpan, Span
from mlsys.recipe.deploy_section import DeploySection
from mlsys.recipe.evaluate_section import EvaluateSection
from mlsys.recipe.forecast import ForecastSection
from mlsys.recipe.losses import LossValue
from mlsys.recipe.maintain_section import MaintainSection
from mlsys.recipe.reading import CELLS, Reading, Section, Source, Text
from mlsys.recipe.targets import TargetValue, shown
from mlsys.recipe.train_section import TrainSection
from mlsys.schema import Kind, Schema, TaskKind


class ReadOptions(Section):
    """Options for reading later files: kept with a model, and overridden by ``mlsys predict --set``."""

    reading: Reading = Reading()
    timezone: str = Field("UTC", description="IANA time zone of times that have no zone")

    @classmethod
    def of(cls, data: DataSection, schema: Schema | None = None) -> Self:
        """The options of ``data`` that hold for other files too: all but a query and a version, which name rows.

        The notations are those that a `schema` found.
        """
        notations = {column.name: column.notation for column in schema or () if column.notation is not None}
        cells = {name: getattr(data.reading, name) for name in CELLS}
        return cls(reading=Reading(**cells, notations=notations), timezone=data.timezone)


class FilesSection(Section):
    """The files of a folder or glob that are read."""

    exclude: tuple[Text, ...] = Field(
        (), description="globs of files to leave out, by their names below the source or their last part, e.g. [old/*]"
    )


class Dedupe(Section):
    """Rows that have the same key: only the last one stays."""

    keys: tuple[str, ...] = Field(min_length=1, description="columns of the key")
    order: str | None = Field(
        None, description="column whose largest value marks the last row; by default the row read last"
    )


class Incremental(Section):
    """A source that only grows: each collection takes the rows beyond the last one."""

    cursor: str = Field(description="column that grows with each write: a number, or the time of writing")
    lookback: Span | Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="distance below the largest cursor within which late rows are still taken, e.g. 36h for times, "
        "1000 for numbers; by default 0",
    )


class DataSection(Section):
    """Step 1, collect: the source of the rows and the meaning of their columns."""

    source: Source = Field(
        description="path, glob, folder, URI, package://name/path, sklearn://name, delta://path, "
        "iceberg://catalog/table or database URL; or a list of them"
    )
    reading: Reading = Reading()
    files: FilesSection = FilesSection()
    contract: str | None = Field(
        None, description="path of a schema file to enforce; by default the schema is inferred and written out"
    )
    derive: dict[str, str] = Field({}, description="new columns as SQL over the rows as read: labels, times, keys")
    id: str | None = Field(None, description="column that identifies a row; labels find their predictions by it")
    time: str | None = Field(None, description="column of the time at which the prediction is made")
    group: str | None = Field(None, description="column whose rows of one value must stay in one part")
    timezone: str = Field("UTC", description="IANA time zone of dates in this recipe and of times that have no zone")
    known_after: tuple[str, ...] = Field(
        (), description="columns known only after the time of prediction; they never become features"
    )
    ignore: tuple[str, ...] = Field((), description="columns that are not used")
    allow_personal: tuple[str, ...] = Field(
        (), description="columns that hold personal data, such as names or phone numbers, and are features all the same"
    )
    kinds: dict[str, Kind] = Field(
        {}, description="kind of a column where the inferred one is wrong; image reads the files that paths name"
    )
    max_bad_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="the run stops if more than this fraction of the rows is quarantined or of the files is unreadable",
    )
    incremental: Incremental | None = Field(
        None, description="keep the rows of earlier collections and take only those beyond them"
    )
    evolution: Literal["refuse", "accept"] = Field(
        "refuse", description="refuse or accept a column that is gone or has another type than at the last collection"
    )
    freshness: Span | None = Field(
        None, description="the run stops if the newest data.time is older than this, e.g. 36h or 7d"
    )
    volume: Literal["warn", "stop"] = Field(
        "warn", description="warn or stop if the number of rows is far outside that of earlier collections"
    )
    dedupe: Dedupe | None = Field(None, description="keep only the last row of each key")


class Aggregate(Section):
    """A number over the events of a row's keys in a window that ends at the row's time.

    The window is (t - window, t]: open at its start, closed at its end, as a point-in-time
    join takes what is known at t. Each row of the table is an event.
    """

    function: Literal["count", "sum", "mean", "min", "max", "distinct"] = Field(
        description="count counts events; the others are of one column, distinct is the number of distinct values"
    )
    column: str | None = Field(None, description="column of the table; none for count")
    window: LongSpan = Field(description="window length, e.g. 1h, 7d or 90d")

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

    source: Source = Field(description="source of the table, anything that data.source takes")
    reading: Reading = Reading()
    derive: dict[str, str] = Field({}, description="new columns as SQL over the table as read")
    keys: tuple[str, ...] | dict[str, str] = Field(
        description="key columns, or {column of rows: column of the table}; [] where a table with time has one key"
    )
    time: str | None = Field(
        None, description="column of the time from which a value holds; the last one at or before the row's time counts"
    )
    known_at: str | None = Field(
        None, description="column of the time at which the table learned of a value; by default its time"
    )
    lookback: Span | None = Field(None, description="a value older than this counts as missing, e.g. 3h or 2d")
    columns: tuple[str, ...] | None = Field(None, description="columns to take; by default all but the keys and times")
    aggregates: dict[str, Aggregate] = Field(
        {}, description="new columns over the latest events of the key: {name: {function, column, window}}"
    )
    prefix: str = Field("", description="text before the names of the joined columns and aggregates")


JoinName = Annotated[str, AfterValidator(names.table)]


class FeaturesSection(Section):
    """Step 3, features: joins, derived columns, and for each column an operation in place of the automatic choice."""

    joins: dict[JoinName, Join] = Field({}, description="feature tables to join, each under a name of your choice")
    derive: dict[str, str] = Field(
        {}, description="new features as SQL over the columns of a request; the endpoint computes them too"
    )
    columns: Columns = Field({}, description="for a column an operation, {operation: …, option: …}, or a list of them")


class SplitSection(Section):
    """The division of the rows into parts and folds; it is stored as data and never drawn again."""

    by: Literal["auto", "random", "stratified", "time", "group", "column"] = Field(
        "auto",
        description="rule of division; auto takes column, time or group where column, until or data.group is given, "
        "else stratified for classes and random for numbers",
    )
    fractions: dict[Literal["train", "validation", "test"], float] = Field(
        {"train": 0.7, "validation": 0.15, "test": 0.15}, description="fraction of the rows in each part"
    )
    until: dict[Literal["train", "validation", "test"], str] = Field(
        {},
        description="for by: time, the first date that is no longer in the part; rows after the test part become "
        "production traffic",
    )
    column: str | None = Field(None, description="for by: column, one that holds train, validation, test or production")
    folds: int = Field(5, ge=2, le=20, description="folds of the training rows, for selection and target encoding")


class ExploreSection(Section):
    """Step 2, explore: the profile of the training rows and the leakage scan."""

    allow: tuple[str, ...] = Field(
        (), description="columns that are taken to know the answer or suspected of it, and that you have checked"
    )
    suspects: Literal["warn", "stop"] = Field(
        "warn", description="warn or stop if a column alone predicts the target almost perfectly"
    )
    max_duplicate_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the run stops if more than this fraction of the test rows are copies of training rows; by default "
        "they are told",
    )


class SelectionSection(Section):
    """Step 4, selection: families of models compared by cross-validation on the training rows."""

    families: tuple[str, ...] | Literal["auto"] = Field(
        "auto",
        description="families to compare; auto takes dummy, linear, forest, xgboost and lightgbm, and kernel too where "
        "texts, pictures, lists or numbered columns make a space",
    )
    metric: str = Field(
        "auto", description="metric to compare by; auto takes roc_auc, log_loss, rmse or ndcg@10 by task"
    )
    max_rows: int = Field(
        40_000, ge=100, description="training rows of a fold at most; of more a sample is taken, as the plan says"
    )
    margin: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="a simpler family is preferred to the best one if it is behind by at most this fraction of the way "
        "from the dummy to the best",
    )
    prefer: Literal["accurate", "simple", "fast"] = Field(
        "accurate",
        description="accurate takes the best mean, or what is simpler and within the margin; simple takes the simplest "
        "and fast the fastest of those that are behind by at most one standard error, and the search stays with it",
    )
    max_latency_us: float | None = Field(
        None,
        gt=0,
        description="microseconds a row that features and prediction may take, measured on many rows with one thread; "
        "slower candidates, trials and means are refused",
    )
    max_bytes: int | None = Field(
        None, ge=1, description="bytes that a stored model may have; larger candidates, trials and means are refused"
    )
    category_means: bool = Field(
        default=False,
        description="compare LightGBM, too, with the target means and the counts of categories beside their codes",
    )


class TuneSection(Section):
    """Step 7, tune: the search for parameters, judged on the validation rows."""

    trials: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="number of trials, however long they take; auto takes as many as the budget has time for; 0 keeps "
        "the defaults of the family",
    )
    minutes: float | None = Field(
        None, gt=0, description="time limit of the search in minutes, in place of its share of the budget"
    )
    max_members: int = Field(
        4,
        ge=1,
        le=10,
        description="models at most whose mean is taken where that is better beyond chance; 1 takes the best",
    )
    space: dict[str, list[Any]] = Field(
        {}, description="for a parameter the values to choose from, in place of the family's own search space"
    )
    max_rows: int = Field(150_000, ge=100, description="training rows of a trial at most; of more a sample is taken")


def _attainable(after: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= after[0] <= after[1]:
        raise ValueError("[k, m] with 1 <= k <= m, e.g. [2, 3]")
    return after


Granularity = Literal["1 hour", "1 day", "1 week", "1 month"]


class MonitorSection(Section):
    """Step 9, monitor: the prediction log, judged window by window."""

    granularity: Granularity | Annotated[tuple[Granularity, ...], Field(min_length=1)] = Field(
        "1 week", description="length of a window; of several, the first is judged, and the tables of metrics have all"
    )
    min_rows: int = Field(200, ge=10, description="windows with fewer rows are reported and not judged")
    slices: tuple[str, ...] = Field((), description="columns whose values are judged one by one as well")
    false_alarm_rate: float = Field(
        0.05, gt=0, lt=1, description="probability that a window without drift raises any drift alarm"
    )
    min_js_distance: float = Field(
        0.1, ge=0, le=1, description="Jensen-Shannon distance beyond noise from which a shift is reported"
    )
    min_effect: float = Field(
        0.1,
        ge=0,
        description="distance by which a column's shift must move the predictions to matter, in standard deviations of "
        "the predictions",
    )
    min_label_coverage: float = Field(
        0.9, gt=0, le=1, description="fraction of a window's predictions that must have labels before it is measured"
    )
    max_metric_loss: float = Field(
        0.02,
        ge=0,
        description="loss of the chosen metric against the test rows that counts as degraded; for an error in the "
        "unit of the target, a fraction of it",
    )
    max_calibration_gap: float = Field(
        0.05,
        ge=0,
        description="difference of mean predicted and observed rate that counts as degraded, unless test rows had it",
    )
    retrain_after: Annotated[tuple[int, int], AfterValidator(_attainable)] = Field(
        (2, 3), description="[k, m]: retrain when k of the last m judged windows are degraded"
    )
    watch_after: Annotated[tuple[int, int], AfterValidator(_attainable)] = Field(
        (1, 3),
        description="[k, m]: watch when k of the last m judged windows have drift that matters, or performance that is "
        "estimated to have fallen, and no labels",
    )
    alerts: tuple[AlertSection, ...] = Field((), description="places to which it is sent what asks for somebody")

    @property
    def granularities(self) -> tuple[Granularity, ...]:
        """The lengths of windows, each once; the first is judged."""
        given = (self.granularity,) if isinstance(self.granularity, str) else self.granularity
        return tuple(dict.fromkeys(given))


class Recipe(Section):
    """The whole recipe: one section a step."""

    name: Annotated[str, AfterValidator(names.model_name)] = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="name of the model, its run and its endpoint"
    )
    target: TargetValue = Field(description="column to predict; or a list of columns of two values each, the labels")
    task: TaskKind | Literal["auto"] = Field(
        "auto",
        description="prediction task; auto decides by the target's values, and never for ranking, which orders the "
        "rows of each data.group by grades 0, 1, 2, …",
    )
    loss: LossValue = Field(
        "auto",
        description="loss of a number, for every fit and every comparison: {quantile: 0.9} predicts that quantile, "
        "poisson counts, gamma positive amounts, tweedie or {tweedie: 1.5} amounts that are often zero; auto takes "
        "squared errors, or absolute ones where selection.metric asks for a median",
    )
    positive: bool | int | str | None = Field(
        None, description="positive class of a binary task; by default true, 1, yes or the rarer class"
    )
    seed: int = Field(0, description="seed of everything that is drawn: parts, folds, samples, models")
    budget: LongSpan | Literal["auto", "none"] = Field(
        "auto",
        description="time from the first byte to the model, e.g. 60s or 10m, of which reading takes half at most; auto "
        "takes 20 seconds to 5 minutes after reading, by the size of the training rows; none has no clock, so that "
        "nothing depends on how fast a machine is",
    )
    data: DataSection
    forecast: ForecastSection | None = Field(None, description="predict the future values of series; see forecast")
    features: FeaturesSection = FeaturesSection()
    split: SplitSection = SplitSection()
    explore: ExploreSection = ExploreSection()
    selection: SelectionSection = SelectionSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    tune: TuneSection = TuneSection()
    deploy: DeploySection = DeploySection()
    monitor: MonitorSection = MonitorSection()
    maintain: MaintainSection = MaintainSection()

    @property
    def target_column(self) -> str:
        """The column of what is predicted; of several labels, the one that is made of theirs."""
        return shown(self.target)

"""The whole recipe, a section a step; those about tables are in `mlsys.recipe.tables`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mlsys.recipe.columns import Columns
from mlsys.recipe.spans import Span
from mlsys.recipe.tables import Data, Join, Section
from mlsys.schema import TaskKind

__all__ = [
    "Deploy",
    "Evaluate",
    "Explore",
    "Features",
    "Monitor",
    "Recipe",
    "Selection",
    "Split",
    "Threshold",
    "Train",
    "Tune",
]


class Features(Section):
    """Step 3: joins, derived columns, and one line a column to override the automatic choice."""

    joins: dict[str, Join] = Field({})
    derive: dict[str, str] = Field(
        {}, description="new features as SQL over the request's columns; computed online too"
    )
    columns: Columns = Field(
        {}, description="a line a column: an operation, {operation: …, option: …}, or a list of them"
    )


class Split(Section):
    """Which rows are for what. Stored as data, never drawn again."""

    by: Literal["auto", "random", "stratified", "time", "group", "column"] = "auto"
    fractions: dict[Literal["train", "validation", "test"], float] = Field(
        {"train": 0.7, "validation": 0.15, "test": 0.15}
    )
    until: dict[Literal["train", "validation", "test"], str] = Field(
        {},
        description="for time: first date no longer in the part; rows after the test part become production traffic",
    )
    column: str | None = Field(None, description="for column: holds train, validation, test or production")
    folds: int = Field(5, ge=2, le=20)


class Explore(Section):
    """Step 2."""

    allow: tuple[str, ...] = Field((), description="columns that the leakage scan flags and you have checked")
    max_duplicate_fraction: float = Field(
        0.01, ge=0, le=1, description="fraction of test rows with a twin in training that stops the run"
    )


class Selection(Section):
    """Step 4."""

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
    """Step 5."""

    family: str = Field("auto", description="auto: what selection preferred")
    params: dict[str, Any] = Field({})
    rounds: int = Field(600, ge=1, description="boosting rounds at most")
    early_stopping: int = Field(30, ge=1, description="rounds without gain on validation before stopping")
    plan: Literal["auto", "task", "cluster"] = "auto"
    workers: int | None = Field(None, ge=1, description="Ray Train workers in the cluster plan; one a node by default")


class Tune(Section):
    """Step 7."""

    trials: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="auto: 20, or 8 where there is one parameter to search; 0 keeps the defaults of the family"
    )
    minutes: float | None = Field(None, gt=0)
    space: dict[str, list[Any]] = Field({}, description="choices a parameter, in place of the family's own space")
    max_rows: int = Field(150_000, ge=100)


class Threshold(Section):
    """A bound on a test metric; the interval's worse end must keep it when `strict`."""

    min: float | None = None
    max: float | None = None
    strict: bool = False


class Evaluate(Section):
    """Step 6."""

    slices: tuple[str, ...] = Field(
        (), description="columns whose values are judged one by one; found automatically when empty"
    )
    min_slice_rows: int = Field(200, ge=10)
    bootstrap: int = Field(200, ge=0, le=10_000, description="resamples for the intervals")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    threshold: Literal["f1", "cost", "half"] = Field(
        "f1", description="how the decision threshold is chosen on validation"
    )
    cost: dict[Literal["false_positive", "false_negative"], float] = Field(
        {"false_positive": 1.0, "false_negative": 1.0}
    )
    gate: dict[str, Threshold] = Field({}, description="bounds on test metrics; the model must also beat the dummy")


class Deploy(Section):
    """Step 8."""

    alias: str = "champion"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(2, ge=1)
    target_ongoing_requests: float = Field(16, gt=0)
    max_ongoing_requests: int = Field(64, ge=1)
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)
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
    """Step 9."""

    granularity: Literal["1 hour", "1 day", "1 week", "1 month"] = "1 week"
    min_rows: int = Field(200, ge=10, description="smaller windows are reported and not judged")
    slices: tuple[str, ...] = ()
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

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    target: str
    task: TaskKind | Literal["auto"] = "auto"
    positive: bool | int | str | None = Field(
        None, description="binary: the class that counts; true, 1, yes or the rarer one by default"
    )
    seed: int = 0
    data: Data
    features: Features = Features()
    split: Split = Split()
    explore: Explore = Explore()
    selection: Selection = Selection()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    tune: Tune = Tune()
    deploy: Deploy = Deploy()
    monitor: Monitor = Monitor()

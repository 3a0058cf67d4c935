"""What a user writes: one YAML file, one frozen tree of sections.

``name``, ``data.source`` and ``target`` are required; everything else has a default. The
resolved recipe, defaults filled in, is written beside each run and reproduces it.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlsys import errors
from mlsys.recipe import columns
from mlsys.recipe.columns import Columns
from mlsys.schema import Kind, TaskKind

__all__ = [
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
    "Reading",
    "Recipe",
    "Selection",
    "Split",
    "Threshold",
    "Train",
    "Tune",
    "json_schema",
    "load",
    "parse",
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reading(Section):
    """How the bytes of a source become a table."""

    format: Literal["auto", "csv", "parquet", "jsonl", "image", "text", "sql"] = "auto"
    query: str | None = Field(None, description="SQL to run, when the source is a database connection string")
    null_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "None", "N/A"), description="texts of a CSV cell that mean null"
    )
    delimiter: str = ","
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
    lookback: Annotated[str, Field(pattern=r"^\d+[smhd]$")] | Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="how far below the largest cursor so far late rows are still taken: 36h of times, 1000 of numbers",
    )


class Data(Section):
    """Step 1: where the rows come from and what their columns mean."""

    source: str | tuple[str, ...] = Field(
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
    freshness: str | None = Field(
        None, pattern=r"^\d+[mhd]$", description="age of the newest data.time that stops the run, e.g. 36h, 7d"
    )
    volume: Literal["warn", "stop"] = Field(
        "warn", description="what a number of rows far outside of that of earlier collections does"
    )
    dedupe: Dedupe | None = Field(None, description="rows that repeat a key: the last in order stays, the others go")


class Aggregate(Section):
    """A number over the events of a row's keys in a span that ends at the row's time.

    The window is (t - window, t]: open at its start, closed at its end, as a point-in-time
    join takes what is known at t. Each row of the table is an event.
    """

    function: Literal["count", "sum", "mean", "min", "max", "distinct"] = Field(
        description="count of events, or of one column: sum, mean, min, max, number of distinct values"
    )
    column: str | None = Field(None, description="column of the table; none for count")
    window: str = Field(pattern=r"^[1-9]\d*(us|ms|s|m|h|d)$", description="length of the span, e.g. 1h, 7d, 90d")

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

    source: str | tuple[str, ...]
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
    lookback: str | None = Field(None, description="how old a value may be, e.g. 3h, 2d")
    columns: tuple[str, ...] | None = Field(
        None, description="columns to take; all others than keys and times by default"
    )
    aggregates: dict[str, Aggregate] = Field(
        {}, description="new columns over the key's latest events: {name: {function, column, window}}"
    )
    prefix: str = Field("", description="before the names of the columns and aggregates joined")


class Features(Section):
    """Step 3: joins, derived columns, and one line a column to override the automatic choice."""

    joins: dict[str, Join] = {}
    derive: dict[str, str] = Field(
        {}, description="new features as SQL over the request's columns; computed online too"
    )
    columns: Columns = Field(
        {}, description="a line a column: an operation, {operation: …, option: …}, or a list of them"
    )


class Split(Section):
    """Which rows are for what. Stored as data, never drawn again."""

    by: Literal["auto", "random", "stratified", "time", "group", "column"] = "auto"
    fractions: dict[Literal["train", "validation", "test"], float] = {"train": 0.7, "validation": 0.15, "test": 0.15}
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

    families: tuple[str, ...] = ("dummy", "linear", "forest", "xgboost")
    metric: str = Field("auto", description="auto: roc_auc, log_loss or rmse by task")
    max_rows: int = Field(
        40_000, ge=100, description="training rows a fold at most; more are sampled, and the plan says so"
    )


class Train(Section):
    """Step 5."""

    family: str = Field("auto", description="auto: what selection preferred")
    params: dict[str, Any] = {}
    rounds: int = Field(600, ge=1, description="boosting rounds at most")
    early_stopping: int = Field(30, ge=1, description="rounds without gain on validation before stopping")
    plan: Literal["auto", "task", "cluster"] = "auto"
    workers: int | None = Field(None, ge=1, description="Ray Train workers in the cluster plan; one a node by default")


class Tune(Section):
    """Step 7."""

    trials: int = Field(20, ge=0, description="0 keeps the defaults of the family")
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
    cost: dict[Literal["false_positive", "false_negative"], float] = {"false_positive": 1.0, "false_negative": 1.0}
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
    history: str = Field(
        "1d",
        pattern=r"^\d+(us|ms|s|m|h|d)$",
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


def load(path: str | Path, settings: typing.Iterable[str] = ()) -> Recipe:
    """Read a recipe file; `settings` are overrides such as ``train.rounds=200``.

    Raises
    ------
    RecipeError
        The file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.name for p in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise errors.RecipeError.build(
            f"recipe: file '{path}'",
            got="nothing there",
            expected="a YAML file",
            hint=errors.did_you_mean(file.name, near),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.RecipeError.build(
            f"recipe: file '{path}'", got=str(error), expected="a readable YAML file in UTF-8"
        ) from None
    return parse(text, settings, where=str(path))


def parse(text: str, settings: typing.Iterable[str] = (), where: str = "recipe") -> Recipe:
    """A recipe of its YAML text."""
    tree = _read_yaml(text, f"recipe: {where}")
    if not isinstance(tree, dict):
        raise errors.RecipeError.build(
            f"recipe: {where}", got=type(tree).__name__, expected="keys and values, e.g. name: demo"
        )
    tree = {key: value for key, value in tree.items() if value is not None}  # an empty section is its defaults
    for setting in settings:
        _override(tree, setting)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _explain(error) from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default filled in."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=2) + "\n"


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: dates stay text, and a key that stands twice is a mistake."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML declares it so)
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (PyYAML's signature)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (a safe loader with fewer types)
    except yaml.YAMLError as error:
        raise errors.RecipeError.build(where, got=" ".join(str(error).split()), expected="YAML") from None


def _override(tree: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise errors.RecipeError.build(
            f"recipe: --set {setting}", got=setting, expected="key=value, e.g. train.rounds=200"
        )
    *parents, last = path.split(".")
    at = tree
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
        if not isinstance(at, dict):
            raise errors.RecipeError.build(
                f"recipe: --set {setting}", got=f"'{parent}' is a value", expected="a section"
            )
    at[last] = _read_yaml(value, f"recipe: --set {setting}")


def _explain(error: ValidationError) -> errors.RecipeError:
    """The first fault as a message; unknown keys first, for they often explain the rest."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault: Any = faults[0]
    path = [str(step) for step in fault["loc"]]
    dotted = ".".join(path)
    if path[:2] == ["features", "columns"] and len(path) > 2:
        return _explain_column(faults, path[2])
    if fault["type"] == "extra_forbidden":
        return errors.RecipeError.unknown_key(dotted, path[-1], _keys_at(path[:-1]))
    if fault["type"] == "missing":
        return errors.RecipeError.build(
            f"recipe: '{dotted}' is missing", expected="a value", hint=f"add '{dotted}: …'", field=dotted
        )
    text = fault["msg"].removeprefix("Value error, ")
    expected = text[0].lower() + text[1:]
    return errors.RecipeError.build(f"recipe: '{dotted}'", got=repr(fault["input"]), expected=expected, field=dotted)


def _explain_column(faults: list[typing.Any], column: str) -> errors.RecipeError:
    """A fault in the line of a column."""
    fault, where = faults[0], f"recipe: features.columns '{column}'"
    steps = [str(step) for step in fault["loc"][3:]]
    operation = next((step for step in steps if step in columns.OPERATIONS), None)
    if operation is None:
        word = str(fault.get("ctx", {}).get("tag") or repr(fault["input"]))
        hint = errors.did_you_mean(word, columns.OPERATIONS)
        return errors.RecipeError.build(where, got=word, expected="an operation", hint=hint, field=column)
    if fault["type"] == "extra_forbidden":
        return errors.RecipeError.no_effect(column, operation, steps[-1], columns.options_of(operation))
    if fault["type"] == "missing":
        hint = f"{column}: {{operation: {operation}, {steps[-1]}: …}}"
        return errors.RecipeError.build(
            where, got=operation, expected=f"'{steps[-1]}' with it", hint=hint, field=column
        )
    option = next((step for step in steps if step in columns.options_of(operation)), None)
    if option is None:
        return errors.RecipeError.build(
            where, got=repr(fault["input"]), expected=str(fault["ctx"]["error"]), field=column
        )
    said = [each["msg"].removeprefix("Input should be ") for each in faults if option in each["loc"]]
    return errors.RecipeError.build(
        f"{where}, {option}", got=repr(fault["input"]), expected=" or ".join(said), field=column
    )


def _keys_at(path: list[str]) -> list[str]:
    """Keys that the section at `path` knows."""
    model: type[BaseModel] = Recipe
    for step in path:
        field = model.model_fields.get(step)
        inner = _section_of(field.annotation) if field else None
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        found = _section_of(inner)
        if found is not None:
            return found
    return None

"""Which operation each column gets, and why: automatic by kind, overridden by the recipe.

Two encodings: ``codes`` for trees, which split numbers of any scale, take missing values as
they are and sets of categories as codes; ``dense`` for linear models, which need every
value there, on one scale, and a column a category.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlsys import errors, recipe
from mlsys.features import derive
from mlsys.features.lookups import OTHER
from mlsys.features.times import CYCLES
from mlsys.features.values import Domain, domain_of
from mlsys.schema import Column, Kind, Schema, arrow_type
from mlsys.statistics import ColumnStatistics, TableStatistics

__all__ = ["ID_LIKE_FRACTION", "MAX_CODES", "MAX_ONEHOT", "Choice", "FeaturePlan", "choose", "min_rows"]

MAX_CODES = 254
"""Categories with a code of their own: with `OTHER` and missing they fit XGBoost's default of 256 bins."""

MAX_ONEHOT = 128
"""Categories with a column of their own: 128 float32 columns are half a gigabyte a million rows."""

ID_LIKE_FRACTION = 0.9
"""A category column in which this fraction of the values differ names rows, it does not group them."""

Encoding = Literal["codes", "dense"]


@dataclass(frozen=True)
class Choice:
    """The operation of a column, what the fit has to know, and the reason in one sentence."""

    column: str
    operation: str
    params: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class FeaturePlan:
    """One choice a column.

    Attributes
    ----------
    columns
        The columns that choices or derived features read → name of their Arrow type.
    domains
        Column or derived feature → domain of its values.
    derive
        Derived features that are used, and those that they are made of: name → SQL.
    """

    encoding: Encoding
    choices: tuple[Choice, ...]
    columns: dict[str, str]
    domains: dict[str, Domain]
    derive: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> list[Choice]:
        return [choice for choice in self.choices if choice.operation != "drop"]

    @property
    def dropped(self) -> list[Choice]:
        return [choice for choice in self.choices if choice.operation == "drop"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def choose(
    schema: Schema,
    statistics: TableStatistics,
    features: recipe.Features | None = None,
    encoding: Encoding = "codes",
    timezone: str = "UTC",
) -> FeaturePlan:
    """Choose an operation for each feature column and each derived feature.

    Parameters
    ----------
    schema
        Of the split, without derived features.
    statistics
        Of the training rows, derived features included (`derive.add`).
    timezone
        Zone whose wall clock gives the parts of times.

    Raises
    ------
    RecipeError
        The recipe names a column or an operation that does not exist.
    FeatureError
        The operation does not fit the column.
    """
    settings = features or recipe.Features()
    extended = derive.extend(schema, settings.derive)
    _check_overrides(extended, settings.columns)
    columns = [column for column in extended.features if column.name != statistics.task.target]
    choices = tuple(_choose(column, statistics, settings.columns.get(column.name), encoding) for column in columns)
    used = [choice.column for choice in choices if choice.operation != "drop"]
    expressions = derive.needed(settings.derive, used)
    read = {*used, *derive.inputs(expressions)} - set(expressions)
    domains = {c.name: d for c in columns if (d := domain_of(arrow_type(c.type), timezone)) and c.name in used}
    return FeaturePlan(encoding, choices, {c.name: c.type for c in schema if c.name in read}, domains, expressions)


def min_rows(num_rows: int) -> int:
    """Rows that a category needs in training for a place of its own.

    A mean over fewer than 10 rows has a standard error of a third of the spread; small
    tables have to do with less.
    """
    return max(2, min(10, num_rows // 100))


def _choose(column: Column, table: TableStatistics, wanted: str | None, encoding: Encoding) -> Choice:
    statistics = table.columns.get(column.name)
    if statistics is None:
        raise errors.FeatureError.build(
            f"features: column '{column.name}'", got="no statistics", expected="statistics of all feature columns",
            hint="scan the training rows with derived features added", field=column.name,
        )  # fmt: skip
    if wanted is not None:
        return _override(column, statistics, wanted, encoding)
    nothing = _useless(column, statistics)
    if nothing is not None:
        return Choice(column.name, "drop", {}, nothing)
    return BY_KIND[column.kind](column, statistics, encoding)


def _useless(column: Column, statistics: ColumnStatistics) -> str | None:
    """Why a column tells nothing, or None."""
    present, distinct = num_present(statistics), statistics.num_distinct
    if domain_of(arrow_type(column.type)) is None:
        return f"no operation reads values of type {column.type}"
    if not present:
        return "no value in any training row"
    if distinct == 1 and present == statistics.num_rows:
        return "the same value in all training rows"
    if column.kind is Kind.CATEGORICAL and (distinct or 0) >= ID_LIKE_FRACTION * present:
        return f"{distinct:,} different values in {present:,} training rows: it names rows, new ones will have others"
    return None


def num_present(statistics: ColumnStatistics) -> int:
    """Rows with a value that counts: of numbers, the finite ones."""
    numbers = statistics.numbers
    return statistics.num_rows - statistics.num_nulls if numbers is None else numbers.moments.n


def _numeric(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    if encoding == "codes":
        reason = "a number: trees split it at any scale, a missing one takes the branch that fits better"
    else:
        numbers = statistics.numbers
        spread = numbers is not None and numbers.moments.stddev
        if not spread:
            return Choice(column.name, "drop", {}, "its numbers are all the same or too large for a standard deviation")
        reason = "a number: centred and divided by its standard deviation; a missing one takes the median and is marked"
    return Choice(column.name, "numeric", {}, reason)


def _categorical(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    distinct, least = statistics.num_distinct or 0, min_rows(statistics.num_rows)
    limit, operation = (MAX_CODES, "codes") if encoding == "codes" else (MAX_ONEHOT, "onehot")
    if distinct > limit:
        reason = f"{distinct:,} categories, more than {limit}: how frequent each is in training"
        return Choice(column.name, "frequency", {}, reason)
    params = {"max_categories": limit, "min_rows": least}
    form = "codes that trees split in sets" if encoding == "codes" else "one column each"
    return Choice(
        column.name, operation, params, f"{distinct} categories: {form}; under {least} rows or unknown go to {OTHER}"
    )


def _boolean(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    del statistics
    missing = "a missing one stays missing" if encoding == "codes" else "a missing one takes the mean and is marked"
    return Choice(column.name, "boolean", {}, f"true and false as 1 and 0; {missing}")


def _datetime(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    numbers = statistics.numbers
    span = 0.0 if numbers is None else numbers.maximum - numbers.minimum
    domain = domain_of(arrow_type(column.type))
    able = [part for part in CYCLES if part != "hour" or (domain is not None and domain.name != "date")]
    parts = [part for part in able if span >= CYCLES[part].seen_after_us]
    if not parts:
        return Choice(column.name, "drop", {}, "training spans less than one cycle of any of its parts")
    titles = ", ".join(CYCLES[part].title.split(",")[0] for part in parts)
    form = "points on a circle" if encoding == "dense" else "numbers"
    reason = f"{titles} as {form}: training has seen their whole cycle; how long ago is left out, it only ever grows"
    return Choice(column.name, "datetime", {"parts": parts}, reason)


def _text(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    del statistics, encoding
    return Choice(column.name, "text", {}, "text: its length and number of words; what it says is not read")


def _unread(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> Choice:
    del statistics, encoding
    return Choice(column.name, "drop", {}, f"no operation reads {column.kind.value} values")


BY_KIND: Mapping[Kind, Callable[[Column, ColumnStatistics, Encoding], Choice]] = {
    Kind.NUMERIC: _numeric,
    Kind.CATEGORICAL: _categorical,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.TEXT: _text,
    Kind.IMAGE: _unread,
    Kind.LIST: _unread,
}

FITTING: Mapping[str, tuple[str, ...]] = {
    "numeric": ("number",),
    "codes": ("number", "text", "boolean"),
    "onehot": ("number", "text", "boolean"),
    "frequency": ("number", "text", "boolean"),
    "boolean": ("boolean",),
    "datetime": ("instant", "clock", "date"),
    "text": ("text",),
    "drop": ("number", "text", "boolean", "instant", "clock", "date"),
}
"""Operation of the recipe → domains that it reads."""


def _override(column: Column, statistics: ColumnStatistics, wanted: str, encoding: Encoding) -> Choice:
    domain = domain_of(arrow_type(column.type))
    reason = "asked for in the recipe"
    if wanted != "drop" and (domain is None or domain.name not in FITTING[wanted]):
        fitting = [name for name, domains in FITTING.items() if domain is not None and domain.name in domains]
        raise errors.FeatureError.build(
            f"features: column '{column.name}'", got=f"operation {wanted} for values of type {column.type}",
            expected=" or ".join(fitting) or "drop", hint=f"features.columns: {{{column.name}: {(fitting or ['drop'])[0]}}}",
            field=column.name,
        )  # fmt: skip
    if wanted == "codes" and encoding == "dense":
        wanted, reason = "onehot", "codes asked for in the recipe; a linear model needs a column a category"
    limits = {"codes": MAX_CODES, "onehot": MAX_ONEHOT}
    params: dict[str, Any] = {}
    if wanted in limits:
        params = {"max_categories": limits[wanted], "min_rows": min_rows(statistics.num_rows)}
    if wanted == "datetime":
        params = {"parts": _datetime(column, statistics, encoding).params.get("parts", ["weekday"])}
    return Choice(column.name, wanted, params, reason)


def _check_overrides(schema: Schema, columns: Mapping[str, str]) -> None:
    for name, operation in columns.items():
        where = f"recipe: features.columns '{name}'"
        if name not in schema:
            raise errors.RecipeError.unknown_column(where, name, [column.name for column in schema.features])
        if operation not in FITTING:
            hint = errors.did_you_mean(operation, FITTING)
            raise errors.RecipeError.build(where, got=operation, expected="an operation", hint=hint, field=name)
        if schema[name] not in schema.features:
            raise errors.RecipeError.build(
                where, got=f"a column with the role {schema[name].role.value}", expected="a feature",
                hint=f"a derived feature can read what a request has: features.derive: {{new_name: {name}}}", field=name,
            )  # fmt: skip

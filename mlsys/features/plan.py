"""Which operation each column gets, and why: automatic by kind, overridden by the recipe.

Two encodings: ``codes`` for trees, which split numbers of any scale, take missing values as
they are and sets of categories as codes; ``dense`` for linear models, which need every
value there, on one scale, and a column a category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlsys import errors, recipe
from mlsys.features import derive
from mlsys.features.auto_plan import (
    AutomaticChoice,
    CoordinateBlocks,
    Encoding,
    automatic,
    coordinate_blocks,
    coordinates,
    defaults,
)
from mlsys.features.domains import Domain, domain_of
from mlsys.recipe.columns import Treatment
from mlsys.schema import Column, Kind, Role, Schema, arrow_type
from mlsys.statistics import ColumnStatistics, TableStatistics

__all__ = ["AutomaticChoice", "Encoding", "FeaturePlan", "choose"]


@dataclass(frozen=True)
class FeaturePlan:
    """One choice a column, or more: operations, or the one to drop it.

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
    choices: tuple[AutomaticChoice, ...]
    columns: dict[str, str]
    domains: dict[str, Domain]
    derive: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> list[AutomaticChoice]:
        return [choice for choice in self.choices if choice.operation != "drop"]

    @property
    def num_coordinates(self) -> int:
        """Features that are places in a space, whose distances mean something: of texts, pictures, lists, vectors."""
        return sum(coordinates(choice) for choice in self.used)

    @property
    def dropped(self) -> list[AutomaticChoice]:
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
    _check_elapsed(extended, settings.columns)
    columns = [column for column in extended.features if column.name != statistics.task.target]
    choices = tuple(
        choice
        for column in columns
        for choice in _choose(column, statistics, settings.columns.get(column.name, ()), encoding, schema)
    )
    if encoding == "dense":
        free = [column for column in columns if column.name not in settings.columns]
        choices = _as_coordinates(choices, coordinate_blocks(free, statistics))
    used = {column for choice in choices if choice.operation != "drop" for column in choice.reads}
    expressions = derive.needed(settings.derive, used)
    read = {*used, *derive.inputs(expressions)} - set(expressions)
    domains = {c.name: d for c in extended if (d := domain_of(arrow_type(c.type), timezone)) and c.name in used}
    return FeaturePlan(encoding, choices, {c.name: c.type for c in schema if c.name in read}, domains, expressions)


def _choose(
    column: Column, table: TableStatistics, wanted: Sequence[Treatment], encoding: Encoding, schema: Schema
) -> list[AutomaticChoice]:
    statistics = table.columns.get(column.name)
    if statistics is None:
        raise errors.FeatureError.build(
            f"features: column '{column.name}'",
            got="no statistics",
            expected="statistics of all feature columns",
            hint="scan the training rows with derived features added",
            field=column.name,
        )
    if not wanted:
        return automatic(column, statistics, encoding, _time_beside(column, schema))
    return [_override(column, statistics, treatment, encoding) for treatment in wanted]


def _as_coordinates(choices: tuple[AutomaticChoice, ...], found: CoordinateBlocks) -> tuple[AutomaticChoice, ...]:
    """The choices, those of the columns of a vector replaced."""
    return tuple(_coordinate(choice, *found[choice.column]) if choice.column in found else choice for choice in choices)


def _coordinate(choice: AutomaticChoice, prefix: str, size: int, spread: float) -> AutomaticChoice:
    if choice.operation != "numeric":
        return choice
    reason = f"one of {size} numbered columns {prefix}…, a vector: centred, divided by their common standard deviation"
    return AutomaticChoice(choice.column, "numeric", {"scale": spread}, reason)


def _time_beside(column: Column, schema: Schema) -> str | None:
    """The time of the row, for a time of the table beside it; a derived one may well be the same time."""
    time = schema.one(Role.TIME)
    return time if time and column.name in schema and _is_time(schema[time]) else None


def _is_time(column: Column) -> bool:
    domain = domain_of(arrow_type(column.type))
    return domain is not None and domain.name in FITTING["elapsed"]


def _check_elapsed(schema: Schema, columns: Mapping[str, Sequence[Treatment]]) -> None:
    """The other column of an elapsed time has to be one that a request has, and a time."""
    times = [column.name for column in derive.readable(schema) if _is_time(column)]
    for name, treatments in columns.items():
        for since in (treatment.options["since"] for treatment in treatments if treatment.operation == "elapsed"):
            if since == name or since not in times:
                raise errors.RecipeError.build(
                    f"recipe: features.columns '{name}', since",
                    got=since,
                    expected="another column that is a time, and that a request has",
                    hint=errors.did_you_mean(since, set(times) - {name}),
                    field=name,
                )


FITTING: Mapping[str, tuple[str, ...]] = {
    "numeric": ("number",),
    "codes": ("number", "text", "boolean"),
    "onehot": ("number", "text", "boolean"),
    "frequency": ("number", "text", "boolean"),
    "target": ("number", "text", "boolean"),
    "hash": ("number", "text", "boolean"),
    "boolean": ("boolean",),
    "datetime": ("instant", "clock", "date"),
    "elapsed": ("instant", "clock", "date"),
    "list": ("numbers",),
    "text": ("text",),
    "tfidf": ("text",),
    "image": ("bytes",),
    "drop": ("number", "text", "boolean", "instant", "clock", "date", "numbers", "bytes"),
}
"""Operation of the recipe → domains that it reads."""


ASKED = "asked for in the recipe"


def _override(column: Column, statistics: ColumnStatistics, wanted: Treatment, encoding: Encoding) -> AutomaticChoice:
    operation, given, reason = wanted.operation, wanted.options, ASKED
    if operation != "drop":
        _refuse_unfit(column, operation)
    if operation == "target" and column.kind is Kind.NUMERIC:
        raise errors.FeatureError.build(
            f"features: column '{column.name}'",
            got="operation target for a number",
            expected="a category: the target is summed for each of those",
            hint=f"data.kinds: {{{column.name}: categorical}}",
            field=column.name,
        )
    if encoding == "dense":
        operation, given, reason = _for_linear(operation, given)
    chosen = {} if "encoder" in given else defaults(operation, column, statistics, encoding)
    return AutomaticChoice(column.name, operation, {**chosen, **given}, reason)


def _for_linear(operation: str, given: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """What comes nearest for a model that needs every value there and a column a category; and why."""
    if operation == "codes":
        return "onehot", given, f"codes {ASKED}; a linear model needs a column a category"
    for option, value in (("impute", "none"), ("cyclic", False)):
        if given.get(option) == value:
            kept = {name: setting for name, setting in given.items() if name != option}
            return operation, kept, f"{ASKED}, without {option}: a linear model needs every value there"
    return operation, given, ASKED


def _refuse_unfit(column: Column, wanted: str) -> None:
    domain = domain_of(arrow_type(column.type))
    if wanted == "image" and column.kind is Kind.BYTES:
        hint = f"data.kinds: {{{column.name}: image}} decodes them"
        got = "operation image for bytes of unknown form"
        raise errors.FeatureError.build(
            f"features: column '{column.name}'", got=got, expected="pictures", hint=hint, field=column.name
        )
    if domain is None or domain.name not in FITTING[wanted]:
        fitting = [name for name, domains in FITTING.items() if domain is not None and domain.name in domains] or [
            "drop"
        ]
        raise errors.FeatureError.build(
            f"features: column '{column.name}'",
            got=f"operation {wanted} for values of type {column.type}",
            expected=" or ".join(fitting),
            hint=f"features.columns: {{{column.name}: {fitting[0]}}}",
            field=column.name,
        )


def _check_overrides(schema: Schema, columns: Mapping[str, Sequence[Treatment]]) -> None:
    for name in columns:
        where = f"recipe: features.columns '{name}'"
        if name not in schema:
            raise errors.RecipeError.unknown_column(where, name, [column.name for column in schema.features])
        if schema[name].role is not Role.FEATURE:
            got = f"a column with the role {schema[name].role.value}"
            hint = f"a derived feature can read what a request has: features.derive: {{new_name: {name}}}"
            raise errors.RecipeError.build(where, got=got, expected="a feature", hint=hint, field=name)

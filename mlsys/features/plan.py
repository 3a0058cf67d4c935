"""The feature plan: the operations of each column and the reason, automatic by kind or stated by the recipe.

Three encodings: ``codes`` for trees, which split numbers of any scale, take missing values as they are and sets of
categories as codes; ``dense`` for linear models, which need every value there, on one scale, and a column a category;
``pixels`` for convolutions, which take the same but pictures as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlsys import errors, recipe
from mlsys.features import derive
from mlsys.features.auto_plan import CoordinateBlocks, automatic, coordinate_blocks
from mlsys.features.domains import TIMES, Domain, domain_of
from mlsys.features.operations.operation import Encoding, OperationChoice, PlanInputs
from mlsys.features.operations.operation_registry import OPERATIONS, fitting_operations
from mlsys.recipe.columns import Treatment
from mlsys.schema import Column, Role, Schema, arrow_type
from mlsys.statistics import ColumnStatistics, TableStatistics


@dataclass(frozen=True)
class FeaturePlan:
    """The choices of all columns: one or more operations, or to drop it.

    Attributes
    ----------
    columns
        Columns that choices or derived features read → name of their Arrow type.
    domains
        Column or derived feature → domain of its values.
    derive
        Derived features that are used, and those that they are made of: name → SQL.
    """

    encoding: Encoding
    choices: tuple[OperationChoice, ...]
    columns: dict[str, str]
    domains: dict[str, Domain]
    derive: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> list[OperationChoice]:
        return [choice for choice in self.choices if choice.operation != "drop"]

    @property
    def num_coordinates(self) -> int:
        """Number of features that are coordinates, whose distances mean something."""
        return sum(OPERATIONS[choice.operation].num_coordinates(choice.params) for choice in self.used)

    @property
    def dropped(self) -> list[OperationChoice]:
        return [choice for choice in self.choices if choice.operation == "drop"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def choose(
    schema: Schema,
    statistics: TableStatistics,
    features: recipe.FeaturesSection | None = None,
    encoding: Encoding = "codes",
    timezone: str = "UTC",
) -> FeaturePlan:
    """Choose an operation for each feature column and each derived feature.

    Parameters
    ----------
    schema
        Columns of the split, without derived features.
    statistics
        Statistics of the training rows, derived features included (`derive.add`).
    timezone
        Zone whose wall clock gives the parts of times.

    Raises
    ------
    RecipeError
        The recipe names a column or an operation that does not exist.
    FeatureError
        The operation does not fit the column.
    """
    # 1. Check the recipe.
    settings = features or recipe.FeaturesSection()
    extended = derive.extend(schema, settings.derive)
    _check_overrides(extended, settings.columns)
    _check_elapsed(extended, settings.columns)
    # 2. Choose the operations of each column; coordinates of a vector get one scale.
    columns = [column for column in extended.features if column.name != statistics.task.target]
    choices = tuple(
        choice
        for column in columns
        for choice in _choose(column, statistics, settings.columns.get(column.name, ()), encoding, schema)
    )
    if encoding != "codes":
        free = [column for column in columns if column.name not in settings.columns]
        blocks = coordinate_blocks(free, statistics)
        choices = tuple(_as_coordinate(choice, blocks) for choice in choices)
    # 3. Find the columns of a request that they read, directly or through derived features.
    used = {column for choice in choices if choice.operation != "drop" for column in choice.reads}
    expressions = derive.needed(settings.derive, used)
    read = {*used, *derive.inputs(expressions)} - set(expressions)
    domains = {c.name: d for c in extended if (d := domain_of(arrow_type(c.type), timezone)) and c.name in used}
    return FeaturePlan(encoding, choices, {c.name: c.type for c in schema if c.name in read}, domains, expressions)


def _choose(
    column: Column, table: TableStatistics, treatments: Sequence[Treatment], encoding: Encoding, schema: Schema
) -> list[OperationChoice]:
    statistics = table.columns.get(column.name)
    if statistics is None:
        expected = "statistics of all feature columns"
        hint = "scan the training rows with derived features added"
        where = f"features: column '{column.name}'"
        raise errors.FeatureError.build(where, got="no statistics", expected=expected, hint=hint, field=column.name)
    if not treatments:
        chosen = automatic(PlanInputs(column, statistics, encoding), _row_time(column, schema))
        return _without_means(chosen, column, statistics, encoding) if table.task.labels else chosen
    if table.task.labels and any(each.operation == "target" for each in treatments):
        where, got = f"features: column '{column.name}'", "operation target with several labels"
        hint = f"features.columns: {{{column.name}: frequency}}, or codes, or keys"
        expected = "an operation that reads no target: of several labels there is no single mean"
        raise errors.FeatureError.build(where, got=got, expected=expected, hint=hint, field=column.name)
    return [_override(PlanInputs(column, statistics, encoding, each.options), each.operation) for each in treatments]


def _without_means(
    chosen: list[OperationChoice], column: Column, statistics: ColumnStatistics, encoding: Encoding
) -> list[OperationChoice]:
    """Take how frequent a category is in place of the mean of the target in it, of which several labels have none."""
    params = OPERATIONS["frequency"].params(PlanInputs(column, statistics, encoding))
    reason = "{}, how frequent each is in training: of several labels there is no single mean"
    return [
        OperationChoice(each.column, "frequency", params, reason.format(each.reason.partition(":")[0]))
        if each.operation == "target"
        else each
        for each in chosen
    ]


def _as_coordinate(choice: OperationChoice, blocks: CoordinateBlocks) -> OperationChoice:
    """The choice, or that of a coordinate of a vector in its place."""
    if choice.operation != "numeric" or choice.column not in blocks:
        return choice
    prefix, size, spread = blocks[choice.column]
    reason = f"one of {size} numbered columns {prefix}…, a vector: centred, divided by their common standard deviation"
    return OperationChoice(choice.column, "numeric", {"scale": spread}, reason)


def _row_time(column: Column, schema: Schema) -> str | None:
    """The column of the row's time, if `column` is another time of the table; a derived one may well be the same."""
    time = schema.name_of(Role.TIME)
    return time if time and column.name in schema and _is_time(schema[time]) else None


def _is_time(column: Column) -> bool:
    domain = domain_of(arrow_type(column.type))
    return domain is not None and domain.name in TIMES


def _check_elapsed(schema: Schema, columns: Mapping[str, Sequence[Treatment]]) -> None:
    """Refuse an elapsed time whose other column is no time or is not in a request."""
    times = [column.name for column in derive.readable(schema) if _is_time(column)]
    for name, treatments in columns.items():
        for since in (treatment.options["since"] for treatment in treatments if treatment.operation == "elapsed"):
            if since == name or since not in times:
                expected = "another column that is a time, and that a request has"
                hint = errors.did_you_mean(since, set(times) - {name})
                where = f"recipe: features.columns '{name}', since"
                raise errors.RecipeError.build(where, got=since, expected=expected, hint=hint, field=name)


def _override(inputs: PlanInputs, operation: str) -> OperationChoice:
    """The choice that a recipe asks for, or what comes nearest to it for a dense model."""
    name = inputs.column.name
    if operation == "drop":
        return OperationChoice(name, "drop", {}, ASKED)
    _refuse_unfit(inputs.column, operation)
    spec, given, reason = OPERATIONS[operation], dict(inputs.given), ASKED
    if inputs.encoding == "pixels" and operation == "image" and "encoder" not in given:
        spec, given, reason = OPERATIONS["pixels"], {}, f"image {ASKED}; a convolution takes pixels in its place"
    elif inputs.encoding != "codes" and spec.dense_operation:
        reason = f"{operation} {ASKED}; a linear model takes {spec.dense_operation} in its place"
        spec = OPERATIONS[spec.dense_operation]
        given = {option: value for option, value in given.items() if option in spec.options.model_fields}
    elif inputs.encoding != "codes":
        gaps = [option for option, value in spec.sparse_options.items() if given.get(option) == value]
        if gaps:
            reason = f"{ASKED}, without {', '.join(gaps)}: a linear model needs every value there"
        given = {option: value for option, value in given.items() if option not in gaps}
    return OperationChoice(name, spec.name, {**spec.params(inputs), **given}, reason)


ASKED = "asked for in the recipe"


def _refuse_unfit(column: Column, operation: str) -> None:
    domain = domain_of(arrow_type(column.type))
    if domain is None or domain.name not in OPERATIONS[operation].domains:
        fitting = fitting_operations(domain)
        got = f"operation {operation} for values of type {column.type}"
        hint = f"features.columns: {{{column.name}: {fitting[0]}}}"
        where = f"features: column '{column.name}'"
        raise errors.FeatureError.build(where, got=got, expected=" or ".join(fitting), hint=hint, field=column.name)
    OPERATIONS[operation].check(column)


def _check_overrides(schema: Schema, columns: Mapping[str, Sequence[Treatment]]) -> None:
    for name in columns:
        where = f"recipe: features.columns '{name}'"
        if name not in schema:
            raise errors.RecipeError.unknown_column(where, name, [column.name for column in schema.features])
        if schema[name].role is not Role.FEATURE:
            got = f"a column with the role {schema[name].role.value}"
            hint = f"a derived feature can read what a request has: features.derive: {{new_name: {name}}}"
            raise errors.RecipeError.build(where, got=got, expected="a feature", hint=hint, field=name)

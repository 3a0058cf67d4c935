"""The declaration of an operation: what a recipe may say of it, what it reads, how it is planned and fitted.

Each operation is one file that ends in its `OperationSpec`;
`mlsys.features.operations.operation_registry` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlsys.features.domains import Domain
from mlsys.features.operations.operation import Operation
from mlsys.recipe.columns import Treatment
from mlsys.schema import Column
from mlsys.statistics import ColumnStatistics, TableStatistics

Encoding = Literal["codes", "dense"]
"""For trees (``codes``), or for models that need every value there and on one scale (``dense``)."""

CATEGORIES = ("number", "text", "boolean")
"""Domains whose values can be categories."""

COLUMN_OPTIONS = ("since",)
"""Options whose value is the name of another column that the operation reads."""


@dataclass(frozen=True)
class OperationChoice:
    """An operation of a column, what the fit has to know, and the reason in one sentence.

    Attributes
    ----------
    params
        The options that were given, and those that are chosen with the operation. Others are
        constants, which the fit computes.
    """

    column: str
    operation: str
    params: dict[str, Any]
    reason: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column, *(self.params[name] for name in COLUMN_OPTIONS if name in self.params))


@dataclass(frozen=True)
class PlanInputs:
    """The facts by which an operation of a column and its parameters are chosen; `given` are the recipe's options."""

    column: Column
    statistics: ColumnStatistics
    encoding: Encoding
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitInputs:
    """The facts from which an operation is fitted: its choice, and statistics of the training rows.

    Attributes
    ----------
    domains
        One for each column that the choice reads.
    dense
        The model needs every value there and on one scale.
    """

    choice: OperationChoice
    domains: tuple[Domain, ...]
    table: TableStatistics
    dense: bool

    @property
    def statistics(self) -> ColumnStatistics:
        return self.table.columns[self.choice.column]

    @property
    def column(self) -> str:
        return self.choice.column

    @property
    def domain(self) -> Domain:
        return self.domains[0]

    @property
    def params(self) -> dict[str, Any]:
        return self.choice.params

    @property
    def has_missing(self) -> bool:
        """True if a training row lacks a value that counts."""
        return num_present(self.statistics) < self.statistics.num_rows


@dataclass(frozen=True)
class OperationSpec:
    """An operation of the recipe.

    Attributes
    ----------
    options
        Class of its options in the recipe; the default of its field `operation` is the name.
    domains
        Names of the domains that it reads.
    fitted
        Classes of fitted operations, one of which `fit` gives.
    fit
        Function that fits it. It does not fail on a column without values.
    params
        Function that chooses the parameters that the recipe need not state.
    check
        Function that raises `FeatureError` for a column of a fitting domain that it cannot take.
    num_coordinates
        Function that counts, by the parameters, the features that are coordinates of an embedding, at least.
    dense_operation
        Operation that a dense model gets in its place.
    sparse_options
        Values of options that would leave gaps, and that a dense model therefore does not get.
    """

    options: type[Treatment]
    domains: tuple[str, ...]
    fitted: tuple[type[Operation], ...]
    fit: Callable[[FitInputs], Operation]
    params: Callable[[PlanInputs], dict[str, Any]] = lambda _: {}
    check: Callable[[Column], None] = lambda _: None
    num_coordinates: Callable[[Mapping[str, Any]], int] = lambda _: 0
    dense_operation: str | None = None
    sparse_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.options.model_fields["operation"].default)


def num_present(statistics: ColumnStatistics) -> int:
    """Number of rows with a value that counts: of numbers, the finite ones."""
    numbers = statistics.numbers
    return statistics.num_rows - statistics.num_nulls if numbers is None else numbers.moments.n


def category_counts(statistics: ColumnStatistics) -> dict[Any, int]:
    """Value → rows, largest count first and then by value; whole numbers as integers."""
    counts = {
        value: n for value, n in statistics.counts().items() if not isinstance(value, float) or math.isfinite(value)
    }
    if all(isinstance(value, float) and value.is_integer() for value in counts):
        counts = {int(value): count for value, count in counts.items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

"""The interface of a fitted operation: one column becomes features, for a table and for one row.

An operation has two executors with one meaning and the same bits. `Operation.raw` and `Operation.fill` work on whole
columns: Polars expressions, then NumPy. `Operation.writer` gives a function of one value. An operation either computes
in float64, the same operations in the same order, and rounds once to float32; or it is a `TableOperation`.

Each operation is one file that ends in its declaration, an `OperationSpec`: what a recipe may say of it, what it reads,
how it is planned and fitted. `mlsys.features.operations.operation_registry` lists them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features.domains import Domain
from mlsys.limits import FLOAT32_MAX
from mlsys.recipe.columns import Treatment
from mlsys.schema import Column
from mlsys.statistics import ColumnStatistics, TableStatistics

Matrix = npt.NDArray[np.float32]
Writer = Callable[[Any, Matrix], None]

LARGEST_LOG = 89.0
"""Above log(1 + `FLOAT32_MAX`)."""


@dataclass(frozen=True)
class Operation(ABC):
    """Turn a column into features, with constants that were fitted on the training rows.

    Attributes
    ----------
    column
        The column that it is about, and its `domain`.
    outputs
        Names of the features, in order; `types` as those of `mlsys.models.matrix.Matrix`: "q" a quantity, "c" the code
        of a category, "k" the number of one of many, "m" a mean of the target, "e" a coordinate of an embedding, "P"
        the first level of a picture and "p" the others.
    """

    column: str
    domain: Domain

    name: ClassVar[str]
    """Tag of the class in a stored program."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it reads; `writer` takes the value of one, or a tuple of the values of several."""
        return (self.column,)

    @property
    @abstractmethod
    def outputs(self) -> list[str]: ...

    @property
    def types(self) -> list[str]:
        return ["q"] * len(self.outputs)

    def raw(self) -> list[pl.Expr]:
        """Expressions that `fill` needs, one column each: the values as the domain reads them, unless stated here."""
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        """Write the features of all rows into `out`, ``(rows, len(outputs))``."""
        for at, series in enumerate(raw):
            out[:, at] = series.to_numpy()

    @abstractmethod
    def writer(self, start: int) -> Writer:
        """Function (value, out): write the features of one row into ``out[start:]``."""

    def to_json(self) -> dict[str, Any]:
        return {"operation": self.name, **asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read the fields that `to_json` wrote, without the tag."""
        return cls(**{name: _read_field(name, value) for name, value in fields.items()})

    def _with_indicator(self, names: list[str], *, indicator: bool) -> list[str]:
        """Names of features, and that of the column that marks missing values if there is one."""
        return [*names, f"{self.column} is missing"] if indicator else names


NESTED = frozenset({dict, list, tuple})
"""Types of JSON, and of a program's fields, that hold others."""


def _read_field(name: str, value: Any) -> Any:
    """Read a field from JSON, where domains and scalings are objects and tuples are lists."""
    if isinstance(value, list | tuple):  # of categories there may be tens of thousands
        return tuple(_read_field(name, each) if type(each) in NESTED else each for each in value)
    if name in ("domain", "since_domain"):
        return Domain(**value)
    return Scaling(**value) if name in ("scaling", "scalings") else value


class TableOperation(Operation):
    """Look up the row of a value in a small float32 table that both executors read."""

    @cached_property
    @abstractmethod
    def table(self) -> Matrix:
        """A row for each kind of value; the last one is for a missing value."""

    @abstractmethod
    def rows(self, values: pl.Series) -> npt.NDArray[np.integer[Any]]:
        """Row of each value of a column."""

    @abstractmethod
    def row_of(self) -> Callable[[Any], int]:
        """Function of one value that is not missing, as the domain reads it, that gives its row."""

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        out[:] = self.table.take(self.rows(raw[0]), axis=0)

    def writer(self, start: int) -> Writer:
        read, row_of = self.domain.reader(self.column), self.row_of()
        put, missing = row_copier(self.table, start), len(self.table) - 1

        def write(value: Any, out: Matrix) -> None:
            value = read(value)
            put(out, missing if value is None else row_of(value))

        return write


@dataclass(frozen=True)
class Scaling:
    """Compute (value - center) · 1 / scale in float64, then round once to float32.

    It multiplies by the inverse, for that is how Polars divides a column by a constant.

    Attributes
    ----------
    fill
        Taken for a missing value before all else; None leaves NaN.
    indicator
        A column of its own says where the value was missing.
    log
        sign(value) · log(1 + abs(value)) before scaling: odd, so that it takes any number.
    """

    center: float = 0.0
    scale: float = 1.0
    fill: float | None = None
    indicator: bool = False
    log: bool = False

    @property
    def is_identity(self) -> bool:
        return self.center == 0.0 and self.scale == 1.0 and not self.log

    @cached_property
    def factor(self) -> float:
        return 1.0 / self.scale

    @property
    def may_overflow(self) -> bool:
        """True if a scaled value can lie beyond float32; to look at each is half of the work of a column.

        Rounding keeps the order, so no value is scaled beyond what the largest one is.
        """
        largest = LARGEST_LOG if self.log else FLOAT32_MAX
        return not self.is_identity and (largest + abs(self.center)) * self.factor > FLOAT32_MAX

    def expr(self, value: pl.Expr) -> pl.Expr:
        if self.fill is not None:
            value = value.fill_null(self.fill)
        if self.log:
            value = pl.when(value < 0).then(-(-value).log1p()).otherwise(value.log1p())
        if not self.is_identity:
            value = (value - self.center) * self.factor
        if self.may_overflow:
            value = value.clip(-FLOAT32_MAX, FLOAT32_MAX)
        return value.cast(pl.Float32)

    def apply(self, value: float) -> float:
        if self.is_identity:
            return value
        if self.log:
            value = signed_log(value)
        scaled = (value - self.center) * self.factor
        if -FLOAT32_MAX <= scaled <= FLOAT32_MAX:
            return scaled
        return FLOAT32_MAX if scaled > 0 else -FLOAT32_MAX

    @property
    def missing(self) -> float:
        """The feature of a missing value."""
        return math.nan if self.fill is None else self.apply(self.fill)


def signed_log(value: float) -> float:
    """Compute sign(value) · log(1 + abs(value)).

    >>> signed_log(math.e - 1), signed_log(0.0), signed_log(1 - math.e)
    (1.0, 0.0, -1.0)
    """
    return -math.log1p(-value) if value < 0 else math.log1p(value)


def divisor(spread: float) -> float:
    """The number to divide by: the spread, or 1 if the spread has no finite inverse."""
    return spread if spread > 0 and math.isfinite(spread) and math.isfinite(1.0 / spread) else 1.0


def scaled_table(values: Sequence[float], scaling: Scaling) -> Matrix:
    """A table with one scaled number a row, then the missing value; with an indicator column if the scaling has one."""
    numbers = np.array([*map(scaling.apply, values), scaling.missing], np.float64).astype(np.float32)[:, np.newaxis]
    if not scaling.indicator:
        return numbers
    return np.hstack([numbers, np.eye(len(numbers), 1, k=1 - len(numbers), dtype=np.float32)])


def code_table(num_codes: int, *, onehot: bool) -> Matrix:
    """A table with a row a code, the last one for a missing value: the number and NaN, or a column each."""
    if onehot:
        return np.eye(num_codes + 1, dtype=np.float32)
    return np.array([*range(num_codes), math.nan], np.float32)[:, np.newaxis]


def row_copier(table: Matrix, start: int) -> Callable[[Matrix, int], None]:
    """Function (out, row): copy a row of the table into ``out[start:]``."""
    if table.shape[1] > 2:
        stop = start + table.shape[1]

        def copy(out: Matrix, row: int) -> None:
            out[start:stop] = table[row]

        return copy
    first, *second = table.T.tolist()  # Python floats are set several times faster than a slice

    def copy_number(out: Matrix, row: int) -> None:
        out[start] = first[row]

    def copy_pair(out: Matrix, row: int) -> None:
        out[start] = first[row]
        out[start + 1] = second[0][row]

    return copy_pair if second else copy_number


Encoding = Literal["codes", "dense", "pixels"]
"""For trees (``codes``), or for models that need every value there and on one scale (``dense``), of which some look at
the pixels of pictures (``pixels``)."""

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
    items = statistics.counts().items()
    counts = {value: n for value, n in items if not isinstance(value, float) or math.isfinite(value)}
    if all(isinstance(value, float) and value.is_integer() for value in counts):
        counts = {int(value): count for value, count in counts.items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

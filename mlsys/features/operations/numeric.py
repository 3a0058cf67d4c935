"""Operations that compute: numbers.

An operation has two executors with one meaning: `raw` and `fill` work on whole columns,
`writer` on one value. Here both compute in float64, the same operations in the same order,
and round once to float32. Operations that look a value up are in `lookups`, those on texts in `text`.

What a number is replaced by, centred at and divided by, from the statistics of the training rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features.domains import Domain
from mlsys.limits import FLOAT32_MAX
from mlsys.statistics import ColumnStatistics

__all__ = [
    "Matrix",
    "Numeric",
    "Operation",
    "Scaling",
    "Writer",
    "center_and_scale",
    "divisor",
    "edges_of",
    "fill_of",
    "signed_log",
    "signed_logs",
]

Matrix = npt.NDArray[np.float32]
Writer = Callable[[Any, Matrix], None]


LARGEST_LOG = 89.0
"""Above log(1 + `FLOAT32_MAX`)."""


@dataclass(frozen=True)
class Scaling:
    """(value - center) · 1 / scale in float64, then one rounding to float32.

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
        """Whether a scaled value can lie beyond float32; to look at each is half of the work of a column.

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
        """What a missing value becomes."""
        return math.nan if self.fill is None else self.apply(self.fill)


def signed_log(value: float) -> float:
    """sign(value) · log(1 + abs(value)).

    >>> signed_log(math.e - 1), signed_log(0.0), signed_log(1 - math.e)
    (1.0, 0.0, -1.0)
    """
    return -math.log1p(-value) if value < 0 else math.log1p(value)


@dataclass(frozen=True)
class Operation(ABC):
    """What is done with a column.

    Attributes
    ----------
    column
        The column that it is about, and its `domain`.
    outputs
        Names of the features, in order; `types` as those of `models.matrix.Matrix`: "q" a
        quantity, "c" the code of a category, "e" a coordinate of an embedding.
    """

    column: str
    domain: Domain

    name: ClassVar[str]

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

    @abstractmethod
    def raw(self) -> list[pl.Expr]:
        """Expressions of the column that `fill` needs, one column each."""

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        """Write the features of all rows into `out`, ``(rows, len(outputs))``."""
        for at, series in enumerate(raw):
            out[:, at] = series.to_numpy()

    @abstractmethod
    def writer(self, start: int) -> Writer:
        """Function (value, out): write the features of one row into ``out[start:]``."""

    def to_json(self) -> dict[str, Any]:
        return {"operation": self.name, **asdict(self)}


@dataclass(frozen=True)
class Numeric(Operation):
    """The number itself for trees; imputed and standardised for linear models.

    Attributes
    ----------
    coordinate
        Of a vector, see `vectors`: its scaling is that of the other coordinates too.
    """

    scaling: Scaling = field(default_factory=Scaling)
    coordinate: bool = False

    name = "numeric"

    @property
    def types(self) -> list[str]:
        return ["e" if self.coordinate else "q", "q"][: len(self.outputs)]

    @property
    def outputs(self) -> list[str]:
        return [self.column, f"{self.column} is missing"] if self.scaling.indicator else [self.column]

    def raw(self) -> list[pl.Expr]:
        value = self.domain.expr(self.column)
        number = self.scaling.expr(value)
        return [number, value.is_null().cast(pl.Float32)] if self.scaling.indicator else [number]

    def writer(self, start: int) -> Writer:
        read, scaling, apply = self.domain.reader(self.column), self.scaling, self.scaling.apply
        missing, indicator = scaling.missing, scaling.indicator

        def write(value: Any, out: Matrix) -> None:
            number = read(value)
            out[start] = missing if number is None else apply(number)
            if indicator:
                out[start + 1] = number is None

        return write


LOG_SAMPLE = 1_000
"""Quantiles that stand for the rows: with them the deviation of an exponential variable is 0.5 % too small."""


def fill_of(statistics: ColumnStatistics, impute: str | float) -> float | None:
    """What stands for a missing value."""
    if not isinstance(impute, str):
        return float(impute)
    if impute == "none" or statistics.numbers is None:
        return None
    return statistics.numbers.moments.mean if impute == "mean" else float(statistics.quantiles([0.5])[0])


def center_and_scale(statistics: ColumnStatistics, scale: str | float, *, log: bool) -> tuple[float, float]:
    """What is subtracted and what is divided by; `scale` names it, or is the latter for the columns of a vector.

    The mean and the deviation of a logarithm are those of `LOG_SAMPLE` of its quantiles, which a
    monotone function moves along.
    """
    numbers = statistics.numbers
    if scale == "none" or numbers is None:
        return 0.0, 1.0
    if not isinstance(scale, str):
        return numbers.moments.mean, scale
    values = signed_logs(statistics) if log else None
    mean, spread = numbers.moments.mean, math.sqrt(numbers.moments.m2 / numbers.moments.n)
    if values is not None:
        mean, spread = float(values.mean()), float(values.std())
    spread = spread if numbers.minimum < numbers.maximum else 0.0
    if scale == "standard":
        return mean, divisor(spread)
    low, middle, high = (float(q) for q in statistics.quantiles([0.25, 0.5, 0.75]))
    if log:
        low, middle, high = signed_log(low), signed_log(middle), signed_log(high)
    return middle, divisor(high - low or spread)  # a column of mostly one value has no interquartile range


def divisor(spread: float) -> float:
    """What to divide by: the spread, or 1 where there is none whose inverse is a number."""
    return spread if spread > 0 and math.isfinite(spread) and math.isfinite(1.0 / spread) else 1.0


def edges_of(statistics: ColumnStatistics, bins: int) -> tuple[float, ...]:
    """Inner edges of quantile bins, each once; the largest value ends no bin."""
    numbers = statistics.numbers
    if numbers is None or not numbers.moments.n:
        return ()
    edges = np.unique(statistics.quantiles(np.arange(1, bins) / bins))
    return tuple(edges[edges < numbers.maximum].tolist())


def signed_logs(statistics: ColumnStatistics) -> npt.NDArray[np.float64]:
    """`signed_log` of `LOG_SAMPLE` quantiles, evenly spaced: their moments are near those of all rows."""
    values = statistics.quantiles((np.arange(LOG_SAMPLE) + 0.5) / LOG_SAMPLE)
    return np.array([signed_log(value) for value in values.tolist()])

"""Operation ``numeric``: the number itself, imputed and scaled; or the number of its quantile bin."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features.operations.operation import (
    FitInputs,
    Matrix,
    Operation,
    OperationSpec,
    Scaling,
    TableOperation,
    Writer,
    code_table,
    divisor,
    signed_log,
)
from mlsys.limits import FLOAT32_MAX
from mlsys.recipe.columns import NumericOptions
from mlsys.statistics import ColumnStatistics

LOG_SAMPLE = 1_000
"""Quantiles that stand for the rows: with them the deviation of an exponential variable is 0.5 % too small."""

OWN_TYPES = frozenset({float, int})
"""Types of numbers that are features as they are; true is none."""


@dataclass(frozen=True)
class Numeric(Operation):
    """Take the number itself for trees; impute and standardise it for linear models.

    Attributes
    ----------
    coordinate
        It is a coordinate of a vector (`mlsys.features.auto_plan.coordinate_blocks`): all of them have one scale.
    """

    scaling: Scaling = field(default_factory=Scaling)
    coordinate: bool = False

    name = "numeric"

    @property
    def types(self) -> list[str]:
        return ["e" if self.coordinate else "q", "q"][: len(self.outputs)]

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([self.column], indicator=self.scaling.indicator)

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

        def write_as_it_is(value: Any, out: Matrix) -> None:
            if type(value) in OWN_TYPES and -FLOAT32_MAX <= value <= FLOAT32_MAX:
                out[start] = value
            else:
                write(value, out)

        return write_as_it_is if scaling.is_identity and not indicator else write


@dataclass(frozen=True)
class QuantileBins(TableOperation):
    """Number the bins, which are closed on the right and hold as equally many training rows as ties allow.

    Attributes
    ----------
    edges
        Ascending; bin k holds what is above k of them. The outer bins are open.
    onehot
        One column a bin and one for missing values, for linear models: a bin has an effect of
        its own. Otherwise the number of the bin, and NaN for a missing one.
    """

    edges: tuple[float, ...] = ()
    onehot: bool = False

    name = "bins"

    @property
    def outputs(self) -> list[str]:
        if not self.onehot:
            return [f"{self.column}: bin"]
        ends = ["-inf", *(f"{edge:.6g}" for edge in self.edges), "inf"]
        names = [f"{self.column} in ({low}, {high})" for low, high in itertools.pairwise(ends)]
        return self._with_indicator(names, indicator=True)

    @cached_property
    def table(self) -> Matrix:
        return code_table(len(self.edges) + 1, onehot=self.onehot)

    def rows(self, values: pl.Series) -> npt.NDArray[np.intp]:
        bins = np.searchsorted(np.array(self.edges), values.fill_null(0.0).to_numpy(), side="left")
        bins[values.is_null().to_numpy()] = len(self.edges) + 1
        return bins

    def row_of(self) -> Callable[[float], int]:
        return partial(bisect_left, self.edges)


def _fit(inputs: FitInputs) -> Operation:
    column, domain, dense, params = inputs.column, inputs.domain, inputs.dense, inputs.params
    numbers = inputs.statistics.numbers
    if "bins" in params:
        return QuantileBins(column, domain, _bin_edges(inputs.statistics, params["bins"]), dense)
    if numbers is None:
        return Numeric(column, domain)
    log = params.get("log", False)
    if not numbers.moments.n:
        impute = params.get("impute", 0.0 if dense else "none")
        fill = {"none": None, "mean": 0.0, "median": 0.0}[impute] if isinstance(impute, str) else float(impute)
        return Numeric(column, domain, Scaling(fill=fill, indicator=dense, log=log))
    how = params.get("scale", "standard" if dense else "none")
    center, scale = _center_and_scale(inputs.statistics, how, log=log)
    fill = _imputed(inputs.statistics, params.get("impute", "median" if dense else "none"))
    indicator = params.get("indicator", dense and inputs.has_missing)
    return Numeric(column, domain, Scaling(center, scale, fill, indicator, log), coordinate=isinstance(how, float))


def _imputed(statistics: ColumnStatistics, impute: str | float) -> float | None:
    """The number that stands for a missing value; None leaves it missing."""
    if not isinstance(impute, str):
        return float(impute)
    if impute == "none" or statistics.numbers is None:
        return None
    return statistics.numbers.moments.mean if impute == "mean" else float(statistics.quantiles([0.5])[0])


def _center_and_scale(statistics: ColumnStatistics, scale: str | float, *, log: bool) -> tuple[float, float]:
    """The number to subtract and the one to divide by; `scale` names the way, or is the latter for a coordinate."""
    numbers = statistics.numbers
    if scale == "none" or numbers is None:
        return 0.0, 1.0
    if not isinstance(scale, str):
        return numbers.moments.mean, scale
    if log:
        logs = signed_logs(statistics)  # of quantiles, which a monotone function moves along
        mean, spread = float(logs.mean()), float(logs.std())
    else:
        mean, spread = numbers.moments.mean, math.sqrt(numbers.moments.m2 / numbers.moments.n)
    spread = spread if numbers.minimum < numbers.maximum else 0.0
    if scale == "standard":
        return mean, divisor(spread)
    low, middle, high = (float(q) for q in statistics.quantiles([0.25, 0.5, 0.75]))
    if log:
        low, middle, high = signed_log(low), signed_log(middle), signed_log(high)
    return middle, divisor(high - low or spread)  # a column of mostly one value has no interquartile range


def _bin_edges(statistics: ColumnStatistics, bins: int) -> tuple[float, ...]:
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


NUMERIC = OperationSpec(
    NumericOptions,
    domains=("number",),
    fitted=(Numeric, QuantileBins),
    fit=_fit,
    num_coordinates=lambda params: int(isinstance(params.get("scale"), float)),
    sparse_options={"impute": "none"},
)

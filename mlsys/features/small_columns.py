"""Ways of single operations over a column of a small table, by NumPy and by a look-up of the values that there are.

`mlsys.features.small_tables` puts them together and proves that they have the bits of Polars.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys.features.domains import YEAR_2101_US, Domain, clock_of
from mlsys.features.operations.categorical import Boolean, Categorical
from mlsys.features.operations.datetimes import EPOCH_DATETIME, US, Datetime
from mlsys.features.operations.numeric import Numeric, QuantileBins
from mlsys.features.operations.operation import Matrix, Operation, Scaling
from mlsys.features.unusual import OTHER
from mlsys.limits import FLOAT32_MAX, LAST_YEAR_END_US, YEAR_1_US

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TIMES = {"instant": pa.timestamp("us", "UTC"), "clock": pa.timestamp("us")}
"""Domains of times and the types in which they are read here."""


class SmallColumn:
    """A column of a small table, read once for all operations on it; nothing that it gives may be written to."""

    def __init__(self, values: pa.Array) -> None:
        self.values = values
        self.places: dict[int, npt.NDArray[Any]] = {}

    @cached_property
    def numbers(self) -> Floats:
        """The values in float64; NaN, the same for all, where one is null, NaN of any sign, or beyond float32."""
        numbers = self.values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        missing = ~(np.abs(numbers) <= FLOAT32_MAX)
        return np.where(missing, np.nan, numbers) if missing.any() else numbers

    @cached_property
    def distinct(self) -> tuple[list[Any], npt.NDArray[np.int32]]:
        """The values that there are, and the place of each row's among them; that of null is behind the last."""
        encoded = self.values.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        places = encoded.indices.fill_null(len(values)) if encoded.indices.null_count else encoded.indices
        return values, places.to_numpy()

    @cached_property
    def microseconds(self) -> tuple[Ints, Flags]:
        """Times since 1970, and where they are missing."""
        missing = self.values.is_null().to_numpy(zero_copy_only=False)
        return self.values.cast(pa.int64()).fill_null(0).to_numpy(), missing


Fill = Callable[[SmallColumn, Matrix], None]


class CategoryPlaces:
    """The place of each value among categories, as `Categorical.raw` numbers them; operations may share it."""

    def __init__(self, operation: Categorical) -> None:
        self.is_number = operation.domain.name == "number"
        self.missing = len(operation.categories) + 1
        self._positions = operation.positions
        if self.is_number:
            self._keys = np.array(sorted(self._positions), np.float64)
            self._numbers = np.array([self._positions[key] for key in self._keys.tolist()], np.intp)

    def of(self, column: SmallColumn) -> npt.NDArray[Any]:
        """The places of all rows; `OTHER` for rare and unknown values."""
        known = column.places.get(id(self))
        if known is None:
            known = column.places[id(self)] = self._by_size(column) if self.is_number else self._by_value(column)
        return known

    def _by_value(self, column: SmallColumn) -> npt.NDArray[Any]:
        values, places = column.distinct
        position = self._positions.get
        return np.array([*[position(value, OTHER) for value in values], self.missing], np.intp).take(places)

    def _by_size(self, column: SmallColumn) -> npt.NDArray[Any]:
        numbers = column.numbers
        if not len(self._keys):
            return np.where(np.isnan(numbers), self.missing, OTHER)
        nearest = self._keys.searchsorted(numbers)  # NaN lies behind all
        np.minimum(nearest, len(self._keys) - 1, out=nearest)
        places = np.where(self._keys.take(nearest) == numbers, self._numbers.take(nearest), OTHER)
        places[np.isnan(numbers)] = self.missing
        return places

    def flags(self, column: SmallColumn, test: Callable[[Any], bool]) -> Flags | None:
        """Flag the rows whose value has no place of its own and passes a test; None where there is none."""
        others = self.of(column) == OTHER
        if not others.any():
            return None
        if self.is_number:
            numbers = np.where(others, column.numbers + 0.0, np.nan)
            passing = [value for value in np.unique(numbers[others]).tolist() if test(value)]
            flags = np.isin(numbers, passing)
        else:
            values, places = column.distinct
            position = self._positions
            flags = np.array([*[value not in position and test(value) for value in values], False]).take(places)
        return flags if flags.any() else None


def is_plain(operation: Operation) -> bool:
    """Tell whether the feature is the number itself, NaN where it is missing."""
    return (
        isinstance(operation, Numeric)
        and operation.scaling.is_identity
        and operation.scaling.fill is None
        and not operation.scaling.indicator
    )


def fill_of(operation: Operation, kind: pa.DataType, shared: dict[Any, CategoryPlaces]) -> Fill | None:
    """Function (column, out) that writes the features of an operation on a column of a type; None if there is none.

    `shared` keeps the places of categories for operations on one column that have the same ones.
    """
    if not _is_read(operation.domain, kind):
        return None
    if isinstance(operation, Categorical):
        return _table_fill(operation.table, places_of(operation, shared).of)
    if isinstance(operation, Numeric) and not operation.scaling.log:  # NumPy's logarithms have other bits
        return _numeric_fill(operation.scaling)
    if isinstance(operation, Boolean):
        return _table_fill(operation.table, _truths)
    return _edge_fill(operation)


def _edge_fill(operation: Operation) -> Fill | None:
    """The function of an operation that looks values up between edges, of bins or of a clock's changes."""
    if isinstance(operation, Datetime):
        return _time_fill(operation)
    if not isinstance(operation, QuantileBins):
        return None
    edges = np.array(operation.edges, np.float64)
    return _table_fill(operation.table, lambda column: _bins(column.numbers, edges))


def places_of(operation: Categorical, shared: dict[Any, CategoryPlaces]) -> CategoryPlaces:
    """The places of an operation's categories, made once for those of one column that are the same."""
    key = operation.column, operation.domain, operation.categories
    if key not in shared:
        shared[key] = CategoryPlaces(operation)
    return shared[key]


def _is_read(domain: Domain, kind: pa.DataType) -> bool:
    types = pa.types
    if domain.name == "number":
        return bool(types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind))
    if domain.name == "text":
        return bool(types.is_string(kind))
    return bool(types.is_boolean(kind)) if domain.name == "boolean" else kind == TIMES.get(domain.name)


def _table_fill(table: Matrix, places_of_rows: Callable[[SmallColumn], npt.NDArray[Any]]) -> Fill:
    if table.shape[1] == 1:
        numbers = np.ascontiguousarray(table[:, 0])

        def fill_single(column: SmallColumn, out: Matrix) -> None:
            out[:, 0] = numbers.take(places_of_rows(column))

        return fill_single

    def fill(column: SmallColumn, out: Matrix) -> None:
        out[:] = table.take(places_of_rows(column), axis=0)

    return fill


def _numeric_fill(scaling: Scaling) -> Fill:
    def fill(column: SmallColumn, out: Matrix) -> None:
        numbers, missing = column.numbers, np.isnan(column.numbers)
        if scaling.fill is not None and missing.any():
            numbers = np.where(missing, scaling.fill, numbers)
        if not scaling.is_identity:
            numbers = (numbers - scaling.center) * scaling.factor
        if scaling.may_overflow:
            numbers = np.clip(numbers, -FLOAT32_MAX, FLOAT32_MAX)
        out[:, 0] = numbers
        if scaling.indicator:
            out[:, 1] = missing

    return fill


def _bins(numbers: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    bins = np.asarray(edges.searchsorted(numbers, side="left"))
    bins[np.isnan(numbers)] = len(edges) + 1
    return bins


def _truths(column: SmallColumn) -> npt.NDArray[Any]:
    values, places = column.distinct
    return np.array([*map(int, values), 2]).take(places)


def _time_fill(operation: Datetime) -> Fill:
    """Read the clock on the wall from its changes, and have `Datetime.fill` take the parts of it."""
    zone = operation.domain.zone if operation.domain.name == "instant" else None
    starts, offsets = np.zeros(0, np.int64), np.zeros(1, np.int64)
    if zone is not None:
        clock = clock_of(zone)
        starts = np.array([(start - EPOCH_DATETIME) // US for start in clock.starts], np.int64)
        offsets = np.array([offset // US for offset in clock.offsets], np.int64)

    def fill(column: SmallColumn, out: Matrix) -> None:
        us, missing = column.microseconds
        inside = ~missing
        if zone is not None:
            inside &= (us >= YEAR_1_US) & (us < YEAR_2101_US)
            us = us + offsets.take(starts.searchsorted(us, side="right"))
        inside &= (us >= YEAR_1_US) & (us < LAST_YEAR_END_US)
        operation.fill([pl.Series(np.where(inside, us - YEAR_1_US, -1))], out)

    return fill

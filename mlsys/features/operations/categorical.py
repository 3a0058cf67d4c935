"""Operations that look up: a value becomes the number of a row in a small float32 table.

Both executors read the same table, so their bits cannot differ. The last row of a table
is for a missing value.

Hashing: very many categories share a fixed number of buckets, and no table of them is kept.

Which bucket a value is in follows from the value alone (`mlsys.statistics.hashing`, the same on
every machine), so that a value that training never saw has a bucket too. Two categories in one
bucket cannot be told apart: with C categories and B buckets a category shares its own with
(C - 1) / B others on average.

References
----------
Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature hashing for large scale
multitask learning", ICML, doi:10.1145/1553374.1553516.

Quantile bins: a number becomes the number of its bin, or one column a bin.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlsys.features.operations.numeric import Matrix, Operation, Scaling, Writer
from mlsys.statistics.hashing import hash_array, hash_value

__all__ = ["OTHER", "Boolean", "Categorical", "Codes", "Frequency", "Hashed", "OneHot", "QuantileBins"]

DTYPES = {"number": pl.Float64, "text": pl.String, "boolean": pl.Boolean}

Test = Callable[[Any], bool]

OTHER = "__other__"
"""Where rare and unknown categories go: code 0, or a one-hot column of its own."""


@dataclass(frozen=True)
class Categorical(Operation):
    """A category's row of a table.

    Attributes
    ----------
    categories
        Those with a row of their own, by count (largest first) and then by value.
    rare
        Seen in training too seldom for a row of their own: they share that of unknown ones.
    complete
        Whether training saw no others. Of very many values the rarest are not remembered; then
        what has no row of its own counts as rare, and nothing as unknown.
    """

    categories: tuple[Any, ...] = ()
    rare: tuple[Any, ...] = ()
    complete: bool = field(default=True, kw_only=True)

    @property
    @abstractmethod
    def table(self) -> Matrix:
        """``(1 + len(categories) + 1, width)``: other, each category, missing."""

    @cached_property
    def known(self) -> frozenset[Any]:
        return frozenset(map(self.key, (*self.categories, *self.rare)))

    @cached_property
    def kept(self) -> frozenset[Any]:
        return frozenset(map(self.key, self.categories))

    @cached_property
    def uncommon(self) -> frozenset[Any]:
        return frozenset(map(self.key, self.rare)) - self.kept

    @cached_property
    def positions(self) -> dict[Any, int]:
        """Category → row; of two that are one as float64, the more frequent."""
        rows: dict[Any, int] = {}
        for at, category in enumerate(self.categories, start=1):
            rows.setdefault(self.key(category), at)
        return rows

    def key(self, category: Any) -> Any:
        """The category as its domain reads it; -0.0 is 0.0."""
        return float(category) + 0.0 if self.domain.name == "number" else category

    @property
    def has_rare(self) -> bool:
        """Whether there can be values that training saw too seldom for a row of their own."""
        return bool(self.uncommon) or not self.complete

    def num_unseen(self) -> pl.Expr:
        """Number of values that training never saw."""
        return self._number(self.known, inside=False) if self.complete else pl.lit(0)

    def num_rare(self) -> pl.Expr:
        """Number of values that training saw too seldom for a row of their own."""
        return self._number(self.uncommon) if self.complete else self._number(self.kept, inside=False)

    def is_unseen(self) -> Test:
        """Function that says the same of one value."""
        return self._test(self.known, inside=False) if self.complete else lambda _: False

    def is_rare(self) -> Test:
        """Function that says the same of one value."""
        return self._test(self.uncommon) if self.complete else self._test(self.kept, inside=False)

    def _number(self, values: frozenset[Any], *, inside: bool = True) -> pl.Expr:
        """How many rows have one of the values, or one that is none of them."""
        value = self.value()
        found = value.is_in(pl.Series(list(values), dtype=DTYPES[self.domain.name]).implode())
        return (found if inside else value.is_not_null() & ~found).sum()

    def _test(self, values: frozenset[Any], *, inside: bool = True) -> Test:
        read, number = self.domain.reader(self.column), self.domain.name == "number"

        def holds(value: Any) -> bool:
            value = read(value)
            return value is not None and ((value + 0.0 if number else value) in values) is inside

        return holds

    def value(self) -> pl.Expr:
        value = self.domain.expr(self.column)
        return value + 0.0 if self.domain.name == "number" else value

    def raw(self) -> list[pl.Expr]:
        value, positions = self.value(), self.positions
        at = pl.lit(0, pl.Int32)
        if positions:
            keys = pl.Series(list(positions), dtype=DTYPES[self.domain.name])
            rows = pl.Series(list(positions.values()), dtype=pl.Int32)
            at = value.replace_strict(keys, rows, default=0, return_dtype=pl.Int32)
        return [pl.when(value.is_null()).then(pl.lit(len(self.categories) + 1, pl.Int32)).otherwise(at)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        out[:] = self.table.take(raw[0].to_numpy(), axis=0)

    def writer(self, start: int) -> Writer:
        read, row_of, missing = self.domain.reader(self.column), self.positions.get, len(self.categories) + 1
        put, number = putter(self.table, start), self.domain.name == "number"

        def write(value: Any, out: Matrix) -> None:
            value = read(value)
            if value is None:
                put(out, missing)
            else:
                put(out, row_of(value + 0.0 if number else value, 0))

        return write


@dataclass(frozen=True)
class Codes(Categorical):
    """Number of the category, for trees that split on sets of categories; 0 is `OTHER`, NaN missing."""

    name = "codes"

    @property
    def outputs(self) -> list[str]:
        return [self.column]

    @property
    def types(self) -> list[str]:
        return ["c"]

    @cached_property
    def table(self) -> Matrix:
        return np.array([*range(len(self.categories) + 1), math.nan], np.float32)[:, np.newaxis]


@dataclass(frozen=True)
class OneHot(Categorical):
    """One column a category, one for `OTHER`, and one for missing values if there were any in training."""

    null: bool = False

    name = "onehot"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}={value}" for value in (OTHER, *self.categories)]
        return [*names, f"{self.column} is missing"] if self.null else names

    @cached_property
    def table(self) -> Matrix:
        rows = len(self.categories) + 2
        return np.eye(rows, rows if self.null else rows - 1, dtype=np.float32)


@dataclass(frozen=True)
class Frequency(Categorical):
    """Fraction of the training rows with the same category; 0 for one that was not there.

    Attributes
    ----------
    counts
        Training rows of each of `categories`; `total` of all, missing ones included.
    """

    counts: tuple[int, ...] = ()
    total: int = 1
    scaling: Scaling = field(default_factory=Scaling)

    name = "frequency"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: frequency"]
        return [*names, f"{self.column} is missing"] if self.scaling.indicator else names

    @cached_property
    def table(self) -> Matrix:
        return scaled([count / self.total for count in (0, *self.counts)], self.scaling)


@dataclass(frozen=True)
class Boolean(Operation):
    """1 for true, 0 for false."""

    scaling: Scaling = field(default_factory=Scaling)

    name = "boolean"

    @property
    def outputs(self) -> list[str]:
        return [self.column, f"{self.column} is missing"] if self.scaling.indicator else [self.column]

    @cached_property
    def table(self) -> Matrix:
        return scaled([0.0, 1.0], self.scaling)

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column).cast(pl.Int32).fill_null(2)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        out[:] = self.table.take(raw[0].to_numpy(), axis=0)

    def writer(self, start: int) -> Writer:
        read, put = self.domain.reader(self.column), putter(self.table, start)

        def write(value: Any, out: Matrix) -> None:
            truth = read(value)
            put(out, 2 if truth is None else int(truth))

        return write


def scaled(values: Sequence[float], scaling: Scaling) -> Matrix:
    """A table of one scaled number a row and then the missing value, with an indicator column if wanted."""
    numbers = np.array([*map(scaling.apply, values), scaling.missing], np.float64).astype(np.float32)[:, np.newaxis]
    if not scaling.indicator:
        return numbers
    return np.hstack([numbers, np.eye(len(numbers), 1, k=1 - len(numbers), dtype=np.float32)])


def putter(table: Matrix, start: int) -> Callable[[Matrix, int], None]:
    """Function (out, row): copy a row of the table into ``out[start:]``."""
    if table.shape[1] > 2:
        stop = start + table.shape[1]

        def put(out: Matrix, row: int) -> None:
            out[start:stop] = table[row]

        return put
    first, *second = table.T.tolist()  # Python floats are set several times faster than a slice

    def put_one(out: Matrix, row: int) -> None:
        out[start] = first[row]

    def put_two(out: Matrix, row: int) -> None:
        out[start] = first[row]
        out[start + 1] = second[0][row]

    return put_two if second else put_one


@dataclass(frozen=True)
class Hashed(Operation):
    """Number of the bucket, for trees that split on sets of them; or one column a bucket.

    Attributes
    ----------
    onehot
        One column a bucket and one for missing values; else the number, and NaN.
    """

    buckets: int = 2
    onehot: bool = False

    name = "hash"

    @property
    def outputs(self) -> list[str]:
        if not self.onehot:
            return [f"{self.column}: bucket"]
        return [*(f"{self.column}: bucket {k}" for k in range(self.buckets)), f"{self.column} is missing"]

    @property
    def types(self) -> list[str]:
        return ["q"] * (self.buckets + 1) if self.onehot else ["c"]

    @cached_property
    def table(self) -> Matrix:
        """A row a bucket, the last one for a missing value."""
        if self.onehot:
            return np.eye(self.buckets + 1, dtype=np.float32)
        return np.array([*range(self.buckets), math.nan], np.float32)[:, np.newaxis]

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        values = raw[0].to_arrow(compat_level=pl.CompatLevel.oldest())
        at = (hash_array(values) % np.uint64(self.buckets)).astype(np.intp)
        at[raw[0].is_null().to_numpy()] = self.buckets
        out[:] = self.table[at]

    def writer(self, start: int) -> Writer:
        read, put, buckets = self.domain.reader(self.column), putter(self.table, start), self.buckets

        def write(value: Any, out: Matrix) -> None:
            value = read(value)
            put(out, buckets if value is None else hash_value(value) % buckets)

        return write


@dataclass(frozen=True)
class QuantileBins(Operation):
    """Bins that are closed on the right, as many training rows in each as ties allow.

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
        return [*names, f"{self.column} is missing"]

    @cached_property
    def table(self) -> Matrix:
        """A row a bin, the last one for a missing value."""
        bins = len(self.edges) + 1
        if self.onehot:
            return np.eye(bins + 1, dtype=np.float32)
        return np.array([*range(bins), math.nan], np.float32)[:, np.newaxis]

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        value = raw[0]
        at = np.searchsorted(np.array(self.edges), value.fill_null(0.0).to_numpy(), side="left")
        at[value.is_null().to_numpy()] = len(self.edges) + 1
        out[:] = self.table[at]

    def writer(self, start: int) -> Writer:
        read, put, edges = self.domain.reader(self.column), putter(self.table, start), self.edges

        def write(value: Any, out: Matrix) -> None:
            number = read(value)
            put(out, len(edges) + 1 if number is None else bisect_left(edges, number))

        return write

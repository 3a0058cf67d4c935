"""Operations on categories: a code, a column each, their frequency, a hash bucket; and true or false.

A hash bucket follows from the value alone (`mlsys.statistics.hashing`, the same on every machine), so that a value that
training never saw has one too, and no categories are kept. Two categories in one bucket cannot be told apart: with C
categories and B buckets a category shares its own with (C - 1) / B others on average.

References
----------
Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature hashing for large scale
multitask learning", ICML, doi:10.1145/1553374.1553516.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys import errors
from mlsys.features.operations.operation import (
    CATEGORIES,
    FitInputs,
    Matrix,
    OperationSpec,
    PlanInputs,
    Scaling,
    TableOperation,
    Writer,
    category_counts,
    code_table,
    divisor,
    num_present,
    scaled_table,
)
from mlsys.limits import MAX_CODES, MAX_KEYS
from mlsys.recipe.columns import (
    BooleanOptions,
    CodesOptions,
    FrequencyOptions,
    HashedOptions,
    KeysOptions,
    OneHotOptions,
)
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.hashing import hash_array, hash_value

MAX_ONEHOT = 128
"""Categories with a column of their own: 128 float32 columns are half a gigabyte a million rows."""

MIN_KEY_ROWS = 2
"""Rows from which on one of many categories has a number: those of one row say what an unknown one will."""

DTYPES = {"number": pl.Float64, "text": pl.String, "boolean": pl.Boolean}

Test = Callable[[Any], bool]

OTHER = "__other__"
"""Where rare and unknown categories go: code 0, or a one-hot column of its own."""


@dataclass(frozen=True)
class Categorical(TableOperation):
    """Give each category a row of the table; rare and unknown ones share row 0.

    Attributes
    ----------
    categories
        Those with a row of their own, by count (largest first) and then by value.
    rare
        Seen in training too seldom for a row of their own: they share that of unknown ones.
    complete
        Training saw no others. Of very many values the rarest are not remembered; then
        what has no row of its own counts as rare, and nothing as unknown.
    """

    categories: tuple[Any, ...] = ()
    rare: tuple[Any, ...] = ()
    complete: bool = field(default=True, kw_only=True)

    @cached_property
    def known(self) -> frozenset[Any]:
        return frozenset(map(self.key, (*self.categories, *self.rare)))

    @cached_property
    def common(self) -> frozenset[Any]:
        return frozenset(map(self.key, self.categories))

    @cached_property
    def uncommon(self) -> frozenset[Any]:
        return frozenset(map(self.key, self.rare)) - self.common

    @cached_property
    def positions(self) -> dict[Any, int]:
        """Category → row; of two that are one as float64, the more frequent."""
        numbered = list(enumerate(self.categories, start=1))
        return {self.key(category): row for row, category in reversed(numbered)}

    def key(self, category: Any) -> Any:
        """The category as its domain reads it; -0.0 is 0.0."""
        return float(category) + 0.0 if self.domain.name == "number" else category

    @property
    def has_rare(self) -> bool:
        return bool(self.uncommon) or not self.complete

    def num_unseen(self) -> pl.Expr:
        """Number of values that training never saw."""
        return self.unseen_values().sum()

    def num_rare(self) -> pl.Expr:
        """Number of values that training saw too seldom for a row of their own."""
        return self.rare_values().sum()

    def unseen_values(self) -> pl.Expr:
        """Flags of the values that training never saw."""
        return self._flags(self.known, inside=False) if self.complete else self.value().is_null() & False

    def rare_values(self) -> pl.Expr:
        """Flags of the values that training saw too seldom for a row of their own."""
        return self._flags(self.uncommon) if self.complete else self._flags(self.common, inside=False)

    def is_unseen(self) -> Test:
        """Function that tests one value: training never saw it."""
        return self._test(self.known, inside=False) if self.complete else lambda _: False

    def is_rare(self) -> Test:
        """Function that tests one value: training saw it, too seldom for a row of its own."""
        return self._test(self.uncommon) if self.complete else self._test(self.common, inside=False)

    def _flags(self, values: frozenset[Any], *, inside: bool = True) -> pl.Expr:
        """Flags of the rows with one of the values, or with one that is none of them."""
        value = self.value()
        is_inside = value.is_in(pl.Series(list(values), dtype=DTYPES[self.domain.name]).implode())
        return is_inside if inside else value.is_not_null() & ~is_inside

    def _test(self, values: frozenset[Any], *, inside: bool = True) -> Test:
        read = self.domain.reader(self.column)

        def holds(value: Any) -> bool:
            value = read(value)
            return value is not None and (value in values) is inside

        return holds

    def value(self) -> pl.Expr:
        value = self.domain.expr(self.column)
        return value + 0.0 if self.domain.name == "number" else value

    def raw(self) -> list[pl.Expr]:
        value, positions = self.value(), self.positions
        row = pl.lit(0, pl.Int32)
        if positions:
            keys = pl.Series(list(positions), dtype=DTYPES[self.domain.name])
            rows = pl.Series(list(positions.values()), dtype=pl.Int32)
            row = value.replace_strict(keys, rows, default=0, return_dtype=pl.Int32)
        return [pl.when(value.is_null()).then(pl.lit(len(self.categories) + 1, pl.Int32)).otherwise(row)]

    def rows(self, values: pl.Series) -> npt.NDArray[np.int32]:
        return values.to_numpy()

    def row_of(self) -> Callable[[Any], int]:
        return _Positions(self.positions).__getitem__  # -0.0 finds 0.0

    def writer(self, start: int) -> Writer:
        """Look a text up at once where its row of the table is one number."""
        write = super().writer(start)
        if self.domain.name != "text" or self.table.shape[1] > 1:
            return write
        numbers = self.table[:, 0].tolist()
        number_of, other = {category: numbers[row] for category, row in self.positions.items()}.get, numbers[0]

        def write_number(value: Any, out: Matrix) -> None:
            if type(value) is str:
                out[start] = number_of(value, other)
            else:
                write(value, out)

        return write_number


class _Positions(dict[Any, int]):
    """Rows of categories, with row 0 for all others; a look-up runs without a call of Python."""

    def __missing__(self, category: Any) -> int:
        return 0


@dataclass(frozen=True)
class Codes(Categorical):
    """Number the categories, for trees that split on sets of them; 0 is `OTHER`, NaN missing."""

    name = "codes"

    @property
    def outputs(self) -> list[str]:
        return [self.column]

    @property
    def types(self) -> list[str]:
        return ["c"]

    @cached_property
    def table(self) -> Matrix:
        return code_table(len(self.categories) + 1, onehot=False)


@dataclass(frozen=True)
class Keys(Codes):
    """Number many categories by their count; 0 is `OTHER`, NaN missing.

    A family with target statistics of its own takes the categories apart, and their combinations with others. For other
    trees the number is a quantity: they split by how frequent a category is.
    """

    name = "keys"

    @property
    def outputs(self) -> list[str]:
        return [f"{self.column}: key"]

    @property
    def types(self) -> list[str]:
        return ["k"]


@dataclass(frozen=True)
class OneHot(Categorical):
    """Make a column a category, one for `OTHER`, and one for missing values if there were any in training."""

    null: bool = False

    name = "onehot"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}={value}" for value in (OTHER, *self.categories)]
        return self._with_indicator(names, indicator=self.null)

    @cached_property
    def table(self) -> Matrix:
        rows = len(self.categories) + 2
        return np.eye(rows, rows if self.null else rows - 1, dtype=np.float32)


@dataclass(frozen=True)
class Frequency(Categorical):
    """Take the fraction of the training rows, `counts` of `total`, with the same category; 0 if none had it."""

    counts: tuple[int, ...] = ()
    total: int = 1
    scaling: Scaling = field(default_factory=Scaling)

    name = "frequency"

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([f"{self.column}: frequency"], indicator=self.scaling.indicator)

    @cached_property
    def table(self) -> Matrix:
        return scaled_table([count / self.total for count in (0, *self.counts)], self.scaling)


@dataclass(frozen=True)
class Boolean(TableOperation):
    """Take true as 1 and false as 0."""

    scaling: Scaling = field(default_factory=Scaling)

    name = "boolean"

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([self.column], indicator=self.scaling.indicator)

    @cached_property
    def table(self) -> Matrix:
        return scaled_table([0.0, 1.0], self.scaling)

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column).cast(pl.Int32).fill_null(2)]

    def rows(self, values: pl.Series) -> npt.NDArray[np.int32]:
        return values.to_numpy()

    def row_of(self) -> Callable[[bool], int]:
        return int


@dataclass(frozen=True)
class Hashed(TableOperation):
    """Take the number of the hash bucket, NaN if missing, for trees; or one column for each of these."""

    buckets: int = 2
    onehot: bool = False

    name = "hash"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: bucket {k}" for k in range(self.buckets)]
        return self._with_indicator(names, indicator=True) if self.onehot else [f"{self.column}: bucket"]

    @property
    def types(self) -> list[str]:
        return ["q"] * (self.buckets + 1) if self.onehot else ["c"]

    @cached_property
    def table(self) -> Matrix:
        return code_table(self.buckets, onehot=self.onehot)

    def rows(self, values: pl.Series) -> npt.NDArray[np.intp]:
        hashes = hash_array(values.to_arrow(compat_level=pl.CompatLevel.oldest()))
        bucket = (hashes % np.uint64(self.buckets)).astype(np.intp)
        bucket[values.is_null().to_numpy()] = self.buckets
        return bucket

    def row_of(self) -> Callable[[Any], int]:
        return lambda value: hash_value(value) % self.buckets


def counted(inputs: FitInputs) -> ColumnStatistics:
    """Statistics of the column as categories.

    Raises
    ------
    FeatureError
        They are numbers that are not counted one by one.
    """
    statistics = inputs.statistics.as_categories()
    if statistics is None:
        got = "numbers that are not all whole, or more than 10,000 different ones"
        expected = "categories, or whole numbers that stand for something"
        hint = f"data.kinds: {{{inputs.column}: categorical}}"
        where = f"features: column '{inputs.column}'"
        raise errors.FeatureError.build(where, got=got, expected=expected, hint=hint, field=inputs.column)
    return statistics


def split_categories(inputs: FitInputs) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The categories with a place of their own, and the rare ones."""
    counts, least = category_counts(counted(inputs)), inputs.params["min_rows"]
    frequent = [value for value, n in counts.items() if n >= least]
    common = dict.fromkeys(frequent[: inputs.params.get("max_categories")])
    return tuple(common), tuple(value for value in counts if value not in common)


def _min_rows(num_rows: int) -> int:
    """Rows that a category needs for a place of its own: a mean over 10 has a third of the spread as standard error."""
    return max(2, min(10, num_rows // 100))


def _category_params(most: int) -> Callable[[PlanInputs], dict[str, Any]]:
    return lambda inputs: {"max_categories": most, "min_rows": _min_rows(inputs.statistics.num_rows)}


def _fit_codes(inputs: FitInputs) -> Codes:
    complete = counted(inputs).counts_exact
    return Codes(inputs.column, inputs.domain, *split_categories(inputs), complete=complete)


def _fit_keys(inputs: FitInputs) -> Keys:
    complete = counted(inputs).counts_exact
    return Keys(inputs.column, inputs.domain, *split_categories(inputs), complete=complete)


def _fit_onehot(inputs: FitInputs) -> OneHot:
    complete, null = counted(inputs).counts_exact, inputs.has_missing
    return OneHot(inputs.column, inputs.domain, *split_categories(inputs), null=null, complete=complete)


def _fit_frequency(inputs: FitInputs) -> Frequency:
    statistics = counted(inputs)
    counts, total = category_counts(statistics), max(statistics.num_rows, 1)
    scaling = Scaling()
    if inputs.dense:
        present = sum(counts.values()) or 1
        mean = sum(n * (n / total) for n in counts.values()) / present
        variance = sum(n * (n / total - mean) ** 2 for n in counts.values()) / present
        scaling = Scaling(mean, divisor(math.sqrt(variance)), mean, statistics.num_nulls > 0)
    frequencies = (tuple(counts), (), tuple(counts.values()), total, scaling)
    return Frequency(inputs.column, inputs.domain, *frequencies, complete=statistics.counts_exact)


def _fit_hash(inputs: FitInputs) -> Hashed:
    buckets = inputs.params["buckets"]
    return Hashed(inputs.column, inputs.domain, buckets, onehot=inputs.dense or buckets > MAX_CODES)


def _fit_boolean(inputs: FitInputs) -> Boolean:
    if not inputs.dense:
        return Boolean(inputs.column, inputs.domain)
    present = num_present(inputs.statistics)
    mean = inputs.statistics.counts().get(True, 0) / present if present else 0.0
    return Boolean(inputs.column, inputs.domain, Scaling(fill=mean, indicator=inputs.statistics.num_nulls > 0))


CODES = OperationSpec(
    CodesOptions, CATEGORIES, (Codes,), _fit_codes, params=_category_params(MAX_CODES), dense_operation="onehot"
)
KEYS = OperationSpec(
    KeysOptions,
    CATEGORIES,
    (Keys,),
    _fit_keys,
    params=lambda _: {"max_categories": MAX_KEYS, "min_rows": MIN_KEY_ROWS},
    dense_operation="frequency",
)
ONEHOT = OperationSpec(OneHotOptions, CATEGORIES, (OneHot,), _fit_onehot, params=_category_params(MAX_ONEHOT))
FREQUENCY = OperationSpec(FrequencyOptions, CATEGORIES, (Frequency,), _fit_frequency)
HASH = OperationSpec(HashedOptions, CATEGORIES, (Hashed,), _fit_hash, params=lambda _: {"buckets": MAX_ONEHOT})
BOOLEAN = OperationSpec(BooleanOptions, ("boolean",), (Boolean,), _fit_boolean)

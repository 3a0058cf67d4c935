"""One column: everything that is counted about it, and its relation to the target."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics import codec, documents
from mlsys.statistics.distinct import DistinctSketch
from mlsys.statistics.documents import Documents
from mlsys.statistics.frequencies import FrequencyTable, label_sums
from mlsys.statistics.hashing import hash_array, hash_floats
from mlsys.statistics.images import Images
from mlsys.statistics.lengths import Lengths
from mlsys.statistics.moments import Comoments
from mlsys.statistics.numeric import Numbers
from mlsys.statistics.quantiles import QuantileSketch
from mlsys.statistics.summary import ColumnSummary, summarise
from mlsys.statistics.values import as_floats, ordered, plain

__all__ = ["ColumnStatistics"]

Floats = npt.NDArray[np.float64]

EXACT_CATEGORIES, FREQUENT_CATEGORIES = 10_000, 2_048
"""Different categories counted exactly, and those kept beyond: a bound of n / 2,049 a count."""

EXACT_TEXTS, FREQUENT_TEXTS = 2_048, 256
"""The same for texts, which are long and seldom repeat; see also `documents`."""

EXACT_NUMBERS, FREQUENT_NUMBERS = 512, 128
"""The same for numbers, where quantiles say more."""

CLASS_SKETCH_K, MAX_CLASS_SKETCHES = 200, 20
"""Distributions by class are for drawing: 1.65 % rank error, and for at most 20 classes."""

MAX_SUMS = 500_000
"""Sums of the target kept a column: with very many classes, fewer categories are counted exactly."""

NUMBERS = frozenset({Kind.NUMERIC, Kind.DATETIME})
CATEGORIES = frozenset({Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT})


class ColumnStatistics:
    """Mergeable statistics of one column.

    Make one with `empty`; `update` it with rows; `merge` gives a new one. Datetimes are
    treated as microseconds since 1970.

    Attributes
    ----------
    classes
        Number of classes of the target; None where it is a number or there is none.
    num_rows, num_nulls
        Rows seen, and those without a value.
    numbers
        Of numeric and datetime columns; None for others.
    frequencies, distinct, lengths
        Counts of values, their number, and lengths of texts, lists and bytes; empty where
        they do not apply.
    documents, images
        Of text and of image columns; None for others.
    target
        Sums of the target over the rows with a value and over those without:
        ``(2, width)``, as `label_sums`.
    """

    def __init__(self, kind: Kind, classes: int | None) -> None:
        self.kind = kind
        self.classes = classes
        self.num_rows = 0
        self.num_nulls = 0
        width = 3 if classes is None else classes
        self.target = np.zeros((2, width))
        self.numbers = Numbers() if kind in NUMBERS else None
        limits = (EXACT_NUMBERS, FREQUENT_NUMBERS, 0) if kind in NUMBERS else _category_limits(kind, width)
        self.frequencies = FrequencyTable(*limits)
        self.distinct = DistinctSketch()
        self.lengths = Lengths()
        self.documents = Documents() if kind is Kind.TEXT else None
        self.images = Images() if kind is Kind.IMAGE else None
        by_class = classes is not None and classes <= MAX_CLASS_SKETCHES and kind in NUMBERS
        self.by_class = [QuantileSketch(CLASS_SKETCH_K) for _ in range(classes or 0)] if by_class else []
        self.comoments = Comoments()

    @classmethod
    def empty(cls, kind: Kind, classes: int | None = None) -> Self:
        return cls(Kind(kind), classes)

    def update(self, values: pa.Array | pa.ChunkedArray, y: npt.NDArray[Any] | None = None) -> None:
        """Take rows in.

        Parameters
        ----------
        y
            Target of the same rows: class index with -1 for none, or a number with NaN
            for none. Without it, nothing is learned about the target.
        """
        array = plain(values)
        self.num_rows += len(array)
        self.num_nulls += array.null_count
        present = np.asarray(array.is_valid())
        if y is not None:
            self.target += label_sums(1 - present.astype(np.int64), 2, y, self.classes)
            y = y[present]
        array = array.drop_null()
        if len(array) == 0:
            return
        if self.numbers is not None:
            self._update_numbers(self.numbers, as_floats(array), y)
        elif self.kind in CATEGORIES:
            self._update_categories(array, y)
        else:
            self.lengths = self.lengths.merge(Lengths.of(array))
        if self.documents is not None:
            self.documents.update(array)
        if self.images is not None:
            self.images.update(array)

    def _update_numbers(self, numbers: Numbers, values: Floats, y: npt.NDArray[Any] | None) -> None:
        finite = np.isfinite(values)
        kept = values if finite.all() else values[finite]
        rising = ordered(kept)
        numbers.update(values, rising)
        self._count(rising)
        if y is None:
            return
        label = y if finite.all() else y[finite]
        if self.classes is None:
            known = np.isfinite(label)
            self.comoments = self.comoments.merge(Comoments.of(kept[known], label[known]))
        for index, sketch in enumerate(self.by_class):
            sketch.update(ordered(kept[label == index]))

    def _count(self, rising: Floats) -> None:
        """Count sorted numbers: a value begins where it differs from the one before."""
        begins = np.ones(len(rising), bool)
        begins[1:] = rising[1:] != rising[:-1]
        first = np.flatnonzero(begins)
        values = rising[first]
        self.frequencies.update(pa.array(values), np.diff(np.append(first, len(rising))))
        self.distinct.update(hash_floats(values))

    def _update_categories(self, array: pa.Array, y: npt.NDArray[Any] | None) -> None:
        encoded = array.dictionary_encode()
        where = np.asarray(encoded.indices).astype(np.int64)
        keys = encoded.dictionary if self.kind is not Kind.TEXT else documents.abbreviated(encoded.dictionary)
        counts = np.bincount(where, minlength=len(keys))
        sums = None if y is None else label_sums(where, len(keys), y, self.classes)
        self.frequencies.update(keys, counts, sums)
        self.distinct.update(hash_array(keys))
        self.lengths = self.lengths.merge(Lengths.of(encoded.dictionary, counts))

    def merge(self, other: ColumnStatistics) -> ColumnStatistics:
        merged = ColumnStatistics(self.kind, self.classes)
        merged.num_rows = self.num_rows + other.num_rows
        merged.num_nulls = self.num_nulls + other.num_nulls
        merged.target = self.target + other.target
        if self.numbers is not None and other.numbers is not None:
            merged.numbers = self.numbers.merge(other.numbers)
        merged.frequencies = self.frequencies.merge(other.frequencies)
        merged.distinct = self.distinct.merge(other.distinct)
        merged.lengths = self.lengths.merge(other.lengths)
        if self.documents is not None and other.documents is not None:
            merged.documents = self.documents.merge(other.documents)
        if self.images is not None and other.images is not None:
            merged.images = self.images.merge(other.images)
        merged.by_class = [a.merge(b) for a, b in zip(self.by_class, other.by_class, strict=True)]
        merged.comoments = self.comoments.merge(other.comoments)
        return merged

    def without_rows(self) -> ColumnStatistics:
        """The same numbers without the texts and pictures that are kept."""
        bare = copy.copy(self)
        if bare.documents is not None:
            bare.documents = copy.copy(bare.documents)
            bare.documents.sample = {}
        if bare.images is not None:
            bare.images = copy.copy(bare.images)
            bare.images.thumbnails = {}
        return bare

    def result(self) -> ColumnSummary:
        """The numbers of the column."""
        return summarise(self)

    @property
    def num_distinct(self) -> int | None:
        """Different values: exact while the counts are, then an estimate; None for lists, images and other bytes."""
        if self.kind not in NUMBERS | CATEGORIES:
            return None
        if self.frequencies.exact:
            return len(self.frequencies.counts)
        return max(round(self.distinct.estimate()), len(self.frequencies.counts))

    def cdf(self, points: Sequence[float] | Floats) -> Floats:
        """Fraction of finite values at or below each point; NaN without any.

        Exact while there are at most 512 different values; otherwise from the sketch.
        """
        exact = self._exact_numbers()
        if exact is None:
            return self._numbers().cdf(points)
        keys, ranks = exact
        found = np.searchsorted(keys, np.asarray(points, dtype=float), side="right")
        fractions: Floats = np.concatenate([[0], ranks])[found] / ranks[-1]
        return fractions

    def quantiles(self, probabilities: Sequence[float] | Floats) -> Floats:
        """Smallest value that each fraction of the finite values does not exceed; NaN without any.

        Exact while there are at most 512 different values; otherwise from the sketch.
        """
        exact = self._exact_numbers()
        if exact is None:
            return self._numbers().quantiles(probabilities)
        keys, ranks = exact
        wanted = np.asarray(probabilities, dtype=float) * ranks[-1]
        found: Floats = keys[np.minimum(np.searchsorted(ranks, wanted * (1 - 1e-12), side="left"), len(keys) - 1)]
        return found

    def _numbers(self) -> Numbers:
        if self.numbers is None:
            raise TypeError(f"a {self.kind} column has no order")
        return self.numbers

    def _exact_numbers(self) -> tuple[Floats, npt.NDArray[np.int64]] | None:
        table = self.frequencies
        self._numbers()
        if not table.exact or len(table.counts) == 0:
            return None
        keys = np.asarray(table.keys)
        order = np.argsort(keys)
        return keys[order], np.cumsum(table.counts[order])

    def counts(self) -> dict[Any, int]:
        """Value → occurrences, most frequent first; complete and exact while `counts_exact`."""
        values, table = self.frequencies.values(), self.frequencies
        return {values[i]: int(table.counts[i]) for i in table.order()}

    @property
    def counts_exact(self) -> bool:
        return self.frequencies.exact

    def target_sums(self) -> dict[Any, Floats]:
        """Category → rows of each class, or (rows, sum, sum of squares) of a numeric target.

        Of categorical, boolean and text columns; in the order of `counts`. The key None
        holds the rows without a value, where there are any.
        """
        if self.kind not in CATEGORIES:
            return {}
        values = self.frequencies.values()
        sums: dict[Any, Floats] = {values[i]: self.frequencies.sums[i] for i in self.frequencies.order()}
        return {**sums, None: self.target[1]} if self.num_nulls else sums

    def class_cdf(self, points: Sequence[float] | Floats) -> Floats | None:
        """``(classes, len(points))``: the CDF within each class; None where it is not kept."""
        return np.stack([sketch.cdf(points) for sketch in self.by_class]) if self.by_class else None

    def class_rows(self) -> Floats:
        """Finite values of each class."""
        return np.array([sketch.n for sketch in self.by_class], dtype=float)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "classes": self.classes,
            "rows": [self.num_rows, self.num_nulls],
            "target": codec.pack(self.target),
            "numbers": None if self.numbers is None else self.numbers.to_json(),
            "frequencies": self.frequencies.to_json(),
            "distinct": None if self.frequencies.exact else self.distinct.to_json(),
            "lengths": self.lengths.to_json(),
            "documents": None if self.documents is None else self.documents.to_json(),
            "images": None if self.images is None else self.images.to_json(),
            "by_class": [sketch.to_json() for sketch in self.by_class],
            "comoments": self.comoments.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        column = cls(Kind(value["kind"]), value["classes"])
        column.num_rows, column.num_nulls = value["rows"]
        column.target = codec.array(value["target"])
        if value["numbers"] is not None:
            column.numbers = Numbers.from_json(value["numbers"])
        column.frequencies = FrequencyTable.from_json(value["frequencies"])
        if value["distinct"] is not None:
            column.distinct = DistinctSketch.from_json(value["distinct"])
        else:  # exact counts hold every value that the sketch has seen
            column.distinct.update(hash_array(column.frequencies.keys))
        column.lengths = Lengths.from_json(value["lengths"])
        if value["documents"] is not None:
            column.documents = Documents.from_json(value["documents"])
        if value["images"] is not None:
            column.images = Images.from_json(value["images"])
        column.by_class = [QuantileSketch.from_json(sketch) for sketch in value["by_class"]]
        column.comoments = Comoments.from_json(value["comoments"])
        return column


def _category_limits(kind: Kind, width: int) -> tuple[int, int, int]:
    """Limit, capacity and width of the frequencies of a column of categories or texts.

    >>> _category_limits(Kind.CATEGORICAL, 2), _category_limits(Kind.CATEGORICAL, 1000)
    ((10000, 2048, 2), (500, 500, 1000))
    """
    most, frequent = (EXACT_TEXTS, FREQUENT_TEXTS) if kind is Kind.TEXT else (EXACT_CATEGORIES, FREQUENT_CATEGORIES)
    limit = min(most, MAX_SUMS // width) if width else most
    return limit, min(frequent, limit), width

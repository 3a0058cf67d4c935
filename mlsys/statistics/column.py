"""Statistics of one column, its relation to the target, and their summary as plain numbers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.schema import Kind
from mlsys.statistics import arrays, text_statistics
from mlsys.statistics.arrays import Floats, Ints, LengthStatistics, lengths_of
from mlsys.statistics.encoding import (
    CATEGORY_KINDS,
    NUMBER_KINDS,
    ColumnPart,
    EncodedCategories,
    EncodedColumn,
    EncodedNumbers,
    encode,
)
from mlsys.statistics.frequencies import FrequencyTable, label_sums
from mlsys.statistics.hashing import hash_array
from mlsys.statistics.image_statistics import ImageStatistics
from mlsys.statistics.moments import Comoments
from mlsys.statistics.numeric_statistics import NumericStatistics
from mlsys.statistics.ranking import weighted_cdf, weighted_quantiles
from mlsys.statistics.sketches import DistinctSketch
from mlsys.statistics.text_statistics import TextStatistics

PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Probabilities of `ColumnSummary.quantiles`."""

_FREQUENT = 20


@dataclass(frozen=True)
class ColumnSummary:
    """Summary of one column; what does not apply, or has no value to be computed from, is None.

    Of a number, mean to histogram are about the finite values; NaN and the infinities are
    counted apart. A datetime is a number of microseconds since 1970 (UTC).

    Attributes
    ----------
    num_rows
        Rows seen: ``count + num_nulls``.
    count
        Rows with a value; NaN is a value, null is not.
    variance, stddev
        Sample variance, divided by n - 1, and its root.
    skewness, kurtosis
        g1 and the excess g2 (0 for a normal), not corrected for bias.
    quantiles
        Values at `PROBABILITIES`: the smallest that this fraction of values does not exceed.
    distinct_count
        Different values; nulls, NaN and infinities are none.
    frequent_items
        ``(value, count)`` of the at most 20 most frequent values.
    histogram_edges, histogram_counts
        Bins of equal width, closed on the right, over the bulk of the values.
    histogram_below, histogram_above
        Values left and right of the bins (tails that would flatten the picture).
    min_length, mean_length, max_length
        Of texts in characters, of lists in items, of bytes in bytes.
    integral
        True where every finite value is a whole number.
    texts
        Of texts: tokens, means of `text_statistics.MEASURES`, frequent words, as `TextStatistics.result`.
    images
        Of images: formats, sizes, brightness and duplicates, as `ImageStatistics.result`.
    notes
        For each number that is not exact, how it was obtained and its bound.
    """

    kind: str
    num_rows: int
    count: int
    num_nulls: int
    num_nan: int | None = None
    num_inf: int | None = None
    num_zeros: int | None = None
    num_negative: int | None = None
    mean: float | None = None
    stddev: float | None = None
    variance: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    min: float | None = None
    max: float | None = None
    median: float | None = None
    quantiles: tuple[float, ...] | None = None
    distinct_count: int | None = None
    frequent_items: tuple[tuple[Any, int], ...] = ()
    histogram_edges: tuple[float, ...] | None = None
    histogram_counts: tuple[int, ...] | None = None
    histogram_below: int = 0
    histogram_above: int = 0
    min_length: int | None = None
    mean_length: float | None = None
    max_length: int | None = None
    integral: bool | None = None
    texts: dict[str, Any] | None = None
    images: dict[str, Any] | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def null_fraction(self) -> float:
        return self.num_nulls / self.num_rows if self.num_rows else 0.0


def _most_distinct(column: ColumnStatistics) -> int:
    """Number of values that can differ, which no estimate exceeds."""
    values = column.num_rows - column.num_nulls
    if column.numbers is None:
        return values
    return values - column.numbers.nan - column.numbers.positive_inf - column.numbers.negative_inf


def _of_numbers(column: ColumnStatistics, numbers: NumericStatistics) -> dict[str, Any]:
    moments = numbers.moments
    facts: dict[str, Any] = {
        "num_nan": numbers.nan,
        "num_inf": numbers.positive_inf + numbers.negative_inf,
        "num_zeros": numbers.zeros,
        "num_negative": numbers.negative,
    }
    if moments.n == 0:
        return facts
    quantiles = tuple(float(q) for q in column.quantiles(PROBABILITIES))
    facts |= {name: getattr(moments, name) for name in ("mean", "variance", "stddev", "skewness", "kurtosis")}
    facts |= {"min": numbers.minimum, "max": numbers.maximum, "integral": numbers.integral}
    facts |= {"quantiles": quantiles, "median": quantiles[PROBABILITIES.index(0.5)]}
    return facts | _histogram(column, numbers)


def _histogram(column: ColumnStatistics, numbers: NumericStatistics) -> dict[str, Any]:
    edges = numbers.edges()
    if len(edges) == 0:
        return {}
    below = np.rint(column.cdf(edges) * numbers.moments.n).astype(int)
    return {
        "histogram_edges": tuple(edges.tolist()),
        "histogram_counts": tuple(np.diff(below).tolist()),
        "histogram_below": int(below[0]),
        "histogram_above": int(numbers.moments.n - below[-1]),
    }


def _notes(column: ColumnStatistics) -> dict[str, str]:
    if column.frequencies.exact:
        return {}
    notes = {
        "distinct_count": f"HyperLogLog, standard error {column.distinct.relative_error:.1%}",
        "frequent_items": f"frequent values, each count at most {column.frequencies.error:,} too low",
    }
    if column.numbers is not None and column.numbers.rank_error:
        bound = f"KLL sketch, rank error {column.numbers.rank_error:.2%} (99 % confidence)"
        notes |= {"quantiles": bound, "median": bound, "histogram_counts": bound}
    return notes


EXACT_CATEGORIES, FREQUENT_CATEGORIES = 10_000, 2_048
"""Different categories counted exactly, and those kept beyond: a bound of n / 2,049 a count."""

EXACT_TEXTS, FREQUENT_TEXTS = 2_048, 256
"""The same for texts, which are long and seldom repeat."""

EXACT_NUMBERS, FREQUENT_NUMBERS = 512, 128
"""The same for numbers, which quantiles describe better."""

MAX_SUMS = 500_000
"""Sums of the target a column: with very many classes, fewer categories are counted exactly."""


class ColumnStatistics:
    """Mergeable statistics of one column: `update` it with rows, `merge` parts.

    Exact: rows, nulls, range, moments, sums of the target, lengths, and while there are few distinct values
    (`EXACT_CATEGORIES` and so on) their counts. Beyond, counts are too low by at most `frequencies.error`, quantiles
    come from a KLL sketch and the distinct count from HyperLogLog. Datetimes are treated as microseconds since 1970.

    Attributes
    ----------
    classes
        Number of classes of the target; None where it is a number or there is none.
    codes
        Counts of whole numbers with sums of the target, as if they were categories: they may well be codes. None for
        other columns, for more than `EXACT_CATEGORIES` of them, and for rows without a target.
    numbers, documents, images
        Statistics of numeric and datetime, of text, and of image columns; None for others.
    frequencies, distinct, lengths
        Counts of values, their number, and lengths of texts, lists and bytes; empty where they do not apply.
    target
        Sums of the target over the rows with a value and over those without: ``(2, width)``, as `label_sums`.
    """

    def __init__(self, kind: Kind, classes: int | None = None) -> None:
        self.kind, self.classes = kind, classes
        self.num_rows = self.num_nulls = 0
        width = 3 if classes is None else classes
        self.target = np.zeros((2, width))
        self.numbers = NumericStatistics() if kind in NUMBER_KINDS else None
        limits = (EXACT_NUMBERS, FREQUENT_NUMBERS, 0) if kind in NUMBER_KINDS else _category_limits(kind, width)
        self.frequencies = FrequencyTable(*limits)
        self.codes = FrequencyTable(*_category_limits(Kind.CATEGORICAL, width)) if kind is Kind.NUMERIC else None
        self.distinct = DistinctSketch()
        self.lengths = LengthStatistics()
        self.documents = TextStatistics() if kind is Kind.TEXT else None
        self.images = ImageStatistics() if kind is Kind.IMAGE else None
        self.comoments = Comoments()

    def update(
        self,
        values: EncodedColumn | pa.Array | pa.ChunkedArray,
        y: npt.NDArray[Any] | None = None,
        rows: Ints | None = None,
    ) -> None:
        """Add rows of the column.

        Parameters
        ----------
        y
            Target of the same rows: class index with -1 for none, or a number with NaN
            for none. Without it, nothing is learned about the target.
        rows
            Rows of `values` that are meant; all by default.
        """
        encoded = values if isinstance(values, EncodedColumn) else encode(values, self.kind)
        where = slice(None) if rows is None else rows
        present = None if encoded.present is None else encoded.present[where]
        num_rows = len(encoded.array) if rows is None else len(rows)
        self.num_rows += num_rows
        self.num_nulls += 0 if present is None else num_rows - int(np.count_nonzero(present))
        if y is not None:
            missing = np.zeros(num_rows, np.int64) if present is None else 1 - present.astype(np.int64)
            self.target += label_sums(missing, 2, y, self.classes)
        if isinstance(encoded, EncodedNumbers):
            self._update_numbers(encoded.part(rows), y)
            self._update_codes(encoded, where, y)
        elif isinstance(encoded, EncodedCategories):
            self._update_categories(encoded, where, y)
        else:
            array = (encoded.array if rows is None else encoded.array.take(pa.array(rows))).drop_null()
            self.lengths = self.lengths.merge(LengthStatistics.of(lengths_of(array)))
            if self.images is not None:
                self.images.update(array)

    def _update_numbers(self, part: ColumnPart, y: npt.NDArray[Any] | None) -> None:
        self._numbers().update(part)
        counted = slice(None) if part.shared is None else (part.times > part.max_shared_rows) & ~part.shared
        self.frequencies.update(pa.array(part.keys[counted]), part.times[counted], missed=part.max_shared_rows)
        self.distinct.update(part.hashes)
        if y is not None and self.classes is None:
            known = np.isfinite(y) & np.isfinite(part.floats)
            self.comoments = self.comoments.merge(Comoments.of(part.floats[known], y[known]))

    def _update_codes(self, encoded: EncodedNumbers, rows: Ints | slice, y: npt.NDArray[Any] | None) -> None:
        whole = None if self.codes is None or y is None else encoded.whole
        if self.codes is None or y is None or whole is None:
            self.codes = None
            return
        codes, size = whole.codes[rows], len(whole.keys)
        counts = np.bincount(codes, minlength=size + 1)[:size]
        used = np.flatnonzero(counts)
        sums = label_sums(codes, size + 1, y, self.classes)[used]
        self.codes.update(whole.keys.take(pa.array(used)), counts[used], sums)
        self.codes = self.codes if self.codes.exact else None

    def _update_categories(self, encoded: EncodedCategories, rows: Ints | slice, y: npt.NDArray[Any] | None) -> None:
        codes, size = encoded.codes[rows], len(encoded.keys)
        counts = np.bincount(codes, minlength=size + 1)[:size]
        used = np.flatnonzero(counts)
        keys = encoded.keys if len(used) == size else encoded.keys.take(pa.array(used))
        sums = None if y is None else label_sums(codes, size + 1, y, self.classes)[used]
        names = text_statistics.abbreviated(keys) if self.kind is Kind.TEXT else keys
        self.frequencies.update(names, counts[used], sums)
        self.distinct.update(encoded.hashes[used] if names is keys else hash_array(names))
        if encoded.lengths is not None:
            self.lengths = self.lengths.merge(LengthStatistics.of(encoded.lengths[used], counts[used]))
        if self.documents is not None:
            self.documents.update(encoded.keys.take(pa.array(codes[codes < size])))

    def merge(self, *others: ColumnStatistics) -> ColumnStatistics:
        parts = (self, *others)
        merged = ColumnStatistics(self.kind, self.classes)
        merged.num_rows = sum(part.num_rows for part in parts)
        merged.num_nulls = sum(part.num_nulls for part in parts)
        merged.target = sum((part.target for part in others), self.target)
        if self.numbers is not None:
            merged.numbers = self.numbers.merge(*(part.numbers for part in others if part.numbers is not None))
        merged.frequencies = self.frequencies.merge(*(part.frequencies for part in others))
        merged.codes = _merged_codes([part.codes for part in parts])
        merged.distinct = self.distinct.merge(*(part.distinct for part in others))
        merged.lengths = reduce(LengthStatistics.merge, (part.lengths for part in parts))
        documents = [part.documents for part in parts if part.documents is not None]
        images = [part.images for part in parts if part.images is not None]
        merged.documents = reduce(TextStatistics.merge, documents) if documents else None
        merged.images = reduce(ImageStatistics.merge, images) if images else None
        merged.comoments = reduce(Comoments.merge, (part.comoments for part in parts))
        return merged

    def without_rows(self) -> ColumnStatistics:
        """Copy without the texts and pictures of the sample, and without codes: what else there is stays the same."""
        bare = copy.copy(self)
        bare.codes = None
        if bare.documents is not None:
            bare.documents = copy.copy(bare.documents)
            bare.documents.sample = {}
        if bare.images is not None:
            bare.images = copy.copy(bare.images)
            bare.images.thumbnails = {}
        return bare

    def result(self) -> ColumnSummary:
        """Summary of the column, ready for JSON."""
        facts: dict[str, Any] = {
            "kind": self.kind.value,
            "num_rows": self.num_rows,
            "count": self.num_rows - self.num_nulls,
            "num_nulls": self.num_nulls,
            "distinct_count": None if self.num_distinct is None else min(self.num_distinct, _most_distinct(self)),
            "frequent_items": tuple(list(self.counts().items())[:_FREQUENT]),
            "notes": _notes(self),
        }
        if self.lengths.n:
            lengths = self.lengths
            facts |= {"min_length": lengths.minimum, "mean_length": lengths.mean, "max_length": lengths.maximum}
        if self.numbers is not None:
            facts |= _of_numbers(self, self.numbers)
        if self.documents is not None and self.documents.n:
            facts["texts"] = self.documents.result()
        if self.images is not None:
            facts["images"] = self.images.result()
        return ColumnSummary(**facts)

    @property
    def num_distinct(self) -> int | None:
        """Number of distinct values, estimated once counts are not exact; None for lists, images and other bytes."""
        if self.kind not in NUMBER_KINDS | CATEGORY_KINDS:
            return None
        if self.frequencies.exact:
            return len(self.frequencies.counts)
        return max(round(self.distinct.estimate()), len(self.frequencies.counts))

    def cdf(self, points: Sequence[float] | Floats) -> Floats:
        """Fraction of finite values at or below each point; NaN without any.

        Exact while there are at most 512 different values; otherwise from the sketch.
        """
        exact = self._exact_numbers()
        return self._numbers().cdf(points) if exact is None else weighted_cdf(*exact, points)

    def quantiles(self, probabilities: Sequence[float] | Floats) -> Floats:
        """Smallest value that each fraction of the finite values does not exceed; exact as `cdf`, NaN without any."""
        exact = self._exact_numbers()
        return self._numbers().quantiles(probabilities) if exact is None else weighted_quantiles(*exact, probabilities)

    def _numbers(self) -> NumericStatistics:
        if self.numbers is None:
            raise TypeError(f"a {self.kind} column has no order")
        return self.numbers

    def _exact_numbers(self) -> tuple[Floats, Ints] | None:
        table = self.frequencies
        self._numbers()
        if not table.exact or len(table.counts) == 0:
            return None
        keys = np.asarray(table.keys)
        order = np.argsort(keys)
        return keys[order], np.cumsum(table.counts[order])

    def counts(self) -> dict[Any, int]:
        """Occurrences of each value, the most frequent first; complete and exact while `counts_exact`."""
        values, table = self.frequencies.values(), self.frequencies
        return {values[i]: int(table.counts[i]) for i in table.order()}

    @property
    def counts_exact(self) -> bool:
        return self.frequencies.exact

    def target_sums(self) -> dict[Any, Floats]:
        """Rows of each class by category, or (rows, sum, sum of squares) of a numeric target.

        Only categorical, boolean and text columns have them, in the order of `counts`. The key
        None holds the rows without a value, where there are any.
        """
        if self.kind not in CATEGORY_KINDS:
            return {}
        values = self.frequencies.values()
        sums: dict[Any, Floats] = {values[i]: self.frequencies.sums[i] for i in self.frequencies.order()}
        return {**sums, None: self.target[1]} if self.num_nulls else sums

    def as_categories(self) -> ColumnStatistics | None:
        """The column counted as categories: itself, or its whole numbers; None where it has no such counts."""
        if self.kind in CATEGORY_KINDS or self.codes is None:
            return self if self.kind in CATEGORY_KINDS else None
        coded = copy.copy(self)
        coded.kind, coded.numbers, coded.frequencies = Kind.CATEGORICAL, None, self.codes
        return coded

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "classes": self.classes,
            "rows": [self.num_rows, self.num_nulls],
            "target": arrays.pack(self.target),
            "numbers": None if self.numbers is None else self.numbers.to_json(with_sketch=not self.frequencies.exact),
            "frequencies": self.frequencies.to_json(),
            "codes": None if self.codes is None else self.codes.to_json(),
            "distinct": None if self.frequencies.exact else self.distinct.to_json(),
            "lengths": self.lengths.to_json(),
            "documents": None if self.documents is None else self.documents.to_json(),
            "images": None if self.images is None else self.images.to_json(),
            "comoments": self.comoments.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        column = cls(Kind(value["kind"]), value["classes"])
        column.num_rows, column.num_nulls = value["rows"]
        column.target = arrays.array(value["target"])
        column.frequencies = FrequencyTable.from_json(value["frequencies"])
        codes = value.get("codes")
        column.codes = None if codes is None else FrequencyTable.from_json(codes)
        if value["numbers"] is not None:
            column.numbers = NumericStatistics.from_json(value["numbers"])
        if value["distinct"] is not None:
            column.distinct = DistinctSketch.from_json(value["distinct"])
        else:  # exact counts hold every value that the sketches have seen
            column.distinct.update(hash_array(column.frequencies.keys))
            exact = column._exact_numbers() if column.numbers is not None else None
            if column.numbers is not None and exact is not None:
                column.numbers.sketch.update(exact[0], np.diff(exact[1], prepend=0))
        column.lengths = LengthStatistics.from_json(value["lengths"])
        if value["documents"] is not None:
            column.documents = TextStatistics.from_json(value["documents"])
        if value["images"] is not None:
            column.images = ImageStatistics.from_json(value["images"])
        column.comoments = Comoments.from_json(value["comoments"])
        return column


def _merged_codes(parts: Sequence[FrequencyTable | None]) -> FrequencyTable | None:
    """Counts of all parts; None if one has none, or if together there are too many."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    merged = known[0].merge(*known[1:])
    return merged if merged.exact else None


def _category_limits(kind: Kind, width: int) -> tuple[int, int, int]:
    """Limit, capacity and width of the frequency table of a column of categories or texts.

    >>> _category_limits(Kind.CATEGORICAL, 2), _category_limits(Kind.CATEGORICAL, 1000)
    ((10000, 2048, 2), (500, 500, 1000))
    """
    most, frequent = (EXACT_TEXTS, FREQUENT_TEXTS) if kind is Kind.TEXT else (EXACT_CATEGORIES, FREQUENT_CATEGORIES)
    limit = min(most, MAX_SUMS // width) if width else most
    return limit, min(frequent, limit), width

"""What `ColumnStatistics.result` says of a column: plain numbers, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlsys.statistics.column import ColumnStatistics
    from mlsys.statistics.numeric import Numbers

__all__ = ["PROBABILITIES", "ColumnSummary", "summarise"]

PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Probabilities of `ColumnSummary.quantiles`."""


@dataclass(frozen=True)
class ColumnSummary:
    """Numbers of one column. What does not apply, or has no value to be computed from, is None.

    Of a number, mean to histogram are about the finite values; NaN and the infinities are
    counted apart. A datetime is a number of microseconds since 1970 (UTC).

    Attributes
    ----------
    num_rows
        Rows seen: ``count + num_nulls``.
    count
        Rows with a value; NaN is a value, null is not.
    num_inf
        Values plus or minus infinity.
    variance, stddev
        Sample variance, divided by n - 1, and its root.
    skewness, kurtosis
        g1 and the excess g2 (0 for a normal), not corrected for bias.
    quantiles
        At `PROBABILITIES`: the smallest value that this fraction of values does not exceed.
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
        Every finite value is a whole number.
    texts
        Of texts: tokens, means of `tokens.FACTS`, frequent words, as `Documents.result`.
    images
        Of images: forms, sizes, brightness and repeats, as `Images.result`.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_FREQUENT = 20


def summarise(column: ColumnStatistics) -> ColumnSummary:
    """The summary of a column's statistics."""
    facts: dict[str, Any] = {
        "kind": column.kind.value,
        "num_rows": column.num_rows,
        "count": column.num_rows - column.num_nulls,
        "num_nulls": column.num_nulls,
        "distinct_count": None if column.num_distinct is None else min(column.num_distinct, _most_distinct(column)),
        "frequent_items": tuple(list(column.counts().items())[:_FREQUENT]),
        "notes": _notes(column),
    }
    if column.lengths.n:
        lengths = column.lengths
        facts |= {"min_length": lengths.minimum, "mean_length": lengths.mean, "max_length": lengths.maximum}
    if column.numbers is not None:
        facts |= _of_numbers(column, column.numbers)
    if column.documents is not None and column.documents.n:
        facts["texts"] = column.documents.result()
    if column.images is not None:
        facts["images"] = column.images.result()
    return ColumnSummary(**facts)


def _most_distinct(column: ColumnStatistics) -> int:
    """No estimate is above the number of values."""
    values = column.num_rows - column.num_nulls
    if column.numbers is None:
        return values
    return values - column.numbers.nan - column.numbers.positive_inf - column.numbers.negative_inf


def _of_numbers(column: ColumnStatistics, numbers: Numbers) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "num_nan": numbers.nan,
        "num_inf": numbers.positive_inf + numbers.negative_inf,
        "num_zeros": numbers.zeros,
        "num_negative": numbers.negative,
    }
    if numbers.moments.n == 0:
        return facts
    moments = numbers.moments
    quantiles = tuple(float(q) for q in column.quantiles(PROBABILITIES))
    facts |= {
        "mean": moments.mean,
        "variance": moments.variance,
        "stddev": moments.stddev,
        "skewness": moments.skewness,
        "kurtosis": moments.kurtosis,
        "min": numbers.minimum,
        "max": numbers.maximum,
        "quantiles": quantiles,
        "median": quantiles[PROBABILITIES.index(0.5)],
        "integral": numbers.integral,
    }
    return facts | _histogram(column, numbers)


def _histogram(column: ColumnStatistics, numbers: Numbers) -> dict[str, Any]:
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

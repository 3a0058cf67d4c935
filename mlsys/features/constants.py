"""The constants of an operation, computed from the statistics of the training rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mlsys.features.choices import Choice, num_present
from mlsys.features.lookups import Boolean, Codes, Frequency, OneHot
from mlsys.features.operations import Numeric, Operation, Scaling, Text
from mlsys.features.times import Datetime
from mlsys.features.values import Domain
from mlsys.statistics import ColumnStatistics

__all__ = ["operation_of"]

MEAN_WORD_LENGTH = 6
"""Characters a word with its blank in English prose; only scales the number of words."""


def operation_of(choice: Choice, domain: Domain, statistics: ColumnStatistics, *, dense: bool) -> Operation:
    """The operation of a choice, fitted; it does not fail on a column without values."""
    return FITS[choice.operation](choice, domain, statistics, dense)


def _numeric(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Numeric:  # noqa: FBT001
    numbers = statistics.numbers
    if not dense or numbers is None:
        return Numeric(choice.column, domain)
    moments = numbers.moments
    if not moments.n:
        return Numeric(choice.column, domain, Scaling(fill=0.0, indicator=True))
    spread = math.sqrt(moments.m2 / moments.n) if numbers.minimum < numbers.maximum else 0.0
    median = float(statistics.quantiles([0.5])[0])
    return Numeric(
        choice.column,
        domain,
        Scaling(moments.mean, divisor(spread), median, num_present(statistics) < statistics.num_rows),
    )


def _codes(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Codes:  # noqa: FBT001
    del dense
    kept, rare = _divide(choice, statistics)
    return Codes(choice.column, domain, kept, rare)


def _onehot(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> OneHot:  # noqa: FBT001
    del dense
    kept, rare = _divide(choice, statistics)
    return OneHot(choice.column, domain, kept, rare, null=num_present(statistics) < statistics.num_rows)


def _frequency(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Frequency:  # noqa: FBT001
    counts, total = counts_of(statistics), max(statistics.num_rows, 1)
    scaling = Scaling()
    if dense:
        present = sum(counts.values()) or 1
        mean = sum(n * (n / total) for n in counts.values()) / present
        variance = sum(n * (n / total - mean) ** 2 for n in counts.values()) / present
        scaling = Scaling(mean, divisor(math.sqrt(variance)), mean, statistics.num_nulls > 0)
    return Frequency(choice.column, domain, tuple(counts), (), tuple(counts.values()), total, scaling)


def _boolean(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Boolean:  # noqa: FBT001
    if not dense:
        return Boolean(choice.column, domain)
    present = num_present(statistics)
    mean = statistics.counts().get(True, 0) / present if present else 0.0
    return Boolean(choice.column, domain, Scaling(fill=mean, indicator=statistics.num_nulls > 0))


def _datetime(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Datetime:  # noqa: FBT001
    parts = tuple(choice.params["parts"])
    return Datetime(choice.column, domain, parts, cyclic=dense, indicator=dense and statistics.num_nulls > 0)


def _text(choice: Choice, domain: Domain, statistics: ColumnStatistics, dense: bool) -> Text:  # noqa: FBT001
    lengths = statistics.lengths
    if not dense:
        return Text(choice.column, domain)
    if not lengths.n:
        return Text(choice.column, domain, Scaling(fill=0.0), Scaling(fill=0.0))
    # The spread of lengths is not counted; a quarter of the range stands for it (range rule of thumb).
    mean, spread = lengths.mean, max((lengths.maximum - lengths.minimum) / 4, 1.0)
    length = Scaling(mean, spread, mean)
    words = Scaling(mean / MEAN_WORD_LENGTH, spread / MEAN_WORD_LENGTH, mean / MEAN_WORD_LENGTH)
    return Text(choice.column, domain, length, words)


FITS: Mapping[str, Callable[[Choice, Domain, ColumnStatistics, bool], Operation]] = {
    "numeric": _numeric,
    "codes": _codes,
    "onehot": _onehot,
    "frequency": _frequency,
    "boolean": _boolean,
    "datetime": _datetime,
    "text": _text,
}


def divisor(spread: float) -> float:
    """What to divide by: the spread, or 1 where there is none to divide by."""
    return spread if spread > 0 and math.isfinite(spread) else 1.0


def counts_of(statistics: ColumnStatistics) -> dict[Any, int]:
    """Value → rows, largest count first and then by value; whole numbers as integers."""
    counts = {
        value: n for value, n in statistics.counts().items() if not isinstance(value, float) or math.isfinite(value)
    }
    if all(isinstance(value, float) and value.is_integer() for value in counts):
        counts = {int(value): count for value, count in counts.items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _divide(choice: Choice, statistics: ColumnStatistics) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Categories with a place of their own, and the rare ones."""
    counts, least, most = counts_of(statistics), choice.params["min_rows"], choice.params["max_categories"]
    kept = [value for value, count in counts.items() if count >= least][:most]
    return tuple(kept), tuple(value for value in counts if value not in set(kept))

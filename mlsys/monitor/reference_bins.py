"""The reference's bins of a column: where its quantiles or categories cut, fixed once for all windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import as_floats, plain
from mlsys.statistics.numeric_statistics import NumericStatistics

__all__ = ["ReferenceBins"]

Floats = NDArray[np.float64]

MAX_CATEGORIES = 100
"""Categories with a bin of their own; what is rarer in the reference shares one with the unknown."""

FINE, COARSE = 100, 10
"""Quantile bins of a numeric column: percentiles for cumulative distances, deciles for the others."""

_Z99 = 2.5758


@dataclass(frozen=True)
class ReferenceBins:
    """A partition of the values of a column and the reference's counts in it.

    The bins are, in order: of numbers those between the edges, closed on the right, with one
    below the reference's minimum and one above its maximum; of categories one each, then
    ``other``; at last nulls and NaN.

    Attributes
    ----------
    reference
        Rows of the reference a bin.
    group
        Coarse bin of each bin: a decile, or the category itself.
    sketch_rows
        Rows of a sample whose noise would be that of the sketch behind `reference`; infinite
        where the counts are exact.
    present_only
        Rows without a value do not count: another column tells of them.
    """

    name: str
    kind: Kind
    edges: Floats
    categories: pa.Array | None
    reference: NDArray[np.int64]
    group: NDArray[np.int64]
    sketch_rows: float
    labels: tuple[str, ...]
    present_only: bool = False

    @classmethod
    def of(cls, name: str, column: ColumnStatistics) -> ReferenceBins:
        """Bins of a column's statistics."""
        return _of_numbers(name, column) if column.numbers is not None else _of_categories(name, column)

    def of_present(self) -> ReferenceBins:
        """The same for rows with a value alone."""
        reference = np.append(self.reference[:-1], 0)
        return replace(self, reference=reference, present_only=True)

    @property
    def size(self) -> int:
        return len(self.reference)

    @property
    def ordered(self) -> bool:
        return self.categories is None

    @property
    def num_rows(self) -> int:
        return int(self.reference.sum())

    @property
    def effective_rows(self) -> float:
        """Rows of the reference, fewer where a sketch adds noise of its own."""
        return 1 / (1 / max(self.num_rows, 1) + 1 / self.sketch_rows)

    def coarse(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts in the coarse bins, of counts in all bins (last axis)."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        return np.add.reduceat(counts, starts, axis=-1)

    def outside(self, counts: NDArray[np.int64]) -> float:
        """Fraction of the rows with a number below or above all of the reference; 0 for categories."""
        if not len(self.edges) or not counts.sum():
            return 0.0
        return float((counts[0] + counts[-2]) / counts.sum())

    def index(self, values: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Bin of each value."""
        array = plain(values)
        null = self.size - 1
        if self.categories is None:
            numbers = as_floats(array)
            found = np.searchsorted(self.edges, numbers, side="left")
            return np.where(np.isnan(numbers), null, found).astype(np.int64)
        missing = np.asarray(array.is_null())
        if len(self.categories) and not pa.types.is_null(array.type):
            index = pc.fill_null(pc.index_in(array.cast(self.categories.type), value_set=self.categories), null - 1)
            found = np.asarray(index).astype(np.int64)
        else:
            found = np.full(len(array), null - 1, np.int64)
        return np.where(missing, null, found)


def _of_numbers(name: str, column: ColumnStatistics) -> ReferenceBins:
    facts = column.numbers
    if facts is None:
        raise TypeError(name)
    finite = facts.moments.n
    missing = column.num_nulls + facts.nan
    if not finite:
        nothing = np.array([facts.positive_inf, missing])
        return ReferenceBins(name, column.kind, np.empty(0), None, nothing, np.arange(2), np.inf, ("values", "null"))
    fine, deciles = (column.quantiles(np.arange(1, n) / n) for n in (FINE, COARSE))
    below = np.nextafter(facts.minimum, -np.inf)
    edges = np.unique(np.concatenate([[below], fine, deciles, [facts.maximum]]))
    rank = np.rint(column.cdf(edges) * finite).astype(np.int64)
    counts = np.concatenate([[facts.negative_inf], np.diff(rank), [facts.positive_inf], [missing]])
    cuts = np.unique(np.concatenate([[below], deciles, [facts.maximum]]))
    group = np.append(np.searchsorted(cuts, edges, side="left"), [len(cuts), len(cuts) + 1])
    exact = column.counts_exact or facts.rank_error == 0
    spread = facts.rank_error / _Z99
    sketch_rows = np.inf if exact else (1 / COARSE) * (1 - 1 / COARSE) / spread**2
    return ReferenceBins(name, column.kind, edges, None, counts, group, sketch_rows, _interval_labels(cuts, facts))


def _interval_labels(cuts: Floats, facts: NumericStatistics) -> tuple[str, ...]:
    """Words for the coarse bins; of whole numbers the first and last that a bin holds."""
    step = 1.0 if facts.integral else 0.0
    left = [facts.minimum, *(cuts[1:-1] + step)]
    inner = [
        f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}" for low, high in zip(left, cuts[1:], strict=True)
    ]
    return (f"below {facts.minimum:.4g}", *inner, f"above {cuts[-1]:.4g}", "null")


def _of_categories(name: str, column: ColumnStatistics) -> ReferenceBins:
    present = column.num_rows - column.num_nulls
    table = column.frequencies
    kept = table.order()[:MAX_CATEGORIES]
    counts = table.counts[kept] + table.error  # a frequent value was counted too low by exactly that
    counts = np.diff(np.minimum(np.cumsum(counts), present), prepend=0)
    reference = np.concatenate([counts, [present - counts.sum(), column.num_nulls]])
    categories = table.keys.take(pa.array(kept))
    labels = (*(str(value) for value in categories.to_pylist()), "other", "null")
    return ReferenceBins(
        name, column.kind, np.empty(0), categories, reference, np.arange(len(reference)), np.inf, labels
    )

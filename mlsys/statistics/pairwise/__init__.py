"""What columns say of each other: pairs of columns, rows with gaps, the course of time.

Counted over all rows in the same pass as the columns themselves, and for the report alone.
A `Layout`, decided from a look at some rows, fixes beforehand which columns take part,
which categories have a row of their own in a table, and where the bins of a number lie.
After that every count is a sum: parts merge by addition, in any order, and each number is
exact for the categories and bins that the report names.

==============  =============================================================
`layout`        which columns, categories and bins: decided once, then fixed
`block`         rows as the arrays that the others count
`products`      pairs of numbers: Pearson's correlation
`groups`        a number within categories: the correlation ratio
`tables`        pairs of categories: Cramér's V; with the target: information
`gaps`          which values are missing together
`timeline`      rows and the target over time
`statistics`    all of them
==============  =============================================================
"""

from __future__ import annotations

from mlsys.statistics.pairwise.layout import PairLayout
from mlsys.statistics.pairwise.pairs import PairwiseStatistics

__all__ = ["PairLayout", "PairwiseStatistics"]

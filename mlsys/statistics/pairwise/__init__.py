"""Pairwise statistics: pairs of columns, values that are missing together, the target over time.

They are counted over all rows in the same pass as the columns themselves, for the report alone. A `PairLayout`,
decided from a sample of rows, fixes beforehand which columns take part, their categories and bins. After that
every count is a sum: parts merge by addition, in any order, and each number is exact.

====================  =======================================================
`layout`              columns, categories and bins; rows as arrays to be counted
`correlation`         Pearson's correlation of two numbers, correlation ratio of a
                      number and a category
`contingency_tables`  Cramér's V of two categories; information about the target
`missingness`         columns whose values are missing together
`pairs`               all of these, and the target over time
====================  =======================================================
"""

from __future__ import annotations

from mlsys.statistics.pairwise.layout import PairLayout
from mlsys.statistics.pairwise.pairs import PairwiseStatistics

__all__ = ["PairLayout", "PairwiseStatistics"]

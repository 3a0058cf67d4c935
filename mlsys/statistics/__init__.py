"""Mergeable statistics of columns and tables: update with rows, merge parts, read results.

One pass over the rows serves exploration, the fit of features and the baseline of the
monitor. Moments and counts are exact; quantiles, the number of distinct values and the
frequent values of a column with very many of them come from sketches, and
`ColumnSummary.notes` says for each number which it is and how far it can be off.

Everything here is a function of the rows alone: no clock, no random source. The same
rows in the same blocks give the same bytes, so what is fitted on them can be named by
its digest. That is why the sketches are written here: Apache DataSketches draws the
coins of its KLL sketch from the clock, and updates its others one value at a time. The
tests use it as the independent opinion.

==================  =========================================================
`moments`           count, mean, variance, skewness, kurtosis; co-moments
`quantiles`         KLL sketch: ranks and quantiles with a bounded error
`distinct`          HyperLogLog: how many different values
`cells`             numbers as codes of rising cells, not sorted where that can be helped
`encoded`           a column as its different values and a code a row: what is counted
`frequencies`       exact counts up to a limit, then the frequent values
`tokens`            texts as counts of hashed words and letters side by side
`documents`         texts that hold each token, a few thousand to fit on
`images`            forms and sizes of pictures, repeats, a few to look at
`column`            one column: all of these, and its relation to the target
`table`             all columns of a table; the folds of a training part
==================  =========================================================
"""

from __future__ import annotations

from mlsys.statistics.column import PROBABILITIES, ColumnStatistics, ColumnSummary
from mlsys.statistics.table import TableStatistics, TrainStatistics, encode_target

__all__ = [
    "PROBABILITIES",
    "ColumnStatistics",
    "ColumnSummary",
    "TableStatistics",
    "TrainStatistics",
    "encode_target",
]

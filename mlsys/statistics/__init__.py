"""Mergeable statistics of columns and tables: update with rows, merge parts, read results.

One pass over the rows serves exploration, the fit of features and the baseline of the monitor. Moments and
counts are exact; `ColumnSummary.notes` says which numbers come from sketches, and how far they can be off.
All is a function of the rows alone: the same rows in the same blocks give the same bytes. That is why the
sketches are written here: Apache DataSketches, the independent opinion of the tests, draws coins from the clock.

====================  ========================================================
`table`               all columns of a table; the folds of a training part
`column`              one column: all of the following, and its relation to the target
`numeric_statistics`  range, moments and quantiles of numbers; their distribution a class
`text_statistics`     texts as counts of hashed tokens; a few thousand texts to fit on
`image_statistics`    formats and sizes of pictures, duplicates, a few thumbnails
`frequencies`         counts of values: exact up to a limit, then of the frequent ones
`sketches`            KLL quantiles, HyperLogLog distinct counts, bottom-k duplicates
`moments`             count, mean, variance, skewness, kurtosis; co-moments
`encoding`            a column as its distinct values and a code a row: what is counted
`arrays`              Arrow columns as NumPy arrays, and arrays as JSON
`hashing`             64-bit hashes of values, the same everywhere
`jackknife`           standard errors of dependent rows, from values without one group after another
`ranking`             weighted quantiles, ranks, ROC AUC, average precision
`confidence`          interval of a rate, standard error of an AUC
`sequential`          tests of two arms that may be looked at after every request
`univariate`          strength of one column alone as a predictor of the target
`pairwise`            pairs of columns, missing values together, the target over time
====================  ========================================================
"""

from __future__ import annotations

from mlsys.statistics.column import PROBABILITIES, ColumnStatistics, ColumnSummary
from mlsys.statistics.table import TableStatistics, TrainStatistics, encode_target

__all__ = ["PROBABILITIES", "ColumnStatistics", "ColumnSummary", "TableStatistics", "TrainStatistics", "encode_target"]

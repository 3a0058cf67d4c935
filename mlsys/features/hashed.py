"""Hashing: very many categories share a fixed number of buckets, and no table of them is kept.

Which bucket a value is in follows from the value alone (`mlsys.statistics.hashing`, the same on
every machine), so that a value that training never saw has a bucket too. Two categories in one
bucket cannot be told apart: with C categories and B buckets a category shares its own with
(C - 1) / B others on average.

References
----------
Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature hashing for large scale
multitask learning", ICML, doi:10.1145/1553374.1553516.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlsys.features.lookups import putter
from mlsys.features.operations import Matrix, Operation, Writer
from mlsys.statistics.hashing import hash_array, hash_one

__all__ = ["Hashed"]


@dataclass(frozen=True)
class Hashed(Operation):
    """Number of the bucket, for trees that split on sets of them; or one column a bucket.

    Attributes
    ----------
    onehot
        One column a bucket and one for missing values; else the number, and NaN.
    """

    buckets: int = 2
    onehot: bool = False

    name = "hash"

    @property
    def outputs(self) -> list[str]:
        if not self.onehot:
            return [f"{self.column}: bucket"]
        return [*(f"{self.column}: bucket {k}" for k in range(self.buckets)), f"{self.column} is missing"]

    @property
    def types(self) -> list[str]:
        return ["q"] * (self.buckets + 1) if self.onehot else ["c"]

    @cached_property
    def table(self) -> Matrix:
        """A row a bucket, the last one for a missing value."""
        if self.onehot:
            return np.eye(self.buckets + 1, dtype=np.float32)
        return np.array([*range(self.buckets), math.nan], np.float32)[:, np.newaxis]

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        values = raw[0].to_arrow(compat_level=pl.CompatLevel.oldest())
        at = (hash_array(values) % np.uint64(self.buckets)).astype(np.intp)
        at[raw[0].is_null().to_numpy()] = self.buckets
        out[:] = self.table[at]

    def writer(self, start: int) -> Writer:
        read, put, buckets = self.domain.reader(self.column), putter(self.table, start), self.buckets

        def write(value: Any, out: Matrix) -> None:
            value = read(value)
            put(out, buckets if value is None else hash_one(value) % buckets)

        return write

"""Quantile bins: a number becomes the number of its bin, or one column a bin."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlsys.features.lookups import putter
from mlsys.features.operations import Matrix, Operation, Writer

__all__ = ["Bins"]


@dataclass(frozen=True)
class Bins(Operation):
    """Bins that are closed on the right, as many training rows in each as ties allow.

    Attributes
    ----------
    edges
        Ascending; bin k holds what is above k of them. The outer bins are open.
    onehot
        One column a bin and one for missing values, for linear models: a bin has an effect of
        its own. Otherwise the number of the bin, and NaN for a missing one.
    """

    edges: tuple[float, ...] = ()
    onehot: bool = False

    name = "bins"

    @property
    def outputs(self) -> list[str]:
        if not self.onehot:
            return [f"{self.column}: bin"]
        ends = ["-inf", *(f"{edge:.6g}" for edge in self.edges), "inf"]
        names = [f"{self.column} in ({low}, {high})" for low, high in itertools.pairwise(ends)]
        return [*names, f"{self.column} is missing"]

    @cached_property
    def table(self) -> Matrix:
        """A row a bin, the last one for a missing value."""
        bins = len(self.edges) + 1
        if self.onehot:
            return np.eye(bins + 1, dtype=np.float32)
        return np.array([*range(bins), math.nan], np.float32)[:, np.newaxis]

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        value = raw[0]
        at = np.searchsorted(np.array(self.edges), value.fill_null(0.0).to_numpy(), side="left")
        at[value.is_null().to_numpy()] = len(self.edges) + 1
        out[:] = self.table[at]

    def writer(self, start: int) -> Writer:
        read, put, edges = self.domain.reader(self.column), putter(self.table, start), self.edges

        def write(value: Any, out: Matrix) -> None:
            number = read(value)
            put(out, len(edges) + 1 if number is None else bisect_left(edges, number))

        return write
